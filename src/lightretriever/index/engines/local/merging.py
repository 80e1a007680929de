"""The lists that segments and fresh rows give for the same queries, as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.engines.engine import Rankings, nothing


def merged(lists: Sequence[Rankings | None], queries: int, k: int) -> Rankings:
    """The k best of several lists of each of q queries, which have no key in common; equal scores by key."""
    found = [rankings for rankings in lists if rankings is not None]
    if len(found) < 2:
        return found[0] if found else nothing(queries)
    counts = np.stack([rankings.counts for rankings in found])
    keys = np.concatenate([rankings.keys for rankings in found], axis=1)
    scores = np.concatenate([rankings.scores for rankings in found], axis=1)
    others = np.concatenate([rankings.others for rankings in found], axis=1)
    starts = np.cumsum([0, *(rankings.keys.shape[1] for rankings in found)])
    shape = queries, min(k, keys.shape[1])
    known = shape if others.shape == scores.shape else (queries, 0)
    best = Rankings(
        np.minimum(counts.sum(axis=0), k), np.zeros(shape, np.int64), np.empty(shape, np.float32),
        np.empty(known, np.float32),
    )  # fmt: skip
    _merge(counts, keys, scores, others, starts, *best.arrays)
    return best


@compiled()
def _precedes(i, a, b, keys, scores):  # type: ignore[no-untyped-def]
    """Whether of query i what stands at a is better than what stands at b."""
    if scores[i, a] != scores[i, b]:
        return scores[i, a] > scores[i, b]
    return keys[i, a] < keys[i, b]


@compiled()
def _merge(counts, keys, scores, others, starts, out_counts, out_keys, out_scores, out_others):  # type: ignore[no-untyped-def]
    """The best of those that stand first in the lists, again and again."""
    at, ends = np.empty(len(counts), np.int64), np.empty(len(counts), np.int64)
    for i in range(len(out_counts)):
        for s in range(len(counts)):
            at[s], ends[s] = starts[s], starts[s] + counts[s, i]
        for place in range(out_counts[i]):
            best = -1
            for s in range(len(counts)):
                if at[s] < ends[s] and (best < 0 or _precedes(i, at[s], at[best], keys, scores)):
                    best = s
            out_keys[i, place], out_scores[i, place] = keys[i, at[best]], scores[i, at[best]]
            if out_others.shape[1]:
                out_others[i, place] = others[i, at[best]]
            at[best] += 1
