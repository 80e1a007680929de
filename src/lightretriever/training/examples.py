"""Training files: a query, passages that answer it, passages that do not, one object a line (METHOD "Data format").

A file stays on disk. Opening it reads it once, checks every line and keeps where each usable one begins, with a hash of
its query: sixteen bytes an example, whatever the size of the texts.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError
from lightretriever.text.compression import split_suffix
from lightretriever.text.json_rows import parse_object
from lightretriever.text.lines import not_utf8
from lightretriever.text.values import safe_text
from lightretriever.training.text_keys import text_key

if TYPE_CHECKING:
    from lightretriever.training.exclusion import Exclusion


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of an example.

    Attributes:
        text, title: safe to encode as UTF-8; "" for no title.
        docid: "" where the file gives none.
        ce_score: a cross-encoder's score of query and passage, if the file has it.
    """

    text: str
    title: str = ""
    docid: str = ""
    ce_score: float | None = None

    @property
    def input(self) -> str:
        """What the document tower reads: title, a space and text, or text alone (METHOD "Documents")."""
        return f"{self.title} {self.text}" if self.title else self.text

    def row(self) -> dict[str, object]:
        """As a training file holds it, without the fields it has not."""
        row: dict[str, object] = {"docid": self.docid} if self.docid else {}
        if self.title:
            row["title"] = self.title
        row["text"] = self.text
        return row if self.ce_score is None else row | {"ce_score": self.ce_score}


