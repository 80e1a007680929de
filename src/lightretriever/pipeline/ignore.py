"""Rules of ``.gitignore`` files, and patterns written like theirs."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".gitignore"
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Ignores:
    """The rules of one file: paths are told relative to the folder it lies in."""

    folder: str
    of_files: GitIgnoreSpec
    of_folders: GitIgnoreSpec

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Whether the path is ignored; None where no rule is about it."""
        inner = os.path.relpath(path, self.folder)
        if is_folder:
            return self.of_folders.check_file(inner + "/").include
        return self.of_files.check_file(inner).include


def read_ignores(folder: str) -> Ignores | None:
    """The rules of the ``.gitignore`` in a folder; None where there is none that can be read, as for git.

    Raises:
        MissingExtraError: there is one, and no ``pathspec``.
    """
    path = Path(folder, IGNORE_FILE)
    try:
        status = path.lstat()  # git follows no link in its place either
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST:
            return None
        lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    except OSError:
        return None
    # A rule that ends in "/" is about folders; pathspec takes it for one about every file below them as well, which
    # would bring files back that another rule ignores.
    of_files = [line for line in lines if not line.rstrip().endswith("/")]
    return Ignores(folder, _spec(of_files, _readable), _spec(lines, _readable))


def ignores_above(folder: Path) -> list[Ignores]:
    """The rules of the folders above, the outermost first, where the folder lies in a repository of git."""
    above: list[Ignores | None] = []
    for parent in (folder, *folder.parents):
        if parent != folder:
            above.append(read_ignores(str(parent)))
        if (parent / ".git").exists():
            return [rules for rules in reversed(above) if rules is not None]
    return []


def ignored(chain: Sequence[Ignores], path: str, is_folder: bool) -> bool:
    """What the innermost file with a rule about the path says of it."""
    for rules in reversed(chain):
        verdict = rules.verdict(path, is_folder)
        if verdict is not None:
            return verdict
    return False


def patterns(given: Sequence[str], what: str) -> GitIgnoreSpec | None:
    """Patterns of the user's (``*.md``, ``guides/**``), ready to match paths; None where there are none.

    Raises:
        InputError: one is no pattern.
        MissingExtraError: no ``pathspec``.
    """

    def refuse(pattern: str) -> bool:
        if not _readable(pattern):
            raise InputError(f"{what}: {pattern!r} is no pattern: write it as in .gitignore, such as '*.md'")
        return True

    return _spec(given, refuse) if given else None


def _spec(lines: Iterable[str], usable: Callable[[str], bool]) -> GitIgnoreSpec:
    try:
        from pathspec import GitIgnoreSpec
    except ImportError:
        raise MissingExtraError("reading .gitignore and patterns of files", "documents") from None
    return GitIgnoreSpec.from_lines([line for line in lines if usable(line)])


def _readable(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True
