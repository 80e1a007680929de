"""What each token adds to a text for a model: fitted to texts made of its vocabulary, since there are no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.progress import Progress
from lightretriever.tables.bags import make_bags, tokenise, unit_rows
from lightretriever.tables.made_texts import made_texts
from lightretriever.tables.prior import inverse_frequency, turn
from lightretriever.tables.refine import fit_general
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
    limit = max(1, tower.max_length - tokenizer.num_special_tokens_to_add(False))
    bags = make_bags(tokenise(texts, tokenizer, limit), id_count(tokenizer), tower.skip_ids)
    if not len(bags.ids):  # no token of the vocabulary is a word
        return alone
    base = turn(alone[: bags.width] * np.sqrt(inverse_frequency(bags))[:, None], bags, targets)
    return fit_general(texts, targets, scale_bags(bags, base), base).rows
