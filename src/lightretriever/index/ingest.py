"""From a corpus, or from vectors, to a searchable index; interrupted anywhere, the same call goes on.

While it is being built an index is marked so, and cannot be opened. Documents are stored as they are encoded, and with
them in one transaction how many of the source are in and what they were, so that another run passes over these and
finds out whether they are still the same. In the end all is built. Of documents with one id the last wins.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import writing
from lightretriever.checked import begun_otherwise
from lightretriever.errors import MismatchError, UsageError
from lightretriever.index.folder import create_folder, load_settings
from lightretriever.index.settings import LOCAL, Settings, check_engine, check_model
from lightretriever.index.state import State, open_state
from lightretriever.index.store.values import write_settings
from lightretriever.index.stored_passages import numbers_of
from lightretriever.index.tenant import another_tenants, check_ids, of_tenants, owner_digest
from lightretriever.index.upkeep import rows_of, store_rows
from lightretriever.passages.options import PassageOptions
from lightretriever.paths import absolute
from lightretriever.progress import Progress, Report, silent
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.analysers.choose import SAMPLE
from lightretriever.text.corpus import Document, given_document
from lightretriever.text.tokenizer import id_count
from lightretriever.types import Encoded
from lightretriever.vectors.encode import Tower, begun, next_size, onwards, origin_of
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.vectors.lock import lock_folder
from lightretriever.vectors.parts import content_lines, usable
from lightretriever.vectors.unusable import usable_named

_BUILDING = "building"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What building an index came to.

    Attributes:
        documents: in the index now.
        read: in the corpus, duplicates included.
        duplicates: not in it because a later document has their id.
        without_dense: documents of no tokens, or for which the tower gave NaN: only the sparse arm finds them.
        resumed: whether an earlier, interrupted run had begun it.
        complete_before: whether there was nothing to do, the same documents being in already.
        seconds: by phase, of this run: "encoding" or "storing", "optimising".
        analyser: what BM25 counts, as "words (english)"; "" where the sparse side is another.
    """

    documents: int
    read: int
    duplicates: int
    without_dense: int
    resumed: bool
    complete_before: bool
    seconds: dict[str, float]
    analyser: str = ""


def index_corpus(
    path: str | Path,
    documents: Iterable[Document],
    tower: Tower,
    encoder: QueryEncoder,
    sparse: str = "lm",
    report: Report | None = None,
    tenant: str | None = None,
    engine: str = LOCAL,
    passages: PassageOptions | None = None,
    analyser: Analyser | None = None,
) -> IngestReport:
    """Encode a corpus and index it; run again on the same output, it resumes.

    Args:
        path: the index; new, or begun by the same call.
        documents: the whole corpus, from its beginning, in the same order every time; streamed.
        tower: the document tower.
        encoder: the query encoder, of the same model; the index keeps a copy of its table.
        sparse: "lm" (the tower's own), "bm25" or "none".
        report: gives the progress function of each phase: "encoding", "optimising".
        tenant: as for `Index.create`.
        engine: "local", or a Qdrant server's URL; see `Index.create`.
        passages: how documents were split, where they come as `passage_documents` makes them; None: they are whole.
        analyser: as for `Index.create`.

    Raises:
        InputError: there are no documents, or one that cannot be stored, or that is no tenant's; its id is named.
        UsageError: sparse="lm" with a tower that has no LM head, an unknown kind, or a document without an id.
        MismatchError: tower and table are of two models, or the output was begun with other things or documents.
        ArtifactError: the output is something else or damaged, or the disk is full.
        LockedError: another process is at it.
    """
    table = encoder.table
    check_model("the token table", table.model, table.revision, "the document model", tower.name, tower.revision)
    if sparse == "lm" and not tower.has_sparse:
        raise UsageError(f"{tower.name} has no language-model head: choose sparse 'bm25' or 'none'")
    _check_shapes(encoder, tower.dim, tower.vocab_size if sparse == "lm" else None, tower.name)
    encoding = {**origin_of(tower), "max_length": tower.max_length, "top_k": tower.top_k}
    stream = begun(of_tenants(map(given_document, documents), tenant))
    begun_as = Settings.of(table, sparse, "building", tenant, check_engine(engine), passages, analyser)
    with _begun(absolute(path), replace(begun_as, encoding=encoding, built_from="corpus"), encoder, report) as build:
        digest, read, size = hashlib.sha256(), 0, 1
        first = list(islice(stream, SAMPLE))
        stream = chain(first, stream)
        build.choose_analyser(first)
        with build.clock.phase("encoding") as progress:
            for document in islice(stream, build.settings.ingested):  # that an earlier run stored
                digest.update(content_lines([document]))
                read += 1
            build.check_source(read, digest.hexdigest(), "documents")
            while chunk := list(islice(stream, size)):
                build.check_incomplete("documents")
                digest.update(content_lines(chunk))
                start = time.monotonic()
                encoded = tower.encode(chunk, onwards(progress, read))
                size = next_size(len(chunk), time.monotonic() - start)
                encoded = usable_named(chunk, encoded, table.dim, table.rotation)
                read += len(chunk)
                build.store(chunk, encoded, read, digest.hexdigest())
                progress(read, None)
        return build.finish(read)


