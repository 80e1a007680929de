"""``encode``: a corpus into a vectors folder, resumable, one shard a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import parse_shard, progress, say
from lightretriever.cli.inputs import begin_corpus
from lightretriever.cli.options import Base, Compute, Device, MaxLength, ModelOption, TopK
from lightretriever.counted import counted

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
) -> None:
    """Encode documents. Run it again after an interruption: it goes on where it was."""
    worker = parse_shard(shard)
    from lightretriever.vectors.encode import encode_corpus

    documents, total = begin_corpus(corpus)
    from lightretriever.document.device import fastest
    from lightretriever.document.encoder import DocumentEncoder

    tower = DocumentEncoder.load(
        model, base=base, device=device, dtype=fastest(compute, device), max_length=max_length, top_k=top_k
    )
    with progress("encoding", "documents") as report:
        done = encode_corpus(
            documents,
            tower,
            output,
            shard=worker,
            dtype=dtype,
            progress=lambda count, _: report(count, total and total // worker[1]),
        )
    say(f"{output}: {counted(done, 'documents')} encoded")
