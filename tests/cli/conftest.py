"""A tiny random tower on disk and a small collection, for verbs to work on in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import made_tokenizers
import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from lightretriever.cli.main import execute


@dataclass(frozen=True)
class Outcome:
    """What a command line did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs one command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a masked-language head, hidden size 32, over the made WordPiece vocabulary."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = Tokenizer.from_str(made_tokenizers.wordpiece().to_str())
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)
    fast.save_pretrained(folder)
    return folder


DOCUMENTS = [
    {"_id": "everest", "title": "Everest", "text": "The highest mountain of the world. It is 8,848 meters tall."},
    {"_id": "bulb", "title": "", "text": "Who invented the light bulb? It was invented in 1879, in one history."},
    {
        "_id": "csv",
        "title": "csv",
        "text": "Read a csv file with one thread; use 2 or 4 threads to read it.",
        "lang": "en",
    },
    {"_id": "café", "title": "Café", "text": "A naïve café in the école on the straße. Größe and привет мир."},
]
QUERIES = [
    {"_id": "q1", "text": "how tall is everest"},
    {"_id": "q2", "text": "who invented the light bulb"},
    {"_id": "q3", "text": "read a csv file"},
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of four documents and three queries, one of which is in another split too."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    (path / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    header = "query-id\tcorpus-id\tscore\n"
    (path / "qrels" / "test.tsv").write_text(header + "q1\teverest\t1\nq2\tbulb\t1\nq3\tcsv\t1\n")
    (path / "qrels" / "dev.tsv").write_text(header + "q1\teverest\t1\n")
    return path
