"""A corpus through a document tower into a vectors folder, by one worker or many, resumable. No torch of its own."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from lightretriever.counted import counted
from lightretriever.errors import InputError, MismatchError
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document, given_document
from lightretriever.text.language import warn_of_language
from lightretriever.types import Encoded
from lightretriever.vectors.folder import VectorsWriter, take_shard
from lightretriever.vectors.parts import usable
from lightretriever.vectors.unusable import name_unusable

_PART = 1024  # documents encoded between two writes, and about so many seconds: what a kill costs at most
_SECONDS = 20.0
_LOOKED_AT, _LOOKED_INTO = 100, 2_000  # documents, and characters of each, that tell of their language
_GROWTH = 8  # of parts until the tower's pace is known; its first batch is slow


class Tower(Protocol):
    """What encoding a corpus asks of a document tower; `DocumentEncoder` is one."""

    name: str
    dim: int
    vocab_size: int
    has_sparse: bool
    max_length: int
    top_k: int | None
    tokenizer: Tokenizer
    skip_ids: tuple[int, ...]

    @property
    def revision(self) -> str: ...

    def encode(self, documents: Sequence[Document], progress: Progress | None = None) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class TowerFacts:
    """What a vectors folder is told of the tower, without the tower itself, which may be on another machine.

    Attributes:
        name, revision, dim, max_length, top_k, skip_ids, tokenizer: the tower's.
        width: V of its sparse vectors, None where it has none.
        origin: see `origin_of`.
    """

    name: str
    revision: str
    dim: int
    width: int | None
    max_length: int
    top_k: int | None
    skip_ids: tuple[int, ...]
    tokenizer: Tokenizer
    origin: Mapping[str, object]


def facts_of(tower: Tower) -> TowerFacts:
    """What a folder is told of a tower that is here."""
    return TowerFacts(
        name=tower.name,
        revision=tower.revision,
        dim=tower.dim,
        width=tower.vocab_size if tower.has_sparse else None,
        max_length=tower.max_length,
        top_k=tower.top_k,
        skip_ids=tower.skip_ids,
        tokenizer=tower.tokenizer,
        origin=origin_of(tower),
    )


def open_writer(facts: TowerFacts, path: str | Path, dtype: str, shard: tuple[int, int] = (1, 1)) -> VectorsWriter:
    """Begin or resume a vectors folder of a tower. Raises as `VectorsWriter.open`."""
    return VectorsWriter.open(
        path,
        model=facts.name,
        revision=facts.revision,
        dim=facts.dim,
        settings={"max_length": facts.max_length, "top_k": facts.top_k, "skip_ids": list(facts.skip_ids)},
        width=facts.width,
        dtype=dtype,
        shard=shard,
        tokenizer=facts.tokenizer,
        origin=facts.origin,
    )


def encode_corpus(
    documents: Iterable[Document],
    tower: Tower,
    path: str | Path,
    *,
    dtype: str = "float16",
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
) -> int:
    """Encode a corpus into a vectors folder; run again after an interruption, it goes on where it was.

    What is encoded is written in parts of 1,024 documents or about 20 seconds' work, whichever is less, and the first
    few smaller, until the tower's pace is known; each while the next is encoded. So parts differ in size from run to
    run; documents do not, nor their vectors but for the rounding that a batch of other texts brings. Documents whose
    vectors are not finite are warned of by their ids, and get the zero row, which no dense search finds. Where the
    first ones seem to be in a language that the tower does not know, a warning says so before they are encoded.

    Args:
        documents: the whole corpus, from its beginning, in the same order every time.
        tower: the document tower.
        path: the vectors folder.
        dtype: how vectors are stored.
        shard: (i, n): this worker encodes every n-th document, beginning with the i-th, i in 1 … n.
        progress: called with the number done, those of earlier runs included, and None.

    Returns:
        How many documents this worker's shard holds.

    Raises:
        InputError: there are no documents, or one that cannot be kept; its id and field are named.
        UsageError: a document has no id.
        MismatchError: the folder was begun with another tower, settings, number of workers, or corpus.
        ArtifactError: the folder is damaged, or the disk full.
        LockedError: another process is at the same shard.
        KeyboardInterrupt: interrupted; the message says how many documents are kept.
    """
    documents = begun(map(given_document, documents))
    with open_writer(facts_of(tower), path, dtype, shard) as writer:
        try:
            rest = resumed(writer, take_shard(documents, shard), tower.tokenizer)
            _encode_rest(rest, tower, writer, path, progress)
        except KeyboardInterrupt:
            raise interrupted(writer) from None
        return writer.done


def _encode_rest(
    documents: Iterator[Document], tower: Tower, writer: VectorsWriter, path: str | Path, progress: Progress | None
) -> None:
    """Encode and write, each part while the next is encoded; no more than these two are held."""
    size, done, unusable = 1, writer.done, 0
    with ThreadPoolExecutor(1, "write") as pool:  # waits for the last part, whatever happens here
        written: Future[None] | None = None
        while chunk := list(islice(documents, size)):
            refuse_more(writer, path)
            start = time.monotonic()
            encoded = tower.encode(chunk, onwards(progress, done))
            size = next_size(len(chunk), time.monotonic() - start)
            unusable += name_unusable(chunk, encoded)
            if written is not None:
                written.result()
            written = pool.submit(writer.append, chunk, usable(encoded, tower.dim))
            done += len(chunk)
        if written is not None:
            written.result()
    warn_in_all(unusable)
    if not writer.finished:
        writer.finish()


def interrupted(writer: VectorsWriter) -> KeyboardInterrupt:
    """What an interruption is to say."""
    return KeyboardInterrupt(
        f"interrupted: the first {writer.kept():,} documents are kept, run the same command again to go on from there"
    )


def refuse_more(writer: VectorsWriter, path: str | Path) -> None:
    """Raises MismatchError where a folder is finished, and the corpus goes on."""
    if writer.finished:
        raise MismatchError(
            f"{path} is finished with {writer.done} documents, the corpus has more now: choose another output"
        )


def warn_in_all(unusable: int) -> None:
    """Say at the end how many documents were named by `name_unusable`."""
    if unusable:
        warnings.warn(f"{counted(unusable, 'documents')} in all without a usable vector of the model's", stacklevel=4)


def next_size(last: int, seconds: float) -> int:
    """How many documents the next part should have, the last having taken so long."""
    in_time = int(last * _SECONDS / max(seconds, 1e-3))
    return max(1, min(_PART, last * _GROWTH, in_time))


def origin_of(tower: Tower) -> Mapping[str, object]:
    """Where a tower was loaded from, as an index or a vectors folder notes it."""
    return {"source": getattr(tower, "source", tower.name), "base": getattr(tower, "base", None)}


def begun(documents: Iterable[Document]) -> Iterator[Document]:
    """The same documents, the first already read: a corpus that cannot be read costs no model and leaves no output.

    Raises:
        InputError: there are none.
    """
    stream = iter(documents)
    first = list(islice(stream, 1))
    if not first:
        raise InputError("there are no documents: an empty corpus cannot be indexed")
    return chain(first, stream)


def resumed(writer: VectorsWriter, documents: Iterator[Document], tokenizer: Tokenizer) -> Iterator[Document]:
    """Those left to encode. Warns, before the very first is encoded, where they seem to be in a language that the
    tower does not know. Raises as `VectorsWriter.resume`."""
    documents = writer.resume(documents)
    if writer.done:
        return documents
    first = list(islice(documents, _LOOKED_AT))
    texts = [document.input[:_LOOKED_INTO] for document in first]
    warn_of_language(f"the first {len(first):,} documents", texts, tokenizer, stacklevel=4)
    return chain(first, documents)


def onwards(progress: Progress | None, done: int) -> Progress | None:
    return None if progress is None else lambda more, _: progress(done + more, None)
