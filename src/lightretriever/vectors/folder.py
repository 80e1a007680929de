"""The vectors folder: documents and what the tower made of them, encoded once, by one worker or by many.

    VECTORS/
      manifest.json               model, revision, dimension, dtype, width, settings: the same for every worker
      tokenizer.json              the tower's, where it is known: a table can be fitted to the folder without the tower
      shard-00001-of-00002/       what worker 1 of 2 wrote; nobody else writes there
        part-000000.safetensors   dense [n, d]; sparse.indptr, sparse.indices, sparse.values where there are any
        part-000000.jsonl.zst     the n documents, one JSON object a line
        done.jsonl                one line a finished part: its number of documents, SHA-256 of both files
        manifest.json             written last: how many parts and documents the worker wrote in all
        lock                      held by the worker while it writes

A part is written whole and fsynced before its line is added to ``done.jsonl``, so a worker killed anywhere goes on
after its last whole part. Workers share nothing but the identical top manifest; a reader wants all n of n finished,
and checks every file against its checksum as it reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Tokenizer

from lightretriever.artifact import MANIFEST, fsync_path, new_file, sha256_bytes, writing
from lightretriever.checked import begun_otherwise
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.text.corpus import Document, given_document
from lightretriever.text.tokenizer import load_tokenizer
from lightretriever.types import Encoded
from lightretriever.vectors.lock import lock_folder
from lightretriever.vectors.manifest import DTYPES, ShardManifest, VectorsManifest
from lightretriever.vectors.parts import (
    DONE,
    Part,
    check_size,
    check_vectors,
    content_lines,
    read_documents,
    read_done,
    read_vectors,
    reading,
    write_part,
)

TOKENIZER = "tokenizer.json"


def take_shard(documents: Iterable[Document], shard: tuple[int, int]) -> Iterator[Document]:
    """The documents of worker i of n, i in 1 … n: every n-th, beginning with the i-th.

    Raises:
        UsageError: i outside 1 … n.
    """
    i, n = shard
    if not 1 <= i <= n:
        raise UsageError(f"the shard is {i}/{n}: the first number goes from 1 to the second")
    return islice(documents, i - 1, None, n)


class VectorsWriter:
    """Writes one worker's shard of a vectors folder, part by part, and resumes where it was interrupted.

    It holds the shard until it finishes; use it in a ``with`` block, or `close` it.

    Attributes:
        finished: whether `finish` was called, now or in an earlier run.
    """

    def __init__(
        self, shard: Path, manifest: VectorsManifest, parts: list[Part], finished: bool, lock: IO[bytes]
    ) -> None:
        """Use `open`."""
        self._lock = lock
        self._shard = shard
        self._manifest = manifest
        self._parts = parts
        self.finished = finished

    @staticmethod
    def open(
        path: str | Path,
        *,
        model: str,
        revision: str,
        dim: int,
        settings: Mapping[str, object],
        width: int | None,
        dtype: str = "float16",
        shard: tuple[int, int] = (1, 1),
        tokenizer: Tokenizer | None = None,
        origin: Mapping[str, object] | None = None,
    ) -> VectorsWriter:
        """Begin a shard, or resume it.

        Args:
            path: the vectors folder, shared by all workers.
            model, revision: the tower.
            dim: d of the dense vectors.
            settings: what else decides the vectors (max_length, top_k, …); JSON-able.
            width: V of the sparse vectors, None where there are none.
            dtype: "float32" or "float16", how dense and sparse values are stored.
            shard: (i, n), worker i of n, i in 1 … n.
            tokenizer: the tower's, kept in the folder.
            origin: where the tower was loaded from (``source``, ``base``); noted by whoever begins the folder, and not
                compared, since another worker may have it in another place.

        Raises:
            MismatchError: the folder was begun with another model, other settings, or another number of workers.
            ArtifactError: the folder is damaged or is something else.
            LockedError: another process, or another writer of this one, is at the shard.
            UsageError: an unknown dtype or an impossible shard.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
        take_shard([], shard)
        folder = Path(path).absolute()  # whatever becomes the process's own
        plain = json.loads(json.dumps(dict(settings)))
        manifest = VectorsManifest(model, revision, dim, dtype, width, plain, shard[1], dict(origin or {}))
        if (folder / MANIFEST).exists():
            _check_begun(folder, VectorsManifest.load(folder), manifest)
        elif folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise ArtifactError(f"{folder} exists and is no vectors folder: choose another output")
        else:
            manifest.save(folder)
        if tokenizer is not None and not (folder / TOKENIZER).exists():
            with new_file(folder / TOKENIZER) as temporary:
                temporary.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        own = folder / _shard_name(shard)
        with writing(own):
            own.mkdir(exist_ok=True)
            fsync_path(folder)
            lock = lock_folder(own)
        try:
            return VectorsWriter(own, manifest, read_done(own, repair=True), (own / MANIFEST).exists(), lock)
        except ArtifactError:
            lock.close()
            raise

    def __enter__(self) -> VectorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the shard, finished or not; nothing can be added after it. A second call does nothing."""
        self._lock.close()

    def kept(self) -> int:
        """`done` as the disk has it: an interrupt may come between a part's being written and its being counted."""
        return sum(part.documents for part in read_done(self._shard))

    @property
    def done(self) -> int:
        """Documents written by this worker so far, in this run and before."""
        return sum(part.documents for part in self._parts)

    def resume(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Of this worker's documents, those that were not written before.

        Raises:
            MismatchError: the documents do not begin with those that were written.
            InputError, UsageError: one of these cannot be kept, as for `append`.
        """
        stream = iter(documents)
        for number, part in enumerate(self._parts):
            documents = list(map(given_document, islice(stream, part.documents)))
            if sha256_bytes(content_lines(documents)) != part.content:
                raise MismatchError(
                    f"{self._shard}: part {number} was encoded from other documents than the corpus has there now: "
                    "restore the corpus, or choose another output"
                )
        return stream

    def append(self, documents: list[Document], encoded: Encoded) -> None:
        """Write one part; it is durable when this returns.

        Args:
            documents: n documents.
            encoded: their vectors, in the same order: dense [n, d], unit or zero rows;
                sparse [n, V] or None as at `open`.

        Raises:
            MismatchError: another number, dimension or width of vectors than was said.
            InputError: a document with a value that JSON does not have, or a vector that is not finite or not of unit
                length; the document's id is named.
            UsageError: a document without an id; the shard is finished, or the writer closed.
            ArtifactError: the disk is full, or cannot be written for another reason.
        """
        if self.finished:
            raise UsageError(f"{self._shard} is finished: nothing can be added")
        self._check_open()
        if not documents:
            return
        documents = list(map(given_document, documents))
        check_vectors([document.id for document in documents], encoded, self._manifest.dim, zeros=True)
        width, expected = None if encoded.sparse is None else encoded.sparse.width, self._manifest.sparse_width
        if width != expected:
            raise MismatchError(f"the sparse vectors have width {width}, {expected} was announced")
        number, dtype = len(self._parts), np.dtype(self._manifest.dtype)
        try:
            self._parts.append(write_part(self._shard, number, documents, encoded, dtype))
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"{self._shard}: part {number} cannot be written ({error}): make room and run again, "
                f"the {self.done} documents before it are kept"
            ) from None

    def finish(self) -> None:
        """Declare the shard complete and let go of it. Without this a reader refuses the folder."""
        self._check_open()
        ShardManifest(len(self._parts), self.done).save(self._shard)
        self.finished = True
        self.close()

    def _check_open(self) -> None:
        if self._lock.closed:
            raise UsageError(f"the writer of {self._shard} is closed: open it again")


@dataclass(frozen=True, slots=True)
class VectorsFolder:
    """A complete vectors folder, opened for reading.

    Attributes:
        path: where it is.
        model, revision, settings: the tower and how it was used.
        origin: where it was loaded from, ``source`` and ``base``; empty where that is not known.
        dim: d of the dense vectors.
        sparse_width: V of the sparse vectors, or None.
        count: documents in all shards, duplicate ids included.
        zeros: how many of them have no dense vector but the zero row.
        shards: how many workers wrote it.
    """

    path: Path
    model: str
    revision: str
    dim: int
    sparse_width: int | None
    settings: Mapping[str, object]
    origin: Mapping[str, object]
    count: int
    zeros: int
    shards: int
    _parts: tuple[tuple[int, int, Part], ...]

    @staticmethod
    def open(path: str | Path) -> VectorsFolder:
        """Check that every worker finished; contents are checked part by part as they are read.

        Raises:
            ArtifactError: absent, damaged, from a newer version, or a worker has not finished (it is named).
        """
        folder = Path(path).absolute()
        manifest = VectorsManifest.load(folder)
        n = manifest.shards
        parts: list[tuple[int, int, Part]] = []
        for i in range(1, n + 1):
            shard = folder / _shard_name((i, n))
            with reading(shard):
                finished = (shard / MANIFEST).exists()
            if not finished:
                raise ArtifactError(
                    f"{folder}: shard {i} of {n} is not finished: run `encode` for it again, it resumes"
                )
            written, done = ShardManifest.load(shard), read_done(shard)
            found = ShardManifest(len(done), sum(part.documents for part in done))
            if found != written:
                raise ArtifactError(
                    f"{shard / DONE} lists {found.parts} parts, {written.parts} were written"
                    f" ({found.documents} and {written.documents} documents): encode again"
                )
            for number, part in enumerate(done):
                check_size(shard, number, part, manifest.dim, manifest.dtype)
                parts.append((i, number, part))
        return VectorsFolder(
            path=folder,
            model=manifest.model,
            revision=manifest.revision,
            dim=manifest.dim,
            sparse_width=manifest.sparse_width,
            settings=manifest.settings,
            origin=manifest.origin,
            count=sum(part.documents for _, _, part in parts),
            zeros=sum(part.zeros for _, _, part in parts),
            shards=n,
            _parts=tuple(parts),
        )

    def __len__(self) -> int:
        return self.count

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tower's tokenizer, without truncation and padding; None where the folder does not hold it."""
        return load_tokenizer(self.path / TOKENIZER) if os.path.lexists(self.path / TOKENIZER) else None

    @property
    def skip_ids(self) -> tuple[int, ...]:
        """What a query leaves out, as the tower has it; none where the folder does not say."""
        found = self.settings.get("skip_ids")
        return tuple(found) if isinstance(found, list) else ()

    @property
    def digest(self) -> str:
        """SHA-256 over all parts' checksums: folders of equal digest hold equal documents and vectors."""
        return sha256_bytes(json.dumps([asdict(part) for _, _, part in self._parts]).encode())

    def parts(self) -> Iterator[tuple[list[Document], Encoded]]:
        """Every part, shard by shard: its documents and their vectors as float32, dense rows of unit length or zero.

        Raises:
            ArtifactError: a file is missing or does not match its checksum; it is named.
        """
        for i, number, part in self._parts:
            shard = self._shard(i)
            yield read_documents(shard, number, part), read_vectors(shard, number, part, self.dim, self.sparse_width)

    def documents(self) -> Iterator[list[Document]]:
        """The documents of every part, without their vectors, in the order of `parts`. Raises as `parts`."""
        for i, number, part in self._parts:
            yield read_documents(self._shard(i), number, part)

    @property
    def positions(self) -> NDArray[np.int64]:
        """[count]: where in the corpus each document stood, from 0, in the order of `parts`."""
        written = [0] * self.shards
        for i, _, part in self._parts:
            written[i - 1] += part.documents
        return np.concatenate([np.arange(count) * self.shards + i for i, count in enumerate(written)])

    def _shard(self, i: int) -> Path:
        return self.path / _shard_name((i, self.shards))


def _check_begun(folder: Path, begun: VectorsManifest, now: VectorsManifest) -> None:
    """Raises MismatchError when the folder was begun with anything else that decides its vectors."""
    for name, value in asdict(now).items():
        found = getattr(begun, name)
        if name != "origin" and found != value:
            raise MismatchError(f"{begun_otherwise(folder, name, found, value)}: use the same, or another output")


def _shard_name(shard: tuple[int, int]) -> str:
    return f"shard-{shard[0]:05d}-of-{shard[1]:05d}"
