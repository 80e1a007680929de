"""The README: its example runs, its verbs are those there are, and the page of the command line is up to date."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from serving.running import running

from lightretriever.cli.main import VERBS

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "lightretriever"]
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


def _run(command: list[str], folder: Path) -> str:
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.slow
def test_the_example_runs_twice_and_finds_what_it_should(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for _ in range(2):
        assert _run([sys.executable, "-c", example], tmp_path).split()[:2] == ["1", "Everest"]


def _recipe(of: str) -> list[list[str]]:
    """The commands of ours in the block of the console that has one of this kind."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = next(block for block in blocks if of in block).splitlines()
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [[*PROGRAM, *command[1:]] for command in commands if command[0] == "lightretriever"]


@pytest.mark.slow
def test_the_console_recipe_indexes_a_folder_follows_and_serves_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "start.md").write_text("# Setting up\n\nInstall it, then make a configuration file.\n")
    (tmp_path / "docs" / "bread.txt").write_text("Knead the dough, and bake it in a hot oven.\n")
    index, search, sync, serve = _recipe("lightretriever index docs/")
    assert [command[3] for command in (index, search, sync, serve)] == ["index", "search", "sync", "serve"]
    _run(index, tmp_path)
    assert "Setting up" in _run(search, tmp_path).splitlines()[0]
    (tmp_path / "docs" / "moon.txt").write_text("The moon causes the tides.\n")
    _run(sync, tmp_path)
    hits = _run([*PROGRAM, "search", "my.index", "tides of the moon", "-k", "1", "--json"], tmp_path)
    assert json.loads(hits.splitlines()[0])["id"] == "moon.txt"
    with running(*(tmp_path / name for name in serve[4:])) as server:
        assert server.get("/search?q=tides+of+the+moon").json["hits"][0]["id"] == "moon.txt"


@pytest.mark.slow
def test_the_console_recipe_finds_old_words_and_new_ones(tmp_path: Path) -> None:
    rows = [
        ("everest", "Mount Everest is 8,849 metres high, the tallest mountain on Earth."),
        ("thames", "The Thames flows through London to the North Sea."),
        ("bread", "Knead the dough, let it rise for an hour, and bake it in a hot oven."),
        ("moon", "The moon turns around the Earth in 27 days and causes the tides."),
    ]
    corpus = "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in rows)
    (tmp_path / "corpus.jsonl").write_text(corpus, encoding="utf-8")
    recipe = _recipe("lightretriever encode")
    assert [command[3] for command in recipe] == ["encode", "fit", "index", "search"]
    for command in recipe:
        said = _run(command, tmp_path)
    assert "8,849" in "".join(said.splitlines()[:3])
    new = json.dumps({"_id": "puffins", "text": "Puffins nest on the cliffs of Heimaey, an Icelandic island."})
    (tmp_path / "new.jsonl").write_text(new + "\n", encoding="utf-8")
    _run([*PROGRAM, "add", "my.index", "new.jsonl"], tmp_path)
    for query in ("heimaey", "puffins of iceland"):
        hits = _run([*PROGRAM, "search", "my.index", query, "-k", "1", "--json"], tmp_path)
        assert json.loads(hits.splitlines()[0])["id"] == "puffins"
