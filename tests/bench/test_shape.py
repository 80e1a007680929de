"""A random model of a known shape encodes as any causal tower does."""

from __future__ import annotations

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever.errors import UsageError

pytest.importorskip("transformers")
from lightretriever.bench.shape import SHAPES, Shape, random_tower
from lightretriever.tables.cache import token_rows

SMALL = Shape(2, 32, 4, 2, 48, 1000)


def test_it_is_a_causal_tower_the_same_every_time() -> None:
    tokenizer = wordpiece()
    tower = random_tower(SMALL, "small", tokenizer, device="cpu")
    assert (tower.name, tower.dim, tower.causal, tower.has_sparse, tower.dtype) == ("small", 32, True, False, "float32")
    vectors = tower.encode_queries(["how tall is everest", "read a csv file"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    again = random_tower(SMALL, "small", tokenizer, device="cpu").encode_queries(["how tall is everest"])
    np.testing.assert_allclose(vectors[:1], again, atol=1e-5)
    assert tower.tokenize(["everest"])[0][-1] == tower.eos_id
    assert tokenizer.token_to_id("<|endoftext|>") is None  # the caller's own is left as it was
    assert tower.backbone.model.embed_tokens.weight.shape == (1000, 32)


def test_the_first_rows_of_its_table_are_those_of_the_whole() -> None:
    tower = random_tower(SMALL, "small", wordpiece(), device="cpu")
    whole = token_rows(tower, "find:")
    assert len(whole) == tower.vocab_size
    np.testing.assert_allclose(token_rows(tower, "find:", limit=5), whole[:5], atol=1e-5)


def test_a_vocabulary_that_is_too_small_is_refused_and_the_known_shapes_have_their_size() -> None:
    with pytest.raises(UsageError, match="larger shape"):
        random_tower(Shape(1, 32, 4, 2, 48, 20), "tiny", wordpiece(), device="cpu")
    shape = SHAPES["qwen2-0.5b"]
    layer = shape.hidden_size * (2 * shape.hidden_size + 2 * 128 + 3 * shape.intermediate_size)
    assert shape.num_hidden_layers * layer + shape.vocab_size * shape.hidden_size == pytest.approx(494e6, rel=0.01)
