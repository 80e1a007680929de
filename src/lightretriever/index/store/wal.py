"""What SQLite does not say of its log: that there are commits in it behind a place that is damaged.

When nobody has a file open, the next who opens it reads the log up to the first frame that is not what was written, and
takes what follows for nothing. After a power cut that is right: the last commits had not reached the disk as a whole.
Else it is damage, and commits that were acknowledged go with it. A frame's checksum goes on from that of the one
before, as it is noted there; so those behind a damaged one can be told to be whole.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.store.database import PAGE
from lightretriever.regular_file import file_size

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MAGIC = 0x377F0682  # one more where checksums are of big-endian words
_PAUSE = 0.1  # seconds in which a frame is written that was read as it came


def lost_commits(log: Path) -> int:
    """How many commits are behind a damaged place of a log; 0 where there is none, or no log.

    To be called before the database is opened: that may remove the log.

    Raises:
        OSError: it cannot be read.
    """
    lost = _lost_commits(log)
    if lost:
        time.sleep(_PAUSE)
        lost = min(lost, _lost_commits(log))
    return lost


def _lost_commits(log: Path) -> int:
    if not log.exists() or file_size(log) < _HEADER.size + _FRAME.size + PAGE:
        return 0
    lost = 0
    with log.open("rb") as stream:
        header = stream.read(_HEADER.size)
        magic, _, page, _, one, two, *before = _HEADER.unpack(header)
        words = np.dtype(">u4" if magic & 1 else "<u4")
        damaged = magic & ~1 != _MAGIC or page != PAGE or _sums(header[:24], words, [0, 0]) != before
        if damaged:  # what identifies frames may be wrong: the first says what they have
            one, two, *before = struct.unpack(">4I", stream.read(_FRAME.size)[8:])
            stream.seek(_HEADER.size)
        while len(frame := stream.read(_FRAME.size + PAGE)) == _FRAME.size + PAGE:
            _, commit, *salts = struct.unpack_from(">4I", frame)
            noted = list(struct.unpack_from(">2I", frame, 16))
            whole = salts == [one, two] and _sums(frame[:8] + frame[_FRAME.size :], words, before) == noted
            damaged = damaged or not whole
            lost += bool(damaged and whole and commit)
            before = noted
    return lost


def _sums(content: bytes, words: np.dtype, before: list[int]) -> list[int]:
    first, second = _add_up(np.frombuffer(content, words).astype(np.uint32), np.uint32(before[0]), np.uint32(before[1]))
    return [int(first), int(second)]


@compiled()
def _add_up(words, first, second):  # type: ignore[no-untyped-def]
    for at in range(0, len(words), 2):
        first = np.uint32(first + words[at] + second)
        second = np.uint32(second + words[at + 1] + first)
    return first, second
