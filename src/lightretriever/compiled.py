"""Functions compiled by numba, kept from one process to the next where there is a place to keep them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

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
            kept = njit(**options)(function)
            kept._cache = _Kept(function)
            _check_place(kept.stats.cache_path)
        except (RuntimeError, ValueError, OSError):  # the first two where numba knows of no place
            _say(_NOT_KEPT)
            return njit(**options)(function)
        return kept

    return decorate


@cache  # asked for every function of a folder
def _check_place(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        file.write(_ROOM)
        file.flush()


class _Kept(FunctionCache):
    """numba's files of compiled code, where what is damaged, or cannot be written any more, stops nobody."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling what is damaged may raise any
            reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
            _say(f"compiled code kept in {self.cache_path} is damaged ({reason}): it is compiled anew")
        with suppress(OSError):
            self.flush()  # so that it can be kept again
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # as above: saving reads what there is
            _say(_NOT_KEPT)


_NOT_KEPT = (
    "compiled code cannot be kept, and is compiled anew in every process: set NUMBA_CACHE_DIR (of a zipped package "
    "XDG_CACHE_HOME) to a folder that can be written"
)


@cache  # once in a process: numba changes the filters of warnings, after which Python would say it again
def _say(what: str) -> None:
    warnings.warn(what, stacklevel=4)
