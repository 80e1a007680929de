"""What encoding documents makes of a GPU: documents a second, and the share of the rate at which it multiplies.

A causal model of Qwen2-0.5B's shape with random weights encodes texts of about 200 tokens, made of made words; nothing
is read or downloaded. The rate is that of large square products in what the tower computes in; what a pass multiplies
is counted for real tokens alone, so padding, norms and waiting all show as what is missing. Beside it stand a plain
loop (texts in their order, padded with a mask, each batch waited for) and our batches without the queue. As many texts
are taken as fill some seconds, so it ends within five minutes: `python benchmarks/gpu_encoding.py`; `--quick` tries the
script itself, with a tiny model, and saves nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from results import Result, markdown, report
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from lightretriever import DocumentEncoder
from lightretriever.bench.shape import SHAPES, Shape, random_tower
from lightretriever.document.batches import Budget, run_batches
from lightretriever.document.encoder import pad_ids
from lightretriever.document.sparse import LinearHead

System = Callable[[Sequence[str]], NDArray[np.float32]]
PLAIN = "plain loop"


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        shape: of the model.
        side: of the square matrices.
        products: of them that are timed together.
        seconds: a pass should take at half the rate.
        texts: of a pass, at least and at most.
        batch: texts of a batch of the plain loop.
        top_k: entries of a sparse vector.
    """

    shape: Shape
    side: int = 8192
    products: int = 20
    seconds: float = 8.0
    texts: tuple[int, int] = (512, 32_768)
    batch: int = 64
    top_k: int = 128


FULL = Sizes(SHAPES["qwen2-0.5b"])
QUICK = Sizes(Shape(2, 64, 4, 2, 96, 2_000), side=256, products=2, seconds=0.0, texts=(48, 48), batch=16)


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        device, dtype: what computed, and in what.
        rate: operations a second of square products.
        lengths: tokens of each text.
        work: operations of a pass of each system, padding left out.
        vectors: that each system gave, float32 [texts, d].
        seconds: of its rounds.
    """

    device: str
    dtype: str
    rate: float
    lengths: Sequence[int]
    work: dict[str, float]
    vectors: dict[str, NDArray[np.float32]]
    seconds: dict[str, list[float]]


def word_tokenizer(words: int) -> Tokenizer:
    """A token for each made word."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def make_texts(count: int, mean: float, words: int, seed: int = 0) -> list[str]:
    """Texts of about so many of the made words, a quarter of that their standard deviation."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(mean, mean / 4, count), 8, 2 * mean).astype(int)
    return [" ".join(f"w{word}" for word in rng.integers(0, words, length)) for length in lengths]


def make_tower(shape: Shape, device: str, top_k: int) -> tuple[DocumentEncoder, DocumentEncoder]:
    """A tower of dense vectors, and one of sparse ones besides, from the same weights."""
    dense = random_tower(shape, "random", word_tokenizer(shape.vocab_size - 1), device)  # and the end of a text
    embedding = dense.backbone.model.get_input_embeddings()
    output = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False, device="meta")
    output.weight = embedding.weight
    head = LinearHead(output, dense.vocab_size)
    return dense, DocumentEncoder(replace(dense.backbone, head=head), top_k=top_k)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype, sizes: Sizes) -> float:
    """Operations a second of square products, the best of five times: two for each multiplication and its addition."""
    left, right = (torch.randn(sizes.side, sizes.side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):  # the first is to warm up
        wait(device)
        start = time.perf_counter()
        for _ in range(sizes.products):
            left @ right
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * sizes.side**3 * sizes.products / best


def operations(tower: DocumentEncoder, lengths: Sequence[int]) -> float:
    """What texts of so many tokens take, padding left out: layers' matrices, causal attention, and the head if any."""
    model, config = tower.backbone.model, tower.backbone.model.config
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    width = model.layers[0].self_attn.q_proj.out_features
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    head = tower.dim * tower.vocab_size * sum(max(0, length - 2) for length in lengths) if tower.has_sparse else 0
    return 2.0 * (matrices * sum(lengths) + 2 * width * config.num_hidden_layers * pairs + head)


