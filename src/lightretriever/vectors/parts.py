"""One part of a vectors folder: some documents and their vectors in two files, known by their checksums."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from lightretriever.artifact import fsync_path, load_tensors, new_file, save_tensors, sha256_bytes, sha256_file
from lightretriever.checked import Check, read_fields, text, whole
from lightretriever.errors import ArtifactError, InputError, MismatchError, UsageError
from lightretriever.regular_file import file_size, read_file
from lightretriever.text.corpus import Document, given_document
from lightretriever.types import Encoded, SparseVectors

DONE = "done.jsonl"
_HALF = 1e-3  # how far from 1 rounding to float16 may bring a length


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part, as a line of ``done.jsonl`` records it.

    Attributes:
        documents: how many it holds.
        zeros: how many of them have the zero row as their dense vector.
        vectors, packed: SHA-256 of its two files.
        content: SHA-256 of its documents' JSON lines before they were compressed.
    """

    documents: int
    zeros: int
    vectors: str
    packed: str
    content: str


def check_vectors(ids: list[str], encoded: Encoded, dim: int, *, zeros: bool = False) -> None:
    """Refuse vectors that no search could use.

    Args:
        ids: the documents', n of them.
        encoded: their vectors.
        dim: d.
        zeros: whether a dense vector may be zero: what a tower gives for a text of no tokens.

    Raises:
        MismatchError: not one vector for each id, or another dimension than ``dim``.
        InputError: NaN or infinity, or a dense vector that is not of unit length; names the first such id.
    """
    dense, sparse = encoded.dense, encoded.sparse
    if dense.ndim != 2 or len(dense) != len(ids):
        raise MismatchError(f"{len(ids)} documents, dense vectors of shape {dense.shape}: one for each is needed")
    if dense.shape[1] != dim:
        raise MismatchError(f"the dense vectors have {dense.shape[1]} dimensions, {dim} are needed")
    norms = np.linalg.norm(dense.astype(np.float32), axis=1)
    long = abs(norms - 1) > 1e-2
    if zeros:
        long &= norms > 0
    for wrong, what in ((~np.isfinite(norms), "holds NaN or infinity"), (long, "is not of unit length")):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"document {ids[row]!r}: its dense vector {what} (norm {norms[row]:.4g}): encode it again")
    if sparse is None:
        return
    if len(sparse) != len(ids):
        raise MismatchError(f"{len(ids)} documents, {len(sparse)} sparse vectors: one for each is needed")
    bad = ~np.isfinite(sparse.values)
    if bad.any():
        row = int(np.searchsorted(sparse.indptr, np.argmax(bad), side="right")) - 1
        raise InputError(f"document {ids[row]!r}: its sparse vector holds NaN or infinity: encode it again")
    if len(sparse.indices) and not 0 <= sparse.indices.min() <= sparse.indices.max() < sparse.width:
        raise InputError(f"sparse vectors have token ids outside 0 … {sparse.width - 1}: encode the documents again")


def usable(encoded: Encoded, dim: int, rotation: NDArray[np.float32] | None = None) -> Encoded:
    """What a tower gave, as an index can use it.

    Dense rows are multiplied by ``rotation`` [d, dim] where the index's table has one, else cut to their first ``dim``
    dimensions (Matryoshka), and normalised, which not every tower does: those that are of unit length, as far as
    float16 can tell, stay as they came. A row that is not finite becomes the zero row, which no dense search finds.
    Sparse weights that are not finite and positive are left out.
    """
    dense = encoded.dense.astype(np.float32)
    dense = dense[:, :dim] if rotation is None else dense @ rotation
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    good = np.isfinite(norms) & (norms > 0)
    scaled = dense / np.where(good, norms, 1)
    dense = np.where(good, np.where(abs(norms - 1) < _HALF, dense, scaled), 0).astype(np.float32)
    return Encoded(dense, positive(encoded.sparse))


