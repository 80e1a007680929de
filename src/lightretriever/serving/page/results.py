"""Hits as people read them: title, place, passage with the query's words marked, and why it is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import UNSET

from lightretriever.counted import counted
from lightretriever.serving.api.messages import FoundHit
from lightretriever.serving.page.asked import PageParameters
from lightretriever.serving.page.markup import Html, element, join, link, marked

_FIELDS, _LONGEST = 5, 40  # of metadata that is shown with a hit, and letters of a value


def results(asked: PageParameters, hits: Sequence[FoundHit], took: float) -> Html:
    """The list of hits, and how long it took."""
    if not asked.q.strip():
        return element("p", "Type a query: documents appear with every key.", class_="status")
    if not hits:
        return element("p", "No document was found. Try other words, another mode or no filter.", class_="status")
    said = f"{counted(len(hits), 'documents')} in {took:.1f} ms"
    shown = [_hit(asked, hit, hits) for hit in hits]
    return join([element("p", said, class_="status", data_took=f"{took:.3f}"), element("ol", *shown)])


def failure(message: str) -> Html:
    """What went wrong, in place of hits."""
    return element("p", message, class_="status alert", role="alert")


def _hit(asked: PageParameters, hit: FoundHit, hits: Sequence[FoundHit]) -> Html:
    title, place = hit.title or hit.id, hit.location or hit.id
    number = hit.passage.rpartition("#")[2] if hit.passage is not UNSET else ""
    target = link(f"/read/{quote(hit.id)}", tenant=asked.tenant) + (f"#p{number}" if number else "")
    snippet = hit.snippet if hit.snippet is not UNSET else ""
    spans = [] if hit.spans is UNSET else [(span.start, span.end) for span in hit.spans]
    return element(
        "li",
        element("h2", element("a", str(title), href=target)),
        element("p", str(place), class_="where") if place != title else None,
        element("p", marked(snippet, spans), class_="snippet"),
        element("div", *_why(hit, hits), class_="why"),
        element("div", *_fields(asked, hit), class_="why") if hit.metadata else None,
        class_="hit",
    )


def _why(hit: FoundHit, hits: Sequence[FoundHit]) -> list[Html]:
    """What each arm says of it, against the best of all, and the words that earned it."""
    dense, sparse = hit.dense_score, hit.sparse_score
    best = max((each.sparse_score or 0.0 for each in hits), default=0.0)
    words = [] if hit.words is UNSET else hit.words
    parts = [
        _arm("meaning", dense, f"{dense:.3f}" if dense is not None else "", hit.dense_rank, 1.0),
        _arm("words", sparse, f"{sparse:.2f}" if sparse is not None else "", hit.sparse_rank, best),
    ]
    if words:
        chips = [element("span", f"{word.word} {word.score:.2f}", class_="chip") for word in words[:8]]
        parts.append(element("span", "earned by ", join(chips, " "), class_="words"))
    return [part for part in parts if part]


def _arm(name: str, score: float | None, shown: str, rank: int | None, best: float) -> Html:
    if score is None:
        return Html("")
    value = f"{min(max(score / best if best > 0 else 0.0, 0.0), 1.0):.3f}"
    place = f", no. {rank}" if rank is not None else ""
    bar = element("meter", min="0", max="1", value=value, aria_label=f"{name} {shown}")
    return element("span", f"{name} {shown}{place} ", bar)


def _fields(asked: PageParameters, hit: FoundHit) -> list[Html]:
    """Its metadata, each a link to the documents that have the same."""
    metadata: Mapping[str, Any] = {} if hit.metadata is UNSET else hit.metadata
    shown: list[Html] = []
    for name, value in metadata.items():
        if isinstance(value, str | int | float) and len(str(value)) <= _LONGEST and not name.startswith("$"):
            conditions = {**asked.conditions, name: value}
            href = asked.address(filter=json.dumps(conditions, ensure_ascii=False))
            title = f"only documents with {name} {value}"
            shown += [element("a", f"{name}: {_plain(value)}", href=href, class_="chip", title=title), Html(" ")]
        if len(shown) >= 2 * _FIELDS:
            break
    return shown


def _plain(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
