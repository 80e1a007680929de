"""Texts made of a tokenizer's own vocabulary: company for every token, where nobody gives text to learn from.

What a model makes of a token alone says little of what the token adds to a text. Texts of words at random say more,
though they mean nothing: common words stand in most of them, as in any text, and rare ones beside words like them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.tables.bags import unit_rows
from lightretriever.text.tokenizer import token_texts, writes_without_spaces

Floats = NDArray[np.float32]

TEXTS = 10_000
"""At most; fewer for a small vocabulary."""
_EACH = 2  # texts for each token that begins a word
_WORDS = (4, 24)  # of a text
_LIKE, _EVENLY = 0.5, 0.2  # of the words those like the first one, and those taken evenly; the rest by how common
_COMMON = 5  # added to a token's rank, of which its share is the inverse (Zipf)
_NEAREST = 64  # words that are like another
_PIECE = 0.15  # of the words are followed by a piece that goes on
_TOGETHER = 1024  # rows multiplied at once


@dataclass(frozen=True, slots=True)
class _Script:
    """Tokens of one script, the common ones in front.

    Attributes:
        begin: ids that begin a word.
        go_on: ids of pieces that go on with one.
        space: what stands between words.
    """

    begin: NDArray[np.int64]
    go_on: NDArray[np.int64]
    space: str


def made_texts(tokenizer: Tokenizer, rows: Floats, skip_ids: Iterable[int] = (), seed: int = 0) -> list[str]:
    """Distinct texts, each of one script; the same for the same tokenizer and rows.

    Args:
        tokenizer: its ids are taken to be in the order of how common tokens are, as those of BPE, WordPiece and Unigram
            are, nearly.
        rows: [V, d], of each token by itself: those near each other are alike.
        skip_ids: tokens that are in no text.
    """
    tokens = token_texts(tokenizer)
    rng = np.random.default_rng(seed)
    scripts = _scripts(tokens, set(skip_ids))
    words = sum(len(script.begin) for script in scripts)
    texts: dict[str, None] = {}
    for script in scripts:
        count = -(-min(TEXTS, _EACH * words) * len(script.begin) // words)
        for ids in _made(script, unit_rows(rows[script.begin]), count, rng):
            texts[script.space.join("".join(tokens[i][0] for i in word) for word in ids)] = None
    return list(texts)


def _scripts(tokens: Sequence[tuple[str, bool]], skipped: set[int]) -> list[_Script]:
    """Words by their script; digits, marks and specials are in none, for they are where they are for other reasons."""
    found: dict[str, tuple[list[int], list[int]]] = {}
    for place, (text, begins) in enumerate(tokens):
        if text.isalpha() and place not in skipped:
            name = unicodedata.name(text[0], "").split(" ")[0]
            found.setdefault(name, ([], []))[0 if begins or writes_without_spaces(text[0]) else 1].append(place)
    scripts = []
    for begin, go_on in found.values():
        if begin:
            space = "" if writes_without_spaces(tokens[begin[0]][0][0]) else " "
            # Vocabularies begin with the characters that they are built of, common or not.
            ordered = sorted(begin, key=lambda place: len(tokens[place][0]) == 1)
            scripts.append(_Script(np.array(ordered), np.array(go_on, np.int64), space))
    return scripts


def _made(script: _Script, rows: Floats, count: int, rng: np.random.Generator) -> list[list[list[int]]]:
    """Texts as words of ids."""
    size = len(script.begin)
    common = 1.0 / (np.arange(size) + _COMMON)
    lengths = rng.integers(_WORDS[0], _WORDS[1] + 1, count)
    total = int(lengths.sum())
    drawn = rng.choice(size, total, p=common / common.sum())
    evenly = rng.random(total) < _EVENLY
    drawn[evenly] = np.resize(rng.permutation(size), int(evenly.sum()))
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    seeds, text_of = np.unique(drawn[firsts], return_inverse=True)
    like = _nearest(rows, seeds)
    alike = rng.random(total) < _LIKE
    alike[firsts] = False
    of_text = np.repeat(text_of, lengths)[alike]
    drawn[alike] = like[of_text, rng.integers(0, like.shape[1], len(of_text))]
    ids = script.begin[drawn].tolist()
    go_on = np.full(total, -1)
    if len(script.go_on):
        longer = rng.random(total) < _PIECE
        go_on[longer] = rng.choice(script.go_on, int(longer.sum()))
    words = [[first] if more < 0 else [first, more] for first, more in zip(ids, go_on.tolist(), strict=True)]
    ends = np.cumsum(lengths).tolist()
    return [words[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _nearest(rows: Floats, seeds: NDArray[np.intp]) -> NDArray[np.intp]:
    """Places of the rows nearest to some of them, [len(seeds), k]."""
    k = min(_NEAREST, len(rows))
    found = np.empty((len(seeds), k), np.intp)
    for start in range(0, len(seeds), _TOGETHER):
        scores = rows[seeds[start : start + _TOGETHER]] @ rows.T
        found[start : start + _TOGETHER] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return found
