"""Fields of a mapping that nobody vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.checked import (
    begun_otherwise,
    choice,
    flag,
    inner_path,
    items,
    mapping,
    number,
    optional,
    plain_name,
    read_fields,
    record_of,
    scalar,
    text,
    whole,
)
from lightretriever.errors import ArtifactError

CHECKS = {
    "rows": whole(1, 1_000),
    "share": number(0, 1),
    "kind": choice("wet", "dry"),
    "open": flag,
    "note": optional(text(20)),
    "sizes": items(whole(), 4),
    "settings": mapping(scalar),
    "part": plain_name,
}
GOOD: dict[str, Any] = {
    "rows": 3,
    "share": 0.5,
    "kind": "dry",
    "open": True,
    "note": None,
    "sizes": [1, 2],
    "settings": {"a": "b", "c": None, "d": 1.5, "e": False},
    "part": "table-2",
}


def read(stored: object) -> dict[str, Any]:
    return read_fields(stored, CHECKS, "folder/file.json", "make it again")


def test_what_is_as_it_should_be_comes_back() -> None:
    assert read(GOOD) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": True}, "'rows' is True, not a whole number from 1 to 1,000"),
        ({"rows": 0}, "'rows' is 0"),
        ({"rows": 10**5000}, "'rows' is a number beyond 64 bits"),
        ({"rows": 3.0}, r"'rows' is 3\.0"),
        ({"share": float("nan")}, "'share' is nan, not a number from 0 to 1"),
        ({"share": 10**400}, "'share' is a number beyond"),
        ({"kind": ["wet"]}, "'kind' is a list, not one of 'wet', 'dry'"),
        ({"open": 1}, "'open' is 1, not true or false"),
        ({"note": "x" * 21}, "'note' is 'x+', not a string of at most 20"),
        ({"note": "\ud800"}, ".*without NUL and surrogates"),
        ({"sizes": [1, -2]}, "'sizes': 1 is -2"),
        ({"sizes": [1] * 5}, "'sizes' is a list, not a list of at most 4"),
        ({"settings": {"deep": {"er": 1}}}, "'settings': 'deep' is an object"),
        ({"part": "../documents"}, r"'part' is '\.\./documents', not a plain file name"),
        ({"\x1b[31m" * 40: 1}, r"'\\x1b\[31m.*… is no field that it can have"),
    ],
)
def test_the_field_at_fault_is_named_on_one_line(change: dict, message: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^folder/file\.json is damaged: {message}.*: make it again$") as raised:
        read({**GOOD, **change})
    assert len(str(raised.value)) < 250
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", list(GOOD))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(ArtifactError, match=f"'{name}' is missing"):
        read({field: value for field, value in GOOD.items() if field != name})


@pytest.mark.parametrize("stored", [None, [], "text", 3])
def test_what_is_no_object_is_refused(stored: object) -> None:
    with pytest.raises(ArtifactError, match="not an object"):
        read(stored)


@dataclass(frozen=True)
class Options:
    name: str
    weight: float = 1.0
    most: int | None = None
    loud: bool = False


def test_a_dataclass_says_what_its_fields_are() -> None:
    check = record_of(Options)
    for good in ({"name": "x"}, {"name": "x", "weight": 2, "most": None}, {"name": "", "most": 3, "loud": True}):
        assert Options(**check(good))
    for bad in ({}, {"name": 1}, {"name": "x", "weight": True}, {"name": "x", "most": "3"}, {"name": "x", "more": 1}):
        with pytest.raises(ValueError, match=r"name|weight|most|more"):
            check(bad)


ROOT = Path("/index")


@given(st.text(st.sampled_from("ab./\\:\0 CON1-…ä\n"), max_size=8) | st.text(max_size=6))
def test_an_inner_path_never_leads_out(path: str) -> None:
    try:
        inner_path(path)
    except ValueError:
        return
    assert ".." not in Path(path).parts
    assert (ROOT / path).is_relative_to(ROOT)
    assert (ROOT / path) != ROOT
    assert "\\" not in path
    assert ":" not in path


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "...",
        "/etc",
        "a/b",
        "a\\b",
        "C:",
        "c:x",
        "nul",
        "COM1.json",
        "x\0",
        "x.",
        "x ",
        "a\nb",
        "x" * 256,
        7,
    ],
)
def test_names_that_are_not_plain(name: object) -> None:
    with pytest.raises(ValueError, match="is "):
        plain_name(name)
    if name not in ("a/b", 7):
        with pytest.raises(ValueError, match="is "):
            inner_path(f"part/{name}" if name else name)


@pytest.mark.parametrize("name", ["table", "shard-12", "bm25-3.safetensors", ".hidden", "console", "Überblick"])
def test_names_that_are_plain(name: str) -> None:
    assert plain_name(name) == name
    assert inner_path(f"part/{name}") == f"part/{name}"


def test_what_was_begun_otherwise_is_said_in_words() -> None:
    assert begun_otherwise("x", "tenant", None, "land") == "x was begun without tenant, now it is 'land'"
    assert begun_otherwise("x", "top_k", 8, None) == "x was begun with top_k 8, now it is without"
    assert begun_otherwise("x", "top_k", 8, 9) == "x was begun with top_k 8, now it is 9"
