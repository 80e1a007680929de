"""``serve``: an index, or tables alone, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.cli.options import MODEL_HELP, Compute, Device
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever serve everest.index --port 8000"


def command(
    path: Annotated[
        Path, typer.Argument(metavar="INDEX|TABLE", help="An index; or a table's folder, for embeddings alone.")
    ],
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TABLE", help="Another table, by the name that clients ask for; may be repeated."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0 is one that the system picks.")] = 8000,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that answer.")] = 1,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help=f"{MODEL_HELP} Without it none is run.")] = None,
    device: Device = "auto",
    compute: Compute = "auto",
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys that `lightretriever key` made; all others are refused."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let whoever reaches --host read and write, without a key.")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A web site whose pages may call, as https://app.example; may be repeated."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="Another limit: body, line, query, batch, k, requests, connections, rate, seconds, slow, header.",
        ),
    ] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log every request, not only those that failed.")
    ] = False,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Log the text of queries with them.")] = False,
) -> None:
    """Serve search, embeddings and a search page over HTTP; queries are looked up, no model runs for them.

    SIGHUP, or POST /reload, has it open what the folder holds now; SIGTERM ends it once all is answered.
    """
    from lightretriever.serving.access.limits import parse_limits
    from lightretriever.serving.server import serve
    from lightretriever.serving.settings import ServeOptions

    options = ServeOptions(
        path=path,
        tables=tuple(_named(each) for each in table or ()),
        host=host,
        port=port,
        workers=workers,
        model=model,
        device=device,
        compute=compute,
        keys=keys,
        insecure=insecure,
        origins=tuple(origin or ()),
        log_requests=log_requests,
        log_queries=log_queries,
        limits=parse_limits(limit or ()),
    )
    serve(
        options, lambda address: say(f"{path}: {address}, its page is there too, and {address}/docs says what it takes")
    )


def _named(given: str) -> tuple[str, Path]:
    name, _, folder = given.partition("=")
    if not name or not folder:
        raise UsageError(f"--table {given}: NAME=TABLE is needed, as news=tables/news")
    return name, Path(folder)
