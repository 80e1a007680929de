"""How good the tower is while it is trained: nDCG@10 of look-up queries over a small collection.

Queries are encoded as they will be after training, from the rows of the tokens that they hold, so no token table
has to be made; the documents are shared out to the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from lightretriever.errors import InputError, UsageError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.measures import check_measures, evaluate
from lightretriever.fusion import fuse_scores
from lightretriever.training.batch import Batch, Collator
from lightretriever.training.config import ValidationConfig
from lightretriever.training.example import Passage
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.sampling import Drawn, DrawnBatch, Schedule, TrainingData
from lightretriever.training.text_keys import text_key
from lightretriever.training.tower import Lookup, Texts, TowerInput, TowerOutput
from lightretriever.types import Run

MEASURE = "nDCG@10"
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiplying by it scatters
DEPTH = 100
"""Documents that each arm lists for a query; the hybrid is fused of these."""
_TOKENS = 512  # rows of the token table in one forward pass

Forward = Callable[[TowerInput], TowerOutput]


@dataclass(frozen=True, slots=True)
class Validation:
    """A small collection to measure on.

    Attributes:
        name: what it is, for people.
        queries: text and prompt (None for the model's) of each query.
        documents: what is ranked.
        relevant: for each query, the places in ``documents`` of the judged ones, and their relevance. Places and
            queries beyond those there are stand for what a collection judges and lacks: never found, they count zero.
        absent: judged documents and queries that are not there, in words for people; "" for none.
    """

    name: str
    queries: tuple[tuple[str, str | None], ...]
    documents: tuple[Passage, ...]
    relevant: tuple[Mapping[int, int], ...]
    absent: str = ""


def open_validation(config: ValidationConfig, data: TrainingData) -> tuple[Validation | None, TrainingData]:
    """What a run is measured on, and the training data without it.

    Raises:
        InputError: the BEIR folder cannot be read, has no such split, or none of the documents relevant there.
        MissingExtraError: ``ir-measures`` is not installed.
    """
    if not config.every:
        return None, data
    check_measures([MEASURE])
    if config.data:
        return _of_collection(config), data
    data, held = hold_out(data, config.examples)
    return _of_examples(held, [file.instruction for file in data.config.files]), data


def _of_collection(config: ValidationConfig) -> Validation:
    collection = read_collection(config.data, config.split)
    judged = {document for name in collection.queries for document in collection.qrels[name]}
    room = config.documents - len(judged) if config.documents else None
    documents: list[Passage] = []
    places: dict[str, int] = {}
    for document in collection.documents():
        if document.id not in judged:
            if room is not None and room <= 0:
                continue
            room = None if room is None else room - 1
        places[document.id] = len(documents)
        documents.append(Passage(document.text, document.title, document.id))
    relevant = {
        document for name in collection.queries for document, grade in collection.qrels[name].items() if grade > 0
    }
    if relevant.isdisjoint(places):
        raise InputError(
            f"{config.data}: no document that {config.split} judges relevant is in the corpus: there is nothing to "
            "measure, name another folder under validation.data or another validation.split"
        )
    absent = []
    if missing := len(judged - places.keys()):
        absent.append(f"judged documents that are not in the corpus: {missing:,}")
    if collection.textless:
        absent.append(f"judged queries without text: {collection.textless:,}")
    textless = [query for query in collection.qrels if query not in collection.queries]
    everything = (name for grades in collection.qrels.values() for name in grades)
    for number, name in enumerate(everything):
        places.setdefault(name, len(documents) + number)
    return Validation(
        name=f"{collection.path.name}/{config.split}",
        queries=tuple((text, None) for text in collection.queries.values()),
        documents=tuple(documents),
        relevant=tuple(
            {places[name]: grade for name, grade in collection.qrels[query].items()}
            for query in (*collection.queries, *textless)
        ),
        absent=", ".join(absent),
    )


def hold_out(data: TrainingData, examples: int) -> tuple[TrainingData, tuple[ExampleFile, ...]]:
    """Set examples aside, from every file in proportion, a tenth of it or less: the rest, and those set aside.

    All lines of a query go together, in every file: what is measured on is not trained on. Which queries are taken
    follows from their hashes and the seed, so that files that share queries give the same, and a smaller number is part
    of a greater.
    """
    total = sum(len(file) for file in data.files)
    salt = np.random.default_rng(data.schedule.seed).integers(1 << 63, dtype=np.uint64)
    taken = []
    for file in data.files:
        count = min(-(-examples * len(file) // total), len(file) // 10)
        queries, lines = np.unique(file.queries, return_counts=True)
        queries, lines = queries[lines <= count], lines[lines <= count]
        order = np.argsort((queries.view(np.uint64) ^ salt) * _ODD)
        taken.append(queries[order][np.cumsum(lines[order]) <= count])
    held = [np.isin(file.queries, np.concatenate(taken)) for file in data.files]
    kept = tuple(file.take(~chosen) for file, chosen in zip(data.files, held, strict=True))
    old = data.schedule
    for file in kept:
        if len(file) < old.world:
            raise UsageError(
                f"{file.path} has {len(file)} examples left for {old.world} devices, the others share their queries "
                "with what is held out to measure on: leave it out, or measure on a BEIR folder (validation.data)"
            )
    schedule = Schedule(tuple(len(file) for file in kept), old.weights, old.batch, old.world, old.seed)
    aside = tuple(file.take(chosen) for file, chosen in zip(data.files, held, strict=True))
    return replace(data, files=kept, schedule=schedule), aside


def _of_examples(files: Sequence[ExampleFile], prompts: Sequence[str | None]) -> Validation | None:
    """Of the examples of each file, whose prompt stands where one brings none of its own."""
    judged: dict[tuple[str, str | None], dict[int, int]] = {}  # lines of one query are one query
    documents: list[Passage] = []
    places: dict[int, int] = {}
    for file, prompt in zip(files, prompts, strict=True):
        for i in range(len(file)):
            example = file[i]
            own = judged.setdefault((example.query, prompt if example.instruction is None else example.instruction), {})
            for number, passage in enumerate((*example.positives, *example.negatives)):
                place = places.setdefault(text_key(passage.input), len(documents))
                if place == len(documents):
                    documents.append(passage)
                if number < len(example.positives):
                    own[place] = 1
    if not judged:
        return None
    name = f"{sum(map(len, files))} training examples held out"
    return Validation(name, tuple(judged), tuple(documents), tuple(judged.values()))


@dataclass(frozen=True, slots=True)
class Processes:
    """Which process this is, of how many."""

    rank: int = 0
    world: int = 1


@torch.no_grad()
def measure(
    forward: Forward,
    validation: Validation,
    collator: Collator,
    vocab_size: int,
    arms: Sequence[str],
    batch: int,
    device: torch.device,
    processes: Processes = Processes(),
) -> dict[str, float]:
    """nDCG@10 of each arm.

    Args:
        forward: the tower's one forward pass, in evaluation mode, wrapped or not. Every process calls it equally
            often, as sharded models need.
        validation: on what.
        collator: makes tokens of texts.
        vocab_size: V, the width of a sparse vector.
        arms: of "dense", "sparse" and "hybrid".
        batch: texts in one pass.
        device: where the model is.
        processes: the documents are shared out to these.

    Returns:
        Arm to its mean over the queries, the same on every process; NaN where a score is no finite number.
    """
    wanted = [arm for arm in ("dense", "sparse") if arm in arms or "hybrid" in arms]
    dense, counts = _encode_queries(forward, validation, collator, vocab_size, device)
    lists: dict[str, _Best] = {arm: _Best(len(validation.queries), device) for arm in wanted}
    stride = batch * processes.world
    for start in range(0, len(validation.documents), stride):
        first = start + processes.rank * batch
        places = range(first, min(first + batch, len(validation.documents)))
        passages = [validation.documents[i] for i in places] or [validation.documents[0]]  # all must take part
        part = _collate(collator, [("", None)] * len(passages), passages).to(device)
        texts = Texts(part.passage_ids, part.passage_lengths)
        found = forward(TowerInput(passages=texts, sparse="sparse" in wanted))
        if not len(places):
            continue
        if "dense" in lists:
            lists["dense"].add(dense @ normalize(_there(found.passages), dim=-1).T, first)
        if "sparse" in lists:
            lists["sparse"].add(torch.sparse.mm(counts, _there(found.passages_sparse).T), first)
    ranked = {arm: _share(best, processes) for arm, best in lists.items()}
    if "hybrid" in arms:
        ranked["hybrid"] = [
            dict(fuse_scores(own, other)) for own, other in zip(ranked["dense"], ranked["sparse"], strict=True)
        ]
    return {arm: _ndcg(ranked[arm], validation) for arm in arms}


def _there(vectors: Tensor | None) -> Tensor:
    assert vectors is not None  # the tower gives what it was configured for
    return vectors.float()


def _collate(collator: Collator, queries: Sequence[tuple[str, str | None]], passages: Sequence[Passage]) -> Batch:
    rows = tuple(Drawn(text, (passage,), prompt) for (text, prompt), passage in zip(queries, passages, strict=True))
    return collator(DrawnBatch("validation", rows))


def _encode_queries(
    forward: Forward, validation: Validation, collator: Collator, vocab_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Unit look-up vectors float32 [Q, d], and token counts float32 [Q, V] as a sparse matrix."""
    queries = validation.queries
    part = _collate(collator, queries, [Passage("")] * len(queries)).to(device)
    lengths = part.query_offsets.diff()
    owner = torch.repeat_interleave(torch.arange(len(queries), device=device), lengths)
    sums: Tensor | None = None
    for number, prompt in enumerate(part.prompts):
        mine = part.prompt_of[owner] == number
        tokens, inverse = part.query_tokens[mine].unique(return_inverse=True)
        pieces = [forward(TowerInput(lookups=(Lookup(prompt, piece),))).rows for piece in tokens.split(_TOKENS)]
        rows = torch.cat([_there(piece) for piece in pieces])
        if sums is None:
            sums = rows.new_zeros(len(queries), rows.shape[1])
        sums.index_add_(0, owner[mine], rows[inverse])
    assert sums is not None
    count_owner = torch.repeat_interleave(torch.arange(len(queries), device=device), part.count_offsets.diff())
    ones = torch.ones(len(part.count_tokens), device=device)
    places = torch.stack([count_owner, part.count_tokens])
    shape = (len(queries), vocab_size)
    counts = torch.sparse_coo_tensor(places, ones, shape, check_invariants=False).coalesce()
    return normalize(sums, dim=-1), counts


class _Best:
    """The best documents of every query so far."""

    def __init__(self, queries: int, device: torch.device) -> None:
        self.scores = torch.zeros(queries, 0, device=device)
        self.places = torch.zeros(queries, 0, dtype=torch.int64, device=device)

    def add(self, scores: Tensor, first: int) -> None:
        """Scores [Q, b] of the documents from place ``first`` on."""
        places = torch.arange(first, first + scores.shape[1], device=scores.device).expand(len(scores), -1)
        joined, where = torch.cat([self.scores, scores], 1), torch.cat([self.places, places], 1)
        self.scores, order = joined.topk(min(DEPTH, joined.shape[1]), dim=1)
        self.places = where.gather(1, order)


def _share(best: _Best, processes: Processes) -> list[dict[int, float]]:
    """For every query its documents' scores, best first, over all processes; those of score 0 are not found."""
    own: tuple[NDArray[np.float32], NDArray[np.int64]] = (best.scores.cpu().numpy(), best.places.cpu().numpy())
    parts = [own]
    if processes.world > 1:
        parts = [own] * processes.world
        torch.distributed.all_gather_object(parts, own)
    scores, places = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    lists = []
    for row, where in zip(scores, places, strict=True):
        order = np.lexsort((where, -row))[:DEPTH]
        lists.append({int(where[i]): float(row[i]) for i in order if row[i] != 0})
    return lists


def _ndcg(ranked: Sequence[Mapping[int, float]], validation: Validation) -> float:
    if not all(isfinite(score) for found in ranked for score in found.values()):
        return float("nan")
    run = {str(i): {str(place): score for place, score in found.items()} for i, found in enumerate(ranked)}
    qrels = {
        str(i): {str(place): grade for place, grade in found.items()} for i, found in enumerate(validation.relevant)
    }
    return float(evaluate(Run(run), qrels, [MEASURE]).means[MEASURE])
