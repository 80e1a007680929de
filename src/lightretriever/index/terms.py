"""Counts the words of documents and queries, under the numbers that an index's database gives their terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from lightretriever.index.store.database import Database
from lightretriever.index.store.terms import add_terms, find_terms
from lightretriever.query.counts import count_few
from lightretriever.query.kernels import count_flat
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.analysers.words import END, Words
from lightretriever.types import SparseVectors

_FEW = 64  # texts that are counted without compiled kernels, which take longer to load
_STOP, _END = 0, -1  # in place of a number
_MOST = 1 << 18  # words that are remembered


class Terms:
    """Of one index, for all threads of a process. What a word's number is, is remembered: it never changes.

    Attributes:
        words: the index's analyser.
    """

    def __init__(self, database: Database, identity: int, analyser: Analyser) -> None:
        """Over the database of the index of that identity; another index that takes its place knows other terms."""
        self.words = Words(analyser)
        self._database = database
        self._identity = identity
        self._numbers: dict[str, int] = {}
        self._file = -1

    def count(self, texts: Sequence[str], once: bool = False) -> SparseVectors:
        """Counts of queries' terms, [n, V], V as many as these need; terms that no document ever had are left out.

        Args:
            texts: n queries.
            once: whether each distinct term counts 1.
        """
        if len(texts) > _FEW:
            return self._count_many(texts, once, store=False)
        rows, numbers = list(map(self.words.split, texts)), self._remembered()
        try:
            found = [[number for number in map(numbers.__getitem__, row) if number] for row in rows]
        except KeyError:
            self._learn(chain.from_iterable(rows), numbers, store=False)
            found = [[number for word in row if (number := numbers.get(word, _STOP))] for row in rows]
        width = 1 + max(map(max, filter(None, found)), default=0)
        return count_few(found, width, once, self._identity)

    def count_new(self, texts: Sequence[str]) -> SparseVectors:
        """Counts of documents' terms, [n, V]; new terms are given numbers, in a transaction of the index's database."""
        return self._count_many(texts, False, store=True)

    def _remembered(self) -> dict[str, int]:
        """Numbers of words; none where they grew too many, or another file, be it a copy, took the database's place."""
        if self._file != self._database.replaced or len(self._numbers) > _MOST:
            self._numbers, self._file = {END: _END}, self._database.replaced
        return self._numbers

    def _count_many(self, texts: Sequence[str], once: bool, store: bool) -> SparseVectors:
        words, numbers = self.words.split_many(texts), self._remembered()
        try:
            found = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
        except KeyError:
            new = self._learn(words, numbers, store)
            each = (number if (number := numbers.get(word)) is not None else new.get(word, _STOP) for word in words)
            found = np.fromiter(each, np.int32, len(words))
        counted = np.concatenate([[0], np.cumsum(found > 0)])
        offsets = np.concatenate([[0], counted[np.flatnonzero(found == _END)]])
        return count_flat(found[found > 0], offsets, 1 + int(found.max(initial=0)), once, self._identity)

    def _learn(self, words: Iterable[str], numbers: dict[str, int], store: bool) -> dict[str, int]:
        """Remember the numbers of words that have one, of stop words too; with ``store`` those that the others get."""
        terms = {word: self.words.term(word) for word in dict.fromkeys(words) if word not in numbers}
        with self._database.reading() as connection:
            found = find_terms(connection, filter(None, terms.values()), self._identity)
        numbers.update((word, found.get(term, _STOP)) for word, term in terms.items() if term in found or not term)
        new = {word: term for word, term in terms.items() if term and term not in found}
        if not store or not new:
            return {}
        with self._database.writing(durable=False) as connection:
            found = add_terms(connection, new.values())  # not remembered yet: the transaction may come to nothing
        return {word: found[term] for word, term in new.items()}
