"""What is only fast is on: fused attention without a mask, batches of one length, no graph, half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_models import CAUSAL, MASKED, causal_folder, masked_folder

from lightretriever import DocumentEncoder
from lightretriever.document.batches import CPU_BATCH_TOKENS

WORDS = "how far is the old harbour from the new station by the shortest way along the river".split()
TEXTS = [" ".join(WORDS[start:]) for start in (1, 7, 14)]  # of different lengths, hence padded; they begin differently


def watch_attention(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Notes of every call of torch's fused attention whether it has a mask, and whether it is causal by itself."""
    calls: list[tuple[bool, bool]] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def run(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):  # type: ignore[no-untyped-def]
        calls.append((attn_mask is not None, is_causal))
        return fused(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", run)
    return calls


@pytest.mark.parametrize("kind", [kind for kind in CAUSAL if kind not in ("mistral", "gemma2")])
def test_causal_models_attend_fused_and_without_a_mask(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, kind), device="cpu", sparse="none")
    calls = watch_attention(monkeypatch)
    tower.encode(TEXTS)
    assert calls and set(calls) == {(False, True)}


@pytest.mark.parametrize("kind", [*MASKED, "mistral"])
def test_other_models_attend_fused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = masked_folder(tmp_path, kind) if kind in MASKED else causal_folder(tmp_path, kind)
    tower = DocumentEncoder.load(folder, device="cpu", sparse="none")
    calls = watch_attention(monkeypatch)
    tower.encode(TEXTS)
    assert calls


def test_batches_hold_texts_of_like_length_up_to_their_budget_and_no_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", sparse="none", max_length=100)
    shapes: list[tuple[int, ...]] = []
    run = tower.backbone.model.forward

    def watched(*arguments: object, **named: torch.Tensor) -> object:
        assert torch.is_inference_mode_enabled()
        shapes.append(tuple(named["input_ids"].shape))
        return run(*arguments, **named)

    monkeypatch.setattr(tower.backbone.model, "forward", watched)
    # 100 tokens after the cut, and few, by turns; what they begin with is not shared.
    texts = [text for row in range(60) for text in (f"{row} a way", f"{row} " + " ".join(WORDS * 9))]
    lengths = [len(ids) for ids in tower.tokenize(texts)]
    tower.encode(texts)
    assert all(rows * width <= CPU_BATCH_TOKENS for rows, width in shapes)
    assert sum(rows * width for rows, width in shapes) < 1.2 * sum(lengths)  # mixed, it would be twice as many
    assert len(shapes) <= 1 + sum(lengths) / (CPU_BATCH_TOKENS / 2)


def test_a_processor_multiplies_in_half_precision_and_adds_in_whole(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", dtype="bfloat16", sparse="none")
    assert tower.dtype == "bfloat16"
    matrices = [module.weight for module in tower.backbone.model.modules() if isinstance(module, torch.nn.Linear)]
    assert {matrix.dtype for matrix in matrices} == {torch.bfloat16}
    seen: list[torch.dtype] = []
    for layer in tower.backbone.model.layers:
        layer.mlp.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    tower.encode("the old harbour")
    assert seen == [torch.bfloat16, torch.float32] * len(tower.backbone.model.layers)
