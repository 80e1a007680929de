"""Functions compiled by numba, kept from one process to the next where there is a place to keep them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from numba import njit

_ROOM = bytes(1 << 16)  # as much as a compiled function takes


def compiled(*, inline: bool = False, reassociate: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function when it is first called. It holds no lock on the interpreter, and uses one thread.

    numba keeps what it compiled in the package's folder, else in the user's cache folder. Where neither can be written
    it refuses, some ways only at the first call; here it then compiles anew in every process, and says so once.

    Args:
        inline: put it into every function that calls it.
        reassociate: sums may be reordered, and products joined with them.
    """
    options: dict[str, Any] = {"nogil": True, "inline": "always" if inline else "never"}
    if reassociate:
        options["fastmath"] = {"reassoc", "contract"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kept = njit(cache=True, **options)(function)
            _check_place(kept.stats.cache_path)
        except (RuntimeError, ValueError, OSError):  # the first two where numba knows of no place
            _say_that_nothing_is_kept()
            return njit(**options)(function)
        return kept

    return decorate


def _check_place(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        file.write(_ROOM)
        file.flush()


@cache  # once in a process: numba changes the filters of warnings, after which Python would say it again
def _say_that_nothing_is_kept() -> None:
    warnings.warn(
        "compiled code cannot be kept, and is compiled anew in every process: set NUMBA_CACHE_DIR (of a zipped package "
        "XDG_CACHE_HOME) to a folder that can be written",
        stacklevel=4,
    )
