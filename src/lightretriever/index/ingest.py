"""From a corpus, or from vectors, to a searchable index; interrupted anywhere, the same call goes on.

While it is being built an index is marked so, cannot be opened, and holds what is not yet stored:

    INDEX/staging/vectors/    a vectors folder: what the tower has made of the corpus so far
    INDEX/staging/counts/     token counts of each part, where the sparse side is BM25

First every document is encoded; then, if need be, BM25 statistics are taken of all of them; then all are stored,
the engine flushed and the number of parts noted now and then; then the graph is built and the staging removed. Of
documents with one id the last wins, and the earlier ones are never stored.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import load_tensors, save_tensors, writing
from lightretriever.checked import begun_otherwise
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.index.backend import Points, document_payload, point_key
from lightretriever.index.bm25 import BM25
from lightretriever.index.folder import create_folder
from lightretriever.index.index import Index
from lightretriever.index.manifest import IndexManifest, check_model
from lightretriever.index.qdrant_url import check_engine
from lightretriever.index.state import open_state
from lightretriever.index.tenant import another_tenants, of_tenants, owner_digest
from lightretriever.paths import absolute
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.corpus import Document, given_document
from lightretriever.text.tokenizer import id_count
from lightretriever.types import Encoded, SparseVectors, take_sparse
from lightretriever.vectors.encode import Progress, Tower, begun, encode_corpus, origin_of
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.vectors.parts import content_lines, usable

STAGING = "staging"
_CSR = ("indptr", "indices", "values")
_FLUSH = 20_000  # documents stored between two flushes: what a kill costs
Report = Callable[[str], Progress]
"""Called when a phase begins ("encoding", "counting", "storing", "optimising"); gives what to tell its progress to."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What building an index came to.

    Attributes:
        documents: in the index now.
        read: in the corpus, duplicates included.
        duplicates: passed over because a later document has their id.
        without_dense: documents of no tokens, or for which the tower gave NaN: only the sparse arm finds them.
        resumed: whether an earlier, interrupted run had begun it.
        complete_before: whether there was nothing to do, the same documents being in already.
        seconds: by phase, of this run: "encoding", "counting", "storing", "optimising".
    """

    documents: int
    read: int
    duplicates: int
    without_dense: int
    resumed: bool
    complete_before: bool
    seconds: dict[str, float]


def index_corpus(
    path: str | Path,
    documents: Iterable[Document],
    tower: Tower,
    encoder: QueryEncoder,
    sparse: str = "lm",
    report: Report | None = None,
    tenant: str | None = None,
    engine: str = "edge",
) -> IngestReport:
    """Encode a corpus and index it; run again on the same output, it resumes.

    Args:
        path: the index; new, or begun by the same call.
        documents: the whole corpus, from its beginning, in the same order every time; streamed.
        tower: the document tower.
        encoder: the query encoder, of the same model; the index keeps a copy of its table.
        sparse: "lm" (the tower's own), "bm25" or "none".
        report: gives the progress function of each phase.
        tenant: as for `Index.create`.
        engine: "edge", or a Qdrant server's URL; see `Index.create`.

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
    digest = hashlib.sha256()
    stream = _digested(begun(of_tenants(map(given_document, documents), tenant)), digest)
    target = absolute(path)
    begun_as = IndexManifest.of(table, sparse, "building", tenant, check_engine(engine))
    manifest = replace(begun_as, encoding=encoding, built_from="corpus")
    index, resumed = _begin(target, manifest, encoder)
    if index is None:
        read = sum(1 for _ in stream)
        return _complete(target, digest.hexdigest(), read)
    with index:
        clock = _Clock(report)
        staged = target / STAGING / "vectors"
        with clock.phase("encoding") as progress:
            encode_corpus(stream, tower, staged, dtype="float32", progress=progress)
        if resumed and index.manifest.source not in ("", digest.hexdigest()):
            raise MismatchError(f"{target} was begun with other documents: restore them, or choose another output")
        index.update_manifest(replace(index.manifest, source=digest.hexdigest()))
        return _store(index, VectorsFolder.open(staged), resumed, clock)


def ingest_vectors(
    path: str | Path,
    vectors: VectorsFolder,
    encoder: QueryEncoder,
    sparse: str = "lm",
    report: Report | None = None,
    tenant: str | None = None,
    engine: str = "edge",
) -> IngestReport:
    """Index documents encoded before, without any document model; run again on the same output, it resumes.

    Args:
        path: the index; new, or begun by the same call.
        vectors: a complete vectors folder.
        encoder, sparse, report, tenant, engine: as for `index_corpus`.

    Raises:
        As `index_corpus`.
    """
    table = encoder.table
    check_model("the token table", table.model, table.revision, f"{vectors.path}", vectors.model, vectors.revision)
    if sparse == "lm" and vectors.sparse_width is None:
        raise UsageError(f"{vectors.path} holds no sparse vectors: choose sparse 'bm25' or 'none', or encode it anew")
    _check_shapes(encoder, vectors.dim, vectors.sparse_width if sparse == "lm" else None, str(vectors.path))
    target = absolute(path)
    encoding = {**vectors.settings, **vectors.origin}
    begun_as = IndexManifest.of(table, sparse, "building", tenant, check_engine(engine))
    manifest = replace(begun_as, encoding=encoding, built_from="vectors")
    index, resumed = _begin(target, manifest, encoder)
    if index is None:
        return _complete(target, vectors.digest, vectors.count)
    with index:
        if resumed and index.manifest.source not in ("", vectors.digest):
            raise MismatchError(f"{target} was begun with other vectors than {vectors.path}: choose another output")
        index.update_manifest(replace(index.manifest, source=vectors.digest))
        return _store(index, vectors, resumed, _Clock(report))


def _check_shapes(encoder: QueryEncoder, dim: int, width: int | None, what: str) -> None:
    rotation = encoder.table.rotation
    if rotation is not None and dim != len(rotation):
        raise MismatchError(f"{what} has {dim} dimensions, the token table turns {len(rotation)}: use the model's own")
    if dim < encoder.dim:
        raise MismatchError(f"{what} has {dim} dimensions, the token table {encoder.dim}: use the model's own table")
    tokens = id_count(encoder.table.tokenizer)
    if width is not None and width not in (tokens, len(encoder.table)):
        raise MismatchError(f"{what} has sparse vectors of width {width}, the table's tokenizer {tokens} ids")


def _begin(path: Path, manifest: IndexManifest, encoder: QueryEncoder) -> tuple[Index | None, bool]:
    """The half-built index, held by this process, and whether it was begun before; None when it is complete."""
    resumed = path.exists()
    if not resumed:
        create_folder(path, encoder.table, manifest)
    begun = IndexManifest.load(path)
    _check(path, manifest, begun)
    if begun.state == "complete":
        return None, resumed
    state = open_state(path, partial(_check, path, manifest), engine=manifest.engine)
    if state.current.manifest.state == "complete":  # by another process, meanwhile
        state.close()
        return None, resumed
    return Index(state), resumed


def _check(path: Path, manifest: IndexManifest, begun: IndexManifest) -> None:
    """Raises MismatchError when what was begun is another build."""
    for name, value in manifest.identity().items():
        found = begun.identity()[name]
        if found != value:
            raise MismatchError(f"{begun_otherwise(path, name, found, value)}: choose another output")
    if begun.state != "complete" and begun.built_from != manifest.built_from:
        raise MismatchError(
            f"{path} was begun from {begun.built_from or 'something unknown'}, now it is {manifest.built_from}: "
            "go on from the same, or choose another output"
        )


def _complete(path: Path, digest: str, read: int) -> IngestReport:
    """Nothing is left to do, if the index was made of the same documents."""
    manifest = IndexManifest.load(path)
    if manifest.source != digest:
        raise MismatchError(
            f"{path} is complete, and was made of other documents: `add` these to it, or choose another output"
        )
    shutil.rmtree(path / STAGING, ignore_errors=True)  # a run may have been killed just before it did
    return IngestReport(manifest.documents, read, 0, 0, resumed=True, complete_before=True, seconds={})


def _store(index: Index, vectors: VectorsFolder, resumed: bool, clock: _Clock) -> IngestReport:
    counts = index.path / STAGING / "counts"
    side = index.sparse_side
    with clock.phase("counting") as progress:
        wanted = _last_of_each_id(vectors, index.manifest.tenant, progress if side.kind != "bm25" else _silent)
        if side.kind == "bm25" and not side.file.exists():
            _count(index, vectors, wanted, counts, progress)
    statistics = side.statistics()
    with clock.phase("storing") as progress:
        done = since = 0
        for number, (documents, encoded) in enumerate(vectors.parts()):
            rows = np.flatnonzero(wanted[done : done + len(documents)])
            done += len(documents)
            if number < index.manifest.ingested or not len(rows):
                continue
            chosen = [documents[row] for row in rows]
            taken = usable(Encoded(encoded.dense[rows]), index.manifest.dim, index.encoder.table.rotation).dense
            sparse: SparseVectors | None
            if statistics is not None:
                sparse = statistics.impacts(_load_counts(counts, number, side.width))
            else:
                sparse = side.of(chosen, None if encoded.sparse is None else take_sparse(encoded.sparse, rows))
            keys = [point_key(document.id) for document in chosen]
            payloads = [document_payload(document) for document in chosen]
            index.backend.upsert(Points(keys, taken, sparse, payloads))
            since += len(rows)
            if since >= _FLUSH:  # what is noted as stored must survive whatever comes
                index.backend.flush()
                index.update_manifest(replace(index.manifest, ingested=number + 1))
                since = 0
            progress(done, vectors.count)
    with clock.phase("optimising"):
        index.backend.optimise()
        index.backend.flush()
    index.update_manifest(replace(index.manifest, state="complete", ingested=0, unoptimised=0, documents=index.count))
    shutil.rmtree(index.path / STAGING, ignore_errors=True)
    return IngestReport(
        documents=index.count,
        read=vectors.count,
        duplicates=vectors.count - int(wanted.sum()),
        without_dense=vectors.zeros,
        resumed=resumed,
        complete_before=False,
        seconds=clock.seconds,
    )


def _last_of_each_id(vectors: VectorsFolder, tenant: str | None, progress: Progress) -> NDArray[np.bool_]:
    """Which documents have no later one of the same id in the corpus; some 50 bytes of memory a document."""
    keys, owners = bytearray(), bytearray()
    for documents in vectors.documents():
        chosen = list(of_tenants(documents, tenant))
        keys += b"".join(point_key(document.id).to_bytes(16, "big") for document in chosen)
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


def _of_16(digests: bytearray) -> NDArray[np.void]:
    return np.frombuffer(digests, dtype="V16")


def _id_at(vectors: VectorsFolder, row: int) -> str:
    ids = (document.id for documents in vectors.documents() for document in documents)
    return next(islice(ids, row, None))


def _count(index: Index, vectors: VectorsFolder, wanted: NDArray[np.bool_], folder: Path, progress: Progress) -> None:
    """Count the tokens of the wanted documents of each part, then take the BM25 statistics of all."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    done = number = 0
    for number, documents in enumerate(vectors.documents(), 1):
        rows = np.flatnonzero(wanted[done : done + len(documents)])
        done += len(documents)
        if not _counts_file(folder, number - 1).exists():
            counts = index.sparse_side.counts([documents[row] for row in rows])
            arrays: dict[str, np.ndarray] = {name: getattr(counts, name) for name in _CSR}
            save_tensors(_counts_file(folder, number - 1), arrays)
        progress(done, vectors.count)
    width = index.sparse_side.width
    BM25.of((_load_counts(folder, i, width) for i in range(number)), width).save(index.sparse_side.file)


def _load_counts(folder: Path, number: int, width: int) -> SparseVectors:
    file = _counts_file(folder, number)
    tensors = load_tensors(file)
    if set(tensors) != set(_CSR) or tensors["indices"].max(initial=0) >= width:
        raise ArtifactError(f"{file} is damaged: remove {folder.parent.parent}, and build the index anew")
    indptr, indices, values = (tensors[name] for name in _CSR)
    return SparseVectors(indptr, indices, values, width)


def _counts_file(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.safetensors"


def _digested(documents: Iterable[Document], digest: hashlib._Hash) -> Iterator[Document]:
    for document in documents:
        digest.update(content_lines([document]))
        yield document


def _silent(done: int, total: int | None) -> None:
    """Progress that nobody asked for."""


class _Clock:
    """Seconds of each phase, and its progress function."""

    def __init__(self, report: Report | None) -> None:
        self.seconds: dict[str, float] = {}
        self._report = report

    @contextmanager
    def phase(self, name: str) -> Iterator[Progress]:
        start = time.perf_counter()
        yield self._report(name) if self._report else _silent
        self.seconds[name] = time.perf_counter() - start
