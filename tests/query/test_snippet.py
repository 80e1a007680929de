"""What is shown of a hit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tokenizers import LINES, qwen, wordpiece

from lightretriever import QueryEncoder, TokenTable, fit_table
from lightretriever.errors import UsageError
from lightretriever.query.snippet import LEAST_WIDTH, Snippet, Term, make_terms, query_terms, snippet
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.analysers.words import Words

ALPHABET = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("world  \n.。世界最高e\u0301İß👩\u200d\ufffd\x1b_-"),
)
TEXTS = st.text(ALPHABET, max_size=400)


def show(query: str, text: str, width: int = 200) -> Snippet:
    return snippet(make_terms(query, lambda _: 1.0), text, width)


def marked(query: str, text: str, width: int = 200) -> list[str]:
    found = show(query, text, width)
    return [found.text[start:end] for start, end in found.spans]


@given(st.text(ALPHABET, max_size=40), TEXTS, st.integers(LEAST_WIDTH, 120))
def test_a_snippet_is_of_the_text_and_its_spans_of_the_snippet(query: str, text: str, width: int) -> None:
    found = show(query, text, width)
    assert len(found.text) <= width
    core = found.text if text[found.start :].startswith(found.text) else None
    candidates = [core, found.text[1:], found.text[:-1], found.text[1:-1]]
    assert any(part is not None and text[found.start :].startswith(part) for part in candidates)
    ends = [place for span in found.spans for place in span]
    assert ends == sorted(set(ends)) and all(0 <= place <= len(found.text) for place in ends)
    stems = {term.stem for term in make_terms(query, lambda _: 1.0)}
    for start, end in found.spans:
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in found.text[start:end])
        assert any(lower.startswith(stem) for stem in stems)


@given(st.lists(st.sampled_from(["world", "Highest", "of", "a", "世界", "12"]), min_size=1, max_size=5), TEXTS)
def test_a_word_of_the_query_is_found_wherever_it_stands(words: list[str], text: str) -> None:
    found = show(words[0], f"{text.replace('world', '')} {words[0]} end")
    assert found.spans and any(found.text[start:end].lower().startswith(words[0].lower()) for start, end in found.spans)


@pytest.mark.parametrize(
    ("query", "text", "words"),
    [
        ("How tall is Everest", "EVEREST is tall; everests, tallest", ["EVEREST", "is", "tall", "everests"]),
        ("diagnose symptoms", "Diagnosis of a symptom, symptomatic", ["Diagnosis", "symptom"]),
        ("cars", "a car, cars, care, scar", ["car", "cars"]),
        ("class", "classes and a classic; clasp", ["classes", "classic"]),
        ("2024", "in 2024, 20245", ["2024"]),
        ("b12 c", "B12, b122, C, cc", ["B12", "C"]),
        ("世界最高峰", "中文。世界的最高峰", ["世界", "最高峰"]),
        ("everest 世界", "世界Everest世界", ["世界Everest世界"]),
        ("cafe\u0301", "CAFE\u0301 cafe", ["CAFE\u0301"]),
        ("istanbul", "İstanbul istanbul", ["istanbul"]),
        ("", "no words", []),
        ("?!", "no words?!", []),
    ],
)
def test_which_words_are_marked(query: str, text: str, words: list[str]) -> None:
    assert marked(query, text) == words


def test_the_sentence_with_most_of_the_words_is_shown() -> None:
    filler = "Nothing of it is to be seen anywhere near here, as far as one can tell. " * 4
    text = f"{filler}The mountain is far. {filler}Everest is the highest mountain. {filler}"
    found = show("highest mountain everest", text, 80)
    assert found.text.startswith("Everest is the highest mountain.")
    assert text[found.start :].startswith("Everest")
    assert [found.text[a:b] for a, b in found.spans] == ["Everest", "highest", "mountain"]


def test_long_sentences_are_cut_between_words() -> None:
    text = "one two three " * 30 + "mountain " + "four five six " * 30
    found = show("mountain", text, 60)
    assert found.text[0] == found.text[-1] == "…" and "mountain" in found.text
    assert set(found.text[1:-1].split()) <= set(text.split())
    assert show("absent", text, 60).text.startswith("one two") and show("absent", text, 60).start == 0
    assert show("absent", "short").text == "short"


def test_text_without_spaces_is_cut_anywhere() -> None:
    text = "中文是一种语言，" * 40 + "世界最高峰是珠穆朗玛峰，" + "中文是一种语言，" * 40
    found = show("最高峰", text, 40)
    assert 30 < len(found.text) <= 40
    assert [found.text[a:b] for a, b in found.spans] == ["最高峰"]


def test_a_wrapped_line_is_no_end_of_a_sentence() -> None:
    text = "Filler of no use here. " * 20 + "The first line\nwith the mountain\nand more.\n\n" + "filler " * 60
    assert show("mountain", text, 60).text == "The first line\nwith the mountain\nand more."


def test_control_characters_are_left() -> None:
    assert show("world", "a \x1b[31mworld\x1b[0m").text == "a \x1b[31mworld\x1b[0m"


def test_words_that_say_little_are_not_looked_for() -> None:
    terms = make_terms("the everest", {"the": 0.1, "everest": 3.0}.__getitem__)
    assert [term.stem for term in terms] == ["evere"]
    assert make_terms("World world", lambda _: 1.0) == (Term("world", 5, 8, 1.0),)


def test_weights_come_from_the_table() -> None:
    lines = [*LINES, *("the mountain is of the world" for _ in range(20))]
    vectors = np.random.default_rng(0).normal(size=(len(lines), 8)).astype(np.float32)
    table = fit_table(vectors=(lines, vectors / np.linalg.norm(vectors, axis=1)[:, None]), tokenizer=wordpiece())
    weights = {term.stem: term.weight for term in query_terms(QueryEncoder(table), "mountain everest")}
    assert "mount" not in weights or weights["evere"] > weights["mount"]
    rows = np.ones((qwen().get_vocab_size(), 4), np.float32)
    plain = QueryEncoder(TokenTable.from_rows(rows, qwen(), model="made"))
    assert all(term.weight > 0 for term in query_terms(plain, "everest 世界 a"))


def test_the_analyser_says_which_words_are_one() -> None:
    words = Words(Analyser(language="english"))
    terms = make_terms("studies of the running patients", lambda _: 1.0, words)
    text = "A student studied the study of patients who run, impatiently, in CAFÉS."
    found = snippet(terms, text, analysed=words)
    assert [found.text[a:b] for a, b in found.spans] == ["studied", "study", "patients", "run"]
    marked = snippet(make_terms("cafes", lambda _: 1.0, words), text, analysed=words)
    assert [marked.text[a:b] for a, b in marked.spans] == ["CAFÉS"]
    odd = "The ﬁle foo_bar of the woman’s “wide” ＷＩＤＥ don’t die"
    for query, expected in (
        ("file bar", ["ﬁle", "bar"]),
        ("WIDE women's woman", ["woman’s", "wide", "ＷＩＤＥ"]),
        ("t", []),
    ):
        found = snippet(make_terms(query, lambda _: 1.0, words), odd, analysed=words)
        assert [found.text[a:b] for a, b in found.spans] == expected
    german = Words(Analyser(language="german"))
    found = snippet(make_terms("häuser", lambda _: 1.0, german), "Das Haus der Häuser", analysed=german)
    assert [found.text[a:b] for a, b in found.spans] == ["Haus", "Häuser"]
    assert make_terms("of the", lambda _: 1.0, words) == ()


def test_too_narrow_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 16"):
        show("a", "b", 15)


def test_torch_is_not_needed() -> None:
    code = "import sys, lightretriever.query.snippet; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
