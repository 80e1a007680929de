"""The process that has the document tower: `python -m lightretriever.serving.tower.process FOLDER`.

It ends when its server does, however that ends: the server holds a lock as long as it lives.
"""

from __future__ import annotations

import logging.config
import os
import secrets
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lightretriever.errors import InputError, LightRetrieverError, LockedError, UsageError
from lightretriever.serving.log import log_settings, say
from lightretriever.serving.tower import messages
from lightretriever.serving.tower.messages import Ask, AskDocuments, Asked, Reply, TowerSettings
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.lock import lock_folder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_GLANCE = 0.5  # seconds between looks whether the server is still there


def main(folder: Path) -> int:
    """Load the tower, and answer until the server has gone."""
    logging.config.dictConfig(log_settings())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which sends it to all: the server says when
    threading.Thread(target=_end_with_server, args=(folder,), daemon=True).start()
    started = time.monotonic()
    try:
        with lock_folder(folder, messages.STARTING):  # which says to the others that it is coming
            settings = msgspec.json.decode((folder / messages.SETTINGS).read_bytes(), type=TowerSettings)
            tower = _load(settings)
            secret = secrets.token_bytes(32)
            place = folder / messages.SECRET
            place.touch(mode=0o600)
            place.write_bytes(secret)
            Path(messages.address(folder)).unlink(missing_ok=True)
            listener = Listener(messages.address(folder), authkey=secret)
    except LockedError:
        return 0  # another is there
    except LightRetrieverError as error:
        (folder / messages.FAILED).write_text(str(error), encoding="utf-8")
        say("the document model cannot be loaded", logging.ERROR, error=str(error))
        return 1
    say("the document model is there", model=tower.name, seconds=round(time.monotonic() - started, 1))
    one_at_a_time = threading.Lock()
    while True:
        try:
            connection = listener.accept()
        except (OSError, EOFError):  # somebody who hung up, or who is no worker
            continue
        threading.Thread(target=_answer, args=(connection, tower, one_at_a_time), daemon=True).start()


def _load(settings: TowerSettings) -> DocumentEncoder:
    from lightretriever.document.device import fastest
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.folder import load_settings
    from lightretriever.index.settings import check_model
    from lightretriever.pipeline.towers import load_document_tower

    if not settings.index:
        dtype = fastest(settings.compute, settings.device)
        return DocumentEncoder.load(settings.model, device=settings.device, dtype=dtype, sparse="none")
    bound = load_settings(Path(settings.index))
    tower = load_document_tower(bound, settings.model, None, settings.device, settings.compute)
    check_model("the --model", tower.name, tower.revision, settings.index, bound.model, bound.revision)
    return tower


def _answer(connection: Connection[Any, Any], tower: DocumentEncoder, one_at_a_time: threading.Lock) -> None:
    decode, encode = msgspec.msgpack.Decoder(Asked).decode, msgspec.msgpack.Encoder().encode
    with connection:
        while True:
            try:
                asked = decode(connection.recv_bytes())
                with one_at_a_time:
                    reply = _reply(tower, asked)
                connection.send_bytes(encode(reply))
            except (EOFError, OSError):
                return  # the worker hung up


def _reply(tower: DocumentEncoder, asked: Asked) -> Reply:
    try:
        if isinstance(asked, Ask):
            found = None
        elif isinstance(asked, AskDocuments):
            found = tower.encode([Document(each.id, each.text, each.title) for each in asked.documents])
        else:
            found = Encoded(tower.encode_queries(asked.texts, asked.prompt))
    except (UsageError, InputError) as error:
        return Reply(str(error), yours=True)
    except Exception as error:  # whatever the model does, the next one asked may go well
        say("the document model failed", logging.ERROR, error)
        return Reply(f"the document model failed: {type(error).__name__}")
    if found is None:
        return Reply(name=tower.name, revision=tower.revision, dim=tower.dim)
    sparse = found.sparse
    parts = None if sparse is None else (sparse.indptr.tobytes(), sparse.indices.tobytes(), sparse.values.tobytes())
    width = 0 if sparse is None else sparse.width
    return Reply("", False, tower.name, tower.revision, found.dense.shape[1], found.dense.tobytes(), parts, width)


def _end_with_server(folder: Path) -> None:
    while True:
        try:
            lock_folder(folder, messages.SERVING).close()
        except LockedError:
            time.sleep(_GLANCE)
            continue
        except OSError:  # the folder is gone: the server ended as it should
            pass
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
