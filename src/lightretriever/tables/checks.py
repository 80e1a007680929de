"""Warnings about texts that a fit can be made of, but hardly a good one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.text.tokenizer import encode_batch

_SAMPLE = 2000  # texts looked at, an even sample
_UNKNOWN = 0.1  # share of tokens; English under an English WordPiece has 0, Chinese 0.61
_PIECES = 3.5  # tokens a word; English under an English vocabulary has 1.3, Russian 6
_LONGEST = 12.0  # characters a word: texts of longer ones do not put spaces between words
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
    sample = texts[:: -(-len(texts) // _SAMPLE) or 1]
    unknown, pieces, longest = _share_of_unknown(sample, tokenizer)
    if unknown > _UNKNOWN:
        warnings.warn(
            f"{unknown:.0%} of the texts' tokens are unknown to the tokenizer: they seem to be in a language that the "
            "model does not know; use a model of that language",
            stacklevel=3,
        )
    elif pieces > _PIECES and longest <= _LONGEST:
        warnings.warn(
            f"the texts fall into {pieces:.1f} tokens a word: they seem to be in a language that the model does not "
            "know; use a model of that language",
            stacklevel=3,
        )
    alike = float((np.mean(vectors, axis=0, dtype=np.float64) ** 2).sum())
    if len(texts) > 1 and alike > _ALIKE:
        warnings.warn(
            f"the texts' vectors are nearly the same (mean cosine {alike:.2f}): the model hardly tells these texts "
            "apart, and no table can; check that they are in a language that it knows, and that vectors are the texts'",
            stacklevel=3,
        )


def _share_of_unknown(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[float, float, float]:
    """Share of tokens that are unknown, tokens a word, characters a word; words are what white space parts."""
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    unknown = model.get("unk_id")
    if unknown is None and model.get("unk_token"):
        unknown = tokenizer.token_to_id(model["unk_token"])
    encodings = encode_batch(tokenizer, list(texts))
    tokens = sum(len(encoding.ids) for encoding in encodings)
    strange = sum(encoding.ids.count(unknown) for encoding in encodings) if unknown is not None else 0
    words = [word for text in texts for word in text.split()]
    count = max(len(words), 1)
    return strange / max(tokens, 1), tokens / count, sum(map(len, words)) / count
