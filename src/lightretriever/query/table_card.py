"""The README of a table's folder: a model card, as the hub shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lightretriever.query.table_manifest import ROTATION

if TYPE_CHECKING:
    from lightretriever.query.table import TokenTable


def model_card(table: TokenTable) -> str:
    """Markdown."""
    if table.model:
        title = f"for {table.model}"
        whose = f"document vectors of `{table.model}` (revision `{table.revision or 'unknown'}`)"
        how = "fitted to it on unlabelled text" if table.fitted else "cached from it, one row a token"
    else:
        title = "fitted to given vectors, model unknown"
        whose = "the document vectors that it was made for: they were given, and nobody said by which model"
        how = f"fitted to them, {table.dim} dimensions"
    turned = ""
    if table.rotation is not None:
        turned = f" Document vectors are multiplied by `{ROTATION}` {list(table.rotation.shape)} and normalised first."
    return f"""---
library_name: lightretriever
tags: [token-table, static-embeddings, retrieval]
---
# Token table {title}

A look-up query encoder ([LightRetriever](https://arxiv.org/abs/2505.12260)): the mean of a query's token rows,
normalised, is searched among {whose}.
It was {how}.{turned}

| rows | dimensions | stored as | prompt |
|---|---|---|---|
| {len(table)} | {table.dim} | {table.dtype} | {json.dumps(table.prompt, ensure_ascii=False).replace("|", "&#124;")} |

{_kept(table)}```python
from lightretriever import QueryEncoder

encoder = QueryEncoder.load("this/folder")
vectors = encoder.encode(["how tall is everest"]).dense  # float32 [1, {table.dim}], unit rows
```
"""


def _kept(table: TokenTable) -> str:
    """What a fit measured on texts that it held out; "" where it did not."""
    fitted = table.fitted or {}
    overlap, ndcg = fitted.get("held_out_overlap"), fitted.get("held_out_ndcg")
    if not isinstance(overlap, float) or not isinstance(ndcg, float):
        return ""
    return (
        f"For texts held out of the fit it finds {overlap:.0%} of the ten that the model ranks first among its own ten "
        f"(nDCG@10 {ndcg:.3f}).\n\n"
    )
