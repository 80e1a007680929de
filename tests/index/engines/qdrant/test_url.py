"""Where an index is on a server: addresses are read and spelled one way, and what is none is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import UsageError
from lightretriever.index.engines.qdrant.url import QdrantAddress, parse_address


def test_an_address_is_read_and_spelled_one_way() -> None:
    address = parse_address("https://Example.org:443/proxied/qdrant/my%20docs/?replicas=2&shards=6&quantisation=scalar")
    assert address == QdrantAddress("https://example.org:443/proxied/qdrant", "my docs", 6, 2, "scalar")
    assert str(address) == ("https://example.org:443/proxied/qdrant/my%20docs?quantisation=scalar&replicas=2&shards=6")
    assert str(parse_address("http://host/everest?replicas=1&shards=0")) == "http://host:6333/everest"
    assert parse_address("http://[::1]:7000/x").server == "http://[::1]:7000"


@given(
    st.sampled_from(["http", "https"]),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='<>:"/\\|?*'), min_size=1, max_size=9),
    st.integers(0, 99),
    st.integers(1, 9),
)
def test_a_spelled_address_is_the_same_address(scheme: str, name: str, shards: int, replicas: int) -> None:
    if "%" in name or name.partition(";")[0] in (".", ".."):  # refused, where it may lead elsewhere
        return
    address = QdrantAddress(f"{scheme}://host:6333/a", name, shards, replicas)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("locals", "no engine: local is one"),
        ("ftp://host/name", "no engine"),
        ("http:///name", "no engine"),
        ("http://host:6333", "names no collection"),
        ("http://host:6333/..", "has '..' in its path, which may lead elsewhere"),
        ("http://host:6333/a%3Ab", "names no collection"),
        ("http://host:port/name", "no URL"),
        ("http://me:secret@host/name", "LIGHTRETRIEVER_QDRANT_API_KEY, not into the URL"),
        ("http://good.org\\@evil.org/name", "names a host in characters|key into"),
        ("http://exa mple/name", "names a host in characters"),
        ("http://host/name?api_key=secret", "'api_key' of the engine's URL is no option"),
        ("http://host/name?shards=many", "shards .* is 'many': a number from 1 on"),
        ("http://host/name?replicas=0", "replicas .* is '0'"),
        ("http://host/name?quantisation=ternary", "choose one of turbo, scalar, binary, none"),
    ],
)
def test_what_is_no_address_is_said(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        parse_address(url)
    assert "secret" not in str(error.value)
