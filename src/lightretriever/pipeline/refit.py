"""An index's token table fitted anew to what the index holds now: its vectors are there, so it costs seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, UsageError
from lightretriever.index.engines.engine import pages
from lightretriever.index.index import Index
from lightretriever.index.novelty import LARGE
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, silent
from lightretriever.text.corpus import Document

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

MOST = 100_000
"""Documents, or passages, that a table is fitted to: an even sample of more."""
_PAGE = 1024


def needs_refit(index: Index) -> bool:
    """Whether much of what was added since the table was fitted is of words that no text of its fit had."""
    added = index.info().get("added")
    return isinstance(added, Mapping) and float(str(added["unknown_to_table"])) >= LARGE


def refit_table(
    index: Index, tower: DocumentEncoder | None = None, sentences: int = 8_000, begin: Begin = silent
) -> TokenTable:
    """A table like the index's own, fitted to its documents as they are now; `Index.set_table` puts it in force.

    Args:
        index: an open index, whose documents have texts.
        tower: the index's document model: sentences of the documents are encoded too, and it says what tokens are that
            no document holds. None: the present table says that.
        sentences: that are encoded, at most.
        begin: gives the progress function of each step, by its name and what it counts.

    Raises:
        UsageError: the index's documents are turned to other axes than their model's.
        InputError: there are no documents with texts.
        MismatchError: the tower is not the index's.
    """
    from lightretriever.tables.fit import fit_tables
    from lightretriever.tables.options import FitOptions

    table = index.encoder.table
    if table.rotation is not None:
        raise UsageError(f"{index.path} was made with a turned table: fit one with `fit --axes-of`, and `set-table` it")
    documents, vectors = _sample(index, begin)
    if not documents:
        raise InputError(f"{index.path} has no documents with texts and vectors: there is nothing to fit to")
    (fitted,) = fit_tables(
        tower,
        documents if tower is not None else (),
        [table.prompt if tower is not None else None],
        (documents, vectors),
        None if tower is not None else table,
        FitOptions(dtype=table.dtype, max_length=table.max_length, max_sentences=sentences),
        tokenizer=table.tokenizer,
        begin=begin,
    )
    of = {name: getattr(table, name) for name in ("model", "revision", "prompt", "skip_ids")}
    return fitted if tower is not None else replace(fitted, **of)


def _sample(index: Index, begin: Begin) -> tuple[list[Document], NDArray[np.float32]]:
    """Documents with their vectors, evenly out of all."""
    show, count = begin("reading for the fit", "documents"), index.count
    step = max(1, -(-count // MOST))
    documents: list[Document] = []
    blocks: list[NDArray[np.float32]] = []
    read = 0
    for page in pages(index.engine, _PAGE, vectors=True):
        chosen = [row for row in range(-read % step, len(page), step) if page.dense[row].any()]
        documents += [page.documents[row] for row in chosen]
        blocks.append(page.dense[chosen])
        read += len(page)
        show(read, count)
    return documents, np.concatenate(blocks) if blocks else np.empty((0, index.settings.dim), np.float32)
