"""Vectors in a ``.npy`` file, and the file of ids beside it."""

from __future__ import annotations

import io
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError
from lightretriever.text.lines import read_lines


def read_array(source: Path) -> NDArray[np.floating]:
    """Floats [n, d], memory-mapped.

    Raises:
        InputError: no such file, or it holds something else.
    """
    vectors = _load(source, "floats [documents, dimension]", mapped=True)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(
            f"{source} holds {vectors.dtype} of shape {vectors.shape}: floats [documents, dimension] are needed"
        )
    return vectors


def ids_files(source: Path) -> tuple[Path, ...]:
    """Where the ids of a ``.npy`` file may be, in the order in which they are looked for."""
    names = (f"{source.stem}.ids.npy", f"{source.stem}.ids.txt", "ids.npy", "ids.txt")
    return tuple(source.with_name(name) for name in names)


def read_ids(source: Path, count: int) -> list[str] | None:
    """The ids beside a ``.npy`` file of ``count`` vectors; None where there is no file of ids.

    A text file has an id a line; an array holds integers, or strings or bytes (UTF-8) of fixed width.

    Raises:
        InputError: a file that cannot be read, or that holds no ids, or one of ids in another format.
        MismatchError: another number of ids than of vectors.
    """
    beside = next((file for file in ids_files(source) if file.is_file()), None)
    if beside is None:
        _refuse_others(source)
        return None
    ids = _ids_of_array(beside) if beside.suffix == ".npy" else _ids_of_lines(beside)
    if len(ids) != count:
        raise MismatchError(f"{beside} has {len(ids)} ids, {source} {count} vectors: one for each is needed")
    empty = next((row for row, name in enumerate(ids) if not name.strip()), None)
    if empty is not None:
        raise InputError(f"{beside}: id number {empty + 1} is empty: every vector needs its document's id")
    return ids


def _refuse_others(source: Path) -> None:
    """Raises InputError for ids in a format that is not read: by position the vectors would be other documents'."""
    for file in sorted(source.parent.iterdir()):
        if file.name.startswith((f"{source.stem}.ids.", "ids.")) and file.is_file():
            raise InputError(
                f"{file} is not read: ids are taken from {ids_files(source)[1].name} (one a line) or "
                f"{ids_files(source)[0].name}; write them so, or rename it if {source.name} is in the corpus's order"
            )


def _ids_of_lines(file: Path) -> list[str]:
    whole = io.StringIO("".join(line for _, line in read_lines(file)), newline=None)
    ids = [line.rstrip("\n") for line in whole]
    while ids and not ids[-1].strip():
        ids.pop()
    return ids


def _ids_of_array(file: Path) -> list[str]:
    found = _load(file, "ids as integers or as strings of fixed width", mapped=False)
    if found.ndim != 1 or found.dtype.kind not in "iuSU":
        raise InputError(
            f"{file} holds {found.dtype} of shape {found.shape}: ids as integers or as strings of fixed width, "
            "one a row, are needed"
        )
    if found.dtype.kind != "S":
        return [str(value) for value in found.tolist()]
    ids = []
    for row, value in enumerate(found.tolist()):
        try:
            ids.append(value.decode("utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"{file}: id number {row + 1} ({value!r}) is not UTF-8: save the ids as strings") from None
    return ids


def _load(file: Path, wanted: str, *, mapped: bool) -> NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist") from None
    except (ValueError, OSError, EOFError, SyntaxError, TokenError, MemoryError) as error:
        reason = " ".join(str(error).split())[:160]
        if "pickle" in reason or "objects" in reason:  # of an array of objects, and of whatever numpy does not know
            reason = "it is no array of numbers or of fixed-width strings; pickled objects are never loaded"
        raise InputError(f"{file} cannot be read as .npy ({reason}): {wanted} are needed") from None
    if not isinstance(array, np.ndarray):  # a zip of several
        raise InputError(f"{file} is an archive of arrays (.npz): save the one of {wanted} as .npy")
    return array
