"""What a worker and the process of the document tower say to each other: MessagePack, never a pickle."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np

from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, SparseVectors

ADDRESS, SECRET, SETTINGS, FAILED, STARTING, SERVING = (
    "tower.socket",
    "tower.secret",
    "tower.json",
    "tower.failed",
    "tower.starting",
    "serving",
)
"""Files in the folder that a server's processes share: where the tower listens, what proves that one belongs there,
what to load, why that failed, and two locks: of who starts it, and of the server while it runs."""


class TowerSettings(msgspec.Struct, frozen=True):
    """Which tower to load: of an index, or by name alone."""

    model: str
    device: str
    compute: str
    index: str = ""


class Text(msgspec.Struct, frozen=True, array_like=True):
    """A document, as far as a model reads it."""

    id: str
    title: str
    text: str


class Ask(msgspec.Struct, frozen=True, tag_field="ask", tag="model"):
    """Which model it is."""


class AskDocuments(msgspec.Struct, frozen=True, tag_field="ask", tag="documents"):
    """Encode documents."""

    documents: list[Text]


class AskQueries(msgspec.Struct, frozen=True, tag_field="ask", tag="queries"):
    """Encode queries after a prompt; None is the model's own."""

    texts: list[str]
    prompt: str | None


class Reply(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        error: what went wrong, and whether the caller is at fault; "" where nothing did.
        name, revision, dim: of the model.
        rows: dense float32 [n, dim].
        sparse: indptr, indices and values of [n, width]; None where the model has none.
    """

    error: str = ""
    yours: bool = False
    name: str = ""
    revision: str = ""
    dim: int = 0
    rows: bytes = b""
    sparse: tuple[bytes, bytes, bytes] | None = None
    width: int = 0

    def encoded(self) -> Encoded:
        """As arrays that can be written to."""
        dense = np.frombuffer(bytearray(self.rows), np.float32).reshape(-1, self.dim)
        if self.sparse is None:
            return Encoded(dense)
        indptr, indices, values = (bytearray(part) for part in self.sparse)
        sparse = SparseVectors(
            np.frombuffer(indptr, np.int64),
            np.frombuffer(indices, np.int32),
            np.frombuffer(values, np.float32),
            self.width,
        )
        return Encoded(dense, sparse)


Asked = Ask | AskDocuments | AskQueries


def as_texts(documents: list[Document]) -> list[Text]:
    """Documents as they are sent."""
    return [Text(document.id, document.title, document.text) for document in documents]


def address(folder: Path) -> str:
    """Where the tower of a server listens."""
    return rf"\\.\pipe\{folder.name}" if sys.platform == "win32" else str(folder / ADDRESS)
