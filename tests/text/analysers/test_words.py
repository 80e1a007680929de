"""Texts into words and terms: what counts as the same word, in which language."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.text.analysers.analyser import CJK, LANGUAGES, Analyser
from lightretriever.text.analysers.words import END, Words, stop_lists, stop_words

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("aB'’ é世界ย한 _-\x1e\u0301iIİ")), max_size=60)


class Everything(set[str]):
    """Has it."""

    def __contains__(self, _: object) -> bool:
        return True


def terms(language: str, text: str) -> list[str]:
    """The terms of a text, stop words left out."""
    words = Words(Analyser(language=language))
    return [term for term in map(words.term, words.split(text)) if term]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("english", "The patients' studies, and a STUDY of running", "patient studi studi run"),
        ("en", "naïve café-goers don’t", "naiv cafe goer don't"),
        ("french", "L’eau d'été et les eaux", "eau ete eau"),
        ("german", "Die Häuser und das Haus, Straßen", "haus haus strass"),
        ("russian", "Ещё один ёж и йогурты", "один еж йогурт"),
        ("hindi", "हिन्दी में", "हिन्द"),
        ("swedish", "hälsa på bönder", "häls bönd"),
        ("polish", "żółw i ŻÓŁWIA", "zolw zolw"),
        ("arabic", "مِن كِتَاب الكتاب", "كتاب كتاب"),
        ("german", "Donau\u00addampf\u00adschiff", "donaudampfschiff"),
        ("", "Running runs ﬁsh Ｗｉｄｅ snake_case", "running runs fish wide snake case"),
    ],
)
def test_words_of_a_language_that_are_one(language: str, text: str, expected: str) -> None:
    assert " ".join(terms(language, text)) == expected


def test_a_flood_of_accents_takes_no_time() -> None:
    text = "a" + "\u0315\u0301" * 100_000 + " b"
    began = time.process_time()
    assert Words(Analyser()).split(text)[-1] == "b"
    assert time.process_time() - began < 5  # in the order that normal forms want it took minutes


@given(TEXTS)
def test_words_are_found_as_they_stand(text: str) -> None:
    words = Words(Analyser(language="english"))
    found = words.find(text, Everything())
    assert all(0 <= start < end <= len(text) for start, end, _ in found)
    assert [start for start, _, _ in found] == sorted(start for start, _, _ in found)
    plain = "".join(character for character in text if character.isascii() and character != END)
    assert [term for _, _, term in words.find(plain, Everything())] == [words.term(word) for word in words.split(plain)]
    some = {term for _, _, term in found[::2]}
    assert words.find(text, some) == [one for one in found if one[2] in some]


def test_small_letters_of_turkish() -> None:
    split = Words(Analyser(language="turkish")).split
    assert split("IĞDIR İzmir") == ["ığdır", "izmir"]
    assert split("IZGARA ＩＺＧＡＲＡ") == ["ızgara", "ızgara"]
    assert split("I\u0307zmir") == ["izmir"]


def test_scripts_without_spaces_are_pairs_of_characters() -> None:
    words = Words(Analyser(CJK))
    assert words.split("東京タワー Tokyo 猫") == ["東京", "京タ", "タワ", "ワー", "tokyo", "猫"]
    assert words.split("한국어") == ["한국", "국어"]
    assert [words.term(word) for word in ("東京", "tokyo", "the")] == ["東京", "tokyo", "the"]


def test_a_long_run_of_letters_is_cut() -> None:
    assert Words(Analyser()).term("a" * 10_000) == "a" * 64


@given(TEXTS)
def test_words_have_no_spaces_and_one_term(text: str) -> None:
    words = Words(Analyser(language="english"))
    for word in words.split(text):
        assert word.split() == [word]
        assert END not in word
        assert len(words.term(word)) <= 64


@given(st.lists(TEXTS, max_size=5), st.sampled_from(["", "english", "turkish"]))
def test_many_texts_have_the_words_of_each(texts: list[str], language: str) -> None:
    words = Words(Analyser(language=language))
    assert words.split_many(texts) == [word for text in texts for word in (*words.split(text), END)]


@given(TEXTS)
def test_the_case_of_ascii_makes_no_difference(text: str) -> None:
    words = Words(Analyser(language="english"))
    plain = "".join(character for character in text if character.isascii())
    assert words.split(plain.upper()) == words.split(plain.lower())


def test_every_language_has_a_stemmer_and_threads_share_the_words() -> None:
    for language in LANGUAGES:
        words = Words(Analyser(language=language))
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(words.term, ["documents"] * 64))) == 1


def test_stop_words_are_of_languages_that_there_are_and_in_small_letters() -> None:
    assert set(stop_lists()) <= set(LANGUAGES.values())
    for language, listed in stop_lists().items():
        split = Words(Analyser(language=language)).split
        assert {word for word in listed if split(word) != [word]} == set(), language
    assert len(stop_words("english")) == 33
    assert stop_words("tamil") == frozenset()


def test_it_goes_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(Words(Analyser(language="english"))))
    assert again.term("studies") == "studi"
