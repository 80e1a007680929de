"""The application of one worker: every endpoint behind its guard."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import groupby
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from lightretriever.index.earned import earned_words
from lightretriever.serving.access.guard import Gate, Guarded, not_found
from lightretriever.serving.access.keys import load_keys
from lightretriever.serving.access.rate import Rate
from lightretriever.serving.api import documents, health, search
from lightretriever.serving.api.openapi import describe, openapi_endpoint
from lightretriever.serving.api.together import Together
from lightretriever.serving.faces import cohere, openai, tei, weaviate
from lightretriever.serving.http.endpoint import Endpoint
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.log import say
from lightretriever.serving.metrics import IndexCollector, Metrics
from lightretriever.serving.page.endpoints import page_endpoints
from lightretriever.serving.served import DATABASE, Served
from lightretriever.serving.settings import ServeOptions
from lightretriever.serving.site import Site
from lightretriever.serving.tower.messages import TowerSettings
from lightretriever.serving.tower.remote import TowerLink

_THREADS = 4
DESCRIBED: tuple[Endpoint, ...] = (
    *search.ENDPOINTS,
    *openai.ENDPOINTS,
    *tei.ENDPOINTS,
    *cohere.ENDPOINTS,
    *weaviate.ENDPOINTS,
    *documents.ENDPOINTS,
    *health.ENDPOINTS,
)
"""What programs call, the most called first."""


def create_app(options: ServeOptions) -> ASGIApp:
    """Everything of one worker. Raises as `build_site`."""
    return build_app(build_site(options))


def build_site(options: ServeOptions) -> Site:
    """Open what is served, and warm it up: the first caller waits for nothing.

    Raises:
        LightRetrieverError: it cannot be opened, or the keys cannot be read.
    """
    keys = load_keys(options.keys) if options.keys is not None else ()
    link = None if options.model is None else TowerLink(Path(options.runtime), tower_settings(options))
    served = Served(options, link)
    metrics = Metrics()
    warm_up(served)
    return Site(
        options=options,
        served=served,
        together=Together(served, metrics),
        metrics=metrics,
        index_metrics=IndexCollector(served),
        keys=keys,
        tower=link,
        threads=ThreadPoolExecutor(_THREADS, "aside"),
        writing=asyncio.Lock(),
    )


def tower_settings(options: ServeOptions) -> TowerSettings:
    """Which tower the options name."""
    of_index = (options.path / DATABASE).exists()
    index = str(options.path.absolute()) if of_index else ""
    return TowerSettings(options.model or "", options.device, options.compute, index)


def warm_up(served: Served) -> None:
    """Load what is loaded on first use."""
    with served.use() as opened:
        if opened.index is None:
            opened.encoder(None)[1].encode_dense("warm")
        elif opened.index.settings.tenant is None:
            hits = opened.index.search("a warm start")
            earned_words(opened.index, "a warm start", hits)
            for hit in hits[:1]:
                hit.marked()


def build_app(site: Site) -> ASGIApp:
    """The routes of a site."""
    described = describe(DESCRIBED)
    endpoints = [*DESCRIBED, openapi_endpoint(described), *page_endpoints(described)]
    router = Router(_routes(site, endpoints), redirect_slashes=False, default=not_found(site), lifespan=_lifespan(site))
    if not site.options.origins:
        return router
    return CORSMiddleware(
        router,
        allow_origins=site.options.origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["authorization", "content-type", "api-key", "x-api-key"],
    )


def _routes(site: Site, endpoints: Sequence[Endpoint]) -> list[Route]:
    gate = Gate(Rate(site.options.limits.rate / site.options.workers))
    places = {path: place for place, path in enumerate(dict.fromkeys(each.path for each in endpoints))}
    ordered = sorted(endpoints, key=lambda each: places[each.path])
    grouped = groupby(ordered, key=lambda each: each.path)
    return [Route(path, Guarded(site, gate, list(each))) for path, each in grouped]


def _lifespan(site: Site) -> Callable[[object], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        def reload() -> None:
            task = loop.create_task(_reload(site))
            tasks.add(task)  # the loop itself does not keep it
            task.add_done_callback(tasks.discard)

        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, reload)
        gc.freeze()  # what was loaded stays: nobody looks through it for garbage while a request waits
        gc.enable()
        say("ready", models=site.served.now.names)
        yield
        await asyncio.to_thread(close, site)

    return lifespan


async def _reload(site: Site) -> None:
    with suppress(Refused):  # which is logged
        await site.aside(health.reload_now, site)


def close(site: Site) -> None:
    """Let go of all, once nothing is being answered any more."""
    site.threads.shutdown()
    site.served.close()
    if site.tower is not None:
        site.tower.close()
