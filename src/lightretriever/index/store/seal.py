"""The checksum that a row has of its own, of tables whose rows are few: SQLite's checks do not find a flipped bit."""

from __future__ import annotations

import zlib

from lightretriever.errors import ArtifactError


def seal(*values: object) -> int:
    """CRC-32 of numbers, strings and bytes in order."""
    parts = [value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass") for value in values]
    return zlib.crc32(b"".join([b"%d %b" % (len(part), part) for part in parts]))


def check_seal(stored: object, what: str, *values: object) -> None:
    """Raises ArtifactError that names ``what`` when a row is not what was written."""
    if stored != seal(*values):
        raise ArtifactError(f"{what} in the index's database is damaged: restore a snapshot")
