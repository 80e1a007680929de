"""`/`, `/read/{id}`, `/docs` and their files."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from time import perf_counter
from typing import Any

from starlette.responses import Response

from lightretriever.errors import LightRetrieverError
from lightretriever.passages.fields import without_fields
from lightretriever.serving.access.keys import OPEN
from lightretriever.serving.api.documents import stored_rows
from lightretriever.serving.api.search import find, options_of
from lightretriever.serving.http.endpoint import Call, Endpoint, Face
from lightretriever.serving.http.errors import Refused, refusal
from lightretriever.serving.page.asked import PageParameters
from lightretriever.serving.page.calls import calls
from lightretriever.serving.page.form import form
from lightretriever.serving.page.markup import Html, asset, element, html, join, whole_page
from lightretriever.serving.page.results import failure, results
from lightretriever.types import Hit

_KINDS = {"css": "text/css", "js": "text/javascript"}
_KEPT = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}


def _error(refused: Refused) -> Html:
    return whole_page("Search", join([_head(), element("main", failure(refused.message))]))


FACE = Face("page", _error)


async def search_page(call: Call) -> Response:
    """`GET /`."""
    asked: PageParameters = call.query
    found, status = await _found(call, asked)
    if asked.part == "results":
        return html(found, status)
    with call.site.served.use() as opened:
        if opened.index is None:
            said = element("p", "Embeddings alone are served here. ", element("a", "What can be called", href="/docs"))
            return html(whole_page("LightRetriever", join([_head(), element("main", said)])))
        settings = opened.look(opened.index)[1]
        tenants = settings.tenant if call.key.tenant is None else None
        shown = form(asked, tenants, call.site.tower is not None, settings.sparse != "none")
    main = element("main", found, id="results", aria_live="polite", tabindex="-1")
    title = f"{asked.q} – search" if asked.q else "Search"
    return html(whole_page(title, join([_head(), shown, main, _foot()]), script=True), status)


async def _found(call: Call, asked: PageParameters) -> tuple[Html, int]:
    """The results, or what was wrong, and the status."""
    if not asked.q.strip():
        return results(asked, [], 0.0), 200
    started = perf_counter()
    try:
        hits = (await find(call, [asked.q], options_of(asked.search())))[0]
    except Refused as refused:
        return failure(refused.message), refused.status
    except LightRetrieverError as error:
        said = refusal(error)
        return failure(said.message), said.status
    return results(asked, hits, (perf_counter() - started) * 1e3), 200


class ReadParameters(PageParameters, frozen=True, kw_only=True):
    """Whose document it is."""


async def read_page(call: Call) -> Response:
    """`GET /read/{id}`."""
    name = call.path["id"]
    rows, split = await stored_rows(call)
    title, parts = rows[0].title, list[Html]()
    for number, row in enumerate(rows):
        if split:
            title, _, place = without_fields(row.metadata)
            location = Hit(name, 0.0, place=place).location
            parts.append(element("p", location, class_="where", id=f"p{number}"))
        parts.append(element("p", row.text, class_="text"))
    heading = element("h2", title or name)
    main = element("main", heading, element("p", name, class_="where"), *parts, id="results", tabindex="-1")
    return html(whole_page(title or name, join([_head(), main, _foot()])))


def _head() -> Html:
    skip = element("a", "To the results", href="#results", class_="skip")
    return element("header", skip, element("h1", element("a", "LightRetriever", href="/")))


def _foot() -> Html:
    keys = [
        element("kbd", "/"),
        " to the query, ",
        element("kbd", "↓"),
        " ",
        element("kbd", "↑"),
        " through the documents, ",
        element("kbd", "Enter"),
        " reads one, ",
        element("kbd", "Esc"),
        " begins anew. ",
        element("a", "For programs", href="/docs"),
    ]
    return element("footer", join(keys))


def page_endpoints(described: Mapping[str, Any]) -> list[Endpoint]:
    """The pages, and what they load; ``described`` are the calls that /docs tells of, as `describe` does."""
    told = whole_page("What can be called", join([_head(), calls(described), _foot()]))

    async def docs_page(_: Call) -> Response:
        return html(told)

    common: dict[str, Any] = {"face": FACE, "shown": False}
    return [
        Endpoint("GET", "/", search_page, "Search, for people.", asks=PageParameters, **common),
        Endpoint("GET", "/read/{id:path}", read_page, "A document, for people.", asks=ReadParameters, **common),
        Endpoint("GET", "/docs", docs_page, "The calls, for people.", may=OPEN, **common),
        *(_file(name) for name in ("page.css", "search.js")),
    ]


def _file(name: str) -> Endpoint:
    content = asset(name).encode()
    headers = {**_KEPT, "etag": f'"{sha256(content).hexdigest()[:16]}"'}

    async def give(call: Call) -> Response:
        seen = dict(call.scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
        if seen == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_KINDS[name.rpartition(".")[2]])

    return Endpoint("GET", f"/assets/{name}", give, f"The page's {name}.", may=OPEN, face=FACE, shown=False)
