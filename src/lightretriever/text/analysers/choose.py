"""The analyser that fits a corpus, by its script and its commonest words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from lightretriever.text.analysers.analyser import CJK, Analyser
from lightretriever.text.analysers.words import UNSPACED, Words, stop_lists

_TEXTS, _CHARACTERS = 256, 2_000
_UNSPACED_SHARE = 0.3  # of the letters; a Chinese text that names foreign things has 0.8
_KNOWN_SHARE = 0.05  # of the words are the language's stop words; 0.2 to 0.5 of running text
_PAIRED = re.compile(f"[{UNSPACED}\uac00-\ud7af]")


def choose_analyser(texts: Iterable[str]) -> Analyser:
    """Look at the first texts of a corpus.

    Returns:
        "cjk" where scripts without spaces prevail; else "words" of the language whose stop words are most of the
        words, or of no language where hardly any are.
    """
    sample = [text[:_CHARACTERS] for text in islice(texts, _TEXTS)]
    letters = sum(map(str.isalpha, "".join(sample)))
    if sum(len(_PAIRED.findall(text)) for text in sample) > _UNSPACED_SHARE * letters:
        return Analyser(CJK)
    split = Words(Analyser()).split
    words = [word for text in sample for word in split(text) if len(word) > 1]  # letters alone are names of anything
    shares = {language: sum(map(listed.__contains__, words)) for language, listed in stop_lists().items()}
    best = max(shares, key=lambda language: shares[language])
    return Analyser(language=best if shares[best] > _KNOWN_SHARE * len(words) else "")
