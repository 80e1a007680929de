"""The process that builds segments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_an_index_that_was_removed_before_its_builder_began_stays_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightretriever.index.engines.local.build", str(tmp_path), "due"]
    builder = subprocess.run(command, capture_output=True, text=True, check=False)
    assert builder.returncode
    assert "is no index" in builder.stderr
    assert not list(tmp_path.iterdir())
