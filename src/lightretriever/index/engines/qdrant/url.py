"""Where on a Qdrant server or cluster an index is: ``http(s)://host:6333/prefix/collection?shards=6&replicas=2``.

https is TLS. What stands before the last part of the path is the prefix of a proxy. The options after the question
mark say how the collection is made, and are not looked at afterwards. A key is no part of an address, because an
address is stored: it is read from the environment, each time; see `key`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from lightretriever.errors import UsageError

API_KEY = "LIGHTRETRIEVER_QDRANT_API_KEY"
PORT = 6333
QUANTISATIONS = ("turbo", "scalar", "binary", "none")
_FORBIDDEN = frozenset('<>:"/\\|?*\0\x1f')  # in a collection's name, by the server's own rules
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_EXAMPLE = "http://host:6333/collection"


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """A collection of a server, and how to make it.

    Attributes:
        server: scheme, host, port and prefix, without a slash at the end.
        name: the collection's, or rather the alias's that stands for it.
        shards: parts that the collection is cut into; 0 leaves the number to the server, which makes one for each node.
        replicas: nodes that each shard is kept on. A write is acknowledged when more than half of them have it.
        quantisation: of the dense vectors that the graph is walked with: "turbo" (4 bits; the server needs to be
            1.18 or newer), "scalar" (8 bits), "binary" (1 bit) or "none".
    """

    server: str
    name: str
    shards: int = 0
    replicas: int = 1
    quantisation: str = "turbo"

    def __str__(self) -> str:
        """The URL, the same for all spellings of it; options that have their default are left out."""
        options = [f"quantisation={self.quantisation}"] if self.quantisation != "turbo" else []
        options += [f"replicas={self.replicas}"] if self.replicas != 1 else []
        options += [f"shards={self.shards}"] if self.shards else []
        return f"{self.url}?{'&'.join(options)}" if options else self.url

    @property
    def url(self) -> str:
        """The URL without options."""
        return f"{self.server}/{quote(self.name, safe='')}"


def is_address(engine: str) -> bool:
    """Whether this names a server's collection, rather than an engine by its name."""
    return "://" in engine


def parse_address(url: str) -> QdrantAddress:
    """Read a URL. Raises UsageError for what is no address, naming the part at fault."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL ({error}): {_EXAMPLE} is one") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"an engine's URL is stored with the index: put the key into {API_KEY}, not into the URL")
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        raise UsageError(f"{url!r} is no engine: local is one, and a Qdrant server's {_EXAMPLE}")
    if not _HOST.fullmatch(host):
        raise UsageError(f"{url!r} names a host in characters that no host has: write its name as xn--… if need be")
    check_path(url, parts.path)
    prefix, _, name = parts.path.rstrip("/").rpartition("/")
    name = unquote(name)
    if not name or name in (".", "..") or set(name) & _FORBIDDEN:
        raise UsageError(f"{url!r} names no collection that a server could have: {_EXAMPLE} does")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for option in options:
        if option not in ("shards", "replicas", "quantisation"):
            raise UsageError(f"{option!r} of the engine's URL is no option: shards, replicas and quantisation are")
    quantisation = options.get("quantisation", "turbo")
    if quantisation not in QUANTISATIONS:
        raise UsageError(f"quantisation is {quantisation!r}: choose one of {', '.join(QUANTISATIONS)}")
    host = f"[{host}]" if ":" in host else host
    return QdrantAddress(
        server=f"{parts.scheme}://{host}:{port}{prefix.rstrip('/')}",
        name=name,
        shards=_number(options, "shards", 0),
        replicas=_number(options, "replicas", 1),
        quantisation=quantisation,
    )


def check_path(url: str, path: str) -> None:
    """Refuse a path that a server, or a proxy before it, could take for another than it reads.

    Raises:
        UsageError: a part of it is ``.`` or ``..``, or hides a slash, in whatever spelling.
    """
    for part in path.split("/"):
        read = part
        while (decoded := unquote(read)) != read:  # a proxy may decode what another has decoded already
            read = decoded
        if read.partition(";")[0] in (".", "..") or set(read) & set("/\\"):
            raise UsageError(
                f"{url!r} has {part!r} in its path, which may lead elsewhere: write the path that is meant"
            )


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < default:
        raise UsageError(f"{name} of the engine's URL is {text!r}: a number from {max(default, 1)} on is needed")
    return int(text)
