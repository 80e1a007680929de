"""What fitting a table costs a user: minutes, processor minutes and the most memory, of each verb as it is typed.

Every step runs in a process of its own, one after another; the documents' own encoding, which an index needs anyway, is
measured beside the fits. Needs the `minilm` extra and Linux or macOS: `python benchmarks/fit_cost.py DIR/scifact`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from results import Result, report


@dataclass(frozen=True)
class Cost:
    """Of one process. seconds: waited, and of the processors; bytes: resident at most."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


def run(*arguments: str) -> Cost:
    """Run `lightretriever` with these arguments; fails where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "lightretriever", *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"lightretriever {' '.join(arguments)} ended with status {os.waitstatus_to_exitcode(status)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path, help="a folder in BEIR's format")
    parser.add_argument("--model", default="minilm")
    chosen = parser.parse_args()
    corpus = next(path for path in sorted(chosen.collection.glob("corpus.jsonl*")) if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        vectors, out = f"{folder}/vectors", f"{folder}/table"
        fit = ["fit", chosen.model, "--texts", str(corpus)]
        steps = {
            "fit MODEL --texts CORPUS": [*fit, "-o", out + "-texts"],
            "encode CORPUS --model MODEL": ["encode", str(corpus), "--model", chosen.model, "-o", vectors],
            "fit MODEL --texts CORPUS --vectors VECTORS": [*fit, "--vectors", vectors, "-o", out + "-both"],
            "fit --vectors VECTORS": ["fit", "--vectors", vectors, "-o", out + "-vectors"],
        }
        costs = {name: run(*arguments) for name, arguments in steps.items()}
    report(
        Result(
            name="fit_cost",
            header=["verb", "minutes", "processor minutes", "most memory"],
            rows=[
                [
                    f"`{name}`",
                    f"{cost.seconds / 60:.1f}",
                    f"{cost.processor_seconds / 60:.1f}",
                    f"{cost.peak_bytes / 1e9:.1f} GB",
                ]
                for name, cost in costs.items()
            ],
            notes=f"CORPUS is {chosen.collection.name}'s, MODEL {chosen.model}; from the start of each process to its "
            "end, the model's loading included.",
            data={name: asdict(cost) for name, cost in costs.items()},
        )
    )


if __name__ == "__main__":
    main()
