"""Vectors bought or made elsewhere: in one file with their documents, or beside the corpus that they were made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.text.corpus import Document, check_agreement, documents_of, read_corpus
from lightretriever.types import Encoded
from lightretriever.vectors.array_file import read_array, read_ids
from lightretriever.vectors.columns import Columns, usual_names
from lightretriever.vectors.embedded import Row, is_table, read_blocks, table_columns
from lightretriever.vectors.header import NUMBERS, read_header

_PART = 4096
_PLACES = ("id", "text", "title")
Parts = Iterator[tuple[list[Document], Encoded]]


def read_provider_vectors(
    vectors_path: str | Path, corpus_path: str | Path | None = None, columns: Columns | None = None
) -> Parts:
    """Documents with their vectors out of a provider's file, streamed.

    Args:
        vectors_path: a ``.npy`` file [n, d] of floats, its ids in ``NAME.ids.npy``, ``NAME.ids.txt``, ``ids.npy``
            or ``ids.txt`` beside it (text: one a line), or in the order of the corpus where there is none of these;
            or a Parquet, JSON lines, CSV or TSV file with columns of ids and of vectors: lists of numbers, or JSON
            arrays in strings.
        corpus_path: the corpus, as for `read_corpus`, in whose order documents come. None: the file has a column of
            texts, and comes in its own order; its other columns are title and metadata.
        columns: the names of the columns, where they are not the usual ones.

    Yields:
        Up to 4,096 documents and their dense vectors, float32 [n, d], unit rows. Vectors that were not of unit
        length are normalised; a warning at the end says how many, and names the first.

    Raises:
        MismatchError: numbers, dimensions or ids of documents and vectors differ; the first such row or id is named.
        InputError: a file that cannot be read, or a vector that is missing, zero or not finite; its row is named.
        UsageError: columns that are not there or could be several, or neither texts nor a corpus.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    source = Path(vectors_path).absolute()
    if not source.is_file():
        raise InputError(f"{vectors_path} does not exist" if not source.exists() else f"{vectors_path} is no file")
    array = source.suffix.lower() == ".npy"
    if not array and not is_table(source):
        raise InputError(f"{source}: vectors are read from .npy, .parquet, .jsonl, .csv or .tsv files")
    if corpus_path is None:
        if array:
            raise UsageError(f"{source} holds vectors alone: name their documents with --corpus")
        return _one_file(source, _found(source, columns or Columns()))
    given = _given_array(source) if array else _given_table(source, columns or Columns())
    return _beside(source, given, Path(corpus_path).absolute())


def vector_columns(path: str | Path, columns: Columns | None = None, width: int | None = None) -> Columns | None:
    """The columns of a file with named fields, vectors among them; None for every other file, and for a folder.

    Where there are ids and texts too, it needs neither a model nor a corpus. With a ``width``, that of the vectors
    that would be taken, a file is one of vectors only if what a column holds fits its name; see `table_columns`.

    Raises:
        InputError: there is no such file, or it cannot be read.
        UsageError: columns that are not there or could be several.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"{path} does not exist")
    if not source.is_file() or not is_table(source):
        return None
    found = table_columns(source, columns or Columns(), width)
    return None if found.vector is None else found


@dataclass(slots=True)
class _Lengths:
    """Scales vectors to unit length, and counts those that were not."""

    source: Path
    read: int = 0
    scaled: int = 0
    first: str = ""

    def unit_rows(self, dense: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.float32]:
        """Float32 rows of unit length; ``names`` says whose they are. Raises InputError for zero, NaN and infinity."""
        peaks = np.abs(dense, dtype=np.float64).max(axis=1, keepdims=True)
        for wrong, what in ((~np.isfinite(peaks), "holds NaN or infinity"), (peaks == 0, "is zero")):
            if wrong.any():
                raise InputError(f"{self.source}: the vector of {names[int(np.argmax(wrong))]} {what}: make it again")
        scaled = dense / peaks  # so that no square leaves the floats
        norms = np.linalg.norm(scaled, axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            other = np.abs(norms * peaks - 1)[:, 0] > 1e-3
        if other.any() and not self.scaled:
            row = int(np.argmax(other))
            self.first = f"that of {names[row]} has length {float(norms[row, 0]) * float(peaks[row, 0]):.4g}"
        self.read += len(dense)
        self.scaled += int(other.sum())
        return np.asarray(scaled / norms, dtype=np.float32)

    def warn(self) -> None:
        """Say how many were scaled, if any."""
        if self.scaled:
            warnings.warn(
                f"{self.source}: {self.scaled:,} of {self.read:,} vectors were not of unit length and were "
                f"normalised: first, {self.first}",
                stacklevel=3,
            )


def _one_file(source: Path, columns: Columns) -> Parts:
    """Documents and vectors of one file, in its order."""
    if columns.text is None:
        raise UsageError(
            f"{source} holds no column of texts: name it with --columns text=NAME, or the documents with --corpus"
        )
    vectors: list[NDArray[np.floating]] = []  # of the rows that have become documents, until these are handed on
    places: list[str] = []

    def rows() -> Iterator[tuple[str, Row]]:
        for wheres, fields, block in read_blocks(source, columns):
            for where, row, vector in zip(wheres, fields, block, strict=True):
                vectors.append(vector)
                places.append(where)
                yield where, _renamed(where, row, columns)

    lengths = _Lengths(source)
    documents = documents_of(source, rows())
    while part := list(islice(documents, _PART)):
        names = _names(source, [document.id for document in part], places)
        yield part, Encoded(lengths.unit_rows(np.stack(vectors), names))
        vectors.clear()
        places.clear()
    lengths.warn()


def _names(source: Path, ids: Sequence[str], places: Sequence[str]) -> list[str]:
    """What errors call each of some rows; a place in text files is a line."""
    rows = (place.removeprefix(f"{source}: ").removeprefix(f"{source}:") for place in places)
    return [
        f"document {identifier!r} ({row if row.startswith('row') else f'line {row}'})"
        for identifier, row in zip(ids, rows, strict=True)
    ]


def _renamed(where: str, row: Row, columns: Columns) -> Row:
    """The row as a corpus has it: its id under ``_id``, text and title under their own names.

    Raises InputError where its metadata contradicts one of these under its first name.
    """
    named = {"_id": columns.id, "text": columns.text, "title": columns.title}
    inner = row.get("metadata")
    if isinstance(inner, Mapping):
        check_agreement(where, {name: row[name] for name in named.values() if name is not None}, inner)
    taken = {wanted: row.pop(name) for wanted, name in named.items() if name is not None}
    return {**row, **taken}


@dataclass(frozen=True, slots=True)
class _Given:
    """Vectors [n, d], and whose they are; None where they are in the corpus's order."""

    vectors: NDArray[np.floating]
    ids: list[str] | None


