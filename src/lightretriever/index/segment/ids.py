"""Documents' ids in a segment: one run of UTF-8, and where each of them begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.compiled import compiled
from lightretriever.errors import ArtifactError

_END = 0  # no id holds it


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """The ids of n documents, by place.

    Attributes:
        starts: int64 [n + 1], where each begins in ``text``, and where the last ends.
        text: uint8, all of them, UTF-8.
    """

    starts: NDArray[np.int64]
    text: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name; `of` takes them again."""
        return {"starts": self.starts, "text": self.text}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Ids:
        """Ids whose arrays may be read-only maps. Raises ArtifactError when they do not fit each other."""
        starts, text = plain_view(arrays["starts"]), plain_view(arrays["text"])
        shapes = starts.dtype == np.int64 and text.dtype == np.uint8 and starts.ndim == text.ndim == 1
        if not shapes or not len(starts) or starts[0] or starts[-1] != len(text):
            raise ArtifactError("the ids of the segment do not fit each other: build the segment again")
        return Ids(starts, text)

    def at(self, places: NDArray[np.int32]) -> list[str]:
        """The ids of some places, decoded all at once: one by one, a thousand take longer than they took to find.

        Raises:
            ArtifactError: what is there is no UTF-8.
        """
        if not len(places):
            return []
        starts, ends = self.starts[places], self.starts[places + 1]
        lengths = ends - starts
        if lengths.min() < 0 or starts.min() < 0 or ends.max() > len(self.text):
            raise _damaged("where they begin does not ascend")
        joined = np.empty(int(lengths.sum()) + len(places), np.uint8)
        _join(self.text, starts, ends, joined)
        try:
            ids = str(joined.data[:-1], "utf-8").split(chr(_END))
        except UnicodeDecodeError as error:
            raise _damaged(error.reason) from None
        if len(ids) != len(places):
            raise _damaged("one holds NUL")
        return ids


def _damaged(reason: str) -> ArtifactError:
    return ArtifactError(f"the ids of a segment are damaged ({reason}): build it again")


@compiled()
def _join(text, starts, ends, joined):  # type: ignore[no-untyped-def]
    """The runs of ``text`` between starts and ends, and `_END` after each."""
    at = 0
    for i in range(len(starts)):
        for j in range(starts[i], ends[i]):
            joined[at] = text[j]
            at += 1
        joined[at] = _END
        at += 1


def pack_ids(ids: Sequence[str]) -> Ids:
    """Ids in the order of their places."""
    packed = [name.encode() for name in ids]
    starts = np.zeros(len(packed) + 1, np.int64)
    np.cumsum([len(name) for name in packed], out=starts[1:])
    return Ids(starts, np.frombuffer(b"".join(packed), np.uint8))
