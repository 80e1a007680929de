"""Where a data set's folder keeps its corpus, its queries and its judgements.

BEIR's own folders hold ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``. What the hub holds of the same sets
is folders of Parquet or JSON lines, cut into pieces:

    corpus/SPLIT-00000-of-00002.parquet …    or data/corpus-00000-of-00001.parquet
    queries/SPLIT-00000-of-00001.parquet     or data/queries-…
    qrels/SPLIT-00000-of-00001.parquet       or default/SPLIT-…, data/SPLIT-…, qrels/SPLIT.jsonl

A file of the first kind wins over a folder of the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.text.compression import COMPRESSIONS, split_suffix
from lightretriever.text.rows import FORMATS

PLACES = ("qrels", "default", "data")
_PIECE = re.compile(r"(?P<name>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]{6,})?")
_ORDER = [f"{form}{packed}" for packed in ("", *COMPRESSIONS) for form in (".tsv", *FORMATS)]


def corpus_files(folder: Path) -> list[Path]:
    """The files of a folder's corpus, in their order; none where it holds no data set.

    Raises:
        InputError: a piece of a file is not there.
    """
    return _files(folder, "corpus")


def query_files(folder: Path) -> list[Path]:
    """Likewise of its queries, those of all splits."""
    return _files(folder, "queries")


def qrel_files(folder: Path) -> dict[str, list[Path]]:
    """Split to the files of its judgements, by name; none where there are none.

    Raises:
        InputError: a piece of a file is not there.
    """
    for place in PLACES:
        found = _by_name(_inside(folder / place))
        splits = {name: files for name, files in sorted(found.items()) if name not in ("corpus", "queries")}
        # Only of a folder that says so it is certain that its files are judgements.
        if splits and (place == "qrels" or corpus_files(folder)):
            return splits
    return {}


def _files(folder: Path, stem: str) -> list[Path]:
    for form in FORMATS:
        for packed in ("", *COMPRESSIONS):
            if (plain := folder / f"{stem}{form}{packed}").is_file():
                return [plain]
    inner = folder / stem
    if found := _by_name(_inside(inner)):
        return [path for _, files in sorted(found.items()) for path in files]
    for place in (folder, folder / "data"):
        if pieces := _by_name(place.glob(f"{stem}-*-of-*")).get(stem):
            return pieces
    return []


def _inside(folder: Path) -> list[Path]:
    """What a folder holds, nothing where it is none. Raises InputError where it may not be looked at."""
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): give yourself the right to") from None


def _by_name(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """The files of rows among some, by name without number and suffix; of a name's formats the first of `_ORDER`."""
    found: dict[str, dict[str, dict[int, Path]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for path in sorted(paths):
        form, packed = split_suffix(path)
        if form not in FORMATS or path.name.startswith(".") or not path.is_file():
            continue
        suffix = f"{form}{packed}"
        stem = path.name[: -len(suffix)]
        piece = _PIECE.fullmatch(stem)
        name = piece["name"] if piece else stem
        found.setdefault(name, {}).setdefault(suffix, {})[int(piece["number"]) if piece else 0] = path
        counts[name, suffix] = int(piece["count"]) if piece else 1
    chosen = {}
    for name, formats in found.items():
        suffix = min(formats, key=_ORDER.index)
        pieces, count = formats[suffix], counts[name, suffix]
        if missing := [number for number in range(min(count, 100_000)) if number not in pieces]:
            first = next(iter(pieces.values()))
            raise InputError(
                f"{first.parent}: {name}{suffix} is cut into {count} files, and {len(missing)} are not there (number "
                f"{missing[0]:05} is the first): fetch all of them"
            )
        chosen[name] = [pieces[number] for number in sorted(pieces)]
    return chosen
