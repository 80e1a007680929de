"""What encoding documents costs: `DocumentEncoder` beside sentence-transformers on the same model and texts.

All run in one process, taking turns round by round, on texts of mixed lengths (Python's own documentation topics, or a
corpus) with the `minilm` tower, after each has warmed up; their vectors are compared. Ours computes in what the verbs
choose, and in float32. With `--before` another checkout of this repository takes its turns too, in its own process.
Needs the `dev` extra: `python benchmarks/document_encoding.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from results import Result, report

from lightretriever import DocumentEncoder
from lightretriever.document.device import fastest
from lightretriever.text.corpus import read_corpus

Turn = Callable[[Sequence[str]], tuple[NDArray[np.float32], float, float]]
"""Encodes texts; their vectors, the seconds it took by the clock, and those of the processor."""

OTHER = "sentence-transformers"
# What another checkout runs: texts in by a file, vectors out by one, as often as a line asks for it.
CHECKOUT = """
import json, sys, time
import numpy as np
from lightretriever import DocumentEncoder
tower = DocumentEncoder.load("minilm", device=sys.argv[1])
print(tower.dtype, flush=True)
for line in sys.stdin:
    texts = json.load(open(line.strip()))
    start, used = time.perf_counter(), time.process_time()
    dense = tower.encode(texts).dense
    took = time.perf_counter() - start, time.process_time() - used
    np.save(line.strip() + ".npy", dense)
    print(*took, flush=True)
"""


def make_texts(n: int) -> list[str]:
    """Paragraphs of Python's documentation topics, longest differences of length included."""
    import pydoc_data.topics

    paragraphs = [
        " ".join(paragraph.split())
        for _, text in sorted(pydoc_data.topics.topics.items())
        for paragraph in text.split("\n\n")
    ]
    return [paragraph for paragraph in paragraphs if len(paragraph) > 80][:n]


def timed(encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> Turn:
    def turn(texts: Sequence[str]) -> tuple[NDArray[np.float32], float, float]:
        start, used = time.perf_counter(), time.process_time()
        vectors = encode(texts)
        return vectors, time.perf_counter() - start, time.process_time() - used

    return turn


@contextmanager
def checkout(path: Path, device: str, folder: Path) -> Iterator[tuple[str, Turn]]:
    """Another checkout's tower: what it computes in, and its turns."""
    environment = {**os.environ, "PYTHONPATH": str(path / "src")}
    command = [sys.executable, "-c", CHECKOUT, device]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        file = folder / "texts.json"

        def turn(texts: Sequence[str]) -> tuple[NDArray[np.float32], float, float]:
            file.write_text(json.dumps(list(texts)))
            print(file, file=process.stdin, flush=True)
            seconds, used = map(float, process.stdout.readline().split())
            return np.load(f"{file}.npy"), seconds, used

        yield process.stdout.readline().strip(), turn
        process.stdin.close()


def measure(systems: dict[str, Turn], texts: Sequence[str], rounds: int) -> tuple[dict, dict]:
    """Vectors of each system; and seconds and processor seconds of its rounds [rounds, 2]."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    vectors: dict[str, NDArray[np.float32]] = {}
    for turn in systems.values():
        turn(texts[:32])
    for number in range(rounds):
        order = list(systems.items())
        for name, turn in order if number % 2 == 0 else reversed(order):
            vectors[name], *seconds = turn(texts)
            found[name].append((seconds[0], seconds[1]))
    return vectors, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--corpus", type=Path, help="a corpus whose first documents are encoded too, half of the texts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    arguments = parser.parse_args()
    from tempfile import TemporaryDirectory

    from sentence_transformers import SentenceTransformer

    texts = make_texts(arguments.texts if arguments.corpus is None else arguments.texts // 2)
    if arguments.corpus is not None:
        texts += [document.input for document in islice(read_corpus(arguments.corpus), arguments.texts - len(texts))]
    towers = {
        f"DocumentEncoder, {dtype}": DocumentEncoder.load("minilm", device=arguments.device, dtype=dtype)
        for dtype in dict.fromkeys((fastest("auto", arguments.device), "float32"))
    }
    tower = next(iter(towers.values()))
    other = SentenceTransformer(str(tower.backbone.folder.path), device=arguments.device)
    other.max_seq_length = tower.max_length
    systems = {name: timed(lambda some, own=own: own.encode(some).dense) for name, own in towers.items()}
    systems[OTHER] = timed(lambda some: other.encode(list(some), show_progress_bar=False))
    lengths = [len(ids) for ids in tower.tokenize(texts)]
    with TemporaryDirectory() as folder:
        if arguments.before is None:
            vectors, seconds = measure(systems, texts, arguments.rounds)
        else:
            with checkout(arguments.before, arguments.device, Path(folder)) as (dtype, turn):
                vectors, seconds = measure({**systems, f"before, {dtype}": turn}, texts, arguments.rounds)
    show(arguments, vectors, {name: np.array(rounds) for name, rounds in seconds.items()}, lengths)


def show(arguments: argparse.Namespace, vectors: dict, seconds: dict[str, np.ndarray], lengths: list[int]) -> None:
    medians = {name: np.median(rounds, axis=0) for name, rounds in seconds.items()}
    least = {name: float((rows * vectors[OTHER]).sum(1).min()) for name, rows in vectors.items()}
    report(
        Result(
            name="document_encoding",
            header=["system", "documents a second", "tokens a second", "ratio", "by processor time", "least cosine"],
            rows=[
                [
                    name,
                    f"{len(lengths) / wall:,.0f}",
                    f"{sum(lengths) / wall:,.0f}",
                    f"{medians[OTHER][0] / wall:.2f}×",
                    f"{medians[OTHER][1] / used:.2f}×",
                    f"{least[name]:.5f}",
                ]
                for name, (wall, used) in medians.items()
            ],
            notes=(
                f"{len(lengths)} texts of {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all, "
                f"all-MiniLM-L6-v2, {arguments.device}, {torch.get_num_threads()} threads; medians of "
                f"{arguments.rounds} rounds in turns. Ratios and cosines are those to {OTHER}."
            ),
            data={"seconds": {name: rounds.tolist() for name, rounds in seconds.items()}, "tokens": sum(lengths)},
        )
    )


if __name__ == "__main__":
    main()
