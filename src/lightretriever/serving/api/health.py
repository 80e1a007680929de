"""`/healthz`, `/readyz`, `/metrics` and `/reload`: for whoever runs the server."""

from __future__ import annotations

import logging
import os
import signal
import sys
from multiprocessing import parent_process
from typing import Any

from starlette.responses import Response

from lightretriever.errors import LightRetrieverError
from lightretriever.serving.access.keys import OPEN, WRITE
from lightretriever.serving.api.messages import Reloaded
from lightretriever.serving.http.endpoint import Call, Endpoint, answer
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.log import say
from lightretriever.serving.metrics import exposition
from lightretriever.serving.site import Site

_PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"


async def healthz(_: Call) -> Response:
    """The process runs, and its event loop turns."""
    return answer({"status": "ok"})


async def readyz(call: Call) -> Response:
    """It can answer: what it serves is open, and the index can be read."""
    with call.site.served.use() as opened:
        if opened.index is not None:
            documents: int | None = opened.index.count  # which asks the database
        else:
            documents = None
        return answer({"status": "ready", "models": opened.names, "documents": documents})


async def metrics(call: Call) -> Response:
    """What was counted."""
    if call.key.tenant is not None:
        raise Refused(403, "this key is for one tenant, and these are everybody's numbers")
    site = call.site
    body = await site.aside(exposition, site.metrics, site.index_metrics)
    return Response(body, media_type=_PROMETHEUS)


async def reload(call: Call) -> Response:
    """Open what there is now; every worker does."""
    if call.key.tenant is not None:
        raise Refused(403, "this key is for one tenant")
    site = call.site
    await site.aside(reload_now, site)
    parent = parent_process()
    if parent is not None and parent.pid is not None and sys.platform != "win32":
        os.kill(parent.pid, signal.SIGHUP)  # which tells the other workers
    with site.served.use() as opened:
        return answer(Reloaded(list(opened.names), None if opened.index is None else opened.index.count))


def reload_now(site: Site) -> None:
    """Serve what there is now. Raises Refused where it cannot be opened: then all stays as it was."""
    try:
        site.served.reload()
    except LightRetrieverError as error:
        say("reload failed: what was served still is", logging.ERROR, error=str(error))
        raise Refused(
            500, "what there is now cannot be opened, so what was served still is: the log says why"
        ) from None
    say("reloaded", models=site.served.now.names)


ENDPOINTS = (
    Endpoint("GET", "/healthz", healthz, "Whether the server runs.", may=OPEN, gives=dict[str, str]),
    Endpoint("GET", "/readyz", readyz, "Whether it can answer.", may=OPEN, gives=dict[str, Any]),
    Endpoint("GET", "/metrics", metrics, "What was counted, for Prometheus."),
    Endpoint("POST", "/reload", reload, "Serve what the table's or index's folder holds now.", may=WRITE,
             gives=Reloaded),
)  # fmt: skip
