"""Hits as people read them: title, location and snippet one under the other, scores in a narrow column beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightretriever.cli.characters import cells, fold, plain

if TYPE_CHECKING:
    from lightretriever.types import Hit

WIDEST = 100  # columns: a longer line is hard to read
SNIPPET_LINES, LOCATION_LINES = 3, 2
_SCORES = 13  # columns of a score and its name
_NARROWEST = 20  # of the text; a terminal that has less breaks lines itself
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"

Spans = Sequence[tuple[int, int]]


def show_hits(hits: Sequence[Hit], width: int, marked: bool) -> str:
    """Hits for a terminal of ``width`` columns; ``marked``: with the words that matched in bold."""
    return "\n\n".join("\n".join(lines) for lines in hit_lines(hits, width, marked)) if hits else "no hits"


def hit_lines(hits: Sequence[Hit], width: int, marked: bool) -> list[list[str]]:
    """The lines of each hit.

    The arms' own scores come first: a fused score tells little of how alike query and document are. A score that is not
    known is –. A document without a title is called by its id; one that came from no file has its id for a location.
    """
    dense = any(hit.dense_score is not None for hit in hits)
    sparse = any(hit.sparse_score is not None for hit in hits)
    fused = any(hit.score not in (hit.dense_score, hit.sparse_score) for hit in hits)
    shown = []
    for rank, hit in enumerate(hits, 1):
        location = hit.location
        if not location and hit.title and hit.id not in hit.title:  # a name such as "csv.DictReader" is not said twice
            location = hit.id
        scores = [
            *([("dense", _score(hit.dense_score, "{:.3f}"))] if dense else []),
            *([("sparse", _score(hit.sparse_score, "{:.2f}"))] if sparse else []),
            *([("fused", _score(hit.score, "{:.3f}"))] if fused else []),
        ]
        number = f"{rank:>{len(str(len(hits)))}}  "
        shown.append(format_hit(number, hit.title or hit.id, location, hit.snippet, hit.spans, scores, width, marked))
    return shown


def _score(score: float | None, form: str) -> str:
    return "–" if score is None else form.format(score)


def format_hit(
    number: str,
    title: str,
    location: str,
    snippet: str,
    spans: Spans,
    scores: Sequence[tuple[str, str]],
    width: int,
    marked: bool,
) -> list[str]:
    """The lines of one hit.

    Args:
        number: what stands before the title, and as wide a margin before what is under it.
        title, location, snippet: any of them may be empty, and hold whatever a document can.
        spans: start and end in the snippet of each word that matched.
        scores: names and values, a line each.
        width: columns of the terminal.
        marked: whether it can show words that matched in bold, and locations dimmed.
    """
    margin = " " * len(number)
    room = max(min(width, WIDEST) - len(margin) - _SCORES - 2, _NARROWEST)
    left = [
        *_lines(title, room, 1),
        *_lines(location, room, LOCATION_LINES, _DIM if marked else ""),
        *_lines(snippet, room, SNIPPET_LINES, spans=spans if marked else ()),
    ]
    right = [f"{name:>6} {value:>6}" for name, value in scores]
    lines = []
    for place in range(max(len(left), len(right))):
        text, wide = left[place] if place < len(left) else ("", 0)
        score = right[place] if place < len(right) else ""
        gap = " " * (room - wide + 2) if score else ""
        lines.append(f"{margin if place else number}{text}{gap}{score}".rstrip())
    return lines


def _lines(text: str, width: int, most: int, style: str = "", spans: Spans = ()) -> list[tuple[str, int]]:
    """At most so many lines of a text, each with its columns; the last ends in … where there is more of it."""
    text = plain(text)
    lines = fold(text, width, most)
    found = []
    for words in lines:
        more = " …" if words is lines[-1] and text[words[-1][1] :].strip() else ""
        if more:
            _make_room(text, words, width - len(more))
        line = " ".join(_marked(text, start, end, spans) for start, end in words) + more
        found.append((f"{style}{line}{_PLAIN}" if style else line, _width(text, words) + len(more)))
    return found


def _make_room(text: str, words: list[tuple[int, int]], width: int) -> None:
    """Take words away from the end of a line that is wider, or letters where there is one word only."""
    while len(words) > 1 and _width(text, words) > width:
        words.pop()
    start, end = words[-1]
    while end > start + 1 and _width(text, words) > width:
        end -= 1
        words[-1] = (start, end)


def _width(text: str, words: Sequence[tuple[int, int]]) -> int:
    return sum(cells(text[start:end]) for start, end in words) + len(words) - 1


def _marked(text: str, start: int, end: int, spans: Spans) -> str:
    """A piece of the text, with what of it lies in one of the spans in bold."""
    pieces, at = [], start
    for first, last in sorted(spans):
        first, last = max(first, at), min(last, end)
        if first < last:
            pieces += [text[at:first], _BOLD, text[first:last], _PLAIN]
            at = last
    return "".join([*pieces, text[at:end]])
