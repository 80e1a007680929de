"""What an index writes: documents with their vectors stored and removed, the files that they came from noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightretriever.errors import MismatchError
from lightretriever.index.added import Added
from lightretriever.index.filter.language import Filter
from lightretriever.index.given import check_encoded
from lightretriever.index.novelty import measure_novelty
from lightretriever.index.settings import Settings
from lightretriever.index.state import Current, State
from lightretriever.index.store.database import Connection
from lightretriever.index.store.files import NotedFile, forget_files, note_files, read_files
from lightretriever.index.store.state import change_state
from lightretriever.index.stored_passages import existing_documents, numbers_of, stored_passages
from lightretriever.index.tenant import check_ids, of_tenants
from lightretriever.index.upkeep import delete_documents, rows_of, store_rows
from lightretriever.passages.fields import document_id
from lightretriever.paths import absolute
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.parts import check_vectors, positive, usable


def store_encoded(
    state: State,
    documents: Sequence[Document],
    encoded: Encoded,
    current: Current,
    flush: bool | None,
    zeros: bool = False,
) -> Added:
    """Store documents with the vectors that their tower gave them, for the index as it was when they were read."""
    check_encoded(encoded)
    dim, rotation = current.settings.dim, current.encoder.table.rotation
    whole = max(encoded.dense.shape[-1], dim) if rotation is None else len(rotation)
    check_vectors([document.id for document in documents], encoded, whole, zeros=zeros)
    vectors = encoded if whole == dim and rotation is None else usable(encoded, dim, rotation)
    added = store_vectors(state, documents, vectors, current, flush)
    if added is None:
        raise MismatchError(
            f"{state.path} went over from {current.settings.model!r} to {state.current.settings.model!r} before the "
            "documents were stored: encode them with that"
        )
    return added


def store_vectors(
    state: State, documents: Sequence[Document], encoded: Encoded, encoded_for: Current, flush: bool | None
) -> Added | None:
    """None, and nothing is stored, where the index is of another model than it was when they were encoded."""
    tenant = encoded_for.settings.tenant
    documents = list(of_tenants(documents, tenant))
    check_vectors([document.id for document in documents], encoded, encoded_for.settings.dim, zeros=True)
    check_ids(documents, tenant)
    if not documents:
        return Added()
    side = state.choose_analyser(document.input for document in documents).side
    rows = rows_of(documents, Encoded(encoded.dense, positive(encoded.sparse)), side)
    novelty = measure_novelty(side.table, [document.input for document in rows.documents])
    with state.writing(len(rows), flush) as connection:
        current = state.current
        if not current.takes_vectors_of(encoded_for):
            return None
        replaced = store_rows(current, connection, rows)
        if current.settings.passages:
            surplus = stored_passages(current.engine, numbers_of(rows.documents))
            delete_documents(current, connection, surplus, None)
        change_state(connection, tokens=novelty.tokens, unknown=novelty.unknown)
    durable = not state.durability.pending
    return Added(len(rows), replaced, len(documents) - len(rows), durable, novelty)


def remove(state: State, connection: Connection, names: Sequence[str], where: Filter | None) -> tuple[int, int]:
    """Remove documents within a transaction; how many, and how many rows they had."""
    current = state.current
    if not current.settings.passages:
        removed = delete_documents(current, connection, names, where)
        return removed, removed
    rows = stored_passages(current.engine, dict.fromkeys(names, 0))
    removed = delete_documents(current, connection, rows, where)
    whose = {document_id(row) for row in rows}
    left = existing_documents(current.engine, whose, passages=True) if where is not None else ()
    return len(whose) - len(left), removed


def replace_files(state: State, files: Sequence[NotedFile], gone: Sequence[str]) -> int:
    """Note files, and remove what they do not hold any more; see `Index.note_files`. How many rows were removed."""
    with state.writing(flush=True) as connection:
        before = read_files(connection, [*gone, *(file.id for file in files)])
        note_files(connection, files)
        forget_files(connection, gone)
        held = {document for file in files for document in file.documents}
        dropped = {name: None for file in before.values() for name in file.documents if name not in held}
        if dropped:  # another file may hold one, which only all of them tell
            elsewhere = {name for file in read_files(connection).values() for name in file.documents}
            dropped = {name: None for name in dropped if name not in elsewhere}
        return remove(state, connection, list(dropped), None)[1] if dropped else 0


def follow(state: State, sources: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> None:
    """Note where `sync` looks; see `Index.follow`."""
    places = tuple(str(absolute(source)) for source in sources)

    def followed(settings: Settings) -> Settings:
        return replace(settings, sources=places, include=tuple(include), exclude=tuple(exclude))

    if followed(state.current.settings) == state.current.settings:
        return
    with state.writing(flush=True):
        state.save(followed(state.current.settings))
