"""The index: documents' vectors in an engine, queries by look-up, both arms' lists fused on our side.

INDEX/
  manifest.json      what the index is bound to, fusion weights, counts
  table/             its own copy of the token table
  shard/             the engine's own
  bm25.safetensors   the statistics behind the impacts, where the sparse side is BM25
  owner              the process that has it open
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.backend import Backend, pages, point_key
from lightretriever.index.folder import create_folder, open_folder, release_folder
from lightretriever.index.manifest import IndexManifest, check_model
from lightretriever.index.search import check_request, search
from lightretriever.index.sparse import SparseSide, stored_documents
from lightretriever.index.store import Added, store_documents
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.corpus import Document, as_document, safe_text
from lightretriever.types import Encoded, Hit
from lightretriever.vectors.parts import check_vectors, usable

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_CHUNK = 512  # documents encoded at once
_PAGE = 2_000  # documents read back from the engine at once
Progress = Callable[[int, int | None], None]


class Index:
    """A searchable collection. Make one with `create`, open one with `open`; use it in a ``with`` block or `close` it.

    One process has it open at a time. Searches need neither torch nor the document model.
    """

    def __init__(
        self,
        path: Path,
        manifest: IndexManifest,
        encoder: QueryEncoder,
        backend: Backend,
        model: DocumentEncoder | None = None,
    ) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.encoder = encoder
        self.model = model
        self.sparse_side = SparseSide(manifest.sparse, encoder.table, path / manifest.statistics)
        self.manifest = self._written = manifest
        self._backend: Backend | None = backend

    @staticmethod
    def create(
        path: str | Path,
        encoder: QueryEncoder,
        sparse: str = "lm",
        model: DocumentEncoder | str | Path | None = None,
    ) -> Index:
        """Make an empty index and open it.

        Args:
            path: a folder that does not exist.
            encoder: the query encoder; its table is copied into the index and says which document model fits.
            sparse: the sparse side of documents: "lm" the tower's own, "bm25" computed here from texts, "none".
            model: as for `open`.

        Raises:
            UsageError: another kind of sparse side.
            ArtifactError: ``path`` exists, or cannot be written.
            MismatchError: the model is not the table's.
        """
        create_folder(Path(path), encoder.table, IndexManifest.of(encoder.table, sparse))
        return Index.open(path, model)

    @staticmethod
    def open(path: str | Path, model: DocumentEncoder | str | Path | None = None) -> Index:
        """Open an index.

        Args:
            path: its folder.
            model: the document tower, or its name or folder; only `add_documents` needs it.

        Raises:
            ArtifactError: absent, half-built, damaged, or from a newer version.
            MismatchError: its table, or the model, is not what it was made with; both are named.
            LockedError: it is open already, here or in another process, which is named.
        """
        folder = Path(path)
        manifest = IndexManifest.load(folder)
        if manifest.state != "complete":
            raise ArtifactError(f"{folder} is half-built: run the same `index` command again, it resumes, or remove it")
        tower = _tower(model)
        if tower is not None:
            check_model("the model given", tower.name, tower.revision, f"{folder}", manifest.model, manifest.revision)
        table, backend = open_folder(folder, manifest)
        return Index(folder, manifest, QueryEncoder(table), backend, tower)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Make everything durable and let go of the index; a second call does nothing."""
        if self._backend is not None:
            self._flush()
            self._backend.close()
            self._backend = None
            release_folder(self.path)

    @property
    def backend(self) -> Backend:
        """The engine. Raises UsageError when the index is closed."""
        if self._backend is None:
            raise UsageError(f"{self.path} is closed: open it again")
        return self._backend

    @property
    def fusion(self) -> Fusion:
        """How a hybrid search makes one list of two; stored with the index."""
        return self.manifest.fusion

    def set_fusion(self, fusion: Fusion) -> None:
        """Store another fusion; searches use it from here on."""
        self.update_manifest(replace(self.manifest, fusion=fusion))

    def update_manifest(self, manifest: IndexManifest) -> None:
        """Write a changed manifest, durably."""
        manifest.save(self.path)
        self.manifest = self._written = manifest

    @property
    def count(self) -> int:
        """How many documents there are."""
        return self.backend.count()

    def __len__(self) -> int:
        return self.count

    def info(self) -> Mapping[str, object]:
        """What the index is and how big, JSON-able; ``bm25`` says whether its statistics are stale."""
        manifest, table = self.manifest, self.encoder.table
        count = self.count
        found: dict[str, object] = {
            "documents": count,
            "model": manifest.model,
            "revision": manifest.revision,
            "dim": manifest.dim,
            "sparse": manifest.sparse,
            "table": {"rows": len(table), "dtype": table.dtype, "prompt": table.prompt, "hash": table.hash},
            "fusion": asdict(manifest.fusion),
            **self.backend.info(),
        }
        if manifest.sparse == "bm25":
            found["bm25"] = self.sparse_side.info(manifest.bm25_changes, manifest.bm25_refreshing, count)
        return found

    def add(
        self,
        ids: Sequence[str],
        encoded: Encoded,
        payloads: Sequence[Mapping[str, object]] | None = None,
        *,
        flush: bool = True,
    ) -> Added:
        """Store documents whose vectors are at hand, replacing those of equal id.

        Args:
            ids: n ids, at most 1,024 bytes each.
            encoded: ``dense`` float32 [n, d], unit rows, of which a table of fewer dimensions takes the first,
                normalised anew; ``sparse`` [n, V] where the index's sparse side is "lm", and ignored where it is
                "bm25" or "none".
            payloads: n mappings with ``title``, ``text``, ``metadata``, all optional, but ``text`` for "bm25". Fields
                of other names become metadata.
            flush: survive a power cut once this returns; without it only the death of the process.

        Returns:
            How many were stored, and how many were there before.

        Raises:
            MismatchError: numbers, dimensions or widths that do not belong to the index.
            InputError: an id or payload that cannot be stored, a vector that is not finite or not of unit length.
            UsageError: no sparse vectors where the index needs them.
            ArtifactError: the engine failed, or the disk is full; what was acknowledged before is kept.
        """
        if isinstance(ids, str):
            raise UsageError(f"ids is the string {ids[:40]!r}: give a list of ids, one for each vector")
        rows = payloads if payloads is not None else [{}] * len(ids)
        if len(rows) != len(ids):
            raise MismatchError(f"{len(ids)} ids, {len(rows)} payloads: one for each is needed")
        if self.manifest.sparse == "bm25" and any("text" not in row for row in rows):
            raise UsageError("the sparse side is BM25 of the texts: every payload needs its text")
        fields = ({name: value for name, value in row.items() if name not in ("_id", "id")} for row in rows)
        documents = [as_document({"text": "", **row, "id": name}) for name, row in zip(ids, fields, strict=True)]
        whole = max(encoded.dense.shape[-1], self.manifest.dim)
        check_vectors(list(ids), encoded, whole)
        added = self._store(documents, usable(encoded, self.manifest.dim) if whole > self.manifest.dim else encoded)
        if flush:
            self._flush()
        return added

    def add_documents(
        self, documents: Iterable[Mapping[str, object] | Document], progress: Progress | None = None
    ) -> Added:
        """Encode documents with the tower and store them, replacing those of equal id; streamed.

        Args:
            documents: mappings with ``id``, ``text`` and perhaps ``title`` and other fields, which become metadata.
            progress: called with the number stored so far and None.

        Raises:
            UsageError: the index was opened without ``model``, or a document has no id.
            InputError, ArtifactError: as `add`.
        """
        if self.model is None:
            raise UsageError("add_documents encodes with the document model: Index.open(path, model=...)")
        stream, total = iter(documents), Added()
        first = self._lacks_statistics()
        try:
            while chunk := [as_document(document) for document in islice(stream, _CHUNK)]:
                for document in chunk:
                    if not document.id:
                        raise UsageError(f"a document has no id ({document.text[:40]!r}…): every one needs its own")
                total += self._store(chunk, usable(self.model.encode(chunk), self.manifest.dim))
                if progress:
                    progress(total.documents, None)
        finally:  # what was stored before a document that cannot be stays, as durable as if it were all
            if first and total.documents > _CHUNK:
                self.refresh_bm25()  # the statistics are of the first few documents only
            self._flush()
        return total

    def _store(self, documents: Sequence[Document], encoded: Encoded) -> Added:
        first = self._lacks_statistics()
        added = store_documents(self.backend, self.sparse_side, documents, encoded, self.manifest.dim)
        self._changed(0 if first else added.documents)
        return added

    def _lacks_statistics(self) -> bool:
        return self.sparse_side.kind == "bm25" and self.sparse_side.statistics() is None

    def delete(self, ids: Iterable[str]) -> int:
        """Remove documents; one string is one id. Returns how many of them there were; durable when it does."""
        ids = [ids] if isinstance(ids, str) else ids
        keys = list({point_key(safe_text(str(name))) for name in ids})
        found = list(self.backend.existing(keys))
        if found:
            self.backend.delete(found)
            self._changed(len(found))
            self._flush()
        return len(found)

    def search(
        self, query: str, k: int = 10, mode: str = "hybrid", filter: Mapping[str, object] | None = None
    ) -> list[Hit]:
        """The k best documents for a query; fewer where fewer are found. See `search_encoded`."""
        return self.search_many([query], k, mode, filter)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: str = "hybrid",
        filter: Mapping[str, object] | None = None,
        *,
        texts: bool = True,
    ) -> list[list[Hit]]:
        """The hits of each query, in order; one string is one query. See `search_encoded`."""
        check_request(k, mode, self.manifest.sparse)
        return self.search_encoded(self.encoder.encode(queries), k, mode, filter, texts=texts)

    def search_encoded(
        self,
        encoded: Encoded,
        k: int = 10,
        mode: str = "hybrid",
        filter: Mapping[str, object] | None = None,
        *,
        texts: bool = True,
    ) -> list[list[Hit]]:
        """The hits of queries encoded before, by this index's encoder or by the document tower.

        Args:
            encoded: ``dense`` float32 [n, d], unit rows; ``sparse`` [n, V] counts, needed for all modes but "dense".
                A zero row, or one without counts, finds nothing in that arm.
            k: hits for each query, at most.
            mode: "dense" by inner product of unit vectors, "sparse" by inner product of counts and document weights,
                "hybrid" by `fusion` of the best max(k, 100) of each. Without a sparse side hybrid is dense.
            filter: ``{field: value}``: only documents whose metadata has, in every field named, that string, number,
                true or false, alone or in a list. Filtered searches are exact in both arms.
            texts: False leaves title, text and metadata of the hits empty, which a run of a thousand hits a query does
                not need and would wait for.

        Returns:
            For each query its hits, best first. Ties are ordered by dense score, then by a hash of the id. Each hit
            says its score and rank in each arm, None where that arm's list did not reach it.

        Raises:
            UsageError: k below 1, an unknown mode, no counts, or a filter that is no equality.
            MismatchError: another dimension than the index has.
            ArtifactError: the engine failed.
        """
        manifest = self.manifest
        dim, sparse = manifest.dim, manifest.sparse
        return search(self.backend, encoded, k, mode, filter, manifest.fusion, dim, sparse, texts)

    def documents(self) -> Iterator[Document]:
        """Every document stored, in no order that means anything."""
        for page in pages(self.backend, _PAGE):
            yield from stored_documents(page.payloads)

    def optimise(self) -> None:
        """Build the graph over documents added since it was built last; blocks. Searches are right without it."""
        self.backend.optimise()
        self._flush()

    def refresh_bm25(self) -> None:
        """Take the BM25 statistics anew from the stored texts, and every document's impacts with them.

        Raises:
            UsageError: the index's sparse side is not BM25.
        """
        if self.sparse_side.kind != "bm25":
            raise UsageError(
                f"the sparse side of {self.path} is {self.sparse_side.kind!r}: there is nothing to refresh"
            )
        # Whatever interrupts this, the manifest says so until it is done, and `info` calls the statistics stale.
        self.update_manifest(replace(self.manifest, bm25_refreshing=True))
        self.sparse_side.refresh(self.backend)
        self.update_manifest(replace(self.manifest, bm25_refreshing=False, bm25_changes=0))

    def _changed(self, documents: int) -> None:
        """Note that so many documents were added, replaced or deleted; the next `_flush` or `close` writes it."""
        manifest = self.manifest
        changes = manifest.bm25_changes + (documents if manifest.sparse == "bm25" else 0)
        self.manifest = replace(manifest, documents=self.count, bm25_changes=changes)

    def _flush(self) -> None:
        self.backend.flush()
        if self.manifest != self._written:
            self.update_manifest(self.manifest)


def _tower(model: DocumentEncoder | str | Path | None) -> DocumentEncoder | None:
    if not isinstance(model, str | Path):
        return model
    from lightretriever.document.encoder import DocumentEncoder  # the only way from here to torch

    return DocumentEncoder.load(model)
