"""Encoding on a Ray cluster: what workers that die, an interruption and its going on give is what one process gives."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from made_models import causal_folder
from safetensors.torch import load_file, save_file

from lightretriever.document.encoder import DocumentEncoder
from lightretriever.document.options import TowerOptions
from lightretriever.errors import (
    ClusterError,
    LightRetrieverError,
    MismatchError,
    MissingExtraError,
    ModelError,
    UsageError,
)
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, SparseVectors
from lightretriever.vectors.encode import facts_of, open_writer
from lightretriever.vectors.on_ray.cluster import Workers, connected, our_error, plan_workers, was_interrupted
from lightretriever.vectors.on_ray.encode import RayOptions, encode_on_ray
from lightretriever.vectors.on_ray.workers import BlockEncoder, pack, unpack
from lightretriever.vectors.parts import usable

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

BLOCK, COUNT = 32, 32 * 16 + 5
ODD = 14 * BLOCK + 3
OPTIONS = RayOptions("local", workers=2, cpus=1, block=BLOCK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower that gives no numbers for texts with a certain letter."""
    path = causal_folder(tmp_path_factory.mktemp("models") / "tower", "qwen2")
    weights = load_file(path / "model.safetensors")
    vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    weights["model.embed_tokens.weight"][vocabulary["z"]] = torch.nan
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="module")
def tower(folder: Path) -> TowerOptions:
    return TowerOptions(str(folder), compute="float32", max_length=100)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One of this process for the whole module; what is called finds it there and leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray leaves a token in the user's home
        with connected("local"):
            yield


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "v"
    encode_here(folder, path)
    return path


def encode_here(folder: Path, path: Path, most: int = COUNT) -> None:
    """The same blocks through the tower in this process, one after the other, in one thread as each worker has."""
    encoder = DocumentEncoder.load(folder, device="cpu", dtype="float32", max_length=100)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    documents = make_documents()
    with open_writer(facts_of(encoder), path, "float16") as writer:
        for start in range(0, most, BLOCK):
            block = documents[start : start + BLOCK]
            writer.append(block, usable(encoder.encode(block), encoder.dim))
        if most == COUNT:
            writer.finish()
    torch.set_num_threads(threads)


def make_documents() -> list[Document]:
    rng = np.random.default_rng(0)
    words = ["mount", "everest", "snow", "height", "珠穆朗玛峰"]
    made = [
        Document(str(i), " ".join(rng.choice(words, rng.integers(1, 60))), f"t{i}" if i % 3 else "", {"year": i})
        for i in range(COUNT)
    ]
    made[ODD] = Document("odd", "z")
    return made


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def workers_here() -> set[int]:
    """Processes of this one's cluster that encode."""
    found: set[int] = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if "BlockEncoder" in " ".join(process.cmdline()):
                found.add(process.pid)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_changes_nothing(folder: Path, tower: TowerOptions, whole: Path, tmp_path: Path) -> None:
    documents, path = make_documents(), tmp_path / "v"
    encode_here(folder, path, most=4 * BLOCK)  # as an earlier run would have left it
    read, counts = 0, list[int]()
    seen, killed = set[int](), set[int]()

    def stream() -> Iterator[Document]:
        nonlocal read
        for document in documents:
            read += 1
            yield document

    def kill_one(done: int, _: int | None) -> None:
        assert read <= done + 2 * 3 * BLOCK  # three blocks for each worker
        counts.append(done)
        seen.update(workers_here())
        if not killed:
            killed.add(min(workers_here()))
            os.kill(min(killed), signal.SIGKILL)

    with pytest.warns(UserWarning) as warned:
        assert encode_on_ray(stream(), tower, path, OPTIONS, progress=kill_one) == COUNT
    assert killed < seen
    assert counts == [*range(5 * BLOCK, COUNT, BLOCK), COUNT]
    said = " ".join(str(warning.message) for warning in warned)
    assert "the model gives 1 document a vector with NaN or infinity, which is set aside: 'odd'" in said
    assert "1 document in all without a usable vector" in said
    assert files(path) == files(whole)
    assert encode_on_ray(documents, tower, path, OPTIONS) == COUNT  # nothing more to do
    with pytest.raises(MismatchError, match="is finished with 517 documents, the corpus has more now"):
        encode_on_ray([*documents, Document("more", "text")], tower, path, OPTIONS)
    changed = [*documents[:-1], Document(documents[-1].id, "changed")]
    with pytest.raises(MismatchError, match="part 16 was encoded from other documents than the corpus has there now"):
        encode_on_ray(changed, tower, path, OPTIONS)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore:.* a vector with NaN", "ignore:.* without a usable vector")
