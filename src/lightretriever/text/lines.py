"""Every text file that a user names is read here: what it is, its encoding, its compression, where its lines end.

Lines end at LF or CR LF. In a file whose beginning has no LF at all, or but one at its very end, they end at CR, as on
old Macs; in any other file a lone CR is a character of its line. Nothing else ends a line: U+0085, U+2028 and U+2029
may be in JSON strings.

The encoding is UTF-8, or what a byte order mark says, or UTF-16 or UTF-32 without one where the first characters show
it. Whatever else a file may be (an archive, a Git LFS pointer, a copy that was cut off) is refused by its name.
"""

from __future__ import annotations

import codecs
import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.paths import absolute
from lightretriever.text.compression import CHUNK, UNREADABLE, compression_of, open_bytes, split_suffix
from lightretriever.text.signatures import foreign_format

_MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_HOLE = b"\0" * 16
"""No text has as many NUL in a row: a copy that was cut off does, in place of what did not arrive."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """An open file of text, to be read once, by lines or by chunks.

    Attributes:
        path: as the user named it.
        stream: its bytes, decompressed, after the byte order mark.
        encoding: a codec's name, "utf-8" mostly.
        line_end: "\\n", which "\\r\\n" ends with too, or "\\r".
        head: the first characters, a quarter of a megabyte at most.
    """

    path: str | Path
    stream: io.BufferedReader
    encoding: str
    line_end: str
    head: str

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number (the first being 1) and text of every line, its line end kept.

        Raises:
            InputError: what is wrong with the file, and in which line.
        """
        with _explained(self.path, "line") as place:
            if self.encoding != "utf-8" or self.line_end != "\n":
                yield from self._decoded_lines(place)
                return
            for number, raw in enumerate(self.stream, 1):
                if b"\0" in raw and _HOLE in raw:
                    raise _hole(f"{self.path}:{number}")
                line = raw.decode()
                place.number = number
                yield number, line

    def chunks(self) -> Iterator[str]:
        """The text in pieces of no particular length, as long as it lasts.

        Raises:
            InputError: what is wrong with the file.
        """
        with _explained(self.path, "character") as place, self._decoded() as text:
            while piece := text.read(CHUNK):
                check_hole(piece, str(self.path))
                place.number += len(piece)
                yield piece

    def _decoded_lines(self, place: _Place) -> Iterator[tuple[int, str]]:
        with self._decoded() as text:
            for number, line in enumerate(text, 1):
                check_hole(line, f"{self.path}:{number}")
                place.number = number
                if line != "\n" or self.line_end == "\n":  # after a last CR it ends no line of its own
                    yield number, line

    def _decoded(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.stream, self.encoding, newline=self.line_end)


@dataclass(slots=True)
class _Place:
    """How many lines, or characters, were read."""

    number: int = 0


@contextmanager
def open_text(path: str | Path | int, shown: str | Path | None = None, western: bool = False) -> Iterator[TextFile]:
    """Open a file of text, whatever its encoding and compression.

    Args:
        path: the file, or the descriptor of an open one.
        shown: its name in messages, where that is not the path: as the user typed it.
        western: read what is no UTF-8, but looks like Windows-1252 from its beginning on, as that, with a warning.

    Raises:
        InputError: there is none, or it is no text; the message says what it is.
    """
    shown = str(path) if shown is None else shown
    with ExitStack() as stack:
        with _explained(shown, "line"):
            stream = stack.enter_context(open_bytes(path))
            head = stream.peek(CHUNK)
            check_head(shown, head)
            mark, encoding = encoding_of(head)
            if western and encoding == "utf-8" and not mark and _is_western(head):
                encoding = "cp1252"
                warnings.warn(f"{shown}: read as Windows-1252, since it is not UTF-8", stacklevel=4)
            stream.read(len(mark))
        head = head[len(mark) :]
        suffix = "" if isinstance(path, int) else split_suffix(path)[1]
        if suffix and encoding == "utf-8" and any(byte < 9 for byte in head[:64]):
            raise InputError(f"{shown}: its name ends in {suffix}, but its bytes are not compressed so")
        start = head.decode(encoding, "replace")
        yield TextFile(shown, stream, encoding, line_end_of(start), start)


