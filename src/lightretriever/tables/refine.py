"""The fit where documents and their vectors are known: their sentences stand for queries that should find them.

A table fitted to the tower alone repeats the tower's view of a sentence. Which document the sentence is from is known
besides, for free, and is what a search is about. So the document's vector is mixed into the sentence's target, as far
as the sentence singles out its document at all (boilerplate does not); and sentences that the tower was never asked
about join with the document's vector alone. Weights were chosen on development queries, see docs/fitting.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightretriever.tables.bags import Bags, Tokens, join_bags, text_key, unit_rows
from lightretriever.tables.listwise import Lists, make_lists
from lightretriever.tables.strength import Chosen, choose_l2, fit_rows, scale_bags
from lightretriever.text.sentences import split_sentences

Floats = NDArray[np.float32]

_DOCUMENT_WEIGHT = 2.0  # of a document beside a sentence that the tower encoded
_MIXED = 0.7  # of the document's vector in such a sentence's target, at full agreement
_PASSAGE_WEIGHT = 0.2  # of a sentence that has the document's vector alone, at full agreement
_PASSAGES = 40_000  # of these at most, an even sample
_RELAXED = 0.4  # of the λ that was best by cosine: with the passages there is more to fit to
_RIVALS = 8192  # documents that a sentence's own is compared with, at most
_TEMPERATURE = 0.05
_GENERAL = 3.0  # times the λ that is best by cosine on text held out: text of other corpora is further away


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What least squares found, and what is left to do.

    Attributes:
        rows: [V, d].
        l2: λ in the end.
        chosen: how it was chosen.
        bags, targets: what the rows were fitted to in the end, weighted.
        passages: tokens of the texts that joined, the last of these; None where none did.
        lists: how these are to rank the documents, see `fit_lists`; None where there are none.
    """

    rows: Floats
    l2: float
    chosen: Chosen
    bags: Bags
    targets: Floats
    passages: Tokens | None = None
    lists: Lists | None = None


def fit_refined(
    titles: Sequence[str],
    texts: Sequence[str],
    vectors: Floats,
    bags: Bags,
    base: Floats,
    read: Callable[[Sequence[str]], tuple[Tokens, Bags]],
    phrases: int = 0,
) -> Refined:
    """Fit with λ chosen, and with the sentences of the documents among the texts, if there are any.

    Args:
        titles: of the documents, which come first among the texts; "" for none.
        texts: n, distinct.
        vectors: their unit vectors [n, d].
        bags: of the texts, scaled under ``base``.
        base: the prior, [V, d].
        read: makes tokens and unscaled bags of further texts.
        phrases: how many of the last ids are phrases; λ is chosen, and its cosine measured, without them.
    """
    count = len(titles)
    documents = vectors[:count]
    homes = _sentence_homes(titles, texts[:count])
    own = np.array([*range(count), *(homes.get(text, -1) for text in texts[count:])], dtype=np.int64)
    found = np.ones(len(texts), np.float32)  # a document finds itself
    found[count:] = agreement(vectors[count:], own[count:], documents)
    targets, weights = vectors.copy(), np.ones(len(texts), dtype=np.float32)
    rest = count + np.flatnonzero(own[count:] >= 0)  # sentences of documents: they lean towards these
    targets[rest] = unit_rows(vectors[rest] + _MIXED * found[rest, None] * documents[own[rest]])
    if count < len(texts):
        weights[:count] = np.sqrt(_DOCUMENT_WEIGHT)
    bags, targets = bags.scaled(weights), targets * weights[:, None]
    width = len(base) - phrases
    keys = [text_key(text) for text in texts]
    chosen = choose_l2(bags.below(width), targets, base[:width], keys, vectors, count)
    l2, start = chosen.l2, chosen.rows
    if start is not None and phrases:
        start = np.concatenate([start, base[width:]])
    rows, chosen = fit_rows(bags, targets, base, l2, start), replace(chosen, rows=None)  # as large as the table
    if not count:
        return Refined(rows, l2, chosen, bags, targets)

    known, passages = set(texts), None
    fresh = sorted((text for text in homes if text not in known), key=text_key)[:_PASSAGES]
    if fresh:
        (passages, more), places = read(fresh), np.array([homes[text] for text in fresh])
        agreed = agreement(unit_rows(more.multiply(rows)), places, documents)
        weights = np.sqrt(_PASSAGE_WEIGHT) * agreed
        bags = join_bags(bags, scale_bags(more, base).scaled(weights))
        targets = np.concatenate([targets, documents[places] * weights[:, None]])
        vectors, own = np.concatenate([vectors, documents[places]]), np.concatenate([own, places])
        found = np.concatenate([found, agreed])
        l2 *= _RELAXED
        rows = fit_rows(bags, targets, base, l2, rows, tolerance=1e-3)
    return Refined(rows, l2, chosen, bags, targets, passages, make_lists(vectors, documents, own, found))


def fit_general(texts: Sequence[str], targets: Floats, bags: Bags, base: Floats, phrases: int = 0) -> Refined:
    """Fit for corpora that are not among the texts: every text counts the same, none leans towards a document.

    What a sentence gains from its own document is that corpus's own, and costs elsewhere. Held-out texts are of the
    corpora fitted to, so the λ that is best for them, by the cosine, is too weak for others; see docs/fitting.md.
    Arguments as for `fit_refined`.
    """
    width = len(base) - phrases
    keys = [text_key(text) for text in texts]
    chosen = choose_l2(bags.below(width), targets, base[:width], keys, targets, by_ranking=False)
    l2, start = chosen.l2, chosen.rows
    if start is not None:
        l2 *= _GENERAL
        start = np.concatenate([start, base[width:]])
    rows = fit_rows(bags, targets, base, l2, start)
    return Refined(rows, l2, replace(chosen, rows=None), bags, targets)


def agreement(vectors: Floats, places: NDArray[np.int64], documents: Floats) -> Floats:
    """How nearly each unit vector [n, d] finds the document at its place, float32 [n] in 0 … 1.

    1 where no document scores higher, else exp((its score − best score) / 0.05), against all documents [m, d] or an
    even sample of at most 8,192; 0 where the place is -1.
    """
    rivals = documents[:: max(1, -(-len(documents) // _RIVALS))]
    result = np.zeros(len(vectors), dtype=np.float32)
    placed = np.flatnonzero(places >= 0)
    for first in range(0, len(placed), 1024):
        part = placed[first : first + 1024]
        own = np.einsum("nd,nd->n", vectors[part], documents[places[part]])
        best = (vectors[part] @ rivals.T).max(axis=1)
        result[part] = np.exp(np.minimum(own - best, 0) / _TEMPERATURE)
    return result


def _sentence_homes(titles: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """Every distinct sentence and title of the documents, with the first document that holds it."""
    homes: dict[str, int] = {}
    for row, (title, text) in enumerate(zip(titles, texts, strict=True)):
        for sentence in (*split_sentences(title), *split_sentences(text[len(title) :])):
            homes.setdefault(sentence, row)
    return homes
