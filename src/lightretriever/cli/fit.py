"""``fit``: a token table fitted to a frozen tower, on its vectors of text or on documents already encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from lightretriever.counted import counted
from lightretriever.errors import UsageError
from lightretriever.vectors.columns import Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.evaluation.collection import Collection
    from lightretriever.query.table import TokenTable
    from lightretriever.tables.options import FitOptions

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

    Give --texts, --vectors or both. With neither the table is a general one: what the model makes of texts made of its
    vocabulary, worked out once for this machine, to which every other fit falls back. With --vectors alone the model is
    asked for that only; where it is not here, the fit goes on without. With --report the table is measured beside the
    model: on judged queries of --data, or else on sentences kept from the fit, by the model's own ranking.
    """
    refuse_existing(output)
    if data is not None and report is None:
        raise UsageError("--data gives a report its queries: name where to write it with --report DIR")
    named = Columns() if columns is None else Columns.parse(columns)
    corpus, texts = _texts_of_vectors(vectors, corpus, named, model, texts)
    _check_given(model, model_name, texts, vectors)
    if queries_log and (model is None or not phrases):
        raise UsageError("--queries-log needs a MODEL to encode its queries, and --phrases N to say how many")
    if report is not None and texts and STANDARD_INPUT in texts:
        raise UsageError("--report reads --texts twice, which standard input cannot be: name a file")
    collection = _check_report(report, data, split, model) if report is not None else None
    from lightretriever.pipeline.fit_report import Held, hold_out, hold_out_documents, report_fit
    from lightretriever.pipeline.given_vectors import open_vectors
    from lightretriever.tables.fit import fit_tables
    from lightretriever.tables.options import FitOptions

    turned = rotate if axes_of is None else _axes(axes_of)
    options = FitOptions(l2, dim, turned, dtype, max_sentences=sentences, phrases=phrases, general=general)
    if not texts and vectors is None:
        if prior is not None or report is not None:
            raise UsageError("--prior and --report are of a fit to text: give --texts FILE…, or leave them out")
        tower = _tower(model, base, device, compute)
        assert tower is not None
        _fit_without_text(tower, prompt or [None], options, output)
        return
    words = _tokenizer(tokenizer, model, vectors)
    encoded = open_vectors(vectors, corpus, named) if vectors is not None else None
    read, log = begin_texts(texts), begin_texts(queries_log)
    prior_rows, tower, held = _prior(prior), _tower(model, base, device, compute), Held()
    if report is not None and texts:  # which are read twice
        held = hold_out(read, sentences, collection is not None)
        read, options = begin_texts(texts), replace(options, max_sentences=len(held.fitted))
    elif report is not None and collection is None:
        held = hold_out_documents(encoded)
    with phases("sentences") as begin:
        tables = fit_tables(
            tower,
            read,
            prompt or [None],
            encoded,
            prior_rows,
            options,
            tokenizer=words,
            cache=cache,
            queries_log=(document.input for document in log),
            begin=begin,
        )
    if model_name is not None:
        tables = [replace(table, model=model_name) for table in tables]
    for number, (place, table) in enumerate(_saved(tables, output), 1):
        _say(place, table, anonymous=isinstance(encoded, tuple) and tower is None and prior is None)
        if report is not None:
            own = _place(report, number, len(tables))
            with phases("texts") as begin:
                kept = report_fit(own, table, tower, encoded, collection, held, cache, begin)
            _say_report(own, kept)


def _fit_without_text(tower: DocumentEncoder, prompts: Sequence[str | None], options: FitOptions, output: Path) -> None:
    from lightretriever.tables.general_table import general_table

    with phases("texts") as begin:
        tables = [general_table(tower, prompt, options, begin) for prompt in prompts]
    for place, table in _saved(tables, output):
        say(f"{place}: a general table, of what {table.model} makes of its vocabulary; a fit to your text keeps more")
        say_table(place, table)


def _texts_of_vectors(
    vectors: Path | None, corpus: Path | None, columns: Columns, model: str | None, texts: list[Path] | None
) -> tuple[Path | None, list[Path] | None]:
    """The corpus that a file of vectors was made of, and texts to encode: a file that holds no texts takes them."""
    if vectors is None or corpus is not None or not vectors.is_file() or _brings_texts(vectors, columns):
        return corpus, texts
    if model is not None or not texts or len(texts) != 1:
        raise UsageError(
            f"{vectors} holds no texts: name the documents that it was made of with --corpus, or their column"
        )
    return texts[0], None