def ingest_vectors(
    path: str | Path,
    vectors: VectorsFolder,
    encoder: QueryEncoder,
    sparse: str = "lm",
    report: Report | None = None,
    tenant: str | None = None,
    engine: str = LOCAL,
    passages: PassageOptions | None = None,
    analyser: Analyser | None = None,
) -> IngestReport:
    """Index documents encoded before, without any document model; run again on the same output, it resumes.

    Args:
        path: the index; new, or begun by the same call.
        vectors: a complete vectors folder.
        encoder, sparse, report, tenant, engine, passages, analyser: as for `index_corpus`.

    Raises:
        As `index_corpus`.
    """
    table = encoder.table
    check_model("the token table", table.model, table.revision, f"{vectors.path}", vectors.model, vectors.revision)
    if sparse == "lm" and vectors.sparse_width is None:
        raise UsageError(f"{vectors.path} holds no sparse vectors: choose sparse 'bm25' or 'none', or encode it anew")
    _check_shapes(encoder, vectors.dim, vectors.sparse_width if sparse == "lm" else None, str(vectors.path))
    encoding = {**vectors.settings, **vectors.origin}
    begun_as = Settings.of(table, sparse, "building", tenant, check_engine(engine), passages, analyser)
    with _begun(absolute(path), replace(begun_as, encoding=encoding, built_from="vectors"), encoder, report) as build:
        if build.settings.source:
            build.check_source(build.settings.ingested, vectors.digest, f"vectors than {vectors.path}")
        build.choose_analyser(chain.from_iterable(vectors.documents()))
        with build.clock.phase("storing") as progress:
            wanted = _last_of_each_id(vectors, tenant, silent)
            done = 0
            for number, (documents, encoded) in enumerate(vectors.parts(), 1):
                rows = np.flatnonzero(wanted[done : done + len(documents)])
                done += len(documents)
                if build.complete or number <= build.settings.ingested:
                    continue
                chosen = usable(encoded.take(rows), table.dim, table.rotation)
                build.store([documents[row] for row in rows], chosen, number, vectors.digest)
                progress(done, vectors.count)
        return build.finish(vectors.count)


def _check_shapes(encoder: QueryEncoder, dim: int, width: int | None, what: str) -> None:
    rotation = encoder.table.rotation
    if rotation is not None and dim != len(rotation):
        raise MismatchError(f"{what} has {dim} dimensions, the token table turns {len(rotation)}: use the model's own")
    if dim < encoder.dim:
        raise MismatchError(f"{what} has {dim} dimensions, the token table {encoder.dim}: use the model's own table")
    tokens = id_count(encoder.table.tokenizer)
    if width is not None and width not in (tokens, len(encoder.table)):
        raise MismatchError(f"{what} has sparse vectors of width {width}, the table's tokenizer {tokens} ids")


