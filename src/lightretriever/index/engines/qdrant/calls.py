"""Calls to a Qdrant server: which failures pass by themselves and are tried again, and what the others mean.

Every call that goes through `call` may be made twice: points have ids of their own, so that writing one again
replaces it, and deleting one again finds nothing. So a write whose answer was lost on the way is simply sent again.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.qdrant.key import NAME_IT, key_for, local_host
from lightretriever.index.engines.qdrant.url import API_KEY, QdrantAddress

TIMEOUT = 60  # seconds that a single answer may take
LIMIT = 60.0  # seconds after which a call is not made again: nobody waits longer for a search
WRITE_LIMIT = 600.0  # likewise for a write
WAITS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt; up to half of it is left out, by chance, lest many clients come back at once."""
_PASSING = (408, 429, 500, 502, 503, 504)  # busy, restarting, electing a leader, too few replicas just now
T = TypeVar("T")


class Gone(ArtifactError):
    """There is no collection of that name."""


class Unconfirmed(Exception):
    """The server took a write, and did not say in time that it is done."""


class Connection:
    """A server as this process reaches it, and as a process that is forked from it does: by a client of its own.

    Threads may share it.

    Attributes:
        address: where.
    """

    def __init__(self, address: QdrantAddress, named: bool, client: QdrantClient | None = None) -> None:
        """
        Args:
            address: where; nothing is sent yet.
            named: whether the caller of this process gave the address; see `connect`.
            client: of `qdrant_client`'s local mode, which forks have copies of; made from the address when None.

        Raises:
            ArtifactError, UsageError: there is a key, and it cannot be sent.
        """
        self.address = address
        self._named, self._local = named, client
        self._clients = {os.getpid(): client or connect(address, named)}
        self._closed = False

    def another(self) -> Connection:
        """One more to the same server, closed by itself; in local mode the same."""
        return Connection(self.address, self._named) if self._local is None else self

    def call(
        self, action: Callable[[QdrantClient], T], waits: Sequence[float] | None = None, limit: float | None = None
    ) -> T:
        """`call` with a client; None stands for `WAITS` and `LIMIT`. Raises ArtifactError when closed."""
        where = self.address.url
        if self._closed:
            raise ArtifactError(f"{where} was closed: open it again")
        client = self._client()
        waits, limit = WAITS if waits is None else waits, LIMIT if limit is None else limit
        return call(where, lambda: action(client), waits, limit)

    def close(self) -> None:
        """Let go of it, in this process; the others' ends are theirs."""
        self._closed = True
        own = self._clients.get(os.getpid())
        if own is not None:
            own.close()

    def _client(self) -> QdrantClient:
        """This process's. Those of processes before a fork are kept: to close one would end it for its process too."""
        found = self._clients.get(os.getpid())
        if found is None:
            made = self._local or connect(self.address, self._named)
            found = self._clients.setdefault(os.getpid(), made)  # two threads may come here at once
        return found


def connect(address: QdrantAddress, named: bool) -> QdrantClient:
    """A client of the server; nothing is sent yet. The key, if there has to be one, comes from the environment, and
    goes to no server that the caller did not name; see `key_for`. This machine's own servers are asked directly,
    whatever proxy the environment names.

    Raises:
        ArtifactError, UsageError: a key that cannot be sent.
    """
    key = key_for(address, named)
    headers = {} if key is None else {"api-key": key}  # as `api_key` the client warns of http, also to this machine
    host = local_host(address)
    direct: dict[str, httpx.BaseTransport | None] = {} if host is None else {f"all://{host}": None}
    return QdrantClient(url=address.server, metadata=headers, mounts=direct, timeout=TIMEOUT, check_compatibility=False)


def call(where: str, action: Callable[[], T], waits: Sequence[float] = WAITS, limit: float = LIMIT) -> T:
    """Make a call, and make it again while it fails in a way that passes.

    Args:
        where: the collection's URL, for messages.
        action: the call; making it twice does the same as making it once.
        waits: seconds before the second attempt, the third and so on; empty for no second one.
        limit: seconds since the first attempt after which there is no further one.

    Raises:
        Gone: there is no such collection.
        ArtifactError: it failed for good, or too often.
    """
    begun = time.monotonic()
    for wait in (*waits, None):
        try:
            return action()
        except Exception as error:
            late = time.monotonic() - begun >= limit
            if wait is None or late or not _passes(error):
                raise (Gone if _is_gone(error) else ArtifactError)(f"{where}: {_reason(error)}") from None
            time.sleep(max(wait * random.uniform(0.5, 1.0), min(getattr(error, "retry_after_s", 0), TIMEOUT)))
    raise AssertionError("unreachable")


def confirmed(result: Any) -> None:
    """Raises Unconfirmed unless the server said that the write it answers is done."""
    if str(result.status) != "completed":
        raise Unconfirmed(str(result.status))


def _passes(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in _PASSING
    if isinstance(error, ResponseHandlingException):
        return isinstance(error.source, httpx.TransportError)
    return isinstance(error, ResourceExhaustedResponse | Unconfirmed)


def _is_gone(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404
    return isinstance(error, ValueError) and str(error).endswith("not found")  # local mode's way of saying it


def _reason(error: Exception) -> str:
    """One line for people."""
    if isinstance(error, ResponseHandlingException):
        if isinstance(error.source, httpx.TimeoutException):
            return f"the server did not answer within {TIMEOUT} s: it is too busy, or stopped; run again later"
        if isinstance(error.source, httpx.TransportError):
            return f"cannot be reached ({_first_line(error.source)}): is the server running, and its address right?"
        return (
            f"what answers there is no Qdrant server of a version that this client knows: {_first_line(error.source)}"
        )
    if isinstance(error, Unconfirmed):
        return f"the server took a write and did not finish it (it says {error}): run again, nothing is stored twice"
    if isinstance(error, UnexpectedResponse):
        said = _said(error.content)
        if error.status_code in (401, 403):
            return f"the server refuses the key ({said}): set {API_KEY} to one that may write there; {NAME_IT}"
        return f"the engine failed: {error.status_code} {said}"
    return f"the engine failed: {_first_line(error)}"


def _said(content: bytes) -> str:
    """The server's own words: its JSON's error, or the beginning of whatever else came."""
    try:
        return " ".join(str(json.loads(content)["status"]["error"]).split())
    except (ValueError, KeyError, TypeError, RecursionError):
        return " ".join(content.decode("utf-8", "replace").split())[:200]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
