"""BM25 impacts against BM25 written out by its formula."""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from index.conftest import WORDS, RandomTower, make_documents, make_encoder, payload, word_tokenizer
from index.raw_settings import write_raw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lightretriever import Encoded, Index, QueryEncoder, TokenTable
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.index.engines.local import build
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.text.corpus import Document
from lightretriever.text.memo import ChunkTokenizer, chunk_rule

TOKENS = Analyser(PIECES)
QUERIES = ["w01", "w02 w02 w09", "w30 w31 w32 w33 nothing", "w05 " * 3]


def brute_force(query: str, documents: list[Document], collection: list[Document]) -> list[float]:
    """BM25 of each document, statistics of ``collection``; unknown words are one token."""

    def tokens(text: str) -> list[str]:
        return [word if word in WORDS else "[UNK]" for word in text.lower().split()]

    bags = [Counter(tokens(document.input)) for document in collection]
    mean = sum(bag.total() for bag in bags) / len(bags)
    scores = []
    for document in documents:
        bag, score = Counter(tokens(document.input)), 0.0
        for token in tokens(query):
            df = sum(token in other for other in bags)
            idf = math.log(1 + (len(bags) - df + 0.5) / (df + 0.5))
            tf = bag[token]
            score += idf * tf / (tf + 0.9 * (1 - 0.75 + 0.75 * bag.total() / mean))
        scores.append(score)
    return scores


def check(index: Index, documents: list[Document], collection: list[Document]) -> None:
    for query in QUERIES:
        expected = {d.id: s for d, s in zip(documents, brute_force(query, documents, collection), strict=True) if s > 0}
        hits = index.search(query, k=len(documents), mode="sparse")
        assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-4)


def test_scores_are_bm25(tmp_path: Path) -> None:
    documents = make_documents(200)
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", analyser=TOKENS) as index:
        encoded = RandomTower(has_sparse=False).encode(documents)
        index.add([d.id for d in documents], encoded, [payload(d) for d in documents])
        check(index, documents, documents)
        assert index.info()["bm25"] == {
            "documents": 200,
            "mean_length": pytest.approx(np.mean([len(d.input.split()) for d in documents])),
            "changes": 0,
            "drift": 0.0,
            "stale": False,
        }


def test_additions_keep_the_statistics_until_they_are_refreshed(tmp_path: Path) -> None:
    documents = make_documents(120)
    first, later = documents[:100], documents[100:]
    tower = RandomTower(has_sparse=False)
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", analyser=TOKENS, model=tower) as index:
        index.add_documents(first)
        check(index, first, first)
        index.add_documents(later[:5])
        assert not index.info()["bm25"]["stale"]
        index.add_documents(later[5:])
        check(index, documents, first)
    with Index.open(tmp_path / "i", tower) as index:
        found = index.info()["bm25"]
        assert (found["documents"], found["changes"], found["stale"]) == (100, 20, True)
        assert found["drift"] == pytest.approx(20 / 120)
        index.refresh_bm25()
        check(index, documents, documents)
        assert index.info()["bm25"]["changes"] == 0
        index.delete([d.id for d in documents[:40]])
        assert index.info()["bm25"]["stale"]
        index.refresh_bm25()
        check(index, documents[40:], documents[40:])


def test_a_first_stream_of_documents_gives_the_statistics_of_all(tmp_path: Path) -> None:
    documents = make_documents(700)
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", analyser=TOKENS, model=RandomTower()) as index:
        index.add_documents(documents)
        assert index.info()["bm25"]["documents"] == 700
        check(index, documents, documents)


