"""Hard negatives: passages that a search ranks high for a query and that do not answer it.

Some of what ranks high answers the query and nobody judged it. So a candidate must score below the positive by a
margin: absolute, ``positive − margin``, or relative, ``ratio × positive`` (where that is above 0). These are
TopK-MarginPos and TopK-PercPos of Moreira et al., "NV-Retriever: Improving text embedding models with effective
hard-negative mining" (arXiv 2407.15831).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from lightretriever.artifact import new_file
from lightretriever.errors import UsageError
from lightretriever.progress import Progress
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.example_file import ExampleCounts, ExampleFile, describe_counts, join_counts
from lightretriever.training.exclusion import Exclusion, passage_keys
from lightretriever.training.searches import Search
from lightretriever.training.text_keys import text_key
from lightretriever.types import Hit

BATCH = 64  # queries whose hits, with texts, are in memory at once


@dataclass(frozen=True, slots=True)
class MiningConfig:
    """What to take of a search.

    Attributes:
        depth: hits looked at for a query.
        negatives: kept, at most, the best first.
        margin: keep what scores at least so much less than the positive; None for no such limit.
        ratio: keep what scores less than the positive by at least 1 - ratio of its score, whatever its sign; 0 for no
            such limit. Where margin is given too, both hold.
        keep: own negatives of an example stay, the mined ones come after them.

    Raises:
        UsageError: a number that makes no sense.
    """

    depth: int = 100
    negatives: int = 15
    margin: float | None = None
    ratio: float = 0.95
    keep: bool = False

    def __post_init__(self) -> None:
        if self.depth < 1 or self.negatives < 1:
            raise UsageError(f"mining depth {self.depth}, negatives {self.negatives}: both must be at least 1")
        if self.margin is not None and not 0 <= self.margin < float("inf"):
            raise UsageError(f"margin is {self.margin}: a number from 0 on is needed, or leave it out")
        if not 0 <= self.ratio <= 1:
            raise UsageError(f"ratio is {self.ratio}: a number from 0 to 1 is needed, 0 for no such limit")

    @property
    def is_limited(self) -> bool:
        """Whether the positive's score limits the negatives'."""
        return self.margin is not None or self.ratio > 0

    def limit(self, positive: float) -> float:
        """The highest score that a negative may have beside a positive's."""
        absolute = float("inf") if self.margin is None else positive - self.margin
        relative = positive - (1 - self.ratio) * abs(positive) if self.ratio else float("inf")
        return min(absolute, relative)


@dataclass(frozen=True, slots=True)
class MiningCounts:
    """What became of the hits.

    Attributes:
        source: what the file to mine for held; examples that cannot be used are not written.
        examples: written; every usable one of the file.
        negatives: mined, in all of them.
        positives: hits dropped as the query's own positives, by id.
        same_text: hits dropped for reading as the query, a positive or another negative does, whatever their id.
        excluded: hits dropped since an evaluation set judges them.
        too_close: hits dropped for scoring above the limit that the positive sets.
        unranked: queries whose positives were not among the hits: all hits score above them, so that none is kept
            where there is a limit.
        no_negative: examples left without any.
        few_negatives: examples with some, but fewer than asked.
        replaced: examples whose own negatives are not kept.
        only_id: hits among ``positives`` whose text is another than the positive's: cut in one of the two places, or
            ids of another collection.
    """

    source: ExampleCounts = field(default_factory=ExampleCounts)
    examples: int = 0
    negatives: int = 0
    positives: int = 0
    same_text: int = 0
    excluded: int = 0
    too_close: int = 0
    unranked: int = 0
    no_negative: int = 0
    few_negatives: int = 0
    replaced: int = 0
    only_id: int = 0


