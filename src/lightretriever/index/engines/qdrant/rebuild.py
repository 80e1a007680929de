"""A collection takes another's place while that one answers and takes writes: fresh BM25 statistics, another model.

Documents are copied page by page into a collection beside the one in use; what is written meanwhile is noted by id and
copied again, until so little is left that writers can wait for it. Then, in this order: the index notes the new
collection (what `replace_collection` is given as ``go_over``), the alias goes over, the old collection is deleted.
Whatever interrupts it before the index has noted it, the index is what it was; after that, `QdrantServer.settle` makes
the rest good when the index is opened next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import Protocol

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.engine import Rows, pages
from lightretriever.index.engines.qdrant.collection import Contents, number_of
from lightretriever.index.engines.qdrant.engine import QdrantEngine
from lightretriever.index.engines.qdrant.points import document_payload
from lightretriever.index.engines.qdrant.server import QdrantServer
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document

PAGE = 256  # documents copied at once
LAST = 64  # documents copied while writers wait
ROUNDS = 20  # of catching up before writers wait, however many documents are left
LONGEST_PACE = 0.1  # seconds that a writer gives way for a document, at most


class Writers(Protocol):
    """Everyone who writes to the collection in use, in whatever process."""

    def watching(self) -> AbstractContextManager[None]:
        """Within the block the ids of every write that is acknowledged are noted; nothing is noted yet."""

    def waiting(self) -> AbstractContextManager[None]:
        """Others wait. What is changed in the block is durable when it has ended well, and not at all otherwise."""

    def taken(self) -> Sequence[str]:
        """What was noted since this was called last; to be called within `waiting`."""

    def give_way(self, seconds: float) -> None:
        """Have those in this process stand still for so long after each document, until `watching` ends."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A collection that is to take another's place.

    Attributes:
        name: its name: `QdrantServer.next_name`, or that of one which was begun before, which is gone on with.
        contents: what its documents have, and what they belong to.
        transform: its rows of those of the old, the documents being the same; one that may be gone on with depends on
            the documents alone.
        lasting: whether what an interruption leaves is kept, for the next call of this name, rather than deleted.
    """

    name: str
    contents: Contents
    transform: Callable[[Rows], Rows]
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """Whoever looks after a replacement.

    Attributes:
        progress: called with the number of documents seen so far and of all.
        stopped: set in another thread, ends it soon.
    """

    progress: Progress | None = None
    stopped: Event = field(default_factory=Event)


def replace_collection(
    engine: QdrantEngine,
    successor: Successor,
    writers: Writers,
    go_over: Callable[[QdrantEngine], None],
    watch: Watch | None = None,
) -> QdrantEngine:
    """Fill another collection, and let it take the place of the one in use.

    Args:
        engine: in use; it is left open, for searches that began with it. Its collection is deleted at the end.
        successor: what is new.
        writers: whose writes are to be in the new collection too.
        go_over: notes the new engine's collection as the index's own, within `Writers.waiting`. Where that fails the
            new collection is kept, in case it was noted all the same.
        watch: who looks after it.

    Returns:
        The new engine, with a connection of its own.

    Raises:
        MismatchError: there is a collection of that name with other contents.
        ArtifactError: the server failed, or it was stopped; unless the new collection was noted already, the index is
            as it was.
        What the transform and ``go_over`` raise.
    """
    server = QdrantServer(engine.connection.another())
    copying = _Copying(engine, successor, server, writers, watch or Watch())
    kept, gone_over = True, False
    try:
        resumed = _is_begun(server, engine, successor)
        with writers.watching():
            target = copying.begin(resumed)
            kept = successor.lasting
            copying.fill(target, resumed)
            copying.catch_up(target)
            with writers.waiting():
                copying.copy_again(target, writers.taken())
                kept = True
                go_over(target)
            gone_over = target.follows = True
            server.settle(successor.name)
        return target
    except BaseException:
        if not kept:
            with suppress(ArtifactError):  # the server may be what failed; `info` names what is left
                server.drop(successor.name)
        if not gone_over:
            server.close()
        raise


def _is_begun(server: QdrantServer, engine: QdrantEngine, successor: Successor) -> bool:
    """Whether there is a collection of that name to go on with. Raises ArtifactError where it must be left alone."""
    name, alias = successor.name, engine.connection.address.name
    if number_of(alias, name) <= number_of(alias, engine.collection):
        raise ArtifactError(f"{name!r} is no name for what comes after the collection {engine.collection!r}")
    begun = server.exists(name)
    if begun and not successor.lasting:
        raise ArtifactError(f"there is a collection {name!r} already, which something else is filling: try again later")
    return begun


@dataclass(frozen=True, slots=True)
class _Copying:
    """One engine's documents into the one that takes its place."""

    source: QdrantEngine
    successor: Successor
    server: QdrantServer
    writers: Writers
    watch: Watch

    def begin(self, resumed: bool) -> QdrantEngine:
        """The new engine, with what an earlier run left in it, or nothing."""
        name, contents = self.successor.name, self.successor.contents
        target = self.server.open(contents, name) if resumed else self.server.make(name, contents)
        target.follows = False  # nothing that is meant for it may end in the collection that is in use
        if target.collection != name:
            raise ArtifactError(f"the collection {name!r} was deleted while it was being filled: begin again")
        return target

    def fill(self, target: QdrantEngine, resumed: bool) -> None:
        """Have all in it that there is by now, and the server at rest."""
        total, done, progress = self.source.count(), 0, self.watch.progress
        for page in pages(self.source, PAGE, vectors=True):
            self._check()
            wanted = _differing(page, target) if resumed else page
            if len(wanted):
                target.store(self.successor.transform(wanted), None)
            done += len(page)
            if progress:
                progress(done, total)
        if resumed:
            self._drop_deleted(target)
        target.optimise(self.watch.stopped)
        self._check()

    def catch_up(self, target: QdrantEngine) -> None:
        """Copy what was written meanwhile, until it is little. Writers give way for as long as copying their documents
        takes, or they would stay ahead; longer, where several of them do so still."""
        before = stubborn = 0
        for _ in range(ROUNDS):
            with self.writers.waiting():
                ids = self.writers.taken()
            begun = perf_counter()
            self.copy_again(target, ids)
            if len(ids) <= LAST:
                return
            stubborn += 0 < before < 1.5 * len(ids)
            self.writers.give_way(min(LONGEST_PACE, (perf_counter() - begun) / len(ids) * 2**stubborn))
            before = len(ids)

    def copy_again(self, target: QdrantEngine, ids: Sequence[str]) -> None:
        """Make documents in the new engine what they are in the old, or gone."""
        for start in range(0, len(ids), PAGE):
            self._check()
            some = ids[start : start + PAGE]
            rows = self.source.rows(some)
            if len(rows):
                target.store(self.successor.transform(rows), None)
            gone = set(some) - {document.id for document in rows.documents}
            target.delete(list(gone), None)

    def _drop_deleted(self, target: QdrantEngine) -> None:
        for page in pages(target, PAGE):
            self._check()
            ids = [document.id for document in page.documents]
            target.delete(list(set(ids) - self.source.existing(ids)), None)

    def _check(self) -> None:
        if self.watch.stopped.is_set():
            raise ArtifactError(
                f"{self.source.connection.address.url}: it was closed before {self.successor.name} was full"
            )


def _differing(page: Rows, target: QdrantEngine) -> Rows:
    """Those whose document is not in the target as it is here; their vectors are made of that."""
    stored = target.documents([document.id for document in page.documents])
    return page.take(
        [row for row, document in enumerate(page.documents) if not _same(document, stored.get(document.id))]
    )


def _same(one: Document, other: Document | None) -> bool:
    return other is not None and document_payload(one) == document_payload(other)  # in Python 1 equals true
