"""The rule-based sentence splitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.text.sentences import sentence_spans, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t ", []),
        ("No end", ["No end"]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Really?! Yes... No.! Well.", ["Really?!", "Yes...", "No.!", "Well."]),
        (
            "Dr. Smith et al. Found it, cf. Fig. 2. Then he left.",
            ["Dr. Smith et al. Found it, cf. Fig. 2.", "Then he left."],
        ),
        ("It is 3.5 mm, e.g. in Mr. J. R. Tolkien's U.S. edition. See p. 7.", None),
        ('He said ("Go.") It went. 12 came.', ['He said ("Go.")', "It went.", "12 came."]),
        ("“Quoted.” ‘Next.’ Last.", ["“Quoted.”", "‘Next.’", "Last."]),
        (
            "lower case. of text without capitals! has ends too",
            ["lower case.", "of text without capitals!", "has ends too"],
        ),
        ("Cased text goes on after etc. and so. on", ["Cased text goes on after etc. and so. on"]),
        ("今天天气很好。我们出去吧！好吗？“好。”他说", ["今天天气很好。", "我们出去吧！", "好吗？", "“好。”", "他说"]),
        (
            "A wrapped\nline. And\r\nmore\n\nA heading\n\n- an item\n- another",
            ["A wrapped line.", "And more", "A heading", "- an item", "- another"],
        ),
        ("Привет. Мир.", ["Привет.", "Мир."]),
        ("नमस्ते। दुनिया।", ["नमस्ते।", "दुनिया।"]),
    ],
)
def test_cuts(text: str, sentences: list[str] | None) -> None:
    if sentences is None:  # the last sentence alone is cut off
        sentences = [text[: text.index(" See")], "See p. 7."]
    assert split_sentences(text) == sentences


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(" .!?\n\"')。！e.g")), max_size=200))
def test_nothing_is_lost_but_white_space(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == " ".join(sentence.split()) and sentence for sentence in sentences)


def test_long_text_takes_linear_time() -> None:
    text = "Some words here, and more. " * 40_000 + "." * 100_000 + "(" * 100_000
    assert len(split_sentences(text)) >= 40_000
    assert len(split_sentences("e.g. x " * 200_000)) == 1


@given(st.text(alphabet=st.sampled_from("ab A.!?\n\"')。e.g"), max_size=200), st.booleans())
def test_spans_cover_a_paragraph(text: str, cased: bool) -> None:
    spans = list(sentence_spans(text, cased))
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)
