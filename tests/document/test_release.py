"""LoRA releases, against peft running the same adapters unmerged; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from huggingface_hub import constants
from made_models import TEXTS, causal_folder, masked_folder
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from lightretriever import DocumentEncoder, QueryEncoder, cache_table
from lightretriever.document.switches import Switches, read_switches
from lightretriever.errors import ModelError
from lightretriever.text.tokenizer import load_tokenizer

SWITCHES = "add_bos_num: 1\nadd_eos_num: 1\nlowercase: true\npooling_strategy: lasttoken\nnormalize: true\n"


def _release(folder: Path, base: Path, switches: str = SWITCHES, **settings: object) -> Path:
    """Save random adapters for ``base`` as the authors save theirs: causal LM keys, FEATURE_EXTRACTION."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=settings.pop("target_modules", ["q_proj", "o_proj", "down_proj"]),
        init_lora_weights=False,
        task_type="FEATURE_EXTRACTION",
        **settings,
    )
    torch.manual_seed(3)
    peft.get_peft_model(model, config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    (folder / "model_args.yaml").write_text(switches)
    return folder


def _plain(release: Path, base: Path, tower: DocumentEncoder) -> tuple[np.ndarray, np.ndarray]:
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), release).eval()
    dense, sparse = [], []
    with torch.inference_mode():
        for ids in tower.tokenize(TEXTS):
            output = model.base_model(input_ids=torch.tensor([ids]), output_hidden_states=True)
            dense.append(torch.nn.functional.normalize(output.hidden_states[-1][0, -1], dim=0))
            inner = output.logits[0, 1:-1]
            sparse.append(inner.amax(0).relu().log1p() if len(inner) else torch.zeros(tower.vocab_size))
    return torch.stack(dense).numpy(), torch.stack(sparse).numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 3, "down_proj": 16}},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]},
    ],
    ids=["plain", "rslora", "patterns", "full names"],
)
def test_merged_adapters_equal_unmerged_ones(settings: dict, tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base, **settings)
    tower = DocumentEncoder.load(release, base, device="cpu")
    dense, sparse = _plain(release, base, tower)
    encoded = tower.encode(TEXTS)
    assert np.abs(encoded.dense - dense).max() < 1e-5
    assert encoded.sparse is not None
    assert np.abs(encoded.sparse.to_dense() - sparse).max() < 1e-4
    unmerged = DocumentEncoder.load(base, device="cpu").encode(TEXTS).dense
    assert np.abs(unmerged - dense).max() > 0.01


def test_gpt2_keeps_its_weights_the_other_way_round(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "gpt2")
    release = _release(tmp_path / "release", base, target_modules=["c_attn"], fan_in_fan_out=True)
    tower = DocumentEncoder.load(release, base, device="cpu")
    assert np.abs(tower.encode(TEXTS).dense - _plain(release, base, tower)[0]).max() < 1e-5


def test_the_base_is_found_beside_the_release(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "tiny-base", "llama")
    release = _release(tmp_path / "release", base)
    config = json.loads((release / "adapter_config.json").read_text())
    (release / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "tiny-base"}))
    tower = DocumentEncoder.load(release, device="cpu")
    assert tower.revision.startswith("sha256:")
    assert tower.revision != DocumentEncoder.load(base, device="cpu").revision
    shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="--base"):
        DocumentEncoder.load(release, device="cpu")


def test_a_vocabulary_that_grew(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "qwen2", bos=None)
    release = _release(tmp_path / "release", base)
    grown = DocumentEncoder.load(base, device="cpu", sparse="none").tokenizer
    grown.add_special_tokens(["<|bos|>"])
    grown.save(str(release / "tokenizer.json"))
    told = json.loads((release / "tokenizer_config.json").read_text())
    (release / "tokenizer_config.json").write_text(json.dumps({**told, "bos_token": "<|bos|>"}))
    weights = load_file(release / "adapter_model.safetensors")
    embedding = torch.randn(len(grown.get_vocab()), 32)
    weights["base_model.model.model.embed_tokens.weight"] = embedding
    weights["base_model.model.lm_head.weight"] = embedding * 0.5
    save_file(weights, release / "adapter_model.safetensors")
    tower = DocumentEncoder.load(release, base, device="cpu")
    assert tower.bos_id == len(embedding) - 1
    assert tower.tokenize([""]) == [[tower.bos_id, tower.eos_id]]
    assert torch.equal(tower.backbone.model.get_input_embeddings().weight, embedding)
    assert tower.encode(TEXTS).sparse is not None


