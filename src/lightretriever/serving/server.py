"""The server's processes: one that answers, or several over one socket, and one that watches over them."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import ArtifactError, LightRetrieverError, MissingExtraError
from lightretriever.serving.settings import Limits, ServeOptions
from lightretriever.serving.tower.messages import SERVING
from lightretriever.vectors.lock import lock_folder

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn.config import Config

_BACKLOG = 2048
_IDLE = 75  # seconds that a connection may rest between requests: longer than the pools of most clients keep one


def serve(options: ServeOptions, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; what was accepted by then is finished. SIGHUP opens what there is now.

    Args:
        options: what, where and to whom.
        listening: told the address once it is bound.

    Raises:
        MissingExtraError: without the extra `serve`.
        LightRetrieverError: what is to be served cannot be opened, the keys cannot be read, or the address is taken.
    """
    options.check_path()  # before anybody is told an address
    with tempfile.TemporaryDirectory(prefix="lightretriever-") as folder, listen(options) as bound:
        options = replace(options, runtime=folder)
        with lock_folder(Path(folder), SERVING):
            if listening is not None:
                listening(address_of(bound))
            if options.workers > 1:
                counters = Path(folder) / "counters"
                counters.mkdir()
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counters)  # the only way to tell prometheus-client
            _run(options, bound)


def address_of(bound: socket.socket) -> str:
    """As a URL."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(options: ServeOptions, bound: socket.socket) -> None:
    gc.disable()  # until all is loaded: there is no garbage yet, and looking for it takes a tenth of the time
    try:
        from lightretriever.serving.app import create_app
        from lightretriever.serving.workers import Workers
    except ImportError as error:
        if isinstance(error, LightRetrieverError):
            raise
        raise MissingExtraError("the server", "serve") from None
    if options.workers == 1:
        run_here(partial(create_app, options), options, bound)
    else:
        Workers(configuration(partial(worker_app, options), options), [bound]).run()


def run_here(make: Callable[[], ASGIApp], options: ServeOptions, bound: socket.socket) -> None:
    """Answer in this process until SIGINT or SIGTERM; what was accepted by then is finished."""
    try:
        from uvicorn.server import Server
    except ImportError:
        raise MissingExtraError("the server", "serve") from None
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself the signal anew once it has finished
        signal.signal(number, lambda *_: None)
    Server(configuration(make, options)).run([bound])


def worker_app(options: ServeOptions) -> ASGIApp:
    """The application in a worker process, which says why it cannot start, and is not started again."""
    gc.disable()
    from uvicorn.config import STARTUP_FAILURE

    from lightretriever.serving.app import create_app
    from lightretriever.serving.log import say

    try:
        return create_app(options)
    except LightRetrieverError as error:
        say("cannot start", logging.ERROR, error=str(error))
        sys.exit(STARTUP_FAILURE)


def configuration(make: Callable[[], ASGIApp], options: ServeOptions) -> Config:
    """What uvicorn is told."""
    from uvicorn.config import Config

    from lightretriever.serving.http.connection import BoundConnection
    from lightretriever.serving.log import log_settings

    limits: Limits = options.limits
    return Config(
        make,
        factory=True,
        workers=options.workers,
        http=partial(BoundConnection, limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=log_settings(),
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=round(limits.seconds) + 5,
    )


@contextmanager
def listen(options: ServeOptions) -> Iterator[socket.socket]:
    """The socket that is listened on. Raises ArtifactError: the address is taken, or not this machine's."""
    host = options.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, options.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ArtifactError(
            f"{options.host}:{options.port} cannot be listened on ({error.strerror or error}): choose another --port"
        ) from None
    with bound:
        bound.set_inheritable(True)
        yield bound
