"""Queries a line each: every line end, bytes that arrive in pieces, and nothing waited for that is there already."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.query_lines import read_query_lines


class Pieces(io.RawIOBase):
    """A stream that gives its bytes in pieces of a given size, as a pipe does."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def read1(self, _: int) -> bytes:
        return self._data.read(self._size)


def read(data: bytes, size: int = 1000) -> list[tuple[str, str]]:
    return [(query.id, query.text) for group in read_query_lines(Pieces(data, size), "pipe") for query in group]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_of_every_kind(end: str, mark: str, size: int) -> None:
    text = mark + end.join(["wo liegt köln", "", "東京 a\u2028b"])
    expected = [("1", "wo liegt köln"), ("2", ""), ("3", "東京 a\u2028b")]
    assert read(text.encode(), size) == expected
    assert read((text + end).encode(), size) == expected
    assert read(b"") == []


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0\ufeff", codec="utf-8"))), st.integers(1, 40))
def test_any_lines_come_through(lines: list[str], size: int) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    assert read(data, size) == [(str(number), line) for number, line in enumerate(lines, 1)]


def test_what_waits_in_a_pipe_is_given_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sender:
        groups = read_query_lines(stream, "pipe")
        for number, line in enumerate(["first", "second"], 1):
            sender.write(f"{line}\n".encode())
            assert [(query.id, query.text) for query in next(groups)] == [(str(number), line)]


def test_other_encodings_are_refused() -> None:
    with pytest.raises(InputError, match="pipe: line 2 or near it: not UTF-8 text"):
        read("good\ngrün\n".encode("latin-1"))
