"""The units that passages are put together from: headings, code blocks and sentences, cut where one is too long."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from lightretriever.passages.structure import CODE, HEADING, Structure
from lightretriever.text.sentences import sentence_spans

CHARACTERS_PER_TOKEN = 16
"""What has more weighs as if it had more tokens: to a word-piece vocabulary a line of base64 is one unknown token."""
Count = Callable[[Sequence[str]], list[int]]
"""How many tokens texts have, without special tokens."""

_USUAL = 4  # characters of a token of ASCII, where parts are made before any is counted; of others 1
_GAP = 64  # characters of white space before a unit that are counted with it
_SPACE = re.compile(r"\s")
_LINE = re.compile(r"\S[^\n\r]*")
_JOINED = 32  # characters at most that are kept together as one that a reader sees
_JOINER = "\u200d"


class Unit(NamedTuple):
    """What a passage holds whole.

    Attributes:
        start, end: its characters in the text; it begins and ends with no white space.
        block: the place of the block that it is of.
        weight: its tokens with the white space before it, or more; 0 while that is not known.
    """

    start: int
    end: int
    block: int
    weight: int = 0


def units_of(text: str, structure: Structure) -> list[Unit]:
    """Headings and code blocks as they are, the rest by sentences; weights are not known yet."""
    cased = text.lower() != text
    units: list[Unit] = []
    for number, block in enumerate(structure.blocks):
        if block.kind in (CODE, HEADING):
            units.append(Unit(block.start, block.end, number))
        else:
            spans = sentence_spans(text[block.start : block.end], cased)
            units += _trimmed(text, ((block.start + start, block.start + end) for start, end in spans), number)
    return units


def weigh(
    texts: Sequence[str], units: Sequence[list[Unit]], rooms: Sequence[list[int]], count: Count, overlap: int
) -> list[list[Unit]]:
    """The units of several texts with their weights; those that no passage would hold are cut.

    Args:
        texts, units: of each text.
        rooms: of each text the tokens that a passage may have, for each block.
        overlap: tokens that passages share: parts of what is cut have no more, so that they can be shared whole.
    """
    found = [_cut_all(text, own, room, overlap) for text, own, room in zip(texts, units, rooms, strict=True)]
    while any(not unit.weight for own in found for unit in own):
        counted = iter(
            count([piece for text, own in zip(texts, found, strict=True) for piece in _uncounted(text, own)])
        )
        found = [[unit if unit.weight else _with_weight(unit, next(counted)) for unit in own] for own in found]
        found = [_cut_all(text, own, room, overlap) for text, own, room in zip(texts, found, rooms, strict=True)]
    return found


def halves(text: str, unit: Unit) -> list[Unit]:
    """The unit in two parts of about half its weight; the unit where it is one character."""
    parts = _cut(text, unit, 2)
    return [part._replace(weight=max(1, unit.weight // len(parts))) for part in parts]


def tail(text: str, unit: Unit, weight: int) -> Unit | None:
    """The last words of a unit, of about so much weight; None where they are all of it or none."""
    start = unit.end - max(1, (unit.end - unit.start) * weight // unit.weight)
    space = _SPACE.search(text, start, unit.end)
    parts = _trimmed(text, [(space.start() if space else _boundary(text, start, unit.start), unit.end)], unit.block)
    # By its share of the characters; it may have more tokens than that.
    return parts[0]._replace(weight=weight + weight // 4) if parts and parts[0].start > unit.start else None


def _uncounted(text: str, units: Iterable[Unit]) -> Iterator[str]:
    before = 0
    for unit in units:
        if not unit.weight:
            yield text[max(before, unit.start - _GAP) : unit.end]
        before = unit.end


def _with_weight(unit: Unit, tokens: int) -> Unit:
    return unit._replace(weight=max(1, tokens, (unit.end - unit.start) // CHARACTERS_PER_TOKEN))


def _cut_all(text: str, units: list[Unit], rooms: Sequence[int], overlap: int) -> list[Unit]:
    """Units, parts of those that are too heavy; one not counted yet is, if it were even with the longest tokens."""

    def fits(unit: Unit) -> bool:
        return (unit.weight or (unit.end - unit.start) // CHARACTERS_PER_TOKEN) <= rooms[unit.block]

    if all(map(fits, units)):
        return units
    parts = ([unit] if fits(unit) else _parts(text, unit, rooms[unit.block], overlap) for unit in units)
    return list(chain.from_iterable(parts))


def _parts(text: str, unit: Unit, room: int, overlap: int) -> list[Unit]:
    """A unit's lines, or if it is one line parts of it; the unit where it is one character."""
    lines = _trimmed(text, (line.span() for line in _LINE.finditer(text, unit.start, unit.end)), unit.block)
    if len(lines) > 1:
        return lines
    usual = _USUAL if text[unit.start : unit.start + _GAP].isascii() else 1
    weight = unit.weight or (unit.end - unit.start) // usual
    grain = max(1, min(overlap or room // 4, room // 2))
    return _cut(text, unit, max(2, -(-weight // grain)))


def _cut(text: str, unit: Unit, count: int) -> list[Unit]:
    """About so many parts of one length, cut at white space where there is some near, else between characters."""
    size = unit.end - unit.start
    count, reach = min(count, size), size // (2 * count) + 1
    cuts = [unit.start]
    for number in range(1, count):
        place = unit.start + size * number // count
        if place <= cuts[-1]:
            continue
        space = _SPACE.search(text, place, min(place + reach, unit.end))
        cuts.append(space.start() if space else _boundary(text, place, cuts[-1]))
    parts = _trimmed(text, zip(cuts, [*cuts[1:], unit.end], strict=True), unit.block)
    return parts if len(parts) > 1 else [unit._replace(weight=unit.weight or 1)]


def _boundary(text: str, place: int, after: int) -> int:
    """The last place up to ``place`` that is between two characters as readers see them, if there is one near."""
    for start in range(place, max(after, place - _JOINED), -1):
        if not _goes_on(text[start - 1], text[start]):
            return start
    return place


def _goes_on(before: str, character: str) -> bool:
    """Whether a character belongs to the one before it: an accent, a skin tone, what a joiner joins."""
    if character.isascii():
        return False
    tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return _JOINER in (before, character) or tone or unicodedata.category(character)[0] == "M"


def _trimmed(text: str, spans: Iterable[tuple[int, int]], block: int) -> list[Unit]:
    """Units of the spans without the white space at their ends, none empty."""
    units = []
    for start, end in spans:
        part = text[start:end]
        length = len(part.rstrip())
        if length:
            units.append(Unit(end - len(part.lstrip()), start + length, block))
    return units
