"""The tower's vectors of texts, kept on disk: a second fit, or one that was interrupted, encodes only what is new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import load_tensors, save_tensors, sha256_bytes
from lightretriever.errors import ArtifactError
from lightretriever.paths import absolute
from lightretriever.tables.bags import text_key

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_CHUNK = 1024  # texts encoded, and written, at a time


def _folder_of(tower: DocumentEncoder, prompt: str, cache: str | Path) -> Path:
    """The folder in ``cache`` of vectors that this tower gives under this prompt."""
    settings = (tower.name, tower.revision, str(tower.max_length), tower.dtype, prompt)
    return absolute(cache) / sha256_bytes("\n".join(settings).encode("utf-8", "surrogatepass"))[:32]


def encode_cached(
    tower: DocumentEncoder,
    texts: Sequence[str],
    prompt: str,
    cache: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> NDArray[np.float32]:
    """The symmetric query vectors of texts, float32 [n, d], through a folder that may be deleted at any time.

    Args:
        tower, prompt: what a vector depends on besides its text; each pair has a folder of its own in ``cache``.
        texts: distinct.
        cache: the folder; None keeps nothing. A file of it that cannot be read is passed over and made again.
        progress: called with texts encoded so far and n.
    """
    vectors = np.empty((len(texts), tower.dim), dtype=np.float32)
    missing = np.arange(len(texts))
    folder = None
    if cache is not None:
        folder = _folder_of(tower, prompt, cache)
        place = {text_key(text): row for row, text in enumerate(texts)}
        for file in sorted(folder.glob("*.safetensors")):
            try:
                held = load_tensors(file)
            except ArtifactError:
                continue
            for key, vector in zip(held["keys"], held["vectors"], strict=True):
                row = place.pop(key.tobytes(), None)
                if row is not None:
                    vectors[row] = vector
        missing = np.array(sorted(place.values()), dtype=np.int64)
    for start in range(0, len(missing), _CHUNK):
        if progress:
            progress(len(texts) - len(missing) + start, len(texts))
        rows = missing[start : start + _CHUNK]
        chunk = [texts[row] for row in rows]
        vectors[rows] = tower.encode_queries(chunk, prompt)
        if folder is not None:
            keys = np.frombuffer(b"".join(map(text_key, chunk)), dtype=np.uint8).reshape(-1, 16)
            tensors: dict[str, np.ndarray] = {"keys": keys, "vectors": vectors[rows]}
            save_tensors(folder / f"{sha256_bytes(keys.tobytes())[:32]}.safetensors", tensors)
    if progress and len(texts):
        progress(len(texts), len(texts))
    return vectors
