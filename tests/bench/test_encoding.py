"""Static encoders over the same rows say the same; one that is not installed is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.bench.encoding import LOOK_UP, largest_difference, static_encoders, table_bytes
from lightretriever.text.tokenizer import id_count

TEXTS = ["how tall is everest", "read a csv file", "who invented the light bulb"]


def made_table(dtype: str = "float32") -> TokenTable:
    tokenizer = wordpiece()
    rows = np.random.default_rng(0).standard_normal((id_count(tokenizer), 8)).astype(np.float32)
    return TokenTable.from_rows(rows, tokenizer, model="made", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_same_rows_give_the_same_vectors(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("model2vec")
    table = made_table(dtype)
    others, missing = static_encoders(table, tmp_path / "static")
    assert (list(others), missing) == (["StaticEmbedding", "model2vec"], [])
    look_up = QueryEncoder(table).encode_dense
    assert 0 < largest_difference({LOOK_UP: look_up, **others}, TEXTS) < 1e-5
    assert largest_difference({LOOK_UP: look_up, "off": lambda texts: 2 * look_up(texts)}, TEXTS) > 0.1


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sentence_transformers", "model2vec"):
        monkeypatch.setitem(sys.modules, name, None)
    others, missing = static_encoders(made_table(), tmp_path / "static")
    assert others == {}
    assert [line.partition(": ")[2] for line in missing] == [
        "pip install sentence-transformers",
        "pip install model2vec",
    ]
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_a_table_by_how_it_is_stored() -> None:
    table = made_table()
    n = len(table)
    assert table_bytes(table) == {"float32": n * 8 * 4, "float16": n * 8 * 2, "int8": n * 8 + n * 4}
