"""``fit``: a token table fitted to a frozen tower, on its vectors of text or on documents already encoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import phases, refuse_existing, say, say_table
from lightretriever.cli.inputs import STANDARD_INPUT, begin_texts
from lightretriever.cli.options import (
    MODEL_HELP,
    Base,
    ColumnNames,
    Corpus,
    Device,
    Dim,
    Phrases,
    QueriesLog,
    Split,
    TableDtype,
    TableOut,
)
from lightretriever.cli.report import HELD_OUT, Held, check_report, documents_of, hold_out, make_report
from lightretriever.counted import counted
from lightretriever.errors import UsageError
from lightretriever.vectors.columns import Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightretriever.query.table import TokenTable
    from lightretriever.text.corpus import Document
    from lightretriever.vectors.folder import VectorsFolder

EXAMPLE = "lightretriever fit minilm --texts corpus.jsonl notes.txt -o table"


def command(
    output: TableOut,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE…", help="Unlabelled text: corpora, queries, .txt with a text a line; - is standard input."
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="VECTORS", help="Documents already encoded: what encode wrote, or a file with vectors."),
    ] = None,
    corpus: Corpus = None,
    columns: ColumnNames = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="tokenizer.json; where none is known, minilm's from its package."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What made the given vectors, for the table to tell.")
    ] = None,
    l2: Annotated[
        float | None, typer.Option(metavar="λ", help="Pull towards the prior; chosen on held-out text if not given.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="What tokens that no text holds have: the model's own view of each (model, the default where it is on "
            "this machine), nothing (zero), or the row of a table that cache wrote.",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="The queries' instruction; the model's own if not given. For several: TABLE/1, TABLE/2 …",
        ),
    ] = None,
    base: Base = None,
    dtype: TableDtype = "float32",
    dim: Dim = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Keep D principal axes, not the first D: for models not made to be cut.")
    ] = False,
    axes_of: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Turn to that table's axes, to follow it in an index.")
    ] = None,
    device: Device = "auto",
    compute: Annotated[
        str, typer.Option(metavar="NAME", help="What the model computes in; auto: bfloat16 on a GPU, else float32.")
    ] = "auto",
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the sentences' vectors there, for another fit.")
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, metavar="N", help="Encode at most N sentences of --texts.")] = 20_000,
    phrases: Phrases = 0,
    queries_log: QueriesLog = None,
    general: Annotated[
        bool, typer.Option("--general", help="The table is for other corpora than those given, not for these.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write there what the table keeps of the model: card and plot.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A BEIR folder: the report's queries and judgements.")
    ] = None,
    split: Split = "dev",
) -> None:
    """Fit a token table to a frozen model: no labels, no change to the documents' vectors.

    Give --texts, --vectors or both. With --vectors alone the model is asked only what it makes of each token of its
    vocabulary, once for this machine; where it is not, the fit goes on without. With --report the table is measured
    beside the model: on judged queries of --data, or else on sentences kept from the fit, by the model's own ranking.
    """
    refuse_existing(output)
    if data is not None and report is None:
        raise UsageError("--data gives a report its queries: name where to write it with --report DIR")
    named = Columns() if columns is None else Columns.parse(columns)
    if vectors is not None and corpus is None and vectors.is_file() and not _brings_texts(vectors, named):
        if model is not None or not texts or len(texts) != 1:
            raise UsageError(
                f"{vectors} holds no texts: name the documents that it was made of with --corpus, or their column"
            )
        corpus, texts = texts[0], None
    if not texts and vectors is None:
        raise UsageError("nothing to fit to: give --texts FILE… and a MODEL, or --vectors VECTORS, or both")
    if model is None and texts:
        raise UsageError("texts are encoded by a model: name it before --texts, as in: fit minilm --texts FILE…")
    if queries_log and (model is None or not phrases):
        raise UsageError("--queries-log needs a MODEL to encode its queries, and --phrases N to say how many")
    if model_name is not None and (model is not None or (vectors is not None and vectors.is_dir())):
        raise UsageError("--model-name says what made vectors of which nothing is known: leave it out here")
    if report is not None and texts and STANDARD_INPUT in texts:
        raise UsageError("--report reads --texts twice, which standard input cannot be: name a file")
    collection = check_report(report, data, split, model) if report is not None else None
    from lightretriever.query.table import TokenTable
    from lightretriever.scratch import new_folder
    from lightretriever.tables.fit import fit_tables
    from lightretriever.tables.prior import PRIORS
    from lightretriever.text.tokenizer import load_tokenizer, packaged_tokenizer

    words = load_tokenizer(tokenizer) if tokenizer is not None else None
    if words is None and model is None and vectors is not None and not (vectors / "tokenizer.json").is_file():
        words = packaged_tokenizer()
        say("no tokenizer is known for these vectors: queries are split by minilm's, as packaged (or --tokenizer FILE)")
    encoded = _read_vectors(vectors, corpus, named) if vectors is not None else None
    read, log = begin_texts(texts), begin_texts(queries_log)
    prior_rows = prior if prior in (None, *PRIORS) else TokenTable.load(prior)
    turned = rotate if axes_of is None else _axes(axes_of)
    tower = None
    if model is not None:
        from lightretriever.document.encoder import DocumentEncoder

        tower = DocumentEncoder.load(model, base=base, device=device, dtype=compute, sparse="none")
    held = Held((), ())
    if report is not None and texts:  # which are read twice
        held = hold_out(read, sentences, collection is not None)
        read = begin_texts(texts)
        sentences = len(held.fitted)
    elif report is not None and collection is None:
        held = Held((), hold_out(documents_of(encoded), HELD_OUT, False).held_out)
    with phases("sentences") as begin:
        tables = fit_tables(
            tower,
            read,
            prompt or [None],
            vectors=encoded,
            prior=prior_rows,
            l2=l2,
            dim=dim,
            rotate=turned,
            tokenizer=words,
            dtype=dtype,
            max_sentences=sentences,
            cache=cache,
            begin=begin,
            phrases=phrases,
            queries_log=(document.input for document in log),
            general=general,
        )
    if model_name is not None:
        tables = [replace(table, model=model_name) for table in tables]
    if len(tables) == 1:
        tables[0].save(output)
    else:
        with new_folder(output) as folder:
            for number, table in enumerate(tables, 1):
                table.save(folder / str(number))
    for number, table in enumerate(tables, 1):
        place = output if len(tables) == 1 else output / str(number)
        _say(place, table, anonymous=isinstance(encoded, tuple) and tower is None and prior is None)
        if report is not None:
            own = report if len(tables) == 1 else report / str(number)
            make_report(own, table, tower, encoded, collection, held, cache)


def _say(output: Path, table: TokenTable, anonymous: bool) -> None:
    """What was made; ``anonymous``: of vectors whose model nobody knows, which a fit does not warn of."""
    from lightretriever.tables.prior import ALONE

    fitted = table.fitted
    cosine = f", cosine {fitted['held_out_cosine']:.3f} on held-out text" if fitted.get("held_out_cosine") else ""
    say(f"{output}: fitted to {counted(int(str(fitted['samples'])), 'texts')}, λ {fitted['l2']:g}{cosine}")
    say_table(output, table)
    if str(fitted["prior"]).startswith(ALONE):
        say(f"{output}: rows of tokens that no text holds come from {table.model}")
    if anonymous:
        say(f"{output}: tokens that no text holds have no row, and a query of them alone finds nothing by its vector")


def _axes(path: Path) -> NDArray[np.float32]:
    from lightretriever.query.table import TokenTable

    rotation = TokenTable.load(path).rotation
    if rotation is None:
        raise UsageError(f"{path} was not turned to any axes: leave --axes-of out")
    return rotation


def _brings_texts(path: Path, columns: Columns) -> bool:
    from lightretriever.vectors.provider import vector_columns

    found = vector_columns(path, columns)
    return found is not None and found.text is not None


def _read_vectors(
    path: Path, corpus: Path | None, columns: Columns
) -> VectorsFolder | tuple[list[Document], NDArray[np.float32]]:
    from lightretriever.vectors.folder import VectorsFolder
    from lightretriever.vectors.provider import read_provider_vectors

    if not path.is_file():
        return VectorsFolder.open(path)
    import numpy as np

    parts = list(read_provider_vectors(path, corpus, columns))
    documents = [document for read, _ in parts for document in read]
    return documents, np.concatenate([encoded.dense for _, encoded in parts])
