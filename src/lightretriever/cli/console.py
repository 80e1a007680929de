"""What verbs show: results on standard output, progress and remarks on standard error.

On a terminal progress is a bar with rate and time left; anywhere else plain lines, few enough for a log. What people
read may lose letters that their terminal cannot show; data (`print_json`, `write_data`) is UTF-8 everywhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from lightretriever.cli.characters import escape_json, plain
from lightretriever.counted import counted
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.progress import Progress

if TYPE_CHECKING:
    from lightretriever.query.table import TokenTable


class Begin(Protocol):
    """Called as a step begins, with its name and perhaps what it counts; gives what to tell its progress to."""

    def __call__(self, what: str, counted: str = ..., /) -> Progress: ...


LINE_EVERY = 10.0  # seconds between two lines of progress in a log
WIDE = 200  # columns of a line that no terminal limits


def say(line: str) -> None:
    """One line for the person watching, apart from the results; on a terminal broken between words where it is long."""
    print("\n".join(wrapped(line, sys.stderr)), file=sys.stderr, flush=True)


def wrapped(line: str, stream: TextIO) -> list[str]:
    """The line as a terminal has room for it, what goes on indented; whole where the stream is none."""
    line = plain(line)
    if not stream.isatty():
        return [line]
    try:
        own: tuple[int, int] = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        own = (100, 24)
    width = max(shutil.get_terminal_size(own).columns, 20)
    lines = textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines or [line]


def print_json(value: object) -> None:
    """One JSON value on a line of its own, for programs to read: UTF-8 whatever the terminal's encoding.

    Dataclasses become objects, what is neither JSON nor one of these its ``str``; numbers that are not finite become
    null, which JSON has no other word for. A lone surrogate, and what steers a terminal, is written as its escape.
    """
    line = escape_json(json.dumps(_as_json(value), ensure_ascii=False, allow_nan=False, default=str))
    # Only inside a JSON string can there be a lone surrogate, and there its escape is JSON's own.
    write_data(line.encode("utf-8", "backslashreplace") + b"\n")


def write_data(data: bytes) -> None:
    """Bytes on standard output, after the text that was printed there before."""
    sys.stdout.flush()
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None:  # a stream of text that has taken the place of the process's own
        sys.stdout.write(data.decode("utf-8"))
    else:
        raw.write(data)


def _as_json(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _as_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_typed(argument: str) -> str:
    """Text from the command line, read as UTF-8 where the locale knows no such letters (LC_ALL=C)."""
    if argument.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in argument):
        return argument
    return os.fsencode(argument).decode("utf-8", "replace")


def columns() -> int:
    """Width that a line of results may have."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else WIDE


def is_screen(stream: TextIO) -> bool:
    """Whether what is written there is on a terminal that can be drawn over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def shows_marks() -> bool:
    """Whether results may be marked: they go to a terminal that can, and nobody has asked for none (NO_COLOR)."""
    able = sys.platform != "win32" or "WT_SESSION" in os.environ  # the old console there prints the codes
    return able and is_screen(sys.stdout) and not os.environ.get("NO_COLOR")


def shorten(text: str, width: int) -> str:
    """The text on one line of at most ``width`` characters."""
    line = " ".join(plain(text[: 4 * width + 200]).split())
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Plain aligned columns, two spaces apart, or one where the terminal has no room for two; ``right`` are the numbers
    of right-aligned ones."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= columns() else " "
    lines = []
    for row in (header, *([plain(cell) for cell in row] for row in rows)):
        cells = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        lines.append(gap.join(cells).rstrip())
    return "\n".join(lines)


def format_seconds(seconds: float) -> str:
    """0.42 s, 37 s, 4 min 10 s, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def format_bytes(size: float) -> str:
    """812 B, 3.4 kB, 120 MB, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def format_rate(per_second: float) -> str:
    """1,250/s, 3.4/s, 0.31/s."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


@contextmanager
def progress(what: str, unit: str, closing: bool = True) -> Iterator[Progress]:
    """Show the progress of one step; yields the function that the step calls with (done, total or None).

    Args:
        what: the step, "encoding".
        unit: what it counts, "documents".
        closing: whether to end with a line that says how long it took.
    """
    started = time.monotonic()
    done = 0
    with (_bar if is_screen(sys.stderr) else _lines)(what, unit) as show:

        def report(count: int, total: int | None) -> None:
            nonlocal done
            done = count
            show(count, total)

        yield report
    if closing and done:
        say(f"{what}: {counted(done, unit)} in {format_seconds(time.monotonic() - started)}")


@contextmanager
def phases(unit: str, closing: bool = True) -> Iterator[Begin]:
    """Progress of steps that follow one another; yields what gives a step, by name, its function to report to.

    Args:
        unit: what a step counts that does not say.
        closing: as for `progress`.
    """
    with ExitStack() as stack:

        def begin(what: str, counted: str = unit, /) -> Progress:
            stack.close()  # the step before is over
            return stack.enter_context(progress(what, counted, closing))

        yield begin


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    layout = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*layout, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, count="", rate="")
        rate = _Rate()

        def show(done: int, total: int | None) -> None:
            of = f"/{total:,}" if total is not None else ""
            per_second = format_rate(rate.of(done))
            bar.update(task, completed=done, total=total, count=f"{done:,}{of} {unit}", rate=per_second)

        yield show


@contextmanager
def _lines(what: str, unit: str) -> Iterator[Progress]:
    printed = time.monotonic()
    rate = _Rate()

    def show(done: int, total: int | None) -> None:
        nonlocal printed
        per_second = rate.of(done)
        if time.monotonic() - printed < LINE_EVERY:
            return
        printed = time.monotonic()
        speed = f", {format_rate(per_second)}" if per_second else ""
        left = f", {format_seconds((total - done) / per_second)} left" if total is not None and per_second else ""
        told = f"{done:,} of {counted(total, unit)}" if total is not None else counted(done, unit)
        say(f"{what}: {told}{speed}{left}")

    yield show


class _Rate:
    """Counts per second since the first report: what an earlier run had done counts for nothing."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def of(self, done: int) -> float:
        now = time.monotonic()
        self._first = self._first or (done, now)
        return (done - self._first[0]) / max(now - self._first[1], 1e-3)


def folder_size(path: Path) -> int:
    """Bytes that a folder's files take on the disk; engines make files with holes, which take none."""
    files = (file.stat() for file in path.rglob("*") if file.is_file())
    return sum(min(file.st_size, getattr(file, "st_blocks", file.st_size) * 512) for file in files)


def refuse_existing(output: Path) -> None:
    """Fail before the work, not after it, where the output is there already.

    Raises:
        ArtifactError: there is something at ``output``.
    """
    if output.exists():
        raise ArtifactError(f"{output} exists already: remove it or choose another output")


def parse_shard(text: str) -> tuple[int, int]:
    """Worker and number of workers, (2, 4) for "2/4", the first being 1.

    Raises:
        UsageError: anything else.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text}: i/n is needed, from 1/n to n/n (2/4 is the second of four)")
    return int(number), int(count)


def say_table(output: Path, table: TokenTable) -> None:
    """What was made: rows of tokens, and those besides."""
    size = format_bytes(folder_size(output))
    say(f"{output}: {counted(len(table), 'rows')} of {table.dim} dimensions, {table.dtype}, {size}")
    if table.phrases is not None:
        whole = table.phrases.whole
        rows = counted(len(table.phrases) - whole, "rows")
        say(f"{output}: besides, {rows} for phrases, {whole:,} for whole queries")
