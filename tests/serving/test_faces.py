"""Embeddings in the shapes that clients know, asked by their own clients and as frameworks ask."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index.conftest import WORDS, make_encoder
from serving.running import Running, running

TEXTS = [f"{WORDS[1]} {WORDS[2]}", WORDS[7], "", f"{WORDS[3]} {WORDS[3]} {WORDS[9]}"]
DENSE = make_encoder().encode_dense(TEXTS)


def cut(rows: np.ndarray, dim: int) -> np.ndarray:
    norms = np.linalg.norm(rows[:, :dim], axis=1, keepdims=True)
    return rows[:, :dim] / np.where(norms > 0, norms, 1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two tables alone, no index."""
    folder = tmp_path_factory.mktemp("tables")
    make_encoder().table.save(folder / "first")
    make_encoder(seed=1, model="owner/other", dim=8).table.save(folder / "second")
    with running(folder / "first", "--table", f"small={folder / 'second'}") as found:
        yield found


def test_openais_own_client(server: Running) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    (model,) = client.models.list().data
    assert model.id == "made" and client.models.retrieve("made").id == "made"
    for form in ("float", "base64"):
        answer = client.embeddings.create(model=model.id, input=TEXTS, encoding_format=form)
        rows = [
            each.embedding if form == "float" else np.frombuffer(base64.b64decode(each.embedding), "<f4")
            for each in answer.data
        ]
        np.testing.assert_allclose(rows, DENSE, atol=1e-6)
        assert [each.index for each in answer.data] == [0, 1, 2, 3]
        assert answer.usage.prompt_tokens == 6 and answer.model == "made"
    (one,) = client.embeddings.create(model="made", input=TEXTS[0]).data  # by base64, of which the client makes numbers
    np.testing.assert_allclose(one.embedding, DENSE[0], atol=1e-6)
    short = client.embeddings.create(model="made", input=TEXTS, dimensions=5).data
    np.testing.assert_allclose([each.embedding for each in short], cut(DENSE, 5), atol=1e-6)
    query = client.embeddings.create(model="made", input=TEXTS, extra_body={"input_type": "query"}).data
    np.testing.assert_allclose([each.embedding for each in query], DENSE, atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="start the server with --model"):
        client.embeddings.create(model="made", input=TEXTS, extra_body={"input_type": "document"})
    with pytest.raises(openai.NotFoundError, match="there is no model 'text-embedding-3-small'"):
        client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    with pytest.raises(openai.BadRequestError, match="dimensions is 99"):
        client.embeddings.create(model="made", input=TEXTS, dimensions=99)


def test_token_ids_are_taken_of_the_models_own_tokenizer_only(server: Running) -> None:
    ids = [make_encoder().table.tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    for given, rows in ((ids, DENSE), (ids[0], DENSE[:1])):
        answer = server.post("/v1/embeddings", {"model": "made", "input": given})
        assert answer.status == 200, answer.body
        np.testing.assert_allclose([each["embedding"] for each in answer.json["data"]], rows, atol=1e-6)
    # As LangChain's OpenAIEmbeddings sends a text, by tiktoken: of cl100k_base these are "how tall is everest".
    for foreign in ([[5269, 16615, 374, 3596, 478]], [5269, 16615], [[3, 4], [99]]):
        answer = server.post("/v1/embeddings", {"model": "made", "input": foreign, "encoding_format": "base64"})
        assert answer.status == 400 and "check_embedding_ctx_length=False" in answer.json["error"]["message"]
    for wrong in ([[3], "w01"], [-1], [[1.5]], 7, {"a": 1}, [], None):
        assert server.post("/v1/embeddings", {"model": "made", "input": wrong}).status == 400


def test_as_langchain_llamaindex_and_haystack_ask(server: Running) -> None:
    langchain = {"input": TEXTS[:2], "model": "made", "encoding_format": "base64"}
    llama_index = {"input": TEXTS[:2], "model": "made", "user": "me", "dimensions": 16}
    haystack = {"input": TEXTS[:2], "model": "made", "timeout": 3, "encoding_format": "float"}
    for body in (langchain, llama_index, haystack):
        answer = server.post("/v1/embeddings", body, headers={"x-stainless-lang": "python"})
        assert answer.status == 200 and len(answer.json["data"]) == 2
    by_endpoint = {"inputs": TEXTS[:2], "truncate": True}  # LlamaIndex's TextEmbeddingsInference
    np.testing.assert_allclose(server.post("/embed", by_endpoint).json, DENSE[:2], atol=1e-6)


def test_hugging_faces_own_client(server: Running) -> None:
    hub = pytest.importorskip("huggingface_hub")
    for url in (server.url, f"{server.url}/embed"):
        client = hub.InferenceClient(model=url, token="none")
        for text, row in zip(TEXTS[:2], DENSE, strict=False):
            found = np.asarray(client.feature_extraction(text, normalize=True, truncate=True, prompt_name="query"))
            np.testing.assert_allclose(found.reshape(-1), row, atol=1e-6)
    with pytest.raises(hub.errors.HfHubHTTPError):
        client.feature_extraction("w01", prompt_name="document")


def test_the_face_of_text_embeddings_inference(server: Running) -> None:
    np.testing.assert_allclose(server.post("/embed", {"inputs": TEXTS}).json, DENSE, atol=1e-6)
    sparse = server.post("/embed_sparse", {"inputs": TEXTS[3]}).json
    assert sparse == [[{"index": 5, "value": 2.0}, {"index": 11, "value": 1.0}]]
    said = server.get("/info").json
    assert (said["model_id"], said["model_sha"], said["max_client_batch_size"]) == ("tiny", "r1", 2048)
    assert server.get("/health").status == 200
    for body, status, kind in [
        ({"inputs": ["a"] * 3000}, 422, "Validation"),
        ({"inputs": "a", "normalize": False}, 422, "Validation"),
        ({"inputs": "a", "prompt_name": "document"}, 422, "Validation"),
        ({"inputs": []}, 422, "Validation"),
        ({}, 422, "Validation"),
    ]:
        answer = server.post("/embed", body)
        assert (answer.status, answer.json["error_type"]) == (status, kind)
        assert answer.json["error"]


def test_coheres_own_client(server: Running) -> None:
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key="none", base_url=server.url)
    asked = {"model": "made", "input_type": "search_query", "texts": TEXTS}
    found = client.embed(embedding_types=["float"], **asked)
    np.testing.assert_allclose(found.embeddings.float_, DENSE, atol=1e-6)
    assert found.texts == TEXTS and found.meta.api_version.version == "2"
    short = client.embed(embedding_types=["float"], output_dimension=4, **asked)
    np.testing.assert_allclose(short.embeddings.float_, cut(DENSE, 4), atol=1e-6)
    packed = server.post("/v2/embed", {**asked, "embedding_types": ["base64", "float"]}).json["embeddings"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(packed["base64"][0]), "<f4"), DENSE[0], atol=1e-6)
    parts = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    by_parts = server.post("/v2/embed", {"input_type": "search_query", "inputs": parts}).json
    np.testing.assert_allclose(by_parts["embeddings"]["float"], DENSE, atol=1e-6)
    with pytest.raises(cohere.BadRequestError, match="--model"):
        client.embed(model="made", input_type="search_document", texts=TEXTS, embedding_types=["float"])
    for wrong in ({}, {"input_type": "search_query"}, {"input_type": "image", "texts": TEXTS}):
        answer = server.post("/v2/embed", wrong)
        assert answer.status == 400 and answer.json["message"]


