"""What an index needs of a server that holds its documents, by its settings; loaded when there is one."""

from __future__ import annotations

from lightretriever.errors import MissingExtraError
from lightretriever.index.settings import Settings

try:
    from lightretriever.index.engines.qdrant.calls import Connection
    from lightretriever.index.engines.qdrant.collection import Contents
    from lightretriever.index.engines.qdrant.engine import QdrantEngine
    from lightretriever.index.engines.qdrant.server import QdrantServer
    from lightretriever.index.engines.qdrant.url import parse_address
except ModuleNotFoundError:
    raise MissingExtraError("a Qdrant server as the engine", "qdrant") from None


def server_of(settings: Settings) -> QdrantServer:
    """The server, with a connection of its own; see `QdrantServer` for what it raises."""
    return QdrantServer(Connection(parse_address(settings.engine), settings.engine_named))


def contents_of(settings: Settings) -> Contents:
    """What a collection of such an index holds."""
    return Contents(settings.dim, None if settings.sparse == "none" else settings.width, settings.binding())


def create_collection(settings: Settings) -> str:
    """Make an empty collection; its name."""
    with server_of(settings) as server:
        return server.create(contents_of(settings)).collection


def open_collection(settings: Settings) -> QdrantEngine:
    """The engine over the index's collection, whose alias stands for it from now on."""
    server = server_of(settings)
    try:
        engine = server.open(contents_of(settings), settings.collection)
        server.settle(settings.collection)
    except BaseException:
        server.close()
        raise
    return engine
