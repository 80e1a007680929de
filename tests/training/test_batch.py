"""What was drawn, as tensors: against recorded batches, and against what both encoders make of the same texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import TEXTS, causal_folder, masked_folder, sentence_folder

from lightretriever import DocumentEncoder, QueryEncoder, TokenTable
from lightretriever.document.backbone import load_backbone
from lightretriever.errors import UsageError
from lightretriever.training.batch import Batch, Collator
from lightretriever.training.example import Example, Passage
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.sampling import Drawn, DrawnBatch


def rows(ids: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    return [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]


def split(tokens: torch.Tensor, offsets: torch.Tensor) -> list[list[int]]:
    return [part.tolist() for part in torch.tensor_split(tokens, offsets[1:-1])]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_recorded_batches(golden: Path, step: int) -> None:
    record = np.load(golden / f"checkpoint_llama-tiny_record/batch_{step}.npz")
    stream = json.loads((golden / "train_data/stream_order_seed42_bs4.json").read_text())[4 * step : 4 * step + 4]
    tower = DocumentEncoder.load(golden / "checkpoint_llama-tiny", golden / "models/llama-tiny", max_length=48)
    examples: dict[str, Example] = {}
    for name in ("msmarco", "t2ranking"):
        file = ExampleFile.open(golden / f"train_data/{name}.jsonl", passages=3)
        examples |= {file[i].query: file[i] for i in range(len(file))}
    recorded = rows(
        torch.from_numpy(record["passage_input_ids"]), torch.from_numpy(record["passage_attention_mask"].sum(1))
    )

    def chosen(passages: tuple[Passage, ...], ids: list[int]) -> Passage:
        return next(passage for passage in passages if tower.tokenize([passage.input]) == [ids])

    drawn = []
    for place, said in enumerate(stream):
        example, own = examples[said["query"]], recorded[3 * place : 3 * place + 3]
        passages = (chosen(example.positives, own[0]), *(chosen(example.negatives, ids) for ids in own[1:]))
        drawn.append(Drawn(example.query, passages, said["instruction"]))
    specials = tower.backbone.specials
    collator = Collator(
        specials,
        "unused",
        passage_max_length=48,
        query_max_length=24,
        full_queries=True,
        full_query_max_length=24,
    )
    batch = collator(DrawnBatch(stream[0]["domain_name"], tuple(drawn)))

    np.testing.assert_array_equal(batch.passage_ids, record["passage_input_ids"])
    mask = torch.arange(batch.passage_ids.shape[1]) < batch.passage_lengths[:, None]
    np.testing.assert_array_equal(mask, record["passage_attention_mask"])
    assert batch.full_query_ids is not None
    assert batch.full_query_lengths is not None
    np.testing.assert_array_equal(batch.full_query_ids, record["query_input_ids"])
    np.testing.assert_array_equal(batch.full_query_lengths, record["query_attention_mask"].sum(1))
    # The recorded look-up sequences are [bos; prompt; t1; eos; t2; eos; …], padded.
    lengths = record["query_nonctx_tok_emb_attention_mask_2d"].sum(1)
    for place, tokens in enumerate(split(batch.query_tokens, batch.query_offsets)):
        blocks = [i for token in tokens for i in (token, specials.eos_id)]
        expected = [specials.bos_id, *batch.prompts[batch.prompt_of[place]].tolist(), *blocks]
        assert record["query_nonctx_tok_emb_input_ids"][place, : lengths[place]].tolist() == expected
    counts = torch.zeros(4, tower.vocab_size)
    for place, tokens in enumerate(split(batch.count_tokens, batch.count_offsets)):
        counts[place] = torch.bincount(torch.tensor(tokens), minlength=tower.vocab_size)
    np.testing.assert_array_equal(counts, record["query_token_id_reps_pt"])


PAD = "<pad>"
QUERIES = [*TEXTS, "two words", f"a {PAD} b", "\ud800 surrogate"]


def folder_of(kind: str, tmp_path: Path) -> Path:
    if kind == "sentence":
        pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
        return sentence_folder(tmp_path, pooling, prompts={"query": "ask: ", "document": "read: "})
    return masked_folder(tmp_path, kind) if kind == "bert" else causal_folder(tmp_path, kind)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "sentence"])
def test_tokens_are_those_of_both_encoders(kind: str, tmp_path: Path) -> None:
    tower = DocumentEncoder.load(folder_of(kind, tmp_path), max_length=16)
    table = TokenTable.from_rows(
        np.ones((tower.vocab_size, 2), np.float32), tower.tokenizer, model="m", revision="r", skip_ids=tower.skip_ids
    )
    backbone = tower.backbone
    queries = QueryEncoder(table)
    prompt = "Find: "
    collator = Collator(
        backbone.specials,
        prompt,
        document_prompt=backbone.document_prompt,
        passage_max_length=16,
        full_queries=True,
    )
    passages = [Passage(text, title) for text in TEXTS for title in ("", "A title")]
    safe = [query.replace("\ud800", "\ufffd") for query in QUERIES]
    drawn = [Drawn(query, (passages[i % len(passages)],)) for i, query in enumerate(QUERIES)]
    for start in range(0, len(passages), len(drawn)):
        part = (passages[start:] + passages)[: len(drawn)]
        batch = collator(DrawnBatch("set", tuple(Drawn(row.query, (p,)) for row, p in zip(drawn, part, strict=True))))
        read = tower.tokenize([backbone.document_prompt + passage.input for passage in part])
        assert rows(batch.passage_ids, batch.passage_lengths) == read
    ids, offsets = queries.tokenize(safe)
    kept = [[i for i in part.tolist() if i not in tower.skip_ids] for part in np.split(ids, offsets[1:-1])]
    assert split(batch.query_tokens, batch.query_offsets) == kept
    counts = queries.encode_sparse(safe).to_dense()
    for row, tokens in zip(counts, split(batch.count_tokens, batch.count_offsets), strict=True):
        np.testing.assert_array_equal(np.bincount(tokens, minlength=len(row)) if tokens else 0 * row, row)
    assert batch.full_query_ids is not None
    assert batch.full_query_lengths is not None
    full = tower.tokenize([prompt + query for query in safe])
    assert rows(batch.full_query_ids, batch.full_query_lengths) == full
    assert split(batch.query_tokens, batch.query_offsets)[1] == []  # an empty query


def one(query: str, *passages: Passage, instruction: str | None = None) -> Drawn:
    return Drawn(query, passages, instruction)


@pytest.fixture
def collator(tmp_path: Path) -> Collator:
    return Collator(load_backbone(causal_folder(tmp_path, "llama"), None, "cpu", "float32", "none").specials, "P: ")


def test_prompts_are_told_apart(collator: Collator) -> None:
    texts = (None, "other: ", "P: ", "", None)
    batch = collator(DrawnBatch("set", tuple(one("q", Passage("x"), instruction=text) for text in texts)))
    assert batch.prompt_of.tolist() == [0, 1, 0, 2, 0]
    assert [len(prompt) > 0 for prompt in batch.prompts] == [True, True, False]
    assert batch.full_query_ids is None
    assert (batch.queries, batch.passages) == (5, 1)


def test_scores_are_there_for_all_or_not_at_all(collator: Collator) -> None:
    scored = one("q", Passage("x", ce_score=1.5), Passage("y", ce_score=-2))
    batch = collator(DrawnBatch("set", (scored, scored), only_hard_negatives=True))
    assert batch.ce_scores is not None
    assert batch.ce_scores.tolist() == [[1.5, -2], [1.5, -2]]
    assert batch.only_hard_negatives.tolist() == [True, True]
    assert (batch.queries, batch.passages) == (2, 2)
    batch = collator(DrawnBatch("set", (scored, one("q", Passage("x", ce_score=1.5), Passage("y")))))
    assert batch.ce_scores is None


def test_passages_that_read_the_same_have_one_key(collator: Collator) -> None:
    keys = collator(
        DrawnBatch("set", tuple(one("q", Passage(*text)) for text in (("a b",), ("A  b.",), ("b", "a"), ("ab",))))
    ).passage_keys.tolist()
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_tokens_are_counted_without_padding(collator: Collator) -> None:
    batch = collator(DrawnBatch("set", (one("a", Passage("a")), one("a a", Passage("a a a a")))))
    assert batch.tokens == int(batch.passage_lengths.sum()) + len(batch.query_tokens)
    assert batch.tokens < batch.passage_ids.numel() + len(batch.query_tokens)


def test_moves_to_a_device(collator: Collator) -> None:
    batch = collator(DrawnBatch("set", (one("a", Passage("a")),)))
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert {moved.passage_ids.device.type, moved.prompts[0].device.type, moved.count_offsets.device.type} == {"meta"}
    assert batch.passage_ids.device.type == "cpu"
    assert moved.dataset == "set"


def test_refuses_lengths_without_room(tmp_path: Path) -> None:
    specials = load_backbone(causal_folder(tmp_path, "llama"), None, "cpu", "float32", "none").specials
    with pytest.raises(UsageError, match="passage_max_length is 2: the model needs 2"):
        Collator(specials, "", passage_max_length=2)
    with pytest.raises(UsageError, match="full_query_max_length is 1"):
        Collator(specials, "", full_query_max_length=1)
    with pytest.raises(UsageError, match="query_max_length is 0"):
        Collator(specials, "", query_max_length=0)
