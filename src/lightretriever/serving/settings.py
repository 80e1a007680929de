"""How to serve: frozen options that the command line, tests and worker processes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from lightretriever.errors import ArtifactError, UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all together, may ask of a worker.

    Attributes:
        body: bytes of a request's body; of documents that are streamed there is no limit, but to a line.
        line: bytes of one line of streamed documents.
        query: characters of a query or text.
        batch: queries or texts in one request.
        k: hits for each query.
        requests: answered at once; one more is told to come back later (503).
        connections: open at once.
        rate: requests a second that one key, or one address where there are no keys, may send; 0 is no limit (429).
        seconds: that answering one may take (503); a stream of documents has as long for each batch.
        slow: seconds that a client has for its headers, and for each part of its body (408).
        header: bytes of a request's line and headers (431).
    """

    body: int = 32 << 20
    line: int = 8 << 20
    query: int = 8192
    batch: int = 2048
    k: int = 1000
    requests: int = 256
    connections: int = 2048
    rate: float = 0.0
    seconds: float = 30.0
    slow: float = 10.0
    header: int = 32 << 10

    def __post_init__(self) -> None:
        for name in ("body", "line", "query", "batch", "k", "requests", "connections", "seconds", "slow", "header"):
            if not getattr(self, name) > 0:
                raise UsageError(f"the limit {name} is {getattr(self, name)}: it must be more than 0")
        if self.rate < 0:
            raise UsageError(f"the limit rate is {self.rate}: give requests a second, or 0 for no limit")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is served, where, and to whom.

    Attributes:
        path: an index, or a table's folder: then embeddings alone are served.
        tables: more tables, by the names that clients ask for.
        host, port: where to listen; port 0 is one that the system picks.
        workers: processes.
        model: the document tower, for documents and for queries by the full model; None: neither is answered.
        device, compute: of the tower.
        keys: the file of API keys; None: whoever can connect may read and write.
        insecure: whether an address that others reach may be served without keys.
        origins: web pages of other sites that may call, as ``https://app.example``; none by default.
        log_requests: a line for every request; else for those that failed.
        log_queries: with the text of queries.
        limits: see `Limits`.
        runtime: a folder for what the server's processes share while they run; "" before they do.
    """

    path: Path
    tables: tuple[tuple[str, Path], ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    model: str | None = None
    device: str = "auto"
    compute: str = "auto"
    keys: Path | None = None
    insecure: bool = False
    origins: tuple[str, ...] = ()
    log_requests: bool = False
    log_queries: bool = False
    limits: Limits = field(default_factory=Limits)
    runtime: str = ""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}: at least 1 is needed")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"the port is {self.port}: give 0 to 65535")
        if self.keys is None and not self.insecure and not is_loopback(self.host):
            raise UsageError(
                f"others can reach {self.host}, and nobody needs a key: make one (lightretriever key KEYS NAME) and "
                "name the file with --keys, or say --insecure"
            )

    def check_path(self) -> None:
        """Raises ArtifactError where there is nothing to serve."""
        if not self.path.is_dir():
            raise ArtifactError(f"{self.path} does not exist: name an index or a table's folder")

    @property
    def private(self) -> bool:
        """Whether only this machine can connect, and needs no key: then a browser may be made to, by any page."""
        return self.keys is None and is_loopback(self.host)


@lru_cache(1024)  # asked for every request
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of names only localhost is known."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
