"""`screen`: models compared on a sample, without judged queries."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_models import masked_folder

WORDS = "the world mountain tall is everest who invented light bulb read a csv file thread one two meters high it of in"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, draw = tmp_path_factory.mktemp("screen") / "corpus.jsonl", random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS.split(), k=draw.randint(3, 8))).capitalize() + "."

    rows = [{"_id": str(number), "text": f"{sentence()} {sentence()} {sentence()}"} for number in range(400)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:50], {"_id": "none", "text": " "}]))
    return path


def test_models_are_compared(verb: Callable[..., Any], tower: Path, corpus: Path, tmp_path: Path) -> None:
    other = masked_folder(tmp_path / "other", "bert")
    asked = ("screen", tower, other, "--texts", corpus, "--documents", "300", "--sentences", "400")
    told = verb(*asked)
    assert told.code == 0, told.err
    header, *rows = told.out.splitlines()
    assert header.split() == ["model", "dim", "overlap@10", "nDCG@10", "a", "document", "a", "query", "table"]
    assert {row.split()[0] for row in rows} == {str(tower), str(other)}
    found = json.loads(verb(*asked, "--json").out)
    assert [one["ndcg"] for one in found] == sorted((one["ndcg"] for one in found), reverse=True)
    for one in found:
        assert 0.1 < one["overlap"] <= 1
        assert 0.1 < one["ndcg"] <= 1
        assert one["table_bytes"] > 0
        assert one["table_bytes"] % (4 * one["dim"]) == 0
        assert one["query_us"] > 0
        assert one["document_ms"] > 0


def test_the_sample_depends_on_the_texts_alone(verb: Callable[..., Any], tower: Path, corpus: Path) -> None:
    lines = corpus.read_text().splitlines()
    turned = corpus.with_name("turned.jsonl")
    turned.write_text("\n".join(reversed(lines)) + "\n")

    def kept(path: Path) -> tuple[float, float]:
        (found,) = json.loads(verb("screen", tower, "--texts", path, "--documents", "150", "--json").out)
        return found["overlap"], found["ndcg"]

    assert kept(corpus) == kept(turned)


def test_too_little_to_compare(verb: Callable[..., Any], tower: Path, folder: Path, corpus: Path) -> None:
    for given, said in [
        ((tower, "--texts", folder), "4 different documents with a text: at least 100 are needed to compare models"),
        ((tower, tower, "--texts", corpus), "name the models to compare, none of them twice"),
        ((folder / "absent", "--texts", corpus), "absent"),
    ]:
        told = verb("screen", *given)
        assert told.code != 0
        assert said in " ".join(told.err.split())
