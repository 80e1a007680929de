"""What of the sources was read and what was not, for the person watching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightretriever.cli.console import say
from lightretriever.counted import counted

if TYPE_CHECKING:
    from lightretriever.pipeline.documents import Tally

_SHOWN = 3  # of the files that could not be read, unless all are asked for


def say_tally(tally: Tally, listed: bool) -> None:
    """Counts by reason; with ``listed`` every file left out, too."""
    if tally.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.left_out.most_common())
        say(f"left out: {reasons}" + ("" if listed else " (--list-left-out names them)"))
    if listed:
        for path, reason in tally.listed:
            say(f"  {path}: {reason}")
    shown = tally.unreadable if listed else tally.unreadable[:_SHOWN]
    for line in shown:
        say(f"not read: {line}")
    if len(tally.unreadable) > len(shown):
        say(f"not read: {counted(len(tally.unreadable) - len(shown), 'files')} more (--list-left-out names them)")
    if tally.repeated:
        say(f"warning: {counted(tally.repeated, 'documents')} with an id that came before were passed over")
