"""Rows for phrases: which sequences of tokens get one, what it is fitted to, and how much of it is kept.

A phrase is one more feature of the texts that hold it. Its row in the fit is a correction δ to the sum of its tokens'
rows, with the prior zero, so that a phrase without evidence is its tokens. Afterwards each correction is tried on the
texts it was fitted to, one left out at a time, and shrunk to what the others foretold; see `held_out_shares`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import UsageError
from lightretriever.query.phrases import PhraseTable, build_phrases
from lightretriever.query.quantised import dequantize_rows
from lightretriever.query.table import TokenTable
from lightretriever.tables.bags import Bags
from lightretriever.tables.kernels import try_corrections
from lightretriever.tables.teacher import encode_cached
from lightretriever.text.tokenizer import encode_batch

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Floats = NDArray[np.float32]

WORDS, TOKENS = 3, 8  # of a phrase, at most
_LEAST = 3  # texts that a phrase must be in
_COUNTED = 100_000  # texts that phrases are counted in, at most
_PIECE = 4096
_MIX, _TEXT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd, their bits as if at random


def frequent_phrases(
    texts: Sequence[str], tokenizer: Tokenizer, limit: int, max_tokens: int, skip_ids: Iterable[int] = ()
) -> list[tuple[int, ...]]:
    """Token ids of the sequences of one to three whole words that are in most texts, at least three; longest 8 tokens.

    Sequences of one token are none: those are the table's own rows. Punctuation and skipped ids are in no phrase.

    Args:
        texts: distinct; of more than 100,000 an even sample is counted.
        tokenizer: without truncation.
        limit: phrases wanted; fewer come where there are fewer.
        max_tokens: of each text, from its beginning.
        skip_ids: ids that a query skips.
    """
    skipped = set(skip_ids)
    names = (tokenizer.id_to_token(i) or "" for i in range(max(tokenizer.get_vocab().values(), default=-1) + 1))
    usable = np.array([any(c.isalnum() for c in name) and i not in skipped for i, name in enumerate(names)])
    chosen = texts[:: -(-len(texts) // _COUNTED)] if len(texts) > _COUNTED else texts
    ids, words, text_of = _flat_words(chosen, tokenizer, max_tokens)
    begins = np.ones(len(ids), dtype=bool)
    begins[1:] = (words[1:] != words[:-1]) | (text_of[1:] != text_of[:-1])
    # Running counts, so that any window's are two look-ups: of words begun, of tokens no phrase may hold.
    begun = np.concatenate([[0], np.cumsum(begins)])
    barred = np.concatenate([[0], np.cumsum(~usable[ids] | (words < 0))])
    ended = np.append(begins[1:], True)
    hashes = ids.astype(np.uint64)
    found: list[tuple[int, int, int]] = []  # texts, where it is first, tokens
    for length in range(2, TOKENS + 1):
        starts = np.arange(max(len(ids) - length + 1, 0))
        last = starts + length - 1
        hashes = hashes[: len(starts)] * _MIX + ids[last].astype(np.uint64)
        fits = begins[starts] & ended[last] & (begun[last + 1] - begun[starts] <= WORDS)
        fits &= (barred[last + 1] == barred[starts]) & (text_of[last] == text_of[starts])
        at = starts[fits]
        _, once = np.unique(hashes[at] + text_of[at].astype(np.uint64) * _TEXT, return_index=True)
        _, first, counts = np.unique(hashes[at[once]], return_index=True, return_counts=True)
        kept = counts >= _LEAST
        found += [(int(n), int(i), length) for n, i in zip(counts[kept], at[once[first[kept]]], strict=True)]
    found.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    return [tuple(ids[start : start + length].tolist()) for _, start, length in found[:limit]]


def _flat_words(
    texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Token ids of all texts, each with the number of its word in its text (-1: in none) and with its text's."""
    ids, words, lengths = list[int](), list[int](), list[int]()
    for start in range(0, len(texts), _PIECE):
        for encoding in tokenizer.encode_batch(list(texts[start : start + _PIECE]), add_special_tokens=False):
            kept = encoding.ids[:max_tokens]
            ids += kept
            words += [-1 if word is None else word for word in encoding.word_ids[:max_tokens]]
            lengths.append(len(kept))
    return np.array(ids, np.int32), np.array(words, np.int32), np.repeat(np.arange(len(lengths)), lengths)


def phrase_index(phrases: Sequence[Sequence[int]], width: int) -> PhraseTable:
    """Phrases to be matched, with empty rows. ``width``: V."""
    count = len(phrases)
    return build_phrases(phrases, [], np.zeros((count, 0), np.float32), None, np.ones(count, np.float32), width)


