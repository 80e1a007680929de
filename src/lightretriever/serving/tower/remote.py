"""The document tower in a process of its own, started when it is first needed: no worker ever loads torch."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import LockedError, ModelError, UsageError
from lightretriever.progress import Progress
from lightretriever.serving.log import say
from lightretriever.serving.tower import messages
from lightretriever.serving.tower.messages import Ask, AskDocuments, Asked, AskQueries, Reply
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.lock import lock_folder

_PATIENCE = 600.0  # seconds that a large model may take to load
_GLANCE = 0.05  # seconds between looks whether it has


class TowerLink:
    """A worker's way to the tower of its server. Threads may share it; the tower answers one at a time.

    Args:
        folder: which the server's processes share.
        settings: which tower.
    """

    def __init__(self, folder: Path, settings: messages.TowerSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: Connection[Any, Any] | None = None
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Reply).decode

    def ask(self, asked: Asked) -> Reply:
        """Ask the tower, once more where it went away.

        Raises:
            ModelError: it cannot be loaded, or fails.
            UsageError: what it was asked makes no sense.
        """
        with self._lock:
            try:
                reply = self._exchange(asked)
            except (EOFError, OSError):
                self._connection = None
                try:
                    reply = self._exchange(asked)
                except (EOFError, OSError) as error:
                    self._connection = None
                    raise ModelError(f"the document model's process ended ({error}): its log says why") from None
        if reply.error:
            raise (UsageError if reply.yours else ModelError)(reply.error)
        return reply

    def _exchange(self, asked: Asked) -> Reply:
        if self._connection is None:
            self._connection = self._connected()
        self._connection.send_bytes(self._encode(asked))
        return self._decode(self._connection.recv_bytes())

    def _connected(self) -> Connection[Any, Any]:
        deadline = time.monotonic() + _PATIENCE
        child: subprocess.Popen[bytes] | None = None
        failed = self._folder / messages.FAILED
        while time.monotonic() < deadline:
            connection = self._try()
            if connection is not None:
                return connection
            if child is None:
                child = self._begin()
            elif child.poll() == 0:
                child = None  # another worker's is coming
            elif child.poll() is not None:
                reason = failed.read_text(encoding="utf-8") if failed.exists() else f"it ended with {child.returncode}"
                raise ModelError(f"the document model cannot be loaded: {reason}")
            time.sleep(_GLANCE)
        raise ModelError(f"the document model was not there within {_PATIENCE:.0f} s")

    def _try(self) -> Connection[Any, Any] | None:
        try:
            secret = (self._folder / messages.SECRET).read_bytes()
            return Client(messages.address(self._folder), authkey=secret)
        except (OSError, EOFError):
            return None

    def _begin(self) -> subprocess.Popen[bytes] | None:
        """Start the tower, unless another worker is at it."""
        try:
            with lock_folder(self._folder, messages.STARTING):
                (self._folder / messages.FAILED).unlink(missing_ok=True)
                (self._folder / messages.SETTINGS).write_bytes(msgspec.json.encode(self._settings))
                say("the document model is being loaded", model=self._settings.model)
                program = [sys.executable, "-m", "lightretriever.serving.tower.process", str(self._folder)]
                return subprocess.Popen(program, stdin=subprocess.DEVNULL)
        except LockedError:
            return None

    def close(self) -> None:
        """Hang up; the tower ends with the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class RemoteTower:
    """Stands where a `DocumentEncoder` would.

    Args:
        link: to the process that has it.
        tokenizer: of the index's table, which splits documents into passages.
    """

    name, revision = "", ""  # the tower's process compares them with the index's

    def __init__(self, link: TowerLink, tokenizer: Tokenizer) -> None:
        self._link = link
        self.tokenizer = tokenizer

    @property
    def dim(self) -> int:
        """d, of the model's vectors."""
        return self._link.ask(Ask()).dim

    def encode(self, documents: Sequence[Document], progress: Progress | None = None) -> Encoded:
        """As `DocumentEncoder.encode`. Raises as `TowerLink.ask`."""
        found = self._link.ask(AskDocuments(messages.as_texts(list(documents)))).encoded()
        if progress is not None:
            progress(len(found), len(found))
        return found

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """As `DocumentEncoder.encode_queries`. Raises as `TowerLink.ask`."""
        return self._link.ask(AskQueries(list(texts), prompt)).encoded().dense
