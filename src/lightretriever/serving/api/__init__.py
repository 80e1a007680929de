"""The calls of our own: search, documents, health, and their description."""
