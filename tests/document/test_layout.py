"""What a folder is: each layout against sentence-transformers itself, or refused in words."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import adapter_folder, causal_folder, masked_folder, sentence_files, sentence_folder
from safetensors.torch import load_file, save_file

from lightretriever import DocumentEncoder
from lightretriever.errors import ModelError, UsageError

QUESTIONS = ["who lives in the harbour", "a", "Otters eat FISH, and crabs?", "the tide the tide"]
PARAGRAPHS = ["An otter sleeps on its back.", "ÉCOLE des loutres 8,849", "word " * 40, "x"]
PROMPTS = {"query": "find: ", "document": "text: "}
CHAIN = ("Transformer", "Pooling", "Normalize")
POOLED = ("mean", "cls", "lasttoken")


def _pooling(mode: str) -> dict[str, object]:
    return {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True}


def _change(file: Path, **values: object) -> None:
    told = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**told, **values}))


def _check_same(folder: Path, reference: Path) -> DocumentEncoder:
    """Documents and queries as sentence-transformers encodes them with the reference."""
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(reference), device="cpu", local_files_only=True)
    ours = DocumentEncoder.load(folder, device="cpu", sparse="none")
    pairs = (
        (theirs.encode_document(PARAGRAPHS), ours.encode(PARAGRAPHS).dense),
        (theirs.encode_query(QUESTIONS), ours.encode_queries(QUESTIONS)),
    )
    for wanted, found in pairs:
        assert wanted.shape == found.shape
        assert (_unit(wanted) * _unit(found)).sum(1).min() > 0.99999
    return ours


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_whole_models_of_sentence_transformers(kind: str, pooling: str, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, kind, head=False) if kind == "bert" else causal_folder(tmp_path, kind)
    sentence_files(folder, _pooling(pooling), CHAIN, PROMPTS)
    assert _check_same(folder, folder).backbone.pooling == pooling


def test_what_sentence_transformers_saves_by_its_newest_names(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    masked_folder(tmp_path / "plain", "bert", head=False)
    library.SentenceTransformer(str(tmp_path / "plain"), device="cpu", local_files_only=True).save_pretrained(
        str(tmp_path / "saved")
    )
    assert "base.modules" in (tmp_path / "saved/modules.json").read_text()
    _check_same(tmp_path / "saved", tmp_path / "saved")


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config_sentence_transformers.json", {"truncate_dim": 12}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        ("sentence_bert_config.json", {"max_seq_length": 9}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"max_seq_length": None}),
    ],
)
def test_settings_are_obeyed_as_there(file: str, values: dict, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"), CHAIN, PROMPTS)
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**state, "normalizer": None}))  # so that case is seen
    _change(tmp_path / "tokenizer_config.json", model_max_length=17)
    _change(tmp_path / file, **values)
    tower = _check_same(tmp_path, tmp_path)
    assert tower.dim == values.get("truncate_dim", 32)
    assert np.allclose(np.linalg.norm(tower.encode(PARAGRAPHS).dense, axis=1), 1, atol=1e-6)
    assert tower.max_length == (values["max_seq_length"] or 17 if "max_seq_length" in values else 24)


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
@pytest.mark.parametrize(
    ("kind", "pooling"), [("bert", "mean"), ("bert", "cls"), ("llama", "mean"), ("llama", "lasttoken")]
)
def test_adapters_saved_by_sentence_transformers(kind: str, pooling: str, inner: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    masked_folder(base, kind, head=False) if kind == "bert" else causal_folder(base, kind)
    merged, folder = tmp_path / "merged", tmp_path / "adapter"
    adapter_folder(folder, base, merged, task_type="FEATURE_EXTRACTION")
    chain = CHAIN if pooling == "mean" else CHAIN[:2]
    for place in (folder, merged):
        sentence_files(place, _pooling(pooling), chain, PROMPTS)
    if inner:
        (folder / inner).mkdir()
        for path in [path for path in folder.iterdir() if path.is_file()]:
            if path.name not in ("modules.json", "config_sentence_transformers.json"):
                path.rename(folder / inner / path.name)
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps([{**modules[0], "path": inner}, *modules[1:]]))
    tower = _check_same(folder, merged)
    untuned = DocumentEncoder.load(base, device="cpu", sparse="none").encode(PARAGRAPHS).dense
    assert (_unit(tower.encode(PARAGRAPHS).dense) * _unit(untuned)).sum(1).max() < 0.999
    before = tower.revision
    weights = load_file(folder / inner / "adapter_model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, folder / inner / "adapter_model.safetensors")
    assert DocumentEncoder.load(folder, device="cpu", sparse="none").revision != before


def test_a_bare_adapter_of_an_encoder_pools_as_its_base_would(tmp_path: Path) -> None:
    base = masked_folder(tmp_path / "base", "bert", head=False)
    _check_same(adapter_folder(tmp_path / "adapter", base, tmp_path / "merged"), tmp_path / "merged")


@pytest.mark.parametrize("pooling", POOLED)
def test_a_bare_adapter_of_a_sentence_transformers_model_is_read_as_that(pooling: str, tmp_path: Path) -> None:
    base = sentence_folder(tmp_path / "base", _pooling(pooling), CHAIN, PROMPTS)
    _change(base / "config_sentence_transformers.json", truncate_dim=20)
    adapter, merged = adapter_folder(tmp_path / "adapter", base, tmp_path / "merged"), tmp_path / "merged"
    sentence_files(merged, _pooling(pooling), CHAIN, PROMPTS)
    _change(merged / "config_sentence_transformers.json", truncate_dim=20)
    tower = _check_same(adapter, merged)
    assert (tower.dim, tower.max_length, tower.default_prompt) == (20, 24, "find: ")
    before = tower.revision
    _change(base / "1_Pooling/config.json", pooling_mode="cls" if pooling == "mean" else "mean")
    assert DocumentEncoder.load(adapter, device="cpu").revision != before


def test_a_bare_adapter_of_a_causal_model_is_read_as_its_base(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "qwen2")
    adapter = adapter_folder(tmp_path / "adapter", base, tmp_path / "merged", task_type="CAUSAL_LM")
    found, wanted = (DocumentEncoder.load(place, device="cpu") for place in (adapter, tmp_path / "merged"))
    assert found.tokenize(PARAGRAPHS) == wanted.tokenize(PARAGRAPHS)
    assert np.abs(found.encode(PARAGRAPHS).dense - wanted.encode(PARAGRAPHS).dense).max() < 1e-5
    assert found.has_sparse and found.default_prompt == wanted.default_prompt


KINDS_OF_OTHERS = [
    "custom_st.Transformer",
    "transformer.Transformer",
    "sentence_transformers_extra.models.Transformer",
    "sentence_transformers.models.StaticEmbedding",
    "sentence_transformers.base.modules.router.Router",
    "sentence_transformers.sparse_encoder.modules.mlm_transformer.MLMTransformer",
]


@pytest.mark.parametrize("kind", KINDS_OF_OTHERS)
def test_modules_of_others_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"))
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([{**modules[0], "type": kind}, *modules[1:]]))
    with pytest.raises(ModelError, match=kind.rpartition(".")[2]):
        DocumentEncoder.load(tmp_path, device="cpu")


@pytest.mark.parametrize("module", ["Dense", "LayerNorm", "WeightedLayerPooling", "Asym", "CNN", "Dropout"])
def test_chains_with_more_modules_are_refused_by_name(module: str, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"))
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, {"idx": 9, "name": "9", "path": "9", "type": f"sentence_transformers.models.{module}"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=module):
        DocumentEncoder.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim"),
        ("config_sentence_transformers.json", {"truncate_dim": "all"}, "truncate_dim"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "manhattan"}, "manhattan"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "poem"}, "poem"),
        ("config_sentence_transformers.json", {"prompts": {"query": 7}}, "prompts"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": 1.5}, "max_seq_length"),
        ("sentence_bert_config.json", {"do_lower_case": "no"}, "do_lower_case"),
        ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "query_expansion"),
        ("sentence_bert_config.json", {"document_length": 3}, "document_length"),
        ("sentence_bert_config.json", {"config_args": {"is_decoder": True}}, "is_decoder"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality_config"),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "max"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "weightedmean"),
        ("1_Pooling/config.json", {"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": {"a": 1}}, "pooling"),
        ("1_Pooling/config.json", {"include_prompt": False}, "prompt"),
        ("1_Pooling/config.json", {"pooling_mode_attention_tokens": True}, "attention"),
        ("config.json", {"num_hidden_layers": 0}, "0 layers"),
        ("config.json", {"num_hidden_layers": None}, "layers|does not know"),
        ("config.json", {"num_hidden_layers": 1}, "more layers"),
        ("config.json", {"num_hidden_layers": 10**9}, "layers"),
        ("config.json", {"auto_map": {"AutoModel": "modeling_own.OwnModel"}}, "auto_map"),
        ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}, "auto_map"),
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}, "do_lower_case"),
        ("tokenizer_config.json", [], "JSON object"),
    ],
)
def test_settings_that_are_not_honoured_are_refused(file: str, values: dict, named: str, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"), ("Transformer", "Pooling"))
    if values:
        _change(tmp_path / file, **values)
    else:
        (tmp_path / file).write_text(json.dumps(values))
    with pytest.raises(ModelError, match=named) as caught:
        DocumentEncoder.load(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_lengths_that_would_count_are_refused(similarity: str, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"), ("Transformer", "Pooling"))
    _change(tmp_path / "config_sentence_transformers.json", similarity_fn_name=similarity)
    with pytest.raises(ModelError, match=similarity):
        DocumentEncoder.load(tmp_path, device="cpu")


@pytest.mark.parametrize("path", ["../elsewhere", "/elsewhere", "C:\\elsewhere", "a/../../b", "x\0y"])
def test_modules_stay_inside_their_folder(path: str, tmp_path: Path) -> None:
    sentence_folder(tmp_path, _pooling("mean"))
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([modules[0], {**modules[1], "path": path}]))
    with pytest.raises(ModelError, match="leads out of the folder"):
        DocumentEncoder.load(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["../plain", "plain", "inner/plain", "../around/plain"])
def test_a_relative_base_is_one_from_the_adapter_wherever_one_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = masked_folder(tmp_path / "made", "bert", head=False)
    adapter = adapter_folder(tmp_path / "around/adapter", base, tmp_path / "merged")
    place = tmp_path / "around" / ("adapter/inner/plain" if name.startswith("inner") else "plain")
    shutil.copytree(base, place)
    _change(adapter / "adapter_config.json", base_model_name_or_path=name)
    decoy = tmp_path / "work/here"
    for folder in {(decoy / name).resolve(), decoy / "plain"}:  # a model too, but another
        masked_folder(folder, "distilbert", head=False)
    monkeypatch.chdir(decoy)
    tower = DocumentEncoder.load(adapter, device="cpu")
    relative = DocumentEncoder.load(os.path.relpath(adapter), device="cpu")
    monkeypatch.chdir(tmp_path)
    wanted = DocumentEncoder.load(adapter, base, device="cpu")
    for found in (tower, relative):  # what is read later is read from where it was
        assert found.backbone.base is not None
        assert found.backbone.base.path == place
        assert np.array_equal(found.encode(PARAGRAPHS).dense, wanted.encode(PARAGRAPHS).dense)
    assert tower.revision == relative.revision == DocumentEncoder.load(adapter, place, device="cpu").revision


@pytest.mark.parametrize("name", ["plain", "models/plain", "./plain"])
def test_the_working_directory_is_no_place_for_a_base(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = masked_folder(tmp_path / "work" / name, "bert", head=False)
    adapter = adapter_folder(tmp_path / "saved/adapter", base, tmp_path / "merged")
    _change(adapter / "adapter_config.json", base_model_name_or_path=name)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(ModelError, match=r"neither in nor beside its folder; say where that is with --base"):
        DocumentEncoder.load(adapter, device="cpu")
    assert DocumentEncoder.load(adapter, name, device="cpu").backbone.base is not None


def test_folders_of_two_minds_are_refused(tmp_path: Path) -> None:
    base = masked_folder(tmp_path / "base", "bert", head=False)
    adapter = adapter_folder(tmp_path / "adapter", base, tmp_path / "merged")
    both = shutil.copytree(adapter, tmp_path / "both")
    shutil.copy(base / "model.safetensors", both)
    shutil.copy(base / "config.json", both)
    with pytest.raises(ModelError, match=r"whole weights .* and an adapter"):
        DocumentEncoder.load(both, device="cpu")
    (tmp_path / "merged/model_args.yaml").write_text("pooling_strategy: mean\n")
    sentence_files(tmp_path / "merged", _pooling("cls"))
    with pytest.raises(ModelError, match=r"model_args\.yaml and modules\.json"):
        DocumentEncoder.load(tmp_path / "merged", device="cpu")
    second = shutil.copytree(adapter, tmp_path / "second")
    _change(second / "adapter_config.json", base_model_name_or_path=str(adapter))
    _change(adapter / "config.json", **json.loads((base / "config.json").read_text()))
    with pytest.raises(ModelError, match="is an adapter itself"):
        DocumentEncoder.load(second, device="cpu")
    with pytest.raises(UsageError, match="takes no base"):
        DocumentEncoder.load(base, base, device="cpu")


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("onnx/model.onnx", "ONNX"),
        ("model_quantized.onnx", "ONNX"),
        ("openvino/openvino_model.xml", "OpenVINO"),
        ("openvino_model.xml", "OpenVINO"),
        ("model-q4_0.gguf", "GGUF"),
        ("pytorch_model.bin", "pickle"),
        ("pytorch_model-00001-of-00002.bin", "pickle"),
        ("tf_model.h5", "another framework"),
    ],
)
@pytest.mark.parametrize("with_config", [True, False])
def test_other_forms_of_weights_are_named(file: str, named: str, with_config: bool, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path / "model", "bert", head=False)
    (folder / "model.safetensors").unlink()
    if not with_config:
        (folder / "config.json").unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(ModelError, match=rf"only .*{named}.*({Path(file).name}).*: (save|fetch)"):
        DocumentEncoder.load(folder, device="cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_git_lfs_pointers_are_named(file: str, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, "bert", head=False)
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4e1f\nsize 90868376\n")
    with pytest.raises(ModelError, match=rf"{file} is a Git LFS pointer.*git lfs pull"):
        DocumentEncoder.load(folder, device="cpu")


@pytest.mark.parametrize("shard", ["model-00002-of-00002.safetensors", "../model.safetensors", 7])
def test_shards_that_are_not_there_are_named(shard: object, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path / "model", "bert", head=False)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="which is not there: fetch all of it"):
        DocumentEncoder.load(folder, device="cpu")


def test_biases_of_an_adapter_are_refused_by_that_name(tmp_path: Path) -> None:
    base = masked_folder(tmp_path / "base", "bert", head=False)
    file = adapter_folder(tmp_path / "adapter", base) / "adapter_model.safetensors"
    weights = load_file(file)
    first = next(name for name in weights if name.endswith(".lora_B.weight"))
    bias = torch.ones(len(weights[first]))
    save_file({**weights, first.replace(".lora_B.weight", ".base_layer.bias"): bias}, file)
    with pytest.raises(ModelError, match="biases in adapters are not supported: merge it with peft"):
        DocumentEncoder.load(file.parent, device="cpu")
