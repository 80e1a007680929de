"""The instruction that a query carries before its text (METHOD "Queries")."""

DEFAULT_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
