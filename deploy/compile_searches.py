"""Compiles what searches run, so that a container's first start does not: a small made index, searched in every way."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from lightretriever import Encoded, Index, QueryEncoder, TokenTable
from lightretriever.serving.app import create_app
from lightretriever.serving.settings import ServeOptions

DOCUMENTS, DIM = 6_000, 384  # enough for a graph
MANY = 300  # queries that are encoded and searched as a batch


def main() -> None:
    """Make it, search it, serve it, throw it away."""
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(500)]
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{word: i + 1 for i, word in enumerate(words)}}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = rng.normal(size=(len(words) + 1, DIM)).astype(np.float32)
    texts = [" ".join(rng.choice(words, 20)) for _ in range(DOCUMENTS)]
    dense = rng.normal(size=(DOCUMENTS, DIM)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.index"
        for dtype in ("float32", "float16", "int8"):
            QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="made", dtype=dtype)).encode(texts[:MANY])
        with Index.create(path, QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="made")), "bm25") as index:
            payloads = [{"text": text, "metadata": {"even": i % 2 == 0}} for i, text in enumerate(texts)]
            index.add([str(i) for i in range(DOCUMENTS)], Encoded(dense), payloads)
            index.optimise()
            index.add(["new"], Encoded(dense[:1]), payloads[:1])  # which is in no segment
            for mode in ("hybrid", "dense", "sparse"):
                for conditions in (None, {"even": True}):
                    index.search(texts[0], 10, mode, conditions)
                    index.search_many(texts[:MANY], 100, mode, conditions)
        create_app(ServeOptions(path))


if __name__ == "__main__":
    main()
