"""Tiny random models of many architectures, made here: no test downloads anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers
from made_tokenizers import SPECIALS, make_wordpiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

TEXTS = [
    "Mount Everest is the highest mountain in the world, about 8,848 meters tall.",
    "",
    "the " * 80,
    "珠穆朗玛峰是世界上最高的山峰，海拔8848米。",
    "!!! … ?!  😀🚀 #100% (a+b)^2",
    "a",
    "  Leading and trailing   spaces,\ttabs\nand newlines.  ",
    "MiXeD CaSe: ÉCOLE Straße İstanbul naive café",
]

_SIZES = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32}
_LLAMA = {**_SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 128}
CAUSAL: dict[str, dict[str, object]] = {
    "llama": _LLAMA,
    "qwen2": {**_LLAMA, "num_hidden_layers": 3},
    "qwen3": {**_LLAMA, "head_dim": 8},
    "mistral": {**_LLAMA, "head_dim": 8, "sliding_window": 6},
    "gemma": {**_LLAMA, "head_dim": 8},
    "gemma2": {**_LLAMA, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 0.5},
    "gpt_neox": {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 128},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "cohere": {**_LLAMA, "logit_scale": 0.25},
    "granite": {**_LLAMA, "logits_scaling": 4.0},
}
ATTENDING: dict[str, dict[str, object]] = {
    **CAUSAL,
    "phi": {**_LLAMA, "partial_rotary_factor": 0.5},
    "phi3": _LLAMA,
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 128},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2},
    "falcon": _SIZES,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128},
    "gemma3_text": {**_LLAMA, "head_dim": 8, "sliding_window": 6},
    "mixtral": {**_LLAMA, "num_local_experts": 4},
    "starcoder2": _LLAMA,
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 128},
}
"""All that remember keys and values: also other kinds of positions (ALiBi, learned), of windows, and experts."""
RECURRENT: dict[str, dict[str, object]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "recurrent_gemma": {**_LLAMA, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
    "lfm2": {**_LLAMA, "layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**_LLAMA, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
}
"""Those that remember a running state, in some layers or in all."""
MASKED: dict[str, dict[str, object]] = {
    "bert": {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 64},
    "roberta": {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 66, "pad_token_id": 0},
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64},
    "modernbert": {
        **_SIZES,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "local_attention": 8,
    },
    "electra": {**_SIZES, "embedding_size": 16, "intermediate_size": 48, "max_position_embeddings": 64},
    "albert": {**_SIZES, "embedding_size": 16, "intermediate_size": 48, "max_position_embeddings": 64},
}


def byte_level(specials: list[str]) -> Tokenizer:
    """A byte-level BPE tokenizer with a GPT-2 split, the specials at the end of its ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(specials)
    return tokenizer


def word_piece() -> Tokenizer:
    """A lower-casing WordPiece tokenizer that writes [CLS] A [SEP], as BERT's."""
    tokenizer = make_wordpiece(tuple(TEXTS), SPECIALS)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def causal_folder(
    folder: Path,
    kind: str,
    *,
    bos: str | None = "<s>",
    eos: str = "</s>",
    pad: str | None = "<pad>",
    rows: int = 0,
    **settings: object,
) -> Path:
    """Save a random causal LM with its tokenizer.

    Args:
        folder: where.
        kind: one of ``ATTENDING`` or ``RECURRENT``.
        bos, eos, pad: special tokens; one name for several is one token.
        rows: embedding rows beyond the tokenizer's tokens; fewer than the tokens if negative.
        settings: of the configuration.
    """
    tokenizer = byte_level(list(dict.fromkeys(token for token in (bos, eos, pad) if token)))
    count = len(tokenizer.get_vocab())
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad)
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=count + rows,
        **{
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            **(ATTENDING | RECURRENT)[kind],
            **settings,
        },
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def masked_folder(folder: Path, kind: str, *, head: bool = True, **settings: object) -> Path:
    """Save a random encoder of a kind in ``MASKED`` with a WordPiece tokenizer, with or without its MLM head."""
    tokenizer = word_piece()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(tokenizer.get_vocab()), **{"initializer_range": 0.3, **MASKED[kind], **settings}
    )
    model = AutoModelForMaskedLM.from_config(config)
    (model if head else model.base_model).save_pretrained(folder)
    return folder


def sentence_folder(
    folder: Path,
    pooling: dict[str, object],
    modules: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"),
    prompts: dict[str, str] | None = None,
) -> Path:
    """Save a sentence-transformers folder around a random BERT, written by hand: no test needs that package."""
    return sentence_files(masked_folder(folder, "bert", head=False), pooling, modules, prompts)


def sentence_files(
    folder: Path,
    pooling: dict[str, object],
    modules: tuple[str, ...] = ("Transformer", "Pooling", "Normalize"),
    prompts: dict[str, str] | None = None,
) -> Path:
    """Add to a model's folder what makes it one of sentence-transformers."""
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}
    listed = [
        {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts or {}}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


def adapter_folder(folder: Path, base: Path, merged: Path | None = None, **settings: object) -> Path:
    """Save random LoRA weights for a model as PEFT does, with its tokenizer; and the sum of both as a plain model."""
    import peft

    loader = transformers.AutoModelForCausalLM if _is_causal(base) else transformers.AutoModel
    model = loader.from_pretrained(base)
    targets = ["q_proj", "down_proj"] if _is_causal(base) else ["query", "value"]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **settings)
    adapted = peft.get_peft_model(model, config)
    torch.manual_seed(3)
    for name, weight in adapted.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(folder)
    names = ("tokenizer.json", "tokenizer_config.json")
    if merged is not None:
        adapted.merge_and_unload().save_pretrained(merged)
    for place in (folder, merged):
        for name in names if place is not None else ():
            shutil.copy(base / name, place / name)
    return folder


def _is_causal(folder: Path) -> bool:
    return json.loads((folder / "config.json").read_text())["architectures"][0].endswith("ForCausalLM")
