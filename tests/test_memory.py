"""The most memory of a process, against what Linux says elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightretriever.memory import most_resident


def test_the_most_resident_memory_is_in_bytes() -> None:
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    if found is None:
        pytest.skip("this system does not say it elsewhere")
    held = int(found[1]) * 1024
    # A process that was forked off a larger one keeps that one's peak.
    assert 0.9 * held < most_resident() < 100 * held
