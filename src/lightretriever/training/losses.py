"""The losses of a batch, as pure functions of its vectors (METHOD "Training losses"; arXiv 2505.12260, section 3).

Query i's target is column i·P of all passages at hand: its P passages stand together, the positive one first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, softmax

from lightretriever.errors import UsageError


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Which losses are summed, and how they are weighted.

    Attributes:
        dense: the look-up query vector against the passages.
        sparse: the query's token counts against the passages' sparse vectors.
        symmetric: the full model's query vector against the passages, too; it is the teacher of the distillations.
        symmetric_sparse: the full model's sparse query vector against theirs.
        contrastive_weight: of every cross-entropy.
        temperature: of cosines.
        sparse_temperature: of sparse inner products.
        flops: λ of the FLOPS regularisation of sparse vectors; 0 for none.
        flops_ramp_steps: T, steps until λ counts in full.
        norm: λ of the mean L1 norm of the passages' sparse vectors; 0 for none.
        mask_duplicates: whether passages that read like a query's positive one are left out of its columns; METHOD
            leaves them in, as negatives.
        matryoshka: first dimensions, each a dense loss of its own; () for all dimensions alone. The last one
            listed teaches where the symmetric scores teach: list the full width last.
        distil_dense, distil_sparse: KL from the symmetric scores of all columns to the look-up and sparse scores.
        distil_vectors: KL between the softmaxes of the unit vectors' entries, symmetric to look-up.
        distil_dense_weight, distil_sparse_weight: their weights; the first is also that of ``distil_vectors``.
        cross_encoder: KL from the cross-encoder scores in the data to the scores of a query's own P passages.
        cross_encoder_weight, cross_encoder_temperature: of it; the temperature divides both sides, the student's
            being the cosine or inner product itself.
    """

    dense: bool = True
    sparse: bool = True
    symmetric: bool = False
    symmetric_sparse: bool = False
    contrastive_weight: float = 1.0
    temperature: float = 0.02
    sparse_temperature: float = 1.0
    flops: float = 1e-3
    flops_ramp_steps: int = 4000
    norm: float = 0.0
    mask_duplicates: bool = False
    matryoshka: tuple[int, ...] = ()
    distil_dense: bool = False
    distil_sparse: bool = False
    distil_vectors: bool = False
    distil_dense_weight: float = 1.0
    distil_sparse_weight: float = 1.0
    cross_encoder: bool = False
    cross_encoder_weight: float = 1.0
    cross_encoder_temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "sparse_temperature", "cross_encoder_temperature"):
            if not getattr(self, name) > 0:
                raise UsageError(f"loss.{name} is {getattr(self, name)}: a positive number is needed")
        if any(dim < 1 for dim in self.matryoshka):
            raise UsageError(f"loss.matryoshka is {list(self.matryoshka)}: positive numbers are needed")

    @property
    def needs_sparse(self) -> bool:
        """Whether a loss looks at passages' sparse vectors."""
        return self.sparse or self.symmetric_sparse

    @property
    def needs_full_queries(self) -> bool:
        """Whether a loss looks at what the model makes of whole queries."""
        return self.needs_symmetric_scores or self.symmetric_sparse or self.distil_vectors

    @property
    def needs_symmetric_scores(self) -> bool:
        """Whether a loss looks at the scores of whole queries' dense vectors."""
        return self.symmetric or self.distil_dense or self.distil_sparse


class Representations(NamedTuple):
    """What the losses see of a batch of B queries and N = B·P passages, all float32, none normalised.

    Attributes:
        passages: [N, d] pooled.
        passages_sparse: [N, V].
        queries: [B, d] look-up means.
        full_queries: [B, d] the symmetric query, pooled.
        full_queries_sparse: [B, V] its sparse vector.
        counts: [B, V] counts of the query's tokens.
        ce_scores: [B, P] of a cross-encoder.
        only_hard_negatives: bool [B].
        passage_keys: int64 [N], equal for passages that read alike.
    """

    passages: Tensor | None = None
    passages_sparse: Tensor | None = None
    queries: Tensor | None = None
    full_queries: Tensor | None = None
    full_queries_sparse: Tensor | None = None
    counts: Tensor | None = None
    ce_scores: Tensor | None = None
    only_hard_negatives: Tensor | None = None
    passage_keys: Tensor | None = None


