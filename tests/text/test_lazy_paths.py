"""A relative path means what it does when a reader is called, wherever the working directory is when it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lightretriever.errors import InputError
from lightretriever.text.corpus import read_corpus, read_queries, read_texts
from lightretriever.text.judgements import read_judgements
from lightretriever.text.lines import read_lines
from lightretriever.text.rows import read_rows

Reader = Callable[[str], Iterator[object]]


def fill(folder: Path, word: str) -> None:
    """The same names in every folder, other contents."""
    (folder / "set" / "queries").mkdir(parents=True)
    (folder / "notes").mkdir()
    row = f'{{"_id": "1", "text": "{word}"}}\n'
    for name in ("rows.jsonl", "set/corpus.jsonl", "set/queries/test.jsonl"):
        (folder / name).write_text(row)
    (folder / "rows.csv").write_text(f"_id,text\n1,{word}\n")
    (folder / "notes" / "one.md").write_text(word)
    (folder / "lines.txt").write_text(f"{word}\n")
    (folder / "judged.tsv").write_text(f"q\t{word}\t1\n")
    (folder / "judged.jsonl").write_text(f'{{"query-id": "q", "corpus-id": "{word}", "score": 1}}\n')
    parquet.write_table(pyarrow.table({"_id": ["1"], "text": [word]}), folder / "rows.parquet")


@pytest.mark.parametrize(
    ("read", "name"),
    [
        *[(read_corpus, name) for name in ("rows.jsonl", "rows.csv", "rows.parquet", "set", "notes")],
        *[(read_queries, name) for name in ("rows.jsonl", "set")],
        *[(read_texts, name) for name in ("rows.jsonl", "lines.txt", "notes")],
        *[(read_rows, name) for name in ("rows.jsonl", "rows.csv", "rows.parquet")],
        (read_lines, "lines.txt"),
        *[(read_judgements, name) for name in ("judged.tsv", "judged.jsonl")],
    ],
)
def test_the_folder_of_the_call_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Reader, name: str
) -> None:
    for word in ("larch", "spruce"):
        fill(tmp_path / word, word)
    monkeypatch.chdir(tmp_path / "larch")
    rows = read(name)
    monkeypatch.chdir(tmp_path / "spruce")
    found = repr(list(rows))
    assert "larch" in found
    assert "spruce" not in found
    assert str(tmp_path) not in found  # places are named as the user named them


def test_messages_name_the_path_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.csv").write_text("_id,text\n1\n")
    Path("broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"^short\.csv:2: "):
        list(read_corpus("short.csv"))
    with pytest.raises(InputError, match=r"^broken\.parquet: "):
        list(read_corpus("broken.parquet"))
    with pytest.raises(InputError, match=r"^gone\.txt does not exist"):
        list(read_lines("gone.txt"))