@torch.inference_mode()
def plain_loop(tower: DocumentEncoder, batch: int, texts: Sequence[str]) -> NDArray[np.float32]:
    """Texts in their order, so many at a time: tokenised, padded, masked, waited for."""
    rows = []
    for start in range(0, len(texts), batch):
        ids, lengths = pad_ids(tower.tokenize(texts[start : start + batch]), tower.pad_id, tower.backbone.device)
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        hidden = tower.backbone.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(ids), device=ids.device), lengths - 1].float()
        rows.append(nn.functional.normalize(last, dim=-1).cpu().numpy())
    return np.concatenate(rows)


def without_queue(tower: DocumentEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The tower's own batches, each waited for before the next is begun."""
    tokens = tower.tokenize(texts)
    found = np.zeros((len(texts), tower.dim), np.float32)
    budget = Budget(tower.backbone.device)
    begin = tower._begin_some
    for batch, (rows, _) in run_batches(list(map(len, tokens)), budget, lambda some: begin(tokens, False, some)(), 1):
        found[batch] = rows
    return found


def measure(
    systems: dict[str, System], texts: Sequence[str], rounds: int
) -> tuple[dict[str, NDArray[np.float32]], dict[str, list[float]]]:
    """Vectors of each system, and the seconds of its rounds, taken in turns after each has warmed up."""
    for system in systems.values():
        system(texts[: len(texts) // 4])
    vectors: dict[str, NDArray[np.float32]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, system in systems.items():
            start = time.perf_counter()
            vectors[name] = system(texts)  # on the host: nothing is left to wait for
            seconds[name].append(time.perf_counter() - start)
    return vectors, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tokens", type=int, default=200, help="of a text, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny model and few texts, to try the script")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    result = run(sizes, arguments.device, arguments.tokens, arguments.rounds)
    if arguments.quick:
        print(markdown(result))
    else:
        report(result)


def run(sizes: Sizes, device: str, tokens: int, rounds: int) -> Result:
    tower, sparse = make_tower(sizes.shape, device, sizes.top_k)
    place = tower.backbone.device
    rate = product_rate(place, tower.backbone.dtype, sizes)
    fill = int(sizes.seconds * rate / 2 / operations(tower, [tokens]))
    texts = make_texts(max(sizes.texts[0], min(fill, sizes.texts[1])), tokens, sizes.shape.vocab_size - 1)
    lengths = [len(ids) for ids in tower.tokenize(texts)]
    with_head = f"DocumentEncoder, {sizes.top_k} sparse weights besides"
    systems: dict[str, System] = {
        PLAIN: lambda some: plain_loop(tower, sizes.batch, some),
        "our batches, without the queue": lambda some: without_queue(tower, some),
        "DocumentEncoder": lambda some: tower.encode(some).dense,
        with_head: lambda some: sparse.encode(some).dense,
    }
    work = {name: operations(sparse if name == with_head else tower, lengths) for name in systems}
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    return table(sizes, Measured(name, tower.dtype, rate, lengths, work, *measure(systems, texts, rounds)))


def table(sizes: Sizes, found: Measured) -> Result:
    texts, tokens = len(found.lengths), sum(found.lengths)
    middle = {name: statistics.median(rounds) for name, rounds in found.seconds.items()}
    right = found.vectors[PLAIN]
    return Result(
        name="gpu_encoding",
        header=["system", "documents a second", "tokens a second", "share of the rate", "ratio", "least cosine"],
        rows=[
            [
                name,
                f"{texts / seconds:,.0f}",
                f"{tokens / seconds:,.0f}",
                f"{found.work[name] / seconds / found.rate:.1%}",
                f"{middle[PLAIN] / seconds:.2f}×",
                f"{float((found.vectors[name] * right).sum(1).min()):.4f}",
            ]
            for name, seconds in middle.items()
        ],
        notes=(
            f"{found.device}, {found.dtype}: {found.rate / 1e12:.3g}·10¹² operations a second in products of "
            f"{sizes.side:,} × {sizes.side:,}. {texts:,} texts of {min(found.lengths)} to {max(found.lengths)} tokens, "
            f"{tokens:,} in all; random Qwen2 of {sizes.shape.num_hidden_layers} layers, hidden "
            f"{sizes.shape.hidden_size}, {found.work[PLAIN] / tokens / 1e9:.3g}·10⁹ operations a token; tokenisation "
            f"included. Medians of {len(found.seconds[PLAIN])} rounds in turns. Ratios and cosines are those to the "
            f"plain loop, of {sizes.batch} texts a batch."
        ),
        data={"seconds": found.seconds, "rate": found.rate, "work": found.work, "tokens": tokens},
    )


if __name__ == "__main__":
    main()
