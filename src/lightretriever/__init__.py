"""LightRetriever: a full language model for documents, a look-up for queries (arXiv 2505.12260).

Names are loaded on first use, so that importing the package costs nothing and a machine that only answers
queries never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.evaluation.measures import evaluate
    from lightretriever.fusion import fuse
    from lightretriever.index.index import Index
    from lightretriever.passages.options import PassageOptions
    from lightretriever.pipeline.build import BuildOptions, build_index
    from lightretriever.pipeline.sync import sync_index
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.query.table import TokenTable
    from lightretriever.tables.cache import cache_table
    from lightretriever.tables.fit import fit_table, fit_tables
    from lightretriever.tables.general_table import general_table
    from lightretriever.tables.options import FitOptions
    from lightretriever.training.config import TrainingConfig
    from lightretriever.training.run import train
    from lightretriever.types import Encoded, Hit, Run, SparseVectors

__version__ = "0.1.0"

_HOME = {
    "BuildOptions": "lightretriever.pipeline.build",
    "DocumentEncoder": "lightretriever.document.encoder",
    "Encoded": "lightretriever.types",
    "FitOptions": "lightretriever.tables.options",
    "Hit": "lightretriever.types",
    "Index": "lightretriever.index.index",
    "PassageOptions": "lightretriever.passages.options",
    "QueryEncoder": "lightretriever.query.encoder",
    "Run": "lightretriever.types",
    "SparseVectors": "lightretriever.types",
    "TokenTable": "lightretriever.query.table",
    "TrainingConfig": "lightretriever.training.config",
    "build_index": "lightretriever.pipeline.build",
    "cache_table": "lightretriever.tables.cache",
    "evaluate": "lightretriever.evaluation.measures",
    "fit_table": "lightretriever.tables.fit",
    "fit_tables": "lightretriever.tables.fit",
    "fuse": "lightretriever.fusion",
    "general_table": "lightretriever.tables.general_table",
    "sync_index": "lightretriever.pipeline.sync",
    "train": "lightretriever.training.run",
}

__all__ = [
    "BuildOptions",
    "DocumentEncoder",
    "Encoded",
    "FitOptions",
    "Hit",
    "Index",
    "PassageOptions",
    "QueryEncoder",
    "Run",
    "SparseVectors",
    "TokenTable",
    "TrainingConfig",
    "build_index",
    "cache_table",
    "evaluate",
    "fit_table",
    "fit_tables",
    "fuse",
    "general_table",
    "sync_index",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'lightretriever' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
