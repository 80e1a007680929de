"""`/search` and `/documents` of a running server: the same answers as the index gives, and every refusal."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from index.conftest import WORDS, RandomTower, fill, make_documents
from serving.running import Running, running

from lightretriever import Index
from lightretriever.fusion import Fusion
from lightretriever.index.earned import earned_words

QUERY = f"{WORDS[1]} {WORDS[5]} {WORDS[9]}"


def test_a_search_over_http_is_the_indexs_own(server: Running, made_index: Path) -> None:
    with Index.open(made_index) as index:
        expected = index.search(QUERY, 7, filter={"even": True})
        answer = server.post("/search", {"query": QUERY, "k": 7, "filter": {"even": True}, "snippets": True})
        assert answer.status == 200 and answer.headers["content-type"] == "application/json"
        found = answer.json["hits"]
        assert [hit["id"] for hit in found] == [hit.id for hit in expected]
        for hit, own in zip(found, expected, strict=True):
            for name in ("score", "dense_score", "sparse_score", "dense_rank", "sparse_rank", "title", "text"):
                assert hit[name] == getattr(own, name)
            assert hit["metadata"] == own.metadata and hit["snippet"] == own.snippet
            assert [tuple(span) for span in hit["spans"]] == list(own.spans)
        assert answer.json["took_ms"] > 0


def test_every_option_of_a_search_reaches_the_index(server: Running, made_index: Path) -> None:
    with Index.open(made_index) as index:
        for mode in ("dense", "sparse", "hybrid"):
            found = server.post("/search", {"query": QUERY, "mode": mode, "k": 5}).json["hits"]
            assert [hit["id"] for hit in found] == [hit.id for hit in index.search(QUERY, 5, mode)]
        weights = {"dense": 0.1, "sparse": 0.9}
        found = server.post("/search", {"query": QUERY, "fusion": weights}).json["hits"]
        assert [hit["id"] for hit in found] == [hit.id for hit in index.search(QUERY, fusion=Fusion(**weights))]
        found = server.post("/search", {"query": QUERY, "min_dense": 0.2}).json["hits"]
        assert found and all(hit["dense_score"] >= 0.2 for hit in found)
        bare = server.post("/search", {"query": QUERY, "texts": False}).json["hits"][0]
        assert not {"text", "title", "metadata", "snippet"} & bare.keys()
        many = server.post("/search", {"queries": [QUERY, WORDS[2], ""], "k": 3}).json["results"]
        own = index.search_many([QUERY, WORDS[2], ""], 3)
        assert [[hit["id"] for hit in hits] for hits in many] == [[hit.id for hit in hits] for hits in own]
        hits = index.search(QUERY)
        explained = server.post("/search", {"query": QUERY, "explain": True}).json["hits"]
        for hit, earned in zip(explained, earned_words(index, QUERY, hits), strict=True):
            assert [(word["word"], word["score"]) for word in hit["words"]] == earned


def test_large_requests_are_answered_too(server: Running, made_index: Path) -> None:
    queries = [f"{word} {other}" for word in WORDS for other in WORDS[:5]]
    found = server.post("/search", {"queries": queries, "k": 150}).json["results"]
    with Index.open(made_index) as index:
        own = index.search_many(queries, 150)
    assert [[hit["id"] for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in own]


def test_a_query_in_the_url(server: Running) -> None:
    conditions = quote(json.dumps({"group": {"$in": [1, 2]}}))
    found = server.get(f"/search?q={quote(QUERY)}&k=4&filter={conditions}&snippets=true&mode=sparse").json["hits"]
    asked = {"query": QUERY, "k": 4, "filter": {"group": {"$in": [1, 2]}}, "snippets": True, "mode": "sparse"}
    assert found and found == server.post("/search", asked).json["hits"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "give query, or queries"),
        ({"query": "a", "queries": ["b"]}, 422, "not both"),
        ({"queries": []}, 422, "at least one"),
        ({"query": 3}, 422, "Expected `str`"),
        ({"query": "a", "k": 0}, 422, "k"),
        ({"query": "a", "k": 100000}, 422, "at most 1,000"),
        ({"query": "a", "k": 1.5}, 422, "`int`"),
        ({"query": "a", "mode": "fast"}, 422, "fast"),
        ({"query": "a", "unknown": 1}, 422, "unknown"),
        ({"query": "a", "filter": {"x": {"$gtt": 1}}}, 422, "$gtt"),
        ({"query": "a", "filter": []}, 422, "object"),
        ({"query": "a", "fusion": {"dense": 0, "sparse": 0}}, 422, "one must be positive"),
        ({"query": "a", "tenant": "x"}, 422, "no tenants apart"),
        ({"query": "a" * 9000}, 422, "9,000 characters"),
        ({"queries": ["a"] * 3000}, 422, "3,000 texts"),
        ({"query": "a", "query_encoder": "full"}, 409, "--model"),
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"query": NaN}', 400, "not JSON"),
        (b'{"query": "a", "min_dense": 1e999}', 422, "out of range"),
        (b'{"query": "\xff"}', 400, "not JSON"),
        (b'{"query": "\\ud800"}', 400, "not JSON"),
        (b'{"query": "a", "query": "b"}', 400, "'query' twice"),
        (b'{"query": "a", "filter": {"x": 1, "x": 2}}', 400, "'x' twice"),
        (b'{"query": "a", "filter": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}", 400, "64 levels"),
        (b'{"query": "a", "filter": {"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}", 400, "nested"),
    ],
)
def test_what_is_wrong_is_refused_and_named(server: Running, body: object, status: int, said: str) -> None:
    answer = server.post("/search", body, headers={"content-type": "application/json"})
    assert answer.status == status, answer.body
    assert said in answer.json["error"]["message"]


def test_urls_are_read_strictly(server: Running) -> None:
    for path, status in [
        ("/search", 422),
        ("/search?q=a&q=b", 400),
        ("/search?q=%ff", 400),
        ("/search?q=a&k=many", 422),
        ("/search?q=a&unknown=1", 422),
        ("/search?q=a&filter=nonsense", 422),
        ("/search?q=" + "a" * 20_000, 422),
        ("/nothing", 404),
        ("/search/", 404),
        ("/../../etc/passwd", 404),
        ("/documents/%00", 400),
    ]:
        answer = server.get(path)
        assert answer.status == status, (path, answer.body)
        assert answer.json["error"]["message"]
    refused = server.ask("PATCH", "/search", {})
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert server.post("/search", b'{"query": "a"}', headers={"content-type": "text/plain"}).status == 415


def test_documents_are_read_by_id(server: Running) -> None:
    document = make_documents(300)[7]
    found = server.get("/documents/d7").json
    assert found == {
        "id": "d7",
        "title": document.title,
        "text": document.text,
        "metadata": json.loads(json.dumps(dict(document.metadata))),
    }
    assert server.get("/documents/nobody").status == 404


def test_documents_come_with_vectors_or_with_a_model(tmp_path: Path) -> None:
    index, _, _ = fill(tmp_path / "i", 5)
    index.close()
    new = make_documents(12)[5:]
    encoded = RandomTower().encode(new)
    assert encoded.sparse is not None
    lines = []
    for row, document in enumerate(new):
        ids, values = encoded.sparse.row(row)
        dense = encoded.dense[row]
        lines.append(
            {
                "id": document.id,
                "title": document.title,
                "text": document.text,
                "metadata": {"n": row},
                "vector": base64.b64encode(dense.astype("<f4").tobytes()).decode() if row % 2 else dense.tolist(),
                "sparse": {"indices": ids.tolist(), "values": values.tolist()},
            }
        )
    ndjson = {"content-type": "application/x-ndjson"}
    with running(tmp_path / "i") as server:
        body = "\n\n".join(map(json.dumps, lines)).encode()
        stored = server.ask("PUT", "/documents", body, headers=ndjson)
        assert stored.json == {"stored": 7, "replaced": 0, "unchanged": 0}
        again = server.post("/documents", {"documents": lines[:2]})
        assert again.json == {"stored": 2, "replaced": 2, "unchanged": 0}
        assert server.get("/documents/d6").json["metadata"] == {"n": 1}
        best = server.post("/search", {"query": new[3].text, "k": 12}).json["hits"]
        assert new[3].id in {hit["id"] for hit in best}

        refused = server.post("/documents", {"documents": [{"id": "x", "text": "w01"}]})
        assert refused.status == 409 and "--model" in refused.json["error"]["message"]
        for change, said in [
            ({"vector": [1.0, 2.0]}, "2 dimensions"),
            ({"vector": "no base64!"}, "base64"),
            ({"vector": [9.0] * 16}, "unit length"),
            ({"sparse": None}, "sparse weights"),
            ({"sparse": {"indices": [1, 1], "values": [1.0, 2.0]}}, "a value for each"),
            ({"sparse": {"indices": [10**9], "values": [1.0]}}, "below 40"),
            ({"id": ""}, "id"),
            ({"id": "i" * 2000}, "id"),
        ]:
            answer = server.post("/documents", {"documents": [lines[0] | change]})
            assert answer.status == 422 and said in answer.json["error"]["message"], (change, answer.body)
        half = json.dumps(lines[0]).encode() + b'\n{"id": 3}\n'
        answer = server.ask("PUT", "/documents", half, headers=ndjson)
        assert answer.status == 422 and "line 2" in answer.json["error"]["message"]
        assert server.post("/documents", b"", headers=ndjson).status == 422
        assert server.post("/documents", b"{}", headers={"content-type": "text/csv"}).status == 415

        assert server.ask("DELETE", "/documents/d6").json == {"deleted": 1}
        assert server.ask("DELETE", "/documents/d6").status == 404
        assert server.get("/documents/d6").status == 404
        assert server.get("/readyz").json["documents"] == 11
    with Index.open(tmp_path / "i") as opened:
        assert opened.count == 11


def test_many_at_once_are_answered_each_for_itself(server: Running, made_index: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    queries = [f"{WORDS[i % 30]} {WORDS[(7 * i) % 38]}" for i in range(200)]
    with Index.open(made_index) as index:
        own = [
            [hit.id for hit in index.search(query, 3, "sparse" if i % 5 else "dense")]
            for i, query in enumerate(queries)
        ]

    def ask(i: int) -> list[str]:
        body = {"query": queries[i], "k": 3, "mode": "sparse" if i % 5 else "dense"}
        return [hit["id"] for hit in server.post("/search", body).json["hits"]]

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(200))) == own
    text = server.get("/metrics").body.decode()
    assert "lightretriever_queries_total" in text
