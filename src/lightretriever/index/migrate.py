"""An index from one engine to another: embedded to a server, a server to embedded, one server to the next.

Points are copied page by page in the order of their keys, as they are: nothing is encoded again. While it is being
copied the new index is marked half-built, cannot be opened, and holds how far it is:

    NEWINDEX/migration.json     where from, and the last key that is surely there

Then every point is read back from both engines and compared: payload, dense vector and sparse vector, bit for bit,
because both keep the float32 that they were given beside the shorter codes that their graphs are walked with. The index
that is copied must not be written to meanwhile; if it is, the comparison says so.
"""

from __future__ import annotations

import filecmp
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lightretriever.artifact import new_file, read_json, write_json
from lightretriever.checked import Check, read_fields, text, whole
from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.index.backend import Backend, Points, pages
from lightretriever.index.folder import create_folder, next_part
from lightretriever.index.index import Index
from lightretriever.index.manifest import IndexManifest
from lightretriever.index.qdrant_url import check_engine
from lightretriever.index.state import State, open_state
from lightretriever.paths import absolute
from lightretriever.types import take_sparse

BUILT_FROM = "migration"
NOTE = "migration.json"
PAGE = 500  # points read at once
_NOTED = 10_000  # points between two notes of how far it is: what a kill costs
Progress = Callable[[int, int | None], None]
Report = Callable[[str], Progress]
"""Called when a phase begins ("copying", "optimising", "comparing"); gives what to tell its progress to."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did.

    Attributes:
        documents: in the new index; each was compared.
        copied: written by this run.
        passed_over: there already, and equal.
        resumed: whether an earlier, interrupted run had begun it.
    """

    documents: int
    copied: int
    passed_over: int
    resumed: bool


def migrate_index(source: str | Path, engine: str, output: str | Path, report: Report | None = None) -> Migration:
    """Copy an index to another engine and compare the two; interrupted, the same call goes on.

    Args:
        source: the index's folder; opened for the whole time.
        engine: "edge", or a Qdrant server's URL; see `Index.create`.
        output: the new index's folder; new, or begun by the same call. A complete one is compared once more.
        report: gives the progress function of each phase.

    Raises:
        UsageError: there is no such engine.
        MismatchError: the output was begun from another index, for another engine, or with another table.
        ArtifactError: the output is something else or damaged, an engine failed, or the two are not equal at the end.
        LockedError: another process has one of them open.
    """
    engine, target_path = check_engine(engine), absolute(output)
    report = report or _no_report
    with Index.open(source) as index:
        origin = str(index.path.resolve()) if index.manifest.engine == "edge" else index.manifest.engine
        target, resumed = _begin(target_path, engine, index, origin)
        try:
            engines, copied, passed = (index.backend, target.current.backend), 0, 0
            building = target.current.manifest.state != "complete"
            if building:
                _copy_statistics(index.sparse_side.file, target)
                copied, passed = _copy(*engines, target_path, origin, report("copying"))
                report("optimising")
                engines[1].optimise()
                engines[1].flush()
                _note(target_path, origin, -1, 0)  # should the two not be equal, all is looked at again
            documents = _compare(*engines, target_path, report("comparing"), building)
            if building:
                (target_path / NOTE).unlink(missing_ok=True)
                complete = _manifest(index.manifest, target.current.manifest)
                target.save(replace(complete, documents=documents))
        finally:
            target.close()
    return Migration(documents, copied, passed, resumed)


def _manifest(of: IndexManifest, parts: IndexManifest) -> IndexManifest:
    """A manifest as that of the index that is copied, with the new one's engine and names of parts."""
    names = ("engine", "engine_named", "table", "shard", "statistics", "generation")
    return replace(of, unoptimised=0, successor=None, **{name: getattr(parts, name) for name in names})


def _begin(path: Path, engine: str, index: Index, origin: str) -> tuple[State, bool]:
    """Make the new folder, or check that it is one to go on with, and own it; says also whether it was there."""
    table = index.encoder.table
    manifest = _manifest(index.manifest, IndexManifest.of(table, index.manifest.sparse, engine=engine))
    resumed = path.exists()
    if not resumed:
        create_folder(path, table, replace(manifest, state="building", built_from=BUILT_FROM))
    check = partial(_check, path, manifest, origin)
    check(IndexManifest.load(path))
    return open_state(path, check, engine=engine), resumed


def _check(path: Path, manifest: IndexManifest, origin: str, begun: IndexManifest) -> None:
    """Raises MismatchError when what was begun is another copy."""
    for name, value in manifest.identity().items():
        found = begun.identity()[name]
        if found != value:
            raise MismatchError(f"{path} has {name} {found!r}, what is copied {value!r}: choose another output")
    if begun.state != "complete" and begun.built_from != BUILT_FROM:
        raise MismatchError(f"{path} was begun from a {begun.built_from}, not by migrate: choose another output")
    if (path / NOTE).exists():
        before = _read_note(path)["from"]
        if before != origin:
            raise MismatchError(f"{path} was begun from {before}, now it is {origin}: choose another output")