def test_an_interrupted_run_is_gone_on_with(tower: TowerOptions, whole: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _: int | None) -> None:
        if done >= 6 * BLOCK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"the first 192 documents are kept, run the same command again"):
        encode_on_ray(make_documents(), tower, tmp_path / "v", OPTIONS, progress=interrupt)
    until = time.monotonic() + 20
    while workers_here():  # the cluster is not this run's, its workers are
        assert time.monotonic() < until
        time.sleep(0.1)
    assert encode_on_ray(make_documents(), tower, tmp_path / "v", OPTIONS) == COUNT
    assert files(tmp_path / "v") == files(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_model_that_is_not_there_is_said_by_a_worker(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a worker of the cluster says: model folder .* does not exist") as error:
        encode_on_ray([Document("a", "b")], TowerOptions("/nonesuch", device="cpu"), tmp_path / "v", OPTIONS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "v").exists()


def test_a_worker_says_what_went_wrong_as_a_value() -> None:
    row = BlockEncoder(None, TowerOptions("/nonesuch", device="cpu"), 1)({"number": np.array([7])})
    assert row["number"] == [7]
    assert "does not exist" in str(row["failure"])


def test_packed_vectors_keep_every_bit() -> None:
    dense = np.array([[1, np.nan, -0.0], [np.inf, 1e-45, 3]], np.float32)
    sparse = SparseVectors(np.array([0, 0, 2]), np.array([1, 4], np.int32), np.array([0.5, np.nan], np.float32), 7)
    found = unpack(pack(Encoded(dense, sparse)), 7)
    assert found.dense.tobytes() == dense.tobytes()
    assert found.sparse is not None and found.sparse.width == 7
    for name in ("indptr", "indices", "values"):
        assert getattr(found.sparse, name).tobytes() == getattr(sparse, name).tobytes()
    assert unpack(pack(Encoded(dense)), None).sparse is None


def test_workers_fill_the_cluster() -> None:
    two = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0}, {"memory": 1.0}]
    assert plan_workers(two, "auto") == Workers(2, 1, 1)
    assert plan_workers(two, "cpu") == Workers(5, 4, 0)
    assert plan_workers([{"CPU": 64.0}], "auto") == Workers(8, 8, 0)
    assert plan_workers([{"CPU": 64.0}], "auto", cpus=5) == Workers(12, 5, 0)
    assert plan_workers(two, "auto", cpus=12) == Workers(1, 12, 1)
    assert plan_workers([], "cuda", count=3) == Workers(3, 1, 1)
    with pytest.raises(ClusterError, match="no machine of the cluster has room for a worker of 1 CPUs and 1 GPUs"):
        plan_workers([{"CPU": 64.0}], "cuda")


def test_addresses_where_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listened to
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address} "), connected(address):
            pass
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address} "), connected("auto"):
            pass
    with pytest.raises(UsageError, match="Ray Data does not run in a Ray client"), connected("ray://host:10001"):
        pass
    for address in ("nonsense", "host:port", ":6379", ""):
        with pytest.raises(UsageError, match="is no address of a Ray cluster"), connected(address):
            pass


def test_options_that_make_no_sense() -> None:
    for wrong in ({"workers": 0}, {"cpus": 0}, {"block": 0}):
        with pytest.raises(UsageError, match="give a positive number"):
            RayOptions("local", **wrong)
    with pytest.raises(UsageError, match="on a cluster Ray says which"):
        encode_on_ray([Document("a", "b")], TowerOptions("m", device="cuda:1"), "v", OPTIONS)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"on a Ray cluster needs .* pip install 'lightretriever\[ray\]'"):
        encode_on_ray([Document("a", "b")], TowerOptions("m"), tmp_path / "v", OPTIONS)


def test_an_interruption_that_ray_hides_is_one() -> None:
    hidden = RuntimeError("release unlocked lock")
    hidden.__context__ = KeyboardInterrupt()
    assert was_interrupted(hidden)
    assert not was_interrupted(RuntimeError())


def test_errors_out_of_ray_are_one_line_of_ours() -> None:
    wrapped = RuntimeError("a\nlong\ntraceback")
    wrapped.__cause__ = ClusterError("said by a worker")
    assert our_error(wrapped) is wrapped.__cause__
    assert "lack this package" in str(our_error(RuntimeError("No module named 'lightretriever'")))
    other: LightRetrieverError = our_error(RuntimeError("first\n  last line \n"))
    assert isinstance(other, ClusterError) and "(RuntimeError: last line)" in str(other)
