"""Writes docs/cli.md out of what every verb's --help says: `python docs/write_cli.py`."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from lightretriever.cli.main import VERBS, execute

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# Command line

Written by `python docs/write_cli.py` out of `lightretriever VERB --help`.

Exit codes: 0 success, 2 wrong usage, 1 any other failure, with one line on standard error that says what and where;
130 interrupted. Results go to standard output, progress and warnings to standard error.
"""


def help_of(*verb: str) -> str:
    """What `lightretriever VERB --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        execute([*verb, "--help"])
    return printed.getvalue().rstrip()


def page() -> str:
    """The whole page."""
    parts = [HEAD, f"```text\n{help_of()}\n```\n"]
    parts += [f"## {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in VERBS]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
