"""Options that several verbs share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = "The document tower: a local folder, a hub name, or minilm."

ModelOption = Annotated[str, typer.Option("--model", metavar="MODEL", help=MODEL_HELP)]
Base = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Base model of a LoRA release, where its folder does not lead to it."),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps …")]
Compute = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="What the model computes in: float32, bfloat16, or auto: bfloat16 where that is faster."
    ),
]
Prompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The queries' instruction; the model's own if not given.")
]
TableOut = Annotated[Path, typer.Option("-o", "--output", metavar="TABLE", help="Folder to write the table to.")]
TableDtype = Annotated[str, typer.Option("--dtype", help="How rows are stored: float32, float16 or int8.")]
Dim = Annotated[int | None, typer.Option(min=1, metavar="D", help="Keep the first D dimensions only.")]
Phrases = Annotated[
    int, typer.Option(min=0, metavar="N", help="At most N rows for phrases and whole queries, besides the tokens'.")
]
QueriesLog = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE…",
        help="Queries as they were asked, - being standard input; the most frequent get rows of their own, first of "
        "--phrases.",
    ),
]
MaxLength = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of a document that are read.")]
TopK = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Keep each document's N heaviest sparse weights only.")
]
Corpus = Annotated[
    Path | None, typer.Option(metavar="CORPUS", help="The documents of a file that holds vectors alone.")
]
ColumnNames = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="Columns of a file with vectors, where not usual: id=NAME,text=NAME,title=NAME,vector=NAME, any of them.",
    ),
]
Mode = Annotated[str, typer.Option(metavar="MODE", help="hybrid, dense or sparse.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help='By metadata: {"lang": "en", "year": {"$gte": 1990}} …'),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs: one object on a line; search prints one for each hit.")
]
IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="An index folder.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="Which qrels/NAME.tsv.")]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Read only such files of a folder, as '*.md'; may be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave such files and folders out; may be repeated."),
]
ListLeftOut = Annotated[bool, typer.Option("--list-left-out", help="Name every file that was not read, and why.")]
