"""Three recorded steps of another implementation, run again: the same losses, gradients and final adapters."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightretriever.training.lookup import bag_means
from lightretriever.training.losses import LossConfig, Representations, regularisation, total_loss
from lightretriever.training.tower import Lookup, ModelConfig, Texts, TowerInput, TrainableTower

THEIRS = "lm_q.base_model.model."
BOS, EOS = 650, 651


def _prefix_and_tokens(row: np.ndarray, real: np.ndarray) -> tuple[list[int], list[int]]:
    """A recorded row [bos; prompt; t1; eos; t2; eos; …] taken apart: what repeats every second place is eos."""
    ids = row[real].tolist()
    start = ids.index(EOS) - 1
    assert ids[0] == BOS and set(ids[start + 1 :: 2]) == {EOS}
    return ids[1:start], ids[start::2]


def _lengths(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.sum(1))


@pytest.fixture(scope="module")
def record(golden: Path) -> SimpleNamespace:
    folder = golden / "checkpoint_llama-tiny_record"
    told = json.loads((folder / "args.json").read_text())
    return SimpleNamespace(
        folder=folder,
        arguments=dict(pairwise(told)),
        steps=json.loads((folder / "steps.json").read_text()),
        initial=load_file(folder / "initial_trainable.safetensors"),
        final=load_file(golden / "checkpoint_llama-tiny/adapter_model.safetensors"),
        base=golden / "models/llama-tiny",
    )


def test_the_recorded_training_gives_the_recorded_adapters(record: SimpleNamespace) -> None:
    arguments = record.arguments
    tower = TrainableTower.load(
        ModelConfig(
            base=str(record.base),
            rank=int(arguments["--lora_r"]),
            alpha=float(arguments["--lora_alpha"]),
            dropout=float(arguments["--lora_dropout"]),
        )
    )
    names = {name: THEIRS + name.removeprefix("whole.") for name, p in tower.named_parameters() if p.requires_grad}
    assert set(names.values()) == set(record.initial)
    parameters = dict(tower.named_parameters())
    with torch.no_grad():
        for name, theirs in names.items():
            parameters[name].copy_(record.initial[theirs])

    rate, floor, steps = float(arguments["--learning_rate"]), float(arguments["--min_lr_ratio"]), len(record.steps)
    optimizer = torch.optim.AdamW(
        [parameters[name] for name in names], lr=rate, weight_decay=float(arguments["--weight_decay"])
    )
    ramp_steps = int(arguments["--reg_t"])
    losses = LossConfig(symmetric=True, flops_ramp_steps=ramp_steps)
    tower.train()
    for step, told in enumerate(record.steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * (floor + (1 - floor) * cosine)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(told["lr"])
        # Their ramp is one step behind its formula: at step 1 it still is 0, at T it is not yet 1.
        ramp = regularisation(max(step - 1, 0), ramp_steps)
        assert ramp == told["reg_scaling_factor"]

        batch = np.load(record.folder / f"batch_{step}.npz")
        rows = [
            _prefix_and_tokens(ids, real)
            for ids, real in zip(
                batch["query_nonctx_tok_emb_input_ids"], batch["query_nonctx_tok_emb_attention_mask_2d"], strict=True
            )
        ]
        assert all(prompt == rows[0][0] for prompt, _ in rows)
        tokens, places = torch.tensor([i for _, ids in rows for i in ids]).unique(return_inverse=True)
        offsets = torch.tensor([0, *(len(ids) for _, ids in rows)]).cumsum(0)
        found = tower(
            TowerInput(
                passages=Texts(torch.from_numpy(batch["passage_input_ids"]), _lengths(batch["passage_attention_mask"])),
                lookups=(Lookup(torch.tensor(rows[0][0]), tokens),),
                full_queries=Texts(torch.from_numpy(batch["query_input_ids"]), _lengths(batch["query_attention_mask"])),
            )
        )
        representations = Representations(
            passages=found.passages,
            passages_sparse=found.passages_sparse,
            queries=bag_means(found.rows, places, offsets),
            full_queries=found.full_queries,
            counts=torch.from_numpy(batch["query_token_id_reps_pt"]),
            only_hard_negatives=torch.tensor(told["only_hn"]),
        )
        total, terms = total_loss(representations, losses, ramp)
        assert total.item() == pytest.approx(told["loss"], rel=1e-4)
        for ours, log in {
            "symmetric": "mrl_loss/den_clloss-dimNone",
            "dense": "mrl_loss/imbden_clloss-dimNone",
            "sparse": "imbspr_clloss",
            "flops": "p_flops_loss",
            "stats/passage_non_zeros": "spr_stats/p_l0",
        }.items():
            assert terms[ours].item() == pytest.approx(told["logs"][log], rel=1e-4, abs=1e-7), (step, ours)
        optimizer.zero_grad()
        total.backward()
        gradients = load_file(record.folder / f"grads_{step}.safetensors")
        for name, theirs in names.items():
            wanted = gradients[theirs]
            difference = (parameters[name].grad - wanted).abs().max()
            assert difference < 1e-4 * max(1.0, wanted.abs().max().item()), (step, name)
        torch.nn.utils.clip_grad_norm_([parameters[name] for name in names], 1.0)
        optimizer.step()

    assert len(names) == len(record.final)
    for name in names:
        key = "base_model.model." + name.removeprefix("whole.").replace(".default.", ".")
        assert (parameters[name] - record.final[key]).abs().max() < 1e-4, name
    moved = max((parameters[name] - record.initial[theirs]).abs().max().item() for name, theirs in names.items())
    assert moved > 1e-3
