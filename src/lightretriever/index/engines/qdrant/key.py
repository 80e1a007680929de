"""Which server is sent a key: one that whoever runs this process named, in the call or in the environment.

An index's settings name a server too, and an index may come from anywhere: that alone brings no server the key.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.engines.qdrant.url import API_KEY, PORT, QdrantAddress, check_path

SERVERS = "LIGHTRETRIEVER_QDRANT_URL"
"""URLs of servers, or of collections there, that may have the key; white space between them."""
PLAIN_HTTP = "LIGHTRETRIEVER_QDRANT_PLAIN_HTTP"
"""Set to 1, keys go over plain http to other machines too."""
NAME_IT = f"a key is sent only to servers that {SERVERS} names"


def key_for(address: QdrantAddress, named: bool) -> str | None:
    """The key to send to a server; None for a server that nobody named, or where there is no key.

    Args:
        address: where.
        named: whether the caller of this process gave the address.

    Raises:
        ArtifactError: it cannot be sent.
        UsageError: it would go over plain http to another machine, or the environment names servers in words that are
            no URL.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not key or not (named or _is_named(address)):
        return None
    if not (key.isascii() and key.isprintable()):
        raise ArtifactError(f"the key in {API_KEY} has characters that no key has: set it anew")
    plain = urlsplit(address.server).scheme == "http"
    if plain and local_host(address) is None and os.environ.get(PLAIN_HTTP) != "1":
        raise UsageError(
            f"{address.server} would be sent the key in {API_KEY} in the clear: use https, or set {PLAIN_HTTP}=1 where "
            "nobody can listen"
        )
    return key


def _is_named(address: QdrantAddress) -> bool:
    wanted = urlsplit(address.url)
    for url in os.environ.get(SERVERS, "").split():
        try:
            named = urlsplit(url)
            place = (named.scheme, named.hostname, named.port or PORT)
        except ValueError:
            place = None
        if place is None or place[0] not in ("http", "https") or not place[1]:
            raise UsageError(f"{SERVERS} holds {url[:80]!r}: a URL as https://host:6333 is needed")
        check_path(url[:80], named.path)
        path = named.path.rstrip("/")
        inside = wanted.path == path or wanted.path.startswith(f"{path}/")
        if place == (wanted.scheme, wanted.hostname, wanted.port) and inside:
            return True
    return False


def local_host(address: QdrantAddress) -> str | None:
    """The host, as URLs have it, where by its name alone it is this machine; None for any other.

    Nothing that is sent there may take the way through a proxy that the environment names: it would leave the machine.
    """
    host = urlsplit(address.server).hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here:
        return None
    return f"[{host}]" if ":" in host else host
