"""Vectors of many queries, written while they are encoded: ``.npy`` with a file of ids beside it, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lightretriever.artifact import new_file
from lightretriever.errors import InputError, UsageError
from lightretriever.progress import Progress
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.corpus import Query
from lightretriever.types import Encoded


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        queries: how many.
        empty: how many of them have the zero vector, their texts having no token that counts.
    """

    queries: int
    empty: int


def ids_beside(path: Path) -> Path:
    """Where the ids of ``NAME.npy`` are kept: ``NAME.ids.txt``, an id a line, as `read_provider_vectors` finds them."""
    return path.with_name(f"{path.stem}.ids.txt")


def write_npy(
    path: str | Path, batches: Iterable[Sequence[Query]], encoder: QueryEncoder, progress: Progress | None = None
) -> Written:
    """Write dense vectors, float32 [n, d], as ``.npy``, and the ids beside it; both are complete, or not there.

    Args:
        path: the file; ids go to `ids_beside` it.
        batches: the queries, streamed.
        encoder: the query encoder.
        progress: called with the number written and None.

    Raises:
        InputError: there are no queries, or an id holds a line end.
        UsageError: another file beside it would be read for the ids.
        ArtifactError: the disk is full, or cannot be written for another reason.
    """
    target = Path(path).absolute()
    other = target.with_name(f"{target.stem}.ids.npy")
    if other.exists():
        raise UsageError(f"{other} would be read for the ids of {path}: remove it, or choose another output")
    with (
        new_file(target) as vectors_file,
        new_file(ids_beside(target)) as ids_file,  # renamed first
        vectors_file.open("wb") as file,
        ids_file.open("w", encoding="utf-8", newline="\n") as ids,
    ):
        _write_header(file, 0, encoder.dim)
        count = empty = 0
        for queries in batches:
            dense = encoder.encode_dense([query.text for query in queries])
            file.write(np.ascontiguousarray(dense, dtype="<f4").data)
            ids.writelines(f"{_one_line(query.id)}\n" for query in queries)
            count += len(queries)
            empty += _zeros(dense)
            if progress:
                progress(count, None)
        _check_any(count)
        file.seek(0)
        _write_header(file, count, encoder.dim)
    return Written(count, empty)


def write_json_lines(
    write: Callable[[bytes], object],
    batches: Iterable[Sequence[Query]],
    encoder: QueryEncoder,
    sparse: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write a JSON object a query: ``{"_id": …, "vector": [d numbers]}``, in UTF-8.

    Numbers have the nine digits that give the same float32 again.

    Args:
        write: takes bytes, a batch at a time.
        batches, encoder, progress: as for `write_npy`.
        sparse: also ``"sparse": {"indices": [token ids], "values": [counts]}``.

    Raises:
        InputError: there are no queries.
    """
    count = empty = 0
    form = f"[{', '.join(['%.9g'] * encoder.dim)}]"
    for queries in batches:
        texts = [query.text for query in queries]
        encoded = encoder.encode(texts) if sparse else Encoded(encoder.encode_dense(texts))
        write("".join(_lines(queries, encoded, form)).encode("utf-8", "backslashreplace"))
        count += len(queries)
        empty += _zeros(encoded.dense)
        if progress:
            progress(count, None)
    _check_any(count)
    return Written(count, empty)


def _lines(queries: Sequence[Query], encoded: Encoded, form: str) -> Iterator[str]:
    for row, query in enumerate(queries):
        vector = form % tuple(encoded.dense[row].tolist())
        counts = ""
        if encoded.sparse is not None:
            indices, values = encoded.sparse.row(row)
            whole = [int(value) for value in values.tolist()]  # counts
            counts = f', "sparse": {{"indices": {json.dumps(indices.tolist())}, "values": {json.dumps(whole)}}}'
        yield f'{{"_id": {json.dumps(query.id, ensure_ascii=False)}, "vector": {vector}{counts}}}\n'


def _write_header(file: IO[bytes], rows: int, dim: int) -> None:
    """The header of float32 [rows, dim]; numpy leaves room in it for the number of rows to grow."""
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})


def _one_line(identifier: str) -> str:
    if "\n" in identifier or "\r" in identifier:
        raise InputError(f"the query id {identifier!r} holds a line end, which a file of ids cannot: write JSON lines")
    return identifier


def _zeros(dense: NDArray[np.float32]) -> int:
    return len(dense) - int(dense.any(axis=1).sum())


def _check_any(count: int) -> None:
    if not count:
        raise InputError("there are no queries: nothing is written")
