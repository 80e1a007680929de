"""Rows of documents with their vectors, out of one Parquet file, or of JSON lines, CSV or TSV; streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError
from lightretriever.text.compression import split_suffix
from lightretriever.text.parquet import batch_rows, open_parquet, read_batches
from lightretriever.text.rows import FORMATS, read_rows
from lightretriever.vectors.columns import VECTOR_NAMES, Columns

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, object]
Block = tuple[list[str], list[Row], NDArray[np.floating]]
"""Where each of n rows was read, their fields but the vectors, and the vectors [n, d]."""

_ROWS = 1024  # read at once


def is_table(source: Path) -> bool:
    """Whether a file's name says that it has rows with named fields."""
    return split_suffix(source)[0] in FORMATS


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's schema, or its first row, says of its columns.

    Attributes:
        names: all of them.
        vectors: those that hold lists of numbers.
        strings: those that hold strings, of JSON arrays perhaps.
    """

    names: list[str]
    vectors: list[str]
    strings: list[str]


def read_header(source: Path) -> Header:
    """Look at a file's columns.

    Raises:
        InputError: the file is absent, unreadable, or has no rows.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    if split_suffix(source) == (".parquet", ""):
        with open_parquet(source) as file:
            schema = file.schema_arrow
            vectors = [field.name for field in schema if _is_vector(field.type)]
            return Header(schema.names, vectors, [field.name for field in schema if _is_string(field.type)])
    _, row = next(iter(read_rows(source, wanted=())), ("", None))
    if row is None:
        raise InputError(f"{source} holds no rows")
    vectors = [name for name, value in row.items() if _are_numbers(value)]
    if not vectors:  # the first row's may be missing, which its reader says
        usual = (name for name in row if name.strip().lower() in VECTOR_NAMES[1])
        vectors = [name for name in usual if row[name] is None or isinstance(row[name], list)]
    strings = [name for name, value in row.items() if isinstance(value, str) and value.lstrip().startswith("[")]
    return Header(list(row), vectors, strings)


def table_columns(source: Path, columns: Columns = Columns()) -> Columns:
    """Which columns of a file hold what; see `Columns.among`. Raises as that and `read_header`."""
    header = read_header(source)
    found = columns.among(header.names, header.vectors, source)
    if found.vector is not None:
        return found
    # No lists: strings under a vector's name, JSON arrays presumably.
    named = [name for name in header.strings if name.strip().lower() in VECTOR_NAMES[1]]
    return columns.among(header.names, named, source)


def read_blocks(source: Path, columns: Columns, wanted: Sequence[str] | None = None) -> Iterator[Block]:
    """The rows, block by block, every vector finite or not as it is, all of one dimension.

    Args:
        source: the file.
        columns: as `table_columns` gave them.
        wanted: fields to read besides the vector; None for all.

    Raises:
        InputError: a row without a vector, or with something else in its place; it names the row.
        MismatchError: a vector of another dimension than the first; it names the row.
    """
    assert columns.vector is not None
    blocks = _parquet_blocks if split_suffix(source) == (".parquet", "") else _row_blocks
    dim: int | None = None
    for places, rows, vectors in blocks(source, columns.vector, wanted):
        dim = vectors.shape[1] if dim is None else dim
        if vectors.shape[1] != dim:
            raise _ragged(places[0], vectors.shape[1], dim)
        yield places, rows, vectors


def _row_blocks(source: Path, vector: str, wanted: Sequence[str] | None) -> Iterator[Block]:
    rows = read_rows(source, wanted=())
    while block := list(islice(rows, _ROWS)):
        places = [where for where, _ in block]
        values = [row.pop(vector, None) for _, row in block]
        kept = [row if wanted is None else {name: row.get(name) for name in wanted} for _, row in block]
        yield places, kept, _as_array(places, values, vector)


def _parquet_blocks(source: Path, vector: str, wanted: Sequence[str] | None) -> Iterator[Block]:
    number = 0
    with open_parquet(source) as file:
        names = file.schema_arrow.names if wanted is None else [*wanted, vector]
        for batch in read_batches(source, file, _ROWS, names):
            places = [f"{source}: row {number + row + 1}" for row in range(batch.num_rows)]
            if not places:
                continue
            rows = batch_rows(source, batch.drop_columns([vector]), number)
            column = batch.column(batch.schema.get_field_index(vector))
            number += batch.num_rows
            yield places, rows, _as_vectors(places, column, vector)


def _is_vector(kind: pyarrow.DataType) -> bool:
    import pyarrow

    kind = getattr(kind, "storage_type", kind)  # of an extension type, such as a tensor of fixed shape
    lists = (pyarrow.types.is_list, pyarrow.types.is_large_list, pyarrow.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and pyarrow.types.is_floating(kind.value_type)


def _is_string(kind: pyarrow.DataType) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _as_vectors(places: Sequence[str], column: pyarrow.Array, name: str) -> NDArray[np.floating]:
    """The vectors of a batch, without a Python object a number where the file has lists of floats."""
    from pyarrow import compute

    column = getattr(column, "storage", column)
    if not _is_vector(column.type):
        if _is_string(column.type):
            return _as_array(places, column.to_pylist(), name)
        raise InputError(f"{places[0]}: column {name!r} holds {column.type}: lists of floats are needed")
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"{places[row]} has no vector (its {name!r} is null)")
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    _check_lengths(places, lengths)
    values = compute.list_flatten(column)
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // int(lengths[0])
        raise InputError(f"{places[row]}: its vector {name!r} holds null")
    floats: NDArray[np.floating] = values.to_numpy(zero_copy_only=False).reshape(len(places), -1)
    return floats


def _as_array(places: Sequence[str], values: Sequence[object], name: str) -> NDArray[np.float64]:
    """The vectors of rows whose fields are Python's own: lists of numbers, or strings that hold such a list as JSON."""
    lists: list[list[Any]] = []
    for where, value in zip(places, values, strict=True):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise InputError(f"{where}: {name!r} is no JSON array of numbers: {value[:40]!r}") from None
        if value is None:
            raise InputError(f"{where} has no vector (no {name!r}, or null)")
        if not isinstance(value, list) or not value:
            raise InputError(f"{where}: {name!r} is of type {type(value).__name__}: a list of numbers is needed")
        lists.append(value)
    _check_lengths(places, np.array([len(value) for value in lists]))
    for where, value in zip(places, lists, strict=True):
        other = next((item for item in value if type(item) not in (int, float)), value)
        if other is not value:
            raise InputError(
                f"{where}: its vector {name!r} holds {json.dumps(other, default=str)[:40]}: numbers are needed"
            )
    try:
        return np.array(lists, dtype=np.float64)
    except OverflowError:  # an integer of 400 digits
        raise InputError(f"{places[0]}, or soon after: a vector {name!r} holds a number beyond any float") from None


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) in (int, float) for item in value)


def _check_lengths(places: Sequence[str], lengths: NDArray[np.integer]) -> None:
    if not lengths[0]:
        raise InputError(f"{places[0]}: its vector is empty")
    wrong = lengths != lengths[0]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _ragged(places[row], int(lengths[row]), int(lengths[0]))


def _ragged(where: str, found: int, first: int) -> MismatchError:
    return MismatchError(f"{where}: its vector has {found} dimensions, the first {first}: all need the same")
