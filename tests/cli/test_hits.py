"""How hits are shown: in lines that fit, with what matched in bold, and nothing in them that steers the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.cli.characters import cells, fold, plain
from lightretriever.cli.hits import format_hit, hit_lines, show_hits
from lightretriever.types import Hit, Place

SCORES = [("dense", "0.592"), ("sparse", "5.09"), ("fused", "0.813")]
SNIPPET = "The highest mountain of the world is Mount Everest. It is 8,848 metres tall, and nobody had climbed it."
MARKS = re.compile(r"\x1b\[[012]m")


def test_a_hit_at_80_columns() -> None:
    place = "guide/setup.md, Install > Linux, page 3"
    assert format_hit(" 1  ", "Everest", place, SNIPPET, [], SCORES, 80, marked=False) == [
        " 1  Everest                                                         dense  0.592",
        "    guide/setup.md, Install > Linux, page 3                        sparse   5.09",
        "    The highest mountain of the world is Mount Everest. It is       fused  0.813",
        "    8,848 metres tall, and nobody had climbed it.",
    ]


def test_what_matched_is_bold_across_lines_and_the_location_dim() -> None:
    start = SNIPPET.index("Mount")
    spans = [(start, start + 13), (SNIPPET.index("8,848"), SNIPPET.index(" metres")), (90, 10_000)]
    lines = format_hit("1  ", "Everest", "here", SNIPPET, spans, SCORES, 80, marked=True)
    plain_lines = format_hit("1  ", "Everest", "here", SNIPPET, [], SCORES, 80, marked=False)
    assert "\x1b[2mhere\x1b[0m" in lines[1]
    assert "\x1b[1mMount\x1b[0m \x1b[1mEverest\x1b[0m. It" in lines[2]
    assert "\x1b[1m8,848\x1b[0m metres" in lines[3]
    assert [MARKS.sub("", line) for line in lines] == plain_lines


@given(
    st.text(max_size=200),
    st.text(max_size=80),
    st.text(max_size=400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=5),
    st.integers(40, 200),
)
def test_no_line_is_wider_than_the_terminal_and_none_steers_it(
    title: str, location: str, snippet: str, spans: list[tuple[int, int]], width: int
) -> None:
    lines = format_hit("1  ", title, location, snippet, spans, SCORES, width, marked=True)
    for line in lines:
        shown = MARKS.sub("", line)
        assert cells(shown) <= width
        assert plain(shown) == shown
    assert len(lines) <= 6


@pytest.mark.parametrize(
    "steering", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x08", "\x7f", "\u202e", "\u2066"]
)
def test_nothing_steers_a_terminal(steering: str) -> None:
    hit = Hit(f"id{steering}", 0.5, f"title {steering}", f"text {steering} more", dense_score=0.5)
    for marked in (False, True):
        shown = MARKS.sub("", show_hits([hit], 80, marked))
        assert steering not in shown
        assert all(letter == "\n" or letter.isprintable() for letter in shown)


def test_what_a_document_lacks_is_made_up_for() -> None:
    hits = [
        Hit("1", 0.9, "", "Text alone."),
        Hit("2", 0.8, "Title", "Text."),
        Hit("csv.reader", 0.7, "csv.reader", "Same."),
        Hit("none", 0.1),
    ]
    shown = [[re.split(r"  +", line.strip())[0] for line in lines] for lines in hit_lines(hits, 80, False)]
    assert shown == [["1", "Text alone."], ["2", "2", "Text."], ["3", "Same."], ["4"]]
    assert "csv.reader" in hit_lines(hits, 80, False)[2][0]
    assert show_hits([], 80, False) == "no hits"


class Everest:
    """Marks one word, as what knows the query's words does."""

    def mark(self, text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        start = text.index("best")
        return text[start - 4 :], ((4, 8),)


def test_the_best_part_and_its_place_come_before_the_beginning() -> None:
    place = Place(18, 33, ("Install", "Linux"), 3)
    hit = Hit("guide/setup.md", 0.5, "Setup", "Not the beginning, the best part.", dense_score=0.5, place=place)
    (lines,) = hit_lines([hit._replace(marker=Everest())], 80, True)
    assert lines[0].startswith("1  Setup  ")
    assert lines[1] == "   \x1b[2mguide/setup.md, Install > Linux, page 3\x1b[0m"
    assert lines[2] == "   the \x1b[1mbest\x1b[0m part."


def test_only_scores_that_are_there_are_shown() -> None:
    (dense,) = hit_lines([Hit("1", 0.5, text="Text.", dense_score=0.5, dense_rank=1)], 80, False)
    assert "dense  0.500" in dense[0]
    assert not any(name in line for line in dense for name in ("sparse", "fused"))
    both, other = hit_lines(
        [Hit("1", 0.9, "", "", {}, 0.5, 1, 12.345, 1), Hit("2", 0.7, "", "", {}, 0.5, 2)], 80, False
    )
    assert [line.split()[-2:] for line in other] == [["dense", "0.500"], ["sparse", "–"], ["fused", "0.700"]]
    assert [line.split()[-2:] for line in both] == [["dense", "0.500"], ["sparse", "12.35"], ["fused", "0.900"]]


def test_a_text_is_folded_between_words_by_what_letters_take() -> None:
    def lines(text: str, width: int, most: int = 9) -> list[str]:
        return [" ".join(text[start:end] for start, end in line) for line in fold(text, width, most)]

    assert lines("one  two\nthree", 8) == ["one two", "three"]
    assert lines("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert lines("富士山の高さ", 5) == ["富士", "山の", "高さ"]
    assert lines("one two three", 5, most=2) == ["one", "two"]
    assert lines("", 5) == []
    assert cells("富士 e\u0301") == 6
