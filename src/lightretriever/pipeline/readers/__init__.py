"""Documents out of files, a module for each format; `lightretriever.pipeline.readers.reader` chooses."""
