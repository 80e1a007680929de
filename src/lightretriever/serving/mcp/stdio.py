"""Standard input and output: what is written there by mistake goes to standard error, as the SDK sees to."""

from __future__ import annotations

from mcp.server.stdio import stdio_server

from lightretriever.serving.mcp.protocol import make_server
from lightretriever.serving.mcp.tools import Tools


async def serve_stdio(tools: Tools) -> None:
    """Answer what comes over standard input until it ends."""
    server = make_server(tools)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
