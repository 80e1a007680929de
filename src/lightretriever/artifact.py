"""Folders on disk: JSON and safetensors, complete or absent, never a pickle.

A file is built under a temporary name beside its place, fsynced and renamed; a folder likewise, see
`lightretriever.scratch`. So a reader sees the old thing or the new one, whatever was interrupted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lightretriever.errors import ArtifactError
from lightretriever.paths import absolute
from lightretriever.regular_file import file_size, read_file

MANIFEST = "manifest.json"
LONGEST_JSON, LONGEST_MANIFEST = 32 << 20, 8 << 20
"""Bytes of a JSON file, and of a manifest, that are read."""
MOST_VALUES = 2_000_000
"""Values of a JSON file that are made: each takes up to 100 bytes of memory, of two or three in the file."""


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder for this; its rename is durable.
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Flush a folder, and all that is in it, to the disk."""
    for entry in folder.rglob("*"):
        fsync_path(entry)
    fsync_path(folder)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Make one line of what the system says when ``target``, or what is beside or in it, cannot be written.

    Raises:
        ArtifactError: in place of an OSError. Those of other files pass through.
    """
    try:
        yield
    except OSError as error:
        named = [Path(os.fsdecode(name)).absolute() for name in (error.filename, error.filename2) if name is not None]
        here = any(_concerns(file, Path(target)) for file in named)
        if not here and (named or error.errno not in _OF_DISKS):
            raise
        raise ArtifactError(f"{target} cannot be written ({error.strerror}): {_way_out(error.errno)}") from error


_LONGEST_HEADER = 1 << 20  # bytes of what a safetensors file of a few arrays begins with
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_OF_DISKS = (*_FULL, *_FORBIDDEN, errno.EIO)


def _concerns(file: Path, target: Path) -> bool:
    """Whether a file is a target, leads to it, is in it, or is what becomes it."""
    target = target.absolute()
    if target.is_relative_to(file) or file.is_relative_to(target):
        return True
    inside = file.relative_to(target.parent).parts if file.is_relative_to(target.parent) else ()
    return bool(inside) and inside[0].startswith(f".{target.name}.")


def _way_out(code: int | None) -> str:
    if code in _FULL:
        return "make room and run again"
    if code in _FORBIDDEN:
        return "choose a place that may be written to"
    return "see what is in its place, and to the disk"


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary path to write, fsynced and renamed to ``path`` when the block ends well. Raises ArtifactError when
    it cannot be written."""
    target = absolute(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        mode = _create(temporary)
    try:
        with writing(target):
            yield temporary
            temporary.chmod(mode)  # safetensors puts a private file in its place
            fsync_path(temporary)
            temporary.replace(target)
            fsync_path(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def as_any_new(file: Path) -> None:
    """Give a file the mode that the umask gives new ones: some libraries write files that nobody else may read."""
    probe = _temporary(file)
    mode = _create(probe)
    probe.unlink()
    file.chmod(mode)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _create(file: Path) -> int:
    """Make an empty file, where there is none, and give its mode. To read the umask itself is to set it."""
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, value: object) -> None:
    """Write JSON atomically, keys in the order given."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_json(path: str | Path, longest: int = LONGEST_JSON, most: int = MOST_VALUES) -> dict[str, object]:
    """Read a JSON object of at most ``longest`` bytes and about ``most`` values.

    Raises:
        ArtifactError: it is absent or is not one, too long, or a name comes twice in an object.
    """
    source = Path(path)
    try:
        content = read_file(source, longest)
        check_values(content, most)
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_distinct)
    except FileNotFoundError:
        raise ArtifactError(
            f"{source} does not exist: {source.parent} is not complete, or not what it should be"
        ) from None
    except PermissionError as error:
        raise ArtifactError(f"{source} cannot be read ({error.strerror}): see to its permissions") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{source} cannot be read as JSON ({reason}): make the folder again") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{source} holds no JSON object: make the folder again")
    return value


def check_values(content: bytes, most: int = MOST_VALUES) -> None:
    """Refuse JSON of more values than ``most`` before any of them is made. Raises ValueError."""
    if sum(map(content.count, (b",", b":", b"[", b"{"))) > most:  # those in strings too: there are few
        raise ValueError(f"it holds more than {most:,} values")


def read_manifest(folder: str | Path, kind: str, version: int, name: str = MANIFEST) -> dict[str, object]:
    """The manifest of one of our folders, of the given ``kind`` and a format ``version`` we can read.

    Raises:
        ArtifactError: no manifest, another kind of folder, or a version from the future.
    """
    try:
        there = Path(folder).is_dir()
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read ({error.strerror})") from None
    if not there:
        raise ArtifactError(f"{folder} does not exist, or is no folder ({kind} wanted)")
    manifest = read_json(Path(folder) / name, LONGEST_MANIFEST)
    if manifest.get("kind") != kind:
        said = ascii(manifest.get("kind"))[:60]
        article = "an" if kind[0] in "aeiou" else "a"
        raise ArtifactError(f"{folder} is not {article} {kind} folder of lightretriever ({name} says {said})")
    found = manifest.get("format_version")
    if type(found) is not int or not 1 <= found < 1 << 31:  # true is an int to Python
        raise ArtifactError(
            f"{Path(folder) / name} is damaged (format version {ascii(found)[:60]}): make the folder again"
        )
    if found > version:
        raise ArtifactError(
            f"{folder} has format version {found}, this lightretriever reads up to {version}: upgrade it"
        )
    return manifest


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in one object")
    return found


def save_tensors(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a safetensors file, atomically.

    Raises:
        ArtifactError: it cannot be written; the disk is full, say.
    """
    with new_file(path) as temporary:
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary)
        except SafetensorError as error:
            raise ArtifactError(f"{path} cannot be written ({error}): make room and run again") from None


def load_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file, memory-mapped while they are read in.

    Raises:
        ArtifactError: the file is absent, truncated or not safetensors.
    """
    try:
        file_size(path)
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist: the folder is not complete") from None
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged or not safetensors ({error}): make the folder again") from None


def map_tensor(path: str | Path, name: str) -> np.ndarray:
    """One array of a safetensors file as a read-only memory map: pages are read when they are touched.

    Raises:
        ArtifactError: the file is absent, truncated, or lacks ``name``.
    """
    source = Path(path)
    dtypes = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I32": np.int32, "I64": np.int64}
    try:
        size = file_size(source)
        with source.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _LONGEST_HEADER else {}
        entry = header[name]
        start, end = entry["data_offsets"]
        shape, dtype = tuple(entry["shape"]), np.dtype(dtypes[entry["dtype"]])
        if min(shape, default=1) < 0 or prod(shape) * dtype.itemsize != end - start:
            raise ValueError(f"a header of shape {shape} for {end - start} bytes")
        if size < 8 + length + end:
            raise ValueError(f"{size} bytes, {8 + length + end} expected")
        if start == end:
            return np.zeros(shape, dtype=dtype)
        return np.memmap(source, mode="r", dtype=dtype, shape=shape, offset=8 + length + start)
    except FileNotFoundError:
        raise ArtifactError(f"{source} does not exist: the folder is not complete") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, OSError) as error:
        raise ArtifactError(f"{source} is damaged or holds no {name!r} ({error}): make the folder again") from None


def plain_view(array: np.ndarray) -> np.ndarray:
    """A plain read-only view: a memory map's own class is slow, and numba compiles for one kind only."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces. Raises OSError when it is no regular file, or cannot be read."""
    file_size(path)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
