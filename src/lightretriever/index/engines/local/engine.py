"""The engine that holds an index in its own folder: the truth in SQLite, searched by memory-mapped segments.

Any number of processes search it while one writes; every search sees every committed write, also another process's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.fusion_kernels import fuse_lists
from lightretriever.index.engines.engine import Asked, Found, Rows, check_vocabulary, ends_of
from lightretriever.index.engines.local.build import optimise
from lightretriever.index.engines.local.follower import Follower
from lightretriever.index.engines.local.merging import merged
from lightretriever.index.engines.local.view import Scratch, View
from lightretriever.index.engines.local.writer import delete_rows, store_rows
from lightretriever.index.filter.language import Filter
from lightretriever.index.settings import LOCAL
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.documents import fetch_documents, fetch_vectors, find_keys, page_documents
from lightretriever.index.store.state import read_state
from lightretriever.index.store.terms import sparse_width
from lightretriever.index.store.values import read_settings
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors, take_sparse


class LocalEngine:
    """An `Engine` over an index's folder; threads may share it, and a forked process opens what it needs itself."""

    keeps_counts = True

    def __init__(self, path: Path, database: Database) -> None:
        """Over a folder that has a database with settings in it."""
        self.path = path
        self.database = database
        self.follower = Follower(path, database)
        self.scratch = Scratch()

    def moment(self) -> Moment:
        """The index as it is now."""
        return Moment(self, self.follower.view())

    def store(self, rows: Rows, tenant: str | None) -> int:
        with self.database.writing(durable=False) as connection:
            return store_rows(connection, self.database.file, rows, tenant)

    def delete(self, ids: Sequence[str], where: Filter | None) -> int:
        with self.database.writing(durable=False) as connection:
            return delete_rows(connection, self.database.file, ids, where)

    def search(self, asked: Asked) -> Found:
        return self.moment().search(asked)

    def existing(self, ids: Sequence[str]) -> set[str]:
        with self.database.reading() as connection:
            return set(find_keys(connection, ids))

    def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        with self.database.reading() as connection:
            connection.execute("BEGIN")
            found = find_keys(connection, ids)
            documents = self._fetched(connection, list(found.values()))
        return {name: documents[key] for name, key in found.items()}

    def rows(self, ids: Sequence[str]) -> Rows:
        with self.database.reading() as connection:
            connection.execute("BEGIN")
            found = find_keys(connection, ids)
            keys = [found[name] for name in dict.fromkeys(ids) if name in found]
            documents = self._fetched(connection, keys)
            return self._with_vectors(connection, [(key, documents[key]) for key in keys])

    def page(self, after: int, size: int, vectors: bool = False) -> tuple[Rows, int]:
        with self.database.reading() as connection:
            connection.execute("BEGIN")
            found = page_documents(connection, after, size)
            last = found[-1][0] if found else after
            if vectors:
                return self._with_vectors(connection, found), last
        return Rows([document for _, document in found], np.empty((len(found), 0), np.float32), None), last

    def _fetched(self, connection: Connection, keys: Sequence[int]) -> dict[int, Document]:
        found = fetch_documents(connection, keys)
        if len(found) != len(keys):
            raise ArtifactError(f"{self.database.file} is damaged: it lacks documents of its ids: restore a snapshot")
        return found

    def _with_vectors(self, connection: Connection, found: Sequence[tuple[int, Document]]) -> Rows:
        settings = read_settings(connection, self.database.file)
        keys = [key for key, _ in found]
        vectors = fetch_vectors(connection, settings.vectors, settings.dim, sparse_width(connection, settings), keys)
        if len(vectors) != len(keys):
            raise ArtifactError(f"{self.database.file} is damaged: documents lack their vectors: restore a snapshot")
        order = np.argsort(np.argsort(keys)) if keys else np.empty(0, np.intp)
        sparse = None if vectors.sparse is None else take_sparse(vectors.sparse, order)
        return Rows([document for _, document in found], vectors.dense[order], sparse)

    def count(self) -> int:
        with self.database.reading() as connection:
            return read_state(connection).documents

    def info(self) -> Mapping[str, object]:
        view = self.follower.view()
        return {
            "engine": LOCAL,
            "unoptimised": view.unbuilt,
            "segments": [segment.description.documents for segment in view.segments],
            "fresh": view.rows.count,
            "damaged": dict(view.damaged),
            "bytes": _size(self.path),
        }

    def flush(self) -> None:
        with self.database.writing(durable=True) as connection:
            connection.execute("UPDATE state SET flushes = flushes + 1")

    def optimise(self, stopped: Event | None = None) -> None:
        optimise(self.path, self.database, stopped)
        self._prepare()

    def _prepare(self) -> None:
        """Search for something, so that what searches run is compiled, for this process and those that come: on a new
        machine that takes some seconds, which nobody should wait for at the first question."""
        view = self.follower.view()
        settings = view.settings
        query = np.zeros((1, settings.dim), np.float32)
        query[0, 0] = 1
        token = SparseVectors(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), 1, view.vocabulary)
        found = self.search(Asked(query, None if settings.sparse == "none" else token, 10))
        merged([found.dense, found.sparse], 1, 10)
        fuse_lists(found.dense.arrays, found.sparse.arrays, 10, settings.fusion)

    def close(self) -> None:
        self.database.close()


def _size(path: Path) -> int:
    """Bytes of a folder's files; another process may remove some meanwhile."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                size += Path(folder, name).stat().st_size
    return size


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """An index at one moment, to be searched as it was then; texts are fetched as they are."""

    engine: LocalEngine
    view: View

    def search(self, asked: Asked) -> Found:
        """See `Engine.search`. Raises MismatchError for vectors of another dimension or vocabulary."""
        dim = self.view.settings.dim
        if asked.dense is not None and asked.dense.shape[1] != dim:
            raise MismatchError(f"the query vectors have {asked.dense.shape[1]} dimensions, the index {dim}")
        check_vocabulary(asked, self.view.vocabulary)
        view, masks = self.engine.follower.masks(self.view, asked.where)
        dense, sparse = view.best(asked, masks, self.engine.scratch)
        ends = None
        if asked.both and asked.dense is not None:
            ends = ends_of(asked.dense, view.total, view.state.documents)
        return Found(dense, sparse, view.ids, Moment(self.engine, view).fetch, view.dense_scores, ends)

    def fetch(self, keys: Sequence[int]) -> list[Document | None]:
        """See `Found`."""
        engine, then = self.engine, self.view.state
        with engine.database.reading(looked=True) as connection:
            found = fetch_documents(connection, keys)
            if len(found) < len(set(keys)):
                now = read_state(connection)
                if (now.identity, now.next_gone) == (then.identity, then.next_gone):  # nothing went since
                    raise ArtifactError(f"{engine.database.file} is damaged: it lacks documents: restore a snapshot")
        return [found.get(key) for key in keys]
