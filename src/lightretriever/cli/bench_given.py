"""What ``bench`` measures with: full models, real passages with their vectors, a table."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightretriever.bench.encoding import Rate
from lightretriever.bench.made import Real, read_real
from lightretriever.bench.shape import SHAPES, random_tower
from lightretriever.cli.console import progress
from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document, read_corpus

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

FITTED, STRENGTH = 10_000, 2.0  # passages that a table is fitted to, and how strongly it is held to zero
READ = 200_000  # documents of a corpus that passages are drawn from


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run of ``bench`` is to measure; see the verb's options."""

    model: str
    table: Path | None
    vectors: tuple[Path, ...]
    corpus: Path | None
    encode: int
    queries: tuple[Path, ...]
    log: tuple[Path, ...]
    sizes: tuple[int, ...]
    shape: str | None
    device: str
    dtype: str
    turns: int
    command: str


def check_shape(shape: str | None) -> None:
    """Raises UsageError for a shape that there is not, before anything heavy is loaded."""
    if shape is not None and shape not in SHAPES:
        raise UsageError(f"--shape {shape}: choose {' or '.join(SHAPES)}")


def _devices(device: str) -> list[str]:
    """The processor, and the accelerator where there is one, unless a device is named."""
    from lightretriever.document.device import pick_device

    best = pick_device(device).type
    return ["cpu", best] if device == "auto" and best != "cpu" else ["cpu" if device == "auto" else device]


def load_towers(asked: Asked) -> dict[str, DocumentEncoder]:
    """The full model on every device, by name."""
    from lightretriever.document.encoder import DocumentEncoder

    found = {}
    for device in _devices(asked.device):
        tower = DocumentEncoder.load(asked.model, device=device, dtype=asked.dtype, sparse="none")
        found[tower.name if device == "cpu" else f"{tower.name} on {device}"] = tower
    return found


def random_towers(asked: Asked, table: TokenTable) -> dict[str, DocumentEncoder]:
    """Models of the shape asked for, with random weights, on every device; none where none is asked for."""
    if asked.shape is None:
        return {}
    name, shape = f"{asked.shape} shape", SHAPES[asked.shape]
    found = {}
    for device in _devices(asked.device):
        tower = random_tower(shape, name, table.tokenizer, device, asked.dtype)
        found[name if device == "cpu" else f"{name} on {device}"] = tower
    return found


def describe_tower(name: str, tower: DocumentEncoder) -> str:
    """Name, parameters, precision and threads."""
    import torch

    count = sum(parameter.numel() for parameter in tower.backbone.model.parameters())
    threads = f", {torch.get_num_threads()} threads" if tower.backbone.device.type == "cpu" else ""
    return f"{name} ({count / 1e6:,.0f} million parameters, {tower.dtype}{threads})"


def read_passages(asked: Asked) -> Real | list[Document]:
    """Real passages: with their vectors, or documents that are still to be encoded. No model is needed to read them."""
    return read_real(asked.vectors, max(asked.sizes)) if asked.vectors else _documents(asked.corpus)


def encode_passages(asked: Asked, documents: Real | list[Document], tower: DocumentEncoder) -> tuple[Real, str]:
    """Real passages with their vectors, encoded here if need be, and a sentence about them.

    Raises:
        MismatchError: vectors of another model.
        InputError: too few passages.
    """
    if isinstance(documents, Real):
        if documents.model != tower.name:
            raise MismatchError(f"{asked.vectors[0]} is of {documents.model}, not of {tower.name}: name that as MODEL")
        return documents, f"Passages: {len(documents.texts):,} real ones, encoded before."
    chosen = np.random.default_rng(0).permutation(len(documents))[: asked.encode]
    texts = [documents[i].input for i in chosen]
    with progress("encoding passages", "passages") as show:
        dense = tower.encode(texts, progress=show).dense
    kept = np.flatnonzero(dense.any(axis=1) & np.isfinite(dense).all(axis=1))
    if len(kept) < 2:
        raise InputError(f"{asked.corpus or 'the docstrings'}: {len(kept)} usable passages are not enough")
    dense = dense[kept] / np.linalg.norm(dense[kept], axis=1, keepdims=True)
    of = f"of {asked.corpus.name}" if asked.corpus is not None else "docstrings of Python's standard library"
    real = Real(dense, [texts[i] for i in kept], tower.name, tower.tokenizer)
    return real, f"Passages: {len(kept):,} {of}, encoded here."


def _documents(corpus: Path | None) -> list[Document]:
    if corpus is not None:
        return list(islice(read_corpus(corpus), READ))
    from lightretriever.cli.docstrings import standard_library_docstrings

    return list(standard_library_docstrings())


def load_table(path: Path | None) -> TokenTable | None:
    """The table given, if one is."""
    return None if path is None else TokenTable.load(path)


def make_table(given: TokenTable | None, real: Real, tower: DocumentEncoder) -> tuple[TokenTable, Rate]:
    """The table given, or else one fitted to the passages; and how fast it was fitted, in either case.

    Raises:
        MismatchError: the table given is of another model, or has not the vectors' dimensions.
    """
    from lightretriever.tables.fit import fit_table

    if given is not None and given.model not in ("", tower.name):
        raise MismatchError(f"the table is one of {given.model}, not of {tower.name}: name that as MODEL")
    if given is not None and given.dim != real.dense.shape[1]:
        raise MismatchError(f"the table has {given.dim} dimensions, the passages {real.dense.shape[1]}")
    texts, dense = real.texts[:FITTED], real.dense[:FITTED]
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what the table would be worth: only its speed counts here
        fitted = fit_table(vectors=(texts, dense), tokenizer=tower.tokenizer, l2=STRENGTH)
    taken = time.perf_counter() - begun
    what = f"token table, fitted to {len(texts):,} vectors"
    return fitted if given is None else given, Rate(what, tower.name, len(fitted) / taken, "rows", len(fitted), taken)
