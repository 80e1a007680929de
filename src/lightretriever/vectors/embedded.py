"""Rows of documents with their vectors, out of one Parquet file, or of JSON lines, CSV or TSV; streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError
from lightretriever.text.compression import split_suffix
from lightretriever.text.parquet import batch_rows, open_parquet, read_batches
from lightretriever.text.rows import FORMATS, read_rows
from lightretriever.vectors.columns import Columns, is_general_name, is_vector_name
from lightretriever.vectors.header import NUMBERS, PACKED, is_string, is_vector, named_by, read_header

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, object]
Block = tuple[list[str], list[Row], NDArray[np.floating]]
"""Where each of n rows was read, their fields but the vectors, and the vectors [n, d]."""

_ROWS = 1024  # read at once
_WIDE = 8  # numbers: fewer are a place, a range or the like rather than a vector


def is_table(source: Path) -> bool:
    """Whether a file's name says that it has rows with named fields."""
    return split_suffix(source)[0] in FORMATS


def table_columns(source: Path, columns: Columns = Columns(), width: int | None = None) -> Columns:
    """Which columns of a file hold what; see `Columns.among`.

    Args:
        source: the file.
        columns: those that the user named.
        width: of vectors that would be taken, where it has to be told whether the file has any: without one of a usual
            name that holds as many numbers, or at least eight, it is a corpus. None where the file
            was called one of vectors: then, and where it has no "text" as a corpus has, a column of a usual name is
            theirs, whatever it holds.

    Raises:
        InputError: as `read_header`, or where a column named as vectors are holds what cannot be read as vectors.
        UsageError: as `Columns.among`.
    """
    header = read_header(source, columns)
    usual = [column for column in header if is_vector_name(column.name)]
    general = [column for column in header if is_general_name(column.name) and column.held.what == NUMBERS]
    numbers = [column for column in usual if column.held.what == NUMBERS]
    if width is None or all(column.name != "text" for column in header):  # which every corpus has
        chosen = numbers or usual or general
    else:
        chosen = [column for column in numbers if column.held.width == width or _is_wide(column.held.width)]
        chosen = chosen or [column for column in general if column.held.width == width]
        packed = next((column for column in usual if column.held.what == PACKED), None)
        if not chosen and packed is not None and columns.vector is None:
            raise InputError(
                f"{source}: column {packed.name!r} holds {packed.kind}: lists of numbers are needed "
                "(or name the --model, and the texts are encoded)"
            )
    return columns.among([column.name for column in header], [column.name for column in chosen], source)


def _is_wide(width: int | None) -> bool:
    return width is None or width >= _WIDE


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
    for places, rows, vectors in blocks(source, columns, wanted):
        dim = vectors.shape[1] if dim is None else dim
        if vectors.shape[1] != dim:
            raise _ragged(places[0], vectors.shape[1], dim)
        yield places, rows, vectors


def _row_blocks(source: Path, columns: Columns, wanted: Sequence[str] | None) -> Iterator[Block]:
    vector = str(columns.vector)
    rows = read_rows(source, (), named_by(columns))
    while block := list(islice(rows, _ROWS)):
        places = [where for where, _ in block]
        values = [row.pop(vector, None) for _, row in block]
        kept = [row if wanted is None else {name: row.get(name) for name in wanted} for _, row in block]
        yield places, kept, _as_array(places, values, vector)


def _parquet_blocks(source: Path, columns: Columns, wanted: Sequence[str] | None) -> Iterator[Block]:
    number, vector = 0, str(columns.vector)
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


def _as_vectors(places: Sequence[str], column: pyarrow.Array, name: str) -> NDArray[np.floating]:
    """The vectors of a batch, without a Python object a number where the file has lists of numbers."""
    import pyarrow
    from pyarrow import compute

    column = getattr(column, "storage", column)
    if not is_vector(column.type):
        if is_string(column.type):
            return _as_array(places, column.to_pylist(), name)
        raise InputError(f"{places[0]}: column {name!r} holds {column.type}: lists of numbers are needed")
    if pyarrow.types.is_list_view(column.type) or pyarrow.types.is_large_list_view(
        column.type
    ):  # which pyarrow's functions of lists do not know
        column = pyarrow.array(column.to_pylist(), pyarrow.large_list(column.type.value_type))
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"{places[row]} has no vector (its {name!r} is null)")
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    _check_lengths(places, lengths)
    values = compute.list_flatten(column)
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // int(lengths[0])
        raise InputError(f"{places[row]}: its vector {name!r} holds null")
    numbers = values.to_numpy(zero_copy_only=False).reshape(len(places), -1)
    return numbers if np.issubdtype(numbers.dtype, np.floating) else numbers.astype(np.float64)


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


def _check_lengths(places: Sequence[str], lengths: NDArray[np.integer]) -> None:
    if not lengths[0]:
        raise InputError(f"{places[0]}: its vector is empty")
    wrong = lengths != lengths[0]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _ragged(places[row], int(lengths[row]), int(lengths[0]))


def _ragged(where: str, found: int, first: int) -> MismatchError:
    return MismatchError(f"{where}: its vector has {found} dimensions, the first {first}: all need the same")
