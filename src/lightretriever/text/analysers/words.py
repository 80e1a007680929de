"""Texts into words and words into terms, as search engines do it: small letters, stems by Snowball, no stop words.

Where a script puts no spaces between words, terms are all pairs of neighbouring characters; one that stands alone is
its own. Accents of Latin and Greek letters are dropped after stemming, for stemmers look at them, except in languages
that count them as letters of their own. What comes out depends on nothing but the text and the analyser.
"""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files

from lightretriever.text.analysers.analyser import Analyser

_SOUTH_ASIAN = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
UNSPACED = _SOUTH_ASIAN + "\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words, for a class of a regular expression."""
_PAIRED = UNSPACED + "\u1100-\u11ff\uac00-\ud7af"  # Korean has spaces, and endings that nobody looks for
_MARKS = (  # that go on with a word, which \w does not say of them
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u0711\u0730-\u074a\u0900-\u0963\u0966-\u0df3"
)
END = "\x1e"
"""Parts texts: ASCII's record separator, which is no part of a word."""
_TOGETHER = 64  # texts that are searched for words at once, where all are ASCII
_RUN = re.compile(f"[{_PAIRED}]+")
_PLAIN = str.maketrans("’ʼ＇", "'''", "\u00ad\u200d\u2060\ufeff")  # of characters that are not seen, too
_FOLDED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "ß": "ss", "æ": "ae", "œ": "oe"})
_SIGNS = re.compile(r"[^\w\s]{33,}")
_REMEMBERED = 1 << 16  # words
_TURKISH = str.maketrans("Iİ", "ıi")
_LONGEST = 64  # characters of a term: what is longer is no word
_ELIDED = frozenset({"catalan", "french", "italian"})  # a word ends at an apostrophe
_UNFOLDED = frozenset({"danish", "estonian", "finnish", "norwegian", "swedish", "turkish"})
_VOWEL_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670]")


class Words:
    """An analyser's words and terms. Threads may share one, and forks."""

    def __init__(self, analyser: Analyser) -> None:
        self.analyser = analyser
        self._ascii, self._any, self._ascii_shown, self._shown = _patterns(joined=analyser.language not in _ELIDED)
        self._stop = stop_words(analyser.language)
        self._turkish = analyser.language == "turkish"
        self._folds = analyser.language not in _UNFOLDED
        self._known: dict[str, str | None] = {}
        self._own = threading.local()  # a stemmer is for one thread

    def __reduce__(self) -> tuple[type[Words], tuple[Analyser]]:
        return type(self), (self.analyser,)

    def split(self, text: str) -> list[str]:
        """The words of a text as they come, in small letters, and its pairs of characters."""
        if not text.isascii():
            text = unicodedata.normalize("NFKC", _SIGNS.sub(_fewer_marks, text))
        elif not self._turkish:
            return self._ascii.findall(text.lower().replace(END, " "))
        if self._turkish:
            text = text.translate(_TURKISH)
        found = self._any.findall(text.lower().translate(_PLAIN))
        return found if _RUN.search(text) is None else [word for run in found for word in _pairs(run)]

    def split_many(self, texts: Sequence[str]) -> list[str]:
        """The words of texts one after the other, with `END` behind each text's."""
        words: list[str] = []
        for start in range(0, len(texts), _TOGETHER):
            some = texts[start : start + _TOGETHER]
            joined = END.join((*some, ""))
            if joined.isascii() and joined.count(END) == len(some) and not self._turkish:
                words += self._ascii.findall(joined.lower())
                continue
            for text in some:
                words += self.split(text)
                words.append(END)
        return words

    def find(self, text: str, wanted: Collection[str]) -> list[tuple[int, int, str]]:
        """Where a text has words that count as wanted terms, and which, in their order. What `split` takes for a word
        is found as it stands in the text, whatever becomes of it; of pairs of characters every one."""
        if len(self._known) > _REMEMBERED:
            self._known = {}
        known, found = self._known, list[tuple[int, int, str]]()
        pattern = self._ascii_shown if text.isascii() else self._shown
        words = set(pattern.findall(text))
        for shown in words.difference(known):
            known[shown] = self._term_of(shown)
        words = {shown for shown in words if (term := known[shown]) is None or term in wanted}
        for match in [match for match in pattern.finditer(text) if match[0] in words] if words else ():
            term = known[match[0]]
            if term is None:
                pairs = ((place, text[place : place + 2]) for place in range(match.start(), match.end() - 1))
                terms = ((place, self._first_term(pair)) for place, pair in pairs)
                found += [(place, place + 2, term) for place, term in terms if term in wanted]
            else:
                found.append((match.start(), match.end(), term))
        return found

    def _term_of(self, shown: str) -> str | None:
        """What a word counts as that is shown so; "" for nothing, None for a run of more than two characters."""
        return None if len(shown) > 2 and _RUN.match(shown) else self._first_term(shown)

    def _first_term(self, shown: str) -> str:
        return next(filter(None, map(self.term, self.split(shown))), "")

    def term(self, word: str) -> str:
        """What a word of `split` counts as; "" for a stop word."""
        if not word.isascii():
            if _RUN.match(word):
                return word
            word = _VOWEL_MARKS.sub("", word)
        if word in self._stop:
            return ""
        if self.analyser.language:
            word = self._stem(word)
        if self._folds and not word.isascii():
            word = _folded(word)
        return word[:_LONGEST]

    def _stem(self, word: str) -> str:
        stemmer = getattr(self._own, "stemmer", None)
        if stemmer is None:
            from Stemmer import Stemmer

            stemmer = self._own.stemmer = Stemmer(self.analyser.language, 0)
        return str(stemmer.stemWord(word))


