"""What a fit falls back to where texts say nothing, and how much of the vocabulary they say something about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table import TokenTable
from lightretriever.tables.bags import Bags

Floats = NDArray[np.float32]
Prior = TokenTable | Floats | str | None

MODEL = "model"
"""What the model makes of each token: to ask for it, and in the provenance of a table."""
PRIORS = (MODEL, "zero")
"""Those that have names."""
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
    return prior is None or (isinstance(prior, str) and prior == MODEL)


def prior_name(prior: Prior, of_model: Floats | None) -> str:
    """What the table's provenance calls the prior."""
    if of_model is not None:
        return MODEL
    if prior is None or isinstance(prior, str):
        return "zero"
    return f"table {prior.hash}" if isinstance(prior, TokenTable) else "array"


def prior_rows(prior: Prior, of_model: Floats | None, width: int, dim: int, tokenizer: str) -> Floats:
    """E₀, float32 [V, d].

    Args:
        prior: the caller's; a name, or None, where it is the model's, or zero.
        of_model: [≥ V, ≥ d], what the model's tokens add to texts; None where that is not the prior.
        width, dim: V and d.
        tokenizer: its hash.

    Raises:
        MismatchError: rows of another shape, or of another tokenizer.
        InputError: rows that are not finite.
    """
    if of_model is not None:
        if len(of_model) < width or of_model.shape[1] < dim:
            shape = of_model.shape
            raise MismatchError(f"the model's token rows have shape {shape}, the fit needs [{width}, {dim}]")
        return np.ascontiguousarray(of_model[:width, :dim])
    if prior is None or isinstance(prior, str):
        return np.zeros((width, dim), dtype=np.float32)
    if isinstance(prior, TokenTable) and prior.rotation is not None:
        raise MismatchError("the prior was turned to axes of its own: give the table that it was made from")
    if isinstance(prior, TokenTable) and prior.tokenizer_hash != tokenizer:
        raise MismatchError("the prior has another tokenizer than the fit: its rows stand for other tokens")
    rows = np.array(prior[:], dtype=np.float32)
    if rows.ndim != 2 or len(rows) < width or rows.shape[1] < dim:
        raise MismatchError(f"the prior has shape {rows.shape}, the fit needs [{width}, {dim}]: use one of this tower")
    if not np.isfinite(rows).all():
        raise InputError("the prior is not finite: make it again")
    return np.ascontiguousarray(rows[:width, :dim])
