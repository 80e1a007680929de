"""An index's settings: what it is bound to, and the checks that what comes to it belongs to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lightretriever.checked import (
    Check,
    choice,
    items,
    mapping,
    number,
    optional,
    plain_name,
    read_fields,
    record,
    record_of,
    scalar,
    text,
    whole,
)
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.fusion import MOST_QUERIES, Fusion
from lightretriever.index.engines.qdrant.url import is_address, parse_address
from lightretriever.index.tenant import check_field
from lightretriever.passages.options import PassageOptions
from lightretriever.query.table import TokenTable, same_rotation
from lightretriever.text.analysers.analyser import PIECES, Analyser

SPARSE_KINDS = ("lm", "bm25", "none")
LOCAL = "local"
"""The engine that holds an index in its own folder."""
_WAY_OUT = "restore the index from a snapshot, or make it again"
_TABLE = re.compile(r"table(-[1-9][0-9]{0,17})?")
_LONGEST = 8 << 20  # bytes of settings


@dataclass(frozen=True, slots=True)
class Settings:
    """What an index is bound to; stored in its database as JSON, and changed by one transaction.

    Attributes:
        model, revision: the document tower whose vectors are in the index.
        dim: d of the dense vectors.
        width: rows of the table; V of the sparse vectors, unless words are counted.
        sparse: "lm" (the tower's own), "bm25" or "none".
        analyser: what BM25 counts; None as long as nothing was stored that it could be chosen by.
        table_hash, tokenizer_hash: of the table in ``table/``.
        encoding: how documents were encoded, so that more can be alike: ``source`` and ``base`` (where the tower was
            loaded from), ``max_length``, ``top_k``; as far as it is known.
        fusion: how the two lists become one.
        engine: which engine holds the documents: "local", or the URL of a Qdrant server's collection.
        table: the name, in the index's folder, of the token table. A new one is written beside it under another name.
        vectors: which of the database's tables of vectors is in force.
        collection: on a server, the name of the collection; else "".
        state: "complete", or "building" while `index` has not finished.
        built_from: "corpus" or "vectors", what `index` builds it from; "" when it was not built that way.
        source: digest of these.
        ingested: documents of a corpus, or parts of a vectors folder, that `index` has stored.
        zeros: documents stored while building that have no dense vector.
        successor: what of this a re-encoding by another document model will have changed when it is done; None when
            there is none under way.
        tenant: the metadata field that every document has one value of and every search must fix; None where none.
        passages: how documents are split; None where they are stored whole.
        sources: files and folders that they were read from, where `sync` looks.
        include, exclude: patterns of the files there that are read, and of those left out.
        engine_named: whether whoever runs this process named the engine; not stored. An index alone may name any
            server, and must not make this process send a key there.
    """

    model: str
    revision: str
    dim: int
    width: int
    sparse: str
    table_hash: str
    tokenizer_hash: str
    analyser: Analyser | None = None
    encoding: Mapping[str, object] = field(default_factory=dict)
    fusion: Fusion = field(default_factory=Fusion)
    engine: str = LOCAL
    table: str = "table"
    vectors: int = 1
    collection: str = ""
    state: str = "complete"
    built_from: str = ""
    source: str = ""
    ingested: int = 0
    zeros: int = 0
    successor: Mapping[str, object] | None = None
    tenant: str | None = None
    passages: PassageOptions | None = None
    sources: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    engine_named: bool = field(default=False, compare=False)

    @staticmethod
    def of(
        table: TokenTable,
        sparse: str,
        state: str = "complete",
        tenant: str | None = None,
        engine: str = LOCAL,
        passages: PassageOptions | None = None,
        analyser: Analyser | None = None,
    ) -> Settings:
        """Those of a new index over a table; the caller names the engine. Raises UsageError for an analyser that its
        sparse side or its engine cannot have."""
        check_analyser(analyser, sparse, engine)
        if engine != LOCAL and sparse == "bm25":
            analyser = Analyser(PIECES)
        return Settings(
            model=table.model,
            revision=table.revision,
            dim=table.dim,
            width=len(table),
            sparse=sparse,
            table_hash=table.hash,
            tokenizer_hash=table.tokenizer_hash,
            analyser=analyser,
            engine=engine,
            state=state,
            tenant=check_field(tenant),
            passages=passages if passages and passages.tokens else None,
            engine_named=True,
        )

    @staticmethod
    def parse(stored: object, where: object) -> Settings:
        """Settings out of the JSON that `dump` makes; every field is checked.

        Args:
            stored: what the database holds.
            where: its file, for messages.

        Raises:
            ArtifactError: they are damaged, or name parts that no index has: a table is a plain name inside its folder.
        """
        try:
            if not isinstance(stored, str) or len(stored) > _LONGEST:
                raise ValueError("the settings are no text")
            found = read_fields(json.loads(stored), _CHECKS, where, _WAY_OUT)
            split = found.get("passages")
            counted = found.get("analyser")
            parsed = {
                "fusion": Fusion.of(found["fusion"]),
                "passages": None if split is None else PassageOptions(**split),
                "analyser": None if counted is None else Analyser(**counted),
            }
            lists = {name: tuple(found[name]) for name in ("sources", "include", "exclude")}
            settings = Settings(**{**found, **parsed, **lists})
            check_field(settings.tenant)
            _check_parts(settings)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{where} is damaged: {error}: {_WAY_OUT}") from None
        return settings

    def dump(self) -> str:
        """As JSON."""
        stored = {name: value for name, value in asdict(self).items() if name in _CHECKS}
        return json.dumps(stored, ensure_ascii=False)

    @property
    def local(self) -> bool:
        """Whether the documents are in the index's own folder."""
        return self.engine == LOCAL

    @property
    def counts_words(self) -> bool:
        """Whether sparse vectors are counts of words, and not of the document model's tokens."""
        return self.sparse == "bm25" and self.analyser is not None and self.analyser.kind != PIECES

    @property
    def counted(self) -> str:
        """What BM25 counts, as "words (english)"; "" where the sparse side is another, or nothing was stored yet."""
        return "" if self.sparse != "bm25" or self.analyser is None else str(self.analyser)

    def vocabulary(self, identity: int) -> int:
        """What sparse vectors of the index of that identity are counts of, as of `SparseVectors`."""
        return identity if self.counts_words else 0

    def named(self, engine: str | None) -> Settings:
        """The same, its engine named by the caller, if this is it.

        Raises:
            UsageError: there is no such engine.
            MismatchError: the index is held by another.
        """
        if engine is None:
            return self
        if check_engine(engine) != self.engine:
            raise MismatchError(f"the index is held by {self.engine}, not by {engine}: name that, or migrate it")
        return replace(self, engine_named=True)

    def check_table(self, table: TokenTable, what: str) -> None:
        """Raises MismatchError when the table is not the one that the index was made with."""
        check_model(what, table.model, table.revision, "the index", self.model, self.revision)
        if table.tokenizer_hash != self.tokenizer_hash:
            raise MismatchError(f"{what} has another tokenizer than the index was made with: use the index's own table")
        if table.hash != self.table_hash:
            of = f" of {self.model!r}" if self.model else ""
            raise MismatchError(f"{what} is another table{of} than the index was made with")
        if table.dim != self.dim:
            raise MismatchError(f"{what} has {table.dim} dimensions, the index's settings say {self.dim}")
        if len(table) != self.width:
            raise MismatchError(f"{what} has {len(table)} rows, the index's settings say {self.width}")

    def check_successor(self, table: TokenTable, what: str, now: TokenTable) -> None:
        """Raises MismatchError when the table cannot take the place of ``now``, the one that the index has."""
        check_model(what, table.model, table.revision, "the index", self.model, self.revision)
        if table.tokenizer_hash != self.tokenizer_hash:
            raise MismatchError(f"{what} has another tokenizer than the index: only `reindex` can change it")
        if table.dim != self.dim:
            raise MismatchError(f"{what} has {table.dim} dimensions, the index {self.dim}: fit it with that many")
        if not same_rotation(table, now):
            raise MismatchError(
                f"{what} is turned to other axes than the index's documents: fit it with --axes-of TABLE"
            )

    def binding(self) -> Mapping[str, object]:
        """What the documents in the engine belong to, for engines that are not in the index's own folder."""
        names = ("model", "revision", "tokenizer_hash", "table_hash", "dim", "width", "sparse")
        return {name: getattr(self, name) for name in names}

    def identity(self) -> Mapping[str, object]:
        """What must be equal for a build to be the same build."""
        names = ("model", "revision", "dim", "width", "sparse", "table_hash", "tokenizer_hash", "engine", "tenant")
        encoding = {name: self.encoding.get(name) for name in ("max_length", "top_k")}
        passages = None if self.passages is None else asdict(self.passages)
        analyser = None if self.analyser is None else str(self.analyser)
        return {**{name: getattr(self, name) for name in names}, "analyser": analyser, "passages": passages, **encoding}


def check_engine(engine: str) -> str:
    """The one spelling of an engine's name. Raises UsageError when there is no such engine."""
    return engine if engine == LOCAL else str(parse_address(engine))


def check_analyser(analyser: Analyser | None, sparse: str, engine: str) -> None:
    """Raises UsageError for an analyser that is given where the sparse side has none, or the engine cannot have it:
    copies of the folder of a server's index would give words numbers of their own."""
    if analyser is None:
        return
    if not isinstance(analyser, Analyser):
        kind = type(analyser).__name__
        raise UsageError(f"the analyser is of type {kind}: give one, as Analyser(language='english')")
    if sparse != "bm25":
        raise UsageError(f"an analyser is for the sparse side bm25, and it is {sparse!r}: leave {analyser} out")
    if engine != LOCAL and analyser.kind != PIECES:
        raise UsageError(f"a server's collection counts the model's tokens, not {analyser}: choose pieces")


def check_model(what: str, model: str, revision: str, other: str, other_model: str, other_revision: str) -> None:
    """Check that two things come of one document model: by revision where both have one, else by name.

    Raises:
        MismatchError: they do not; both are named.
    """
    if revision and other_revision:
        same = revision == other_revision
    else:
        same = not model or not other_model or model == other_model
    if not same:
        raise MismatchError(
            f"{what} belongs to the model {model or 'unknown'!r} (revision {revision or 'unknown'}), {other} to "
            f"{other_model or 'unknown'!r} "
            f"(revision {other_revision or 'unknown'}): use things of one model together"
        )


def _setting(value: Any) -> Any:
    return items(scalar)(value) if isinstance(value, list) else scalar(value)


def _encoding(value: Any) -> Any:
    found = mapping(_setting, most=100)(value)
    limits = {"max_length": optional(whole(1)), "top_k": optional(whole(1))}
    named = {name: text() for name in ("source", "base") if found.get(name) is not None}
    record({**named, **limits}, optional=limits)({name: found[name] for name in (*named, *limits) if name in found})
    return found


_BOUND: dict[str, Check] = {
    "model": text(4_096),
    "revision": text(4_096),
    "dim": whole(1, 65_536),
    "width": whole(1, (1 << 31) - 1),
    "sparse": choice(*SPARSE_KINDS),
    "table_hash": text(256),
    "tokenizer_hash": text(256),
    "encoding": _encoding,
}
"""What a document model decides."""
_WEIGHER: dict[str, Check] = {
    "hidden": items(items(number(), 1_000), 10_000),
    "output": items(number(), 10_000),
    "low": number(0, 1),
    "high": number(0, 1),
}
_CHECKS: dict[str, Check] = {
    **_BOUND,
    "analyser": optional(record_of(Analyser)),
    "fusion": record_of(Fusion, weigher=optional(record(_WEIGHER)), queries=items(text(64, empty=False), MOST_QUERIES)),
    "engine": text(2_048),
    "table": plain_name,
    "vectors": whole(1, 1 << 31),
    "collection": text(255),
    "state": choice("complete", "building"),
    "built_from": text(64),
    "source": text(256),
    "ingested": whole(),
    "zeros": whole(),
    "successor": optional(
        record({**_BOUND, "table": plain_name, "vectors": whole(1, 1 << 31), "collection": text(255)})
    ),
    "tenant": optional(text(1_024, empty=False)),
    "passages": optional(record_of(PassageOptions)),
    "sources": items(text(4_096, empty=False), 10_000),
    "include": items(text(4_096), 10_000),
    "exclude": items(text(4_096), 10_000),
}


def _check_parts(settings: Settings) -> None:
    """Raises ValueError for an engine that there is not, and for parts that are none of an index's own."""
    engine = settings.engine
    if engine != LOCAL and check_engine(engine) != engine:
        raise ValueError(f"'engine' is spelled {ascii(engine)[:80]}")
    successor: Mapping[str, Any] = settings.successor or {}
    for holder in (settings.table, successor.get("table")):
        if holder is not None and not _TABLE.fullmatch(holder):
            raise ValueError(f"'table' is {ascii(holder)[:80]}, which no table of an index is called")
    collection = re.compile("")
    if is_address(engine):
        collection = re.compile(re.escape(parse_address(engine).name) + r"(-[1-9][0-9]{0,17})?")
    for holder in (settings.collection, successor.get("collection")):
        if holder is not None and not collection.fullmatch(holder):
            raise ValueError(f"'collection' is {ascii(holder)[:80]}, which is none of the index's")
    if successor and settings.local and successor["vectors"] == settings.vectors:
        raise ValueError("'successor' has the vectors of the index itself")
    if successor and successor["table"] == settings.table:
        raise ValueError("'successor' has the table of the index itself")
