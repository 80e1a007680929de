"""`/search`: one query or many, by look-up or by the full model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from lightretriever.errors import UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.earned import Earned, earned_words
from lightretriever.index.filter.language import parse_filter, read_filter
from lightretriever.index.full import full_vectors
from lightretriever.serving.access.keys import tenant_value
from lightretriever.serving.access.tenants import narrowed
from lightretriever.serving.api.messages import (
    FoundHit,
    FusionWeights,
    PlaceOf,
    SearchAnswer,
    SearchAnswers,
    SearchOptions,
    SearchParameters,
    SearchRequest,
    Span,
    Word,
)
from lightretriever.serving.api.together import Wanted, search_encoded
from lightretriever.serving.api.together import search as search_together
from lightretriever.serving.http.endpoint import Call, Endpoint, answer
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.settings import Limits
from lightretriever.serving.site import Site
from lightretriever.serving.tower.remote import RemoteTower
from lightretriever.types import Encoded, Hit

if TYPE_CHECKING:
    from lightretriever.index.index import Index  # compiled searches, which embeddings do without

_FEW = 8  # queries of a request that the event loop waits for
_DEEP = 100  # hits of each, likewise
_LARGE = 200_000  # documents, of which a filtered search looks at every one


async def post_search(call: Call) -> Response:
    """`POST /search`."""
    started = perf_counter()
    asked: SearchRequest = call.body
    if (asked.query is UNSET) == (asked.queries is UNSET):
        raise Refused(422, "give query, or queries, and not both", "query")
    many = asked.queries is not UNSET
    texts: list[str] = asked.queries if many else [asked.query]  # type: ignore[list-item, assignment]
    found = await find(call, texts, asked)
    took = round((perf_counter() - started) * 1e3, 3)
    return answer(SearchAnswers(found, took) if many else SearchAnswer(found[0], took))


async def get_search(call: Call) -> Response:
    """`GET /search?q=`."""
    started = perf_counter()
    found = await find(call, [call.query.q], options_of(call.query))
    return answer(SearchAnswer(found[0], round((perf_counter() - started) * 1e3, 3)))


def options_of(asked: SearchParameters) -> SearchOptions:
    """What a URL asks for. Raises Refused: its filter is none (422)."""
    try:
        conditions = read_filter(asked.filter) if asked.filter.strip() else None
    except UsageError as error:
        raise Refused(422, str(error), "filter") from None
    return SearchOptions(
        k=asked.k,
        mode=asked.mode,
        filter=conditions,
        tenant=tenant_value(asked.tenant or None),
        snippets=asked.snippets,
        explain=asked.explain,
        query_encoder=asked.query_encoder,
    )


async def find(call: Call, texts: Sequence[str], asked: SearchOptions) -> list[list[FoundHit]]:
    """The hits of queries, as they are given to clients.

    Raises:
        Refused: a limit, a tenant, or no model where one is needed.
        LightRetrieverError: as `Index.search_encoded`.
    """
    site, limits = call.site, call.site.options.limits
    check_texts(texts, limits)
    if asked.k > limits.k:
        raise Refused(422, f"k is {asked.k}: at most {limits.k:,} hits are given", "k")
    if site.options.log_queries:
        call.notes["queries"] = list(texts)
    with site.served.use() as opened:
        index = opened.needs_index()
        conditions = narrowed(opened.look(index)[1].tenant, call.key, asked.tenant, asked.filter)
        parse_filter(conditions)  # before it waits with others
        encoded = None if asked.query_encoder == "lookup" else await _read_in_full(site, index, texts)
        wanted = Wanted(
            asked.k,
            asked.mode,
            b"" if conditions is None else msgspec.json.encode(conditions),
            asked.min_dense,
            asked.group,
            asked.texts or asked.snippets,
            _fusion(asked.fusion),
        )
        hits = await _hits(site, index, texts, wanted, encoded)
        present = partial(_present_all, index, texts, hits, asked)
        return await site.aside(present) if len(texts) * asked.k > _FEW * _DEEP else present()


async def _hits(
    site: Site, index: Index, texts: Sequence[str], wanted: Wanted, encoded: Encoded | None
) -> list[list[Hit]]:
    few = len(texts) <= _FEW and wanted.k <= _DEEP and not (wanted.filter and index.count > _LARGE)
    if encoded is not None:
        work = partial(search_encoded, index, encoded, texts, wanted)
        return work() if few else await site.aside(work)
    if not few:
        return await site.aside(search_together, index, texts, wanted, site.metrics)
    if len(texts) == 1:
        return [await site.together.search(texts[0], wanted)]
    return list(await asyncio.gather(*(site.together.search(text, wanted) for text in texts)))


async def _read_in_full(site: Site, index: Index, texts: Sequence[str]) -> Encoded:
    if site.tower is None:
        raise Refused(409, "queries are read in full by a model: start the server with --model", "query_encoder")
    encoder = index.encoder
    tower = RemoteTower(site.tower, encoder.table.tokenizer)
    started = perf_counter()
    vectors = await site.aside(full_vectors, tower, texts, encoder.table)
    site.metrics.stage("encode", "full", perf_counter() - started)
    return Encoded(vectors, encoder.encode_sparse(texts))


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Raises Refused for too many queries or texts, or one that is too long (422), or for none."""
    if not texts:
        raise Refused(422, "there is no query: give at least one", "queries")
    if len(texts) > limits.batch:
        raise Refused(422, f"there are {len(texts):,} texts: send at most {limits.batch:,} at once")
    longest = max(map(len, texts))
    if longest > limits.query:
        raise Refused(422, f"a text has {longest:,} characters: send at most {limits.query:,}")


def _fusion(asked: FusionWeights | None) -> Fusion | None:
    return None if asked is None else Fusion(asked.method, asked.dense, asked.sparse)


def _present_all(
    index: Index, texts: Sequence[str], hits: Sequence[Sequence[Hit]], asked: SearchOptions
) -> list[list[FoundHit]]:
    found = []
    for text, own in zip(texts, hits, strict=True):
        explained = asked.explain and asked.mode != "dense"
        words: Sequence[Earned | None] = earned_words(index, text, own) if explained else [None] * len(own)
        found.append([_present(hit, asked, earned) for hit, earned in zip(own, words, strict=True)])
    return found


def _present(hit: Hit, asked: SearchOptions, words: Earned | None) -> FoundHit:
    texts, place = asked.texts, hit.place
    snippet, spans = hit.marked() if asked.snippets else (UNSET, UNSET)
    return FoundHit(
        hit.id,
        hit.score,
        hit.dense_score,
        hit.dense_rank,
        hit.sparse_score,
        hit.sparse_rank,
        hit.title if texts or asked.snippets else UNSET,
        hit.text if texts else UNSET,
        hit.metadata if texts else UNSET,  # type: ignore[arg-type]
        hit.passage or UNSET,
        UNSET if place is None else PlaceOf(place.start, place.end, list(place.headings), place.page),
        hit.location or UNSET,
        snippet,
        [Span(*span) for span in spans] if spans is not UNSET else UNSET,
        [Word(*word) for word in words] if words is not None else UNSET,
    )


ENDPOINTS = (
    Endpoint("POST", "/search", post_search, "Search for a query, or for many.", takes=SearchRequest,
             gives=(SearchAnswer, SearchAnswers)),
    Endpoint("GET", "/search", get_search, "Search for a query in the URL.", asks=SearchParameters, gives=SearchAnswer),
)  # fmt: skip
