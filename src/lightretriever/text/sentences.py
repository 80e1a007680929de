"""Sentences of a document, by rule: no model, no word lists beyond the abbreviations that end in a full stop."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Written before a name, a number or a continuation, so a capital after them begins no sentence.
_ABBREVIATIONS = frozenset(
    "al approx art assoc capt cf ch chap co col corp dept dr e.g ed eds eq eqs etc ex fig figs ft gen gov hon i.e "
    "inc jr lt ltd messrs mr mrs ms mt no nos op p pl pp prof ref refs rep rev sec sect sen sgt sp spp sr st "
    "tab univ viz vol vols vs".split()
)

_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_PARAGRAPH = re.compile(r"\n[ \t\u00a0\u3000]*\n\s*|\n[ \t]*(?=(?:[-*•‣·–]|\d{1,3}[.)])[ \t])")
# A run of sentence ends with the quotes and brackets that close over it. The CJK ones need no space after.
# Tried at the head of a run only, and possessive: time stays linear whatever the text.
_END = re.compile(
    r"""[。！？｡]++[”’」』）】》〉"')\]]*+"""
    r"""|(?<![.!?…‽؟।॥])(?P<marks>[.!?…‽؟।॥]++)[”’»"')\]]*+(?=\s|$)"""
)
_LONGEST_ABBREVIATION = 64  # characters; looking further back for its beginning would take quadratic time
_NOT_A_START = re.compile(r"[\s\"'“‘«(\[¿¡—–-]+")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order, white space collapsed, none empty.

    Cut after ``.``, ``!``, ``?`` and the like where white space and a new beginning follow (a capital, a digit,
    a script without case; in text without capitals, anything), after CJK full stops anywhere, at blank lines and
    before list items. Not cut after common English abbreviations and initials. Joined by single spaces, the
    sentences hold every character of the text but its white space.
    """
    cased = any(character.isupper() for character in text)
    found: list[str] = []
    for paragraph in _PARAGRAPH.split(_LINE_END.sub("\n", text)):
        found += [paragraph[start:end] for start, end in sentence_spans(paragraph, cased)]
    return [sentence for part in found if (sentence := " ".join(part.split()))]


def sentence_spans(paragraph: str, cased: bool) -> Iterator[tuple[int, int]]:
    """Where the sentences of a paragraph begin and end, by the marks alone; each begins where the last one ended.

    Args:
        cased: whether the whole text has capitals, so that a small letter begins no sentence.
    """
    start = 0
    for end in _END.finditer(paragraph):
        if _ends_sentence(paragraph, start, end, cased):
            yield start, end.end()
            start = end.end()
    if start < len(paragraph):
        yield start, len(paragraph)


def _ends_sentence(text: str, start: int, end: re.Match[str], cased: bool) -> bool:
    """Whether the punctuation matched at ``end`` closes the sentence that began at ``start``."""
    marks = end["marks"]
    if marks is None:  # CJK
        return True
    opening = _NOT_A_START.match(text, end.end())
    following = text[opening.end() : opening.end() + 1] if opening else text[end.end() : end.end() + 1]
    if cased and following.islower():
        return False
    if marks == ".":
        first = max(start, end.start() - _LONGEST_ABBREVIATION)
        begin = max(text.rfind(" ", first, end.start()), text.rfind("\n", first, end.start()), first - 1) + 1
        word = text[begin : end.start()].lstrip("\"'“‘«([")
        if word.lower() in _ABBREVIATIONS or re.fullmatch(r"(?:\w\.)*[^\W\d_]", word):
            return False
    return True