def positive(sparse: SparseVectors | None) -> SparseVectors | None:
    """Without the weights that are not finite and positive, by which nothing is found."""
    if sparse is None:
        return None
    kept = np.isfinite(sparse.values) & (sparse.values > 0)
    if kept.all():
        return sparse
    before = np.concatenate([[0], np.cumsum(kept)])
    indptr = before[sparse.indptr].astype(np.int64)
    return SparseVectors(indptr, sparse.indices[kept], sparse.values[kept], sparse.width)


def content_lines(documents: list[Document]) -> bytes:
    """The documents as JSON lines in UTF-8."""
    rows = ({"id": d.id, "title": d.title, "text": d.text, "metadata": dict(d.metadata)} for d in documents)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def write_part(shard: Path, number: int, documents: list[Document], encoded: Encoded, dtype: np.dtype) -> Part:
    """Write both files, then the line in ``done.jsonl``, each fsynced before the next. Raises OSError."""
    vectors_file, documents_file = _names(shard, number)
    tensors: dict[str, np.ndarray] = {"dense": encoded.dense.astype(dtype)}
    if encoded.sparse is not None:
        tensors["sparse.indptr"] = encoded.sparse.indptr.astype(np.int64)
        tensors["sparse.indices"] = encoded.sparse.indices.astype(np.int32)
        tensors["sparse.values"] = _as_stored(encoded.sparse.values, dtype)
    save_tensors(vectors_file, tensors)
    content = content_lines(documents)
    packed = zstandard.ZstdCompressor(level=3).compress(content)
    with new_file(documents_file) as temporary:
        temporary.write_bytes(packed)
    zeros = len(documents) - int(encoded.dense.any(axis=1).sum())
    part = Part(len(documents), zeros, sha256_file(vectors_file), sha256_bytes(packed), sha256_bytes(content))
    with (shard / DONE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(part)) + "\n")
    fsync_path(shard / DONE)
    return part


def read_done(shard: Path, *, repair: bool = False) -> list[Part]:
    """The finished parts of a shard, in order.

    Args:
        shard: the worker's folder.
        repair: drop a last line that a crash cut short from the file, so that its part is written anew.

    Raises:
        ArtifactError: the list is damaged.
    """
    file = shard / DONE
    if not os.path.lexists(file):
        return []
    with reading(file):
        data = read_file(file, _LONGEST_DONE)
    whole = data[: data.rfind(b"\n") + 1]
    if repair and len(whole) < len(data):
        with new_file(file) as temporary:
            temporary.write_bytes(whole)
    return [_read_part(line, f"{file}, line {number}") for number, line in enumerate(whole.split(b"\n")[:-1], 1)]


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Make one ArtifactError, which names the file, of what the system says when it cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{file} is missing: restore it, or encode again") from None
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}): see to it, or encode again") from None


def _read_part(line: bytes, where: str) -> Part:
    try:
        stored = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else error
        raise ArtifactError(f"{where} is damaged ({reason}): {_WAY_OUT}") from None
    part = Part(**read_fields(stored, _CHECKS, where, _WAY_OUT))
    if part.zeros > part.documents:
        raise ArtifactError(f"{where} is damaged: {part.zeros} zeros among {part.documents} documents: {_WAY_OUT}")
    return part


def _sha256(value: Any) -> str:
    digest = text(64)(value)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("is no SHA-256")
    return digest


_LONGEST_DONE = 256 << 20  # bytes: half a million parts
_WAY_OUT = "encode again to another output"
_CHECKS: dict[str, Check] = {
    "documents": whole(1, 1 << 31),
    "zeros": whole(0, 1 << 31),
    **dict.fromkeys(("vectors", "packed", "content"), _sha256),
}


def check_size(shard: Path, number: int, part: Part, dim: int, dtype: str) -> None:
    """Refuse a part whose files cannot hold what its line says, before anything is made as large as that.

    Raises:
        ArtifactError: a file is missing, or too small; it is named.
    """
    vectors, packed = _names(shard, number)
    for file, least in ((vectors, part.documents * dim * np.dtype(dtype).itemsize), (packed, 1)):
        with reading(file):
            size = file_size(file)
        if size < least:
            raise ArtifactError(f"{file} is damaged (too small for {part.documents} documents): restore it")