def regularisation(step: int, ramp_steps: int) -> float:
    """Share of λ that counts at a step, from 0: (step / T)², 1 from T on (T = 0: at once)."""
    return 1.0 if step >= ramp_steps else (step / ramp_steps) ** 2


def contrastive_rows(scores: Tensor, only_own: Tensor | None = None, keys: Tensor | None = None) -> Tensor:
    """Cross-entropy of each query.

    Args:
        scores: [B, N], already over the temperature.
        only_own: bool [B], which queries see their own P columns alone; None for none of them.
        keys: int64 [N]; a query does not see columns of its target's key, but the target. None for all different.

    Returns:
        [B].
    """
    queries, columns = scores.shape
    each = columns // queries
    place = torch.arange(columns, device=scores.device)
    target = place[::each]
    if only_own is not None:
        other = place[None, :] // each != target[:, None] // each
        scores = scores.masked_fill(other & only_own[:, None], float("-inf"))
    if keys is not None:
        alike = (keys[None, :] == keys[target][:, None]) & (place[None, :] != target[:, None])
        scores = scores.masked_fill(alike, float("-inf"))
    return cross_entropy(scores, target, reduction="none")


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) over the last dimension, mean over the batch; the teacher is detached."""
    return kl_div(log_softmax(student, -1), softmax(teacher.detach(), -1), reduction="batchmean")


def flops(vectors: Tensor) -> Tensor:
    """Σ_v (mean over the batch of |p_v|)² of [n, V] (Paria et al. 2020, arXiv 2004.05665)."""
    return vectors.abs().mean(0).square().sum()


def total_loss(found: Representations, config: LossConfig, ramp: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all losses asked for, and each of them.

    Args:
        found: the vectors of one batch, those of all devices where there are several (see `gather`).
        config: which losses.
        ramp: share of λ that counts, see `regularisation`.

    Returns:
        The total, and detached scalars: the named terms, whose sum it is, and ``stats/…``, which are only told:
        mean non-zeros of sparse queries and passages.

    Raises:
        UsageError: a loss needs vectors or scores that the batch does not have, or a dimension beyond them.
    """
    _check(found, config)
    terms: dict[str, Tensor] = {}
    teacher = _symmetric_terms(terms, found, config)
    if config.dense:
        _look_up_terms(terms, found, config, teacher)
    passages = found.passages_sparse
    if config.sparse:
        scores = _needed(found.counts, "counts") @ _needed(passages, "passages_sparse").T
        _score_terms(terms, "sparse", "", scores, config.sparse_temperature, found, config)
        if config.distil_sparse:
            kl = divergence(_needed(teacher, "full_queries"), scores / config.sparse_temperature)
            terms["sparse_distil"] = config.distil_sparse_weight * kl
    if config.symmetric_sparse:
        queries = _needed(found.full_queries_sparse, "full_queries_sparse")
        scores = queries @ _needed(passages, "passages_sparse").T
        _score_terms(terms, "symmetric_sparse", "", scores, config.sparse_temperature, found, config)
        if config.flops:
            terms["flops_queries"] = config.flops * ramp * flops(queries)
    stats: dict[str, Tensor] = {}
    if passages is not None and config.needs_sparse:
        if config.flops:
            terms["flops"] = config.flops * ramp * flops(passages)
        if config.norm:
            terms["norm"] = config.norm * passages.abs().sum(1).mean()
        stats["stats/passage_non_zeros"] = passages.detach().count_nonzero(1).float().mean()
        sparse_queries = found.counts if found.counts is not None else found.full_queries_sparse
        if sparse_queries is not None:
            stats["stats/query_non_zeros"] = sparse_queries.detach().count_nonzero(1).float().mean()
    if not terms:
        raise UsageError("every loss that is asked for has weight 0: give contrastive_weight or another one a weight")
    total = torch.stack(list(terms.values())).sum()
    return total, {name: value.detach() for name, value in terms.items()} | stats


