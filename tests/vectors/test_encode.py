"""Encoding a corpus: what an interruption keeps is what it says, and going on gives what was never interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from index.conftest import RandomTower

from lightretriever.errors import ArtifactError, ModelError
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, SparseVectors
from lightretriever.vectors.encode import encode_corpus, next_size
from lightretriever.vectors.folder import VectorsFolder, VectorsWriter
from lightretriever.vectors.unusable import name_unusable

SCRIPT = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background may have it ignored
sys.path[:0] = [{str(Path(__file__).parents[1] / "index")!r}, {str(Path(__file__).parents[1])!r}]
from conftest import RandomTower
from lightretriever.text.corpus import Document
from lightretriever.vectors import encode

encode._SECONDS = 0.5

class SlowTower(RandomTower):
    def encode(self, documents, progress=None):
        for _ in documents:
            time.sleep(float(sys.argv[2]))
        return super().encode(documents, progress)

documents = [Document(str(number), f"text {{number}}") for number in range(400)]
print("begun", flush=True)
try:
    encode.encode_corpus(documents, SlowTower(), sys.argv[1])
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child alone")
def test_an_interrupted_run_keeps_what_it_says_and_is_gone_on_with(tmp_path: Path) -> None:
    done = tmp_path / "v/shard-00001-of-00001/done.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "v"), "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not done.exists() or done.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 130
    kept = re.search(r"the first ([\d,]+) documents are kept, run the same command again", said)
    assert kept is not None, said
    parts = [int(number) for number in re.findall(r'"documents": (\d+)', done.read_text())]
    assert sum(parts) == int(kept[1].replace(",", ""))
    assert len(parts) > 1
    assert max(parts) <= 0.5 / 0.02 + 1  # half a second's work is lost at most
    subprocess.run([*command[:-1], "0"], check=True, capture_output=True)
    subprocess.run([*command[:-2], str(tmp_path / "whole"), "0"], check=True, capture_output=True)
    again, whole = (read(tmp_path / name) for name in ("v", "whole"))
    assert again[0] == whole[0] == [str(number) for number in range(400)]
    assert np.array_equal(again[1], whole[1])


def read(path: Path) -> tuple[list[str], np.ndarray]:
    parts = list(VectorsFolder.open(path).parts())
    return [d.id for documents, _ in parts for d in documents], np.concatenate([encoded.dense for _, encoded in parts])


def test_parts_follow_the_towers_pace() -> None:
    for pace, largest in [(1e-5, 1024), (0.01, 1024), (1.0, 20), (7.0, 2), (100.0, 1)]:  # seconds a document
        sizes = [1]
        for _ in range(6):
            sizes.append(next_size(sizes[-1], sizes[-1] * pace))
        assert sizes[-1] == largest
        assert all(size * pace <= 20 or size == 1 for size in sizes)
    assert next_size(1, 5.0) == 4  # a slow first batch says nothing yet
    assert next_size(8, 0.1) == 64


class NumberlessTower(RandomTower):
    """Gives NaN and infinity for some documents."""

    def encode(self, documents: Sequence[Document], progress: Progress | None = None) -> Encoded:
        encoded = super().encode(documents, progress)
        dense = encoded.dense.copy()
        for row, document in enumerate(documents):
            if int(document.id) % 10 == 3:
                dense[row, int(document.id) % 7] = np.nan if int(document.id) % 20 == 3 else np.inf
        return replace(encoded, dense=dense)


def test_vectors_that_are_no_numbers_are_named_counted_and_set_aside(tmp_path: Path) -> None:
    documents = [Document(str(number), f"text {number}") for number in range(200)]
    with pytest.warns(UserWarning) as said:
        assert encode_corpus(documents, NumberlessTower(), tmp_path / "v") == 200
    texts = [str(warning.message) for warning in said]
    assert any("'3': encode with --compute float32" in text for text in texts)
    assert any(" …: encode" in text for text in texts)  # of a part with many not all are named
    assert texts[-1] == "20 documents in all without a usable vector of the model's"
    ids, dense = read(tmp_path / "v")
    assert ids == [document.id for document in documents]
    assert np.isfinite(dense).all()
    assert [row for row in range(200) if not dense[row].any()] == list(range(3, 200, 10))


def test_a_sparse_weight_that_is_no_number_is_named() -> None:
    sparse = SparseVectors(
        np.array([0, 2, 2, 3]), np.array([1, 2, 1], np.int32), np.array([1, np.nan, 1], np.float32), 4
    )
    documents = [Document(name, "text") for name in "abc"]
    with pytest.warns(UserWarning, match="1 document a vector with NaN or infinity, which is set aside: 'a':"):
        assert name_unusable(documents, Encoded(np.eye(3, dtype=np.float32), sparse)) == 1
    assert name_unusable(documents, Encoded(np.eye(3, dtype=np.float32))) == 0


def test_a_part_is_written_while_the_next_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, writing = Event(), Event()
    append = VectorsWriter.append

    def slow(writer: VectorsWriter, documents: list[Document], encoded: Encoded) -> None:
        writing.set()
        assert encoding.wait(10)
        append(writer, documents, encoded)

    class Watching(RandomTower):
        def encode(self, documents: Sequence[Document], progress: Progress | None = None) -> Encoded:
            if documents[0].id == "1":  # of the second part
                assert writing.wait(10)
                encoding.set()
            return super().encode(documents, progress)

    monkeypatch.setattr(VectorsWriter, "append", slow)
    documents = [Document(str(number), f"text {number}") for number in range(50)]
    assert encode_corpus(documents, Watching(), tmp_path / "v") == 50
    assert read(tmp_path / "v")[0] == [document.id for document in documents]


def test_what_cannot_be_written_stops_the_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(VectorsWriter, "append", full)
    tower = RandomTower()
    read_in: list[int] = []
    documents = (read_in.append(number) or Document(str(number), "text") for number in range(5000))
    with pytest.raises(ArtifactError, match="the disk is full"):
        encode_corpus(documents, tower, tmp_path / "v")
    assert len(read_in) < 200


def test_what_was_encoded_before_an_error_is_kept(tmp_path: Path) -> None:
    class Failing(RandomTower):
        def encode(self, documents: Sequence[Document], progress: Progress | None = None) -> Encoded:
            if len(documents) > 8:
                raise ModelError("out of memory")
            return super().encode(documents, progress)

    documents = [Document(str(number), f"text {number}") for number in range(100)]
    with pytest.raises(ModelError):
        encode_corpus(documents, Failing(), tmp_path / "v")
    done = (tmp_path / "v/shard-00001-of-00001/done.jsonl").read_text()
    assert [int(number) for number in re.findall(r'"documents": (\d+)', done)] == [1, 8]
    assert encode_corpus(documents, RandomTower(), tmp_path / "v") == 100


def test_documents_in_a_language_that_the_tower_does_not_know_are_said_before_they_are_encoded(tmp_path: Path) -> None:
    tower = RandomTower()
    texts = ["Привет мир как дела", "это проверка языка"] * 3
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    with pytest.warns(UserWarning, match="the first 6 documents .* a language that the model does not know"):
        encode_corpus(documents, tower, tmp_path / "v")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_corpus(documents, tower, tmp_path / "v")  # nothing is encoded any more
        encode_corpus([Document("a", "w01 w02")], tower, tmp_path / "w")
