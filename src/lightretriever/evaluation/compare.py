"""An index measured arm by arm, and against the full model that the look-up stands in for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightretriever.errors import UsageError
from lightretriever.evaluation.collection import Collection
from lightretriever.evaluation.measures import MEASURES, Evaluation, evaluate
from lightretriever.evaluation.runs import Progress, search_queries
from lightretriever.index.backend import point_key
from lightretriever.types import Encoded, Run
from lightretriever.vectors.parts import usable

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.index import Index

DEPTH = 1000
SYMMETRIC = "symmetric "


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several systems are worth on one collection.

    Attributes:
        measures: names, in the order asked for.
        evaluations: system to its measures. Systems are the modes "dense", "sparse" and "hybrid", and with
            "symmetric " before them the same with queries encoded by the full model.
        runs: system to what it retrieved.
    """

    measures: tuple[str, ...]
    evaluations: Mapping[str, Evaluation]
    runs: Mapping[str, Run]

    def retention(self, system: str, measure: str) -> float | None:
        """Share that a look-up system keeps of the full model's value, 1 being all of it; None without a baseline."""
        full = self.evaluations.get(SYMMETRIC + system)
        if full is None or not full.means[measure]:
            return None
        return self.evaluations[system].means[measure] / full.means[measure]


def compare(
    index: Index,
    collection: Collection,
    tower: DocumentEncoder | None = None,
    measures: Sequence[str] = MEASURES,
    depth: int = DEPTH,
    progress: Callable[[str], Progress] | None = None,
) -> Comparison:
    """Measure every mode of an index on a collection's queries.

    Args:
        index: an open index over the collection's documents.
        collection: queries and judgements.
        tower: the full model; its symmetric dense queries are measured too, alone and fused with the same sparse
            arm (token counts need no model, so there is no other sparse arm to compare with).
        measures: see `evaluate`.
        depth: hits a query.
        progress: gives, for a system's name, the function to report its queries to.

    Raises:
        UsageError: an unknown measure, or a tower that does not fit the index's vectors.
        InputError: the qrels and the queries do not belong together.
    """
    modes = ("dense",) if index.manifest.sparse == "none" else ("dense", "sparse", "hybrid")
    runs: dict[str, Run] = {}
    for mode in modes:
        report = progress(mode) if progress else None
        runs[mode] = search_queries(index, collection.queries, depth, mode, progress=report)
    if tower is not None:
        encode = symmetric_encoder(index, tower, list(collection.queries.values()))
        for mode in modes:
            if mode != "sparse":
                system = SYMMETRIC + mode
                report = progress(system) if progress else None
                runs[system] = search_queries(index, collection.queries, depth, mode, encode=encode, progress=report)
    judged = {point_key(name): name for documents in collection.qrels.values() for name in documents}
    present = {judged[key] for key in index.backend.existing(list(judged))}
    evaluations = {system: evaluate(run, collection.qrels, measures, present) for system, run in runs.items()}
    return Comparison(tuple(measures), evaluations, runs)


def symmetric_encoder(index: Index, tower: DocumentEncoder, queries: Sequence[str]) -> Callable[[list[str]], Encoded]:
    """Encodes by the full model, turned or cut as the index's documents were, the counts being the index's own.

    Only the queries named beforehand can be asked for, which are encoded once. Raises UsageError for a model that does
    not fit the index's vectors.
    """
    dim, rotation = index.encoder.dim, index.encoder.table.rotation
    if tower.dim < dim or (rotation is not None and tower.dim != len(rotation)):
        raise UsageError(
            f"the model {tower.name} has {tower.dim} dimensions, the index {dim}: name the index's own model"
        )
    texts = list(dict.fromkeys(queries))
    # A table without a prompt may be one fitted to vectors alone, which says nothing about prompts.
    given = Encoded(tower.encode_queries(texts, index.encoder.table.prompt or None))
    vectors = usable(given, dim, rotation).dense
    rows = {text: row for row, text in enumerate(texts)}

    def encode(batch: list[str]) -> Encoded:
        return Encoded(vectors[[rows[text] for text in batch]], index.encoder.encode(batch).sparse)

    return encode