def _symmetric_terms(terms: dict[str, Tensor], found: Representations, config: LossConfig) -> Tensor | None:
    """Adds the symmetric losses; returns the scores that teach, over the temperature."""
    if not config.needs_symmetric_scores:
        return None
    teacher = None
    for dim, name in _dimensions(config):
        scores = _cosines(found.full_queries, found.passages, dim)
        if config.symmetric:
            _score_terms(terms, "symmetric", name, scores, config.temperature, found, config)
        teacher = scores / config.temperature
    return teacher


def _look_up_terms(
    terms: dict[str, Tensor], found: Representations, config: LossConfig, teacher: Tensor | None
) -> None:
    for dim, name in _dimensions(config):
        scores = _cosines(found.queries, found.passages, dim)
        _score_terms(terms, "dense", name, scores, config.temperature, found, config)
        if config.distil_dense:
            kl = divergence(_needed(teacher, "full_queries"), scores / config.temperature)
            terms[f"dense_distil{name}"] = config.distil_dense_weight * kl
        if config.distil_vectors:
            full = _unit(_needed(found.full_queries, "full_queries"), dim)
            kl = divergence(full, _unit(_needed(found.queries, "queries"), dim))
            terms[f"dense_distil_vectors{name}"] = config.distil_dense_weight * kl


def _score_terms(
    terms: dict[str, Tensor],
    kind: str,
    name: str,
    scores: Tensor,
    temperature: float,
    found: Representations,
    config: LossConfig,
) -> None:
    """Cross-entropy and, where there are cross-encoder scores, KL of one kind of scores [B, N]."""
    if config.contrastive_weight:
        keys = found.passage_keys if config.mask_duplicates else None
        rows = contrastive_rows(scores / temperature, found.only_hard_negatives, keys)
        terms[f"{kind}{name}"] = config.contrastive_weight * rows.mean()
    if config.cross_encoder:
        told = _needed(found.ce_scores, "ce_scores")
        queries, each = told.shape
        rows = torch.arange(queries, device=scores.device)
        own = scores.view(queries, queries, each)[rows, rows]
        kl = divergence(told / config.cross_encoder_temperature, own / config.cross_encoder_temperature)
        terms[f"{kind}_cross_encoder{name}"] = config.cross_encoder_weight * kl


def _dimensions(config: LossConfig) -> list[tuple[int | None, str]]:
    return [(dim, f"@{dim}") for dim in config.matryoshka] or [(None, "")]


def _unit(vectors: Tensor, dim: int | None) -> Tensor:
    return normalize(vectors[:, :dim], dim=-1)


def _cosines(queries: Tensor | None, passages: Tensor | None, dim: int | None) -> Tensor:
    return _unit(_needed(queries, "query vectors"), dim) @ _unit(_needed(passages, "passages"), dim).T


def _needed(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise UsageError(f"a loss needs {name}, which this batch does not have: turn that loss off, or give them")
    return value


def _check(found: Representations, config: LossConfig) -> None:
    if not (config.dense or config.sparse or config.symmetric or config.symmetric_sparse):
        raise UsageError("no loss is asked for: set dense, sparse, symmetric or symmetric_sparse")
    width = None if found.passages is None else found.passages.shape[1]
    wrong = [dim for dim in config.matryoshka if width is not None and not 1 <= dim <= width]
    if wrong:
        raise UsageError(f"matryoshka asks for {wrong[0]} dimensions of vectors that have {width}")
