"""Long documents as passages that a tower reads whole: by structure first, then by sentences, then by tokens.

How a document is split:

- A heading ends a passage, unless the passage so far, or the heading's section with all that stands under it, has less
  than a quarter of a passage; and whatever their sizes, a heading of a higher level than the one that the passage began
  under ends it. So "# Chapter 2" is never put after the last lines of chapter 1, and goes with what follows it.
- Within a section, paragraphs, list items and code blocks are put together as long as they fit. One that does not fit
  begins a new passage, if the one before is at least half full, and else is shared out by sentences.
- Source code (metadata ``type`` of ``code``, as our readers say) has no headings: what stands between blank lines is
  kept together.
- What is longer than a passage alone is cut: code and text at lines, then at white space, then between characters.
- A passage begins with the last sentences of the one before, if both are under the same heading: as many whole ones as
  `PassageOptions.overlap` allows, or the last words of one that is longer. Code is not repeated.

Sizes are those of what the tower reads, title and headings included, and are counted again when a passage is whole: the
tokens of its parts may not add up to its own. Only one character that has more tokens than a passage may is longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from lightretriever.errors import InputError, UsageError
from lightretriever.passages.fields import check_metadata, passage_id, with_fields
from lightretriever.passages.options import PassageOptions
from lightretriever.passages.packing import pack
from lightretriever.passages.structure import CODE, Structure, read_structure
from lightretriever.passages.titles import shorten_titles, title_parts
from lightretriever.passages.units import Count, Unit, halves, units_of, weigh
from lightretriever.text.corpus import MAX_ID_BYTES, Document
from lightretriever.text.memo import NONE, ChunkTokenizer, chunk_rule
from lightretriever.types import Place

_WINDOW = 1 << 22  # characters of documents tokenised together
_LEAST_ROOM = 8
TYPE = "type"
"""Metadata that says what a document's file was."""
_TITLE_SHARE = 4  # title and headings take at most a quarter of a passage


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document.

    Attributes:
        text: ``document.text[start:end]``; it begins and ends with no white space.
        start, end: its characters in the document's text.
        headings: those that all of it stands under, from the top.
        page: where it begins, from 1; None where the text has no form feeds.
        title: what the tower reads before the text: the document's title and perhaps the headings, shortened where
            they would take more than a quarter of the passage.
    """

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    title: str = ""


def split(document: Document, tokenizer: Tokenizer, options: PassageOptions | None = None) -> list[Passage]:
    """The passages of one document, in its order; see `split_documents`, which is faster for many."""
    counter = _counter(ChunkTokenizer(tokenizer, NONE))
    return _split_window([document], counter, _Sizes.of(tokenizer, options or PassageOptions(), "", counter))[0]


def split_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, options: PassageOptions | None = None, prompt: str = ""
) -> Iterator[tuple[Document, list[Passage]]]:
    """Documents with their passages, streamed; many are tokenised at once, and time is linear in their length.

    Args:
        tokenizer: the tower's, with its special tokens, without truncation and padding.
        prompt: what the tower puts before every document.

    Returns:
        Each document and its passages: every character of its text that is not white space is in one. None of an empty
        text.

    Raises:
        UsageError: passages so short that the prompt leaves no room.
    """
    options = options or PassageOptions()
    counter = _counter(ChunkTokenizer(tokenizer, chunk_rule(tokenizer) if options.tokens else NONE))
    sizes = _Sizes.of(tokenizer, options, prompt, counter)
    for window in _windows(documents):
        yield from zip(window, _split_window(window, counter, sizes), strict=True)


def passage_documents(
    document: Document, passages: Sequence[Passage], options: PassageOptions | None = None
) -> list[Document]:
    """What is encoded and stored for a document: one for each passage, or the document itself where nothing is split.

    The ids are ``DOCUMENT#0``, ``DOCUMENT#1``, …, also of a single passage, so that all are read alike and a document
    that grows keeps them: what stands before the last ``#`` is the document's, whatever that holds (`document_id`).
    Metadata is the document's with `RESERVED` fields beside. A document without text, which has no passage, is ``#0``
    with its title.

    Raises:
        InputError: the document's metadata has a reserved field, or its id leaves no room for a passage's number.
    """
    if options is not None and not options.tokens:
        return [document]
    check_metadata(document)
    passages = passages or [Passage(document.text, 0, len(document.text), title=document.title)]
    if len(passage_id(document.id, len(passages) - 1).encode()) > MAX_ID_BYTES:
        raise InputError(
            f"document {document.id[:40]!r}…: an id of {MAX_ID_BYTES:,} bytes or nearly so leaves no room for the "
            "numbers of its passages: shorten it"
        )
    return [
        Document(passage_id(document.id, number), passage.text, passage.title, _metadata(document, passage))
        for number, passage in enumerate(passages)
    ]


def split_rows(
    documents: Iterable[Document], tokenizer: Tokenizer, options: PassageOptions | None
) -> Iterator[Document]:
    """What is encoded and stored of a stream of documents: their passages, or themselves where nothing is split."""
    if options is None:
        yield from documents
        return
    for document, passages in split_documents(documents, tokenizer, options):
        yield from passage_documents(document, passages, options)


def _metadata(document: Document, passage: Passage) -> Mapping[str, object]:
    return with_fields(document, Place(passage.start, passage.end, passage.headings, passage.page))


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The options, what goes before every document, and the tokens of it, title and text at most."""

    options: PassageOptions
    prompt: str
    most: int

    @staticmethod
    def of(tokenizer: Tokenizer, options: PassageOptions, prompt: str, count: Count) -> _Sizes:
        most = options.tokens - tokenizer.num_special_tokens_to_add(is_pair=False)
        fixed = options.tokens - most + (count([prompt])[0] if prompt else 0)
        if options.tokens and options.tokens - fixed < _LEAST_ROOM:
            raise UsageError(
                f"a passage of {options.tokens} tokens has {fixed} for what the model puts around it: "
                f"give at least {fixed + _LEAST_ROOM}"
            )
        return _Sizes(options, prompt, most)


