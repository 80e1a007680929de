"""Rows of a Parquet file, as Python values; `values` says what becomes of those in metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightretriever.errors import InputError, MissingExtraError
from lightretriever.text.compression import UNREADABLE, compression_of, open_bytes
from lightretriever.text.signatures import PARQUET, foreign_format

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

_BATCH = 1024


def parquet_rows(path: str | Path, shown: str | Path | None = None) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file: row N``) and fields of every row; maps are dicts. Messages name the file as ``shown``.

    Raises:
        InputError: not Parquet, damaged, two columns of one name, or a value that Python cannot hold.
        MissingExtraError: no ``pyarrow``.
    """
    number, shown = 0, path if shown is None else shown
    with open_parquet(path, shown) as file:
        for batch in read_batches(shown, file, _BATCH):
            for row in batch_rows(shown, batch, number):
                number += 1
                yield f"{shown}: row {number}", row


def open_parquet(path: str | Path, shown: str | Path | None = None) -> parquet.ParquetFile:
    """The file, its columns of distinct names. Raises as `parquet_rows`."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "parquet") from None
    shown = path if shown is None else shown
    _check_head(path, shown)
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(shown, 0) from error
    names = file.schema_arrow.names
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        file.close()
        raise InputError(f"{shown}: two columns are named {twice!r}: rename one")
    return file


def read_batches(
    path: str | Path, file: parquet.ParquetFile, size: int, columns: Sequence[str] | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """The rows, ``size`` at a time, of some columns or all. Raises InputError where the file is damaged."""
    import pyarrow

    batches, number = file.iter_batches(batch_size=size, columns=columns), 0
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise _damaged(path, number) from error
        if batch is None:
            return
        number += batch.num_rows
        yield batch


def batch_rows(path: str | Path, batch: pyarrow.RecordBatch, before: int) -> list[dict[str, object]]:
    """The rows of a batch, which comes after ``before`` rows. Raises InputError for a value Python cannot hold."""
    names = batch.schema.names
    columns = [_column(path, name, column, before) for name, column in zip(names, batch.columns, strict=True)]
    rows = zip(*columns, strict=True) if names else ((),) * batch.num_rows
    return [dict(zip(names, values, strict=True)) for values in rows]


def count_rows(path: str | Path) -> int | None:
    """How many rows the file says that it has; None where it cannot be asked."""
    try:
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    except (ImportError, OSError, ValueError):  # whoever reads the file will say what is wrong with it
        return None


def _check_head(path: str | Path, shown: str | Path) -> None:
    try:
        with Path(path).open("rb") as raw:
            packed = compression_of(raw.read(10))
        with open_bytes(path) as file:
            head = file.peek(512)
    except FileNotFoundError:
        raise InputError(f"{shown} does not exist") from None
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or "its compressed bytes are damaged"
        raise InputError(f"{shown}: cannot be read ({reason})") from None
    if packed:
        raise InputError(f"{shown}: a Parquet file cannot be read through {packed}: decompress it first")
    if not head:
        raise InputError(f"{shown} is empty")
    if not head.startswith(PARQUET):
        start = head[:20].decode("ascii", "replace")
        what = foreign_format(head) or f"this is no Parquet file: it begins with {start!r}"
        raise InputError(f"{shown}: {what}")


def _damaged(path: str | Path, number: int) -> InputError:
    return InputError(
        f"{path}: cannot be read as Parquet beyond row {number}: it is damaged, cut off, encrypted, or of a kind that "
        "the pyarrow installed does not know"
    )


def _column(path: str | Path, name: str, column: Any, before: int) -> list[object]:
    """The values of a column, after ``before`` rows. Times finer than microseconds are cut off, as in filters."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
    try:
        return _values(column)
    except Exception:  # pyarrow raises a dozen classes, zoneinfo's and pandas' own among them
        row = before + next((place for place in range(len(column)) if not _is_readable(column, place)), 0) + 1
        raise InputError(
            f"{path}: row {row}: its {name!r} ({column.type}) cannot be kept: a text that is not UTF-8, a date out of "
            "range, or one name twice"
        ) from None


def _values(column: Any) -> list[object]:
    values: list[object] = column.to_pylist()
    return [_with_dicts(value, column.type) for value in values] if "map<" in str(column.type) else values


def _is_readable(column: Any, place: int) -> bool:
    try:
        _values(column.slice(place, 1))
    except Exception:  # the caller knows that there is one, of whatever class
        return False
    return True


def _with_dicts(value: Any, kind: Any) -> object:
    """The value with dicts for maps, which pyarrow gives as lists of pairs. Raises ValueError for a key twice."""
    from pyarrow import types

    if value is None:
        return None
    if types.is_map(kind):
        found = {key: _with_dicts(item, kind.item_type) for key, item in value}
        if len(found) != len(value):
            raise ValueError("a key twice")
        return found
    if types.is_struct(kind):
        return {field.name: _with_dicts(value[field.name], field.type) for field in kind}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_with_dicts(item, kind.value_type) for item in value]
    return value
