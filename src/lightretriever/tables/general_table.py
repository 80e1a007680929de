"""A table for a model of which there is no text and no vector yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightretriever.errors import UsageError
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, rows_of_tower, silent
from lightretriever.tables.bags import tokenise
from lightretriever.tables.evidence import PRIOR_CONFIDENCE, evidence_of
from lightretriever.tables.options import FitOptions
from lightretriever.tables.prior import MODEL
from lightretriever.text.tokenizer import without_limits

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder


def general_table(
    tower: DocumentEncoder, prompt: str | None = None, options: FitOptions | None = None, begin: Begin = silent
) -> TokenTable:
    """A table that knows no corpus: what a fit falls back to where its texts say nothing, see `general_rows`.

    Args:
        tower: the frozen document tower.
        prompt: the instruction of queries; the tower's own when None.
        options: ``dim``, ``dtype`` and ``max_length`` count; the others ask for text.
        begin: as for `fit_tables`.

    Raises:
        UsageError: an option that asks for text, or more dimensions than the tower has.
    """
    options = options or FitOptions()
    for name, given in (("l2", options.l2 is not None), ("rotate", options.rotate is not False)):
        if given:
            raise UsageError(f"{name} asks for text to fit to: give texts, or vectors of documents")
    if options.phrases:
        raise UsageError("phrases are found in texts: give some, or leave phrases out")
    rows = rows_of_tower(tower, tower.default_prompt if prompt is None else prompt, begin)
    tokenizer = without_limits(tower.tokenizer)
    return TokenTable.from_rows(
        rows.rows,
        tokenizer,
        model=tower.name,
        revision=tower.revision,
        prompt=rows.prompt,
        dtype=options.dtype,
        dim=options.dim,
        skip_ids=tower.skip_ids,
        max_length=options.max_length,
        evidence=evidence_of(tokenise([], tokenizer, 1), tokenizer, tower.skip_ids, PRIOR_CONFIDENCE),
        counts=tower.counts,
        fitted={"objective": "ridge", "general": True, "samples": 0, "prior": MODEL},
    )
