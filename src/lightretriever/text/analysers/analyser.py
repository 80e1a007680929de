"""Which analyser makes terms of texts, and in what language."""

from __future__ import annotations

from dataclasses import dataclass

from lightretriever.errors import UsageError

PIECES, WORDS, CJK = "pieces", "words", "cjk"
KINDS = (PIECES, WORDS, CJK)
LANGUAGES = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Those that have a Snowball stemmer, by their ISO 639-1 codes."""


@dataclass(frozen=True, slots=True)
class Analyser:
    """How texts become terms.

    Attributes:
        kind: "pieces", the tokens of the document model; "words", Unicode words in small letters, stemmed and without
            the stop words of their language, and pairs of characters where a script puts no spaces between words;
            "cjk", likewise, whatever their language.
        language: of "words", its English name or code as in `LANGUAGES`; "" for any: nothing is stemmed or left out.

    Raises:
        UsageError: another kind or language, or a language for a kind that has none.
    """

    kind: str = WORDS
    language: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not isinstance(self.language, str):
            raise UsageError("an analyser's kind and language are strings, as Analyser('words', 'english')")
        if self.kind not in KINDS:
            raise UsageError(f"the analyser is {self.kind!r}: choose one of {', '.join(KINDS)}")
        if self.language and self.kind != WORDS:
            raise UsageError(
                f"the analyser {self.kind!r} has no language: leave {self.language!r} out, or choose words"
            )
        name = LANGUAGES.get(self.language.lower(), self.language.lower())
        if name and name not in LANGUAGES.values():
            raise UsageError(f"the language is {self.language!r}: choose one of {', '.join(LANGUAGES.values())}")
        object.__setattr__(self, "language", name)

    def __str__(self) -> str:
        return f"{self.kind} ({self.language})" if self.language else self.kind
