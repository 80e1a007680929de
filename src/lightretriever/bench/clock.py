"""Timing of systems that take turns, so that a busy machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Call = Callable[[list[str]], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one system took.

    Attributes:
        system: its name.
        way: what was timed: "one at a time", "batches of 32" …
        batch: texts in one call.
        p50, p99: of the calls, seconds a text.
        busy: of the calls, the median of the processor's seconds a text, over all threads of this process: what the
            load of other programs changes little.
        per_second: texts a second: the median over the turns.
        best: texts a second in the best turn: what a machine without other work would give.
        calls: how many were timed.
    """

    system: str
    way: str
    batch: int
    p50: float
    p99: float
    busy: float
    per_second: float
    best: float
    calls: int


def take_turns(
    way: str,
    systems: Mapping[str, Call],
    texts: Sequence[str],
    batches: Mapping[str, int],
    turns: int,
    seconds: float,
    calls: int,
    again: bool = False,
) -> list[Timing]:
    """Time every system, the systems taking turns, each on the texts that follow those of its call before.

    Args:
        way: what the timings are called.
        systems: name to a function of a batch of texts.
        texts: read from the start by each system, and from the start again where they are too few.
        batches: texts in one call of each system.
        turns: that each takes; fewer where one call is so slow that they would take more than ``turns · seconds``.
        seconds: after which a turn makes no further call.
        calls: in one turn, at most.
        again: the same texts in every call: what a system remembers of them, it has at hand.
    """
    places, spent = dict.fromkeys(systems, 0), dict.fromkeys(systems, 0.0)
    found: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in systems}

    def call(name: str) -> tuple[float, float]:
        size, start = batches[name], places[name]
        asked = [texts[i % len(texts)] for i in range(start, start + size)]
        places[name] = 0 if again else start + size
        worked, begun = time.process_time(), time.perf_counter()
        systems[name](asked)
        taken = time.perf_counter() - begun
        return taken, time.process_time() - worked

    for name in systems:
        call(name)  # whatever is loaded or compiled at first
    for _ in range(turns):
        for name in systems:
            if found[name] and spent[name] >= turns * seconds:
                continue
            turn: list[tuple[float, float]] = []
            taken = 0.0
            while len(turn) < calls and (not turn or taken < seconds):
                turn.append(call(name))
                taken += turn[-1][0]
            spent[name] += taken
            found[name].append(turn)
    return [_timing(name, way, batches[name], found[name]) for name in systems]


def _timing(system: str, way: str, batch: int, turns: list[list[tuple[float, float]]]) -> Timing:
    each = np.array([call for turn in turns for call in turn]) / batch  # [calls, 2]: taken, busy
    p50, p99 = np.percentile(each[:, 0], (50, 99))
    rates = [len(turn) * batch / sum(taken for taken, _ in turn) for turn in turns]
    busy = float(np.median(each[:, 1]))
    return Timing(system, way, batch, float(p50), float(p99), busy, float(np.median(rates)), max(rates), len(each))
