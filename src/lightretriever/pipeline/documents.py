"""What people have as documents: files and folders read by the readers of this room, corpora by those of `text`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from lightretriever.errors import InputError, MissingExtraError
from lightretriever.index.store.files import NotedFile
from lightretriever.pipeline.readers.content import ReadOptions
from lightretriever.pipeline.readers.reader import Reader
from lightretriever.pipeline.walk import Found, LeftOut, WalkOptions, walk
from lightretriever.text.beir import corpus_files
from lightretriever.text.compression import split_suffix
from lightretriever.text.corpus import Document, read_corpus

CORPUS_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
"""Of files whose rows are documents, where they are named themselves; within a folder they are passed over."""
_EXTRA = "needs pip install 'lightretriever[documents]'"
_LISTED = 10_000  # files left out that are remembered by name


@dataclass(frozen=True)
class SourceOptions:
    """Which files are read, and how much one may cost."""

    walk: WalkOptions = field(default_factory=WalkOptions)
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass
class Tally:
    """What became of the files of sources; counted while they are read.

    Attributes:
        files: how many were read.
        documents: how many they and corpora held, but for those repeated.
        left_out: how many files and folders were not, by reason.
        unreadable: what is wrong with files that could not be read.
        listed: those left out, with their reasons; the first 10,000.
        repeated: documents whose id came before; they are passed over.
    """

    files: int = 0
    documents: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    listed: list[tuple[Path, str]] = field(default_factory=list)
    repeated: int = 0

    def leave_out(self, path: Path, reason: str) -> None:
        """Count a file or folder that is passed over."""
        self.left_out[reason] += 1
        if len(self.listed) < _LISTED:
            self.listed.append((path, reason))


def is_corpus(source: Path) -> bool:
    """Whether a source holds rows that are documents: a file of them, or a BEIR folder."""
    if source.is_dir():
        return bool(corpus_files(source))
    return split_suffix(source)[0] in CORPUS_SUFFIXES


def found_files(sources: Sequence[Path], options: SourceOptions, tally: Tally) -> Iterator[Found]:
    """The files to read; those left out are counted. Raises as `walk`."""
    for step in walk(sources, options.walk):
        if isinstance(step, LeftOut):
            tally.leave_out(step.path, step.reason.value)
        else:
            yield step


def read_documents(reader: Reader, found: Found, tally: Tally) -> tuple[NotedFile | None, list[Document]]:
    """One file's documents, and what to note of it; none where it is not what it should be, which is counted and said.
    What the system does not let us read now, or only an extra can, is not noted: it may be read another time."""
    documents: list[Document] = []
    try:
        digest = digest_of(found.path)
    except InputError as error:
        tally.unreadable.append(str(error))
        return None, []
    try:
        documents += reader.read(found)
    except InputError as error:
        tally.unreadable.append(str(error))
    except MissingExtraError:
        tally.leave_out(found.path, _EXTRA)
        return None, []
    if documents:
        tally.files += 1
    return NotedFile(found.id, digest, found.size, found.mtime, tuple(each.id for each in documents)), documents


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: it cannot be read: {error.strerror or error}") from None


class Seen:
    """The ids of documents that came already; 16 bytes and some for each."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def take(self, name: str) -> bool:
        """Whether an id is new; it is not any more."""
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        if digest in self._digests:
            return False
        self._digests.add(digest)
        return True


def source_documents(
    sources: Sequence[Path],
    given: Iterable[Document],
    options: SourceOptions,
    tally: Tally,
    noted: dict[str, NotedFile],
    once: bool,
) -> Iterator[Document]:
    """The documents given and those of all sources; those of corpora first, then those of files in the order in which
    they are found.

    Args:
        tally: counts what is read and what is not.
        noted: is given what `sync` wants to know of each file. One with a document that another has is not in it.
        once: pass over documents whose id came before.

    Raises:
        InputError: a source does not exist, or a corpus has a row that is no document.
        MissingExtraError: a folder has a ``.gitignore``, or there are patterns, and ``pathspec`` is not installed.
    """
    seen = Seen() if once else None
    corpora = [source for source in sources if source.exists() and is_corpus(source)]
    for document in chain(given, *map(read_corpus, corpora)):
        yield from _new([document], seen, tally)
    files = [source for source in sources if source not in corpora]
    if not files:
        return
    with Reader(options.read) as reader:
        for found in found_files(files, options, tally):
            file, documents = read_documents(reader, found, tally)
            kept = _new(documents, seen, tally)
            if file is not None and len(kept) == len(documents):
                noted[file.id] = file
            yield from kept


def _new(documents: list[Document], seen: Seen | None, tally: Tally) -> list[Document]:
    kept = documents if seen is None else [document for document in documents if seen.take(document.id)]
    tally.documents += len(kept)
    tally.repeated += len(documents) - len(kept)
    return kept
