"""Results go to JSON and back, and into tables, ratios first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightretriever.bench.clock import Timing
from lightretriever.bench.encoding import Rate
from lightretriever.bench.machine import Memory
from lightretriever.bench.plot import plot_scaling
from lightretriever.bench.queries import LogRates
from lightretriever.bench.report import Bench, load, markdown, save, tables
from lightretriever.bench.searching import Built
from lightretriever.errors import ArtifactError, MissingExtraError

LOG = LogRates(queries=10, distinct=4, phrases=0.5, whole=0.25, tokens=0.125, cached={"4": 0.6})


def made_bench(log: LogRates | None = LOG) -> Bench:
    encoding = [
        Timing("look-up", "8 words, one at a time", 1, 1e-5, 2e-5, 1e-5, 9e4, 1e5, 400),
        Timing("model", "8 words, one at a time", 1, 8e-3, 9e-3, 1.6e-2, 120.0, 130.0, 30),
        Timing("look-up", "8 words, batches of 32", 32, 2e-6, 3e-6, 4e-6, 5e5, 6e5, 40),
        Timing("model", "8 words, batches of 32", 32, 3e-3, 3e-3, 6e-3, 333.0, 340.0, 4),
    ]
    searching = [
        Timing("look-up", "10,000 documents, one at a time", 1, 1e-3, 2e-3, 1e-3, 1000.0, 1100.0, 100),
        Timing("model", "10,000 documents, one at a time", 1, 9e-3, 9e-3, 1.8e-2, 110.0, 111.0, 20),
    ]
    built = [Built(10_000, 9_000, 4000.0, 2.0, {"dense codes": 2_000_000, "payload": 0, "ids and the rest": 1_000_000})]
    return Bench(
        machine="a machine",
        date="2026-01-01",
        command="lightretriever bench",
        load=[0.5, 1.5],
        about=["Passages: some."],
        skipped=["Not measured: much."],
        encoding=encoding,
        searching=searching,
        difference=3e-8,
        built=built,
        rates=[Rate("token table, vocabulary run", "model", 500.0, "rows", 1000, 61.0)],
        table={"float32": 47_000_000, "int8": 12_000_000},
        log=log,
        memory=[Memory("a query process", 90_000_000, 20_000_000), Memory("elsewhere", 1, None)],
    )


@pytest.mark.parametrize("log", [None, LOG])
def test_json_and_back(tmp_path: Path, log: LogRates | None) -> None:
    bench = made_bench(log)
    save(bench, tmp_path / "b.json")
    assert load(tmp_path / "b.json") == bench
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    save(made_bench(), tmp_path / "b.json")
    found = json.loads((tmp_path / "b.json").read_text())
    for change, message in (
        ({"kind": "index"}, "holds no results"),
        ({"format_version": 2}, "holds no results"),
        ({"memory": 3}, "damaged"),
        ({"more": 3}, "damaged"),
    ):
        (tmp_path / "c.json").write_text(json.dumps({**found, **change}))
        with pytest.raises(ArtifactError, match=message):
            load(tmp_path / "c.json")
    for content, message in (("[1]", "holds no results"), ("{", "d.json cannot be read as JSON"), ("", "bench -o")):
        (tmp_path / "d.json").write_text(content)
        with pytest.raises(ArtifactError, match=message):
            load(tmp_path / "d.json")
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        load(tmp_path)


def test_ratios_come_first_and_are_of_the_medians() -> None:
    first, *others = tables(made_bench())
    assert first.header == ["queries", "model"]
    assert first.rows == [
        ["encoding, 8 words, one at a time", "800× (1,600×)"],
        ["encoding, 8 words, batches of 32", "1,500× (1,500×)"],
        ["search, 10,000 documents, one at a time", "9.0× (18.0×)"],
    ]
    assert [len(set(map(len, (table.header, *table.rows)))) for table in (first, *others)] == [1] * 7
    storage = next(table for table in others if table.title == "Storage")
    assert ["10,000 documents, dense codes", "2.0 MB", "200"] in storage.rows
    assert ["10,000 documents, all", "3.0 MB", "300"] in storage.rows
    assert not any("payload" in row[0] for row in storage.rows)


def test_markdown_has_every_table_and_says_what_was_not_measured() -> None:
    text = markdown(made_bench())
    assert text.index("| encoding, 8 words, one at a time | 800× (1,600×) |") < text.index("| p50 a query |")
    assert "at most 3e-08" in text
    assert "0.5 before, 1.5 after" in text
    assert text.endswith("Not measured: much.")
    assert "The log of queries" not in markdown(made_bench(None))


def test_curves(tmp_path: Path) -> None:
    plot_scaling(made_bench(), tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("no_matplotlib")
def test_curves_without_matplotlib_name_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[eval\]'"):
        plot_scaling(made_bench(), tmp_path / "b.png")
