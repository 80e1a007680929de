"""Small parts of the server by themselves: reading strictly, rates, limits, tenants."""

from __future__ import annotations

import asyncio
import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from lightretriever.errors import UsageError
from lightretriever.serving.access.keys import ANYONE, Key
from lightretriever.serving.access.limits import parse_limits
from lightretriever.serving.access.rate import Rate
from lightretriever.serving.access.tenants import narrowed
from lightretriever.serving.api.messages import SearchRequest
from lightretriever.serving.http.body import body_lines, check_keys, decode
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.settings import Limits

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_that_everybody_reads_alike_passes(value: object) -> None:
    check_keys(json.dumps(value).encode())


@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_a_key_that_comes_twice_is_found_at_any_depth(value: dict[str, object], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    pairs = [f"{json.dumps(name)}: {json.dumps(member)}" for name, member in value.items()]
    text = "{" + ", ".join([*pairs, f"{json.dumps(key)}: 1"]) + "}"
    for _ in range(data.draw(st.integers(0, 5))):
        text = data.draw(st.sampled_from(["[1, %s]", '{"a": %s}', '[{"b": [%s]}]'])) % text.replace("%", "%%")
        text = text.replace("%%", "%")
    with pytest.raises(Refused, match="twice"):
        check_keys(text.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        decode(body, msgspec.json.Decoder(SearchRequest))
    except Refused as refused:
        assert refused.status in (400, 422)


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line)), st.integers(1, 9))
def test_lines_are_those_that_were_sent_however_they_come(lines: list[bytes], size: int) -> None:
    sent = b"\n".join(lines)
    parts = [sent[start : start + size] for start in range(0, len(sent), size)]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def read() -> list[bytes]:
        return [line async for line in body_lines(receive, Limits())]

    assert asyncio.run(read()) == [line for line in lines if line.strip()]


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"a" * 1000, "more_body": True}

    async def read() -> None:
        async for _ in body_lines(receive, Limits(line=10_000)):
            pass

    with pytest.raises(Refused, match="longer than 10,000"):
        asyncio.run(read())
    assert taken == 11


def test_a_rate_is_kept_by_each_caller() -> None:
    rate = Rate(2.0)
    assert [rate.wait("ann", 0.0) for _ in range(2)] == [0, 0]
    assert rate.wait("ann", 0.0) == pytest.approx(0.5)
    assert rate.wait("bob", 0.0) == 0
    assert rate.wait("ann", 0.5) == 0
    assert rate.wait("ann", 0.6) > 0
    assert [rate.wait("ann", 100.0) for _ in range(3)][:2] == [0, 0]
    assert Rate(0.0).wait("ann") == 0
    many = Rate(1.0)
    for caller in range(20_000):
        many.wait(str(caller), 0.0)
    assert many.wait("19999", 0.0) > 0 and many.wait("0", 0.0) == 0  # who asked long ago is forgotten


def test_limits_are_named_by_the_command_line() -> None:
    found = parse_limits(["k=50", "seconds=2.5", "body=1000"])
    assert (found.k, found.seconds, found.body, found.batch) == (50, 2.5, 1000, Limits().batch)
    for wrong in ("k", "k=", "k=1.5", "what=1", "rate=-1"):
        with pytest.raises(UsageError):
            parse_limits([wrong])


def test_a_tenants_condition_is_added_never_replaced() -> None:
    ann = Key("", "", "read", "ann")
    assert narrowed("owner", ann, None, None) == {"owner": "ann"}
    assert narrowed("owner", ann, "ann", {"owner": "bob"}) == {"$and": [{"owner": "ann"}, {"owner": "bob"}]}
    assert narrowed("owner", ANYONE, "bob", {}) == {"owner": "bob"}
    assert narrowed("owner", ANYONE, None, {"x": 1}) == {"x": 1}
    assert narrowed(None, ANYONE, None, {}) is None
    for key, tenant, field, status in [
        (ann, "bob", "owner", 403),
        (ann, None, None, 403),
        (ANYONE, "bob", None, 422),
        (Key("", "", "read", True), 1, "owner", 403),
    ]:
        with pytest.raises(Refused) as refused:
            narrowed(field, key, tenant, None)
        assert refused.value.status == status