def test_new_tokens_without_trained_rows_get_the_mean(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "llama", rows=-2)
    first, second = (DocumentEncoder.load(folder, device="cpu") for _ in range(2))
    table = first.backbone.model.get_input_embeddings().weight
    assert len(table) == first.vocab_size
    assert torch.allclose(table[-1], table[:-2].mean(0), atol=1e-6)
    assert np.array_equal(first.encode(TEXTS).dense, second.encode(TEXTS).dense)


def test_switches_are_obeyed(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    switches = (
        "add_bos_num: 0\nlowercase: false\npooling_strategy: mean\nsparse_top_k_psg: 16\n"
        "hybrid_use_token_id_vector: false\ndense_shrink_dim: 8\n"
    )
    tower = DocumentEncoder.load(_release(tmp_path / "release", base, switches), base, device="cpu")
    assert tower.tokenize(["A"]) == [[tower.tokenizer.token_to_id("A"), tower.eos_id]]
    assert (tower.top_k, tower.dim, tower.has_sparse, tower.backbone.pooling) == (16, 8, False, "mean")
    assert np.allclose(np.linalg.norm(tower.encode(TEXTS).dense, axis=1), 1)


def test_a_post_processor_that_was_not_edited_stays(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    switches = "edit_tokenizer_post_processor: false\nadd_bos_num: -1\nadd_eos_num: -1\nlowercase: false\n"
    release = _release(tmp_path / "release", base, switches)
    letter = DocumentEncoder.load(base, device="cpu").tokenizer.token_to_id("a")
    assert DocumentEncoder.load(release, base, device="cpu").tokenize(["a", ""]) == [[letter], []]
    tokenizer = load_tokenizer(release)
    pad = tokenizer.token_to_id("<pad>")
    tokenizer.post_processor = TemplateProcessing("$A <pad>", special_tokens=[("<pad>", pad)])
    tokenizer.save(str(release / "tokenizer.json"))
    assert DocumentEncoder.load(release, base, device="cpu").tokenize(["a", ""]) == [[letter, pad], [pad]]


@pytest.mark.parametrize(
    ("switch", "named"),
    [
        ("enable_bidirectional_attention: true", "enable_bidirectional_attention"),
        ("add_pooler: true", "add_pooler"),
        ("untie_encoder: true", "untie_encoder"),
        ("projection_out_dim_qry: 256", "projection_out_dim_qry"),
        ("projection_in_dim: 32", "projection_in_dim"),
        ("score_function: l2", "score_function"),
        ("model_type: RerankerModel", "RerankerModel"),
        ("sparse_top_p_psg: 0.9", "sparse_top_p_psg: 0.9"),
        ("sparse_pooling_strategy: lasttoken", "sparse_pooling_strategy"),
        ("sparse_pool_from_unique_token_ids: true", "sparse_pool_from_unique_token_ids"),
        ("sparse_pool_from_original_input_ids: true", "sparse_pool_from_original_input_ids"),
        ("sparse_remove_stopwords: true", "sparse_remove_stopwords"),
        ("sparsify_bias: 0.5", "sparsify_bias"),
        ("sparse_top_k_psg: 4\nsparse_min_tokens_to_keep: 2", "sparse_min_tokens_to_keep"),
        ("sparse_use_relu: 1", "sparse_use_relu"),
        ("token_id_vector_type: tfidf", "token_id_vector_type"),
        ("noncontextual_query_embedding: false", "noncontextual_query_embedding"),
        ("noncontextual_prompt_prefix: 'Represent: '", "noncontextual_prompt_prefix"),
        ("hybrid_model_architecture: bert", "hybrid_model_architecture: bert does not fit"),
        ("hybrid_model_architecture: mamba", "hybrid_model_architecture"),
        ("hybrid_use_dense_vector: false\nhybrid_use_emb_vector: false", "no dense vectors"),
        ("normalize: true\nscore_function: dot", "contradicts"),
        ("pooling_strategy: attention", "attention"),
        ("pooling_strategy_psg: 3", "pooling 3"),
        ("pooling_strategy_psg: mean\npooling_strategy_qry: cls", "must agree"),
        ("add_eos_num: 2", "end token"),
        ("lowercase: 'no'", "true or false"),
        ("sparse_top_k_psg: [1, 2]", "a number is needed"),
        ("dense_shrink_dim: eight", "a number is needed"),
        ("dense_shrink_dim: 8.5", "a whole number"),
        ("dense_shrink_dims: 8", "did you mean dense_shrink_dim"),
        ("quantum_pooling: true", "quantum_pooling is no switch"),
    ],
)
def test_switches_that_mean_another_method_are_refused(switch: str, named: str, tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base, switch)
    with pytest.raises(ModelError, match=named) as caught:
        DocumentEncoder.load(release, base, device="cpu")
    assert "\n" not in str(caught.value)
    assert "model_args.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- list",
        "",
        "a: [",
        "lowercase: true\nlowercase: false",
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.system ['exit 1']",
        "a: " + "[" * 5000,
        "a: {b: {c: 1}}",
        "x: " + "1" * 5000,
        "? [1, 2]\n: 3",
        "lowercase: true\x00",
        "#" * (9 << 20),
    ],
    ids=["list", "empty", "open", "twice", "alias", "tag", "deep", "nested", "digits", "key", "nul", "large"],
)
def test_what_is_no_flat_list_of_switches_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model_args.yaml").write_text(text)
    with pytest.raises(ModelError, match=r"model_args\.yaml") as caught:
        read_switches(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_the_authors_training_script_sets_is_accepted(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    plain = DocumentEncoder.load(_release(tmp_path / "plain", base), base, device="cpu").encode(TEXTS)
    switches = (
        "cumulative_seq: true\nliger_kernel: true\nhybrid_model_architecture: gpt\nmodel_type: HybridModel\n"
        "sparse_top_p_psg: 1.0\nsparse_min_tokens_to_keep: 8\nsparse_pooling_strategy: null\nuntie_encoder: false\n"
        "noncontextual_query_embedding: true\nnoncontextual_prompt_prefix: null\ntoken_id_vector_type: sum\n"
        "sparse_pool_from_unique_token_ids: false\nsparse_remove_stopwords: false\nscore_function: cos_sim\n"
        "hybrid_use_dense_vector: true\nhybrid_use_emb_vector: true\nsparse_top_k_qry: 64\nsparsify_bias: null\n"
    )
    tower = DocumentEncoder.load(_release(tmp_path / "release", base, SWITCHES + switches), base, device="cpu")
    found = tower.encode(TEXTS)
    assert np.array_equal(found.dense, plain.dense)
    assert found.sparse is not None and plain.sparse is not None
    assert np.array_equal(found.sparse.to_dense(), plain.sparse.to_dense())


def test_every_switch_of_the_golden_release_is_known(golden: Path) -> None:
    assert read_switches(golden / "checkpoint_llama-tiny") == Switches(architecture="gpt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token_id_vector_type: bow", Switches(counts="bow")),
        ("score_function: dot", Switches(normalize=False)),
        ("lowercase: true\nedit_tokenizer_normalizers: false", Switches(lowercase=False)),
        ("sparse_top_k_psg: 4\nsparse_min_tokens_to_keep: 8", Switches(top_k=8)),
        ("sparse_top_k_psg: 16\nsparse_min_tokens_to_keep: 32", Switches(top_k=32)),
        ("sparse_min_tokens_to_keep: 2", Switches()),
        ("sparse_top_p_psg: 0", Switches()),
        ("model_type: EncoderModel\nnoncontextual_query_embedding: false", Switches(has_sparse=False)),
    ],
)
def test_what_switches_mean(text: str, expected: Switches, tmp_path: Path) -> None:
    (tmp_path / "model_args.yaml").write_text(text)
    assert read_switches(tmp_path) == expected


