"""LightRetriever: a full language model for documents, a look-up for queries (arXiv 2505.12260).

Names are loaded on first use, so that importing the package costs nothing and a machine that only answers
queries never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.query.table import TokenTable
    from lightretriever.types import Encoded, Hit, Run, SparseVectors

__version__ = "0.1.0"

_HOME = {
    "Encoded": "lightretriever.types",
    "Hit": "lightretriever.types",
    "QueryEncoder": "lightretriever.query.encoder",
    "Run": "lightretriever.types",
    "SparseVectors": "lightretriever.types",
    "TokenTable": "lightretriever.query.table",
}

__all__ = [
    "Encoded",
    "Hit",
    "QueryEncoder",
    "Run",
    "SparseVectors",
    "TokenTable",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'lightretriever' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
