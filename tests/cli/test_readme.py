"""The README: its example runs, its verbs are those there are, and the page of the command line is up to date."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lightretriever.cli.main import VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_hits_are_within_25_lines() -> None:
    first = README.splitlines()[:25]
    assert any(line.startswith("$ make demo") for line in first)
    assert any(line.startswith("$ lightretriever search") for line in first)


def test_the_table_of_verbs_has_them_all() -> None:
    named = re.findall(r"`([\w-]+) ?[^`]*`", "\n".join(line.split("|")[1] for line in _table("verb")))
    assert set(named) == set(VERBS)


def _table(first: str) -> list[str]:
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = [line.replace("\\|", "/") for line in lines[start + 2 :]]
    return rows[: next(i for i, line in enumerate(rows) if not line.startswith("|"))]


def test_the_page_of_the_command_line_is_what_help_says() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))
    names = set(re.findall(r"--[a-z][a-z0-9-]+", written["page"]()))
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    # Words wrap differently from version to version of typer: what must agree are verbs and options.
    assert names == set(re.findall(r"--[a-z][a-z0-9-]+", page))
    assert re.findall(r"^## ([\w-]+)$", page, re.MULTILINE) == list(VERBS)


@pytest.mark.slow
def test_the_example_runs_and_finds_what_it_should(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[:2] == ["1", "Everest"]
