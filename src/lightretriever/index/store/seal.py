"""The checksum that a row has of its own, of tables whose rows are few: SQLite's checks do not find a flipped bit."""

from __future__ import annotations

import zlib

from lightretriever.errors import ArtifactError


def seal(*values: object) -> int:
    """CRC-32 of numbers, strings and bytes in order."""
    crc = 0
    for value in values:
        part = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        crc = zlib.crc32(part, zlib.crc32(b"%d " % len(part), crc))
    return crc


def check_seal(stored: object, what: str, *values: object) -> None:
    """Raises ArtifactError that names ``what`` when a row is not what was written."""
    if stored != seal(*values):
        raise ArtifactError(f"{what} in the index's database is damaged: restore a snapshot")
