"""``search INDEX`` on a terminal, without a query: hits as one types."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lightretriever.cli.characters import plain
from lightretriever.cli.console import columns, is_screen, shows_marks
from lightretriever.cli.hits import hit_lines, show_hits
from lightretriever.cli.keys import END, ENTER, ESCAPE, edited, pressed
from lightretriever.counted import counted

if TYPE_CHECKING:
    from lightretriever.types import Hit

    Find = Callable[[str], tuple[Sequence[Hit], str]]

HELP = "Type a query. Enter keeps its hits on the screen, Esc ends."
_PROMPT, _CURSOR = "search: ", "▏"


def explore(find: Find) -> None:
    """Show the hits of what is typed at each key, until Esc, or Ctrl-D where nothing is typed.

    Args:
        find: the hits of a query, and a remark about it, perhaps none.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    query, below = "", [HELP]
    with pressed() as read, Live(console=console, auto_refresh=False, transient=True) as live:

        def show() -> None:
            lines = [_prompt(query, console.width), "", *below]
            shown = Text.from_ansi("\n".join(lines[: console.height - 1]), no_wrap=True, overflow="crop")
            live.update(shown, refresh=True)

        show()
        find("warm")  # loads what is loaded on first use, while the first word is being typed
        while True:
            for key in read():
                if key == ESCAPE or (key == END and not query):
                    return
                if key == ENTER and query.strip():
                    kept = f"{_PROMPT}{plain(query)}\n\n{show_hits(find(query)[0], columns(), shows_marks())}\n"
                    query, below = "", [HELP]
                    show()
                    console.print(Text.from_ansi(kept), soft_wrap=True)
                elif key not in (ENTER, END):
                    query = edited(query, key)
            below = _found(find, query, console.height - 3) if query.strip() else [HELP]
            show()


def wanted() -> bool:
    """Whether there is someone who types, and sees what is shown."""
    return sys.stdin.isatty() and is_screen(sys.stdout)


def _prompt(query: str, width: int) -> str:
    """The line typed into; of a long one the end."""
    room = max(width - len(_PROMPT) - len(_CURSOR) - 1, 1)
    return f"{_PROMPT}{plain(query)[-room:]}{_CURSOR}"


def _found(find: Find, query: str, height: int) -> list[str]:
    """As many hits as there is room for, and how long the search took."""
    started = time.perf_counter()
    hits, remark = find(query)
    took = (time.perf_counter() - started) * 1e3
    lines: list[str] = []
    for hit in hit_lines(hits, columns(), shows_marks()):
        if lines and len(lines) + len(hit) > height - 1:
            break
        lines += [*hit, ""]
    return [f"{counted(len(hits), 'hits')}, {took:.1f} ms{f'; {remark}' if remark else ''}", "", *lines]