def read_documents(shard: Path, number: int, part: Part) -> list[Document]:
    """The documents of a part. Raises ArtifactError when the file is missing or damaged."""
    file = _names(shard, number)[1]
    _check_file(file, part.packed)
    try:
        content = zstandard.ZstdDecompressor().decompress(file.read_bytes())
        rows = [json.loads(line) for line in content.decode("utf-8").split("\n") if line]
        good = all(map(_is_document, rows))
    except (zstandard.ZstdError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"{file} holds no documents ({reason[:100]}): restore it, or encode again") from None
    if not good or len(rows) != part.documents:
        raise ArtifactError(f"{file} does not hold {part.documents} documents: restore it, or encode again")
    try:
        return [given_document(Document(**row)) for row in rows]
    except (InputError, UsageError) as error:  # the checksum is that of whoever wrote it, and may be anybody's
        raise ArtifactError(f"{file} holds a document that cannot be: {error}") from None


_FIELDS = {"id": str, "title": str, "text": str, "metadata": dict}


def _is_document(row: object) -> bool:
    """Whether a line is what `content_lines` writes."""
    return (
        isinstance(row, dict)
        and row.keys() == _FIELDS.keys()
        and all(isinstance(row[name], kind) for name, kind in _FIELDS.items())
    )


def read_vectors(shard: Path, number: int, part: Part, dim: int, width: int | None) -> Encoded:
    """The vectors of a part as float32, dense rows of unit length or zero. Raises ArtifactError as `read_documents`."""
    file = _names(shard, number)[0]
    _check_file(file, part.vectors)
    tensors = load_tensors(file)
    try:
        return _checked_vectors(tensors, part.documents, dim, width)
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{file} does not hold the vectors that it should ({error}): encode again") from None


def _checked_vectors(tensors: dict[str, np.ndarray], n: int, dim: int, width: int | None) -> Encoded:
    sparse = {"sparse.indptr", "sparse.indices", "sparse.values"} if width is not None else set()
    if tensors.keys() != {"dense", *sparse}:
        raise ValueError(f"it has {', '.join(sorted(tensors))}")
    stored = tensors["dense"]
    if stored.shape != (n, dim) or stored.dtype.kind != "f":
        raise ValueError(f"dense is {stored.dtype} {stored.shape}, floats of {n} × {dim} are needed")
    dense = stored.astype(np.float32)
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError("dense holds NaN or infinity")
    dense /= np.where(norms > 0, norms, 1)  # float16 rounds the length by up to 5e-4
    if width is None:
        return Encoded(dense)
    indptr, indices = tensors["sparse.indptr"], tensors["sparse.indices"]
    values = tensors["sparse.values"].astype(np.float32)
    whole_numbers = indptr.dtype == np.int64 and indices.dtype == np.int32 and indptr.shape == (n + 1,)
    if not whole_numbers or indices.ndim != 1 or values.shape != indices.shape or not np.isfinite(values).all():
        raise ValueError("the sparse vectors are no rows of finite numbers")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise ValueError("the sparse vectors' rows do not follow one another")
    if len(indices) and not 0 <= indices.min() <= indices.max() < width:
        raise ValueError(f"sparse vectors have token ids outside 0 … {width - 1}")
    return Encoded(dense, SparseVectors(indptr, indices, values, width))


def _names(shard: Path, number: int) -> tuple[Path, Path]:
    return shard / f"part-{number:06d}.safetensors", shard / f"part-{number:06d}.jsonl.zst"


def _as_stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Weights in the storage dtype; one that float16 would round to zero becomes its smallest, since none is zero."""
    stored = values.astype(dtype)
    vanished = (stored == 0) & (values != 0)
    stored[vanished] = np.copysign(np.finfo(dtype).smallest_subnormal, values[vanished])
    return stored


def _check_file(file: Path, sha256: str) -> None:
    with reading(file):
        found = sha256_file(file)
    if found != sha256:
        raise ArtifactError(f"{file} is damaged (its checksum differs): restore it, or encode again")
