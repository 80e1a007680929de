"""The command line: finds the verb, runs it, and turns whatever goes wrong into one line and an exit code.

0 success, 2 wrong usage, 1 any other failure, 130 interrupted. Verbs import what they need when they run, so that
``--help`` is instant.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer

from lightretriever import __version__
from lightretriever.cli import (
    add,
    bench,
    cache,
    check,
    delete,
    demo,
    encode,
    fit,
    index,
    info,
    key,
    mcp,
    migrate,
    optimise,
    queries,
    refit,
    reindex,
    restore,
    run,
    screen,
    search,
    serve,
    set_table,
    snapshot,
    sync,
    train,
    tune,
)
from lightretriever.cli import eval as evaluation
from lightretriever.cli.characters import plain
from lightretriever.cli.console import say
from lightretriever.errors import LightRetrieverError, UsageError

VERBS = {
    "cache": cache,
    "fit": fit,
    "screen": screen,
    "train": train,
    "encode": encode,
    "index": index,
    "sync": sync,
    "add": add,
    "delete": delete,
    "optimise": optimise,
    "refit": refit,
    "set-table": set_table,
    "reindex": reindex,
    "snapshot": snapshot,
    "restore": restore,
    "migrate": migrate,
    "check": check,
    "search": search,
    "run": run,
    "serve": serve,
    "mcp": mcp,
    "key": key,
    "queries": queries,
    "eval": evaluation,
    "tune": tune,
    "info": info,
    "bench": bench,
    "demo": demo,
}
RESUMABLE = ("encode", "index", "sync", "add", "reindex", "migrate", "demo")
COMPLETE = "_LIGHTRETRIEVER_COMPLETE"  # as typer's scripts for shells name it
READING = ("search", "serve", "mcp", "check", "screen", "info", "bench")
MANY_VALUES = ("--texts",)
ParseError: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer keeps it

app = typer.Typer(
    name="lightretriever",
    help="Hybrid search with a full language model for documents and no model at all for queries.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lightretriever {__version__}")
        raise typer.Exit


@app.callback(epilog="\b\nStart here:\n  lightretriever demo\n  lightretriever VERB --help")
def _options(
    verbose: bool = typer.Option(False, "--verbose", help="Add the traceback to an error; may stand anywhere."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del verbose, version  # seen to by main and by the callback


for _name, _module in VERBS.items():
    _summary = (_module.command.__doc__ or "").partition("\n")[0]
    app.command(_name, short_help=_summary, epilog=f"\b\nExample:\n  {_module.EXAMPLE}")(_module.command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. ``arguments``: those after the program's name, the process's own if None."""
    gc.set_threshold(50_000, 20, 20)  # what a verb imports stays: to look through it again and again took a sixteenth
    sys.exit(execute(list(sys.argv[1:] if arguments is None else arguments)))


def execute(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    verbose, arguments = _prepare(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what the terminal cannot show is no reason to fail
    warnings.showwarning = _show_warning
    warnings.simplefilter("default", UserWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its remarks and bars are not for our users
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        command = typer.main.get_command(app)
        if COMPLETE in os.environ:  # a shell asks what may come next
            command.main(prog_name="lightretriever")
        with command.make_context("lightretriever", arguments or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:  # so typer's own options end
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt as stop:  # a verb that knows better what is kept says so
        return _fail(130, str(stop) or _interrupted(arguments), verbose)
    except ParseError as error:
        return _fail(2, _usage(error), verbose)
    except UsageError as error:
        return _fail(2, str(error), verbose)
    except LightRetrieverError as error:
        return _fail(1, str(error), verbose)
    except OSError as error:
        if _reader_left(error):  # it has seen enough, as in `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        place = f"{error.filename}: " if error.filename else ""
        return _fail(1, f"{place}{error.strerror or error}{_way_out(error)}", verbose)
    except MemoryError:
        return _fail(1, "out of memory: use smaller shards, fewer texts or a smaller model", verbose)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        hint = "" if verbose else " (--verbose shows where)"
        return _fail(1, f"unexpected {reason}{_way_out(error) or hint}", verbose)


def _prepare(arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether ``--verbose`` is there, and the arguments without it, ``--texts a b`` spelled ``--texts a --texts b`` and
    ``index set-table`` as the verb it is."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    prepared: list[str] = []
    repeated = ""
    for argument in arguments[:end]:
        if argument == "--verbose":
            continue
        if argument in MANY_VALUES:
            repeated = argument
            prepared.append(argument)
        elif argument.startswith("-") and argument != "-":
            repeated = ""
            prepared.append(argument)
        elif repeated and prepared[-1] != repeated:
            prepared += [repeated, argument]
        else:
            prepared.append(argument)
    if prepared[:2] == ["index", "set-table"]:
        del prepared[0]
    return "--verbose" in arguments[:end], [*prepared, *arguments[end:]]


def _fail(code: int, message: str, verbose: bool) -> int:
    if verbose:
        print(*map(plain, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)
    line = " ".join(message.split())
    say(f"lightretriever: {line}")
    return code


def _reader_left(error: OSError) -> bool:
    """Whether nobody reads the standard output any more; Windows calls that an invalid argument."""
    windows = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or windows


def _way_out(error: Exception) -> str:
    full = "No space left on device" in str(error)
    return ": make room and run the same command again" if full else ""


def _usage(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "lightretriever"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return f"{message.rstrip('.')} ({path} --help shows how)"


def _interrupted(arguments: list[str]) -> str:
    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    if verb in RESUMABLE or (verb, True) in (("fit", "--cache" in arguments), ("eval", "--suite" in arguments)):
        return "interrupted: what is done is kept, run the same command again to go on from there"
    if verb in READING:
        return "interrupted: nothing was changed"
    return "interrupted: nothing was written, run the same command again to begin anew"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del category, filename, lineno, file, line
    say(f"warning: {' '.join(str(message).split())}")
