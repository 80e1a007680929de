"""Training files of other tools: what each kind means, how kinds are told apart, and what is no training file."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.training.example import Example, Passage
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.lines import parse_example

SENTENCE = {"anchor": "where do otters sleep", "positive": "Afloat.", "negative": "Crabs dig."}
FLAG = {
    "query": "where do otters sleep",
    "pos": ["Afloat.", "On kelp."],
    "neg": ["Crabs dig."],
    "pos_scores": [0.9, 1],
    "neg_scores": [-2],
    "prompt": "Find: ",
}
OURS = {"query": "where do otters sleep", "positive_passages": [{"text": "Afloat."}]}


def write(path: Path, *rows: object, end: str = "\n") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes(end.join(lines).encode())
    return path


def texts(*found: str) -> tuple[Passage, ...]:
    return tuple(map(Passage, found))


@pytest.mark.parametrize(
    ("row", "kind", "expected"),
    [
        (SENTENCE, "sentence-transformers", Example(SENTENCE["anchor"], texts("Afloat."), texts("Crabs dig."))),
        (
            {"query": "q", "positive": "p", "negative_10": "k", "negative_2": "b", "negative_1": "a", "negative": None},
            "sentence-transformers",
            Example("q", texts("p"), texts("a", "b", "k")),
        ),
        ({"anchor": "q", "positive": "p"}, "sentence-transformers", Example("q", texts("p"))),
        (
            FLAG,
            "FlagEmbedding",
            Example(
                "where do otters sleep",
                (Passage("Afloat.", ce_score=0.9), Passage("On kelp.", ce_score=1.0)),
                (Passage("Crabs dig.", ce_score=-2.0),),
                "Find: ",
            ),
        ),
        ({"query": "q", "pos": ["p"]}, "FlagEmbedding", Example("q", texts("p"))),
        (OURS, "LightRetriever", Example("where do otters sleep", texts("Afloat."))),
    ],
)
def test_kinds_of_lines(row: dict, kind: str, expected: Example, tmp_path: Path) -> None:
    file = ExampleFile.open(write(tmp_path / "train.jsonl", row, "", row))
    assert file.kind.name == kind
    assert [file[1], file[0], parse_example(json.dumps(row).encode(), "here")] == [expected] * 3
    again = json.loads(file[0].line())
    assert parse_example(json.dumps(again).encode(), "here") == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["", "\ufeffquery\tpositive\tnegative", "Negative\tQuery\tPOSITIVE"])
def test_tab_separated_triples(header: str, end: str, tmp_path: Path) -> None:
    order = ("Negative", "Query", "POSITIVE") if header.startswith("N") else ("Query", "POSITIVE", "Negative")
    rows = [
        {"Query": 'say "otter"', "POSITIVE": "Afloat.", "Negative": "Crabs dig."},
        {"Query": " ", "POSITIVE": "x", "Negative": "y"},
        {"Query": "zweite – π", "POSITIVE": "On kelp.", "Negative": " "},
    ]
    lines = ["\t".join(row[name] for name in order) for row in rows]
    file = ExampleFile.open(write(tmp_path / "triples.tsv", *([header] if header else []), *lines, end=end))
    assert file.kind.name == "TSV"
    assert [file[1], file[0]] == [
        Example("zweite – π", texts("On kelp.")),
        Example('say "otter"', texts("Afloat."), texts("Crabs dig.")),
    ]
    assert (file.counts.lines, file.counts.no_query, file.counts.empty_passages) == (3, 1, 1)


def test_tab_separated_lines_may_have_more_negatives_or_none(tmp_path: Path) -> None:
    assert ExampleFile.open(write(tmp_path / "pairs.tsv", "q\tp"))[0] == Example("q", texts("p"))
    assert ExampleFile.open(write(tmp_path / "more.tsv", "q\tp\ta\tb"))[0] == Example("q", texts("p"), texts("a", "b"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((SENTENCE, FLAG), r"train\.jsonl:2: a line of the kind FlagEmbedding, the file began with sentence-trans"),
        ((FLAG, "", OURS), r"train\.jsonl:3: a line of the kind LightRetriever"),
        (({**FLAG, "positive": "x"},), "fields of two kinds of line, neg and neg_scores and pos and"),
        (({**SENTENCE, "query": "another"},), "anchor and query: only one"),
        (({**SENTENCE, "label": 0},), "label: pairs with judgements"),
        (({**SENTENCE, "score": 0.5},), "score: pairs with judgements"),
        (({**SENTENCE, "positive": ["a"]},), "positive is list, not a string"),
        (({**FLAG, "pos": "Afloat."},), "pos is str, not a list of texts"),
        (({"query": "q", "pos": [1]},), r"pos\[0\] is int, not a string"),
        (({**FLAG, "pos_scores": [1]},), "pos_scores is no list of 2 numbers"),
        (({**FLAG, "neg_scores": ["1"]},), r"neg_scores\[0\] is str, not a number"),
        (({**FLAG, "neg_scores": [10**400]},), "too large a number|digits"),
        (({**FLAG, "prompt": 3},), "prompt is int"),
        (({"sentence1": "a", "sentence2": "b"},), "no query"),
    ],
)
def test_lines_that_are_no_examples_are_named(rows: tuple, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ExampleFile.open(write(tmp_path / "train.jsonl", *rows))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("only a query",), "one column"),
        (("q\tp\tn", "q\tp"), r"t\.tsv:2: 2 columns, the first line has 3"),
        (("query\tpositive\tnegative\tsource", "a\tb\tc\td"), "a column 'source'"),
        (("query\tanchor\tpositive", "a\tb\tc"), "two columns of one name"),
        (("121352\t2912791\t7267248",), "ids, not texts"),
        (("q\tp\tn\rq\tp\tn\rq\tp\tn",), "carriage returns"),
    ],
)
def test_tab_separated_lines_that_are_no_examples_are_named(rows: tuple, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        ExampleFile.open(write(tmp_path / "t.tsv", *rows))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"{}"), "compressed with gzip: decompress it"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (b"PAR1\x15\x04", "Parquet.*JSON lines"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer.*git lfs pull"),
        ("\ufeff{}".encode("utf-16-le"), "UTF-16: save it as UTF-8"),
        (b"PK\x03\x04xxxx", "ZIP"),
        (b'{"query": "\xff"}', "not UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["train.jsonl", "train.tsv", "train"])
def test_other_files_are_named(data: bytes, message: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        ExampleFile.open(tmp_path / name)


def test_a_json_array_is_named_where_it_can_be_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf[\n" + json.dumps(SENTENCE).encode() + b"\n]")
    with pytest.raises(InputError, match="JSON array: write an object a line"):
        ExampleFile.open(tmp_path / "train.jsonl")
    assert ExampleFile.open(write(tmp_path / "train.tsv", "[1] otters\tAfloat."))[0].query == "[1] otters"


def test_a_file_stays_the_one_that_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = ExampleFile.open(write(Path("train.jsonl"), SENTENCE))
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "train.jsonl", FLAG)
    os.chdir("elsewhere")
    assert file[0].query == SENTENCE["anchor"]
    assert file.path.is_absolute()


@given(st.dictionaries(st.sampled_from([*SENTENCE, *FLAG, *OURS, "label"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "title"]), inner),
    max_leaves=4,
)))  # fmt: skip
def test_any_line_is_an_example_or_refused_in_one_line(row: dict) -> None:
    try:
        example = parse_example(json.dumps(row).encode(), "here:1")
    except InputError as error:
        assert str(error).startswith("here:1: ")
        assert "\n" not in str(error)
    else:
        assert parse_example(example.line().encode(), "here:1") == example


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("qid\tpid\tnid", "7\t8\t9"), "'qid', 'pid', 'nid' are ids"),
        (("query_id\tdoc_id", "otters sleep\tafloat"), "are ids"),
        (("query\tbackground", "a\tb"), "a column 'background' in what seems to be a header"),
        (("positive\tnegative", "a\tb"), "a query and a positive are needed"),
        (("do otters sleep\tafloat\t0.93", "do crabs dig\tthey do\t-1e-3"), "column 3 holds numbers alone"),
        (("do otters sleep\tafloat\t1",), "column 3 holds numbers alone"),
        (("q1\td7\td9", "q2\tMED-10\td4"), "are ids"),
        (tuple(f"q{i}\td{i}" for i in range(20)), "first lines are ids"),
        (('"query"\t"positive"', '"two\tlines"', '"a"\t"b'), "2: 1 columns"),
        (('"query"\t"positive"', '"a"\t"b'), "2: not quoted as its first line"),
    ],
)
def test_columns_that_are_no_passages_are_refused(rows: tuple, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        ExampleFile.open(write(tmp_path / "t.tsv", *rows))


def test_numbers_and_words_among_passages_are_passages(tmp_path: Path) -> None:
    rows = ("when did it open\t1984\t1999", "who won\tEve2\tnobody")
    assert ExampleFile.open(write(tmp_path / "a.tsv", *rows))[0] == Example(
        "when did it open", texts("1984"), texts("1999")
    )
    assert len(ExampleFile.open(write(tmp_path / "b.tsv", "query\tpassage\tnegative", "year\t1984\t1999"))) == 1
    assert len(ExampleFile.open(write(tmp_path / "c.tsv", "水獭\t漂浮", "king\tqueen"))) == 2


@pytest.mark.parametrize("header", ['"query"\t"passage"\t"negative"', None])
def test_quoted_tables(header: str | None, tmp_path: Path) -> None:
    rows = [row for row in (header, '"say ""otter"""\t"a\tfloat"\t"Crabs"', '"why"\t"so"\t"no"') if row]
    file = ExampleFile.open(write(tmp_path / "t.tsv", *rows))
    assert [file[0], file[1]] == [
        Example('say "otter"', texts("a\tfloat"), texts("Crabs")),
        Example("why", texts("so"), texts("no")),
    ]


