"""The part of a passage to show for a query, with the query's words marked: by looking for them, no model.

Which words of a text are the query's:

- the same word, whatever its case; words of the query that say far less than its others ("the") are left out;
- a word of at least five letters, a final s aside, also where the text has another ending: the first two thirds of the
  word (five letters at least) are the same, and one is at most three letters longer than the other. A shorter one with
  or without a final s or es;
- in scripts without spaces between words, every two characters that follow one another in the query.

Where an index counts words, its analyser says instead whether two words are one.

How much a word says is the sum of its tokens' inverse document frequencies where the table was fitted, else of the
lengths of their rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from lightretriever.errors import UsageError
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.analysers.words import UNSPACED, Words

WIDTH = 200
LEAST_WIDTH = 16
_LEAST_SHARE = 0.2  # of the heaviest word's weight; what has less is not looked for
_AGAIN = 0.1  # of a word's weight, for each time that it comes again
_TINY = 1e-9  # what rounding makes of a sum that terms were added to and taken from
_FINDS = 24  # places at most that are looked at for one word
_STEM, _ENDING = 5, 3  # letters
_ELLIPSIS = "…"
_WORD = re.compile(rf"[^\W{UNSPACED}]+(?:[\u0300-\u036f]+[^\W{UNSPACED}]*)*")
_RUN = re.compile(rf"[{UNSPACED}]+")
# A line that goes on is no end; a blank one is, and one before a list item, a heading or a quotation.
_SENTENCE_END = re.compile(r"[。！？｡]|[.!?](?=\s)|\n(?=\s*\n|[ \t]*(?:[-*•#>]|\d+[.)]))")
_SPACE = re.compile(r"\s")


class Term(NamedTuple):
    """What is looked for in a text.

    Attributes:
        stem: the beginning of words, in small letters, or two characters of a script without spaces.
        shortest, longest: letters of a word that counts; 0 where any place does, or ``term`` decides.
        weight: how much it says.
        term: what the index's analyser makes of words that count; "" where their letters decide.
    """

    stem: str
    shortest: int
    longest: int
    weight: float
    term: str = ""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a passage.

    Attributes:
        text: of the passage as it is, with … before or after it where a sentence is cut.
        spans: where in ``text`` the query's words are, ascending, apart from each other: ``text[start:end]``.
        start: where it begins in the passage, a … before it left aside.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    start: int


class QueryMarker:
    """Marks the words of one query in texts; a search gives it to its hits. Its words are weighed when it is first
    asked, for most hits are never shown."""

    __slots__ = ("_encoder", "_terms", "_words", "query")

    def __init__(self, encoder: QueryEncoder, query: str) -> None:
        self.query = query
        self._words = encoder.words
        self._encoder: QueryEncoder | None = encoder
        self._terms: tuple[Term, ...] | None = None

    def mark(self, text: str, width: int = WIDTH) -> tuple[str, tuple[tuple[int, int], ...]]:
        """`snippet` of a text, and where the query's words are in it."""
        found = snippet(self.terms, text, width, self._words)
        return found.text, found.spans

    @property
    def terms(self) -> tuple[Term, ...]:
        """What is looked for."""
        if self._terms is None:
            assert self._encoder is not None
            self._terms = query_terms(self._encoder, self.query)
        return self._terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueryMarker) and self.query == other.query

    def __hash__(self) -> int:
        return hash(self.query)

    def __getstate__(self) -> tuple[str, tuple[Term, ...], Words | None]:
        return self.query, self.terms, self._words  # hits go to other processes without the encoder

    def __setstate__(self, state: tuple[str, tuple[Term, ...], Words | None]) -> None:
        self.query, self._terms, self._words = state
        self._encoder = None


class _Match(NamedTuple):
    start: int
    end: int
    term: int


def query_terms(encoder: QueryEncoder, query: str) -> tuple[Term, ...]:
    """What to look for in the hits of a query; made once for all of them."""
    return make_terms(query, partial(_weight, encoder), encoder.words)


def make_terms(query: str, weight: Callable[[str], float], analysed: Words | None = None) -> tuple[Term, ...]:
    """`query_terms` where words are weighed in another way: ``weight`` gives how much a word of the query says, and
    ``analysed`` is the index's analyser."""
    if analysed is not None:
        counted = {analysed.term(word): word for word in analysed.split(query)}
        terms = [Term(word, 0, 0, weight(word), term) for term, word in counted.items() if term]
    else:
        query = query.lower()
        words = dict.fromkeys(_WORD.findall(query))
        pairs = dict.fromkeys(run[i : i + 2] for run in _RUN.findall(query) for i in range(max(1, len(run) - 1)))
        terms = [_word_term(word, weight(word)) for word in words]
        terms += [Term(pair, 0, 0, weight(pair)) for pair in pairs]
    least = _LEAST_SHARE * max((term.weight for term in terms), default=0.0)
    kept = {term._replace(weight=0.0): term for term in terms if term.weight >= least}
    return tuple(kept.values())


