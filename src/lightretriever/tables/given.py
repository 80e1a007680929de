"""What a table is fitted to: a tower and texts, documents with their vectors, or both, in whatever form they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.tables.at_hand import Begin
from lightretriever.tables.bags import unit_rows
from lightretriever.tables.prior import Floats
from lightretriever.tables.samples import (
    Samples,
    Vectors,
    encode_sentences,
    read_vectors,
    token_limit,
    unique_sentences,
)
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import load_tokenizer, tokenizer_hash, without_limits
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Texts = Iterable[str | Mapping[str, object] | Document]
GivenVectors = Vectors | Floats | str | Path | None


@dataclass(frozen=True, eq=False)
class Given:
    """What is the same for every prompt.

    Attributes:
        tower: None where there are vectors alone.
        vectors: as they were given, a path as its folder; None where there is a tower alone.
        tokenizer: the one to make bags with, without truncation and padding.
        documents: those of the vectors.
        sentences: of the texts, for the tower to encode.
        counts: what was read of the texts.
        skip_ids: tokens that are of no bag.
        model, revision: what the table stands for.
        token_limit: tokens of a text that its vector has seen.
    """

    tower: DocumentEncoder | None
    vectors: Vectors | None
    tokenizer: Tokenizer
    documents: Samples | None
    sentences: list[str]
    counts: Mapping[str, int]
    skip_ids: Sequence[int]
    model: str
    revision: str
    token_limit: int

    def prompt(self, asked: str | None) -> str:
        """The instruction inside every row: what was asked for, or else the tower's own."""
        if asked is not None:
            return asked
        return "" if self.tower is None else self.tower.default_prompt

    def samples(self, asked: str | None, cache: str | Path | None, begin: Begin) -> list[Samples]:
        """Documents, and sentences with the vectors that they have under a prompt."""
        samples = [] if self.documents is None else [self.documents]
        if self.tower is not None:
            show = begin("encoding for the fit", "sentences") if self.sentences else None
            prompt = self.prompt(asked)
            samples.append(encode_sentences(self.tower, self.sentences, self.counts, prompt, cache, show))
        return samples


def read_given(
    tower: DocumentEncoder | None,
    texts: Texts,
    vectors: GivenVectors,
    tokenizer: Tokenizer | str | Path | None,
    max_sentences: int,
) -> Given:
    """Read what a fit is given; see `fit_table`.

    Raises:
        UsageError: neither a tower nor vectors, texts without a tower, no tokenizer.
        MismatchError: a tokenizer, or vectors, of another model than the tower.
        InputError: vectors that are no numbers.
    """
    if tower is None and vectors is None:
        raise UsageError("nothing to fit to: give a tower and texts, or vectors of documents encoded before")
    texts, vectors = _inputs(texts, vectors)
    tokenizer = _tokenizer(tower, tokenizer, vectors)
    model, revision = _provenance(tower, vectors)
    documents = read_vectors(vectors) if vectors is not None else None
    sentences, counts = unique_sentences(texts, max_sentences) if tower is not None else ([], {})
    if tower is None and next(iter(texts), None) is not None:
        raise UsageError("texts are encoded by the tower: give one, or give vectors=(texts, array) instead")
    skip_ids = tower.skip_ids if tower is not None else vectors.skip_ids if isinstance(vectors, VectorsFolder) else ()
    limit = token_limit(tower, vectors, tokenizer)
    return Given(tower, vectors, tokenizer, documents, sentences, counts, skip_ids, model, revision, limit)


def _inputs(
    texts: Iterable[str | Mapping[str, object] | Document], vectors: Vectors | Floats | str | Path | None
) -> tuple[Iterable[str | Mapping[str, object] | Document], Vectors | None]:
    """Texts to encode, and documents with their vectors, whatever form they came in."""
    if isinstance(texts, str | Mapping | Document):
        texts = [texts]
    if isinstance(vectors, np.ndarray):
        return (), (texts, vectors)
    if isinstance(vectors, str | Path):
        return texts, VectorsFolder.open(vectors)
    if isinstance(vectors, list) and len(vectors) == 2:
        return texts, (vectors[0], vectors[1])
    if vectors is None or isinstance(vectors, VectorsFolder) or (isinstance(vectors, tuple) and len(vectors) == 2):
        return texts, vectors
    raise UsageError(f"vectors is a {type(vectors).__name__}: give a vectors folder, or texts and an array [n, d]")


def _tokenizer(
    tower: DocumentEncoder | None, tokenizer: Tokenizer | str | Path | None, vectors: Vectors | None
) -> Tokenizer:
    """A copy, without truncation and padding, of the tokenizer to make bags with."""
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    if tower is not None:
        if tokenizer is not None and tokenizer_hash(tokenizer) != tokenizer_hash(tower.tokenizer):
            raise MismatchError("the tokenizer given is not the tower's: leave tokenizer out")
        tokenizer = tower.tokenizer
    elif tokenizer is None and vectors is not None and not isinstance(vectors, tuple):
        tokenizer = vectors.tokenizer
    if tokenizer is None:
        raise UsageError(
            "without a tower a tokenizer is needed: tokenizer=load_tokenizer('tokenizer.json'), or packaged_tokenizer()"
        )
    return without_limits(tokenizer)


def _provenance(tower: DocumentEncoder | None, vectors: Vectors | None) -> tuple[str, str]:
    """Model and revision that the table stands for; refuses vectors of another model than the tower."""
    folder = None if vectors is None or isinstance(vectors, tuple) else vectors
    if tower is None:
        return ("", "") if folder is None else (folder.model, folder.revision)
    if folder is not None and folder.revision and tower.revision and folder.revision != tower.revision:
        raise MismatchError(
            f"the vectors are of {folder.model} ({folder.revision}), the tower is {tower.name} ({tower.revision}): "
            "encode the documents again, or fit without the tower"
        )
    return tower.name, tower.revision


def join(samples: Sequence[Samples], dim: int | None, cut: bool) -> tuple[list[str], Floats]:
    """Texts and unit targets of all samples, documents first; with ``cut`` their first ``dim`` dimensions.

    Of equal texts the first stays.

    Raises:
        InputError: there are none.
        MismatchError: they differ in dimension.
        UsageError: they have fewer than ``dim``.
    """
    samples = [part for part in samples if len(part)]
    if not samples:
        raise InputError("nothing to fit to: no text is left that is not empty and has a vector")
    dims = {part.vectors.shape[1] for part in samples}
    if len(dims) > 1:
        raise MismatchError(f"the tower and the vectors differ in dimension {sorted(dims)}: use vectors of this tower")
    full = dims.pop()
    if dim is not None and not 1 <= dim <= full:
        raise UsageError(f"dim is {dim}, the vectors have {full} dimensions: choose 1 to {full}")
    place: dict[str, int] = {}
    texts = [text for part in samples for text in part.texts]
    for row, text in enumerate(texts):
        place.setdefault(text, row)
    rows = np.fromiter(place.values(), dtype=np.int64)
    return list(place), unit_rows(np.concatenate([part.vectors[:, : dim if cut else full] for part in samples])[rows])
