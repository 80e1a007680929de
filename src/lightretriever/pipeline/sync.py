"""An index brought up to date with its files: what is new or changed is read and encoded, what is gone deleted.

A file whose size and time are the same is taken to be the same; else its content's digest decides. Interrupted
anywhere, the next run does what is left: a file is noted when its documents are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from lightretriever.errors import InputError, UsageError
from lightretriever.index.index import Index
from lightretriever.index.store.files import NotedFile
from lightretriever.pipeline.documents import (
    SourceOptions,
    Tally,
    digest_of,
    found_files,
    is_corpus,
    read_documents,
)
from lightretriever.pipeline.readers.reader import Reader
from lightretriever.pipeline.walk import Found
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document

_TOGETHER = 64  # files whose documents are stored together


@dataclass
class Synced:
    """What bringing an index up to date came to, in files.

    Attributes:
        new, changed, gone, unchanged: how many there were.
        deleted: documents, or passages, that were deleted.
        tally: what was read, and what was left out.
    """

    new: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0
    deleted: int = 0
    tally: Tally = field(default_factory=Tally)


def sync_index(
    index: Index,
    sources: Sequence[Path] = (),
    options: SourceOptions | None = None,
    progress: Progress | None = None,
    load: Callable[[], None] | None = None,
) -> Synced:
    """Bring an index up to date with files and folders.

    Args:
        index: opened with its document model, unless ``load`` sets it, or there is nothing to encode.
        sources: all that the index is to hold, in place of what it was made of; none: the same as before.
        progress: called with the number of files stored, and how many there are to store.
        load: called before the first document is encoded: sets the index's model.

    Raises:
        UsageError: there are no sources, or they are corpora of rows, which `add` takes; or the index was opened
            without its model, and there is something to encode.
        InputError: a source does not exist.
        MissingExtraError: a format needs the extra ``documents``.
        Else as `Index.add_documents`; what was done before is kept.
    """
    sources = list(sources) or [Path(source) for source in index.settings.sources]
    if not sources:
        raise UsageError(f"nobody said what files {index.path} is made of: name them")
    corpora = [str(source) for source in sources if source.exists() and is_corpus(source)]
    if corpora:
        raise UsageError(
            f"{corpora[0]} holds rows, and files are followed: `add` stores rows, replacing those there are"
        )
    before, synced = index.files, Synced()
    found = {one.id: one for one in found_files(sources, options or SourceOptions(), synced.tally)}
    todo = list(_to_read(found, before, synced, index))
    if todo and index.model is None and load is not None:
        load()
    _store(index, todo, before, options or SourceOptions(), synced, progress)
    gone = [name for name in before if name not in found]
    synced.deleted += index.delete(_documents_of(before, gone)) if gone else 0
    synced.gone = len(gone)
    index.note_files(gone=gone, sources=sources)
    return synced


def _to_read(
    found: Mapping[str, Found], before: Mapping[str, NotedFile], synced: Synced, index: Index
) -> Iterator[Found]:
    """The files that are new, or whose content is another than it was."""
    touched = []
    for name, file in found.items():
        known = before.get(name)
        if known is None:
            synced.new += 1
            yield file
        elif (known.size, known.mtime) == (file.size, file.mtime):
            synced.unchanged += 1
        elif known.size == file.size and known.digest and known.digest == _digest(file):
            synced.unchanged += 1
            touched.append(replace(known, mtime=file.mtime))
        else:
            synced.changed += 1
            yield file
    if touched:
        index.note_files(touched)


def _digest(file: Found) -> str:
    try:
        return digest_of(file.path)
    except InputError:
        return ""  # reading it will say why


def _store(
    index: Index,
    todo: Sequence[Found],
    before: Mapping[str, NotedFile],
    options: SourceOptions,
    synced: Synced,
    progress: Progress | None,
) -> None:
    """Read files and store their documents, some files at a time; what they held before and do not now is deleted."""
    done, files = 0, iter(todo)
    with Reader(options.read) as reader:
        while some := list(islice(files, _TOGETHER)):
            read = [read_documents(reader, file, synced.tally) for file in some]
            documents: list[Document] = [document for _, held in read for document in held]
            synced.tally.documents += len(documents)
            if documents:
                index.add_documents(documents)
            now = {document.id for document in documents}
            past = [name for name in _documents_of(before, [file.id for file in some]) if name not in now]
            synced.deleted += index.delete(past) if past else 0
            index.note_files([noted for noted, _ in read if noted is not None])
            done += len(some)
            if progress:
                progress(done, len(todo))


def _documents_of(files: Mapping[str, NotedFile], names: Sequence[str]) -> list[str]:
    return [document for name in names if name in files for document in files[name].documents]
