"""Training a document tower that expects look-up queries (METHOD "Training losses")."""