class _Build:
    """An index that is being built.

    Attributes:
        complete: whether it was before.
        resumed: whether an earlier run had begun it.
        clock: of its phases.
    """

    def __init__(self, state: State, resumed: bool, report: Report | None) -> None:
        self._state = state
        self.complete = state.current.settings.state == "complete"
        self.resumed = resumed
        self.clock = _Clock(report)

    @property
    def settings(self) -> Settings:
        """What it is bound to, how far it is, and what of."""
        return self._state.current.settings

    def check_source(self, ingested: int, source: str, what: str) -> None:
        """Check that what an earlier run stored is what this one begins with.

        Raises:
            MismatchError: it is not; ``what`` says of what.
        """
        if self.settings.ingested and (ingested, source) != (self.settings.ingested, self.settings.source):
            self.check_incomplete(what)
            raise MismatchError(
                f"{self._state.path} was begun with other {what}: restore them, or choose another output"
            )

    def check_incomplete(self, what: str) -> None:
        """Raise MismatchError where there is something to store, and it was complete before."""
        if self.complete:
            raise MismatchError(
                f"{self._state.path} is complete, and was made of other {what}: `add` these to it, or choose another "
                "output"
            )

    def choose_analyser(self, documents: Iterable[Document]) -> None:
        """Have the first documents say what the sparse side counts, where it is open."""
        self._state.choose_analyser(document.input for document in documents)

    def store(self, documents: list[Document], encoded: Encoded, ingested: int, source: str) -> None:
        """Store documents, and in the same transaction that so much of the source is in, and its digest."""
        check_ids(documents, self.settings.tenant)
        current = self._state.choose_analyser(document.input for document in documents)  # where the first had no text
        if current.settings.passages:
            numbers_of(documents)  # which is raised if one is no passage
        rows = rows_of(documents, encoded, current.side)
        with self._state.database.writing(durable=False) as connection:
            if len(rows):
                store_rows(current, connection, rows)
            zeros = current.settings.zeros + int((~encoded.dense.any(axis=1)).sum())
            write_settings(connection, replace(current.settings, ingested=ingested, source=source, zeros=zeros))

    def finish(self, read: int) -> IngestReport:
        """Build all, and say that it is complete."""
        state, complete_before = self._state, self.complete
        if not complete_before:
            with self.clock.phase("optimising"):
                state.current.engine.optimise()
            with state.writing(flush=True):
                state.save(replace(self.settings, state="complete"))
        count = state.current.engine.count()
        return IngestReport(
            documents=count,
            read=read,
            duplicates=0 if complete_before else read - count,
            without_dense=self.settings.zeros,
            resumed=self.resumed,
            complete_before=complete_before,
            seconds={} if complete_before else self.clock.seconds,
            analyser=self.settings.counted,
        )


@contextmanager
def _begun(path: Path, settings: Settings, encoder: QueryEncoder, report: Report | None) -> Iterator[_Build]:
    """The half-built index, which no other process builds until the block ends; made where there is none.

    Raises:
        MismatchError: what was begun is another build.
        LockedError: another process is at it.
    """
    resumed = path.exists()
    if not resumed:
        create_folder(path, encoder.table, settings)
    check = partial(_check, path, settings)
    check(load_settings(path))
    with writing(path):
        held = lock_folder(path, _BUILDING)
    with held:
        state = open_state(path, check, engine=settings.engine)
        try:
            yield _Build(state, resumed, report)
        finally:
            state.close()


def _check(path: Path, settings: Settings, begun: Settings) -> None:
    """Raises MismatchError when what was begun is another build."""
    for name, value in settings.identity().items():
        found = begun.identity()[name]
        if found != value and not (name == "analyser" and value is None):  # chosen by what was stored
            raise MismatchError(f"{begun_otherwise(path, name, found, value)}: choose another output")
    if begun.state != "complete" and begun.built_from != settings.built_from:
        raise MismatchError(
            f"{path} was begun from {begun.built_from or 'something unknown'}, now it is {settings.built_from}: "
            "go on from the same, or choose another output"
        )


def _last_of_each_id(vectors: VectorsFolder, tenant: str | None, progress: Progress) -> NDArray[np.bool_]:
    """Which documents have no later one of the same id in the corpus; some 50 bytes of memory a document."""
    keys, owners = bytearray(), bytearray()
    for documents in vectors.documents():
        chosen = list(of_tenants(documents, tenant))
        keys += b"".join(_digest(document.id) for document in chosen)
        if tenant is not None:
            owners += b"".join(owner_digest(document, tenant) for document in chosen)
        progress(len(keys) // 16, vectors.count)
    backwards = np.argsort(vectors.positions)[::-1]
    wanted = np.zeros(len(backwards), dtype=bool)
    last, same = np.unique(_of_16(keys)[backwards], return_index=True, return_inverse=True)[1:]
    wanted[backwards[last]] = True
    if tenant is not None:
        owner = _of_16(owners)[backwards]
        stray = np.flatnonzero(owner != owner[last][same])
        if len(stray):
            raise another_tenants(_id_at(vectors, int(backwards[stray[0]])), tenant)
    return wanted


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=16).digest()


def _of_16(digests: bytearray) -> NDArray[np.void]:
    return np.frombuffer(digests, dtype="V16")


def _id_at(vectors: VectorsFolder, row: int) -> str:
    ids = (document.id for documents in vectors.documents() for document in documents)
    return next(islice(ids, row, None))


class _Clock:
    """Seconds of each phase, and its progress function."""

    def __init__(self, report: Report | None) -> None:
        self.seconds: dict[str, float] = {}
        self._report = report

    @contextmanager
    def phase(self, name: str) -> Iterator[Progress]:
        start = time.perf_counter()
        yield self._report(name) if self._report else silent
        self.seconds[name] = time.perf_counter() - start
