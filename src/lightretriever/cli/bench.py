"""``bench``: what look-up is worth on this machine, beside full models, in one run."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import format_table, print_json, say
from lightretriever.cli.options import MODEL_HELP, AsJson, Device
from lightretriever.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from lightretriever.bench.report import Bench

EXAMPLE = "lightretriever bench --full -o bench.json"
SIZES, FULL_SIZES, FULL_SHAPE = (10_000,), (10_000, 100_000), "qwen2-0.5b"


def command(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help=f"The full model. {MODEL_HELP}")] = "minilm",
    table: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="Token table of that model; one is fitted if not given.")
    ] = None,
    vectors: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Real passages: a vectors folder; may be repeated.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="CORPUS", help="Real passages not yet encoded; Python's own docstrings if not given."),
    ] = None,
    encode: Annotated[int, typer.Option(min=2, metavar="N", help="Passages of CORPUS that are encoded.")] = 512,
    queries: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Real queries; may be repeated. Else eight words out of a passage."),
    ] = None,
    queries_log: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Queries as they were asked, for what caches and phrases would answer."),
    ] = None,
    documents: Annotated[
        list[int] | None,
        typer.Option(min=2, metavar="N", help="Size of an index to search; may be repeated. 10,000 if not given."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also a model of that shape with random weights: qwen2-0.5b, qwen2-1.5b."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="10,000 and 100,000 documents, and --shape qwen2-0.5b.")] = False,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="Of the full models: auto, float32, bfloat16 or float16.")
    ] = "auto",
    turns: Annotated[
        int, typer.Option(min=1, metavar="N", help="Turns that systems take; fewer are quicker and less certain.")
    ] = 8,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write JSON there, and the curves beside it as PNG."),
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    as_json: AsJson = False,
    show: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure nothing: show what an earlier run wrote.")
    ] = None,
) -> None:
    """Measure encoding, search, building, storage and memory on this machine.

    Look-up beside sentence-transformers' StaticEmbedding and model2vec on the same table (where they are installed) and
    the full model, which runs on the CPU and, with --device auto, on an accelerator too where there is one. Ratios come
    first. Documents beyond the real passages are made: of the same spectrum and neighbourhoods, the same every time.
    """
    from lightretriever.bench.report import load, save

    if as_json and as_markdown:
        raise UsageError("give --json or --markdown, not both")
    if show is not None:
        _show(load(show), as_markdown, as_json)
        return
    if vectors and corpus is not None:
        raise UsageError("give --vectors, passages that are encoded, or --corpus, passages that are not")
    if output is not None and output.suffix != ".json":
        raise UsageError(f"--output {output}: a file that ends in .json is needed, the curves go to .png beside it")
    from lightretriever.cli.bench_given import Asked, check_shape
    from lightretriever.cli.bench_run import measure

    shape = shape or (FULL_SHAPE if full else None)
    check_shape(shape)
    sizes = sorted(set(documents or (FULL_SIZES if full else SIZES)))
    asked = Asked(
        model, table, tuple(vectors or ()), corpus, encode, tuple(queries or ()), tuple(queries_log or ()),
        tuple(sizes), shape, device, dtype, turns, shlex.join(["lightretriever", "bench", *_own_arguments()]),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lightretriever-bench-") as folder:
        found = measure(asked, Path(folder))
    if output is not None:
        save(found, output)
        _draw(found, output.with_suffix(".png"))
    _show(found, as_markdown, as_json)


def _own_arguments() -> list[str]:
    return sys.argv[sys.argv.index("bench") + 1 :] if "bench" in sys.argv else []


def _draw(found: Bench, path: Path) -> None:
    from lightretriever.artifact import new_file
    from lightretriever.bench.plot import plot_scaling

    try:
        with new_file(path) as temporary:
            plot_scaling(found, temporary)
    except MissingExtraError as error:
        say(str(error))


def _show(found: Bench, as_markdown: bool, as_json: bool) -> None:
    from lightretriever.bench.report import as_saved, markdown, remarks, tables

    if as_json:
        print_json(as_saved(found))
        return
    if as_markdown:
        print(f"`{found.command}` ({found.date}; {found.machine})\n\n{markdown(found)}")
        return
    ratios, *absolute = tables(found)
    for table in (ratios, *absolute):
        if table is not ratios and table is absolute[0]:
            print(f"{found.machine}\n")
        print(f"{table.title}\n{format_table(table.header, table.rows, range(1, len(table.header)))}\n")
    print(remarks(found))
