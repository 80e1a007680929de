"""How documents are split into passages."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tokenizers import llama, qwen, unigram, whole_text_bpe, wordpiece
from tokenizers import Tokenizer

from lightretriever.errors import InputError, UsageError
from lightretriever.passages.fields import RESERVED, document_id
from lightretriever.passages.split import (
    Passage,
    PassageOptions,
    passage_documents,
    split,
    split_documents,
)
from lightretriever.text.corpus import MAX_ID_BYTES, Document

TOKENIZERS = {
    "wordpiece": wordpiece,
    "qwen": qwen,
    "llama": llama,
    "unigram": unigram,
    "whole text": whole_text_bpe,
}
PIECES = st.sampled_from(
    [
        *("# Heading\n", "## Deeper #\n", "Title\n===\n", "Less\n---\n", "```\n", "~~~~ python\n", "\n", "\n\n", "\f"),
        *("\r\n", "- item ", "1. ", "A sentence of words. ", "world ", "世界最高峰。", "中文", "e\u0301", "#", "\t"),
        *("👩\u200d👩\u200d👧", "x" * 70, " " * 90),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=60).map("".join), st.text(max_size=300))
SENTENCES = " ".join(f"The mountain number {number} is the highest of the world." for number in range(40))


def length(tokenizer: Tokenizer, passage: Passage) -> int:
    """Tokens of what the tower reads."""
    return len(tokenizer.encode(Document("", passage.text, passage.title).input).ids)


def texts(text: str, **options: int) -> list[str]:
    return [passage.text for passage in split(Document("d", text), wordpiece(), PassageOptions(**options))]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=TEXTS, title=st.sampled_from(["", "Title", "the world " * 30]), tokens=st.sampled_from([16, 24, 64]))
def test_every_character_is_in_a_passage_that_fits(kind: str, text: str, title: str, tokens: int) -> None:
    tokenizer = TOKENIZERS[kind]()
    document = Document("d", text, title)
    passages = split(document, tokenizer, PassageOptions(tokens, overlap=tokens // 4))
    covered = set()
    for passage in passages:
        assert passage.text == text[passage.start : passage.end]
        assert passage.text and passage.text == passage.text.strip()
        assert length(tokenizer, passage) <= tokens or len(passage.text) == 1
        covered |= set(range(passage.start, passage.end))
    assert all(place in covered for place, character in enumerate(text) if not character.isspace())
    starts = [(passage.start, passage.end) for passage in passages]
    assert starts == sorted(set(starts))


@given(st.lists(TEXTS, max_size=4), st.sampled_from([0, 8]))
def test_many_documents_split_as_each_does(bodies: list[str], overlap: int) -> None:
    options = PassageOptions(24, overlap)
    documents = [Document(str(number), text, "World") for number, text in enumerate(bodies)]
    found = list(split_documents(documents, wordpiece(), options))
    assert found == [(document, split(document, wordpiece(), options)) for document in documents]


def test_a_short_document_is_one_passage() -> None:
    text = "# World\n\nIt is a mountain.\n\n## Deep\n\nOf the world.\n\n# Another\n\nNo."
    (passage,) = split(Document("d", f"\n{text}\n", "Title"), wordpiece())
    assert (passage.text, passage.headings, passage.page) == (text, (), None)
    assert split(Document("d", " \n\f"), wordpiece()) == []


def test_headings_end_passages_and_name_them() -> None:
    body = " ".join(["world"] * 30) + "."
    text = f"# A\n{body}\n\nB\n===\n\n## C\n{body}\n\n## D #\n{body}\n\n### E\nshort\n"
    found = split(Document("d", text, "A"), wordpiece(), PassageOptions(64, 0))
    assert [passage.text.split("\n")[0] for passage in found] == ["# A", "B", "## D #"]
    assert [passage.headings for passage in found] == [("A",), ("B",), ("B", "D")]
    assert [passage.title for passage in found] == ["A", "A > B", "A > B > D"]
    plain = split(Document("d", text, "A"), wordpiece(), PassageOptions(64, 0, headings=False))
    assert [replace(passage, title="") for passage in plain] == [replace(passage, title="") for passage in found]
    assert {passage.title for passage in plain} == {"A"}


def test_a_chapter_begins_anew_however_short_the_end_of_the_last_one() -> None:
    body = " ".join(["world"] * 40) + "."
    found = texts(f"# A\n{body}\n## Short\nend\n# B\n{body}\n", tokens=64, overlap=0)
    assert [text[:3] for text in found] == ["# A", "# B"]


def test_code_is_whole_and_holds_no_headings() -> None:
    code = "```sh\n# the world\n\nmountain a b\n```"
    text = f"{SENTENCES[:400]}\n\n{code}\n\n{SENTENCES[:400]}"
    found = split(Document("d", text), wordpiece(), PassageOptions(64, 0))
    assert [code in passage.text for passage in found].count(True) == 1
    assert all(passage.headings == () for passage in found)
    lines = "\n".join(f"mountain of the world {number}" for number in range(50))
    cut = texts(f"```\n{lines}\n```", tokens=32, overlap=0)
    assert len(cut) > 1 and all(part.split("\n")[0] in f"```\n{lines}\n```".split("\n") for part in cut)


@pytest.mark.parametrize(
    "line", ["#hash", "    # indented", "####### seven", "# " + "long " * 50, "- item\n---", "a\nb\n---"]
)
def test_what_is_no_heading(line: str) -> None:
    found = split(Document("d", f"{line}\n{SENTENCES}"), wordpiece(), PassageOptions(64))
    assert all(passage.headings == () for passage in found)


def test_comments_of_source_code_are_no_headings() -> None:
    text = "\n\n".join(f"# step {i}\n" + f"value = compute(value, {i})\n" * 3 for i in range(20))
    code = split(Document("a", text, "a.py", {"type": "code"}), wordpiece(), PassageOptions(256, 8))
    prose = split(Document("a", text, "a.py"), wordpiece(), PassageOptions(256, 8))
    assert not any(passage.headings for passage in code) and all(passage.headings for passage in prose)
    assert all(passage.title == "a.py" and passage.text.startswith("# step") for passage in code)
    assert code[0].start == 0 and code[-1].end == len(text.rstrip())


def test_paragraphs_stay_whole_where_they_fit() -> None:
    paragraphs = [" ".join([word] * 24) for word in ("world", "mountain", "highest", "light")]
    assert texts("\n\n".join(paragraphs), tokens=40, overlap=0) == paragraphs


def test_passages_share_whole_sentences() -> None:
    found = texts(SENTENCES, tokens=64, overlap=20)
    assert len(found) > 3
    for before, after in pairwise(found):
        shared = after[: after.index(".") + 1]
        assert before.endswith(shared) and shared.startswith("The mountain")
        assert before.count(".") > 1
    apart = texts(SENTENCES, tokens=64, overlap=0)
    assert " ".join(apart) == SENTENCES


def test_passages_share_words_of_a_long_sentence() -> None:
    found = texts(" ".join(["mountain of the world"] * 60), tokens=64, overlap=16)
    shared = sum(map(len, found)) - 60 * len("mountain of the world ")
    assert shared > 20 * (len(found) - 1) and len(found) > 3


def test_nothing_is_shared_across_headings() -> None:
    found = split(Document("d", f"# A\n{SENTENCES}\n# B\n{SENTENCES}"), wordpiece(), PassageOptions(64, 20))
    (border,) = (passage for passage in found if passage.text.startswith("# B"))
    assert all(passage.end <= border.start for passage in found if passage.start < border.start)


def test_sizes_are_even() -> None:
    sizes = [
        length(wordpiece(), passage) for passage in split(Document("d", SENTENCES), wordpiece(), PassageOptions(256))
    ]
    assert min(sizes) * 2 > max(sizes)


def test_pages_are_counted_where_there_are_some() -> None:
    found = split(Document("d", f"{SENTENCES}\f\f{SENTENCES}"), wordpiece(), PassageOptions(128, 0))
    pages = [passage.page for passage in found]
    assert pages[0] == 1 and pages[-1] == 3 and pages == sorted(pages)  # type: ignore[type-var]


def test_text_without_spaces_is_cut_between_characters() -> None:
    found = texts("中文世界最高峰" * 100, tokens=64, overlap=0)
    assert "".join(found) == "中文世界最高峰" * 100 and max(map(len, found)) <= 64
    marked = texts("e\u0301" * 400, tokens=16, overlap=0)
    assert all(part[0] == "e" for part in marked)
    assert max(map(len, texts("x" * 5000, tokens=16, overlap=0))) <= 16 * 16


def test_a_long_document_takes_linear_time() -> None:
    hard = ["e.g. x " * 20_000, "word\n" * 30_000, "# a\n" * 30_000, "```\n" * 30_000, "\n" * 1_000_000, "x" * 300_000]
    start = time.process_time()
    for text in hard:
        split(Document("d", text), wordpiece())
    assert time.process_time() - start < 60


def test_titles_and_headings_leave_room() -> None:
    long = " ".join(f"heading{number}" for number in range(20))
    text = f"# {long}\n{SENTENCES}\n## {long}\n{SENTENCES}"
    for passage in split(Document("d", text, "The world"), wordpiece(), PassageOptions(64)):
        assert length(wordpiece(), passage) <= 64 and passage.title.startswith("The world")
        assert len(passage.text) > 60
    (passage,) = split(Document("d", "a", "x" * 3000), llama(), PassageOptions(64))
    assert 0 < len(passage.title) < 64 and passage.title.endswith("…")


def test_a_prompt_is_counted() -> None:
    prompt = "document of the world: "
    options = PassageOptions(32, 4)
    ((_, passages),) = split_documents([Document("d", SENTENCES, "World")], llama(), options, prompt)
    for passage in passages:
        assert len(llama().encode(prompt + Document("", passage.text, passage.title).input).ids) <= 32
    with pytest.raises(UsageError, match="for what the model puts around it"):
        list(split_documents([Document("d", "a")], wordpiece(), options, "world " * 40))


def test_options_are_checked() -> None:
    for wrong in ({"tokens": 5}, {"tokens": -1}, {"tokens": 64, "overlap": 33}, {"overlap": -1}):
        with pytest.raises(UsageError):
            PassageOptions(**wrong)


def test_nothing_is_split_with_0() -> None:
    options = PassageOptions(0)
    document = Document("d#1", f" {SENTENCES}\n", "Title", {"lang": "en"})
    (passage,) = split(document, wordpiece(), options)
    assert (passage.text, passage.start, passage.title) == (document.text, 0, "Title")
    assert passage_documents(document, [passage], options) == [document]


def test_documents_of_passages_say_what_they_are_of() -> None:
    document = Document("d#1", f"# World\n{SENTENCES}\f{SENTENCES}", "Title", {"lang": "en", "page": 7})
    passages = split(document, wordpiece(), PassageOptions(64))
    made = passage_documents(document, passages)
    assert [each.id for each in made] == [f"d#1#{number}" for number in range(len(passages))]
    assert {document_id(each.id) for each in made} == {"d#1"}
    assert [each.text for each in made] == [passage.text for passage in passages]
    assert made[-1].title == "Title > World"
    span = [passages[-1].start, passages[-1].end]
    own = {"_document": "d#1", "_title": "Title", "_span": span, "_headings": ["World"], "_page": 2}
    assert made[-1].metadata == {"lang": "en", "page": 7, **own}
    assert set(own) == set(RESERVED)


def test_a_document_without_text_is_kept_with_its_title() -> None:
    document = Document("d", "", "Title only")
    (made,) = passage_documents(document, split(document, wordpiece()))
    assert (made.id, made.title, made.text, made.metadata["_document"]) == ("d#0", "Title only", "", "d")


def test_what_passages_keep_for_themselves_is_refused() -> None:
    for name in RESERVED:
        with pytest.raises(InputError, match=f"'{name}'"):
            passage_documents(Document("d", "a", metadata={name: 1}), [Passage("a", 0, 1)])
    with pytest.raises(InputError, match="numbers of its passages"):
        passage_documents(Document("d" * MAX_ID_BYTES, "a"), [Passage("a", 0, 1)])
