"""Training files out of labelled collections: a BEIR folder's judged queries with their documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightretriever.artifact import new_file
from lightretriever.errors import InputError
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.training.example import Example, Passage, write_lines


@dataclass(frozen=True, slots=True)
class CollectionCounts:
    """What became of a split's queries.

    Attributes:
        examples: written.
        textless: judged queries that are not in the folder.
        no_positive: queries without a relevant document in the corpus, not written.
        missing: judged or chosen documents that are not in the corpus.
        own_negatives: negatives given that the split judges relevant, left out.
    """

    examples: int
    textless: int
    no_positive: int
    missing: int
    own_negatives: int


def write_examples(
    collection: str | Path,
    split: str,
    path: str | Path,
    negatives: Mapping[str, Sequence[str]] | None = None,
) -> CollectionCounts:
    """Write a training file from one split of a BEIR folder; complete or not at all.

    Documents of relevance above 0 are positives. The corpus is streamed, and only what is needed of it held.

    Args:
        collection: the folder, with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.
        split: "train" mostly; whatever is evaluated later must not be trained on.
        path: the file, written in the split's order.
        negatives: query id to ids of documents that do not answer it; None leaves that to mining.

    Raises:
        InputError: no such split, a file is damaged, or no query has a relevant document.
    """
    found = read_collection(collection, split)
    chosen = negatives or {}
    relevant = {query: [name for name, grade in found.qrels[query].items() if grade > 0] for query in found.queries}
    needed = {name for query in found.queries for name in (*relevant[query], *chosen.get(query, ()))}
    passages = {
        document.id: Passage(document.text, document.title, document.id)
        for document in found.documents()
        if document.id in needed
    }
    no_positive = sum(1 for names in relevant.values() if passages.keys().isdisjoint(names))
    own = sum(len(set(chosen.get(query, ())) & set(names)) for query, names in relevant.items())
    if no_positive == len(relevant):
        raise InputError(f"{collection}: no query of {split} has a relevant document in the corpus: nothing to write")
    with new_file(path) as temporary:
        written = write_lines(temporary, _examples(found, relevant, chosen, passages))
    return CollectionCounts(written, found.textless, no_positive, len(needed - passages.keys()), own)


def _examples(
    found: Collection,
    relevant: Mapping[str, Sequence[str]],
    chosen: Mapping[str, Sequence[str]],
    passages: Mapping[str, Passage],
) -> Iterator[Example]:
    for query, text in found.queries.items():
        positives = tuple(passages[name] for name in relevant[query] if name in passages)
        others = dict.fromkeys(name for name in chosen.get(query, ()) if name not in relevant[query])
        if positives:
            yield Example(text, positives, tuple(passages[name] for name in others if name in passages))