def _counter(chunks: ChunkTokenizer) -> Count:
    def count(texts: Sequence[str]) -> list[int]:
        lengths: list[int] = np.diff(chunks.flat_ids(texts)[1]).tolist()
        return lengths

    return count


def _windows(documents: Iterable[Document]) -> Iterator[list[Document]]:
    window: list[Document] = []
    characters = 0
    for document in documents:
        window.append(document)
        characters += len(document.text)
        if characters >= _WINDOW:
            yield window
            window, characters = [], 0
    if window:
        yield window


@dataclass(frozen=True, slots=True)
class _Draft:
    """A document that is being split: titles of its passages by their headings, and the room under each section's."""

    document: Document
    structure: Structure
    titles: Mapping[tuple[str, ...], str]
    rooms: list[int]


def _split_window(documents: Sequence[Document], count: Count, sizes: _Sizes) -> list[list[Passage]]:
    if not sizes.options.tokens:
        return [_whole(document) for document in documents]
    drafts = _drafted(documents, count, sizes)
    texts, overlap = [document.text for document in documents], sizes.options.overlap
    units = [units_of(draft.document.text, draft.structure) for draft in drafts]
    rooms = [[draft.rooms[block.section] for block in draft.structure.blocks] for draft in drafts]
    weighed = weigh(texts, units, rooms, count, overlap)
    packed = [
        list(pack(text, own, draft.structure, draft.rooms, overlap))
        for text, own, draft in zip(texts, weighed, drafts, strict=True)
    ]
    return _fitted(drafts, packed, count, sizes)


def _whole(document: Document) -> list[Passage]:
    text = document.text
    return [Passage(text, 0, len(text), title=document.title)] if text.strip() else []


def _drafted(documents: Sequence[Document], count: Count, sizes: _Sizes) -> list[_Draft]:
    structures = [read_structure(document.text, document.metadata.get(TYPE) == CODE) for document in documents]
    full = [
        [
            title_parts(document.title, section.headings if sizes.options.headings else ())
            for section in structure.sections
        ]
        for document, structure in zip(documents, structures, strict=True)
    ]
    room = sizes.most - (count([sizes.prompt])[0] if sizes.prompt else 0)
    shortened = shorten_titles(set(chain.from_iterable(full)), count, room // _TITLE_SHARE)
    drafts = []
    for document, structure, parts in zip(documents, structures, full, strict=True):
        paths = [section.headings for section in structure.sections]
        titles = {path: shortened[own][0] for path, own in zip(paths, parts, strict=True)}
        drafts.append(_Draft(document, structure, titles, [room - shortened[own][1] for own in parts]))
    return drafts


def _fitted(
    drafts: Sequence[_Draft], packed: Sequence[list[list[Unit]]], count: Count, sizes: _Sizes
) -> list[list[Passage]]:
    """The passages, each counted as the tower reads it; those too long are halved until they are not."""
    known: list[list[tuple[list[Unit], bool]]] = [[(units, False) for units in own] for own in packed]
    while True:
        made = [[_passage(draft, units) for units, _ in own] for draft, own in zip(drafts, known, strict=True)]
        texts = [
            sizes.prompt + Document("", passage.text, passage.title).input
            for own, passages in zip(known, made, strict=True)
            for (_, fits), passage in zip(own, passages, strict=True)
            if not fits
        ]
        if not texts:
            return [_in_order(passages) for passages in made]
        counts = iter(count(texts))
        known = [
            [
                part
                for units, fits in own
                for part in ([(units, True)] if fits or next(counts) <= sizes.most else _halved(draft, units))
            ]
            for draft, own in zip(drafts, known, strict=True)
        ]


def _in_order(passages: Sequence[Passage]) -> list[Passage]:
    """Without those that say nothing new: a half of a passage may be no more than what it repeats."""
    kept: list[Passage] = []
    for passage in passages:
        if not kept or passage.end > kept[-1].end:
            kept.append(passage)
    return sorted(kept, key=lambda passage: (passage.start, passage.end))


def _halved(draft: _Draft, units: list[Unit]) -> list[tuple[list[Unit], bool]]:
    """Two groups of units that may fit; the one character that does not is taken as it is."""
    if len(units) == 1:
        parts = halves(draft.document.text, units[0])
        return [([part], len(parts) == 1) for part in parts]
    half, before, place = sum(unit.weight for unit in units) / 2, 0, 0
    while place < len(units) - 1 and before < half:
        before += units[place].weight
        place += 1
    return [(units[:place], False), (units[place:], False)]


def _passage(draft: _Draft, units: Sequence[Unit]) -> Passage:
    structure = draft.structure
    first = structure.blocks[units[0].block]
    headings = structure.sections[first.section].headings
    for section in {structure.blocks[unit.block].section for unit in units}:
        headings = _common(headings, structure.sections[section].headings)
    start, end = units[0].start, units[-1].end
    page = first.page if structure.paged else None
    return Passage(draft.document.text[start:end], start, end, headings, page, draft.titles[headings])


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]
