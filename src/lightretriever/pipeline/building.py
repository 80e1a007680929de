"""Where what an index is built of lies until it is complete: beside it, so that another run goes on from there."""

from __future__ import annotations

from pathlib import Path


def vectors_beside(index: Path) -> Path:
    """The folder of vectors."""
    return index.with_name(f"{index.name}.building") / "vectors"


def table_beside(index: Path) -> Path:
    """The table fitted to them."""
    return index.with_name(f"{index.name}.building") / "table"
