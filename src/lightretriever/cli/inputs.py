"""What verbs read, begun before a model is loaded: a path or a first record that is wrong is refused at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightretriever.text.corpus import Document


def begin_corpus(path: Path) -> tuple[Iterator[Document], int | None]:
    """A corpus, its first document read already, and about how many there are.

    Raises:
        As `lightretriever.text.corpus.read_corpus`, of the first document.
    """
    from lightretriever.text.corpus import estimate_count, read_corpus
    from lightretriever.vectors.encode import begun

    return begun(read_corpus(path)), estimate_count(path)


def begin_texts(paths: Sequence[Path] | None) -> Iterator[Document]:
    """The texts of several files, one after the other, the first of each read already.

    Files are closed again until it is their turn, since many may be given; a pipe can be read only once, and is kept.

    Raises:
        As `lightretriever.text.corpus.read_texts`, of each file's first text.
    """
    return chain.from_iterable([_texts(path) for path in paths or ()])


def _texts(path: Path) -> Iterator[Document]:
    from lightretriever.text.corpus import read_texts
    from lightretriever.vectors.encode import begun

    texts = begun(read_texts(path))
    return texts if not (path.is_file() or path.is_dir()) else _again(path)


def _again(path: Path) -> Iterator[Document]:
    from lightretriever.text.corpus import read_texts

    yield from read_texts(path)
