"""Analysers by name."""

from __future__ import annotations

import pytest

from lightretriever.errors import UsageError
from lightretriever.text.analysers.analyser import CJK, PIECES, Analyser


def test_a_language_by_its_code_or_name() -> None:
    assert Analyser(language="de") == Analyser(language="german")
    assert str(Analyser(language="de")) == "words (german)"
    assert str(Analyser(CJK)) == "cjk"
    assert Analyser(language="German") == Analyser(language="DE")
    with pytest.raises(UsageError, match="kind and language are strings"):
        Analyser("words", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "language", "said"),
    [
        ("word", "", "the analyser is 'word': choose one of pieces, words, cjk"),
        ("words", "klingon", "the language is 'klingon': choose one of arabic, "),
        (PIECES, "english", "the analyser 'pieces' has no language: leave 'english' out"),
    ],
)
def test_what_there_is_not(kind: str, language: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        Analyser(kind, language)
    assert str(error.value).startswith(said)
