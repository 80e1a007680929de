"""One example to train on: a query, passages that answer it, passages that do not (METHOD "Data format")."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path


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


def write_lines(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to a file that is there (a temporary one), and say how many."""
    written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            file.write(example.line())
            written += 1
    return written
