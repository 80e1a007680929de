"""What the shared prompt saves in training: look-up query vectors with gradient, in several ways.

A random model of Qwen2's shape with LoRA, a prompt of 20 tokens and queries of 10, forward and backward; all ways
interleaved in one process, their vectors compared. Needs the `dev` extra: `python benchmarks/training_step.py`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from results import Result, report
from table_cache import make_model
from torch import Tensor
from transformers import DynamicCache

from lightretriever.training.lookup import BLOCKS, bag_means, distinct_tokens, own_rows, prefix_rows
from lightretriever.training.tower import ModelConfig, Texts, TowerInput, TrainableTower

PROMPT_TOKENS, QUERY_TOKENS = 20, 10


def cached_rows(tower: TrainableTower, prompt: Tensor, tokens: Tensor) -> Tensor:
    """Rows of two positions each after a key/value cache of the prompt, with gradient through it."""
    model, specials = tower.backbone.model, tower.specials
    prefix = torch.cat([tokens.new_tensor(specials.before), prompt])
    shared = DynamicCache(config=model.config)
    model(input_ids=prefix[None], past_key_values=shared, use_cache=True)
    cache = DynamicCache(config=model.config)
    for number, layer in enumerate(shared.layers):
        size = (len(tokens), -1, -1, -1)
        cache.update(layer.keys.expand(*size), layer.values.expand(*size), number)
    ids = torch.cat([tokens[:, None], tokens.new_tensor(specials.after).expand(len(tokens), -1)], dim=1)
    positions = (len(prefix) + torch.arange(ids.shape[1], device=ids.device)).expand(len(tokens), -1)
    return model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=448)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--passages", type=int, nargs="+", default=[1, 2], help="of a query, for whole steps")
    parser.add_argument("--passage-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), arguments.hidden, arguments.layers, arguments.tokens)
        tower = TrainableTower.load(ModelConfig(base=folder, dropout=0.0, sparse_head="none")).to(arguments.device)
    backbone = tower.backbone
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randint(arguments.tokens - 1, shape, generator=generator).to(arguments.device)

    prompt, tokens = draw(PROMPT_TOKENS), draw(arguments.queries * QUERY_TOKENS)
    offsets = torch.arange(0, len(tokens) + 1, QUERY_TOKENS, device=arguments.device)
    (distinct,), places = distinct_tokens(tokens, offsets, torch.zeros_like(offsets[1:]), 1)
    most = arguments.queries * max(arguments.passages)
    texts = draw(most, arguments.passage_tokens)
    lengths = torch.full((most,), arguments.passage_tokens, device=arguments.device)
    everything = torch.arange(len(tokens), device=arguments.device)

    def of_distinct(rows: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return lambda: bag_means(rows(), places, offsets)

    def of_all(rows: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return lambda: bag_means(rows(), everything, offsets)

    ways: dict[str, Callable[[], Tensor]] = {
        "each token behind its own prompt": of_all(lambda: own_rows(backbone, prompt, tokens)),
        "a prompt for each query": of_all(lambda: prefix_rows(backbone, prompt, tokens, QUERY_TOKENS)),
        "one prompt, key/value cache": of_distinct(lambda: cached_rows(tower, prompt, distinct)),
    }
    for blocks in (32, 64, BLOCKS, 1024):
        name = f"one prompt, up to {blocks} tokens behind it" + (" (ours)" if blocks == BLOCKS else "")
        ways[name] = of_distinct(lambda blocks=blocks: prefix_rows(backbone, prompt, distinct, blocks))
    names = list(ways)
    ours = next(name for name in names if name.endswith("(ours)"))

    def run(queries: Callable[[], Tensor], passages: int) -> tuple[float, Tensor]:
        tower.zero_grad()
        start = time.perf_counter()
        vectors = queries()
        loss = torch.nn.functional.normalize(vectors).sum()
        if passages:
            count = arguments.queries * passages
            found = tower(TowerInput(passages=Texts(texts[:count], lengths[:count]))).passages
            loss = loss + torch.nn.functional.normalize(found).sum()
        loss.backward()
        value = loss.item()  # waits for a GPU
        assert value == value
        return time.perf_counter() - start, vectors.detach()

    seconds: dict[str, list[float]] = {name: [] for name in names}
    steps: dict[str, dict[int, list[float]]] = {
        name: {passages: [] for passages in arguments.passages} for name in (names[0], ours)
    }
    vectors: dict[str, Tensor] = {}
    for name, way in ways.items():
        vectors[name] = run(way, 0)[1]  # and warm
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            seconds[name].append(run(way, 0)[0])
        for name, whole in steps.items():
            for passages in arguments.passages:
                whole[passages].append(run(ways[name], passages)[0])
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    difference = max(float((found - vectors[names[0]]).abs().max()) for found in vectors.values())
    base = {passages: statistics.median(found) for passages, found in steps[names[0]].items()}

    def of_whole(name: str, passages: int) -> str:
        if name not in steps:
            return ""
        median = statistics.median(steps[name][passages])
        return f"{median:.3f} ({base[passages] / median:.1f}×)"

    report(
        Result(
            name="training_step",
            header=[
                "query vectors",
                "seconds",
                *(f"whole step, {passages} passage{'s' * (passages > 1)} a query" for passages in arguments.passages),
            ],
            rows=[
                [
                    name,
                    f"{middle[name]:.3f} ({middle[names[0]] / middle[name]:.1f}×)",
                    *(of_whole(name, passages) for passages in arguments.passages),
                ]
                for name in names
            ],
            notes=(
                f"Forward and backward pass through a random Qwen2 ({arguments.layers} layers, hidden "
                f"{arguments.hidden}) with LoRA, float32, {arguments.device}, {torch.get_num_threads()} threads: "
                f"{arguments.queries} queries of {QUERY_TOKENS} tokens ({len(distinct)} distinct ones) under a prompt "
                f"of {PROMPT_TOKENS}. A whole step has passages of {arguments.passage_tokens} tokens besides. In "
                f"brackets how many times as fast as the first row. Medians of {arguments.rounds} interleaved rounds. "
                f"Largest difference between the query vectors of any two ways: {difference:.1e}."
            ),
            data={"seconds": seconds, "steps": steps, "difference": difference},
        )
    )


if __name__ == "__main__":
    main()
