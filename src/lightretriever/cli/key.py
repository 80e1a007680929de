"""``key``: an API key for the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import say

EXAMPLE = "lightretriever key keys.json web-shop"


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of keys; made where there is none.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, as the log will call it.")],
    may: Annotated[str, typer.Option(metavar="read|write", help="What it allows; write includes read.")] = "read",
    tenant: Annotated[
        str | None, typer.Option(metavar="VALUE", help="The one tenant that it is for, where the index has tenants.")
    ] = None,
) -> None:
    """Make an API key: it is printed once, and the file holds its SHA-256 only."""
    from lightretriever.serving.access.keys import new_key, tenant_value

    secret = new_key(file, name, may, tenant_value(tenant))
    print(secret)
    say(f"{file}: {name!r} may {may}; the key is shown this once; a server that runs takes it when it is started anew")
