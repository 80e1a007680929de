"""Why a look-up may fall behind the full model on a query, as far as text, fit and tower show it.

Nothing here proves a cause: a reason is something true of the query that a look-up cannot see, or was never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.tokenizer import encode_batch

Encode = Callable[[list[str]], NDArray[np.float32]]
NEGATIONS = frozenset(
    "no not non none nor neither never without cannot except lack lacks lacking absence fail fails failed unable "
    "nicht kein keine ohne ne pas sans jamais ni nunca sin nessuno senza".split()
)
MARKS = ("token never in the fit's texts", "token in one or two of the fit's texts", "negation")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_RARE = 2  # texts of the fit: a token in no more of them is rare
_SHUFFLES = 3


@dataclass(frozen=True, slots=True)
class Clues:
    """What is known of n queries.

    Attributes:
        texts: n queries.
        order: float32 [n], the full model's mean cosine between a query and its own words in other orders; 1 for
            queries of one word.
        near: float32 [n], cosine of the look-up's vector and the full model's.
    """

    texts: Sequence[str]
    order: NDArray[np.float32]
    near: NDArray[np.float32]


def find_clues(texts: Sequence[str], encoder: QueryEncoder, encode: Encode) -> Clues:
    """Ask the full model about queries and about their words in three other orders.

    Args:
        texts: n queries; 4 · n texts are encoded.
        encoder: the look-up.
        encode: the full model's vectors of texts in the look-up's dimensions, float32 [m, d], unit rows.
    """
    random = np.random.default_rng(0)
    words = [text.split() for text in texts]
    shuffled = [" ".join(random.permutation(own)) for _ in range(_SHUFFLES) for own in words]
    vectors = encode([*texts, *shuffled]).reshape(1 + _SHUFFLES, len(texts), -1)
    order = np.einsum("nd,snd->n", vectors[0], vectors[1:]) / _SHUFFLES
    order[[len(own) < 2 for own in words]] = 1
    near = np.einsum("nd,nd->n", encoder.encode_dense(texts), vectors[0])
    return Clues(texts, order.astype(np.float32), near.astype(np.float32))


def find_marks(text: str, encoder: QueryEncoder, seen: NDArray[np.int64]) -> dict[str, list[str]]:
    """What in a query's own tokens and words a look-up is known to be weak on; see `MARKS`.

    Args:
        text: the query.
        encoder: the look-up.
        seen: int64 [V], how many texts of the fit hold each token.
    """
    ids = list(dict.fromkeys(int(i) for i in encoder.tokenize([text])[0]))
    names = {i: encoder.table.tokenizer.id_to_token(i) or str(i) for i in ids}
    unseen, rare = [names[i] for i in ids if seen[i] == 0], [names[i] for i in ids if 0 < seen[i] <= _RARE]
    found = (unseen, rare, find_negations(text))
    return {mark: tokens for mark, tokens in zip(MARKS, found, strict=True) if tokens}


def find_negations(text: str) -> list[str]:
    """Words of a text that negate, in lower case, each once: English, German, French, Spanish and Italian ones."""
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    return [word for word in dict.fromkeys(words) if word in NEGATIONS or word.endswith("n't")]


def find_reasons(
    text: str, encoder: QueryEncoder, seen: NDArray[np.int64], usual: Clues | None = None, own: Clues | None = None
) -> list[str]:
    """Reasons for one query, the likeliest first; none where nothing stands out.

    Args:
        text: the query.
        encoder: the look-up.
        seen: as for `find_marks`.
        usual: clues of other queries, to compare with.
        own: clues of this one alone.
    """
    reasons = [f"{mark}: {', '.join(tokens)}" for mark, tokens in find_marks(text, encoder, seen).items()]
    if usual is not None and own is not None:
        order = float(np.median(usual.order))
        if own.order[0] < np.quantile(usual.order, 0.25):
            reasons.append(f"word order: {own.order[0]:.2f} to its own words shuffled (usually {order:.2f})")
        near = float(np.median(usual.near))
        if own.near[0] >= near:
            reasons.append(f"no far vector: {own.near[0]:.2f} to the full model's (usually {near:.2f}), a close call")
        elif own.near[0] < np.quantile(usual.near, 0.25) and not reasons:
            reasons.append(f"meaning beyond its tokens: {own.near[0]:.2f} to the full model's (usually {near:.2f})")
    return reasons


def count_texts(encoder: QueryEncoder, texts: Sequence[str]) -> NDArray[np.int64]:
    """How many of the texts hold each token, int64 [V]; each text whole."""
    seen = np.zeros(encoder.vocab_size, dtype=np.int64)
    for first in range(0, len(texts), 4096):
        encodings = encode_batch(encoder.table.tokenizer, texts[first : first + 4096])
        for encoding in encodings:
            seen[np.unique(np.asarray(encoding.ids, dtype=np.int64))] += 1
    return seen