def test_weaviates_module(server: Running) -> None:
    for path in ("/vectors", "/vectors/"):
        body = {"text": TEXTS[0], "dims": 0, "vector": None, "error": "", "config": {"pooling_strategy": "masked_mean"}}
        found = server.post(path, body).json
        assert (found["text"], found["dim"]) == (TEXTS[0], 16)
        np.testing.assert_allclose(found["vector"], DENSE[0], atol=1e-6)
    query = {"text": TEXTS[0], "config": {"pooling_strategy": "masked_mean", "task_type": "query", "dimensions": 6}}
    np.testing.assert_allclose(server.post("/vectors", query).json["vector"], cut(DENSE, 6)[0], atol=1e-6)
    passage = server.post("/vectors", {"text": "a", "config": {"task_type": "passage"}})
    assert passage.status == 409 and "--model" in passage.json["error"]
    assert [server.get(f"/.well-known/{name}").status for name in ("live", "ready")] == [204, 204]
    assert server.get("/meta").json["model"]["dim"] == 16


def test_tables_are_asked_for_by_name(tables: Running) -> None:
    listed = tables.get("/v1/models").json["data"]
    assert [(each["id"], each["dimensions"]) for each in listed] == [("first", 16), ("small", 8)]
    for name, dim in (("first", 16), ("small", 8), ("owner/other", 8), ("other", 8), ("tiny", 16)):
        found = tables.post("/v1/embeddings", {"input": "w01", "model": name}).json
        assert len(found["data"][0]["embedding"]) == dim
    assert len(tables.post("/v1/embeddings", {"input": "w01"}).json["data"][0]["embedding"]) == 16
    assert tables.get("/v1/models/owner/other").json["id"] == "small"
    assert tables.get("/v1/models/none").json["error"]["code"] == "model_not_found"
    answer = tables.post("/search", {"query": "w01"})
    assert answer.status == 404 and "start the server with an index" in answer.json["error"]["message"]
    assert tables.get("/readyz").json == {"status": "ready", "models": ["first", "small"], "documents": None}


def test_many_texts_at_once_are_encoded_as_one_by_one(tables: Running) -> None:
    texts = [f"{WORDS[i % 38]} {WORDS[i % 11]}" for i in range(500)]
    found = tables.post("/v1/embeddings", {"input": texts}).json["data"]
    np.testing.assert_allclose([each["embedding"] for each in found], make_encoder().encode_dense(texts), atol=1e-5)


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    from lightretriever.errors import UsageError
    from lightretriever.serving.served import open_all
    from lightretriever.serving.settings import ServeOptions

    make_encoder().table.save(tmp_path / "one")
    for tables in ((("one", tmp_path / "one"),), (("a", tmp_path / "one"), ("a", tmp_path / "one"))):
        with pytest.raises(UsageError, match="name"):
            open_all(ServeOptions(tmp_path / "one", tables=tables))