def test_other_adapters_and_other_bases_are_refused(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base)
    for other in (
        causal_folder(tmp_path / "neox", "gpt_neox"),
        causal_folder(tmp_path / "wide", "llama", hidden_size=64),
    ):
        with pytest.raises(ModelError, match="is the base model right"):
            DocumentEncoder.load(release, other, device="cpu")
    with pytest.raises(ModelError, match="plain LoRA"):
        DocumentEncoder.load(_release(tmp_path / "dora", base, use_dora=True), base, device="cpu")


def test_damaged_adapters_are_named(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base)
    config = json.loads((release / "adapter_config.json").read_text())
    (release / "adapter_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "lora_alpha"}))
    with pytest.raises(ModelError, match=r"adapter_config\.json .*it lacks 'lora_alpha'"):
        DocumentEncoder.load(release, base, device="cpu")
    (release / "adapter_config.json").write_text(json.dumps(config))
    weights = release / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\xff" * 64):
        weights.write_bytes(data)
        with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read") as caught:
            DocumentEncoder.load(release, base, device="cpu")
        assert "\n" not in str(caught.value)


def test_switches_beside_an_encoder(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, "bert")
    state = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**state, "normalizer": None}))
    cased = DocumentEncoder.load(folder, device="cpu").tokenize(["Mount", "mount"])
    assert cased[0] != cased[1]
    (folder / "model_args.yaml").write_text("pooling_strategy: cls\nlowercase: true\n")
    tower = DocumentEncoder.load(folder, device="cpu")
    assert tower.tokenize(["Mount", "mount"]) == [cased[1], cased[1]]
    assert (tower.backbone.pooling, tower.causal, tower.has_sparse) == ("cls", False, True)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base)
    (release / "training_args.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    DocumentEncoder.load(release, base, device="cpu")  # ignored beside safetensors
    (release / "adapter_model.safetensors").rename(release / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        DocumentEncoder.load(release, base, device="cpu")


@pytest.mark.parametrize(("trained_with_head", "base_with_head"), [(True, False), (False, True), (True, True)])
def test_encoders_adapters_by_either_name(trained_with_head: bool, base_with_head: bool, tmp_path: Path) -> None:
    trained = masked_folder(tmp_path / "trained", "bert", head=trained_with_head)
    base = masked_folder(tmp_path / "base", "bert", head=base_with_head)  # the same encoder: same seed
    loader = AutoModelForMaskedLM if trained_with_head else AutoModel
    config = peft.LoraConfig(r=4, target_modules=["query", "value", "dense"], init_lora_weights=False)
    if trained_with_head:
        config.exclude_modules = ".*(cls|predictions).*"
    else:
        config.exclude_modules = ".*pooler.*"
    model = loader.from_pretrained(trained)
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "release")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path / "release" / name)
    (tmp_path / "release/model_args.yaml").write_text("pooling_strategy: mean\nlowercase: true\n")
    names = load_file(tmp_path / "release/adapter_model.safetensors")
    assert all(name.startswith("base_model.model.bert.") == trained_with_head for name in names)
    tower = DocumentEncoder.load(tmp_path / "release", base, device="cpu", sparse="none")
    ids = torch.tensor(tower.tokenize(["Mount Everest"]))
    bare = adapted.base_model.model.base_model if trained_with_head else adapted.base_model.model
    with torch.no_grad():
        hidden = bare.eval()(input_ids=ids).last_hidden_state[0].mean(0)
    dense = tower.encode(["Mount Everest"]).dense[0]
    assert np.abs(dense - torch.nn.functional.normalize(hidden, dim=0).numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"lora_alpha": "thirty"}, "lora_alpha"),
        ({"lora_alpha": [1]}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "plain patterns"),
        ({"alpha_pattern": {".*.*.*.*x": 3}}, "plain patterns"),
        ({"alpha_pattern": [1]}, "alpha_pattern"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"use_some_new_way": True}, "use_some_new_way"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "\0"}, "base model"),
        ({"base_model_name_or_path": "~nobody-of-this-name/x"}, "base model"),
        ({"base_model_name_or_path": "x" * 5000}, "too long|base model"),
    ],
)
def test_adapters_that_cannot_be_added_are_refused(
    change: dict, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base)
    config = json.loads((release / "adapter_config.json").read_text())
    (release / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=named) as caught:
        DocumentEncoder.load(release, None if "base_model_name_or_path" in change else base, device="cpu")
    assert "\n" not in str(caught.value)