def test_fields_that_would_not_be_read_are_named(tmp_path: Path) -> None:
    for row, name in [
        ({"anchor": "q", "positive": "p", "negative1": "n"}, "'negative1'"),
        ({"query": "q", "positive": "p", "neg_1": "n"}, "'neg_1'"),
        ({"query": "q", "pos": ["p"], "negative_2": "n"}, "'negative_2'"),
        ({**OURS, "positives": ["x"]}, "'positives'"),
        ({"query": "q", "answer": "p"}, "its fields are 'query', 'answer'"),
    ]:
        with pytest.raises(InputError, match=name):
            ExampleFile.open(write(tmp_path / "t.jsonl", row))
    row = {"anchor": "q", "positive": "p", "negatives": ["a", "b"], "position": 3, "posted": "x", "negative_ids": [1]}
    assert ExampleFile.open(write(tmp_path / "t.jsonl", row))[0] == Example("q", texts("p"), texts("a", "b"))
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_id": [4], "neg_id": [5]}
    assert len(ExampleFile.open(write(tmp_path / "t.jsonl", row))) == 1


def test_what_spreadsheets_save_is_not_called_cut_off(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes("where is the tea\tin the small café\n".encode("latin-1"))
    with pytest.raises(InputError, match="perhaps Windows-1252"):
        ExampleFile.open(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_bytes("where is the tea\tin the small café".encode()[:-1])
    with pytest.raises(InputError, match="cut off"):
        ExampleFile.open(tmp_path / "t.tsv")