def held_out_shares(bags: Bags, targets: Floats, rows: Floats, l2: float, width: int) -> Floats:
    """How much of each phrase's correction holds on texts that it was not fitted to, float32 [P], 0 … 1.

    With the other rows as they are, the correction that a fit without text s gives is known in closed form:
    δ₋ₛ = ((c + λ)·δ − wₛ·uₛ) / (c − wₛ² + λ), where wₛ is the phrase's weight in s, c = Σ wₛ² and uₛ what is left of
    the text's vector without the phrase. The share is the b that minimises Σₛ ‖uₛ − b·wₛ·δ₋ₛ‖², cut to 0 … 1: 0, and
    the phrase is no better than its tokens, where the other texts foretell nothing.

    Args:
        bags: texts as they were fitted, phrases being ids from ``width`` on.
        targets: their vectors as they were fitted [n, d].
        rows: [V + P, d], what was found.
        l2: λ.
        width: V.
    """
    corrections = np.ascontiguousarray(rows[width:])
    if not len(corrections):
        return np.empty(0, np.float32)
    squares = np.bincount(bags.ids, weights=bags.weights.astype(np.float64) ** 2, minlength=bags.width)[width:]
    agreed, lengths = np.zeros(len(corrections)), np.zeros(len(corrections))
    for first in range(0, len(bags), _PIECE):
        part = bags.take(np.arange(first, min(first + _PIECE, len(bags))))
        rest = (targets[first : first + _PIECE] - part.multiply(rows)).astype(np.float32)
        try_corrections(part.indptr, part.ids, part.weights, rest, corrections, squares, l2, width, agreed, lengths)
    shares = np.divide(agreed, lengths, out=np.zeros_like(agreed), where=lengths > 0)
    return shares.clip(0, 1).astype(np.float32)


def add_corrections(
    table: TokenTable, phrases: Sequence[Sequence[int]], rows: Floats, shares: Floats, least: float = 0.0
) -> TokenTable:
    """The table with a row for each phrase whose share is above ``least``: its tokens' rows and its correction.

    Args:
        rows: [V + P, d], the table's rows and the corrections, each times its share.
        shares: [P].
    """
    width = len(rows) - len(phrases)
    kept = [number for number in range(len(phrases)) if shares[number] > least]
    sums = np.stack([rows[list(phrases[number])].sum(axis=0) for number in kept]) if kept else rows[:0]
    whole = sums + rows[[width + number for number in kept]]
    return table.with_phrases([phrases[number] for number in kept], [], whole, shares[kept])


def frequent_queries(log: Iterable[str], limit: int) -> list[str]:
    """The queries that come most often in a log, at most ``limit``, none of them blank."""
    return [query for query, _ in Counter(query for query in log if query.strip()).most_common(limit)]


def add_queries(
    table: TokenTable,
    tower: DocumentEncoder,
    queries: Sequence[str],
    cache: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> TokenTable:
    """The table with a row for each of the given queries as a whole: the tower's own vector of it.

    Left out are queries longer than the table's ``max_length``, without a token, of a skipped id, and of the same
    tokens as an earlier one. Rows for phrases stay, those of other whole queries do not.

    Args:
        table: of the tower, with its prompt.
        queries: most frequent first.
        cache, progress: see `fit_table`.

    Raises:
        UsageError: the tower's vectors are narrower than the table.
    """
    if tower.dim < table.dim:
        raise UsageError(f"the tower has {tower.dim} dimensions, the table {table.dim}: use the table's own tower")
    places: dict[tuple[int, ...], str] = {}
    for start in range(0, len(queries), _PIECE):
        piece = list(queries[start : start + _PIECE])
        for query, encoding in zip(piece, encode_batch(table.tokenizer, piece), strict=True):
            if 0 < len(encoding.ids) <= table.max_length and not set(table.skip_ids) & set(encoding.ids):
                places.setdefault(tuple(encoding.ids), query)
    vectors = encode_cached(tower, list(places.values()), table.prompt, cache, progress)
    vectors = vectors[:, : table.dim] if table.rotation is None else vectors @ table.rotation
    phrases, rows, shares = list[list[int]](), vectors[:0], np.ones(0, np.float32)
    if table.phrases is not None:
        count = len(table.phrases) - table.phrases.whole
        phrases = [table.phrases.sequence(number) for number in range(count)]
        scales = None if table.phrases.scales is None else table.phrases.scales[:count]
        rows, shares = dequantize_rows(table.phrases.rows[:count], scales), table.phrases.shares[:count]
    shares = np.concatenate([shares, np.ones(len(places), np.float32)])
    return table.with_phrases(phrases, list(places), np.concatenate([rows, vectors]), shares)
