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
ALONE = "token alone"
"""What the provenance of a table begins with, where its prior is the model's view of each token."""
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
    """Whether it is the model's own view of each token, where there is a model."""
    return prior is None or (isinstance(prior, str) and prior == "model")


def prior_name(prior: Prior, alone: Floats | None, plain: bool) -> str:
    """What the table's provenance calls the prior."""
    if alone is not None:
        return f"{ALONE}, times idf" if plain else f"{ALONE}, times the root of idf, turned to the texts"
    if prior is None or isinstance(prior, str):
        return "zero"
    return f"table {prior.hash}" if isinstance(prior, TokenTable) else "array"


def prior_rows(prior: Prior, alone: Floats | None, bags: Bags, targets: Floats, plain: bool, tokenizer: str) -> Floats:
    """E₀, float32 [V, d].

    From each token through the model alone, where that is at hand. ``plain``: times its inverse document frequency, as
    METHOD has it. Else times the root of that, and turned: multiplied by the matrix [d, d] that brings the predictions
    of the texts nearest to their targets. So rows that no text moves, rare words above all, still point where the model
    puts such words in a text.

    Args:
        prior: the caller's; a name, or None, where it is made of ``alone``, or zero.
        alone: [≥ V, ≥ d], the model's rows; None where the prior is not made of them.
        bags: of the texts, unscaled; they give the document frequencies.
        targets: the texts' unit vectors [n, d].
        tokenizer: its hash.
    """
    dim = targets.shape[1]
    if alone is not None:
        if len(alone) < bags.width or alone.shape[1] < dim:
            raise MismatchError(f"the model's token rows have shape {alone.shape}, the fit needs [{bags.width}, {dim}]")
        alone = alone[: bags.width, :dim]
        idf = np.log((len(bags) + 1.0) / (bags.document_frequency() + 0.5)).clip(min=0.0).astype(np.float32)
        return alone * idf[:, None] if plain else turn(alone * np.sqrt(idf)[:, None], bags, targets)
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
