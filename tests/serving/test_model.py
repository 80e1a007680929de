"""With `--model`: the document tower in a process of its own, for documents and for queries read in full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import DOCUMENTS, folder, tower
from serving.running import Running, running, until

from lightretriever import Index
from lightretriever.cli.main import execute

pytestmark = pytest.mark.slow  # it loads torch
__all__ = ["folder", "tower"]
QUERY = "how tall is everest"


@dataclass(frozen=True)
class Modelled:
    """A server with a model, the model's folder, and the index's."""

    server: Running
    tower: Path
    index: Path


@pytest.fixture(scope="module")
def modelled(tower: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modelled]:
    root = tmp_path_factory.mktemp("modelled")
    assert execute(["cache", str(tower), "-o", str(root / "table"), "--prompt", "find: "]) == 0
    made = ["index", str(folder), "--model", str(tower), "--table", str(root / "table"), "-o", str(root / "i")]
    assert execute([*made, "--sparse", "bm25"]) == 0
    with running(root / "i", "--model", tower, "--workers", "2", "--limit", "seconds=300") as server:
        yield Modelled(server, tower, root / "i")


def test_queries_are_read_in_full_where_that_is_asked_for(modelled: Modelled) -> None:
    from lightretriever import DocumentEncoder

    full = DocumentEncoder.load(modelled.tower)
    ask = {"query": QUERY, "query_encoder": "full", "k": 4}
    found = modelled.server.post("/search", ask)
    assert found.status == 200, found.body
    with Index.open(modelled.index) as index:
        own = index.search(QUERY, 4, encoder=full)
        look_up = index.search(QUERY, 4)
    assert [hit["id"] for hit in found.json["hits"]] == [hit.id for hit in own]
    scores = [hit["dense_score"] for hit in found.json["hits"]]
    np.testing.assert_allclose(scores, [hit.dense_score for hit in own], atol=1e-3)
    looked = [hit["dense_score"] for hit in modelled.server.post("/search", {"query": QUERY, "k": 4}).json["hits"]]
    np.testing.assert_allclose(looked, [hit.dense_score for hit in look_up], atol=1e-6)
    assert not np.allclose(sorted(scores), sorted(looked), atol=1e-3)


def test_documents_are_encoded_for_every_face(modelled: Modelled) -> None:
    from lightretriever import DocumentEncoder

    texts = [document["text"] for document in DOCUMENTS]
    rows = DocumentEncoder.load(modelled.tower).encode(texts).dense
    post = modelled.server.post
    by_openai = post("/v1/embeddings", {"input": texts, "input_type": "document"}).json["data"]
    np.testing.assert_allclose([each["embedding"] for each in by_openai], rows, atol=1e-3)
    by_tei = post("/embed", {"inputs": texts, "prompt_name": "document"}).json
    np.testing.assert_allclose(by_tei, rows, atol=1e-3)
    by_cohere = post("/v2/embed", {"texts": texts, "input_type": "search_document"}).json
    np.testing.assert_allclose(by_cohere["embeddings"]["float"], rows, atol=1e-3)
    passage = {"text": texts[0], "config": {"task_type": "passage"}}
    np.testing.assert_allclose(post("/vectors", passage).json["vector"], rows[0], atol=1e-3)
    read = post("/v1/embeddings", {"input": QUERY, "input_type": "full"}).json["data"][0]["embedding"]
    assert not np.allclose(read, post("/v1/embeddings", {"input": QUERY}).json["data"][0]["embedding"], atol=1e-3)


def test_documents_without_vectors_are_encoded_and_stored(modelled: Modelled) -> None:
    lines = [
        {"id": f"n{i}", "title": "New", "text": f"the mountain number {i}", "metadata": {"n": i}} for i in range(600)
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    sent = modelled.server.ask("PUT", "/documents", body, headers={"content-type": "application/x-ndjson"})
    assert sent.json == {"stored": 600, "replaced": 0, "unchanged": 0}, sent.body
    again = modelled.server.post("/documents", {"documents": [lines[0], lines[1] | {"text": "another"}]})
    assert again.json == {"stored": 1, "replaced": 1, "unchanged": 1}
    assert modelled.server.get("/documents/n1").json["text"] == "another"
    found = modelled.server.post("/search", {"query": "mountain number 7", "mode": "sparse", "k": 3}).json["hits"]
    assert found[0]["id"] == "n7"


def test_one_model_serves_all_workers_and_ends_with_the_server(modelled: Modelled) -> None:
    for _ in range(10):  # whichever worker is asked
        assert modelled.server.post("/search", {"query": QUERY, "query_encoder": "full"}).status == 200
    loaded = [line for line in modelled.server.log if line["event"] == "the document model is there"]
    assert len(loaded) == 1


def test_the_models_process_is_begun_again_and_ends_with_its_server(tower: Path, modelled: Modelled) -> None:
    import os
    import signal

    def models(server: Running) -> list[int]:
        return [line["process"] for line in server.log if line["event"] == "the document model is there"]

    with running(modelled.index, "--model", tower, "--limit", "seconds=300") as server:
        ask = {"query": QUERY, "query_encoder": "full"}
        assert server.post("/search", ask).status == 200
        os.kill(models(server)[0], signal.SIGKILL)
        assert server.post("/search", ask).status == 200
        assert len(models(server)) == 2
        alive = models(server)[1]
        server.process.kill()
        server.process.wait()
        until(lambda: _is_dead(alive), "it ends too")
    with running(modelled.index, "--model", tower, "--limit", "seconds=300") as server:
        assert server.post("/search", ask).status == 200
        (alive,) = models(server)
    until(lambda: _is_dead(alive), "it ends where the server ends as it should")


def test_a_model_that_is_another_or_none_is_named(modelled: Modelled, tower: Path) -> None:
    with running(modelled.index, "--model", tower / "nowhere", "--limit", "seconds=300") as server:
        answer = server.post("/search", {"query": QUERY, "query_encoder": "full"})
        assert answer.status == 500
        assert any("nowhere" in str(line.get("error")) for line in server.log)
        assert server.post("/search", {"query": QUERY}).status == 200


def _is_dead(process: int) -> bool:
    file = Path(f"/proc/{process}/stat")
    return not file.exists() or file.read_text().rpartition(")")[2].split()[0] == "Z"