@dataclass(frozen=True, slots=True)
class Example:
    """One line of a training file.

    Attributes:
        query: its text, without prompt.
        positives: at least one in an `ExampleFile`.
        negatives: hard negatives, perhaps none.
        instruction: the prompt before this query, for the symmetric query and the token rows; None for the usual one.
    """

    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...] = ()
    instruction: str | None = None

    def only(self, wanted: Callable[[Passage], bool]) -> Example:
        """The example with the passages that are wanted; itself where all are."""
        positives, negatives = (tuple(filter(wanted, some)) for some in (self.positives, self.negatives))
        if len(positives) + len(negatives) == len(self.positives) + len(self.negatives):
            return self
        return replace(self, positives=positives, negatives=negatives)

    def line(self) -> str:
        """As a training file holds it, with the line end."""
        row: dict[str, object] = {"query": self.query}
        if self.instruction is not None:
            row["instruction"] = self.instruction
        row["positive_passages"] = [passage.row() for passage in self.positives]
        row["negative_passages"] = [passage.row() for passage in self.negatives]
        return json.dumps(row, ensure_ascii=False) + "\n"


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
        path: the file.
        offsets: int64 [n], the byte where each usable line begins.
        queries: int64 [n], the `text_key` of each one's query.
        counts: what there was.
        exclusion: what an evaluation set holds, left out of examples.
    """

    path: Path
    offsets: NDArray[np.int64]
    queries: NDArray[np.int64]
    counts: ExampleCounts
    exclusion: Exclusion | None = None

    @staticmethod
    def open(
        path: str | Path, passages: int = 8, exclusion: Exclusion | None = None, limit: int | None = None
    ) -> ExampleFile:
        """Read a training file once: check its lines, and remember where the usable ones begin.

        Args:
            path: JSON lines, not compressed, since lines are read out of their order.
            passages: P, the positive and the negatives that a query is to have; for the counts alone.
            exclusion: leave out what these evaluation sets have.
            limit: only the first so many usable examples.

        Raises:
            InputError: no such file, compressed, a line that is no example (named with its number), or none usable.
        """
        source = Path(path)
        if split_suffix(source)[1]:
            raise InputError(f"{path}: training files are read out of order, compressed ones cannot be: decompress it")
        offsets, queries, count = array("q"), array("q"), dict.fromkeys(ExampleCounts.__slots__, 0)
        number = position = 0
        try:
            with source.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    start, position = position, position + len(raw)
                    if not raw.strip() or (number == 1 and raw.strip() == b"\xef\xbb\xbf"):
                        continue
                    example = parse_example(raw, f"{path}:{number}")
                    count["lines"] += 1
                    if _usable(example, exclusion, passages, count):
                        offsets.append(start)
                        queries.append(text_key(example.query))
                        if limit is not None and len(offsets) >= limit:
                            break
        except FileNotFoundError:
            raise InputError(f"{path} does not exist") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read beyond line {number} ({error.strerror})") from None
        counts = ExampleCounts(**count)
        if not offsets:
            raise InputError(f"{path} holds no usable example: {describe_counts(counts)}")
        places, keys = (np.frombuffer(numbers, dtype=np.int64) for numbers in (offsets, queries))
        return ExampleFile(source, places, keys, counts, exclusion)

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
                example = parse_example(file.readline(), where).only(_has_text)
        except (InputError, OSError) as error:
            raise InputError(f"{self.path} has changed since it was opened ({error}): start again") from None
        return example if self.exclusion is None else self.exclusion.without_passages(example)


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
        "lines": "{:,} lines",
        "no_query": "{:,} skipped with an empty query",
        "no_positive": "{:,} skipped without a positive passage",
        "excluded": "{:,} skipped for being in an evaluation set",
        "excluded_passages": "{:,} passages left out for being judged in an evaluation set",
        "empty_passages": "{:,} passages left out for having no text",
        "no_negative": "{:,} without negatives",
        "few_negatives": "{:,} with fewer negatives than asked",
    }
    return join_counts(counts, phrases)


def join_counts(counts: object, phrases: Mapping[str, str]) -> str:
    """Phrases, by the field whose number they are to hold, without those of zero; the first stays even then."""
    numbers = [(getattr(counts, name), phrase) for name, phrase in phrases.items()]
    return ", ".join(phrase.format(number) for i, (number, phrase) in enumerate(numbers) if number or i == 0)


def parse_example(line: bytes, where: str) -> Example:
    """Read one line of a training file.

    Args:
        line: UTF-8; a byte order mark at its start is passed over.
        where: the place, for messages.

    Raises:
        InputError: not UTF-8, not JSON, or no example; the message says what is wrong with which field.
    """
    try:
        text = line.rstrip(b"\r\n").decode("utf-8-sig")  # so that what is cut short is said of its own end
    except UnicodeDecodeError as error:
        raise not_utf8(error, where) from None
    row = parse_object(text, where)
    if row.get("query") is None:
        raise InputError(f"{where}: the example has no query: a field query is needed")
    instruction = row.get("instruction")
    return Example(
        _string(row["query"], "query", where),
        _passages(row.get("positive_passages"), "positive_passages", where),
        _passages(row.get("negative_passages"), "negative_passages", where),
        None if instruction is None else _string(instruction, "instruction", where),
    )


def _passages(value: object, field: str, where: str) -> tuple[Passage, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not a list of passages")
    return tuple(_passage(item, f"{field}[{place}]", where) for place, item in enumerate(value))


def _passage(value: object, field: str, where: str) -> Passage:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not an object with text")
    text, title, docid, score = (value.get(name) for name in ("text", "title", "docid", "ce_score"))
    if text is None:
        raise InputError(f"{where}: {field} has no text")
    if docid is not None and (isinstance(docid, bool) or not isinstance(docid, str | int)):
        raise InputError(f"{where}: {field}.docid is {type(docid).__name__}: a string or an integer is needed")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise InputError(f"{where}: {field}.ce_score is {type(score).__name__}, not a number")
    return Passage(
        _string(text, f"{field}.text", where),
        "" if title is None else _string(title, f"{field}.title", where),
        "" if docid is None else safe_text(str(docid)),
        None if score is None or not math.isfinite(score) else float(score),
    )


def _string(value: object, field: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not a string")
    return safe_text(value)


def write_lines(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to a file that is there (a temporary one), and say how many."""
    written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            file.write(example.line())
            written += 1
    return written
