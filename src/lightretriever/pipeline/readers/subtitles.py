"""Subtitles (SubRip, WebVTT): what is said, without timings."""

from __future__ import annotations

import re

from lightretriever.pipeline.readers.content import Content, ReadOptions
from lightretriever.pipeline.readers.decode import decode

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,]\d{1,3}"
_TIMING = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&lrm;": "", "&rlm;": ""}
_PAUSE = 4
"""Seconds of silence after which a new paragraph starts."""


def read_subtitles(data: bytes, options: ReadOptions) -> Content:  # noqa: ARG001
    """The text of all cues; one that repeats the line before, as rolling captions do, is told once.

    Raises:
        UnreadableError: it is not text.
    """
    paragraphs: list[list[str]] = [[]]
    ended, last = 0, ""
    for block in re.split(r"\n[ \t]*\n", decode(data)):
        lines = block.strip("\n").split("\n")
        place = next((place for place, line in enumerate(lines[:3]) if _TIMING.match(line)), None)
        if place is None:
            continue  # a header, a note, a style, or nothing
        timing = _TIMING.match(lines[place])
        started, until = _seconds(timing, 1), _seconds(timing, 4)
        if started - ended >= _PAUSE and paragraphs[-1]:
            paragraphs.append([])
        ended = until
        for line in lines[place + 1 :]:
            said = _plain(line)
            if said and said != last:
                paragraphs[-1].append(said)
                last = said
    return Content("\n\n".join(" ".join(lines) for lines in paragraphs if lines))


def _seconds(timing: re.Match[str] | None, first: int) -> int:
    hours, minutes, seconds = timing.group(first, first + 1, first + 2) if timing is not None else (0, 0, 0)
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)


def _plain(line: str) -> str:
    line = _TAG.sub("", line)
    for entity, letter in _ENTITIES.items():
        line = line.replace(entity, letter)
    return " ".join(line.split())
