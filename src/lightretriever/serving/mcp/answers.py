"""Hits and documents as an agent gets them: no longer than it can read, as data and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lightretriever.passages.fields import without_fields
from lightretriever.query.snippet import LEAST_WIDTH
from lightretriever.serving.mcp.messages import FetchAnswer, FoundPassage
from lightretriever.text.corpus import Document
from lightretriever.types import Hit

LONGEST_PASSAGE = 2_000  # characters of a hit's text: more is a document, of which the best part says enough
_TITLE, _LOCATION, _METADATA = 200, 300, 600  # characters of a hit's
_NEAR = 200  # characters before the limit, within which a text is cut between words
_DIGITS = 4  # of a score


class _Marker(Protocol):
    def mark(self, text: str, width: int) -> tuple[str, tuple[tuple[int, int], ...]]: ...


def found_passages(hits: Sequence[Hit], size: int) -> list[FoundPassage]:
    """Hits, whose texts have ``size`` characters together, at most: each has an equal share."""
    width = max(LEAST_WIDTH, min(LONGEST_PASSAGE, size // max(len(hits), 1)))
    return [_passage(hit, width) for hit in hits]


def _passage(hit: Hit, width: int) -> FoundPassage:
    marker: _Marker | None = hit.marker  # type: ignore[assignment]  # a search's own takes a width
    text = hit.text
    if len(text) > width:
        text = text[:width] if marker is None else marker.mark(text, width)[0]
    return FoundPassage(
        id=hit.id,
        title=_short(hit.title, _TITLE),
        text=text,
        shortened=text != hit.text,
        location=_short(hit.location, _LOCATION),
        start=0 if hit.place is None else hit.place.start,
        score=round(hit.score, _DIGITS),
        dense_score=_rounded(hit.dense_score),
        sparse_score=_rounded(hit.sparse_score),
        metadata=brief(hit.metadata),
    )


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, _DIGITS)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def brief(metadata: Mapping[str, object]) -> dict[str, Any]:
    """The fields of metadata, in order, that there is room for; "…" says how many were left out."""
    kept: dict[str, Any] = {}
    room = _METADATA
    for name, value in metadata.items():
        size = len(name) + len(json.dumps(value, ensure_ascii=False))
        if size <= room:
            room -= size
            kept[name] = value
    left = len(metadata) - len(kept)
    return {**kept, "…": f"{left} longer fields left out"} if left else kept


def hits_text(passages: Sequence[FoundPassage]) -> str:
    """Passages as one reads them."""
    if not passages:
        return "No passage was found: use other words, or leave the filter out."
    return "\n\n".join(_passage_text(number, passage) for number, passage in enumerate(passages, 1))


def _passage_text(number: int, passage: FoundPassage) -> str:
    alike = "" if passage.dense_score is None else f", cosine {passage.dense_score:.3f}"
    lines = [
        f"[{number}] {passage.title or passage.id}",
        f"id: {passage.id}" + (f", start: {passage.start}" if passage.start else ""),
        *([passage.location] if passage.location not in ("", passage.id) else []),
        f"score {passage.score:.3f}{alike}" + (", shortened" if passage.shortened else ""),
        passage.text,
    ]
    return "\n".join(lines)


def whole_document(name: str, rows: Sequence[Document], split: bool, start: int, size: int) -> FetchAnswer:
    """A document as it is stored, from ``start`` on, ``size`` characters at most.

    Args:
        name: its id.
        rows: itself; or where it was split, its passages in order, of which each may repeat the end of the one before.
        split: whether they are passages.
        start: a character of the document, as it was given; white space between passages is not stored.
        size: of the text.
    """
    title, metadata = rows[0].title, rows[0].metadata
    pieces = [(0, rows[0].text)]
    if split:
        title, metadata = without_fields(rows[0].metadata)[:2]
        pieces = _placed(rows)
    length = max(at + len(text) for at, text in pieces)
    text, end = _from(pieces, min(start, length), size)
    return FetchAnswer(name, title, text, min(start, length), length, end if end < length else None, brief(metadata))


def _placed(rows: Sequence[Document]) -> list[tuple[int, str]]:
    """Each passage's text, and where it begins; one whose place is not known follows the one before."""
    pieces, end = list[tuple[int, str]](), 0
    for row in rows:
        place = without_fields(row.metadata)[2]
        at = place.start if place.end - place.start == len(row.text) else end
        pieces.append((at, row.text))
        end = max(end, at + len(row.text))
    return pieces


def _from(pieces: Sequence[tuple[int, str]], start: int, size: int) -> tuple[str, int]:
    """So much of the pieces, joined, and where that ends."""
    found, room, end = list[str](), size, start
    for at, text in pieces:
        if at + len(text) <= end:
            continue
        gap = at - end if end else 0
        joint = "" if gap <= 0 else " " if gap == 1 else "\n\n"
        rest = text[max(end - at, 0) :]
        if len(joint) >= room:
            break
        if len(joint) + len(rest) > room:
            cut = _cut(rest, room - len(joint))
            found += [joint, rest[:cut]]
            return "".join(found), max(at, end) + cut
        found += [joint, rest]
        room -= len(joint) + len(rest)
        end = at + len(text)
    return "".join(found), end


def _cut(text: str, most: int) -> int:
    """Where to cut a text that is longer: at white space if there is some near."""
    for place in range(most, max(most - _NEAR, 0), -1):
        if text[place].isspace():
            return place
    return most


def document_text(answer: FetchAnswer) -> str:
    """A document as one reads it."""
    head = answer.title or answer.id
    if answer.start:
        head += f" (from character {answer.start:,} of {answer.length:,})"
    parts = [head, answer.text]
    if answer.next is not None:
        parts.append(
            f"[cut here: {answer.length - answer.next:,} of {answer.length:,} characters are left; "
            f"fetch id {json.dumps(answer.id, ensure_ascii=False)} with start {answer.next} for more]"
        )
    return "\n\n".join(parts)
