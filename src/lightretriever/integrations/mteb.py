"""Our hybrid search as a model of mteb: `mteb.evaluate(LookupRetriever("minilm", "work"), tasks)`.

Every retrieval task of mteb hands over a corpus and then queries (its ``SearchProtocol``). The corpus is encoded by the
document tower, the queries looked up in a token table for the task's own instruction. What takes long is kept:

    FOLDER/vectors/TOWER/TASK     the documents' vectors, a vectors folder: an interrupted evaluation goes on with it
    FOLDER/tables/TOWER-…         one token table for each instruction (and corpus, where it is fitted to that)
    FOLDER/indexes/TOWER/TASK-…   the index, if it is to be kept; else a temporary one, beside these
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from lightretriever.artifact import sha256_bytes
from lightretriever.errors import MissingExtraError, UsageError
from lightretriever.evaluation.runs import search_queries
from lightretriever.fusion import DEFAULT_FUSION, Fusion
from lightretriever.index.index import Index
from lightretriever.index.ingest import ingest_vectors
from lightretriever.index.search import MODES
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document
from lightretriever.text.prompt import DEFAULT_PROMPT
from lightretriever.text.values import safe_text
from lightretriever.types import Encoded
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from mteb import TaskMetadata
    from mteb.models import ModelMeta

    from lightretriever.document.encoder import DocumentEncoder

CACHED, CORPUS = "cache", "corpus"
INSTRUCT = "Instruct: {instruction}\nQuery: "
_OWN = "document"  # the metadata field of a document's own id, where a task says which documents are to be ranked


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What one search of a task came to.

    Attributes:
        task, subset, split: which.
        prompt: the instruction inside the token table's rows.
        documents: in the index.
        duplicates: passed over because a later document has their id.
        without_dense: documents of no tokens, or for which the tower gave NaN: only the sparse arm finds them.
        queries: all of them.
        empty_queries: those without any token; they find nothing and count zero.
    """

    task: str
    subset: str
    split: str
    prompt: str
    documents: int
    duplicates: int
    without_dense: int
    queries: int
    empty_queries: int


