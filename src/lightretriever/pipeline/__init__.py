"""A source into an index, step by step: files found, read, split, encoded, ingested."""
