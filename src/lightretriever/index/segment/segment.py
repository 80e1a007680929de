"""A segment: what was built of the documents of a range of keys, to be searched where it lies in the file system.

INDEX/segments/NAME/ holds its arrays as flat files; what they are is a row of the database. It is never changed, only
replaced. Deleted documents are left out by a mask that each process keeps.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.checked import read_fields, whole
from lightretriever.checksum import CHECKSUMS, check_files
from lightretriever.errors import ArtifactError
from lightretriever.index.segment.dense import DensePart
from lightretriever.index.segment.files import ARRAYS, STAMPS, Listing, map_arrays, stamps
from lightretriever.index.segment.ids import Ids
from lightretriever.index.segment.sparse import SparsePart
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.seal import seal

FOLDER = "segments"
NAME = re.compile(r"[0-9a-f]{16}")
KEYS = "keys"
_IDS, _DENSE, _SPARSE = "ids.", "dense.", "sparse."
_LONGEST = 1 << 20  # bytes of a description
_WAY_OUT = "`lightretriever optimise` builds it again"


@dataclass(frozen=True, slots=True)
class Description:
    """What the database keeps of a segment.

    Attributes:
        after, until: it holds the documents whose key is greater than the one and at most the other, as far as there
            were any when it was built.
        gone: the number that the next key to go had then: those that went since are to be left out.
        vectors: the table that its vectors are from.
        documents: how many.
        arrays, checksums, stamps: see `lightretriever.index.segment.files`.
    """

    after: int
    until: int
    gone: int
    vectors: int
    documents: int
    arrays: Mapping[str, Mapping[str, Any]]
    checksums: Mapping[str, Mapping[str, Any]]
    stamps: Mapping[str, list[int]]

    @property
    def listing(self) -> Listing:
        """Of its files."""
        return Listing(self.arrays, self.checksums, self.stamps)


_CHECKS = {
    **dict.fromkeys(("after", "until", "gone", "vectors", "documents"), whole()),
    "arrays": ARRAYS,
    "checksums": CHECKSUMS,
    "stamps": STAMPS,
}


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An open segment of n documents; a document's place is its row in all of the arrays.

    Attributes:
        name: its folder's.
        description: what the database says of it.
        keys: int64 [n], ascending.
        ids: of the documents.
        dense: their vectors.
        sparse: their sparse vectors; None where the index has none.
    """

    name: str
    description: Description
    keys: NDArray[np.int64]
    ids: Ids
    dense: DensePart
    sparse: SparsePart | None


def read_descriptions(connection: Connection, file: Path) -> dict[str, Description]:
    """Of all segments in force, by name, in the order of their keys; one whose row is damaged is as if it were not."""
    return read_segments(connection, file)[0]


def read_segments(connection: Connection, file: Path) -> tuple[dict[str, Description], dict[str, str]]:
    """As `read_descriptions`, and of the rows that are damaged what is wrong with each."""
    found, damaged = {}, {}
    for name, stored, checksum in connection.execute("SELECT name, description, checksum FROM segments"):
        try:
            found[name] = _parse(name, stored, checksum, file)
        except ArtifactError as error:
            damaged[ascii(name)[:80]] = str(error)
    return dict(sorted(found.items(), key=lambda item: item[1].until)), damaged


def _parse(name: object, stored: object, checksum: object, file: Path) -> Description:
    try:
        if type(name) is not str or not NAME.fullmatch(name):
            raise ValueError(f"{ascii(name)[:80]} is no segment's name")
        if type(stored) is not str or len(stored) > _LONGEST:
            raise ValueError("a segment's description is no text")
        if checksum != seal(name, stored):
            raise ValueError("a segment's description is not what was written")
        return Description(**read_fields(json.loads(stored), _CHECKS, f"{file}: {name}", _WAY_OUT))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{file} is damaged: {error}: {_WAY_OUT}") from None


def write_description(connection: Connection, name: str, description: Description) -> None:
    """Put a segment in force, or what is known of it anew."""
    stored = json.dumps(asdict(description))
    connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (name, stored, seal(name, stored)))


def parts_of(keys: NDArray[np.int64], ids: Ids, dense: DensePart, sparse: SparsePart | None) -> dict[str, NDArray[Any]]:
    """All arrays of a segment by name."""
    found = {KEYS: keys}
    for prefix, part in ((_IDS, ids), (_DENSE, dense), (_SPARSE, sparse)):
        if part is not None:
            found |= {prefix + name: array for name, array in part.arrays().items()}
    return found


def open_segment(index: Path, name: str, description: Description, dim: int, sparse: bool) -> Segment:
    """Map a segment.

    Args:
        index: the index's folder.
        name, description: see `read_descriptions`.
        dim: d of the index.
        sparse: whether the index has a sparse side.

    Raises:
        ArtifactError: a file is absent, or not what was written, or the parts do not fit each other; it is named.
    """
    folder = index / FOLDER / name
    arrays = map_arrays(folder, description.listing)
    try:
        keys, ids = arrays[KEYS], Ids.of(_with(arrays, _IDS))
        dense = DensePart.of(_with(arrays, _DENSE))
        lexical = SparsePart.of(_with(arrays, _SPARSE)) if sparse else None
        if keys.dtype != np.int64 or keys.shape != (description.documents,) or not _ascend(keys, description):
            raise ValueError("its keys are not what is described")
        if (
            len(ids) != len(keys)
            or dense.hi.shape != (len(keys), dim)
            or (lexical is not None and len(lexical) != len(keys))
        ):
            raise ValueError("its parts are of other sizes than its keys")
    except (KeyError, ValueError, TypeError, ArtifactError) as error:
        raise ArtifactError(f"{folder} is damaged ({error}): {_WAY_OUT}") from None
    return Segment(name, description, keys, ids, dense, lexical)


def check_segment(index: Path, name: str, description: Description) -> None:
    """Read all of a segment, whatever the times of its files say. Raises ArtifactError when one is not what was
    written; it is named."""
    try:
        check_files(index / FOLDER / name, description.checksums)
    except ArtifactError as error:
        raise ArtifactError(f"{str(error).rpartition(': ')[0]}: {_WAY_OUT}") from None


def remove_others(index: Path, wanted: Mapping[str, object]) -> None:
    """Remove the folders of segments that are not in force any more. A process that has one mapped keeps it."""
    for folder in (index / FOLDER).glob("*"):
        if folder.name not in wanted and NAME.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def restamp(index: Path, database: Database) -> None:
    """After files were copied: compare all of them with their checksums, and note their times, so that those who open
    the index need not.

    Raises:
        ArtifactError: one is not what was written; it is named.
    """
    with database.writing() as connection:
        for name, description in read_descriptions(connection, database.file).items():
            folder = index / FOLDER / name
            check_files(folder, description.checksums)
            new = replace(description, stamps=stamps(folder, description.arrays))
            write_description(connection, name, new)


def _with(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _ascend(keys: NDArray[np.int64], description: Description) -> bool:
    if not len(keys):
        return True
    return bool(keys[0] > description.after and keys[-1] <= description.until and (np.diff(keys) > 0).all())
