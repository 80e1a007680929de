"""What a fit falls back to where texts say nothing, and how much of the vocabulary they say something about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table import TokenTable
from lightretriever.tables.bags import Bags

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Floats = NDArray[np.float32]
Prior = TokenTable | Floats | str | None

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
            f"{len(bags)} texts are few for this vocabulary: they hold {seen} of its {bags.width} tokens "
            f"({seen / bags.width:.0%}), and about {1 - occurrences:.0%} of the tokens of further text like it "
            "will have the prior's row only; give more text",
            stacklevel=3,
        )
    return Coverage(round(seen / bags.width, 4), round(occurrences, 4))


def prior_name(prior: Prior, tower: DocumentEncoder | None) -> str:
    if prior is None:
        return "zero" if tower is None else "token alone, times idf"
    return prior if isinstance(prior, str) else f"table {prior.hash}" if isinstance(prior, TokenTable) else "array"


def prior_rows(prior: Prior, tower: DocumentEncoder | None, prompt: str, bags: Bags, dim: int) -> Floats:
    """E₀, float32 [V, dim]."""
    if isinstance(prior, str) and prior != "zero":
        raise UsageError(f"prior is {prior!r}: give a table, an array, 'zero', or None")
    if prior is None and tower is not None:
        from lightretriever.tables.cache import token_rows  # torch, only where a tower is at hand

        alone = token_rows(tower, prompt)[: bags.width, :dim]
        idf = np.log((len(bags) + 1.0) / (bags.document_frequency() + 0.5)).clip(min=0.0)
        return alone * idf[:, None].astype(np.float32)
    if prior is None or isinstance(prior, str):
        return np.zeros((bags.width, dim), dtype=np.float32)
    rows = np.array(prior[:], dtype=np.float32)
    if rows.ndim != 2 or len(rows) < bags.width or rows.shape[1] < dim:
        raise MismatchError(
            f"the prior has shape {rows.shape}, the fit needs [{bags.width}, {dim}]: use one of this tower"
        )
    if not np.isfinite(rows).all():
        raise InputError("the prior is not finite: make it again")
    return np.ascontiguousarray(rows[: bags.width, :dim])
