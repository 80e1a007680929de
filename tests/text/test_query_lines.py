"""Queries a line each: every line end, bytes that arrive in pieces, and nothing waited for that is there already."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.query_lines import query_lines, read_query_lines


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


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_encodings(encoding: str, size: int) -> None:
    assert read("wo liegt ulm\n\nà bientôt".encode(encoding), size) == [
        ("1", "wo liegt ulm"),
        ("2", ""),
        ("3", "à bientôt"),
    ]


@pytest.mark.parametrize("size", [1, 1000])
def test_json_lines_keep_their_ids(size: int) -> None:
    rows = '\n{"_id": "k7", "text": "red kites"}\n\n{"id": 12, "text": "grün"}'
    assert read(rows.encode(), size) == [("k7", "red kites"), ("12", "grün")]
    with pytest.raises(InputError, match=r"pipe:2: the query has no id"):
        read(b'{"_id": "k7", "text": "red kites"}\n{"text": "owls"}\n', size)
    with pytest.raises(InputError, match=r"pipe:2: not JSON"):
        read(b'{"_id": "k7", "text": "red kites"}\nowls\n', size)


@pytest.mark.parametrize("line", ["{curly} braces in prose", '{"name": "no text"}', '["text"]', '"text"'])
def test_what_only_begins_like_json_is_a_line(line: str) -> None:
    assert read(f"{line}\nnext\n".encode()) == [("1", line), ("2", "next")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"good\nhalf of a line" + bytes(40), "2: a run of NUL bytes"),
        (bytes(40), "nothing but NUL"),
        (gzip.compress(b"good\n"), "compressed"),
        (b"PK\x03\x04\x14\0", "ZIP archive"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(data)
    path = tmp_path / "q.txt"
    path.write_bytes(data)
    if message != "compressed":
        with pytest.raises(InputError, match=message):
            list(query_lines(path))


@pytest.mark.parametrize("data", [b"a\r\nb\n", b"a\rb", b"a\rb\r\r\n", b"10 %\rdone\nb\n", b"\xef\xbb\xbfa\n\n", b""])
def test_a_file_and_a_pipe_are_read_alike(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_bytes(data)
    assert [(query.id, query.text) for query in query_lines(path)] == read(data)