def _check_given(model: str | None, model_name: str | None, texts: list[Path] | None, vectors: Path | None) -> None:
    if model is None and not texts and vectors is None:
        raise UsageError("nothing to fit to: give a MODEL, --texts FILE… for it, --vectors VECTORS, or all of them")
    if model is None and texts:
        raise UsageError("texts are encoded by a model: name it before --texts, as in: fit minilm --texts FILE…")
    if model_name is not None and (model is not None or (vectors is not None and vectors.is_dir())):
        raise UsageError("--model-name says what made vectors of which nothing is known: leave it out here")


def _check_report(path: Path, data: Path | None, split: str, model: str | None) -> Collection | None:
    """Find out before the fit what would fail after it; gives the collection that ``data`` names."""
    refuse_existing(path)
    if data is None and model is None:
        raise UsageError("--report needs a MODEL to compare with, or judged queries: name one, or give --data DIR")
    from lightretriever.evaluation.collection import begin_collection
    from lightretriever.evaluation.plot import need_matplotlib

    need_matplotlib()
    return None if data is None else begin_collection(data, split)


def _tokenizer(file: Path | None, model: str | None, vectors: Path | None) -> Tokenizer | None:
    """The one named; None where the model or the vectors bring theirs."""
    from lightretriever.text.tokenizer import load_tokenizer, packaged_tokenizer

    if file is not None:
        return load_tokenizer(file)
    if model is not None or vectors is None or (vectors / "tokenizer.json").is_file():
        return None
    say("no tokenizer is known for these vectors: queries are split by minilm's, as packaged (or --tokenizer FILE)")
    return packaged_tokenizer()


def _prior(name: str | None) -> TokenTable | str | None:
    from lightretriever.query.table import TokenTable
    from lightretriever.tables.prior import PRIORS

    return name if name is None or name in PRIORS else TokenTable.load(name)


def _tower(model: str | None, base: str | None, device: str, compute: str) -> DocumentEncoder | None:
    if model is None:
        return None
    from lightretriever.document.encoder import DocumentEncoder

    return DocumentEncoder.load(model, base=base, device=device, dtype=compute, sparse="none")


def _saved(tables: Sequence[TokenTable], output: Path) -> list[tuple[Path, TokenTable]]:
    """Save one table as the output, several within it; gives each with its place."""
    if len(tables) == 1:
        tables[0].save(output)
    else:
        from lightretriever.scratch import new_folder

        with new_folder(output) as folder:
            for number, table in enumerate(tables, 1):
                table.save(_place(folder, number, len(tables)))
    return [(_place(output, number, len(tables)), table) for number, table in enumerate(tables, 1)]


def _place(folder: Path, number: int, count: int) -> Path:
    """Of one of so many tables, or of its report: the folder itself for one alone, else a numbered one within it."""
    return folder if count == 1 else folder / str(number)


def _say(output: Path, table: TokenTable, anonymous: bool) -> None:
    """What was made; ``anonymous``: of vectors whose model nobody knows, which a fit does not warn of."""
    from lightretriever.tables.prior import MODEL

    fitted = table.fitted
    say(f"{output}: fitted to {counted(int(str(fitted['samples'])), 'texts')}, λ {fitted['l2']:g}")
    if isinstance(overlap := fitted.get("held_out_overlap"), float):
        say(
            f"{output}: of the model's ten best for text held out of the fit it finds {10 * overlap:.1f} among its ten "
            f"(nDCG@10 {fitted['held_out_ndcg']:.3f})"
        )
    say_table(output, table)
    if fitted["prior"] == MODEL:
        say(f"{output}: rows of tokens that no text holds come from {table.model}")
    if anonymous:
        say(f"{output}: tokens that no text holds have no row, and a query of them alone finds nothing by its vector")


def _say_report(path: Path, kept: Mapping[str, float]) -> None:
    shares = ", ".join(f"{mode} {share:.1%}" for mode, share in kept.items())
    say(f"{path}: the report" + (f"; of the full model's nDCG@10 the look-up keeps {shares}" if shares else ""))


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