@cache
def stop_words(language: str) -> frozenset[str]:
    """Words of a language that say nothing of what a text is about; none for a language without a list."""
    return stop_lists().get(language, frozenset())


@cache
def stop_lists() -> dict[str, frozenset[str]]:
    """All lists, by language: of English the 33 words of Lucene's, of others articles, pronouns, prepositions,
    conjunctions and forms of auxiliary verbs."""
    listed = json.loads(files("lightretriever.text.analysers").joinpath("stop_words.json").read_text("utf-8"))
    return {language: frozenset(words.split()) for language, words in listed.items()}


@cache
def _patterns(joined: bool) -> tuple[re.Pattern[str], ...]:
    """Of a word in ASCII text and in any, in small letters; then in such as it stands. ``joined``: an apostrophe goes
    on with it."""
    goes_on, shown = ("(?:'{0}+)*", "(?:['’ʼ＇]{0}+)*") if joined else ("", "")
    letter = f"(?:[^\\W_{_PAIRED}]|[{_MARKS}])"
    seen = f"(?:{letter}|[\u00ad\u200d\u2060\ufeff])"
    return (
        re.compile(f"{END}|[a-z0-9]+" + goes_on.format("[a-z0-9]")),
        re.compile(f"[{_PAIRED}]+|{letter}+" + goes_on.format(letter)),
        re.compile("[A-Za-z0-9]+" + goes_on.format("[A-Za-z0-9]")),
        re.compile(f"[{_PAIRED}]+|{seen}+" + shown.format(seen)),
    )


def _pairs(run: str) -> list[str]:
    if len(run) < 3 or _RUN.match(run) is None:
        return [run]
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _fewer_marks(signs: re.Match[str]) -> str:
    """Of signs one after another that many, without marks that no letter has so many of: to put these in order, as
    normal forms do, takes time that grows with their square."""
    kept, marks = [], 0
    for character in signs[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= 32:
            kept.append(character)
    return "".join(kept)


def _folded(word: str) -> str:
    """Without the accents of Latin and Greek letters."""
    kept, base = [], ""
    for character in unicodedata.normalize("NFD", word.translate(_FOLDED)):
        if not "\u0300" <= character <= "\u036f":
            base = character
        elif base < "\u0400":
            continue
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))
