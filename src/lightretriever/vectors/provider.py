"""Vectors bought or made elsewhere: a ``.npy`` or Parquet file, beside the corpus that they were made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, MissingExtraError
from lightretriever.text.corpus import Document, read_corpus
from lightretriever.types import Encoded

VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "dense", "values")
ID_COLUMNS = ("_id", "id")
_PART = 4096


def read_provider_vectors(
    vectors_path: str | Path, corpus_path: str | Path
) -> Iterator[tuple[list[Document], Encoded]]:
    """Documents of a corpus with their vectors out of a provider's file, streamed in the corpus's order.

    Args:
        vectors_path: a ``.npy`` file [n, d] of floats, its ids in ``NAME.ids.npy``, ``NAME.ids.txt``, ``ids.npy``
            or ``ids.txt`` beside it (text: one a line), or in the order of the corpus where there is none of these;
            or a ``.parquet`` file with a column ``_id`` or ``id`` and a column of lists of floats (named
            ``vector``, ``embedding``, ``embeddings``, ``dense`` or ``values``).
        corpus_path: the corpus, as for `read_corpus`.

    Yields:
        Up to 4,096 documents and their dense vectors, float32 [n, d], unit rows. Vectors that were not of unit
        length are normalised; a warning at the end says how many, and names the first.

    Raises:
        MismatchError: numbers or ids of documents and vectors differ; the first such id is named.
        InputError: a file that cannot be read, or a vector that is zero or not finite, named by its document's id.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    source = Path(vectors_path)
    if not source.is_file():
        raise InputError(f"{source} does not exist")
    if source.suffix == ".npy":
        vectors, ids = _read_npy(source)
    elif source.suffix == ".parquet":
        vectors, ids = _read_parquet(source)
    else:
        raise InputError(f"{source}: vectors are read from .npy or .parquet files")
    rows = {identifier: row for row, identifier in enumerate(ids or ())}
    used = np.zeros(len(vectors), dtype=bool)
    position, scaled, first = 0, 0, ""
    corpus = read_corpus(corpus_path)
    while documents := list(islice(corpus, _PART)):
        chosen = []
        for document in documents:
            row: int | None = position
            if ids is not None and not (position < len(ids) and ids[position] == document.id):
                row = rows.get(document.id)
            if row is None or row >= len(vectors):
                raise MismatchError(
                    f"{source} holds {len(vectors)} vectors, none of them for document {document.id!r} "
                    f"(number {position + 1} of {corpus_path})"
                )
            chosen.append(row)
            position += 1
        used[chosen] = True
        dense = np.asarray(vectors[chosen], dtype=np.float32)
        norms = np.linalg.norm(dense, axis=1)
        for wrong, what in ((~np.isfinite(norms), "holds NaN or infinity"), (norms == 0, "is zero")):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise InputError(
                    f"{source}: the vector of document {documents[row].id!r} (row {chosen[row]}) {what}: make it again"
                )
        other = np.abs(norms - 1) > 1e-3
        if other.any() and not scaled:
            row = int(np.argmax(other))
            first = f"that of document {documents[row].id!r} has length {norms[row]:.4g}"
        scaled += int(other.sum())
        yield documents, Encoded(dense / norms[:, None])
    if not used.all():
        row = int(np.argmin(used))
        name = f"{ids[row]!r} (row {row})" if ids is not None else f"row {row}"
        raise MismatchError(
            f"{source} holds {int((~used).sum())} vectors for no document of {corpus_path}, first {name}"
        )
    if scaled:
        warnings.warn(
            f"{source}: {scaled} of {position} vectors were not of unit length and were normalised: first, {first}",
            stacklevel=2,
        )


def _read_npy(source: Path) -> tuple[NDArray[np.floating], list[str] | None]:
    try:
        vectors = np.load(source, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{source} cannot be read as .npy ({error})") from None
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(
            f"{source} holds {vectors.dtype} of shape {vectors.shape}: floats [documents, dimension] are needed"
        )
    for name in (f"{source.stem}.ids.npy", f"{source.stem}.ids.txt", "ids.npy", "ids.txt"):
        beside = source.with_name(name)
        if not beside.is_file():
            continue
        if beside.suffix == ".txt":
            ids = beside.read_text(encoding="utf-8").splitlines()
        else:
            try:
                ids = [str(value) for value in np.load(beside, allow_pickle=False).tolist()]
            except (ValueError, OSError, EOFError) as error:
                raise InputError(
                    f"{beside} cannot be read as .npy ({error}): ids as numbers or fixed strings"
                ) from None
        if len(ids) != len(vectors):
            raise MismatchError(f"{beside} has {len(ids)} ids, {source} {len(vectors)} vectors: one for each is needed")
        return vectors, ids
    return vectors, None


def _read_parquet(source: Path) -> tuple[NDArray[np.floating], list[str]]:
    try:
        import pyarrow
        from pyarrow import compute, parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "parquet") from None
    try:
        table = parquet.read_table(source)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    id_column = next((name for name in ID_COLUMNS if name in table.column_names), None)
    vector_column = next((name for name in VECTOR_COLUMNS if name in table.column_names), None)
    if id_column is None or vector_column is None:
        raise InputError(
            f"{source} has the columns {', '.join(table.column_names)}: one of {', '.join(ID_COLUMNS)} and one of "
            f"{', '.join(VECTOR_COLUMNS)} are needed"
        )
    ids = [str(value) for value in table.column(id_column).to_pylist()]
    column = table.column(vector_column).combine_chunks()
    try:
        lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
        values = compute.list_flatten(column).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowException:
        raise InputError(f"{source}: column {vector_column} holds {column.type}: lists of floats are needed") from None
    wrong = lengths != (lengths[0] if len(lengths) else 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise MismatchError(
            f"{source}: the vector of {ids[row]!r} has {lengths[row]} dimensions, the first {lengths[0]}"
        )
    return values.reshape(len(ids), -1), ids
