"""What encoding documents costs: `DocumentEncoder` beside sentence-transformers on the same model and texts.

Both run in one process, interleaved round by round, on Python's own documentation topics with the `minilm` tower,
after each has warmed up; their vectors are compared. Needs the `dev` extra: `python benchmarks/document_encoding.py`.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from results import Result, report

from lightretriever import DocumentEncoder


def make_texts(n: int) -> list[str]:
    """Paragraphs of Python's documentation topics, longest differences of length included."""
    import pydoc_data.topics

    paragraphs = [
        " ".join(paragraph.split())
        for _, text in sorted(pydoc_data.topics.topics.items())
        for paragraph in text.split("\n\n")
    ]
    return [paragraph for paragraph in paragraphs if len(paragraph) > 80][:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    tower = DocumentEncoder.load("minilm", device=arguments.device, dtype="float32")
    other = SentenceTransformer(str(tower.backbone.folder.path), device=arguments.device)
    texts = make_texts(arguments.texts)
    tokens = sum(len(ids) for ids in tower.tokenize(texts))
    systems = {
        "DocumentEncoder": lambda some: tower.encode(some).dense,
        "sentence-transformers": lambda some: other.encode(some, show_progress_bar=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    vectors: dict[str, np.ndarray] = {}
    for run in systems.values():
        run(texts[:32])
    for _ in range(arguments.rounds):
        for name, run in systems.items():
            start = time.perf_counter()
            vectors[name] = run(texts)
            seconds[name].append(time.perf_counter() - start)
    ours, theirs = vectors.values()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    report(
        Result(
            name="document_encoding",
            header=["system", "tokens a second", "documents a second", "ratio"],
            rows=[
                [
                    name,
                    f"{tokens / time_:,.0f}",
                    f"{len(texts) / time_:,.0f}",
                    f"{medians['sentence-transformers'] / time_:.2f}×",
                ]
                for name, time_ in medians.items()
            ],
            notes=(
                f"{len(texts)} paragraphs of {tokens} tokens, all-MiniLM-L6-v2, float32, {arguments.device}, "
                f"{torch.get_num_threads()} threads; medians of {arguments.rounds} interleaved rounds. "
                f"Largest difference of a number: {float(np.abs(ours - theirs).max()):.1e}."
            ),
            data={"seconds": seconds, "tokens": tokens},
        )
    )


if __name__ == "__main__":
    main()
