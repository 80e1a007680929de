"""The document model that is to take an index over: checked, noted in the settings, and what it makes of documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.index.folder import next_table
from lightretriever.index.settings import Settings, check_model
from lightretriever.index.sparse import SparseSide
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.values import read_settings, write_settings
from lightretriever.index.terms import Terms
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document
from lightretriever.text.memo import ChunkTokenizer
from lightretriever.types import Encoded
from lightretriever.vectors.encode import Tower, origin_of
from lightretriever.vectors.unusable import usable_named

_BOUND = ("model", "revision", "dim", "width", "sparse", "table_hash", "tokenizer_hash", "encoding")
_CHANGED = (*_BOUND, "table", "vectors", "collection")


@dataclass(frozen=True, slots=True)
class NewModel:
    """A tower and a table of one model. Use `of`.

    Attributes:
        table: the token table.
        tower: encodes documents.
        side: where sparse vectors come from, from then on.
    """

    table: TokenTable
    tower: Tower
    side: SparseSide

    @staticmethod
    def of(table: TokenTable, tower: Tower, sparse: str) -> NewModel:
        """A checked one, that counts tokens.

        Raises:
            MismatchError: table and tower are of two models or sizes.
            UsageError: a tower without an LM head shall give sparse vectors.
        """
        check_model("the token table", table.model, table.revision, "the document model", tower.name, tower.revision)
        rotation = table.rotation
        if tower.dim < table.dim or (rotation is not None and tower.dim != len(rotation)):
            raise MismatchError(
                f"{tower.name} has {tower.dim} dimensions, the token table {table.dim}: use its own table"
            )
        if sparse == "lm" and not tower.has_sparse:
            raise UsageError(f"{tower.name} has no language-model head: choose sparse 'bm25' or 'none'")
        return NewModel(table, tower, SparseSide(sparse, table, ChunkTokenizer(table.tokenizer, table.chunks)))

    def counting(self, terms: Terms | None) -> NewModel:
        """The same where the sparse side is over words, that these count; None: it is not."""
        return replace(self, side=replace(self.side, terms=terms))

    def begin(
        self, path: Path, database: Database, part: Callable[[Connection, Settings], Mapping[str, object]]
    ) -> Settings:
        """The settings as they will be. They are noted, with the table beside the one in force, so that an interrupted
        run is gone on with; what was begun for another model is forgotten.

        Args:
            path: the index's folder.
            database: its database.
            part: makes what shall hold the new vectors, and drops what was begun before: ``vectors``, ``collection``.
        """
        tower, table = self.tower, self.table
        encoding = {**origin_of(tower), "max_length": tower.max_length, "top_k": tower.top_k}
        new = asdict(Settings.of(table, self.side.kind))
        bound: dict[str, Any] = {**{name: new[name] for name in _BOUND}, "encoding": encoding}
        with database.writing() as connection:
            now = read_settings(connection, database.file)
            begun = now.successor
            if begun is None or any(begun[name] != value for name, value in bound.items()):
                name = next_table(path, now)
                begun = {**bound, "table": name, **part(connection, now)}
                table.save(path / name)
                write_settings(connection, replace(now, successor=begun))
        return _changed(now, begun)

    def encode(self, documents: Sequence[Document]) -> Encoded:
        """Vectors of documents, the sparse ones as `SparseSide.of` has them.

        Raises:
            InputError: one has no text, and is named.
        """
        for document in documents:
            if not document.input.strip():
                raise InputError(f"document {document.id!r} has no text to encode: delete it, or add it with its text")
        encoded = usable_named(documents, self.tower.encode(documents), self.table.dim, self.table.rotation)
        return replace(encoded, sparse=self.side.of(documents, encoded.sparse))


def take_over(connection: Connection, file: Path, settings: Settings) -> None:
    """Make what `NewModel.begin` gave the index's settings; to be called within a transaction."""
    now = read_settings(connection, file)
    write_settings(connection, _changed(now, {name: getattr(settings, name) for name in _CHANGED}))


def _changed(now: Settings, values: Mapping[str, Any]) -> Settings:
    return replace(now, successor=None, **{name: values[name] for name in _CHANGED})
