"""Bytes of text files as text, whatever their encoding."""

from __future__ import annotations

import codecs

from lightretriever.errors import MissingExtraError
from lightretriever.pipeline.readers.content import UnreadableError

_MARKS = (  # of UTF-32 first: its mark starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 16
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_WESTERN = set("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüýŒœ€‚„…‘’“”«»–—°§©®·¿¡ºª£\xa0")


def decode(data: bytes) -> str:
    """The text, line ends as "\\n": by its byte order mark, as UTF-8, or by the encoding that its letters speak for.

    Raises:
        UnreadableError: it is not text.
        MissingExtraError: it is not UTF-8, and there is no ``charset-normalizer``.
    """
    return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    sample = data[:_SAMPLE]
    if sample.translate(None, _CONTROLS) != sample:
        wide = _without_mark(sample)
        if wide is None:
            raise UnreadableError("it is not text")
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        # A letter cut off at the end, or one wrong byte in much that is right, makes no other encoding of it.
        if error.start >= len(data) - 3 or (error.start > 200 and not data[: error.start].isascii()):
            return data.decode("utf-8", "replace")
    return _guessed(data)


def _without_mark(sample: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of Western text is 0, and no letter is a control."""
    half = max(len(sample) // 2, 1)
    for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        zeros, others = sample[first::2].count(0), sample[1 - first :: 2].count(0)
        if zeros > 0.4 * half and not others:
            letters = sample[: 2 * half].decode(encoding, "replace")
            if all(letter.isprintable() or letter.isspace() for letter in letters):
                return encoding
    return None


def _guessed(data: bytes) -> str:
    western = data.decode("cp1252", "replace")
    # Statistics of short texts mislead; letters of Western Europe among ASCII speak for themselves.
    high = [letter for letter in western[:_SAMPLE] if letter > "\x7f"]
    if len(high) < 0.25 * len(western[:_SAMPLE]) and all(letter in _WESTERN for letter in high):
        return western
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise MissingExtraError("reading text that is not UTF-8", "documents") from None
    best = from_bytes(data[:_SAMPLE]).best()
    if best is None:
        return western
    return data.decode(best.encoding, "replace")