def _given_array(source: Path) -> _Given:
    vectors = read_array(source)
    ids = read_ids(source, len(vectors))
    if ids is None:
        warnings.warn(f"{source}: no ids beside it: its vectors are taken in the corpus's order", stacklevel=3)
    return _Given(vectors, ids)


def _given_table(source: Path, columns: Columns) -> _Given:
    found = _found(source, columns)
    assert found.id is not None
    ids: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    lengths = _Lengths(source)
    for places, rows, vectors in read_blocks(source, found, [found.id]):
        # A document without text has its id checked and written as those of the corpus are.
        own = [document.id for document in documents_of(source, _texts(places, rows, found.id))]
        blocks.append(lengths.unit_rows(vectors, _names(source, own, places)))
        ids += own
    lengths.warn()
    return _Given(np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32), ids)


def _texts(places: list[str], rows: list[Row], name: str) -> Iterator[tuple[str, Row]]:
    return ((where, {"_id": row[name], "text": ""}) for where, row in zip(places, rows, strict=True))


def _found(source: Path, columns: Columns) -> Columns:
    """The columns of ids and vectors, both there."""
    found = table_columns(source, columns)
    if found.id is None or found.vector is None:
        lacks = " and ".join(what for what in ("id", "vector") if getattr(found, what) is None)
        header = read_header(source, columns)
        # Lists of numbers under another name may be anything: the user has to say so.
        names = ", ".join(column.name for column in header)
        lists = "".join(f" ({c.name!r} holds {c.kind})" for c in header if c.held.what == NUMBERS and not found.vector)
        raise InputError(
            f"{source} has the columns {names}, none of them known to be the {lacks}{lists}: "
            f"{usual_names()} are needed, others with --columns id=NAME,vector=NAME"
        )
    return found


def _beside(source: Path, given: _Given, corpus_path: Path) -> Parts:
    """Documents in the corpus's order, each with its vector."""
    vectors, ids = given.vectors, given.ids
    rows = {identifier: row for row, identifier in enumerate(ids or ())}
    used = np.zeros(len(vectors), dtype=bool)
    position, lengths = 0, _Lengths(source)
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
        names = [f"document {document.id!r} (row {row})" for document, row in zip(documents, chosen, strict=True)]
        yield documents, Encoded(lengths.unit_rows(vectors[chosen], names))
    if not used.all():
        row = int(np.argmin(used))
        name = f"{ids[row]!r} (row {row})" if ids is not None else f"row {row}"
        raise MismatchError(
            f"{source} holds {int((~used).sum())} vectors for no document of {corpus_path}, first {name}"
        )
    lengths.warn()