def _copy_statistics(source: Path, target: State) -> None:
    """Give the new index the statistics of the one that is copied, which may have taken them anew since it was begun:
    then by another name, as the checksum of those before may have been noted."""
    now = target.current
    if not source.exists() or (now.side.file.exists() and filecmp.cmp(source, now.side.file, shallow=False)):
        return
    name = next_part(target.path, now.manifest, "statistics") if now.side.file.exists() else now.manifest.statistics
    with new_file(target.path / name) as copy:
        shutil.copyfile(source, copy)
    target.put_away(target.go_over(replace(now.manifest, statistics=name), now.encoder, now.backend))


def _copy(source: Backend, target: Backend, path: Path, origin: str, progress: Progress) -> tuple[int, int]:
    """Copy what is not there yet; returns how many were written, and how many were there and equal."""
    start, done = _noted(path)
    total, copied, since = source.count(), 0, 0
    passed = done
    while (page := source.page(start, PAGE, vectors=True)).keys:
        there = target.points(list(target.existing(page.keys)))
        equal = _equal(page, there)
        rows = [row for row, key in enumerate(page.keys) if key not in equal]
        if rows:
            target.upsert(_rows(page, rows))
        copied += len(rows)
        passed += len(page.keys) - len(rows)
        start = page.keys[-1] + 1
        since += len(page.keys)
        if since >= _NOTED:
            target.flush()
            _note(path, origin, page.keys[-1], copied + passed)
            since = 0
        progress(copied + passed, total)
    target.flush()
    return copied, passed


def _compare(source: Backend, target: Backend, path: Path, progress: Progress, building: bool) -> int:
    """Read every point back from both; returns how many there are. Raises ArtifactError when they are not equal."""
    total, done, unequal = source.count(), 0, 0
    first = ""
    for page in pages(source, PAGE, vectors=True):
        equal = _equal(page, target.points(page.keys))
        different = [row for row, key in enumerate(page.keys) if key not in equal]
        if different and not unequal:
            first = f" (the first is {page.payloads[different[0]].get('id')!r})"
        unequal += len(different)
        done += len(page.keys)
        progress(done, total)
    count = target.count()
    if unequal or count != done:
        surplus = f", and {count - done:,} are there that should not be" if count > done else ""
        way_out = "run the same command again, it copies what differs" if building else "migrate to another output"
        raise ArtifactError(
            f"{path}: of {done:,} documents {unequal:,} are not as they are in what was copied{first}{surplus}: "
            f"one of the two was written to since; {way_out}"
        )
    return done


def _equal(one: Points, other: Points) -> set[int]:
    """The keys that both have with equal payload and vectors."""
    places = {key: row for row, key in enumerate(other.keys)}
    return {key for row, key in enumerate(one.keys) if key in places and _same(one, row, other, places[key])}


def _same(one: Points, row: int, other: Points, place: int) -> bool:
    payloads = (one.payloads[row], other.payloads[place])
    first, second = (json.dumps(payload, sort_keys=True) for payload in payloads)  # to Python true equals 1
    return (
        first == second
        and np.array_equal(one.dense[row], other.dense[place])
        and _terms(one, row) == _terms(other, place)
    )


def _terms(points: Points, row: int) -> list[tuple[int, float]]:
    if points.sparse is None:
        return []
    indices, values = points.sparse.row(row)
    return sorted(zip(indices.tolist(), values.tolist(), strict=True))


def _rows(points: Points, rows: list[int]) -> Points:
    sparse = None if points.sparse is None else take_sparse(points.sparse, rows)
    return Points(
        [points.keys[row] for row in rows], points.dense[rows], sparse, [points.payloads[row] for row in rows]
    )


def _noted(path: Path) -> tuple[int, int]:
    """The first key that may not be there yet, and how many are before it."""
    if not (path / NOTE).exists():
        return 0, 0
    note = _read_note(path)
    return int(note["last_key"], 16) + 1, note["documents"]


def _read_note(path: Path) -> dict[str, Any]:
    way_out = "remove it, and what is there is compared and kept"
    return read_fields(read_json(path / NOTE), _NOTE_CHECKS, path / NOTE, way_out)


def _key(value: Any) -> str:
    """A point's key as `_note` writes it; -1 where none was copied for sure."""
    if not isinstance(value, str) or not re.fullmatch(r"-1|[0-9a-f]{1,32}", value):
        raise ValueError("a key in hexadecimal digits is needed")
    return value


_NOTE_CHECKS: dict[str, Check] = {"from": text(8_192), "last_key": _key, "documents": whole()}


def _note(path: Path, origin: str, key: int, documents: int) -> None:
    write_json(path / NOTE, {"from": origin, "last_key": f"{key:x}", "documents": documents})


def _no_report(phase: str) -> Progress:
    del phase

    def silent(done: int, total: int | None) -> None:
        """Progress that nobody asked for."""

    return silent