def describe_mining(counts: MiningCounts) -> str:
    """One line for people, without what is zero."""
    phrases = {
        "examples": "examples",
        "negatives": "negatives",
        "positives": "hits dropped: {:,} as positives",
        "same_text": "{:,} as copies",
        "excluded": "{:,} as judged in an evaluation set",
        "too_close": "{:,} as too close to the positive",
        "unranked": "queries without a positive among the hits",
        "few_negatives": "{:,} with fewer negatives than asked",
        "no_negative": "{:,} without any",
        "replaced": "own negatives of {:,} left out (mining.keep = true keeps them)",
        "only_id": "hits with a positive's id and another text (is it the same collection?)",
    }
    return f"{join_counts(counts, phrases)}; of {describe_counts(counts.source)}"


def mine_negatives(
    source: str | Path,
    output: str | Path,
    search: Search,
    config: MiningConfig | None = None,
    exclusion: Exclusion | None = None,
    progress: Progress | None = None,
    limit: int | None = None,
) -> MiningCounts:
    """Write a training file again with hard negatives out of a search; complete or not at all.

    Args:
        source: a training file; its examples that cannot be used are not written, see `ExampleFile.open`.
        output: the new one, which may be the same.
        search: of an index, of vectors, or BM25; see `lightretriever.training.searches`.
        config: how many, and how far below the positive.
        exclusion: also leave out what these evaluation sets hold.
        progress: called with examples done and their number.
        limit: only the first so many usable examples.

    Raises:
        InputError: the file cannot be read.
        UsageError: a mode that the index has no side for.
    """
    options = config or MiningConfig()
    file = ExampleFile.open(source, 1, exclusion, limit)
    count = dict.fromkeys((each.name for each in fields(MiningCounts) if each.name != "source"), 0)

    def mined() -> Iterator[Example]:
        for start in range(0, len(file), BATCH):
            examples = [file[i] for i in range(start, min(start + BATCH, len(file)))]
            hits = search([example.query for example in examples], options.depth)
            for example, found in zip(examples, hits, strict=True):
                yield _with_negatives(example, found, options, exclusion, count)
            if progress is not None:
                progress(start + len(examples), len(file))

    with new_file(output) as temporary:
        count["examples"] = write_lines(temporary, mined())
    return MiningCounts(file.counts, **count)


def _with_negatives(
    example: Example, hits: Sequence[Hit], config: MiningConfig, exclusion: Exclusion | None, count: dict[str, int]
) -> Example:
    own = example.negatives if config.keep else ()
    ids = {passage.docid for passage in example.positives if passage.docid}
    positives = {key for passage in example.positives for key in passage_keys(passage)}
    texts = positives | {key for passage in own for key in passage_keys(passage)}
    texts.add(text_key(example.query))  # where questions are what is searched, this one may be among them
    scores: list[float] = []
    candidates: list[tuple[Passage, float]] = []
    for hit in hits:
        passage = Passage(hit.text, hit.title, hit.id)
        keys = passage_keys(passage)
        if hit.id in ids or not keys.isdisjoint(positives):
            scores.append(hit.score)
        if hit.id in ids:
            count["positives"] += 1
            count["only_id"] += keys.isdisjoint(positives)
        elif not keys.isdisjoint(texts):
            count["same_text"] += 1
        elif exclusion is not None and exclusion.has_passage(passage):
            count["excluded"] += 1
        else:
            candidates.append((passage, hit.score))
            texts |= keys
    count["unranked"] += not scores
    if config.is_limited:
        limit = config.limit(max(scores)) if scores else float("-inf")  # not found: all that was scores above it
        below = [(passage, score) for passage, score in candidates if score <= limit]
        count["too_close"] += len(candidates) - len(below)
        candidates = below
    mined = tuple(passage for passage, _ in candidates[: config.negatives])
    negatives = (*own, *mined)
    count["negatives"] += len(mined)
    count["no_negative"] += not negatives
    count["replaced"] += bool(example.negatives) and not config.keep
    count["few_negatives"] += 0 < len(mined) < config.negatives
    return replace(example, negatives=negatives)
