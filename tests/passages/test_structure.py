"""What is read of a text's structure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.passages.structure import CODE, HEADING, TEXT, read_structure

LINES = st.sampled_from(
    ["# a", "## b ##", "====", "---", "```", "~~~~", "text", "- item", "", " ", "    x", "\f", "| 1 |", "#"]
)
MARKDOWN = """# A
text
more

- one
  goes on
- two
| a | b |
|---|---|
```py
# no heading

x
```
after

Second
------
\fpage two
"""


def test_blocks_of_markdown() -> None:
    found = read_structure(MARKDOWN)
    blocks = [(block.kind, MARKDOWN[block.start : block.end], block.section, block.page) for block in found.blocks]
    assert blocks == [
        (HEADING, "# A", 1, 1),
        (TEXT, "text\nmore", 1, 1),
        (TEXT, "- one\n  goes on", 1, 1),
        (TEXT, "- two", 1, 1),
        (TEXT, "| a | b |", 1, 1),
        (TEXT, "|---|---|", 1, 1),
        (CODE, "```py\n# no heading\n\nx\n```", 1, 1),
        (TEXT, "after", 1, 1),
        (HEADING, "Second\n------", 2, 1),
        (TEXT, "page two", 2, 2),
    ]
    assert [(section.level, section.headings) for section in found.sections] == [
        (0, ()),
        (1, ("A",)),
        (2, ("A", "Second")),
    ]
    assert found.paged and not read_structure("one\n\ntwo").paged


def test_paths_of_headings() -> None:
    found = read_structure("## B\n# A\n### C\n## D\n### E\n# F\n#\n")
    assert [section.headings for section in found.sections] == [
        (), ("B",), ("A",), ("A", "C"), ("A", "D"), ("A", "D", "E"), ("F",), ()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [("# C#", "C#"), ("#\tC #  ", "C"), ("   ### a  b ###", "a b"), ("# #hash", "#hash"), ("# ##", "")],
)
def test_words_of_a_heading(line: str, words: str) -> None:
    assert read_structure(line).sections[1].headings == ((words,) if words else ())


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_ends_of_lines(ends: str) -> None:
    text = MARKDOWN.replace("\n", ends)
    blocks = read_structure(text).blocks
    assert [block.kind for block in blocks] == [block.kind for block in read_structure(MARKDOWN).blocks]


@pytest.mark.parametrize("text", ["```\n# a\n", "~~~\n```\n# a\n~~~", "````\n```\n# a\n````", "  ```\n  # a\n  ```"])
def test_fences_close_with_their_own_kind(text: str) -> None:
    (block,) = read_structure(text).blocks
    assert (block.kind, text[block.start : block.end]) == (CODE, text.strip())


def test_source_code_has_no_headings() -> None:
    text = "# a comment\nimport os\n\ndef f():\n    # another\n    x = 1\n---\n\n    return x\n\f\n```\n"
    found = read_structure(text, code=True)
    assert len(found.sections) == 1
    assert [(block.kind, text[block.start : block.end]) for block in found.blocks] == [
        (CODE, "# a comment\nimport os"),
        (CODE, "def f():\n    # another\n    x = 1\n---"),
        (CODE, "return x"),
        (CODE, "```"),
    ]
    assert [block.page for block in found.blocks] == [1, 1, 1, 2]


@pytest.mark.parametrize("code", [False, True])
@given(text=st.lists(LINES, max_size=40).map("\n".join))
def test_blocks_hold_all_but_white_space(code: bool, text: str) -> None:
    found = read_structure(text, code)
    places = [(block.start, block.end) for block in found.blocks]
    assert places == sorted(places)
    assert "".join("".join(text[start:end].split()) for start, end in places) == "".join(text.split())
    for block in found.blocks:
        assert text[block.start : block.end] == text[block.start : block.end].strip() != ""
    sections = [block.section for block in found.blocks]
    assert sections == sorted(sections) and len(found.sections) - 1 == sum(b.kind == HEADING for b in found.blocks)
