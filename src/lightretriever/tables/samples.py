"""What a table is fitted to: texts with their vectors, from the tower or from documents encoded before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import InputError, MismatchError
from lightretriever.progress import Progress
from lightretriever.tables.bags import text_key
from lightretriever.tables.teacher import encode_cached
from lightretriever.text.corpus import Document, as_document
from lightretriever.text.sentences import split_sentences
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Vectors = VectorsFolder | tuple[Iterable[str | Mapping[str, object] | Document], NDArray[np.floating]]
"""Documents with their vectors: a folder that ``encode`` wrote, or texts and an array [n, d]."""


@dataclass(frozen=True, slots=True)
class Samples:
    """n texts and their unit vectors.

    Attributes:
        texts: distinct, none empty.
        vectors: float32 [n, d], rows of unit length.
        counts: what was read, kept, dropped and why; JSON-able, for the table's provenance.
        titles: of documents, what their texts begin with; "" for none.
    """

    texts: list[str]
    vectors: NDArray[np.float32]
    counts: Mapping[str, int]
    titles: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.texts)


def unique_sentences(
    texts: Iterable[str | Mapping[str, object] | Document], limit: int
) -> tuple[list[str], dict[str, int]]:
    """Distinct sentences (and titles) of texts, streamed, at most ``limit``: those that sort first by `text_key`.

    So the choice depends on the text alone, not on its order. Holds one key of 16 bytes per distinct sentence.
    """
    kept: dict[bytes, str] = {}
    seen: set[bytes] = set()
    read = empty = 0
    bound = b"\xff" * 17
    for value in texts:
        read += 1
        document = as_document(value)
        sentences = [*split_sentences(document.title), *split_sentences(document.text)]
        empty += not sentences
        for sentence in sentences:
            key = text_key(sentence)
            if key not in seen:
                seen.add(key)
                if key < bound:
                    kept[key] = sentence
        if len(kept) > 2 * limit:
            kept = dict(sorted(kept.items())[:limit])
            bound = max(kept)
    chosen = [sentence for _, sentence in sorted(kept.items())[:limit]]
    return chosen, {
        "texts_read": read,
        "texts_empty": empty,
        "sentences": len(seen),
        "sentences_used": len(chosen),
    }


def encode_sentences(
    tower: DocumentEncoder,
    sentences: list[str],
    counts: Mapping[str, int],
    prompt: str,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Samples:
    """What `unique_sentences` gave, with the vectors that the tower gives them as queries (the symmetric vectors)."""
    vectors = encode_cached(tower, sentences, prompt, cache, progress)
    good = np.atleast_1d(np.isfinite(vectors).all(axis=1))
    if not good.all():
        first = sentences[int(np.argmin(good))]
        warnings.warn(
            f"{int((~good).sum())} of {len(sentences)} texts were left out: the model's vector of each holds NaN or "
            f"infinity (first: {first[:60]!r})",
            stacklevel=3,
        )
        sentences, vectors = (
            [text for text, sound in zip(sentences, good.tolist(), strict=True) if sound],
            vectors[good],
        )
        counts = {**counts, "sentences_without_vector": int((~good).sum()), "sentences_used": len(sentences)}
    return Samples(sentences, vectors, counts)


def read_vectors(vectors: Vectors) -> Samples:
    """Documents encoded before, as samples: distinct texts; without text or with a zero vector: dropped and counted.

    Raises:
        MismatchError: not one vector for each text.
        InputError: a vector is not finite, or the vectors are not [n, d]; names the first by index and id.
    """
    texts: list[str] = []
    titles: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    seen: set[bytes] = set()
    read = empty = scaled = 0
    first_scaled = ""
    for names, part_titles, part_texts, block in _parts(vectors):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"vector {read + row} ({names[row]}) is not finite: encode that text again")
        norms = np.linalg.norm(block, axis=1)
        other = (np.abs(norms - 1.0) > 1e-2) & (norms > 0)
        if other.any() and not scaled:
            row = int(np.argmax(other))
            first_scaled = f"vector {read + row} ({names[row]}) has length {norms[row]:.4g}"
        scaled += int(other.sum())
        kept = []
        for row, text in enumerate(part_texts):
            key = text_key(text)
            if not text.strip() or norms[row] == 0:
                empty += 1
            elif key not in seen:
                seen.add(key)
                kept.append(row)
        read += len(part_texts)
        texts.extend(part_texts[row] for row in kept)
        titles.extend(part_titles[row] for row in kept)
        blocks.append(block[kept] / norms[kept, None])
    if scaled:
        warnings.warn(
            f"{scaled} of {read} vectors were not of unit length and were normalised: first, {first_scaled}",
            stacklevel=3,
        )
    counts = {"documents_read": read, "documents_empty": empty, "documents_used": len(texts)}
    return Samples(texts, np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32), counts, titles)


def _parts(
    vectors: Vectors,
) -> Iterable[tuple[list[str], list[str], list[str], NDArray[np.float32]]]:
    """Pieces of the vectors: how errors name each row, titles, texts, and float32 [n, d]."""
    if not isinstance(vectors, tuple):
        for documents, encoded in vectors.parts():
            names = [f"document {document.id!r}" for document in documents]
            titles = [document.title for document in documents]
            yield names, titles, [document.input for document in documents], encoded.dense
        return
    documents = [as_document(text) for text in vectors[0]]
    texts, every_title = [document.input for document in documents], [document.title for document in documents]
    array = np.asarray(vectors[1])
    if array.ndim != 2:
        raise InputError(f"the vectors have shape {array.shape}: an array [texts, dimension] is needed")
    if len(array) != len(texts):
        raise MismatchError(
            f"{len(texts)} texts, {len(array)} vectors: one vector for each text is needed, in the same order"
        )
    for start in range(0, len(texts), 65536):
        piece = slice(start, start + 65536)
        block = array[piece].astype(np.float32)
        yield [f"text {start + row}" for row in range(len(block))], every_title[piece], texts[piece], block


def token_limit(tower: DocumentEncoder | None, vectors: Vectors | None, tokenizer: Tokenizer) -> int:
    """Tokens of a text that its vector has seen: the limit of the tower, or of the vectors where theirs was shorter,
    less the special tokens."""
    settings: Mapping[str, object] = {} if vectors is None or isinstance(vectors, tuple) else vectors.settings
    limits = [settings.get("max_length"), tower.max_length if tower is not None else None]
    limit = min((limit for limit in limits if isinstance(limit, int)), default=512)
    return max(1, limit - tokenizer.num_special_tokens_to_add(False))
