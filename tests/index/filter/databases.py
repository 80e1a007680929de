"""Databases that hold nothing but what filters need."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from lightretriever.index.filter.conditions import TABLES, insert_conditions

Documents = dict[int, Mapping[str, object]]


def made(
    path: Path | str, documents: Documents, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, factory=factory)
    connection.execute("PRAGMA journal_mode = wal")
    for statement in TABLES:
        connection.execute(statement)
    insert_conditions(connection, documents.items())
    return connection
