"""Query vectors in files: the same as the encoder's, read back by our own reader, complete or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import made_tokenizers
import numpy as np
import pytest

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import InputError, UsageError
from lightretriever.query.vectors_file import Written, write_json_lines, write_npy
from lightretriever.text.corpus import Query
from lightretriever.vectors.provider import read_provider_vectors

TEXTS = ["how tall is mount everest", "", "read a csv file", "café naïve"]


@pytest.fixture
def encoder() -> QueryEncoder:
    tokenizer = made_tokenizers.wordpiece()
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    return QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="m"))


def batches(count: int, size: int) -> Iterator[list[Query]]:
    queries = [Query(f"q{i}", TEXTS[i % len(TEXTS)]) for i in range(count)]
    return (queries[start : start + size] for start in range(0, count, size))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (9, 4), (1500, 700)])
def test_npy_holds_what_the_encoder_gives_and_its_ids(
    tmp_path: Path, encoder: QueryEncoder, count: int, size: int
) -> None:
    assert write_npy(tmp_path / "out.npy", batches(count, size), encoder) == Written(count, (count + 2) // 4)
    dense = np.load(tmp_path / "out.npy")
    assert (dense.dtype, dense.shape) == (np.float32, (count, 8))
    assert np.abs(dense - encoder.encode_dense([TEXTS[i % 4] for i in range(count)])).max() < 1e-6
    ids = (tmp_path / "out.ids.txt").read_text(encoding="utf-8").splitlines()
    assert ids == [f"q{i}" for i in range(count)]


@pytest.mark.parametrize("name", ["out.npy", "out.jsonl"])
def test_our_own_reader_reads_them_back(tmp_path: Path, encoder: QueryEncoder, name: str) -> None:
    queries = [Query("ü 1", TEXTS[0]), Query("b\u2028", TEXTS[2]), Query("c", TEXTS[3])]
    if name == "out.npy":
        write_npy(tmp_path / name, [queries], encoder)
    else:
        with (tmp_path / name).open("wb") as file:
            write_json_lines(file.write, [queries], encoder)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in queries[::-1]))
    ((documents, encoded),) = read_provider_vectors(tmp_path / name, corpus)
    assert np.abs(encoded.dense - encoder.encode_dense([document.text for document in documents])).max() < 1e-6


def test_json_lines_give_the_same_floats_and_counts(encoder: QueryEncoder) -> None:
    lines: list[bytes] = []
    queries = [Query(str(i), text) for i, text in enumerate([*TEXTS, "read read read"])]
    assert write_json_lines(lines.append, [queries[:3], queries[3:]], encoder, sparse=True) == Written(5, 1)
    rows = [json.loads(line) for line in b"".join(lines).splitlines()]
    encoded = encoder.encode([query.text for query in queries])
    assert encoded.sparse is not None
    for number, row in enumerate(rows):
        assert row["_id"] == str(number)
        assert np.array_equal(np.array(row["vector"], dtype=np.float32), encoded.dense[number])
        indices, values = encoded.sparse.row(number)
        assert row["sparse"] == {"indices": indices.tolist(), "values": values.tolist()}
    assert 3 in rows[4]["sparse"]["values"]


def test_nothing_is_left_of_what_failed(tmp_path: Path, encoder: QueryEncoder) -> None:
    np.save(tmp_path / "out.npy", np.eye(2))
    before = (tmp_path / "out.npy").read_bytes()

    def failing() -> Iterator[list[Query]]:
        yield from batches(3, 2)
        raise InputError("line 4 is wrong")

    with pytest.raises(InputError, match="line 4"):
        write_npy(tmp_path / "out.npy", failing(), encoder)
    with pytest.raises(InputError, match="holds a line end"):
        write_npy(tmp_path / "out.npy", [[Query("a\nb", "x")]], encoder)
    with pytest.raises(InputError, match="no queries"):
        write_npy(tmp_path / "out.npy", [], encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]
    assert (tmp_path / "out.npy").read_bytes() == before
    np.save(tmp_path / "out.ids.npy", np.arange(3))
    with pytest.raises(UsageError, match="would be read for the ids"):
        write_npy(tmp_path / "out.npy", batches(3, 2), encoder)
