"""What counts as a term of a text on an index's sparse side: the document model's tokens, or a language's words."""
