"""What agents get of hits and documents: never more than was asked for, and never less than there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightretriever.passages.fields import passage_id, with_fields
from lightretriever.serving.mcp.answers import brief, found_passages, hits_text, whole_document
from lightretriever.text.corpus import Document
from lightretriever.types import Hit, Place

WORD = st.text("abcé汉", min_size=1, max_size=12)


@given(st.lists(WORD, min_size=1, max_size=60), st.data())
def test_passages_that_overlap_are_read_as_the_document_they_are_of(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    document = Document("a#b", text, "title", {"kind": "note"})
    rows, start, done = list[Document](), 0, 0
    while done < len(words):
        first = max(done - data.draw(st.integers(0, 2)), start)
        last = data.draw(st.integers(done, min(done + 8, len(words) - 1)))
        at = sum(len(word) + 1 for word in words[:first])
        part = " ".join(words[first : last + 1])
        metadata = with_fields(document, Place(at, at + len(part)))
        rows.append(Document(passage_id("a#b", len(rows)), part, "title", metadata))
        start, done = first, last + 1
    size = data.draw(st.integers(20, 200))
    found, place = "", 0
    for _ in range(len(text) + 1):
        answer = whole_document("a#b", rows, True, place, size)
        assert len(answer.text) <= size and answer.length == len(text) and answer.start == place
        assert (answer.title, answer.metadata) == ("title", {"kind": "note"})
        found += answer.text
        if answer.next is None:
            break
        assert answer.next > place
        place = answer.next
    assert found == text


def test_white_space_between_passages_becomes_a_paragraphs() -> None:
    whole = Document("a", "one\n\n\n\n  two")
    places = [Place(0, 3), Place(9, 12)]
    rows = [
        Document(f"a#{i}", whole.text[place.start : place.end], "", with_fields(whole, place))
        for i, place in enumerate(places)
    ]
    answer = whole_document("a", rows, True, 0, 100)
    assert (answer.text, answer.length, answer.next) == ("one\n\ntwo", 12, None)
    assert whole_document("a", rows, True, 9, 100).text == "two"


def test_a_place_that_is_damaged_loses_no_text() -> None:
    rows = [Document("a#0", "one", "", {"_span": "x"}), Document("a#1", "two", "", {"_span": [5, 1]})]
    assert whole_document("a", rows, True, 0, 100).text == "onetwo"


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.integers(1000, 20_000))
def test_hits_share_the_room_that_there_is(sizes: list[int], size: int) -> None:
    hits = [Hit(f"d{i}", 0.123456789, text="x" * length) for i, length in enumerate(sizes)]
    passages = found_passages(hits, size)
    assert sum(len(passage.text) for passage in passages) <= size
    for passage, length in zip(passages, sizes, strict=True):
        assert passage.shortened == (len(passage.text) < length)
        assert length > size // len(sizes) or length > 2000 or len(passage.text) == length
    assert passages[0].score == 0.1235


def test_long_metadata_and_titles_are_cut() -> None:
    metadata = {"a": 1, "long": "x" * 1000, "b": "y"}
    assert brief(metadata) == {"a": 1, "b": "y", "…": "1 longer fields left out"}
    assert brief({"a": 1}) == {"a": 1}
    (passage,) = found_passages([Hit("d", 1.0, title="t" * 500, metadata=metadata)], 1000)
    assert len(passage.title) == 200
    assert "id: d" in hits_text([passage]) and hits_text([]).startswith("No passage was found")
