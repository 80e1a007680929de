"""What the texts of a fit say of every token, kept with the table (`lightretriever.query.evidence`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer

from lightretriever.query.evidence import Evidence, gather_evidence
from lightretriever.text.tokenizer import encode_batch, inner_tokens, unknown_id

PRIOR_CONFIDENCE = 0.3
"""In a row that only the tower's own view of the token made, see docs/fitting.md."""
_BATCH = 4096


def evidence_of(
    texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int, skip_ids: Iterable[int], prior: float
) -> Evidence:
    """Count what the fit saw of each text.

    Args:
        texts: those fitted to, distinct.
        tokenizer: without truncation.
        max_tokens: tokens counted of each, from its beginning.
        skip_ids: ids that a dense query leaves out; not knowing them matters nothing.
        prior: the confidence in a row that no text moved.
    """
    ids: list[np.ndarray] = [np.empty(0, dtype=np.int32)]
    lengths: list[int] = []
    for start in range(0, len(texts), _BATCH):  # pieces bound the memory of the tokenizer's own objects
        for encoding in encode_batch(tokenizer, list(texts[start : start + _BATCH])):
            row = np.asarray(encoding.ids[:max_tokens], dtype=np.int32)
            ids.append(row)
            lengths.append(len(row))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    evidence = gather_evidence(np.concatenate(ids), offsets, inner_tokens(tokenizer), prior)
    evidence.frequency[list(skip_ids)] = evidence.texts
    if (unknown := unknown_id(tokenizer)) is not None:
        evidence.frequency[unknown] = 0  # it stands for another word in every text
    return evidence
