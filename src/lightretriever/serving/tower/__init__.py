"""The document model in a process of its own, beside the workers."""
