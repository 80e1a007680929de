"""Warnings about texts that a fit can be made of, but hardly a good one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.text.language import warn_of_language

_SAMPLE = 2000  # texts looked at, an even sample
_CHANCE = 0.1  # cosine; where texts and vectors belong together it is 0.3 and more
_ENOUGH = 50  # texts, so that a tenth of them says something
_ALIKE = 0.9  # mean cosine of two vectors; all-MiniLM has 0.05 to 0.3 on English collections, 0.5 on Chinese


def check_prediction(cosine: float | None, held_out_of: int) -> None:
    """Warn where texts that were held out are predicted no better than by chance.

    Args:
        cosine: the mean cosine of what their tokens come to and their vectors; None where none were held out.
        held_out_of: texts that there were.
    """
    if cosine is not None and held_out_of >= _ENOUGH and cosine < _CHANCE:
        warnings.warn(
            f"vectors of texts held out of the fit are hardly foreseen (cosine {cosine:.2f}): check that the vectors "
            "are those of the texts, in the same order",
            stacklevel=3,
        )


def check_texts(texts: Sequence[str], vectors: NDArray[np.float32], tokenizer: Tokenizer) -> None:
    """Warn where the texts look to be in a language that tokenizer or tower do not know.

    Args:
        texts: n texts.
        vectors: theirs, [n, d], unit rows.
        tokenizer: the tower's.
    """
    warn_of_language("the texts", texts[:: -(-len(texts) // _SAMPLE) or 1], tokenizer, stacklevel=3)
    alike = float((np.mean(vectors, axis=0, dtype=np.float64) ** 2).sum())
    if len(texts) > 1 and alike > _ALIKE:
        warnings.warn(
            f"the texts' vectors are nearly the same (mean cosine {alike:.2f}): the model hardly tells these texts "
            "apart, and no table can; check that they are in a language that it knows, and that vectors are the texts'",
            stacklevel=3,
        )
