"""An index from one engine to another: its own folder to a server, a server to a folder, one server to the next.

Documents are copied page by page, as they are: nothing is encoded again. While it is being copied the new index is
marked half-built, and cannot be opened. What it has already, of an interrupted run, is compared and passed over.

Then every document is read back from both engines and compared: texts and metadata, dense vector and sparse vector, bit
for bit. Of BM25 a folder keeps token counts and a server impacts; what one of them lacks is computed of what the other
has, by the same statistics. What is copied must not be written to meanwhile; the comparison says so if it is.

A server's collection cannot count words (`Settings.of` says why). Of an index that does, it counts the document model's
tokens of the same texts, with statistics taken of all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import Rows, pages
from lightretriever.index.folder import create_folder, load_settings
from lightretriever.index.index import Index
from lightretriever.index.settings import LOCAL, Settings, check_engine
from lightretriever.index.state import State, open_state
from lightretriever.index.store.terms import insert_terms, next_term
from lightretriever.index.store.values import read_statistics, write_statistics
from lightretriever.paths import absolute
from lightretriever.progress import Progress, Report, silent

BUILT_FROM = "migration"
PAGE = 500  # documents read at once


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did.

    Attributes:
        documents: in the new index; each was compared.
        copied: written by this run.
        passed_over: there already, and equal.
        resumed: whether an earlier, interrupted run had begun it.
        recounted: whether the sparse side counts tokens there, and words here.
    """

    documents: int
    copied: int
    passed_over: int
    resumed: bool
    recounted: bool


def migrate_index(source: str | Path, engine: str, output: str | Path, report: Report | None = None) -> Migration:
    """Copy an index to another engine and compare the two; interrupted, the same call goes on.

    Args:
        source: the index's folder; opened for the whole time.
        engine: "local", or a Qdrant server's URL; see `Index.create`.
        output: the new index's folder; new, or begun by the same call. A complete one is compared once more.
        report: gives the progress function of each phase: "copying", "optimising", "comparing".

    Raises:
        UsageError: there is no such engine.
        MismatchError: the output was begun from another index, for another engine, or with another table.
        ArtifactError: the output is something else or damaged, an engine failed, or the two are not equal at the end.
    """
    engine, path = check_engine(engine), absolute(output)
    report = report or (lambda _: silent)
    with Index.open(source) as index:
        place = str(index.path.resolve()) if index.settings.local else index.settings.engine
        target, resumed = _begin(path, engine, index, place)
        try:
            migrated = _Migrating(index, target)
            building, copied, passed = target.current.settings.state != "complete", 0, 0
            if building:
                copied, passed = migrated.copy(report("copying"))
                report("optimising")
                target.current.engine.optimise()
                target.current.engine.flush()
            documents = migrated.compare(report("comparing"), building)
            if building:
                target.save(_settings(index.settings, target.current.settings, "complete", index.settings.built_from))
        finally:
            target.close()
    return Migration(documents, copied, passed, resumed, migrated.recounted)


def _settings(of: Settings, parts: Settings, state: str, built_from: str) -> Settings:
    """Settings as those of the index that is copied, with the new one's engine and names of parts."""
    names = ("engine", "engine_named", "table", "vectors", "collection", "analyser")
    own = {name: getattr(parts, name) for name in names}
    return replace(of, successor=None, state=state, built_from=built_from, **own)


def _begin(path: Path, engine: str, index: Index, place: str) -> tuple[State, bool]:
    """Make the new folder, or check that it is one to go on with, and open it; says also whether it was there."""
    table, of = index.encoder.table, index.settings
    analyser = of.analyser if engine == LOCAL and of.sparse == "bm25" else None
    fresh = Settings.of(table, of.sparse, tenant=of.tenant, engine=engine, analyser=analyser)
    settings = replace(_settings(of, fresh, "building", BUILT_FROM), source=place)
    resumed = path.exists()
    if not resumed:
        create_folder(path, table, settings)
    check = partial(_check, path, settings)
    check(load_settings(path))
    return open_state(path, check, engine=engine), resumed


def _check(path: Path, settings: Settings, begun: Settings) -> None:
    """Raises MismatchError when what was begun is another copy."""
    for name, value in settings.identity().items():
        found = begun.identity()[name]
        if found != value:
            raise MismatchError(f"{path} has {name} {found!r}, what is copied {value!r}: choose another output")
    if begun.state == "complete":
        return
    if begun.built_from != BUILT_FROM:
        raise MismatchError(f"{path} was begun from a {begun.built_from}, not by migrate: choose another output")
    if begun.source != settings.source:
        raise MismatchError(f"{path} was begun from {begun.source}, now it is {settings.source}: choose another output")


