"""Files into documents: the format chosen, the parsing done in a process apart, errors naming the file.

Formats with a grammar are parsed by libraries, some of them in C, which a file made to do so could hang or crash. They
run in a child process with a limit of memory, which an alarm of the system ends when a document takes too long; it is
started with the first such file, and again after it was ended. Nothing is unpickled from it.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Event, Timer
from types import TracebackType

from lightretriever.errors import InputError, MissingExtraError
from lightretriever.paths import absolute
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, instant
from lightretriever.pipeline.readers.formats import PARSED, contents_of, format_of
from lightretriever.pipeline.walk import Found
from lightretriever.text.corpus import Document
from lightretriever.text.values import safe_text

_HEAD = 1024
_UNWAITING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHILD = "lightretriever.pipeline.readers.child"


def read_file(found: Found, options: ReadOptions = ReadOptions()) -> Iterator[Document]:
    """The documents of one file: one, or for a mailbox one a message. For many files a `Reader` is faster.

    Raises:
        InputError: it cannot be read; one line that names the file and says why.
        MissingExtraError: its format needs the extra ``documents``.
    """
    with Reader(options) as reader:
        yield from reader.read(found)


class Reader:
    """Reads files one after another; used in a ``with`` statement, which ends its process. Not for several threads.

    Args:
        options: how much a file may cost.
    """

    def __init__(self, options: ReadOptions = ReadOptions()) -> None:
        self.options = options
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next file starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def read(self, found: Found) -> Iterator[Document]:
        """The documents of one file; what a generator that is not used up has begun is broken off.

        Raises:
            InputError: it cannot be read; one line that names the file and says why. Of a mailbox the messages that
                can be read come first.
            MissingExtraError: its format needs the extra ``documents``.
        """
        failed: list[str] = []
        try:
            name = format_of(found.path, _head(found.path))
            contents = self._apart(found, name) if name in PARSED else contents_of(found.path, name, self.options)
            for number, content in enumerate(contents, 1):
                if isinstance(content, Content):
                    yield _document(found, name, content, number if name == "mbox" else None)
                else:
                    failed.append(f"message {number}: {content}")
        except UnreadableError as error:
            raise InputError(f"{_shown(found.path)}: {error}") from None
        except OSError as error:
            raise InputError(f"{_shown(found.path)}: it cannot be read: {error.strerror or error}") from None
        if failed:
            more = f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else ""
            raise InputError(f"{_shown(found.path)}: {failed[0]}{more}")

    def _apart(self, found: Found, name: str) -> Iterator[Content | UnreadableError]:
        """What the child process makes of a file."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        finished = False
        try:
            process.stdin.write(json.dumps({"path": str(absolute(found.path)), "format": name}) + "\n")
            process.stdin.flush()
            while not finished:
                line = self._answer(process)
                answer = json.loads(line)
                finished = "end" in answer
                if "missing" in answer:
                    raise MissingExtraError(*answer["missing"])
                if "error" in answer and finished:
                    raise UnreadableError(answer["error"])
                if "error" in answer:
                    yield UnreadableError(answer["error"])
                elif not finished:
                    yield Content(answer["text"], answer["title"], answer["metadata"])
        except BrokenPipeError:
            raise UnreadableError(_ended(process)) from None
        finally:
            if not finished:
                self.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # It finds the modules that this process finds; never those of the working directory, which may be documents.
        folders = [str(absolute(folder)) for folder in sys.path if folder]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, json.dumps(asdict(self.options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            start_new_session=True,  # Ctrl-C is for this process, which ends that one
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it is ready
        return self._process

    def _answer(self, process: subprocess.Popen[str]) -> str:
        """Its next line; it is killed where that takes longer than it may, which ends code in C too."""
        assert process.stdout is not None
        late = Event()

        def end() -> None:
            late.set()  # first: by what follows the reading ends
            process.kill()

        alarm = Timer(self.options.seconds, end)
        alarm.daemon = True
        alarm.start()
        line = process.stdout.readline()
        alarm.cancel()
        if line.endswith("\n"):
            return line
        if late.is_set():
            process.wait()
            raise UnreadableError(f"reading it takes longer than {self.options.seconds:g} seconds (seconds)")
        raise UnreadableError(_ended(process))


def _ended(process: subprocess.Popen[str]) -> str:
    """Why the child process is no more."""
    code = process.wait()
    return f"the process that reads it ended ({_signal_name(-code) if code < 0 else f'exit status {code}'})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _head(path: Path) -> bytes:
    """The first bytes. What became a pipe since it was found would be waited for: it is opened without waiting."""
    with os.fdopen(os.open(path, _UNWAITING), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnreadableError("it is no file")
        return file.read(_HEAD)


def _document(found: Found, name: str, content: Content, number: int | None) -> Document:
    own = content.title or (found.path.name if name == "code" else found.path.stem)
    title = safe_text(own.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    metadata: dict[str, object] = {name: safe_text(value) for name, value in content.metadata.items()}
    metadata |= {"path": found.id, "type": name, "modified": instant(found.mtime)}
    identifier = found.id if number is None else f"{found.id}#{number}"
    return Document(identifier, safe_text(content.text), title, metadata)


def _shown(path: Path) -> str:
    shown = str(path)
    return shown if shown.isprintable() else repr(shown)