class LookupRetriever:
    """A document tower, its token tables and our search, as mteb's ``SearchProtocol`` has it.

    Args:
        tower: the document tower, or its name or folder.
        folder: where vectors and tables are kept for the next time; made if need be.
        mode: "hybrid", "dense" or "sparse".
        sparse: documents' sparse side: "lm", "bm25" or "none"; None: the tower's own where it has one, else BM25.
        table: "cache": `cache_table`, one for each instruction; "corpus": one fitted to each task's own documents, with
            no query or judgement seen, which towers need that were not trained for look-up; or a table, or its folder,
            that serves every task, whatever its instruction.
        prompt: what goes before a query, ``{instruction}`` being the task's. None: `INSTRUCT` for towers whose own
            prompt is of that form, for others their own, which has no place for instructions.
        instructions: by the name of a task, instead of mteb's. A task that has none takes the tower's own prompt.
        fusion: weights of the two lists.
        keep_indexes: keep each index too, for other uses; they are some times the vectors in size.
        name: of the model in mteb's results, ``organisation/name``.

    Attributes:
        tower: the document tower.
        reports: a `TaskReport` for every search so far.
        mteb_model_meta: what mteb saves results under.

    Raises:
        MissingExtraError: mteb is not installed.
        UsageError: a mode or sparse side that there is not, or a name without a "/".
        As `DocumentEncoder.load` and `TokenTable.load`.
    """

    def __init__(
        self,
        tower: DocumentEncoder | str | Path,
        folder: str | Path,
        *,
        mode: str = "hybrid",
        sparse: str | None = None,
        table: TokenTable | str | Path = CACHED,
        prompt: str | None = None,
        instructions: Mapping[str, str] | None = None,
        fusion: Fusion = DEFAULT_FUSION,
        keep_indexes: bool = False,
        name: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"the mode is {mode!r}: choose one of {', '.join(MODES)}")
        if name is not None and "/" not in name:
            raise UsageError(f"the name is {name!r}: mteb wants organisation/name")
        self.tower = _load_tower(tower)
        self._folder = Path(folder).absolute()  # os.chdir must not move it
        self._mode = mode
        self._sparse = sparse or ("lm" if self.tower.has_sparse else "bm25")
        self._table = (
            TokenTable.load(table) if table not in (CACHED, CORPUS) and isinstance(table, str | Path) else table
        )
        own = self.tower.default_prompt
        self._prompt = (INSTRUCT if own == DEFAULT_PROMPT else own) if prompt is None else prompt
        self._instructions = dict(instructions or {})
        self._fusion = fusion
        self._keep = keep_indexes
        self._index: Index | None = None
        self._temporary: TemporaryDirectory[str] | None = None
        self._counts: tuple[int, int, int] = (0, 0, 0)
        self.reports: list[TaskReport] = []
        self.mteb_model_meta = self._meta(name)

    def __enter__(self) -> LookupRetriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index that is open, and remove it unless indexes are kept; the next `index` does so too."""
        if self._index is not None:
            self._index.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        self._index = self._temporary = None

    def prompt_of(self, task: TaskMetadata) -> str:
        """What goes before the queries of a task."""
        if "{instruction}" not in self._prompt:
            return self._prompt
        given = task.prompt.get("query") if isinstance(task.prompt, Mapping) else task.prompt
        instruction = self._instructions.get(task.name) or given
        return self._prompt.replace("{instruction}", instruction) if instruction else self.tower.default_prompt

    def index(  # the signature is mteb's
        self,
        corpus: Iterable[Mapping[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002  # batches are by tokens
        num_proc: int | None = None,  # noqa: ARG002
    ) -> None:
        """Encode a corpus, as far as it was not encoded before, and index it.

        Args:
            corpus: rows with ``id``, ``text`` and perhaps ``title``, in the same order every time.
            task_metadata: the task's, for its name and instruction.
            hf_split, hf_subset: which part of it.

        Raises:
            MismatchError: the folder has vectors of other documents for this task.
            As `encode_corpus`, `cache_table`, `fit_table` and `ingest_vectors`.
        """
        self.close()
        task = _slug(f"{task_metadata.name}-{hf_subset}-{hf_split}")
        tower = self._tower_key()
        path = self._folder / "vectors" / tower / f"{task}-{_digest(str(task_metadata.dataset))[:8]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        ranked = "Reranking" in str(task_metadata.type)
        encode_corpus(_documents(corpus, ranked), self.tower, path)
        vectors = VectorsFolder.open(path)
        encoder = QueryEncoder(self._table_of(self.prompt_of(task_metadata), vectors))
        if self._keep:
            made = f"{path.name}-{self._sparse}-{encoder.table.hash[:12]}"
            place = self._folder / "indexes" / tower / made
        else:
            self._temporary = TemporaryDirectory(prefix=".index-", dir=self._folder, ignore_cleanup_errors=True)
            place = Path(self._temporary.name) / "index"
        report = ingest_vectors(place, vectors, encoder, self._sparse)
        self._counts = report.documents, report.duplicates, report.without_dense
        self._index = Index.open(place)
        if self._index.fusion != self._fusion:
            self._index.set_fusion(self._fusion)

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002
        top_ranked: Mapping[str, list[str]] | None = None,
        num_proc: int | None = None,  # noqa: ARG002
    ) -> dict[str, dict[str, float]]:
        """Answer a task's queries.

        Args:
            queries: rows with ``id``, ``text`` (or a list of turns) and perhaps an ``instruction``, which is appended.
            task_metadata, hf_split, hf_subset: as for `index`.
            top_k: hits a query, at most; hits of the query's own id are among them, mteb takes them out where a task
                says so.
            top_ranked: of a reranking task, the documents that are to be ranked, by query.

        Returns:
            By query its documents' scores, best first, without ties; a query that finds nothing has an empty mapping.

        Raises:
            UsageError: nothing is indexed; or ``top_ranked`` for a task whose type is no reranking.
        """
        if self._index is None:
            raise UsageError("there is no index: mteb calls index before it calls search")
        texts = {str(row["id"]): query_text(row) for row in queries}
        empty = 0

        def encode(batch: list[str]) -> Encoded:
            nonlocal empty
            assert self._index is not None
            found = self._index.encoder.encode(batch)
            assert found.sparse is not None
            empty += int((np.diff(found.sparse.indptr) == 0).sum())
            return found

        if top_ranked is None:
            scores = search_queries(self._index, texts, top_k, self._mode, encode=encode).scores
        else:
            if "Reranking" not in str(task_metadata.type):
                raise UsageError(f"{task_metadata.name} says which documents to rank, and its type is no reranking")
            scores = {}
            for query, text in texts.items():
                where = {_OWN: {"$in": list(map(str, top_ranked.get(query, ())))}}
                run = search_queries(self._index, {query: text}, top_k, self._mode, filter=where, encode=encode)
                scores |= run.scores
        if empty:
            warnings.warn(f"{task_metadata.name}: {empty} of {len(texts)} queries have no token", stacklevel=2)
        prompt = self._index.encoder.table.prompt
        report = TaskReport(task_metadata.name, hf_subset, hf_split, prompt, *self._counts, len(texts), empty)
        self.reports.append(report)
        return {query: dict(found) for query, found in scores.items()}

    def _tower_key(self) -> str:
        tower = self.tower
        made = _digest(json.dumps([tower.name, tower.revision, tower.max_length, tower.top_k, tower.has_sparse]))
        return f"{_slug(tower.name)}-{made[:12]}"

    def _table_of(self, prompt: str, vectors: VectorsFolder) -> TokenTable:
        """The table for a prompt, made only if it was not before."""
        if isinstance(self._table, TokenTable):
            return self._table
        of = vectors.digest if self._table == CORPUS else ""
        path = self._folder / "tables" / f"{self._tower_key()}-{self._table}-{_digest(json.dumps([prompt, of]))[:12]}"
        if not path.exists():
            from lightretriever.tables.cache import cache_table
            from lightretriever.tables.fit import fit_table

            if self._table == CORPUS:
                table = fit_table(self.tower, vectors=vectors, prompt=prompt)
            else:
                table = cache_table(self.tower, prompt)
            table.save(path)
        return TokenTable.load(path)

    def _meta(self, name: str | None) -> ModelMeta:
        try:
            from mteb.models import ModelMeta
        except ImportError:
            raise MissingExtraError("an evaluation by mteb", "mteb") from None
        tower, table = self.tower, self._table
        # Whatever changes a result is in the name of its file, or mteb would take one for the other.
        made: dict[str, object] = {
            "mode": self._mode,
            "table": table.hash[:12] if isinstance(table, TokenTable) else str(table),
            "max_length": tower.max_length,
        }
        if self._mode != "dense":
            made |= {"sparse": self._sparse} | ({"top_k": tower.top_k} if tower.top_k else {})
        if self._mode == "hybrid" and self._fusion != DEFAULT_FUSION:
            made["fusion"] = _digest(repr(self._fusion))[:12]
        if self._instructions or (self._prompt not in (INSTRUCT, tower.default_prompt)):
            made["prompt"] = _digest(json.dumps([self._prompt, sorted(self._instructions.items())]))[:12]
        facts: dict[str, Any] = {
            "name": name or f"lightretriever/{_slug(tower.name)}",
            "revision": tower.revision.replace(":", "-") or "unknown",
            "embed_dim": table.dim if isinstance(table, TokenTable) else tower.dim,
            "max_tokens": tower.max_length,
            "n_parameters": sum(weights.numel() for weights in tower.backbone.model.parameters()),
            "framework": ["PyTorch", "NumPy"],
            "similarity_fn_name": "dot",
            "use_instructions": "{instruction}" in self._prompt,
            "adapted_from": tower.name,
            "model_type": [self._mode],
            "modalities": ["text"],
            "experiment_kwargs": made,
        }
        return ModelMeta.model_validate({**ModelMeta.create_empty().model_dump(), **facts})


def query_text(row: Mapping[str, Any]) -> str:
    """A query as the model reads it: its text, or its turns as ``role: content``; an instruction of its own after it,
    before it for turns. So mteb has it for its other models."""
    text, instruction = row["text"], row.get("instruction")
    if isinstance(text, str) or text is None:
        return safe_text(" ".join(part for part in (text, instruction) if part))
    turns = [turn if isinstance(turn, str) else f"{turn['role']}: {turn['content']}" for turn in text]
    return safe_text(" ".join(part for part in (instruction, "; ".join(turns)) if part))


def _documents(corpus: Iterable[Mapping[str, Any]], ranked: bool) -> Iterator[Document]:
    for row in corpus:
        name, title = safe_text(str(row["id"])), row.get("title") or ""
        yield Document(name, safe_text(row["text"] or ""), safe_text(title), {_OWN: name} if ranked else {})


def _load_tower(tower: DocumentEncoder | str | Path) -> DocumentEncoder:
    if not isinstance(tower, str | Path):
        return tower
    from lightretriever.document.encoder import DocumentEncoder

    return DocumentEncoder.load(tower)


def _digest(text: str) -> str:
    return sha256_bytes(text.encode("utf-8", "surrogatepass"))


def _slug(name: str) -> str:
    """A name as a part of a path."""
    return re.sub(r"[^\w.-]+", "_", name.replace("/", "__"))
