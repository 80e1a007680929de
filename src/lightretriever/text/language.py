"""Whether texts are in a language that a model knows, by what its tokenizer makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from tokenizers import Tokenizer

from lightretriever.text.tokenizer import encode_batch, unknown_id

_UNKNOWN = 0.1  # share of tokens; English under an English WordPiece has 0, Chinese 0.61
_PIECES = 3.5  # tokens a word; English under an English vocabulary has 1.3, Russian 6
_LONGEST = 12.0  # characters a word: texts of longer ones do not put spaces between words


def warn_of_language(what: str, texts: Sequence[str], tokenizer: Tokenizer, stacklevel: int = 2) -> None:
    """Warn where texts look to be in a language that the model of a tokenizer does not know.

    Args:
        what: the texts are, as "the first 200 documents".
        texts: a sample.
        tokenizer: the model's.
        stacklevel: as of `warnings.warn`, from here.
    """
    unknown, pieces, longest = _shares(texts, tokenizer)
    reason = ""
    if unknown > _UNKNOWN:
        reason = f"{unknown:.0%} of the tokens of {what} are unknown to the tokenizer"
    elif pieces > _PIECES and longest <= _LONGEST:
        reason = f"{what} fall into {pieces:.1f} tokens a word"
    if reason:
        warnings.warn(
            f"{reason}: they seem to be in a language that the model does not know; use a model of that language",
            stacklevel=stacklevel + 1,
        )


def _shares(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[float, float, float]:
    """Share of tokens that are unknown, tokens a word, characters a word; words are what white space parts."""
    unknown = unknown_id(tokenizer)
    encodings = encode_batch(tokenizer, list(texts))
    tokens = sum(len(encoding.ids) for encoding in encodings)
    strange = sum(encoding.ids.count(unknown) for encoding in encodings) if unknown is not None else 0
    words = [word for text in texts for word in text.split()]
    count = max(len(words), 1)
    return strange / max(tokens, 1), tokens / count, sum(map(len, words)) / count
