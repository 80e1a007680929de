"""Bags of texts, as a fit makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from lightretriever.query.phrases import PhraseTable
from lightretriever.tables.bags import Bags, make_bags, tokenise


def made_bags(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    width: int,
    max_tokens: int,
    skip_ids: Iterable[int] = (),
    phrases: PhraseTable | None = None,
) -> Bags:
    """Texts, tokenised and put into bags."""
    return make_bags(tokenise(texts, tokenizer, max_tokens), width, skip_ids, phrases)
