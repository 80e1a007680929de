"""Vectors fitted to alone take the rows of unseen tokens from the model that made them, where it is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from made_models import causal_folder, sentence_folder

from lightretriever import DocumentEncoder, TokenTable, fit_table
from lightretriever.errors import LightRetrieverError, ModelError, UsageError
from lightretriever.tables import at_hand
from lightretriever.text.corpus import Document
from lightretriever.text.prompt import DEFAULT_PROMPT
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

WORDS = "highest mountain in the world naive café metres tall".split()
UNSEEN = "everest"
TORCH_FREE = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import importlib.util, warnings
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("torch", "transformers") else found(name, *rest)
from lightretriever import fit_table
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    table = fit_table(vectors=sys.argv[1])
print(table.hash, table.fitted["prior"], *(str(w.message) for w in said), sep="\\n")
"""


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "token-rows"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return sentence_folder(tmp_path / "tiny", {"pooling_mode_mean_tokens": True}, prompts={"query": "find: "})


def encoded(tower: DocumentEncoder, path: Path) -> VectorsFolder:
    random = np.random.default_rng(0)
    documents = [Document(str(i), " ".join(random.choice(WORDS, 6))) for i in range(200)]
    encode_corpus(documents, tower, path, dtype="float32")
    return VectorsFolder.open(path)


def row_of(table: TokenTable, word: str) -> np.ndarray:
    (token,) = table.tokenizer.encode(word, add_special_tokens=False).ids
    return table[token]


def torch_free(vectors: VectorsFolder) -> list[str]:
    command = [sys.executable, "-c", TORCH_FREE, str(vectors.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_model_is_found_run_once_and_then_not_needed(model: Path, tmp_path: Path, store: Path) -> None:
    tower = DocumentEncoder.load(model, device="cpu")
    vectors = encoded(tower, tmp_path / "vectors")
    before = torch_free(vectors)
    assert before[1] == "zero"
    assert "tiny, is not at hand" in before[2] and "lightretriever[models]" in before[2]
    seen: list[tuple[int, int | None]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*few for this vocabulary")
        table = fit_table(vectors=vectors, progress=lambda done, total: seen.append((done, total)))
    assert (tower.vocab_size, tower.vocab_size) in seen
    assert np.linalg.norm(row_of(table, UNSEEN)) > 0
    assert table.fitted["prior"] == "model"
    assert (table.model, table.prompt) == ("tiny", "find: ")
    assert len(list(store.iterdir())) == 1
    shutil.rmtree(model)
    seen.clear()
    again = fit_table(vectors=vectors, progress=lambda done, total: seen.append((done, total)))
    assert (again.hash, seen) == (table.hash, [])
    assert torch_free(vectors)[:2] == [table.hash, "model"]


def test_it_is_the_table_that_naming_the_model_gives(model: Path, tmp_path: Path, store: Path) -> None:
    tower = DocumentEncoder.load(model, device="cpu")
    vectors = encoded(tower, tmp_path / "vectors")
    named = fit_table(tower, vectors=vectors)
    assert len(list(store.iterdir())) == 1
    found = fit_table(vectors=vectors)
    assert found.hash == named.hash
    assert len(list(store.iterdir())) == 1
    other = fit_table(vectors=vectors, prompt="seek: ")
    assert (other.prompt, len(list(store.iterdir()))) == ("seek: ", 2)
    assert other.hash != named.hash
    fit_table(tower, vectors=vectors, prompt="find: ")  # its own, by name
    assert len(list(store.iterdir())) == 2


def test_damaged_rows_are_said_once(model: Path, tmp_path: Path, store: Path) -> None:
    vectors = encoded(DocumentEncoder.load(model, device="cpu"), tmp_path / "vectors")
    first = fit_table(vectors=vectors)
    next(store.glob("*/rows.safetensors")).write_bytes(b"")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert fit_table(vectors=vectors).hash == first.hash
    assert len([entry for entry in said if "is damaged" in str(entry.message)]) == 1


def test_a_causal_model_brings_its_prompt(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path / "lm", "qwen2"), device="cpu", sparse="none")
    vectors = encoded(tower, tmp_path / "vectors")
    assert fit_table(vectors=vectors).prompt == DEFAULT_PROMPT
    assert fit_table(vectors=vectors, prior="zero").prompt == ""


def test_zero_is_zero_and_needs_no_model(model: Path, tmp_path: Path, store: Path) -> None:
    vectors = encoded(DocumentEncoder.load(model, device="cpu"), tmp_path / "vectors")
    table = fit_table(vectors=vectors, prior="zero")
    assert not row_of(table, UNSEEN).any()
    assert not store.exists()


@pytest.mark.parametrize("change", ["removed", "retrained", "too large"])
def test_a_model_that_is_not_at_hand_is_said(
    change: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = encoded(DocumentEncoder.load(model, device="cpu"), tmp_path / "vectors")
    if change == "removed":
        shutil.rmtree(model)
    elif change == "retrained":
        config = model / "1_Pooling" / "config.json"
        config.write_text(config.read_text().replace("mean_tokens", "cls_token"))
    else:
        monkeypatch.setattr(at_hand, "QUICK_BYTES", 100)
    reasons = {"removed": "not on this machine", "retrained": "not as it was", "too large": "take long"}
    with pytest.warns(UserWarning, match=f"tokens that no text holds get no row.*tiny.*{reasons[change]}"):
        table = fit_table(vectors=vectors)
    assert not row_of(table, UNSEEN).any()
    if change == "too large":  # by name it is run however large
        assert row_of(fit_table(vectors=vectors, prior="model"), UNSEEN).any()
    else:
        with pytest.raises(LightRetrieverError, match=reasons[change]):
            fit_table(vectors=vectors, prior="model")


def test_the_hubs_cache_is_looked_in_without_the_hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    tower = DocumentEncoder.load(model, device="cpu")
    tower.name = tower.source = "owner/tiny"
    tower.backbone.__dict__["revision"] = commit  # as a model from the hub has it
    vectors = encoded(tower, tmp_path / "vectors")
    with pytest.raises(ModelError, match="not on this machine"):
        fit_table(vectors=vectors, prior="model")
    shutil.copytree(model, tmp_path / "hub" / "models--owner--tiny" / "snapshots" / commit)
    assert row_of(fit_table(vectors=vectors), UNSEEN).any()


def test_what_no_model_can_be_asked_for_is_refused(model: Path, tmp_path: Path) -> None:
    vectors = encoded(DocumentEncoder.load(model, device="cpu"), tmp_path / "vectors")
    texts = [document.input for part in vectors.documents() for document in part]
    dense = np.concatenate([part.dense for _, part in vectors.parts()])
    with pytest.raises(UsageError, match="'model' needs the model"):
        fit_table(vectors=(texts, dense), tokenizer=vectors.tokenizer, prior="model")
    with pytest.raises(UsageError, match="'nought'"):
        fit_table(vectors=vectors, prior="nought")
