"""The one reader of text files: encodings, compressions, line ends, and what is no text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.compression import open_bytes, split_suffix
from lightretriever.text.lines import open_text, read_lines
from lightretriever.text.signatures import foreign_format, markup

TEXT = "first\nsecond café\n日本\u2028語\u0085x\x0by\n\nlast"
LINES = ["first\n", "second café\n", "日本\u2028語\u0085x\x0by\n", "\n", "last"]
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def lines_of(folder: Path, content: bytes, name: str = "notes.txt") -> list[str]:
    path = folder / name
    path.write_bytes(content)
    numbered = list(read_lines(path))
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    return [line for _, line in numbered]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_say_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert lines_of(tmp_path, TEXT.encode(encoding)) == LINES
    assert lines_of(tmp_path, gzip.compress(TEXT.encode(encoding))) == LINES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_characters_are_known_without_a_mark(tmp_path: Path, encoding: str) -> None:
    assert lines_of(tmp_path, TEXT.encode(encoding)) == LINES
    assert lines_of(tmp_path, ("\ufeff" + TEXT).encode(encoding)) == LINES


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("named", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_the_bytes_say_the_compression_not_the_name(tmp_path: Path, packed: str, named: str) -> None:
    assert lines_of(tmp_path, PACK[packed](TEXT.encode()), f"notes.txt{named}") == LINES
    assert lines_of(tmp_path, TEXT.encode(), f"plain.txt{named}") == LINES


def test_words_that_begin_as_signatures_do_are_text(tmp_path: Path) -> None:
    for word in ("BZhello", "ORC and elf", "PAR1 is a name", "GIF89 was a format", "DUCK"):
        assert lines_of(tmp_path, f"{word}\n".encode()) == [f"{word}\n"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\r\nb\r\n", ["a\r\n", "b\r\n"]),
        (b"a\rb\nc\r", ["a\rb\n", "c\r"]),  # a lone CR is a character where lines end at LF
        (b"a\rb\rc", ["a\r", "b\r", "c"]),  # and ends lines where nothing else does
        ("\ufeffa\rb".encode("utf-16-le"), ["a\r", "b"]),
        (b"", []),
        (b"\xef\xbb\xbf", []),
        (b"\n", ["\n"]),
    ],
)
def test_line_ends(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert lines_of(tmp_path, content) == expected


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("corpus.jsonl", "{}")
    return packed.getvalue()


def array() -> bytes:
    saved = io.BytesIO()
    np.save(saved, np.zeros(3))
    return saved.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(), "a ZIP archive"),
        (array(), "a NumPy array"),
        (b"SQLite format 3\0" + b"\x10" * 84, "an SQLite database"),
        (b"PAR1\x15\x04\x15\x10", "a Parquet file: give it a name that ends in .parquet"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
        (b"\x80\x04\x95\x10\0", "a Python pickle"),
        (b"x.jsonl".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a Git LFS pointer.*run git lfs pull"),
        (b"/annex/objects/SHA256E-s1--ab\n", "a git-annex pointer"),
        (gzip.compress(gzip.compress(b"text")), "compressed twice"),
        (b"\0" * 4096, "nothing but NUL bytes"),
        (b"fine\nhalf a li" + b"\0" * 500, r"notes\.txt:2: a run of NUL bytes: the file was not copied to its end"),
        ("fine\nhalf".encode("utf-16") + b"\0" * 500, r"notes\.txt:2: a run of NUL"),
        ("naïve résumé\n".encode("cp1252"), r":1: not UTF-8 text \(byte 0xef at column 3\): perhaps Windows-1252"),
        ("日本語のテキスト\n".encode("euc-jp"), r":1: not UTF-8 text \(byte .*\): save the file as UTF-8"),
        ("fine\nnot whole: é".encode()[:-1], r":2: not UTF-8 text .*the file ends within a character"),
        (b"\xff\xfea\0\n\0\x00\xd8", "not UTF-16-LE text beyond line 1"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        lines_of(tmp_path, content)
    assert "notes.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt does not exist"):
        list(read_lines(tmp_path / "none.txt"))
    (tmp_path / "a.csv.gz").write_bytes(b"\0\1\2\3\4\5\6\7\x08\x0b")
    with pytest.raises(InputError, match=r"its name ends in \.gz, but its bytes are not compressed so"):
        list(read_lines(tmp_path / "a.csv.gz"))
    packed = gzip.compress(os.urandom(5000))
    (tmp_path / "b.txt").write_bytes(packed[:-30])
    with pytest.raises(InputError, match=r"b\.txt: cannot be read beyond line \d+ \(it was cut off: copy it again\)"):
        list(read_lines(tmp_path / "b.txt"))
    (tmp_path / "c.txt").write_bytes(packed[:200] + b"\xff" * 50 + packed[250:])
    with pytest.raises(InputError, match=r"c\.txt: cannot be read beyond|not UTF-8"):
        list(read_lines(tmp_path / "c.txt"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_opened_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = gzip.compress(TEXT.encode())
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert [line for _, line in read_lines(tmp_path / "pipe")] == LINES
    writer.join()


def test_the_first_look_sees_more_than_an_archives_first_piece(tmp_path: Path) -> None:
    text = "a\rb" + "x" * 100_000 + "\nlast"
    for name, pack in {"": bytes, **PACK}.items():
        assert lines_of(tmp_path, pack(text.encode()), f"a.txt{name}") == [text[:-4], "last"]


def test_lines_before_the_damage_are_there(tmp_path: Path) -> None:
    lines = [f"line {number} {os.urandom(20).hex()}\n" for number in range(3000)]
    for name, pack in PACK.items():
        packed = pack("".join(lines).encode())
        path = tmp_path / f"a.txt{name}"
        path.write_bytes(packed[: len(packed) - 12])
        count = 0
        with pytest.raises(InputError, match=r"beyond line \d+ \(it was cut off: copy it again\)") as caught:
            for count, line in read_lines(path):
                assert line == lines[count - 1]
        assert f"beyond line {count} " in str(caught.value)


def test_chunks_are_the_whole_text(tmp_path: Path) -> None:
    text = "añb\r\n" * 200_000
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "long.txt").write_bytes(text.encode(encoding))
        with open_text(tmp_path / "long.txt") as file:
            assert "".join(file.chunks()) == text
    (tmp_path / "bad.txt").write_bytes(b"ab" * 200_000 + b"\xff")
    with (
        pytest.raises(InputError, match=r"bad\.txt: not UTF-8 text beyond character"),
        open_text(tmp_path / "bad.txt") as file,
    ):
        list(file.chunks())


def test_names_of_formats() -> None:
    assert split_suffix("a/B.JSONL.Gz") == (".jsonl", ".gz")
    assert split_suffix("notes") == ("", "")
    assert foreign_format(b"") is None
    assert markup("\n <!DOCTYPE html>") is not None
    assert markup("<3 this text") is None


@settings(max_examples=80)
@given(
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    packed=st.sampled_from(["", *PACK]),
)
def test_any_text_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, packed: str) -> None:
    text = "The text: " + text.removeprefix("\ufeff")
    content = PACK.get(packed, bytes)(text.encode(encoding))
    assert "".join(lines_of(tmp_path_factory.mktemp("any"), content)) == text


@settings(max_examples=100)
@given(content=st.binary(max_size=300), packed=st.sampled_from(["", *PACK]), cut=st.integers(0, 40))
def test_any_bytes_are_lines_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: str, cut: int
) -> None:
    whole = PACK.get(packed, bytes)(content)
    path = tmp_path_factory.mktemp("bytes") / "a.txt"
    path.write_bytes(whole[: len(whole) - cut])
    try:
        assert all(isinstance(line, str) for _, line in read_lines(path))
    except InputError as error:
        assert "a.txt" in str(error)
        assert "\n" not in str(error)


def test_bytes_are_buffered_however_they_are_packed(tmp_path: Path) -> None:
    for name, pack in {"": bytes, **PACK}.items():
        (tmp_path / f"b{name}").write_bytes(pack(b"x" * 1000))
        with open_bytes(tmp_path / f"b{name}") as file:
            assert file.peek(1)[:1] == b"x"
            assert file.read() == b"x" * 1000


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_old_macs_lines_with_one_line_feed_at_the_end(tmp_path: Path, end: str) -> None:
    rows = ["_id,text", "7,oak", "8,ash"]
    found = lines_of(tmp_path, ("\r".join(rows) + end).encode())
    assert [line.strip("\r\n") for line in found] == rows
    # A line feed elsewhere, or a single carriage return, says that line feeds end lines.
    assert len(lines_of(tmp_path, b"a\rb\rc\nd\n")) == 2
    assert lines_of(tmp_path, b"10 %\rdone\n") == ["10 %\rdone\n"]
