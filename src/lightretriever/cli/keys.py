"""Keys as they are pressed, on the terminals of Unix and Windows: not shown, and not held back until Enter."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ESCAPE, ENTER, END = "\x1b", "\r", "\x04"
BACKSPACE, CLEAR, LAST_WORD = "\x7f", "\x15", "\x17"

_REST = 0.05  # seconds in which the rest of an arrow key arrives, over a slow line too
_SAME = str.maketrans({"\n": ENTER, "\b": BACKSPACE})
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|[^\[O])")  # arrows and the like; Alt with a letter


@contextmanager
def pressed() -> Iterator[Callable[[], str]]:
    """Yields what waits for keys and gives all that were pressed since, in order: letters, and those named above.

    Others, as arrows, are left out. Ctrl-C interrupts as ever. Afterwards the terminal is as it was.
    """
    if sys.platform == "win32":
        yield _read_windows
        return
    import select
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read() -> str:
        data = os.read(terminal, 4096)
        if data.endswith(ESCAPE.encode()) and select.select([terminal], [], [], _REST)[0]:
            data += os.read(terminal, 4096)
        return known(decoder.decode(data)) if data else END

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def known(keys: str) -> str:
    """The keys without those that a line of text has no use for, each by one name."""
    named = _SEQUENCE.sub("", keys).translate(_SAME)
    return "".join(
        key for key in named if key.isprintable() or key in (ESCAPE, ENTER, END, BACKSPACE, CLEAR, LAST_WORD)
    )


def edited(line: str, key: str) -> str:
    """The line after a key that writes or takes away."""
    if key == BACKSPACE:
        return line[:-1]
    if key == LAST_WORD:
        return re.sub(r"\S*\s*$", "", line)
    return "" if key == CLEAR else line + key


if sys.platform == "win32":

    def _read_windows() -> str:
        import msvcrt

        keys = ""
        while not keys or msvcrt.kbhit():
            key = msvcrt.getwch()
            if key == "\x03":
                raise KeyboardInterrupt
            if key in "\x00\xe0":  # an arrow or the like: the next says which
                msvcrt.getwch()
            else:
                keys += known(key)
        return keys
