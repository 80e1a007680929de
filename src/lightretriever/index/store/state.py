"""The one row of counts that every write changes: by it a reader knows what is new."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from lightretriever.errors import ArtifactError
from lightretriever.index.store.database import Connection
from lightretriever.index.store.seal import check_seal, seal

_FIELDS = "version, documents, next_key, next_gone, first_gone, changes, tokens, unknown, identity"


@dataclass(frozen=True, slots=True)
class State:
    """The counts at one moment.

    Attributes:
        version: grows when settings, statistics or segments change.
        documents: how many there are.
        next_key: of the document stored next.
        next_gone, first_gone: the next number in the list of keys that went, and the first that is still in it: who
            last looked before that one must begin anew.
        changes: documents stored, replaced and removed since BM25's statistics were taken.
        tokens, unknown: of documents stored since the table was fitted, and how many of these no text of its fit held;
            see `lightretriever.index.novelty`.
        identity: of no other index; one may have taken the place of another.
    """

    version: int
    documents: int
    next_key: int
    next_gone: int
    first_gone: int
    changes: int
    tokens: int
    unknown: int
    identity: int


def version_of(state: State) -> tuple[int, int]:
    """What is another whenever more than rows has changed."""
    return state.identity, state.version


def read_state(connection: Connection) -> State:
    """The row as it is. Raises ArtifactError when it is absent or damaged."""
    row = connection.execute(f"SELECT {_FIELDS}, checksum FROM state WHERE one = 1").fetchone()
    if row is None or not all(type(value) is int and value >= 0 for value in row):
        raise ArtifactError("the row of counts in the index's database is damaged: restore a snapshot")
    check_seal(row[-1], "the row of counts", *row[:-1])
    return State(*row[:-1])


def change_state(connection: Connection, **by: int) -> None:
    """Add to some of the counts."""
    state = read_state(connection)
    _write(connection, replace(state, **{name: getattr(state, name) + value for name, value in by.items()}))


def set_state(connection: Connection, **to: int) -> None:
    """Set some of the counts."""
    _write(connection, replace(read_state(connection), **to))


def _write(connection: Connection, state: State) -> None:
    values = astuple(state)
    sets = ", ".join(f"{name} = ?" for name in (*_FIELDS.split(", "), "checksum"))
    connection.execute(f"UPDATE state SET {sets} WHERE one = 1", (*values, seal(*values)))
