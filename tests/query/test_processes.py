"""Encoders and tables in other processes: forked, spawned, pickled, copied. Everywhere the same answers."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import llama, whole_text_bpe, wordpiece
from tokenizers import Tokenizer

from lightretriever import QueryEncoder, SparseVectors, TokenTable
from lightretriever.errors import ArtifactError
from lightretriever.fusion import Fusion
from lightretriever.query.evidence import Evidence
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import id_count
from lightretriever.types import Encoded, Hit, Run
from lightretriever.weigher import Weigher

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
TEXTS = [f"who invented the light bulb in 18{i % 100:02d}, and {'why ' * (i % 5)}?" for i in range(4_000)]


def made_encoder(tokenizer: Tokenizer, counts: str = "sum") -> QueryEncoder:
    rows = np.random.default_rng(4).standard_normal((id_count(tokenizer), 12)).astype(np.float32)
    return QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="made", skip_ids=[0]), counts)


def same(one: Encoded, other: Encoded) -> bool:
    assert one.sparse is not None and other.sparse is not None
    pairs = [(one.dense, other.dense)]
    pairs += [(getattr(one.sparse, name), getattr(other.sparse, name)) for name in ("indptr", "indices", "values")]
    return all(np.array_equal(*pair) for pair in pairs)


def in_child(action: Callable[[], object], seconds: int = 60) -> int:
    """The child's wait status: 0 where the action gave something true."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        status = 1
        try:
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@forks
@pytest.mark.parametrize("made", [wordpiece, llama, whole_text_bpe])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking a process with threads, which is the point
def test_a_forked_process_encodes_what_its_parent_did(made: Callable[[], Tokenizer]) -> None:
    encoder = made_encoder(made())
    expected = encoder.encode(TEXTS)
    assert in_child(lambda: same(encoder.encode(TEXTS), expected)) == 0
    few = encoder.encode(TEXTS[:3])
    assert in_child(lambda: same(encoder.encode(TEXTS[:3]), few)) == 0
    # A child's child; and one whose threads share the encoder.
    assert in_child(lambda: in_child(lambda: same(encoder.encode(TEXTS), expected)) == 0) == 0

    def by_threads() -> bool:
        with ThreadPoolExecutor(3) as threads:
            return all(same(found, expected) for found in threads.map(encoder.encode, [TEXTS] * 6))

    assert in_child(by_threads) == 0
    assert same(encoder.encode(TEXTS), expected)


@forks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_forked_in_the_midst_of_a_batch_works() -> None:
    """The thread that holds the encoder's lock is not there any more."""
    encoder = made_encoder(wordpiece())
    expected = encoder.encode(TEXTS)
    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set():
            encoder.encode([f"{text} {time.time()}" for text in TEXTS])  # new words all the time

    worker = threading.Thread(target=encode)
    worker.start()
    try:
        for _ in range(8):
            time.sleep(0.01)
            assert in_child(lambda: same(encoder.encode(TEXTS), expected)) == 0
    finally:
        stop.set()
        worker.join()


def _dense(task: tuple[QueryEncoder, list[str]]) -> np.ndarray:
    return task[0].encode_dense(task[1])


