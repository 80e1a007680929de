"""Training files: an example a line, in any of the kinds that `lightretriever.training.lines` knows.

A file stays on disk. Opening it reads it once, checks every line and keeps where each usable one begins, with a hash of
its query: sixteen bytes an example, whatever the size of the texts.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.counted import counted
from lightretriever.errors import InputError
from lightretriever.text.compression import compression_of, split_suffix
from lightretriever.text.lines import encoding_of
from lightretriever.text.signatures import PARQUET, foreign_format, markup
from lightretriever.training.example import Example, Passage
from lightretriever.training.lines import OURS, LineKind, find_kind
from lightretriever.training.text_keys import text_key
from lightretriever.training.tsv_columns import ColumnCheck

if TYPE_CHECKING:
    from lightretriever.training.exclusion import Exclusion

LONGEST_LINE = 1 << 28
"""Bytes: no example is so long, and a file without line ends need not be read whole to say so."""
# What a file may be instead of lines of text: how it begins, what it is, what to do.
_PACKERS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}


@dataclass(frozen=True, slots=True)
class ExampleCounts:
    """What opening a training file found. Skipped lines are those with an empty query or without a positive.

    Attributes:
        lines: with an example on them, usable or not; blank lines do not count.
        no_query: skipped, the query is empty.
        no_positive: skipped, no positive passage.
        no_negative: usable, no negative passage.
        few_negatives: usable, some negatives but fewer than asked: some are drawn twice.
        unscored: usable, a passage lacks ``ce_score``.
        excluded: skipped, an evaluation set has the query, or every positive.
        excluded_passages: left out of examples that are used, since an evaluation set judges them.
        empty_passages: left out, white space alone.
    """

    lines: int = 0
    no_query: int = 0
    no_positive: int = 0
    no_negative: int = 0
    few_negatives: int = 0
    unscored: int = 0
    excluded: int = 0
    excluded_passages: int = 0
    empty_passages: int = 0

    @property
    def usable(self) -> int:
        """Lines that are not skipped."""
        return self.lines - self.no_query - self.no_positive - self.excluded


@dataclass(frozen=True, slots=True, eq=False)
class ExampleFile:
    """The usable examples of a training file, read from disk one at a time, in any order; `open` makes one.

    It holds no open file: processes and threads may share it.

    Attributes:
        path: the file, absolute.
        offsets: int64 [n], the byte where each usable line begins.
        queries: int64 [n], the `text_key` of each one's query.
        counts: what there was.
        exclusion: what an evaluation set holds, left out of examples.
        kind: how its lines are read.
    """

    path: Path
    offsets: NDArray[np.int64]
    queries: NDArray[np.int64]
    counts: ExampleCounts
    exclusion: Exclusion | None = None
    kind: LineKind = OURS

    @staticmethod
    def open(
        path: str | Path, passages: int = 8, exclusion: Exclusion | None = None, limit: int | None = None
    ) -> ExampleFile:
        """Read a training file once: check its lines, and remember where the usable ones begin.

        Args:
            path: JSON lines or TSV, not compressed, since lines are read out of their order.
            passages: P, the positive and the negatives that a query is to have; for the counts alone.
            exclusion: leave out what these evaluation sets have.
            limit: only the first so many usable examples.

        Raises:
            InputError: no such file, compressed, a line that is no example or of another kind than the first (named
                with its number), or none usable.
        """
        source = Path(path).absolute()
        offsets, queries, count = array("q"), array("q"), dict.fromkeys(ExampleCounts.__slots__, 0)
        kind = OURS
        check: ColumnCheck | None = None
        for start, kind, example in _examples(source, path):
            count["lines"] += 1
            if check is None and kind.columns:
                check = ColumnCheck(kind.columns, kind.named)
            if check is not None:
                check.see(
                    [example.query, *(passage.text for passage in (*example.positives, *example.negatives))], path
                )
            if _usable(example, exclusion, passages, count):
                offsets.append(start)
                queries.append(text_key(example.query))
                if limit is not None and len(offsets) >= limit:
                    break
        if check is not None:
            check.end(path)
        counts = ExampleCounts(**count)
        if not offsets:
            raise InputError(f"{path} holds no usable example: {describe_counts(counts)}")
        places, keys = (np.frombuffer(numbers, dtype=np.int64) for numbers in (offsets, queries))
        return ExampleFile(source, places, keys, counts, exclusion, kind)

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, chosen: NDArray[np.bool_]) -> ExampleFile:
        """The file with some of its examples, bool [n]."""
        return replace(self, offsets=self.offsets[chosen], queries=self.queries[chosen])

    def __getitem__(self, i: int) -> Example:
        """Example i, read from disk.

        Raises:
            InputError: the file is gone, or is no longer the one that was opened.
        """
        start = int(self.offsets[i])
        where = f"{self.path}: the line at byte {start:,}"
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                example = self.kind.read(file.readline(), where).only(_has_text)
        except (InputError, OSError) as error:
            raise InputError(f"{self.path} has changed since it was opened ({error}): start again") from None
        return example if self.exclusion is None else self.exclusion.without_passages(example)


def check_first(path: str | Path) -> None:
    """Read a training file's first example: what is wrong with the path or the format is found in no time.

    Raises:
        InputError: as `ExampleFile.open`.
    """
    if next(_examples(Path(path).absolute(), path), None) is None:
        raise InputError(f"{path} holds no usable example: {describe_counts(ExampleCounts())}")


def _examples(source: Path, shown: str | Path) -> Iterator[tuple[int, LineKind, Example]]:
    """Place, kind and example of every line that has one, usable or not."""
    form, compression = split_suffix(source)
    if compression:
        raise InputError(f"{shown}: training files are read out of order, compressed ones cannot be: decompress it")
    kind: LineKind | None = None
    for number, start, raw in _lines(source, shown):
        where = f"{shown}:{number}"
        if kind is None:
            kind, is_header = find_kind(raw, where, tabs=form == ".tsv")
            if is_header:
                continue
        yield start, kind, kind.read(raw, where)


def _lines(source: Path, shown: str | Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, place and bytes of every line that is not blank."""
    number = position = 0
    try:
        with source.open("rb") as file:
            _check_form(file.read(512), shown)
            file.seek(0)
            while raw := file.readline(LONGEST_LINE):
                number += 1
                if len(raw) == LONGEST_LINE:
                    raise InputError(f"{shown}:{number}: the line is over {LONGEST_LINE >> 20} MB: one example a line")
                if raw.strip() and not (number == 1 and raw.strip() == b"\xef\xbb\xbf"):
                    yield number, position, raw
                position += len(raw)
    except FileNotFoundError:
        raise InputError(f"{shown} does not exist") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read beyond line {number} ({error.strerror})") from None


