"""Two processes against one that holds the joined batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_towers import PASSAGES, QUERIES, batch_of, gradients, tower_of
from torch import distributed, multiprocessing
from torch.distributed.fsdp import fully_shard

from lightretriever.errors import UsageError
from lightretriever.training.batch import Batch
from lightretriever.training.gather import gather
from lightretriever.training.losses import LossConfig, Representations, total_loss
from lightretriever.training.tower import TrainableTower, represent

KINDS = ("causal", "tied")
WAYS = ("data parallel", "sharded")
LAYERS = ("LlamaDecoderLayer", "BertLayer")
CHUNK = 1  # four runs of the model for four passages; and as many for the seven tokens of one, the four of the other
CONFIG = LossConfig(symmetric=True, distil_dense=True, temperature=0.2)


def _part(tower: TrainableTower, rank: int | None) -> Batch:
    if rank is None:
        batch = batch_of(tower)
        return replace(batch, only_hard_negatives=torch.tensor([True, False, False, True]))
    batch = batch_of(tower, QUERIES[2 * rank : 2 * rank + 2], PASSAGES[4 * rank : 4 * rank + 4])
    return replace(batch, only_hard_negatives=torch.tensor([[True, False], [False, True]])[rank])


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for kind in KINDS:
        for way in WAYS:
            tower = tower_of(kind, Path(folder, kind), chunk=CHUNK, gradient_checkpointing=way == "sharded")
            part = _part(tower, rank)
            if way == "sharded":
                for module in [module for module in tower.modules() if type(module).__name__ in LAYERS]:
                    fully_shard(module)
                model: torch.nn.Module = fully_shard(tower)
            else:
                model = torch.nn.parallel.DistributedDataParallel(tower)
            loss, _ = total_loss(gather(represent(model, part)), CONFIG)
            loss.backward()
            found = {
                name: value.full_tensor() if way == "sharded" else value for name, value in gradients(tower).items()
            }
            torch.save({"loss": loss.detach(), **found}, f"{folder}/{kind}-{way}{rank}.pt")
    wrong = Representations(queries=torch.zeros(2 + rank, 3))
    with pytest.raises(UsageError, match="differ in queries"):
        gather(wrong)
    distributed.destroy_process_group()


def test_two_processes_give_the_joined_batchs_gradients(tmp_path: Path) -> None:
    plain = {}
    for kind in KINDS:
        tower = tower_of(kind, tmp_path / kind)
        loss, _ = total_loss(gather(represent(tower, _part(tower, None))), CONFIG)
        loss.backward()
        plain[kind] = {"loss": loss.detach(), **gradients(tower)}
    multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    for kind, wanted in plain.items():
        for place in (f"{kind}-{way}{rank}" for way in WAYS for rank in range(2)):
            found = torch.load(tmp_path / f"{place}.pt", weights_only=True)
            assert set(found) == set(wanted)
            for name, value in wanted.items():
                assert (found[name] - value).abs().max() < 1e-5 * max(1, value.abs().max()), (place, name)
