"""The analyser that fits a corpus, by its script and its commonest words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice

from lightretriever.text.analysers.analyser import CJK, Analyser
from lightretriever.text.analysers.words import UNSPACED, Words, stop_lists

SAMPLE = 256
"""Texts that are looked at."""
_CHARACTERS = 2_000  # of each
_UNSPACED_SHARE = 0.3  # of the letters; a Chinese text that names foreign things has 0.8
_EVIDENCE = 0.08  # what a language's common words come to, of all words: 0.15 to 0.5 in running text of the language
_LEAD = 1.25  # over the next language
_PAIRED = re.compile(f"[{UNSPACED}\uac00-\ud7af]")
# The list of stop words that English has is short, so that other languages would win by words that are English too.
_ENGLISH = (
    "about after all also any because been before between can could did do does every few first from had has have he "
    "her his how i its just less like made make many may me more most much must my new now off only other our out over "
    "own she should since so some than them those through too under up us very we were what when where which while who "
    "why would you your"
)


def choose_analyser(texts: Iterable[str]) -> Analyser:
    """Look at the first `SAMPLE` texts of a corpus.

    Returns:
        "cjk" where scripts without spaces prevail; else "words" of the language whose common words are clearly more
        than any other's, or of no language where there is none: then nothing is stemmed or left out.
    """
    sample = [text[:_CHARACTERS] for text in islice(texts, SAMPLE)]
    letters = sum(map(str.isalpha, "".join(sample)))
    if sum(len(_PAIRED.findall(text)) for text in sample) > _UNSPACED_SHARE * letters:
        return Analyser(CJK)
    return Analyser(language=_language(sample))


def _language(texts: Iterable[str]) -> str:
    split, evidence = Words(Analyser()).split, _evidence()
    words = Counter(word for text in texts for word in split(text) if len(word) > 1)  # letters alone name anything
    found: dict[str, float] = {}
    for word, count in words.items():
        for language in evidence.get(word, ()):
            share = count / len(evidence[word])  # what many languages have says little of any
            found[language] = found.get(language, 0.0) + share
    (best, most), (_, next_most) = sorted([*found.items(), ("", 0.0), ("", 0.0)], key=lambda one: -one[1])[:2]
    return best if most > _EVIDENCE * words.total() and most > _LEAD * next_most else ""


@cache
def _evidence() -> dict[str, list[str]]:
    """Common words, and the languages that have them."""
    lists = {language: set(words) for language, words in stop_lists().items()}
    lists["english"] |= set(_ENGLISH.split())
    found: dict[str, list[str]] = {}
    for language, listed in lists.items():
        for word in listed:
            found.setdefault(word, []).append(language)
    return found
