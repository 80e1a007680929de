"""An index's settings as they are in its database, to be read and changed behind its back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from lightretriever.index.store.seal import seal
from lightretriever.index.store.state import change_state

FILE = "index.db"


def read_raw(path: Path, name: str = "index") -> Any:
    """What the index in a folder holds under a name; JSON where that is text."""
    with closing(sqlite3.connect(path / FILE)) as connection:
        (value,) = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return json.loads(value) if isinstance(value, str) else value


def write_raw(path: Path, stored: object, name: str = "index") -> None:
    """Put it there, with the checksum that it should have; anything but text and bytes as JSON. Readers find that
    something changed."""
    value = stored if isinstance(stored, str | bytes) else json.dumps(stored)
    checksum = seal(name, value)
    execute(path, "UPDATE settings SET value = ?, checksum = ? WHERE name = ?", value, checksum, name)


def execute(path: Path, statement: str, *values: object) -> None:
    """Do something to the database, as another program would, and say that something changed."""
    with closing(sqlite3.connect(path / FILE, timeout=30)) as connection:
        connection.execute(statement, values)
        change_state(connection, version=1)  # type: ignore[arg-type]
        connection.commit()
