"""The collections behind one address of a Qdrant server: made, opened, and put in each other's place.

The address names an alias; the collection behind it is ``name-1``. What replaces an engine (BM25 statistics taken anew,
another document model) fills ``name-2`` beside it. Then three things change, in this order: the index's manifest, the
alias, and ``name-1`` is deleted. A process killed in between is made good by `settle` when its folder is opened next.
Other machines' copies of the folder name ``name-1`` still: they find it gone and ask the alias, and what stands there
now must be of their own table, or they are told so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from qdrant_client import QdrantClient

from lightretriever.errors import ArtifactError
from lightretriever.index.qdrant import QdrantBackend
from lightretriever.index.qdrant_calls import WAITS, call, connect
from lightretriever.index.qdrant_collection import (
    Binding,
    bind_collection,
    check_binding,
    collection_exists,
    make_collection,
    next_name,
    number_of,
    point_alias,
    real_name,
    stored_binding,
)
from lightretriever.index.qdrant_url import QdrantAddress

T = TypeVar("T")


class QdrantServer:
    """Every method raises ArtifactError when the server cannot be reached, refuses or fails.

    Use it in a ``with`` block, unless a backend is made of it: that closes the connection, which is one for both.
    """

    def __init__(self, address: QdrantAddress, client: QdrantClient | None = None, named: bool = True) -> None:
        """
        Args:
            address: where; its options say how collections are made.
            client: of that server, or of `qdrant_client`'s local mode; made from the address when None.
            named: whether the caller gave the address; else no key is sent that the environment does not say is for it.
        """
        self._address = address
        self._client = client or connect(address, named)

    def __enter__(self) -> QdrantServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def create(self, dim: int, sparse: bool, binding: Binding) -> QdrantBackend:
        """Make an empty collection, and the alias for it; an empty one of the same binding is taken as it is.

        Args:
            dim: d of the dense vectors.
            sparse: whether points have a sparse vector.
            binding: what the documents belong to, JSON-able; stored with the collection and checked by `open`.

        Raises:
            ArtifactError: the name is taken.
            MismatchError: the name is taken by a collection of another binding.
        """
        client, address = self._client, self._address
        name = self._call(lambda: real_name(client, address.name), again=False)
        if name is None:
            made = self.make(self.next_name(), dim, sparse, binding)
            self._call(lambda: point_alias(client, address.name, made.collection))
            return made
        check_binding(address.url, self._call(lambda: stored_binding(client, name)), binding)
        backend = QdrantBackend(client, address, name, binding)
        if count := backend.count():
            raise ArtifactError(f"{address.url} exists already and holds {count:,} documents: name another collection")
        return backend

    def make(self, name: str, dim: int, sparse: bool, binding: Binding) -> QdrantBackend:
        """Make an empty collection that no alias stands for."""
        make = partial(make_collection, self._client, name, self._address, dim, sparse, binding)
        self._call(make, again=False)  # a second attempt would find what the first has made
        return QdrantBackend(self._client, self._address, name, binding)

    def open(self, binding: Binding, name: str = "") -> QdrantBackend:
        """Open a collection, whoever else has it open: the one of this name, or, if it is gone, the alias's.

        Raises:
            ArtifactError: there is neither, or it is not one of ours.
            MismatchError: its documents belong to another table or model; what differs is named.
        """
        client, address = self._client, self._address
        ours = number_of(address.name, name)
        if not ours or not self._call(lambda: collection_exists(client, name), again=False):
            name = self._call(lambda: real_name(client, address.name), again=False) or ""
        if not name:
            raise ArtifactError(f"{address.url} does not exist: the collection was deleted, or the address is wrong")
        check_binding(address.url, self._call(lambda: stored_binding(client, name)), binding)
        return QdrantBackend(client, address, name, binding)

    def exists(self, name: str) -> bool:
        """Whether there is a collection of this name."""
        return self._call(lambda: collection_exists(self._client, name))

    def next_name(self) -> str:
        """What the next collection behind the alias is called."""
        return self._call(lambda: next_name(self._client, self._address.name))

    def bind(self, name: str, binding: Binding) -> None:
        """Bind a collection to another table of its model; the one before is accepted still."""
        self._call(lambda: bind_collection(self._client, name, binding))

    def settle(self, name: str) -> None:
        """Let the alias stand for a collection from now on, in one step, and delete the one before; does nothing where
        the alias stands for this one or a later one."""
        client, alias = self._client, self._address.name
        before = self._call(lambda: real_name(client, alias)) or ""
        if number_of(alias, before) < number_of(alias, name) and self.exists(name):
            self._call(lambda: point_alias(client, alias, name))
            if number_of(alias, before):
                self.drop(before)

    def drop(self, name: str) -> None:
        """Delete a collection for good, if it is there; its alias goes with it."""
        if self.exists(name):
            self._call(lambda: self._client.delete_collection(name))

    def close(self) -> None:
        """Let go of the connection, and with it of the backends made here."""
        self._client.close()

    def _call(self, action: Callable[[], T], again: bool = True) -> T:
        return call(self._address.url, action, WAITS if again else ())
