"""A training file of small arithmetic, and the settings of a run of seconds on a tiny random model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import made_models
import pytest

TOPICS = ("mountain", "river", "bulb", "csv file", "tulip", "thread", "world", "meter", "history", "cafe")
KINDS = ("tall", "long", "old", "new", "small", "big")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers."""
    return made_models.causal_folder(tmp_path_factory.mktemp("models") / "tiny-llama", "llama", initializer_range=0.1)


@pytest.fixture(scope="session")
def encoder_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers without a head."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    return made_models.masked_folder(folder, "bert", head=False)


def passage(kind: str, topic: str) -> dict[str, str]:
    return {"docid": f"{kind}-{topic}", "title": topic, "text": f"This {topic} is {kind}, as a {topic} may be."}


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 examples; besides, a line without a positive, and one with a single negative."""
    path = tmp_path_factory.mktemp("data") / "questions.jsonl"
    lines: list[dict[str, object]] = []
    for i, topic in enumerate(TOPICS):
        for j, kind in enumerate(KINDS):
            others = [passage(KINDS[(j + k) % 6], TOPICS[(i + k) % 10]) for k in (1, 2, 3)]
            lines.append(
                {
                    "query": f"which {topic} is {kind}",
                    "positive_passages": [passage(kind, topic)],
                    "negative_passages": others,
                }
            )
    lines[7]["negative_passages"] = [passage("old", "river")]
    lines.insert(3, {"query": "which one", "positive_passages": [], "negative_passages": [passage("old", "river")]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def settings(tmp_path: Path, base: Path, questions: Path) -> Callable[..., Path]:
    """Writes a file of settings: six steps of eight queries, measured and saved every third; lines may be added."""

    def write(output: str = "out", model: Path = base, more: str = "") -> Path:
        path = tmp_path / f"{output}.toml"
        path.write_text(
            f"""
output = {json.dumps(str(tmp_path / output))}
batch = 8
model = {{ base = {json.dumps(str(model))}, rank = 4, passage_max_length = 32, query_max_length = 16 }}
[data]
passages = 3
files = [{{ path = {json.dumps(str(questions))} }}]
[validation]
every = 3
examples = 6
batch = 8
[trainer]
use_cpu = true
max_steps = 6
warmup_steps = 1
learning_rate = 1e-3
logging_steps = 1
dataloader_pin_memory = false
{more}
""",
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Path]:
    """Writes a BEIR folder: d0 to d9, the queries q and r, and the lines given as its dev judgements."""

    def write(*lines: str) -> Path:
        folder = tmp_path / "beir"
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        documents = [{"_id": f"d{i}", "title": "", "text": f"a river {i} meters long"} for i in range(10)]
        queries = [{"_id": "q", "text": "which river"}, {"_id": "r", "text": "long or 9 meters"}]
        for name, rows in (("corpus", documents), ("queries", queries)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = ["query-id corpus-id score", *lines]
        (folder / "qrels" / "dev.tsv").write_text("".join("\t".join(line.split()) + "\n" for line in told))
        return folder

    return write