@pytest.mark.parametrize("how", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pools_of_processes_encode(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # tokenizers then does not see to forks by itself
    made_encoder(wordpiece()).table.save(tmp_path / "table")
    encoder = QueryEncoder.load(tmp_path / "table")
    expected = encoder.encode_dense(TEXTS)
    with multiprocessing.get_context(how).Pool(2) as pool:
        found = pool.map_async(_dense, [(encoder, TEXTS[:2_000]), (encoder, TEXTS[2_000:])]).get(240)
    np.testing.assert_array_equal(np.concatenate(found), expected)


def copies(value: object) -> list:
    found = [pickle.loads(pickle.dumps(value, protocol)) for protocol in (2, pickle.HIGHEST_PROTOCOL)]
    return [*found, copy.deepcopy(value), copy.copy(value)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_an_encoder_without_a_folder_is_pickled_whole(dtype: str) -> None:
    table = made_encoder(wordpiece()).table.converted(dtype).with_phrases([[7, 8]], [[12]], np.ones((2, 12)))
    table = table.rotated(np.eye(12, 9, dtype=np.float32))
    counts = np.arange(len(table), dtype=np.uint32)
    pairs = np.array([len(table) + 2, 3 * len(table) + 1])
    table = replace(table, evidence=Evidence(counts, counts > 40, pairs, counts[:2], texts=100))
    encoder = QueryEncoder(table, counts="bow")
    expected = encoder.encode(TEXTS)
    for other in copies(encoder):
        assert (other.counts, other.table.hash) == ("bow", table.hash)
        assert same(other.encode(TEXTS), expected) and same(other.encode(TEXTS[:5]), encoder.encode(TEXTS[:5]))
        np.testing.assert_array_equal(other.table.rotation, table.rotation)
        assert other.table.evidence.sha256 == table.evidence.sha256  # type: ignore[union-attr]
        assert other.table.tokenizer.to_str() == table.tokenizer.to_str()


def test_an_encoder_of_a_folder_is_pickled_as_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_encoder(wordpiece()).table.save(tmp_path / "table")
    monkeypatch.chdir(tmp_path)
    encoder = QueryEncoder.load("table", dim=7)
    monkeypatch.chdir("/")
    packed = pickle.dumps(encoder)
    assert len(packed) < 1_000
    expected = encoder.encode(TEXTS[:9])
    for other in [pickle.loads(packed), *copies(encoder)]:
        assert other.dim == 7 and same(other.encode(TEXTS[:9]), expected)
    assert isinstance(pickle.loads(pickle.dumps(TokenTable.load(tmp_path / "table"))).rows, np.memmap)
    (tmp_path / "table").rename(tmp_path / "old")
    with pytest.raises(ArtifactError, match="table does not exist"):
        pickle.loads(packed)
    table = TokenTable.load(tmp_path / "old")
    TokenTable.from_rows(table[:] * 2, table.tokenizer, model="made", skip_ids=[0]).save(tmp_path / "table")
    with pytest.raises(ArtifactError, match="table is another table than the one that was pickled"):
        pickle.loads(packed)


def test_a_table_made_of_a_loaded_one_is_not_its_folder_s(tmp_path: Path) -> None:
    made_encoder(wordpiece()).table.save(tmp_path / "table")
    table = TokenTable.load(tmp_path / "table").converted("int8")
    other = pickle.loads(pickle.dumps(table))
    assert (other.dtype, other.hash) == ("int8", table.hash)


def test_cloudpickle_takes_a_closure_over_an_encoder(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    made_encoder(wordpiece()).table.save(tmp_path / "table")
    encoder = QueryEncoder.load(tmp_path / "table")
    again = pickle.loads(cloudpickle.dumps(lambda texts: encoder.encode_dense(texts)))
    np.testing.assert_array_equal(again(TEXTS[:4]), encoder.encode_dense(TEXTS[:4]))


def test_what_users_hold_is_pickled() -> None:
    sparse = SparseVectors(np.array([0, 1]), np.array([3], np.int32), np.ones(1, np.float32), 9)
    document = Document("7", "Its text", "A title", {"year": 1990})
    weigher = Weigher.general()
    weigher.weights(np.zeros((1, len(weigher.hidden[0]) - 1)))  # which keeps arrays
    fusion = Fusion(weigher=weigher)
    hit = Hit("7", 0.5, "A title", "Its text", {"year": 1990})
    for value in (fusion, document, hit, Run({"q1": {"7": 0.5}}, "mine")):
        assert all(other == value for other in copies(value))
    encoded = Encoded(np.ones((1, 2), np.float32), sparse)
    for other in copies(encoded):
        np.testing.assert_array_equal(other.sparse.to_dense(), sparse.to_dense())
