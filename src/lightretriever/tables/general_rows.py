"""What each token adds to a text for a model: fitted to texts made of its vocabulary, since there are no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.progress import Progress
from lightretriever.tables.bags import Bags, make_bags, tokenise, unit_rows
from lightretriever.tables.made_texts import made_texts
from lightretriever.tables.refine import fit_general
from lightretriever.tables.samples import token_limit
from lightretriever.tables.strength import scale_bags
from lightretriever.tables.teacher import encode_cached
from lightretriever.text.tokenizer import id_count, without_limits

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Floats = NDArray[np.float32]


def general_rows(tower: DocumentEncoder, alone: Floats, prompt: str, progress: Progress | None = None) -> Floats:
    """Rows of a table that knows no corpus, float32 [V, d].

    Args:
        tower: encodes the texts that are made.
        alone: [V, d], each token by itself through the tower under this prompt: what rows fall back to.
        progress: called with the texts encoded so far and their number.
    """
    tokenizer = without_limits(tower.tokenizer)
    texts = made_texts(tokenizer, alone, tower.skip_ids)
    vectors = encode_cached(tower, texts, prompt, progress=progress)
    sound = np.flatnonzero(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    texts, targets = [texts[i] for i in sound.tolist()], unit_rows(vectors[sound])
    tokens = tokenise(texts, tokenizer, token_limit(tower, None, tokenizer))
    bags = make_bags(tokens, id_count(tokenizer), tower.skip_ids)
    if not len(bags.ids):  # no token of the vocabulary is a word
        return alone
    base = turn(alone[: bags.width] * np.sqrt(_inverse_frequency(bags))[:, None], bags, targets)
    return fit_general(texts, targets, scale_bags(bags, base), base).rows


def turn(rows: Floats, bags: Bags, targets: Floats) -> Floats:
    """``rows @ W`` with the W [d, d] that minimises Σ_s ‖p(s)·W − f(s)‖² + μ‖W − c·I‖², p(s) the unit prediction under
    rows, c the one number that brings p nearest to f.

    μ is a thousandth of the mean diagonal of Σ p(s)ᵀp(s): it matters only where there are fewer texts than dimensions,
    in the directions that no text has. There rows stay as they are, so that words of new documents keep theirs.
    """
    dim = rows.shape[1]
    gram, right = np.zeros((dim, dim)), np.zeros((dim, dim))
    for first in range(0, len(bags), 4096):
        part = np.arange(first, min(first + 4096, len(bags)))
        predicted = unit_rows(bags.take(part).multiply(rows)).astype(np.float64)
        gram += predicted.T @ predicted
        right += predicted.T @ targets[part]
    diagonal, share = np.diag_indices(dim), max(np.trace(right), 0.0) / max(np.trace(gram), 1e-12)
    strength = max(1e-3 * np.trace(gram) / dim, 1e-12)
    gram[diagonal] += strength
    right[diagonal] += strength * share
    return (rows @ np.linalg.solve(gram, right).astype(np.float32)).astype(np.float32)


def _inverse_frequency(bags: Bags) -> Floats:
    """ln((n + 1) / (df + ½)) of each id [width], not below 0."""
    return np.log((len(bags) + 1.0) / (bags.document_frequency() + 0.5)).clip(min=0.0).astype(np.float32)