def test_a_refresh_cut_short_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = make_documents(50)
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", analyser=TOKENS, model=RandomTower()) as index:
        index.add_documents(documents)
        index.delete([d.id for d in documents[:10]])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(build, "write_arrays", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            index.refresh_bm25()
        check(index, documents[10:], documents)
    with Index.open(tmp_path / "i") as index:
        assert index.info()["bm25"]["stale"]
        check(index, documents[10:], documents)
        assert list((index.path / "segments").glob("*/*")) == []
        index.refresh_bm25()
        assert not index.info()["bm25"]["stale"]
        check(index, documents[10:], documents[10:])


def test_texts_are_needed(tmp_path: Path) -> None:
    encoded = RandomTower().encode(make_documents(1))
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", analyser=TOKENS) as index:
        for payloads in (None, [{"title": "only"}]):
            with pytest.raises(UsageError, match="every payload needs its text"):
                index.add(["a"], encoded, payloads)
        index.add(["a"], encoded, [{"text": ""}])
        assert index.search("w01", mode="sparse") == []
    with Index.create(tmp_path / "j", make_encoder(), sparse="lm") as index, pytest.raises(UsageError, match="'lm'"):
        index.refresh_bm25()


def test_statistics_are_read_back_or_refused() -> None:
    packed = BM25(4, 4.5, np.arange(5)).pack()
    read = BM25.unpack(packed, 5)
    assert (read.documents, read.mean_length, read.frequency.tolist()) == (4, 4.5, [0, 1, 2, 3, 4])
    for place in range(len(packed)):
        for bit in range(8):
            torn = bytearray(packed)
            torn[place] ^= 1 << bit
            with pytest.raises(ValueError, match="not what was written"):
                BM25.unpack(bytes(torn), 5)
        with pytest.raises(ValueError, match="not what was written"):
            BM25.unpack(packed[:place], 5)
    for other in (None, "text", 7):
        with pytest.raises(ValueError, match="not what was written"):
            BM25.unpack(other, 5)


def packed(documents: int, mean_length: float, tokens: int, frequencies: bytes) -> bytes:
    """Statistics of anybody's, with the checksum that they should have."""
    body = struct.pack("<qdq", documents, mean_length, tokens) + frequencies
    return zlib.crc32(body).to_bytes(4, "little") + body


def numbers(*frequency: int) -> bytes:
    return zlib.compress(np.array(frequency, np.int64).tobytes())


@pytest.mark.parametrize(
    "stored",
    [
        packed(-4, 4.5, 2, numbers(0, 0)),
        packed(4, float("nan"), 2, numbers(0, 4)),
        packed(4, float("inf"), 2, numbers(0, 4)),
        packed(4, -1.0, 2, numbers(0, 4)),
        packed(4, 4.5, 2, numbers(0, 5)),
        packed(4, 4.5, 2, numbers(-1, 0)),
        packed(4, 4.5, 2, numbers(0)),
        packed(4, 4.5, 2, zlib.compress(b"seven b")),
        packed(4, 4.5, 3, numbers(0, 4)),
        packed(4, 4.5, 2, b"no such codec"),
        packed(4, 4.5, 2, b""),
        b"\0\0\0\0",
        zlib.crc32(b"short").to_bytes(4, "little") + b"short",
    ],
    ids=lambda value: f"{len(value)} bytes",
)
def test_statistics_that_cannot_be_are_refused(filled, stored: bytes) -> None:
    assert BM25.unpack(packed(4, 4.5, 2, numbers(0, 4)), 2).documents == 4
    with pytest.raises(ValueError, match=r"contradict|they count 3 tokens|not what was written"):
        BM25.unpack(stored, 2)
    index, _, _ = filled(8, "bm25")
    with index:
        write_raw(index.path, stored, "bm25")
        with pytest.raises(ArtifactError, match=r"BM25 statistics are damaged \(.*\): restore a snapshot"):
            index.search("w01")


def test_statistics_of_another_vocabulary_are_refused(filled) -> None:
    index, documents, _ = filled(8, "bm25")
    write_raw(index.path, BM25(8, 4.5, np.zeros(99, np.int64)).pack(), "bm25")
    with index, pytest.raises(ArtifactError, match=r"they count 99 tokens, the index has \d\d\)"):
        index.add(["more"], RandomTower().encode(documents[:1]), [{"text": "w01"}])


CHUNKS = ChunkTokenizer(word_tokenizer(), chunk_rule(word_tokenizer()))


def test_counts_are_of_the_whole_text() -> None:
    texts = ["w00 w01 w00", "", "w02 " * 100_000]
    counts = count_tokens(texts, CHUNKS, leading_space=False, width=40)
    assert [dict(zip(*(row.tolist() for row in counts.row(i)), strict=True)) for i in range(3)] == [
        {2: 2, 3: 1},
        {},
        {4: 100_000},
    ]
    assert len(count_tokens([], CHUNKS, False, 40)) == 0
    everything_empty = BM25.of([count_tokens(["", ""], CHUNKS, False, 40)], 40)
    assert (everything_empty.documents, everything_empty.mean_length) == (2, 0.0)


def test_byte_level_words_match_wherever_they_stand(tmp_path: Path) -> None:
    """A word at the beginning of a document and of a query is the token that it is in the middle."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    for merged in ("Ġc", "Ġca", "Ġcat"):
        vocabulary[merged] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    rows = np.random.default_rng(0).normal(size=(len(vocabulary), 4)).astype(np.float32)
    encoder = QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="m"))
    assert encoder.table.leading_space
    with Index.create(tmp_path / "i", encoder, sparse="bm25", analyser=TOKENS) as index:
        index.add(
            ["first", "middle", "none"],
            Encoded(np.eye(3, 4, dtype=np.float32)),
            [{"text": t} for t in ("cat x", "x cat", "dog")],
        )
        assert {hit.id for hit in index.search("cat", mode="sparse")} == {"first", "middle"}