class _Migrating:
    """Of one index into another."""

    def __init__(self, index: Index, target: State) -> None:
        side = index.sparse_side
        self.recounted = side.terms is not None and not target.current.settings.local
        self._side = replace(side, terms=None) if self.recounted else side
        self._source, self._target = index.engine, target.current.engine
        self._path, self._index, self._state = target.path, index, target
        self._statistics = self._count_anew(target) if self.recounted else _copy_statistics(index, target)

    def copy(self, progress: Progress) -> tuple[int, int]:
        """Copy what is not there yet; how many were written, and how many were there and equal."""
        total, copied, passed = self._source.count(), 0, 0
        for page in pages(self._source, PAGE, vectors=True):
            rows = self._as_there(page)
            equal = _equal(rows, self._target.rows(list(self._target.existing(_ids(rows)))))
            wanted = [row for row, document in enumerate(rows.documents) if document.id not in equal]
            if wanted:
                _copy_terms(self._index, self._state)  # some may be new since its own were copied
                self._target.store(rows.take(wanted), None)
            copied, passed = copied + len(wanted), passed + len(rows) - len(wanted)
            progress(copied + passed, total)
        return copied, passed

    def compare(self, progress: Progress, building: bool) -> int:
        """Read every document back from both; how many there are. Raises ArtifactError when they are not equal."""
        total, done, unequal, first = self._source.count(), 0, 0, ""
        for page in pages(self._source, PAGE, vectors=True):
            rows = self._as_there(page)
            equal = _equal(rows, self._target.rows(_ids(rows)))
            different = [document.id for document in rows.documents if document.id not in equal]
            if different and not unequal:
                first = f" (the first is {different[0]!r})"
            unequal, done = unequal + len(different), done + len(rows)
            progress(done, total)
        count = self._target.count()
        if unequal or count != done:
            surplus = f", and {count - done:,} are there that should not be" if count > done else ""
            way_out = "run the same command again, it copies what differs" if building else "migrate to another output"
            raise ArtifactError(
                f"{self._path}: of {done:,} documents {unequal:,} are not as they are in what was copied{first}"
                f"{surplus}: one of the two was written to since; {way_out}"
            )
        return done

    def _as_there(self, page: Rows) -> Rows:
        """Documents of the one engine as the other keeps them."""
        keeps, wants = self._source.keeps_counts, self._target.keeps_counts
        if self.recounted:
            page = replace(page, sparse=self._side.counts(page.documents))
        if self._side.kind != "bm25" or keeps == wants:
            return page
        if wants:
            return replace(page, sparse=self._side.counts(page.documents))
        assert self._statistics is not None and page.sparse is not None
        return replace(page, sparse=self._statistics.impacts(page.sparse))

    def _count_anew(self, target: State) -> BM25:
        """Statistics of the tokens of all documents, or those that were taken when this was begun."""
        with target.database.reading() as connection:
            statistics = read_statistics(connection, target.current.settings)
        if statistics is None:
            counts = (self._side.counts(page.documents) for page in pages(self._source, PAGE))
            statistics = BM25.of(counts, self._side.width)
            with target.database.writing() as connection:
                write_statistics(connection, statistics)
        return statistics


def _copy_statistics(index: Index, target: State) -> BM25 | None:
    """Give the new index the terms and statistics of the one that is copied, as long as it is being built."""
    statistics, settings = index.bm25, target.current.settings
    if statistics is not None and settings.state != "complete":
        _copy_terms(index, target)
        with target.database.writing() as connection:
            write_statistics(connection, statistics)
    return statistics


def _copy_terms(index: Index, target: State) -> None:
    """Those that the new index lacks; on a server it counts none."""
    if not target.current.settings.counts_words:
        return
    with target.database.reading() as connection:
        last = next_term(connection) - 1
    for page in index.term_pages(last):
        with target.database.writing() as connection:
            insert_terms(connection, page)


def _ids(rows: Rows) -> list[str]:
    return [document.id for document in rows.documents]


def _equal(one: Rows, other: Rows) -> set[str]:
    """The ids that both have with equal documents and vectors."""
    places = {document.id: row for row, document in enumerate(other.documents)}
    return {
        document.id
        for row, document in enumerate(one.documents)
        if document.id in places and _same(one, row, other, places[document.id])
    }


def _same(one: Rows, row: int, other: Rows, place: int) -> bool:
    first, second = one.documents[row], other.documents[place]
    stored = [json.dumps(document.metadata, sort_keys=True) for document in (first, second)]  # to Python True equals 1
    return (
        (first.title, first.text) == (second.title, second.text)
        and stored[0] == stored[1]
        and np.array_equal(one.dense[row], other.dense[place])
        and _terms(one, row) == _terms(other, place)
    )


def _terms(rows: Rows, row: int) -> list[tuple[int, float]]:
    if rows.sparse is None:
        return []
    indices, values = rows.sparse.row(row)
    return sorted(zip(indices.tolist(), values.tolist(), strict=True))
