"""The index: documents' vectors in an engine, queries by look-up, both arms' lists fused on our side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from lightretriever.errors import ArtifactError, LockedError, MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.added import Added
from lightretriever.index.bm25 import BM25
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.engines.engine import START, Engine, Found
from lightretriever.index.filter.language import Filter, matches, parse_filter
from lightretriever.index.folder import create_folder, load_settings
from lightretriever.index.full import QueryTower, encode_full
from lightretriever.index.given import check_encoded, given_documents, given_ids
from lightretriever.index.search import Request, find, search
from lightretriever.index.set_aside import set_aside
from lightretriever.index.settings import LOCAL, Settings, check_engine, check_model
from lightretriever.index.snapshot import Snapshot, restore_snapshot, take_snapshot
from lightretriever.index.sparse import SparseSide, drift
from lightretriever.index.state import Current, State, open_state
from lightretriever.index.store.files import NotedFile, read_files
from lightretriever.index.store.state import read_state
from lightretriever.index.store.terms import term_pages
from lightretriever.index.store.values import read_statistics
from lightretriever.index.stored_passages import changed_rows, stored_passages
from lightretriever.index.tenant import check_tenant, of_tenants
from lightretriever.index.upkeep import Upkeep
from lightretriever.index.writing import follow, remove, replace_files, store_encoded, store_vectors
from lightretriever.passages.fields import document_id
from lightretriever.passages.options import PassageOptions
from lightretriever.paths import absolute
from lightretriever.progress import Progress
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.snippet import QueryMarker
from lightretriever.query.table import TokenTable
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.corpus import Document, given_document
from lightretriever.types import Encoded, Hit
from lightretriever.vectors.unusable import usable_named

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_CHUNK = 512  # documents encoded at once
_TRIES = 4  # of a search, where documents of its lists are replaced before they are fetched
_PAGE = 256  # documents read back from the engine at once


class Index:
    """A searchable collection. Make one with `create`, open one with `open`; use it in a ``with`` block or `close` it.

    Any number of processes may have it open, and their threads search and write at once: one write at a time, each
    search sees every write that has returned. A process that is forked from one that has it open may go on with it.
    Searches need neither torch nor the document model.
    """

    def __init__(self, state: State, model: DocumentEncoder | None = None) -> None:
        """Use `create` or `open`."""
        self.model = model
        self._state = state
        self._upkeep = Upkeep(state)

    @staticmethod
    def create(
        path: str | Path,
        encoder: QueryEncoder,
        sparse: str = "lm",
        model: DocumentEncoder | str | Path | None = None,
        flush: FlushPolicy | None = None,
        tenant: str | None = None,
        engine: str = LOCAL,
        overwrite: bool = False,
        passages: PassageOptions | None = None,
        analyser: Analyser | None = None,
    ) -> Index:
        """Make an empty index and open it.

        Args:
            path: a folder that does not exist, or with ``overwrite`` an index that this one takes the place of.
            encoder: the query encoder; its table is copied into the index and says which document model fits.
            sparse: the sparse side of documents: "lm" the tower's own, "bm25" computed here from texts, "none".
            model, flush: as for `open`.
            tenant: a metadata field that keeps tenants apart: every document needs one value there, and every search a
                filter that fixes it by equality or $in.
            engine: "local", in the folder, or a Qdrant server's collection: ``http(s)://host:6333/collection``, with
                the options ``?shards=6&replicas=2&quantisation=turbo``. The folder then holds all but the documents,
                and copies of it search the same collection.
            passages: how documents are split; None stores them whole.
            analyser: what "bm25" counts; None: words, or pairs of characters, as the first documents stored are, and
                the model's tokens on a server.

        Raises:
            UsageError: another kind of sparse side, an engine that there is not, a tenant field without a name, or an
                analyser that sparse side or engine cannot have.
            ArtifactError: ``path`` exists, or cannot be written; the engine's server cannot be reached, or has a
                collection of that name. To be overwritten: it is no index, or one on a server.
            MismatchError: the model is not the table's.
            MissingExtraError: a server without `qdrant-client`.
        """
        if not isinstance(encoder, QueryEncoder):
            raise UsageError(f"the encoder is of type {type(encoder).__name__}: QueryEncoder.load(table) makes one")
        engine = check_engine(engine)
        settings = Settings.of(
            encoder.table, sparse, tenant=tenant, engine=engine, passages=passages, analyser=analyser
        )
        folder = absolute(path)
        with set_aside(folder) if overwrite else nullcontext():
            create_folder(folder, encoder.table, settings)
        return Index.open(folder, model, flush, engine)

    @staticmethod
    def open(
        path: str | Path,
        model: DocumentEncoder | str | Path | None = None,
        flush: FlushPolicy | None = None,
        engine: str | None = None,
    ) -> Index:
        """Open an index.

        Args:
            path: its folder; one that may not be written to can be searched.
            model: the document tower, or its name or folder; only `add_documents` needs it.
            flush: when writes are made to survive a power cut; at every call if not given.
            engine: the URL of the server that holds it, where that is to be sent the key and the environment does not
                name it; see `lightretriever.index.engines.qdrant.key`.

        Raises:
            UsageError: the key would go over plain http to another machine.
            ArtifactError: absent, half-built, damaged, or from a newer version.
            MismatchError: its table, or the model, is not what it was made with, or ``engine`` is not what holds it;
                both are named.
        """
        folder = absolute(path)
        _check(folder, None, load_settings(folder))  # before the tower is loaded, which takes seconds
        tower = _tower(model)
        return Index(open_state(folder, partial(_check, folder, tower), flush, engine), tower)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs in the background, make everything durable, let go; a second call does nothing."""
        self._upkeep.stop()
        self._state.close()

    def __reduce__(self) -> NoReturn:
        raise UsageError(f"{self.path} is open, and cannot be pickled or copied: pass its path, and open it there")

    @property
    def path(self) -> Path:
        """The index's folder."""
        return self._state.path

    @property
    def settings(self) -> Settings:
        """What the index is bound to. Raises UsageError when the index is closed, as all here do."""
        return self._state.current.settings

    @property
    def encoder(self) -> QueryEncoder:
        """The query encoder over the index's own table."""
        return self._state.current.encoder

    @property
    def engine(self) -> Engine:
        """What holds the documents."""
        return self._state.current.engine

    @property
    def sparse_side(self) -> SparseSide:
        """Where documents' sparse vectors come from."""
        return self._state.current.side

    @property
    def bm25(self) -> BM25 | None:
        """The statistics behind BM25's impacts; None where the sparse side is another, or nothing was counted yet."""
        with self._state.database.reading() as connection:
            return read_statistics(connection, self.settings)

    def term_pages(self, after: int = 0) -> Iterator[list[tuple[str, int]]]:
        """The words that its sparse side has counted, and their numbers, as far as these are greater than ``after``,
        some at a time; none where it counts the document model's tokens."""
        with self._state.database.reading() as connection:
            yield from term_pages(connection, after)

    @property
    def fusion(self) -> Fusion:
        """How a hybrid search makes one list of two; stored with the index."""
        return self.settings.fusion

    def set_fusion(self, fusion: Fusion) -> None:
        """Store another fusion, durably; searches use it from here on."""
        with self._state.writing(flush=True):
            self._state.save(replace(self._state.current.settings, fusion=fusion))

    @property
    def count(self) -> int:
        """How many documents there are; where they are split, how many passages."""
        return self._state.current.engine.count()

    def __len__(self) -> int:
        return self.count

    def info(self) -> Mapping[str, object]:
        """What the index is and how big, JSON-able.

        ``segments`` holds the documents of each, ``fresh`` how many are in none, ``unoptimised`` how many were written
        or removed since all was built, ``damaged`` what is wrong with segments, by name. ``bm25`` says whether its
        statistics are stale, ``added`` what share of the tokens of documents added since the table was fitted it does
        not know, ``reindexing`` to which model, ``background`` what runs there or how the last such work failed.
        """
        current = self._state.current
        settings, table, engine = current.settings, current.encoder.table, current.engine
        with self._state.database.reading() as connection:
            counts, statistics = read_state(connection), read_statistics(connection, settings)
        count = engine.count()
        found: dict[str, object] = {
            "documents": count,
            "model": settings.model,
            "revision": settings.revision,
            "dim": settings.dim,
            "sparse": settings.sparse,
            "analyser": settings.counted or None,
            "tenant": settings.tenant,
            "table": {"rows": len(table), "dtype": table.dtype, "prompt": table.prompt, "hash": table.hash},
            "fusion": settings.fusion.describe(),
            **engine.info(),
        }
        if table.evidence is not None:
            share = round(counts.unknown / counts.tokens, 4) if counts.tokens else 0.0
            found["added"] = {"tokens": counts.tokens, "unknown_to_table": share}
        if settings.sparse == "bm25":
            found["bm25"] = drift(statistics, counts.changes, count)
        if settings.successor:
            found["reindexing"] = {"stale": True, "to": settings.successor["model"]}
        if self._upkeep.said:
            found["background"] = self._upkeep.said
        return found

    def add(
        self,
        ids: Sequence[str],
        encoded: Encoded,
        payloads: Sequence[Mapping[str, object] | Document] | None = None,
        *,
        flush: bool | None = None,
    ) -> Added:
        """Store documents whose vectors are at hand, replacing those of equal id; searches see them on return.

        Args:
            ids: n ids, at most 1,024 bytes each.
            encoded: ``dense`` float32 [n, d], unit rows, as the tower gives them: a table of fewer dimensions takes the
                first, or what its rotation makes of them, normalised anew; ``sparse`` [n, V] where the index's sparse
                side is "lm", and ignored where it is "bm25" or "none".
            payloads: n mappings with ``title``, ``text``, ``metadata``, all optional, but ``text`` for "bm25". Fields
                of other names become metadata; an id, if there is one, must be the one in ``ids``. Or n Documents.
            flush: True: survive a power cut once this returns; False: only the death of the process; None: as the
                index's `FlushPolicy` says.

        Returns:
            How many were stored, how many were there before, and whether all is durable.

        Raises:
            MismatchError: numbers, dimensions or widths that do not belong to the index, or it went over to another
                document model meanwhile.
            InputError: an id or payload that cannot be stored, or that contradict each other, a vector that is not
                finite or not of unit length, an id that another tenant's document has.
            UsageError: no sparse vectors where the index needs them, or arguments of other types.
            ArtifactError: the engine failed, or the disk is full; what was acknowledged before is kept.
        """
        current = self._state.current
        documents = given_documents(ids, payloads, current.settings.sparse)
        added = store_encoded(self._state, documents, encoded, current, flush)
        self._upkeep.build_if_due()
        return added

    def add_encoded(
        self, parts: Iterable[tuple[Sequence[Document], Encoded]], progress: Progress | None = None
    ) -> Added:
        """Store documents that come with their vectors, part by part, replacing those of equal id; streamed.

        Args:
            parts: documents, each with an id, and their vectors, as `VectorsFolder.parts` and `read_provider_vectors`
                give them. A zero row is a document without a dense vector: only the sparse arm finds it.
            progress: called with the number stored so far and None.

        Raises:
            UsageError: a document has no id.
            Else as `add`; the parts before are stored then.
        """
        current = self._state.current
        total = Added()
        try:
            for documents, encoded in parts:
                checked = list(map(given_document, documents))
                total += store_encoded(self._state, checked, encoded, current, flush=False, zeros=True)
                self._upkeep.build_if_due()
                if progress:
                    progress(total.documents, None)
        finally:
            self.flush()
        return replace(total, durable=True)

    def add_documents(
        self, documents: Iterable[Mapping[str, object] | Document], progress: Progress | None = None
    ) -> Added:
        """Encode documents with the tower and store them, replacing those of equal id; streamed. What is there already,
        just as it is given, is not encoded again. Where the index splits documents they are split, and all passages of
        one take the place of those before.

        Args:
            documents: mappings with ``id``, ``text`` and perhaps ``title`` and other fields, which become metadata.
            progress: called with the number that is in so far and None.

        Raises:
            UsageError: the index was opened without ``model``, or a document has no id.
            InputError, ArtifactError: as `add`.
        """
        _, current = self._encodes()
        stream, total = iter(documents), Added()
        try:
            while chunk := list(of_tenants(map(given_document, islice(stream, _CHUNK)), self.settings.tenant)):
                added = None
                while added is None:  # again, where the index went over to another model meanwhile
                    tower, current = self._encodes()
                    given, repeated = _split(chunk, tower, current.settings.passages)
                    rows = changed_rows(current.engine, given, current.settings.passages is not None)
                    added = self._store_rows(rows, tower, current) if rows else Added()
                total += replace(added, unchanged=len(given) - len(rows), duplicates=added.duplicates + repeated)
                if progress:
                    progress(total.documents + total.unchanged, None)
        finally:
            self.flush()
        return replace(total, durable=True)

    def _store_rows(self, rows: Sequence[Document], tower: DocumentEncoder, current: Current) -> Added | None:
        vectors = usable_named(rows, tower.encode(rows), current.settings.dim, current.encoder.table.rotation)
        added = store_vectors(self._state, rows, vectors, current, flush=False)
        self._upkeep.build_if_due()
        return added

    def _encodes(self) -> tuple[DocumentEncoder, Current]:
        """The document tower, and the index that it belongs to."""
        tower, current = self.model, self._state.current
        if tower is None:
            raise UsageError("add_documents encodes with the document model: Index.open(path, model=...)")
        return tower, current

    def delete(
        self, ids: Iterable[str], *, filter: Mapping[str, object] | None = None, flush: bool | None = None
    ) -> int:
        """Remove documents; one string is one id.

        Args:
            ids: whose.
            filter: as for `search_encoded`: documents that do not pass stay. Needed where the index keeps tenants
                apart: no tenant removes another's documents.
            flush: as for `add`.

        Returns:
            How many were removed.

        Raises:
            UsageError: a filter that is none, or that does not fix the tenant.
            InputError: an id that no document can have.
            ArtifactError: the engine failed.
        """
        names = list(dict.fromkeys(given_ids(ids)))
        where = self._where(filter)
        with self._state.writing(len(names), flush) as connection:
            removed, _ = remove(self._state, connection, names, where)
        self._upkeep.build_if_due()
        return removed

    @property
    def files(self) -> dict[str, NotedFile]:
        """The files that its documents were read from, by id."""
        with self._state.database.reading() as connection:
            return read_files(connection)

    def note_files(self, files: Iterable[NotedFile] = (), gone: Iterable[str] = ()) -> int:
        """Note, durably, what documents were read from: files in place of those of equal id, and none of the ids that
        are gone. Documents that a file noted before held, and none holds now, are removed with all their passages.

        Returns:
            How many rows were removed.
        """
        removed = replace_files(self._state, list(files), list(gone))
        if removed:
            self._upkeep.build_if_due()
        return removed

    def follow(self, sources: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Note, durably, where `sync` looks, and the patterns of the files that it reads and leaves out."""
        follow(self._state, sources, include, exclude)

    def flush(self) -> None:
        """Make all that was acknowledged survive a power cut."""
        self._state.durability.flush()

    def search(
        self,
        query: str,
        k: int = 10,
        mode: str = "hybrid",
        filter: Mapping[str, object] | None = None,
        *,
        min_dense: float | None = None,
        group: bool = True,
        fusion: Fusion | None = None,
        encoder: QueryTower | None = None,
    ) -> list[Hit]:
        """The k best documents for a query; fewer where fewer are found. See `search_encoded`.

        Args:
            encoder: the index's document model, to read the query in full; None looks it up. The documents' vectors
                are the same: look up what is being typed, and read what was entered.

        Raises:
            UsageError: besides, what is no model, or one of other dimensions than the documents' vectors.
        """
        if not isinstance(query, str):
            raise UsageError(f"the query is of type {type(query).__name__}: a string is needed")
        options = Request(k, mode, filter, True, min_dense, group, fusion)
        return self._search([query], options, encoder=encoder)[0]

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: str = "hybrid",
        filter: Mapping[str, object] | None = None,
        *,
        texts: bool = True,
        min_dense: float | None = None,
        group: bool = True,
        fusion: Fusion | None = None,
        encoder: QueryTower | None = None,
    ) -> list[list[Hit]]:
        """The hits of each query, in order; one string is one query. See `search` and `search_encoded`."""
        return self._search(queries, Request(k, mode, filter, texts, min_dense, group, fusion), encoder=encoder)

    def search_encoded(
        self,
        encoded: Encoded,
        k: int = 10,
        mode: str = "hybrid",
        filter: Mapping[str, object] | None = None,
        *,
        texts: bool = True,
        min_dense: float | None = None,
        group: bool = True,
        queries: Sequence[str] | None = None,
        fusion: Fusion | None = None,
    ) -> list[list[Hit]]:
        """The hits of queries encoded before, by this index's encoder or by the document tower.

        Args:
            encoded: ``dense`` float32 [n, d], unit rows; ``sparse`` [n, V] counts, needed for all modes but "dense".
                A zero row, or one without counts, finds nothing in that arm.
            k: hits for each query, at most.
            mode: "dense" by inner product of unit vectors, "sparse" by inner product of counts and document weights,
                "hybrid" by `fusion` of both scores, of the best max(k, 100) of each. Without a sparse side hybrid is
                dense.
            filter: which documents may be found, by their metadata, as ``{"lang": "en", "year": {"$gte": 1990}}``; the
                language is defined in `lightretriever.index.filter.language`. Filtered searches are exact in both arms.
            texts: False leaves title, text and metadata of the hits empty, which a run of a thousand hits a query does
                not need and would wait for.
            min_dense: leave out documents whose dense score, a cosine, is lower; of those that the sparse list alone
                found it is computed. It says how alike query and document are, which a fused score does not. What is a
                good limit depends on the model.
            group: where the index splits documents, whether each is found once, by the passage of it that comes first:
                so many are asked for that the k best documents are among theirs. False gives passages, each under an
                id of its own.
            queries: what they were before they were encoded, for the hits' snippets.
            fusion: how these searches make one list of two; None for the index's own way.

        Returns:
            For each query its hits, best first. Ties are ordered by dense score, then by when they were stored. Each
            hit says its score in each arm, and its rank where that arm listed it.

        Raises:
            UsageError: k below 1, an unknown mode, no counts, a filter that is none, or that does not fix the tenant, a
                ``min_dense`` that is no number.
            MismatchError: another dimension than the index has, or another number of ``queries``.
            ArtifactError: the engine failed.
        """
        check_encoded(encoded)
        if queries is not None and (isinstance(queries, str) or len(queries) != len(encoded)):
            raise MismatchError(f"there are vectors of {len(encoded)} queries: give as many texts in a list")
        return self._search(encoded, Request(k, mode, filter, texts, min_dense, group, fusion), queries)

    def _search(
        self,
        queries: Sequence[str] | Encoded,
        request: Request,
        said: Sequence[str] | None = None,
        encoder: QueryTower | None = None,
    ) -> list[list[Hit]]:
        """Of queries, or of their vectors; ``said`` is what encoded ones were, as far as it is known."""
        if not isinstance(queries, Encoded):
            said = [queries] if isinstance(queries, str) else queries
        found = None
        for again in range(_TRIES):
            last = again == _TRIES - 1
            with self._undisturbed() if last else nullcontext():
                current, searcher = self._state.searching()
                request.check(current.settings.sparse)  # before the queries are encoded
                encoded = queries if isinstance(queries, Encoded) else _encoded(queries, current.encoder, encoder)
                markers = [QueryMarker(current.encoder, text) for text in said] if said and request.texts else None
                found = search(searcher, encoded, request, current.settings, last, markers)
            if found is not None:
                break
        assert found is not None
        if self._state.has_damaged_segments:
            self._upkeep.build_if_due()
        return found

    def find(self, encoded: Encoded, depth: int, filter: Mapping[str, object] | None = None) -> Found:
        """Both arms' lists of so many passages for each query, and of each passage both scores, before they are fused;
        for those who compare fusions. Arguments and errors as of `search_encoded`."""
        check_encoded(encoded)
        current, searcher = self._state.searching()
        return find(searcher, encoded, depth, current.settings, filter=filter)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Let nobody write meanwhile, if that can be had: whoever replaces documents all the time would overtake every
        search of them."""
        state = self._state
        with ExitStack() as held:
            if state.current.settings.local and state.database.writable:
                with suppress(LockedError):  # others write for long: then what they leave is found
                    held.enter_context(state.database.writing(durable=False))
            yield

    def get(self, ids: Iterable[str], *, filter: Mapping[str, object] | None = None) -> dict[str, list[Document]]:
        """Documents as they are stored, by id: each alone, or where the index splits documents, all passages of it in
        their order. Ids that there are not are left out.

        Args:
            ids: whose; one string is one id.
            filter: as for `search_encoded`: documents that do not pass are left out. Needed where the index keeps
                tenants apart.

        Raises:
            UsageError: a filter that is none, or that does not fix the tenant.
            InputError: an id that no document can have.
            ArtifactError: the engine failed.
        """
        names = list(dict.fromkeys(given_ids(ids)))
        where, split = self._where(filter), self.settings.passages is not None
        engine = self.engine
        rows = stored_passages(engine, dict.fromkeys(names, 0)) if split else names
        found: dict[str, list[Document]] = {}
        stored = engine.documents(rows)
        for name in rows:
            document = stored.get(name)
            if document is not None and matches(where, document.metadata):
                found.setdefault(document_id(name) if split else name, []).append(document)
        return found

    def documents(self, filter: Mapping[str, object] | None = None) -> Iterator[Document]:
        """Every document stored, or every one that passes a filter, in no order that means anything.

        Args:
            filter: as for `search_encoded`; needed where the index keeps tenants apart.

        Raises:
            UsageError: a filter that is none, or that does not fix the tenant.
        """
        return self._documents(self._where(filter))

    def _where(self, filter: Mapping[str, object] | None) -> Filter | None:
        where = parse_filter(filter)
        check_tenant(where, self.settings.tenant)
        return where

    def _documents(self, where: Filter | None) -> Iterator[Document]:
        after = START
        while True:
            rows, after = self.engine.page(after, _PAGE)
            if not len(rows):
                return
            for document in rows.documents:
                if matches(where, document.metadata):
                    yield document

    def optimise(self, wait: bool = True) -> None:
        """Build one segment of all documents; see `Upkeep.optimise`. Searches are right without it, and slower the more
        were written."""
        self._upkeep.optimise(wait)

    def refresh_bm25(self, wait: bool = True) -> None:
        """Take the BM25 statistics anew from the stored texts; see `Upkeep.refresh_bm25`."""
        self._upkeep.refresh_bm25(wait)

    def set_table(self, table: TokenTable | str | Path) -> None:
        """Replace the token table by another of the same model, at once; see `Upkeep.set_table`."""
        self._upkeep.set_table(table if isinstance(table, TokenTable) else TokenTable.load(table))

    def reindex(
        self,
        encoder: QueryEncoder,
        model: DocumentEncoder | str | Path,
        sparse: str | None = None,
        wait: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Go over to another document model; see `Upkeep.reindex`. ``model`` may be its name or folder."""
        tower = _tower(model)
        assert tower is not None
        self._upkeep.reindex(encoder, tower, sparse, wait, progress, partial(setattr, self, "model", tower))

    def wait(self) -> None:
        """Wait for what runs in the background. Raises what it failed with."""
        self._upkeep.wait()

    def snapshot(self, output: str | Path) -> Snapshot:
        """Write the index to one file, from which `restore` makes one that answers exactly the same.

        Searches and writes go on meanwhile; what is in it is the index of one moment.

        Raises:
            ArtifactError: ``output`` exists, or the disk has no room for the copy and the file.
        """
        return take_snapshot(self._state, absolute(output))

    @staticmethod
    def restore(file: str | Path, path: str | Path) -> None:
        """Make an index, in a new folder, of what `snapshot` wrote; see `restore_snapshot` for what it raises."""
        restore_snapshot(absolute(file), absolute(path))


def _check(folder: Path, tower: DocumentEncoder | None, settings: Settings) -> None:
    if settings.state != "complete":
        raise ArtifactError(f"{folder} is half-built: run the same `index` command again, it resumes, or remove it")
    if tower is not None:
        check_model("the model given", tower.name, tower.revision, f"{folder}", settings.model, settings.revision)


def _encoded(queries: Sequence[str] | str, encoder: QueryEncoder, tower: QueryTower | None) -> Encoded:
    if tower is None:
        return encoder.encode(queries)
    return encode_full(tower, [queries] if isinstance(queries, str) else queries, encoder)


def _split(
    documents: Sequence[Document], tower: DocumentEncoder, options: PassageOptions | None
) -> tuple[list[Document], int]:
    """What is encoded and stored, and how many documents were passed over because a later one has their id."""
    if options is None:
        return list(documents), 0
    from lightretriever.passages.split import split_rows  # which a search needs not

    last = list({document.id: document for document in documents}.values())
    return list(split_rows(last, tower.tokenizer, options)), len(documents) - len(last)


def _tower(model: DocumentEncoder | str | Path | None) -> DocumentEncoder | None:
    if not isinstance(model, str | Path):
        return model
    from lightretriever.document.encoder import DocumentEncoder  # the only way from here to torch

    return DocumentEncoder.load(model)
