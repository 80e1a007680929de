"""``mcp``: an index as a tool of agents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.cli.options import IndexArgument

EXAMPLE = "lightretriever mcp everest.index"


def command(
    index: IndexArgument,
    http: Annotated[
        bool, typer.Option("--http", help="Over HTTP, at /mcp; else over standard input and output.")
    ] = False,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen, with --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0 is one that the system picks.")] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys that `lightretriever key` made; all others are refused."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let whoever reaches --host search, without a key.")
    ] = False,
    tenant: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Find this tenant's documents alone, where tenants are apart.")
    ] = None,
    size: Annotated[
        int, typer.Option(metavar="N", help="Characters of documents' text in one answer, at most.")
    ] = 16_000,
) -> None:
    """Give agents an index to search, over the Model Context Protocol: tools search and fetch.

    An agent's program starts it, and ends it by closing its standard input. No model runs, queries are looked up.
    """
    from lightretriever.serving.mcp.options import McpOptions
    from lightretriever.serving.mcp.server import serve_mcp
    from lightretriever.serving.settings import ServeOptions

    served = ServeOptions(path=index, host=host, port=port, keys=keys, insecure=insecure)
    options = McpOptions(served, http, tenant, size)
    serve_mcp(options, lambda address: say(f"{index}: {address}/mcp"))
