"""Search as a tool of agents, over the Model Context Protocol."""
