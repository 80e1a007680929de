"""Serves agents: the one program that started this, over its pipes, or whoever may connect over HTTP."""

from __future__ import annotations

import asyncio
import gc
import logging.config
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lightretriever.errors import LightRetrieverError, MissingExtraError
from lightretriever.serving.mcp.options import McpOptions

if TYPE_CHECKING:
    from lightretriever.serving.mcp.tools import Tools


def serve_mcp(options: McpOptions, listening: Callable[[str], None] | None = None) -> None:
    """Serve until standard input ends; over HTTP until SIGINT or SIGTERM.

    Args:
        options: what, how, and over HTTP where and to whom.
        listening: told the address over HTTP, once it is bound.

    Raises:
        MissingExtraError: without the extra `mcp`.
        LightRetrieverError: there is no index; over HTTP, the keys cannot be read, or the address is taken.
    """
    gc.disable()  # what is imported stays: looking through all of it again and again takes a seventh of the start
    try:
        from lightretriever.serving.log import log_settings
        from lightretriever.serving.mcp.tools import Tools

        logging.config.dictConfig(log_settings())
        tools = Tools(options)
        # Beside what follows, so that the first call waits for less.
        threading.Thread(target=_warm_up, args=(tools,), name="warm up", daemon=True).start()
        if options.http:
            from lightretriever.serving.mcp.http import create_app
        else:
            from lightretriever.serving.mcp.stdio import serve_stdio
    except ImportError as error:
        if isinstance(error, LightRetrieverError):
            raise
        raise MissingExtraError("the tools for agents", "mcp") from None
    if not options.http:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once: nothing is written, and reading cannot be interrupted
        try:
            asyncio.run(serve_stdio(tools))
        except* BrokenPipeError:  # whoever asked left before the answer
            pass
        tools.close()
        return
    from lightretriever.serving.server import address_of, listen, run_here

    with listen(options.served) as bound:
        if listening is not None:
            listening(address_of(bound))
        run_here(partial(create_app, options, tools), options.served, bound)


def _warm_up(tools: Tools) -> None:
    try:
        tools.warm_up()
    finally:
        gc.freeze()
        gc.enable()
