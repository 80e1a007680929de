"""The collections behind one address of a Qdrant server: made, opened, and put in each other's place.

The address names an alias; the collection behind it is ``name-1``. What replaces an engine (BM25 statistics taken anew,
another document model) fills ``name-2`` beside it; see `lightretriever.index.engines.qdrant.rebuild`. Then three things
change, in this order: the index's own settings, the alias, and ``name-1`` is deleted. A process killed in between is
made good by `settle` when its folder is opened next. Other machines' copies of the folder name ``name-1`` still: they
find it gone and ask the alias, and what stands there now must be of their own table, or they are told so.
"""

from __future__ import annotations

from functools import partial

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.qdrant.calls import Connection
from lightretriever.index.engines.qdrant.collection import (
    Binding,
    Contents,
    bind_collection,
    check_contents,
    collection_exists,
    make_collection,
    next_name,
    number_of,
    point_alias,
    real_name,
)
from lightretriever.index.engines.qdrant.engine import QdrantEngine


class QdrantServer:
    """Every method raises ArtifactError when the server cannot be reached, refuses or fails.

    Use it in a ``with`` block, unless an engine is made of it: that closes the connection, which is one for both.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._call, self._address = connection.call, connection.address

    def __enter__(self) -> QdrantServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def create(self, contents: Contents) -> QdrantEngine:
        """Make an empty collection, and the alias for it; an empty one of the same binding is taken as it is.

        Raises:
            ArtifactError: the name is taken.
            MismatchError: the name is taken by a collection of another binding.
        """
        address = self._address
        name = self._call(lambda client: real_name(client, address.name), ())
        if name is None:
            made = self.make(self.next_name(), contents)
            self._call(lambda client: point_alias(client, address.name, made.collection))
            return made
        self._check(name, contents)
        engine = QdrantEngine(self._connection, name, contents)
        if count := engine.count():
            raise ArtifactError(f"{address.url} exists already and holds {count:,} documents: name another collection")
        return engine

    def make(self, name: str, contents: Contents) -> QdrantEngine:
        """Make an empty collection that no alias stands for."""
        make = partial(make_collection, collection=name, address=self._address, contents=contents)
        self._call(make, ())  # a second attempt would find what the first has made
        return QdrantEngine(self._connection, name, contents)

    def open(self, contents: Contents, name: str = "") -> QdrantEngine:
        """Open a collection, whoever else has it open: the one of this name, or, if it is gone, the alias's.

        Raises:
            ArtifactError: there is neither, or it is not one of ours.
            MismatchError: its documents belong to another table or model; what differs is named.
        """
        address = self._address
        ours = number_of(address.name, name)
        if not ours or not self._call(lambda client: collection_exists(client, name), ()):
            name = self._call(lambda client: real_name(client, address.name), ()) or ""
        if not name:
            raise ArtifactError(f"{address.url} does not exist: the collection was deleted, or the address is wrong")
        self._check(name, contents)
        return QdrantEngine(self._connection, name, contents)

    def exists(self, name: str) -> bool:
        """Whether there is a collection of this name."""
        return self._call(lambda client: collection_exists(client, name))

    def next_name(self) -> str:
        """What the next collection behind the alias is called."""
        return self._call(lambda client: next_name(client, self._address.name))

    def bind(self, name: str, binding: Binding) -> None:
        """Bind a collection to another table of its model; the one before is accepted still."""
        self._call(lambda client: bind_collection(client, name, binding))

    def settle(self, name: str) -> None:
        """Let the alias stand for a collection from now on, in one step, and delete the one before; does nothing where
        the alias stands for this one or a later one."""
        alias = self._address.name
        before = self._call(lambda client: real_name(client, alias)) or ""
        if number_of(alias, before) < number_of(alias, name) and self.exists(name):
            self._call(lambda client: point_alias(client, alias, name))
            if number_of(alias, before):
                self.drop(before)

    def drop(self, name: str) -> None:
        """Delete a collection for good, if it is there; its alias goes with it."""
        if self.exists(name):
            self._call(lambda client: client.delete_collection(name))

    def close(self) -> None:
        """Let go of the connection, and with it of the engines made here."""
        self._connection.close()

    def _check(self, name: str, contents: Contents) -> None:
        check_contents(self._address.url, self._call(lambda client: client.get_collection(name)), contents)
