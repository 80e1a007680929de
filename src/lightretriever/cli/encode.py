"""``encode``: a corpus into a vectors folder, resumable, one shard a worker; or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import parse_shard, progress, say
from lightretriever.cli.inputs import begin_corpus
from lightretriever.cli.options import Base, Compute, Device, MaxLength, ModelOption, TopK
from lightretriever.counted import counted
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.document.options import TowerOptions
    from lightretriever.vectors.on_ray.encode import RayOptions

EXAMPLE = "lightretriever encode corpus.jsonl --model minilm -o vectors --shard 1/2"


def command(
    corpus: Annotated[
        Path, typer.Argument(metavar="CORPUS", help="A corpus file, or a folder; - is JSON lines on standard input.")
    ],
    model: ModelOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="VECTORS", help="Folder to write vectors to.")],
    shard: Annotated[
        str, typer.Option(metavar="i/n", help="Encode every n-th document from the i-th on: worker i of n.")
    ] = "1/1",
    base: Base = None,
    device: Device = "auto",
    compute: Compute = "auto",
    max_length: MaxLength = 512,
    top_k: TopK = None,
    dtype: Annotated[str, typer.Option(help="How vectors are stored: float16 or float32.")] = "float16",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Encode on a Ray cluster: auto, host:6379, or local: one of this machine, for this run.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Workers of the Ray cluster; all that it has room for if not given."),
    ] = None,
    worker_cpus: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="CPUs of each; all of the smallest machine, at most 8, or 1 beside a GPU."
        ),
    ] = None,
) -> None:
    """Encode documents. Run it again after an interruption: it goes on where it was."""
    worker = parse_shard(shard)
    if ray is None and (workers or worker_cpus):
        raise UsageError("--workers and --worker-cpus are of a Ray cluster: name it with --ray ADDRESS")
    from lightretriever.document.options import TowerOptions

    tower = TowerOptions(model, base, device, compute, max_length, top_k)
    if ray is not None:
        if worker != (1, 1):
            raise UsageError(f"--shard {shard} with --ray: Ray shares the documents out itself, leave --shard away")
        from lightretriever.vectors.on_ray.encode import RayOptions

        _encode_on_ray(corpus, tower, output, RayOptions(ray, workers, worker_cpus), dtype)
        return
    from lightretriever.vectors.encode import encode_corpus

    documents, total = begin_corpus(corpus)
    loaded = tower.load()
    with progress("encoding", "documents") as report:
        done = encode_corpus(
            documents,
            loaded,
            output,
            shard=worker,
            dtype=dtype,
            progress=lambda count, _: report(count, total and total // worker[1]),
        )
    say(f"{output}: {counted(done, 'documents')} encoded")


def _encode_on_ray(corpus: Path, tower: TowerOptions, output: Path, options: RayOptions, dtype: str) -> None:
    from lightretriever.vectors.on_ray.cluster import import_ray
    from lightretriever.vectors.on_ray.encode import encode_on_ray

    import_ray()  # without it standard input need not be read
    documents, total = begin_corpus(corpus)
    with progress("encoding", "documents") as report:
        done = encode_on_ray(
            documents, tower, output, options, dtype=dtype, progress=lambda count, _: report(count, total)
        )
    say(f"{output}: {counted(done, 'documents')} encoded")
