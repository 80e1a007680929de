"""What the texts of a fit say of every token, kept with the table (`lightretriever.query.evidence`)."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer

from lightretriever.query.evidence import Evidence, gather_evidence
from lightretriever.tables.bags import Tokens
from lightretriever.text.tokenizer import inner_tokens, unknown_id

PRIOR_CONFIDENCE = 1.0
"""In a row that only the tower made, of texts that say nothing; see docs/fusion.md."""


def evidence_of(tokens: Tokens, tokenizer: Tokenizer, skip_ids: Iterable[int], prior: float) -> Evidence:
    """Count what the fit saw of each text.

    Args:
        tokens: of the texts fitted to, which are distinct.
        tokenizer: what made them.
        skip_ids: ids that a dense query leaves out; not knowing them matters nothing.
        prior: the confidence in a row that no text moved.
    """
    evidence = gather_evidence(tokens.ids, tokens.offsets, inner_tokens(tokenizer), prior)
    evidence.frequency[list(skip_ids)] = evidence.texts
    if (unknown := unknown_id(tokenizer)) is not None:
        evidence.frequency[unknown] = 0  # it stands for another word in every text
    return evidence