def snippet(terms: Sequence[Term], text: str, width: int = WIDTH, analysed: Words | None = None) -> Snippet:
    """The part of a text that holds most of the query's words, by their weights, from the beginning of a sentence.

    Args:
        terms: of `query_terms`.
        text: returned as it is, control characters and all: whoever prints it cleans it.
        width: characters at most, cut between words where there are any.
        analysed: as for `make_terms`.

    Returns:
        The beginning of the text where it has none of the words.

    Raises:
        UsageError: a width of fewer than `LEAST_WIDTH` characters.
    """
    if width < LEAST_WIDTH:
        raise UsageError(f"a snippet of {width} characters: give at least {LEAST_WIDTH}")
    matches = _matches(terms, text, analysed)
    first, last = _best(terms, matches, width - 2)
    start, cut_before = (0, False) if len(text) <= width else _start(text, first, last, width - 2)
    end, cut_after = (len(text), False) if len(text) <= width else _end(text, start, last, width - 2)
    before, after = _ELLIPSIS * cut_before, _ELLIPSIS * cut_after
    shift = len(before) - start
    spans = tuple((a + shift, b + shift) for a, b in _joined(matches) if start <= a and b <= end)
    return Snippet(before + text[start:end] + after, spans, start)


def _weight(encoder: QueryEncoder, word: str) -> float:
    table = encoder.table
    ids = encoder.chunks.ids(word, table.leading_space)
    if table.evidence is not None:
        return table.evidence.add_up(ids)[0]
    return float(np.linalg.norm(table[ids], axis=1).sum()) if ids else 0.0


def _word_term(word: str, weight: float) -> Term:
    size = len(word)
    base = size - 1 if size > 3 and word[-1] == "s" and word[-2] != "s" else size
    if not word.isalpha() or base < 3:
        return Term(word, size, size, weight)
    if base < _STEM:
        return Term(word[:base], base, base + 2, weight)
    stem = max(_STEM, -(-2 * base // 3))
    return Term(word[:stem], max(stem, base - _ENDING), base + _ENDING, weight)


def _matches(terms: Sequence[Term], text: str, analysed: Words | None) -> list[_Match]:
    """Where the terms are, in the text's order."""
    if analysed is not None:
        wanted = {term.term: number for number, term in enumerate(terms)}
        return [_Match(start, end, wanted[term]) for start, end, term in analysed.find(text, wanted)]
    lower = text.lower()
    if len(lower) != len(text):  # İ becomes two characters
        lower = "".join(small if len(small := character.lower()) == 1 else character for character in text)
    found: list[_Match] = []
    for number, (stem, shortest, longest, _, _) in enumerate(terms):
        place = lower.find(stem)
        for _ in range(_FINDS):
            if place < 0:
                break
            end = place + len(stem)
            if not longest:
                found.append(_Match(place, end, number))
            elif not place or not _is_letter(lower[place - 1]):
                word = _WORD.match(lower, place)
                end = word.end() if word else end
                if _counts(lower, place, end, len(stem), shortest, longest):
                    found.append(_Match(place, end, number))
            place = lower.find(stem, end)
    found.sort()
    return found


def _counts(lower: str, place: int, end: int, stem: int, shortest: int, longest: int) -> bool:
    if stem == shortest and longest - shortest == 2:  # a short word: only its plural has another ending
        return lower[place + stem : end] in ("", "s", "es")
    return shortest <= end - place <= longest


def _is_letter(character: str) -> bool:
    """Whether a character before a word would be a part of it."""
    if character.isascii():
        return character.isalnum() or character == "_"
    return "\u0300" <= character <= "\u036f" or (character.isalnum() and not _RUN.match(character))


def _best(terms: Sequence[Term], matches: Sequence[_Match], width: int) -> tuple[int, int]:
    """Where the stretch of at most ``width`` characters begins and ends that has most of the weight."""
    best, bounds = 0.0, (0, 0)
    counts, score, first = [0] * len(terms), 0.0, 0
    for start, end, number in matches:
        score += terms[number].weight * (_AGAIN if counts[number] else 1.0)
        counts[number] += 1
        while first < len(matches) - 1 and matches[first].start < end - width and matches[first].start < start:
            gone = matches[first].term
            counts[gone] -= 1
            score -= terms[gone].weight * (_AGAIN if counts[gone] else 1.0)
            first += 1
        if score > best + _TINY:
            best, bounds = score, (matches[first].start, min(end, matches[first].start + width))
    return bounds


def _start(text: str, first: int, last: int, width: int) -> tuple[int, bool]:
    """Where to begin, so that ``first`` to ``last`` are shown, and whether that is within a sentence."""
    earliest = max(0, last - width)
    ends = [end.end() for end in _SENTENCE_END.finditer(text, earliest, first)]
    cut = earliest > 0 and not ends
    if cut:
        aim = max(earliest, first - (width - (last - first)) // 2)
        space = _SPACE.search(text, aim, first)
        start = space.end() if space else _boundary(text, aim, first)
    else:
        start = ends[-1] if ends else 0
    while start < first and text[start].isspace():
        start += 1
    return start, cut


def _end(text: str, start: int, last: int, width: int) -> tuple[int, bool]:
    """Where to end a part that has ``last`` in it, and whether that is within a sentence."""
    limit = start + width
    if limit >= len(text):
        return len(text), False
    middle = max(last, limit - width // 2)
    ends = [end.end() for end in _SENTENCE_END.finditer(text, middle, limit)]
    if ends:
        return last + len(text[last : ends[-1]].rstrip()), False
    spaces = [space.start() for space in _SPACE.finditer(text, middle, limit + 1)]
    return (spaces[-1] if spaces else _boundary(text, limit, last, -1)), True


def _boundary(text: str, place: int, bound: int, step: int = 1) -> int:
    """The next place, up to ``bound``, where no accent is parted from its letter."""
    for here in range(place, bound, step):
        if unicodedata.category(text[here])[0] != "M":
            return here
    return place


def _joined(matches: Iterable[_Match]) -> list[tuple[int, int]]:
    """The places of matches, those that overlap or touch taken together."""
    joined: list[tuple[int, int]] = []
    for start, end, _ in matches:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
