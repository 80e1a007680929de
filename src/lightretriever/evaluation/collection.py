"""Test collections in BEIR's layout, or in the hub's: a corpus, queries, and relevance judgements by split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.paths import absolute
from lightretriever.text.beir import qrel_files
from lightretriever.text.corpus import Document, read_corpus, read_queries
from lightretriever.text.trec import read_qrels
from lightretriever.text.values import safe_text


@dataclass(frozen=True, slots=True)
class Collection:
    """One split of a test collection.

    Attributes:
        path: the folder, absolute.
        split: "test", "dev", "train" …
        queries: id to text, of the queries that the split judges, in the judgements' order.
        qrels: query id to (document id to relevance).
        textless: number of judged queries whose text is not in the folder; they can only count zero.
        doubled: number of their texts that are passed over, because a later one has the same id.
    """

    path: Path
    split: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    textless: int = 0
    doubled: int = 0

    @property
    def name(self) -> str:
        """The folder's name and the split's: "scifact, test"."""
        return safe_text(f"{self.path.name}, {self.split}")

    def documents(self) -> Iterator[Document]:
        """Stream the corpus."""
        return read_corpus(self.path)


def begin_collection(path: str | Path, split: str = "test") -> Collection:
    """`read_collection`, and the first document of the corpus: for work that comes to the corpus late.

    Raises:
        InputError: as `read_collection`, or the corpus is missing or begins with what is no document.
    """
    collection = read_collection(path, split)
    next(collection.documents(), None)
    return collection


def read_collection(path: str | Path, split: str = "test") -> Collection:
    """Read the queries and judgements of one split of a BEIR folder; the corpus stays on disk.

    Args:
        path: a folder with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``, or whatever else
            `lightretriever.text.beir` finds.

    Raises:
        InputError: a file is missing or damaged, or there is no such split; the message lists those there are.
    """
    folder = absolute(path)
    if not folder.is_dir():
        raise InputError(f"{path} is no folder: a BEIR folder (corpus, queries, qrels/{split}.tsv) is needed")
    splits = qrel_files(folder)
    if split not in splits:
        there = f"there are {', '.join(splits)}" if splits else "the folder has no qrels/*.tsv"
        raise InputError(f"{path} has no split {split!r}: {there}")
    qrels = read_qrels(*splits[split])
    texts, other, doubled = dict[str, str](), "", 0
    for query in read_queries(folder):
        if query.id in qrels:
            doubled += texts.get(query.id, query.text) != query.text
            texts[query.id] = query.text
        else:
            other = other or query.id
    queries = {query: texts[query] for query in qrels if query in texts}
    if not queries:
        raise InputError(
            f"{path}: none of the queries that {splits[split][0].name} judges is in the folder's queries "
            f"(judged is {next(iter(qrels))!r}, the queries have {other!r}): are they of the same collection?"
        )
    return Collection(folder.absolute(), split, queries, qrels, len(qrels) - len(queries), doubled)