def read_lines(path: str | Path, shown: str | Path | None = None) -> Iterator[tuple[int, str]]:
    """Line number (the first being 1) and text of every line, its line end kept; see above for what ends one.

    The path means what it does now, whenever the lines are taken. Arguments as of `open_text`.

    Raises:
        InputError: the file is absent, no text, damaged or cut off; file and line are named.
    """
    return _lines(absolute(path), path if shown is None else shown)


def _lines(source: Path, shown: str | Path) -> Iterator[tuple[int, str]]:
    with open_text(source, shown) as file:
        yield from file.lines()


def encoding_of(head: bytes) -> tuple[bytes, str]:
    """The byte order mark that a text begins with, perhaps none, and its encoding, as Python names it."""
    return next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", _unmarked(head)))


def line_end_of(start: str) -> str:
    """What ends the lines of a text that begins so: "\\n", which "\\r\\n" ends with too, or "\\r"."""
    if "\n" not in start:
        return "\r" if "\r" in start else "\n"
    # An editor may have added the one LF of a file from an old Mac.
    alone = start.find("\n") == len(start) - 1 and start.count("\r") - start.endswith("\r\n") > 1
    return "\r" if alone else "\n"


def check_hole(text: str, where: str) -> None:
    """Raise InputError where a text has what a copy that was cut off has in place of its end."""
    if _HOLE.decode() in text:
        raise _hole(where)


def not_utf8(error: UnicodeDecodeError, where: str) -> InputError:
    """What to raise for a line at ``where`` that is not UTF-8."""
    line, byte = error.object, error.object[error.start]
    place = f"{where}: not UTF-8 text (byte 0x{byte:02x} at column {error.start + 1})"
    if error.reason == "unexpected end of data" and not line.endswith(b"\n"):
        return InputError(f"{place}: the file ends within a character, so it was cut off: copy it again")
    if _looks_western(line):
        return InputError(
            f"{place}: perhaps Windows-1252, as spreadsheets save it: save the file as UTF-8, or convert it by "
            "iconv -f CP1252 -t UTF-8"
        )
    return InputError(f"{place}: save the file as UTF-8")


def _is_western(head: bytes) -> bool:
    """Whether a file that begins so is not UTF-8, and looks like Windows-1252."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which a letter cut off at the end does not trouble
    except UnicodeDecodeError:
        return _looks_western(head)
    return False


def _looks_western(data: bytes) -> bool:
    """Whether bytes are text in Windows-1252: few of them beyond ASCII, all of these characters there."""
    text = data.decode("cp1252", "replace")
    foreign = sum(not character.isascii() for character in text)
    return foreign <= len(data) // 4 and "\ufffd" not in text and not any(byte < 9 for byte in data)


def check_head(path: str | Path, head: bytes) -> None:
    """Raise InputError where the first bytes, decompressed, are of no text, and say of what they are."""
    what = foreign_format(head)
    if what is not None:
        raise InputError(f"{path}: {what}")
    if compression_of(head):
        raise InputError(f"{path}: this is compressed twice: unpack it first")
    if len(head) >= len(_HOLE) and not head.strip(b"\0"):
        raise InputError(f"{path} holds nothing but NUL bytes: it was not copied as a whole, copy it again")


def _unmarked(head: bytes) -> str:
    """The encoding of a text without a byte order mark: wide where both first characters are ASCII in it."""
    for name in _WIDE:
        size = 8 if name.startswith("utf-32") else 4
        try:
            first = head[:size].decode(name)
        except UnicodeDecodeError:
            continue
        if len(first) == 2 and first.isascii() and "\0" not in first:
            return name
    return "utf-8"


def _hole(where: str) -> InputError:
    return InputError(f"{where}: a run of NUL bytes: the file was not copied to its end, copy it again")


@contextmanager
def _explained(path: str | Path, unit: str) -> Iterator[_Place]:
    """Turn what reading a file may raise into one line of words; ``place`` is where the reader has come to."""
    place = _Place()
    try:
        yield place
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: name a file") from None
    except UnicodeDecodeError as error:
        if error.encoding == "utf-8" and unit == "line":
            raise not_utf8(error, f"{path}:{place.number + 1}") from None
        raise InputError(f"{path}: not {error.encoding.upper()} text beyond {unit} {place.number}") from None
    except UNREADABLE as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or (
            "it was cut off: copy it again" if isinstance(error, EOFError) else "its compressed bytes are damaged"
        )
        raise InputError(f"{path}: cannot be read beyond {unit} {place.number} ({reason})") from None
