"""An index brought up to date with its files: what is new or changed is read and encoded, what is gone deleted.

A file whose size and time are the same is taken to be the same; else its content's digest decides. Interrupted
anywhere, the next run does what is left: a file claims its documents before they are stored, and is noted as read when
they are. What cannot be read stays as it was. No document of another origin is touched: one whose id another file has,
or which was added by itself, is passed over and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from lightretriever.counted import counted
from lightretriever.errors import InputError, UsageError
from lightretriever.index.index import Index
from lightretriever.index.store.files import NotedFile
from lightretriever.index.stored_passages import existing_documents
from lightretriever.pipeline.documents import (
    SourceOptions,
    Tally,
    digest_of,
    found_files,
    is_corpus,
    read_documents,
)
from lightretriever.pipeline.readers.reader import Reader
from lightretriever.pipeline.walk import Found, Reason, WalkOptions
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document

_TOGETHER = 64  # files whose documents are stored together


@dataclass
class Synced:
    """What bringing an index up to date came to, in files.

    Attributes:
        new, changed, gone, unchanged: how many there were.
        kept: not found, and kept all the same, since a folder that may hold them could not be read.
        tally: what was read, and what was left out.
    """

    new: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0
    kept: int = 0
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
        options: which files are read, from now on; None: by the patterns that were given before.
        progress: called with the number of files stored, and how many there are to store.
        load: called before the first document is encoded: sets the index's model.

    Raises:
        UsageError: there are no sources, or they are corpora of rows, which `add` takes; or the index was opened
            without its model, and there is something to encode.
        InputError: a source does not exist, or none of the files is there any more, as where a disk is missing.
        MissingExtraError: there are patterns, or a ``.gitignore``, and ``pathspec`` is not installed.
        Else as `Index.add_documents`; what was done before is kept.
    """
    settings = index.settings
    places = list(sources) or [Path(source) for source in settings.sources]
    _check_sources(index, places)
    options = options or SourceOptions(WalkOptions(settings.include, settings.exclude))
    before, synced = index.files, Synced()
    found = _found(places, options, synced.tally)
    if before and not found:
        raise InputError(
            f"{', '.join(map(str, places))}: none of {len(before):,} files is there any more: nothing was changed; if "
            "that is right, make the index anew"
        )
    gone = [name for name in before if name not in found]
    if gone and synced.tally.left_out[Reason.UNREADABLE.value]:
        synced.kept, gone = len(gone), []
    synced.gone = len(gone)
    todo = list(_to_read(found, before, synced, index))
    if todo and index.model is None and load is not None:
        load()
    if todo and index.model is None:
        raise UsageError(f"there are {counted(len(todo), 'files')} to encode: open the index with its model")
    there = {name: file for name, file in before.items() if name not in gone}
    _store(index, todo, there, options, synced, progress)
    if gone:
        index.note_files(gone=gone)
    index.follow(places, options.walk.include, options.walk.exclude)
    return synced


def _check_sources(index: Index, sources: Sequence[Path]) -> None:
    if not sources:
        raise UsageError(f"nobody said what files {index.path} is made of: name them")
    corpora = [str(source) for source in sources if source.exists() and is_corpus(source)]
    if corpora:
        raise UsageError(
            f"{corpora[0]} holds rows, and files are followed: `add` stores rows, replacing those there are"
        )


def _found(sources: Sequence[Path], options: SourceOptions, tally: Tally) -> dict[str, Found]:
    """The files by id; one whose id another has is left out."""
    found: dict[str, Found] = {}
    for file in found_files(sources, options, tally):
        if file.id in found:
            tally.leave_out(file.path, "named as another")
        else:
            found[file.id] = file
    return found


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
    there: Mapping[str, NotedFile],
    options: SourceOptions,
    synced: Synced,
    progress: Progress | None,
) -> None:
    """Read files and store their documents, some files at a time; what they held before and do not now is removed."""
    owners = {document: name for name, file in there.items() for document in file.documents}
    done, files = 0, iter(todo)
    with Reader(options.read) as reader:
        while some := list(islice(files, _TOGETHER)):
            noted: list[NotedFile] = []
            documents: list[Document] = []
            for file in some:
                note, held = read_documents(reader, file, synced.tally)
                if note is None:
                    continue  # it could not be read now: what it held is kept
                own = _own(index, file.id, held, owners)
                synced.tally.repeated += len(held) - len(own)
                owners |= {document.id: file.id for document in own}
                documents += own
                noted.append(_note(note, own, len(held)))
            synced.tally.documents += len(documents)
            index.note_files(_claims(noted, there))
            if documents:
                index.add_documents(documents)
            index.note_files(noted)
            done += len(some)
            if progress:
                progress(done, len(todo))


def _own(index: Index, name: str, held: Sequence[Document], owners: Mapping[str, str]) -> list[Document]:
    """Those of a file's documents that are of no other origin."""
    unowned = [document.id for document in held if document.id not in owners]
    strangers = existing_documents(index.engine, unowned, index.settings.passages is not None)
    return [document for document in held if document.id not in strangers and owners.get(document.id, name) == name]


def _note(note: NotedFile, own: Sequence[Document], held: int) -> NotedFile:
    """What to note of a file; one that is not all its own is looked at again, for the other may go."""
    note = replace(note, documents=tuple(document.id for document in own))
    return note if len(own) == held else replace(note, digest="", size=-1)


def _claims(noted: Sequence[NotedFile], there: Mapping[str, NotedFile]) -> list[NotedFile]:
    """What files had and will have, before it is stored."""
    claims = []
    for note in noted:
        had = there[note.id].documents if note.id in there else ()
        claims.append(replace(note, digest="", size=-1, documents=tuple(dict.fromkeys((*had, *note.documents)))))
    return claims