def _check_form(head: bytes, shown: str | Path) -> None:
    """Refuse what has no lines to be read out of order, by what it is."""
    if packed := compression_of(head):
        raise InputError(f"{shown} is compressed with {_PACKERS[packed]}: decompress it, lines are read out of order")
    mark, encoding = encoding_of(head)
    head = head.removeprefix(mark)
    if encoding != "utf-8":
        raise InputError(f"{shown} is {encoding[:6].upper()}: save it as UTF-8")
    if head.startswith(b"[") and split_suffix(shown)[0] != ".tsv":
        raise InputError(f"{shown} is one JSON array: write an object a line (JSON lines)")
    if head.startswith(PARQUET):
        raise InputError(f"{shown} is Parquet: write it as JSON lines (pandas: to_json, lines=True)")
    what = foreign_format(head) or markup(head.decode("utf-8", "replace"))
    if what is not None:
        raise InputError(f"{shown}: {what}")


def _usable(example: Example, exclusion: Exclusion | None, passages: int, count: dict[str, int]) -> bool:
    """Whether an example can be trained on; what it lacks is counted."""
    if not example.query.strip():
        count["no_query"] += 1
        return False
    given = len(example.positives) + len(example.negatives)
    example = example.only(_has_text)
    count["empty_passages"] += given - len(example.positives) - len(example.negatives)
    if not example.positives:
        count["no_positive"] += 1
        return False
    if exclusion is not None:
        left = exclusion.without_passages(example)
        if exclusion.has_query(example.query) or not left.positives:
            count["excluded"] += 1
            return False
        before = len(example.positives) + len(example.negatives)
        count["excluded_passages"] += before - len(left.positives) - len(left.negatives)
        example = left
    count["no_negative"] += not example.negatives
    count["few_negatives"] += 0 < len(example.negatives) < passages - 1
    count["unscored"] += any(passage.ce_score is None for passage in (*example.positives, *example.negatives))
    return True


def _has_text(passage: Passage) -> bool:
    return bool(passage.input.strip())


def describe_counts(counts: ExampleCounts) -> str:
    """One line for people, without what is zero."""
    phrases = {
        "lines": "lines",
        "no_query": "{:,} skipped with an empty query",
        "no_positive": "{:,} skipped without a positive passage",
        "excluded": "{:,} skipped for being in an evaluation set",
        "excluded_passages": "passages left out for being judged in an evaluation set",
        "empty_passages": "passages left out for having no text",
        "no_negative": "{:,} without negatives",
        "few_negatives": "{:,} with fewer negatives than asked",
    }
    return join_counts(counts, phrases)


def join_counts(counts: object, phrases: Mapping[str, str]) -> str:
    """Phrases, by the field whose number they are to hold, without those of zero; the first stays even then.

    A phrase that has no place for the number is what is counted, a plural first: see `counted`.
    """
    numbers = [(getattr(counts, name), phrase) for name, phrase in phrases.items()]
    return ", ".join(
        phrase.format(number) if "{" in phrase else counted(number, phrase)
        for i, (number, phrase) in enumerate(numbers)
        if number or i == 0
    )
