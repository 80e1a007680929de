"""What shells complete, and that asking takes no longer than it may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = f'#!/bin/sh\nexec "{sys.executable}" -m lightretriever "$@"\n'


def completions(words: str, **environment: str) -> list[str]:
    """What bash is told may stand where the last word is."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    env = {**os.environ, **asked, "_LIGHTRETRIEVER_COMPLETE": "complete_bash", **environment}
    command = [sys.executable, "-m", "lightretriever"]
    found = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert found.stderr == ""
    return found.stdout.split()


def test_verbs_and_options() -> None:
    assert set(completions("lightretriever se")) == {"set-table", "search", "serve"}
    assert completions("lightretriever search x --mi") == ["--min-dense"]
    assert "--install-completion" in completions("lightretriever --")
    assert completions("lightretriever search my.in") == []  # files are the shell's own business


def test_asking_imports_nothing_heavy() -> None:
    program = """
import sys
from lightretriever.cli.main import execute
code = execute([])
heavy = {"numpy", "torch", "transformers", "tokenizers", "numba", "sqlite3"}
print("heavy:", sorted(heavy & set(sys.modules)), code)
"""
    asked = {"COMP_WORDS": "lightretriever search --m", "COMP_CWORD": "2", "_LIGHTRETRIEVER_COMPLETE": "complete_bash"}
    env = {**os.environ, **asked}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert set(found.stdout.splitlines()) == {"--mode", "--min-dense", "heavy: [] 0"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_once_installed(tmp_path: Path) -> None:
    program = tmp_path / "bin/lightretriever"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    def bash(script: str) -> str:
        command = ["bash", "--noprofile", "--norc", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout

    assert "bash completion installed" in bash("lightretriever --install-completion; true")
    asked = "COMP_WORDS=(lightretriever sea); COMP_CWORD=1; _lightretriever_completion lightretriever"
    assert bash(f'. ~/.bashrc; {asked}; echo "${{COMPREPLY[@]}}"') == "search\n"
    script = bash("lightretriever --show-completion; true")
    assert script.strip() == (home / ".bash_completions/lightretriever.sh").read_text().strip()