def test_adapters_whose_weights_do_not_go_together_are_refused(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base)
    path = release / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "lora_A" in name)
    other = name.replace("lora_A", "lora_B")
    for changed in (
        {key: value for key, value in weights.items() if key != name},
        {key: value for key, value in weights.items() if key != other},
        {**weights, name: weights[name][0].clone()},
        {**weights, name: weights[name].to(torch.int8)},
        {},
    ):
        save_file(changed, path)
        with pytest.raises(ModelError, match="is damaged"):
            DocumentEncoder.load(release, base, device="cpu")


def test_a_release_whose_query_tokens_count_once(tmp_path: Path) -> None:
    base = causal_folder(tmp_path / "base", "llama")
    release = _release(tmp_path / "release", base, SWITCHES + "token_id_vector_type: bow\n")
    made = cache_table(DocumentEncoder.load(release, base, device="cpu"))
    made.save(tmp_path / "table")
    assert made.hash != cache_table(DocumentEncoder.load(base, device="cpu")).hash
    encoder = QueryEncoder.load(tmp_path / "table")
    assert set(encoder.encode_sparse("tall tall mountain tall").values.tolist()) == {1.0}
    assert max(QueryEncoder.load(tmp_path / "table", counts="sum").encode_sparse("tall tall tall").values) > 1
