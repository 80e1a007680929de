"""An index measured arm by arm, and against the full model that the look-up stands in for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightretriever.counted import counted
from lightretriever.errors import InputError
from lightretriever.evaluation.collection import Collection
from lightretriever.evaluation.measures import MEASURES, Evaluation, check_measures, check_qrels, depth_of, evaluate
from lightretriever.evaluation.runs import search_queries, without_own_ids
from lightretriever.index.filter.language import Filter, matches, parse_filter
from lightretriever.index.full import full_vectors
from lightretriever.index.stored_passages import existing_documents, stored_documents
from lightretriever.index.tenant import check_tenant
from lightretriever.progress import Report
from lightretriever.types import Encoded, Run

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.index import Index

SYMMETRIC = "symmetric "
BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several systems are worth on one collection.

    Attributes:
        measures: names, in the order asked for.
        evaluations: system to its measures. Systems are the modes "dense", "sparse" and "hybrid", and with
            "symmetric " before them the same with queries encoded by the full model; and "bm25".
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
    depth: int | None = None,
    progress: Report | None = None,
    *,
    bm25: bool = False,
    ignore_own_ids: bool = False,
    filter: Mapping[str, object] | None = None,
) -> Comparison:
    """Measure every mode of an index on a collection's queries.

    Args:
        index: an open index over the collection's documents.
        collection: queries and judgements.
        tower: the full model; its symmetric dense queries are measured too, alone and fused with the same sparse
            arm (token counts need no model, so there is no other sparse arm to compare with).
        measures: see `evaluate`.
        depth: hits a query; as many as the measures look at when None.
        progress: gives, for a system's name, the function to report its queries to.
        bm25: also measure BM25 over the index's own tokens; left out where that is the sparse side already.
        ignore_own_ids: leave out hits whose id is the query's, in every system, where queries are documents too.
        filter: which documents every system may find, see `Index.search_encoded`; judged ones that it leaves out count
            as missed.

    Raises:
        UsageError: an unknown measure, a tower that does not fit the index's vectors, a filter that is none, or none
            that fixes the tenant of an index that keeps tenants apart.
        InputError: a relevance or an id that is none, or the qrels and the index do not belong together.
    """
    present = check_comparable(index, collection, measures, filter)
    depth = depth_of(check_measures(measures)) if depth is None else depth
    where = parse_filter(filter)
    wanted = depth + ignore_own_ids  # one more, in the place of the query's own
    modes = ("dense",) if index.settings.sparse == "none" else ("dense", "sparse", "hybrid")
    runs: dict[str, Run] = {}
    for mode in modes:
        report = progress(mode) if progress else None
        runs[mode] = search_queries(index, collection.queries, wanted, mode, filter=filter, progress=report)
    if tower is not None:
        encode = symmetric_encoder(index, tower, list(collection.queries.values()))
        for mode in modes:
            if mode != "sparse":
                system = SYMMETRIC + mode
                report = progress(system) if progress else None
                runs[system] = search_queries(
                    index, collection.queries, wanted, mode, filter=filter, encode=encode, progress=report
                )
    if bm25 and index.settings.sparse != "bm25":
        from lightretriever.evaluation.lexical import search_bm25

        runs[BM25] = search_bm25(index, collection.queries, wanted, progress(BM25) if progress else None, where)
    # The run's own name is what tells files of several systems apart in other tools.
    runs = {system: replace(run, tag=system.replace(" ", "-")) for system, run in runs.items()}
    if ignore_own_ids:
        runs = {system: without_own_ids(run, depth) for system, run in runs.items()}
    evaluations = {system: evaluate(run, collection.qrels, measures, present) for system, run in runs.items()}
    own = sum(grades.get(query, 0) > 0 for query, grades in collection.qrels.items()) if ignore_own_ids else 0
    lines = []
    if own:
        lines.append(
            f"{counted(own, 'queries')} with the document of the same id judged relevant: left out, counted as missed"
        )
    if where is not None and (kept := _passing(index, where, list(present))) < len(present):
        judged = len(_judged(collection))
        lines.append(f"the filter leaves out {len(present) - kept} of {judged} judged documents: they count as missed")
    evaluations = {system: replace(found, warnings=(*found.warnings, *lines)) for system, found in evaluations.items()}
    return Comparison(tuple(measures), evaluations, runs)


def check_comparable(
    index: Index,
    collection: Collection,
    measures: Sequence[str] = MEASURES,
    filter: Mapping[str, object] | None = None,
) -> set[str]:
    """See that `compare` can measure an index on a collection, which needs no model.

    Returns:
        The judged documents that the index has.

    Raises:
        UsageError, InputError: as `compare`, but for what it says of the tower.
    """
    check_measures(measures)
    check_qrels(collection.qrels)
    check_tenant(parse_filter(filter), index.settings.tenant)
    judged = _judged(collection)
    present = existing_documents(index.engine, judged, index.settings.passages is not None)
    if not present:
        raise InputError(
            f"the index has none of the {counted(len(judged), 'documents')} judged "
            f"({', '.join(judged[:3])} …): was it made of the corpus in {collection.path}?"
        )
    return present


def _judged(collection: Collection) -> list[str]:
    return list(dict.fromkeys(name for grades in collection.qrels.values() for name in grades))


def _passing(index: Index, where: Filter, ids: Sequence[str]) -> int:
    """How many of some documents pass a filter; those that the index lacks do not."""
    found = stored_documents(index.engine, ids, index.settings.passages is not None)
    return sum(matches(where, document.metadata) for document in found.values())


def symmetric_encoder(index: Index, tower: DocumentEncoder, queries: Sequence[str]) -> Callable[[list[str]], Encoded]:
    """Encodes by the full model, turned or cut as the index's documents were, the counts being the index's own.

    Only the queries named beforehand can be asked for, which are encoded once. Raises UsageError for a model that does
    not fit the index's vectors.
    """
    texts = list(dict.fromkeys(queries))
    vectors = full_vectors(tower, texts, index.encoder.table)
    rows = {text: row for row, text in enumerate(texts)}

    def encode(batch: list[str]) -> Encoded:
        return Encoded(vectors[[rows[text] for text in batch]], index.encoder.encode(batch).sparse)

    return encode
