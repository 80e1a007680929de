"""The HTTP server: search, embeddings in the shapes that clients know, and a page."""
