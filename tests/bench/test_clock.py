"""Systems take turns, on texts that are new to them, and a slow one takes fewer."""

from __future__ import annotations

import time

from lightretriever.bench.clock import take_turns

TEXTS = [str(i) for i in range(12)]


def test_turns_alternate_and_texts_go_on_where_they_ended() -> None:
    asked: list[tuple[str, list[str]]] = []
    systems = {name: lambda texts, name=name: asked.append((name, texts)) for name in ("a", "b")}
    first, second = take_turns("w", systems, TEXTS, {"a": 2, "b": 5}, turns=3, seconds=60, calls=1)
    assert [name for name, _ in asked] == ["a", "b"] * 4  # once to warm up, then three turns of one call
    assert [texts for name, texts in asked if name == "a"] == [TEXTS[0:2], TEXTS[2:4], TEXTS[4:6], TEXTS[6:8]]
    assert [texts for name, texts in asked if name == "b"][2] == ["10", "11", "0", "1", "2"]
    assert (first.system, first.way, first.batch, first.calls) == ("a", "w", 2, 3)
    assert (second.system, second.batch, second.calls) == ("b", 5, 3)


def test_the_same_texts_again() -> None:
    asked: list[list[str]] = []
    take_turns("w", {"a": asked.append}, TEXTS, {"a": 5}, turns=3, seconds=60, calls=1, again=True)
    assert asked == [TEXTS[:5]] * 4


def test_a_turn_ends_after_its_calls_or_its_seconds_and_a_slow_system_has_fewer() -> None:
    systems = {"quick": lambda _: None, "slow": lambda _: time.sleep(0.06)}
    quick, slow = take_turns("w", systems, TEXTS, dict.fromkeys(systems, 1), turns=4, seconds=0.02, calls=7)
    assert slow.calls in (1, 2)  # a call is three turns' time: after two, more than all four's is spent
    assert slow.calls < quick.calls <= 4 * 7
    assert 0.06 <= slow.p50 <= slow.p99
    assert slow.busy < 0.03  # asleep, not at work
    assert slow.per_second <= slow.best <= 1 / 0.06
    assert quick.per_second > slow.per_second
