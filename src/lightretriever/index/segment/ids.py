"""Documents' ids in a segment: one run of UTF-8, and where each of them begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.errors import ArtifactError


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
        """The ids of some places.

        Raises:
            ArtifactError: what is there is no UTF-8.
        """
        text = self.text.data
        bounds = zip(self.starts[places].tolist(), self.starts[places + 1].tolist(), strict=True)
        try:
            return [str(text[start:end], "utf-8") for start, end in bounds]
        except UnicodeDecodeError as error:
            raise ArtifactError(f"the ids of a segment are damaged ({error.reason}): build it again") from None


def pack_ids(ids: Sequence[str]) -> Ids:
    """Ids in the order of their places."""
    packed = [name.encode() for name in ids]
    starts = np.zeros(len(packed) + 1, np.int64)
    np.cumsum([len(name) for name in packed], out=starts[1:])
    return Ids(starts, np.frombuffer(b"".join(packed), np.uint8))
