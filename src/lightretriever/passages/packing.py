"""Units put together to passages: which sections share one, where a passage ends, and what the next one repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

from lightretriever.passages.structure import HEADING, TEXT, Structure
from lightretriever.passages.units import CHARACTERS_PER_TOKEN, Unit, tail

_SMALL = 4  # a quarter of a passage


def pack(
    text: str, units: Sequence[Unit], structure: Structure, rooms: Sequence[int], overlap: int
) -> Iterator[list[Unit]]:
    """The units of each passage, in order; see `lightretriever.passages.split` for the rules.

    Args:
        units: with their weights, none above its section's room.
        rooms: tokens that a passage may have, for each section.
        overlap: tokens of a passage that the next one repeats, at most.
    """
    sections = [structure.blocks[unit.block].section for unit in units]
    weights = [0] * len(structure.sections)
    for section, unit in zip(sections, units, strict=True):
        weights[section] += unit.weight
    run_of: list[int] = []
    for number, (first, end) in enumerate(_runs([section.level for section in structure.sections], weights, rooms)):
        run_of += [number] * (end - first)
    for _, members in groupby(zip(sections, units, strict=True), key=lambda member: run_of[member[0]]):
        run = list(members)
        room = min(rooms[section] for section, _ in run)
        yield from _pack_run(text, [unit for _, unit in run], structure, room, min(overlap, room // 2))


def _runs(levels: Sequence[int], weights: Sequence[int], rooms: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sections that share passages: the first of each run, and the one after its last."""
    below = _weights_below(levels, weights)
    first, level, held = 0, 0, weights[0]
    for section in range(1, len(levels)):
        room = rooms[section]
        small = held * _SMALL < room
        joins = small or (below[section] * _SMALL < room and held + weights[section] <= room)
        if held and not (joins and levels[section] >= level):
            yield first, section
            first, level, held = section, levels[section], weights[section]
            continue
        if not held:  # the text begins with a heading
            level = levels[section]
        held += weights[section]
    yield first, len(levels)


def _weights_below(levels: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Of each section with all that stands under it."""
    sums = [0, *accumulate(weights)]
    below, later = [0] * len(levels), list[int]()
    for section in range(len(levels) - 1, -1, -1):
        while later and levels[later[-1]] > levels[section]:
            later.pop()
        below[section] = sums[later[-1] if later else len(levels)] - sums[section]
        later.append(section)
    return below


def _pack_run(text: str, units: Sequence[Unit], structure: Structure, room: int, overlap: int) -> Iterator[list[Unit]]:
    limit = _even(_weight(units), room, overlap)
    held: list[Unit] = []
    size = new = 0  # the weight of those held; how many of them no passage has yet
    for _, members in groupby(units, key=lambda unit: unit.block):
        block = list(members)
        whole = Unit(block[0].start, block[-1].end, block[0].block, _weight(block))
        full = new > 0 and 2 * size >= limit and not _fits(held, size, whole, limit)
        for unit in block:
            if new and (full or not _fits(held, size, unit, limit)):
                passage, held, new = _close(text, held, new, unit, structure, room, overlap)
                size = _weight(held)
                yield passage
            full = False
            held.append(unit)
            size += unit.weight
            new += 1
    if held:
        yield held


def _weight(units: Sequence[Unit]) -> int:
    return sum(unit.weight for unit in units)


def _even(total: int, room: int, overlap: int) -> int:
    """A limit below the room that leaves no small rest for the last passage."""
    if total <= room:
        return room
    passages = -(-total // (room - overlap))
    return min(room, -(-total // passages) + overlap + room // 8)


def _fits(held: Sequence[Unit], size: int, unit: Unit, limit: int) -> bool:
    """Whether a passage of units that weigh ``size`` has room for another."""
    near = not held or unit.end - held[0].start <= limit * CHARACTERS_PER_TOKEN
    return near and size + unit.weight <= limit


def _close(
    text: str, held: list[Unit], new: int, following: Unit, structure: Structure, room: int, overlap: int
) -> tuple[list[Unit], list[Unit], int]:
    """The passage that ends before ``following``, what the next one begins with, and how much of that is new.

    Headings at the end go with what they stand over; else the next one begins with the overlap.
    """
    kinds = [structure.blocks[unit.block].kind for unit in held]
    last = len(held)
    while last > len(held) - new and kinds[last - 1] == HEADING:
        last -= 1
    headings = held[last:]
    if headings and last > len(held) - new and _fits(headings, _weight(headings), following, room):
        return held[:last], headings, len(headings)
    repeated = _repeated(text, held, following, structure, overlap)
    while repeated and not _fits(repeated, _weight(repeated), following, room):
        repeated = repeated[1:]
    return held, repeated, 0


def _repeated(text: str, held: Sequence[Unit], following: Unit, structure: Structure, overlap: int) -> list[Unit]:
    """The last units of a passage that the next may begin with: of the same section, within the overlap, no code."""
    section = structure.blocks[following.block].section
    found: list[Unit] = []
    for unit in reversed(held):
        block = structure.blocks[unit.block]
        if block.section != section or block.kind != TEXT:
            return found
        if unit.weight > overlap:
            words = tail(text, unit, overlap) if overlap and not found else None
            return [words] if words else found
        if unit is held[0]:  # the whole passage again
            return found
        found.insert(0, unit)
        overlap -= unit.weight
    return found
