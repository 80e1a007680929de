"""Tiny trainable towers and batches that several files of tests share."""

from __future__ import annotations

from pathlib import Path

import torch
from made_models import causal_folder, masked_folder

from lightretriever.document.encoder import pad_ids
from lightretriever.training.batch import Batch
from lightretriever.training.losses import LossConfig, total_loss
from lightretriever.training.tower import ModelConfig, TrainableTower, represent

QUERIES = ["how tall is mount everest", "the world", "mountain mountain a", ""]
PASSAGES = [
    "Mount Everest is the highest mountain in the world.",
    "about 8,848 meters tall",
    "the the the a naive café",
    "trailing spaces and newlines",
    "",
    "Leading tabs, the world is about a mountain",
    "highest in the world",
    "a",
]


def tower_of(kind: str, folder: Path, **settings: object) -> TrainableTower:
    """A tower over a random base: "causal", "mlm" (an encoder with its head) or "tied" (one without)."""
    if not (folder / "base").exists():
        if kind == "causal":
            causal_folder(folder / "base", "llama")
        else:
            masked_folder(folder / "base", "bert", head=kind == "mlm")
    torch.manual_seed(5)
    options = {"rank": 4, "alpha": 8, "dropout": 0.0, "prompt": "find the world: ", **settings}
    tower = TrainableTower.load(ModelConfig(base=str(folder / "base"), **options))
    for name, parameter in tower.named_parameters():  # a fresh adapter or head changes nothing, and has no gradient
        if "lora_B" in name or name.startswith(("tied.norm", "tied.gate")):
            torch.nn.init.normal_(parameter, std=0.1)
    return tower


def batch_of(tower: TrainableTower, queries: list[str] = QUERIES, passages: list[str] = PASSAGES) -> Batch:
    """Two passages a query, one prompt, symmetric queries too."""
    specials = tower.backbone.specials
    tokenizer = specials.tokenizer

    def plain(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    def padded(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [[*specials.before, *plain(text)[:40], *specials.after] for text in texts]
        return pad_ids(rows, specials.pad_id, torch.device("cpu"))

    tokens = [plain(query) for query in queries]
    offsets = torch.tensor([0, *(len(ids) for ids in tokens)]).cumsum(0)
    flat = torch.tensor([i for ids in tokens for i in ids], dtype=torch.int64)
    ids, lengths = padded(passages)
    full, full_lengths = padded([tower.prompt + query for query in queries])
    return Batch(
        dataset="made",
        passage_ids=ids,
        passage_lengths=lengths,
        passage_keys=torch.arange(len(passages)),
        query_tokens=flat,
        query_offsets=offsets,
        count_tokens=flat,
        count_offsets=offsets,
        prompts=(torch.tensor(plain(tower.prompt), dtype=torch.int64),),
        prompt_of=torch.zeros(len(queries), dtype=torch.int64),
        full_query_ids=full,
        full_query_lengths=full_lengths,
        ce_scores=None,
        only_hard_negatives=torch.zeros(len(queries), dtype=torch.bool),
    )


def gradients(tower: TrainableTower) -> dict[str, torch.Tensor]:
    """Of every weight that has one."""
    return {name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None}


def step(tower: TrainableTower, batch: Batch, config: LossConfig | None = None) -> torch.Tensor:
    """One loss with its backward pass."""
    tower.zero_grad()
    config = config or LossConfig(symmetric=True, temperature=0.2)
    total, _ = total_loss(represent(tower, batch), config)
    total.backward()
    return total.detach()


def train(tower: TrainableTower, batch: Batch, steps: int = 3) -> None:
    """A few steps that move every trained weight."""
    optimizer = torch.optim.AdamW([p for p in tower.parameters() if p.requires_grad], lr=1e-2)
    tower.train()
    for _ in range(steps):
        step(tower, batch)
        optimizer.step()
    tower.eval()
