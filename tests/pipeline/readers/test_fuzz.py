"""Broken files of each format: documents or one line, whatever the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_files
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError
from lightretriever.pipeline.readers.formats import contents_of, format_of
from lightretriever.pipeline.readers.reader import Reader
from lightretriever.pipeline.walk import Found

for library in ("pypdfium2", "selectolax", "mammoth", "charset_normalizer"):
    pytest.importorskip(library)

HTML = b"<html><head><title>T</title></head><body><main><h1>A</h1><ul><li>b</ul><pre>c</pre><table><tr><td>d</table>"
RST = b"Title\n=====\n\n.. note::\n\n   text::\n\n     code\n\n.. code-block:: python\n\n   x\n\n``a`` :ref:`b <c>`_\n"
SRT = b"1\n00:00:01,000 --> 00:00:02,500\n<i>Where</i>\n\n2\n00:00:02,600 --> 00:00:03,000\nThere.\n"
MULTIPART = (
    b"From: a@b\nSubject: =?utf-8?q?x?=\nDate: Wed, 01 May 2024 12:00:00 +0000\nMIME-Version: 1.0\n"
    b'Content-Type: multipart/mixed; boundary="zz"\n\n--zz\nContent-Type: text/plain; charset="latin-1"\n'
    b"Content-Transfer-Encoding: base64\n\naGVsbG8=\n--zz\nContent-Type: text/html\n\n<p>x</p>\n--zz--\n"
)
FILES = {
    "a.txt": "naïve text\n".encode("utf-16"),
    "a.md": b"---\ntitle: x\n---\n# A\n```\nb\n```\nC\n===\n",
    "a.rst": RST,
    "a.html": HTML,
    "a.pdf": made_files.pdf([["Some text", "more"], ["Page two"]], "Title"),
    "a.docx": made_files.docx([("Heading1", "A"), ("", "text")], "T"),
    "a.epub": made_files.epub(["<h1>A</h1><p>b</p>"]),
    "a.ipynb": made_files.notebook([("markdown", "# A"), ("code", "b")]),
    "a.eml": MULTIPART,
    "a.mbox": b"From a@b\n" + MULTIPART + b"\nFrom a@b\n" + made_files.message(),
    "a.srt": SRT,
}
SMALL = ReadOptions(max_bytes=1 << 20, max_unpacked=1 << 20, seconds=20)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(SMALL) as reader:
        yield reader


@st.composite
def broken(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with bytes changed, cut out, or repeated; or any bytes after a start that says the format."""
    if draw(st.integers(0, 5)) == 0:
        return whole[: draw(st.integers(0, 8))] + draw(st.binary(max_size=300))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 40))
        match draw(st.integers(0, 3)):
            case 0:
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length] * draw(st.integers(1, 20))
            case _:
                data[place:place] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_files(name: str, data: st.DataObject, reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(broken(FILES[name])))
    try:
        for document in reader.read(Found(path, name, 1, 0)):
            document.text.encode()
            document.title.encode()
            assert "\0" not in document.text + document.title
            assert "\n" not in document.title
            assert document.metadata["path"] == name
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith(str(path))
        assert "reader failed" not in str(error)
        assert "process that reads it ended" not in str(error)


@pytest.mark.parametrize("name", [name for name in FILES if name != "a.pdf"])  # whose C code runs apart
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_readers_raise_nothing_else(name: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(broken(FILES[name])))
    try:
        contents = list(contents_of(path, format_of(path, path.read_bytes()), SMALL))
    except UnreadableError:
        return
    assert all(isinstance(one, Content | UnreadableError) for one in contents)
