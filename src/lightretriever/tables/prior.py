"""What a fit falls back to where texts say nothing, and how much of the vocabulary they say something about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table import TokenTable
from lightretriever.tables.bags import Bags, unit_rows

Floats = NDArray[np.float32]
Prior = TokenTable | Floats | str | None

PRIORS = ("model", "zero")
"""Those that have names."""
MODEL = "model"
"""What the provenance of a table says, where its prior is what the model makes of each token."""
_WELL_COVERED = 0.97


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of ids of the vocabulary, and of the tokens of further text, that the texts hold."""

    vocabulary: float
    occurrences: float


def measure_coverage(bags: Bags) -> Coverage:
    """Shares of the vocabulary that occurs, and of new text's tokens expected to (Good–Turing); warns if low.

    I. J. Good, "The population frequencies of species and the estimation of population parameters", 1953: the
    chance that the next observation is of an unseen species is the number of species seen once over all observations.
    """
    frequency = bags.document_frequency()
    seen = int((frequency > 0).sum())
    occurrences = 1.0 - float((frequency == 1).sum() / max(frequency.sum(), 1))
    if occurrences < _WELL_COVERED:
        warnings.warn(
            f"{len(bags)} texts are few for this vocabulary: they hold {seen:,} of its {bags.width:,} tokens "
            f"({seen / bags.width:.0%}), and about {1 - occurrences:.0%} of the tokens of further text like it "
            "will be none of these; give more text",
            stacklevel=3,
        )
    return Coverage(round(seen / bags.width, 4), round(occurrences, 4))


def check_prior(prior: Prior) -> None:
    """Raises UsageError for a name that no prior has."""
    if isinstance(prior, str) and prior not in PRIORS:
        raise UsageError(f"prior is {prior!r}: give a table, an array, 'model', 'zero', or None")


def asks_model(prior: Prior) -> bool:
    """Whether it is what the model makes of each token, where there is a model."""
    return prior is None or (isinstance(prior, str) and prior == "model")


def prior_name(prior: Prior, of_model: Floats | None) -> str:
    """What the table's provenance calls the prior."""
    if of_model is not None:
        return MODEL
    if prior is None or isinstance(prior, str):
        return "zero"
    return f"table {prior.hash}" if isinstance(prior, TokenTable) else "array"


def prior_rows(prior: Prior, of_model: Floats | None, bags: Bags, targets: Floats, tokenizer: str) -> Floats:
    """E₀, float32 [V, d].

    Args:
        prior: the caller's; a name, or None, where it is the model's, or zero.
        of_model: [≥ V, ≥ d], what the model's tokens add to texts; None where that is not the prior.
        bags: of the texts.
        targets: the texts' unit vectors [n, d].
        tokenizer: its hash.

    Raises:
        MismatchError: rows of another shape, or of another tokenizer.
        InputError: rows that are not finite.
    """
    dim = targets.shape[1]
    if of_model is not None:
        if len(of_model) < bags.width or of_model.shape[1] < dim:
            shape = of_model.shape
            raise MismatchError(f"the model's token rows have shape {shape}, the fit needs [{bags.width}, {dim}]")
        return np.ascontiguousarray(of_model[: bags.width, :dim])
    if prior is None or isinstance(prior, str):
        return np.zeros((bags.width, dim), dtype=np.float32)
    if isinstance(prior, TokenTable) and prior.rotation is not None:
        raise MismatchError("the prior was turned to axes of its own: give the table that it was made from")
    if isinstance(prior, TokenTable) and prior.tokenizer_hash != tokenizer:
        raise MismatchError("the prior has another tokenizer than the fit: its rows stand for other tokens")
    rows = np.array(prior[:], dtype=np.float32)
    if rows.ndim != 2 or len(rows) < bags.width or rows.shape[1] < dim:
        raise MismatchError(
            f"the prior has shape {rows.shape}, the fit needs [{bags.width}, {dim}]: use one of this tower"
        )
    if not np.isfinite(rows).all():
        raise InputError("the prior is not finite: make it again")
    return np.ascontiguousarray(rows[: bags.width, :dim])


def inverse_frequency(bags: Bags) -> Floats:
    """ln((n + 1) / (df + ½)) of each id [width], not below 0."""
    return np.log((len(bags) + 1.0) / (bags.document_frequency() + 0.5)).clip(min=0.0).astype(np.float32)


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
