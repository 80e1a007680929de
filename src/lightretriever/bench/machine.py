"""What ran a benchmark, and what processes of it hold in memory.

    python -m lightretriever.bench.machine query TABLE QUERIES
    python -m lightretriever.bench.machine index INDEX QUERIES
    python -m lightretriever.bench.machine model MODEL QUERIES

Each does one thing in a process of its own, with the queries of a JSON file, and prints what it holds as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lightretriever.errors import LightRetrieverError
from lightretriever.memory import most_resident


def machine() -> str:
    """Processor, cores, memory and Python of this machine."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found.group(1) if found else model
    except OSError:
        pass  # not Linux: what the platform module says will do
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process holds, in bytes.

    Attributes:
        process: what it does.
        resident: in memory.
        anonymous: of that, what the system cannot take back, files' pages being left out; None where it does not say.
    """

    process: str
    resident: int
    anonymous: int | None


def own_memory(process: str) -> Memory:
    """What this process holds now; where the system tells no more, the most that it ever held."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return Memory(process, most_resident(), None)
    sizes = {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, *_ in (line.split() for line in lines)}
    return Memory(process, sizes["Rss"], sizes["Anonymous"])


def memory_of(kind: str, subject: str | Path, queries: Path) -> list[Memory]:
    """What a process holds that does nothing else.

    Args:
        kind: "query" (a table and its encoder), "index" (open, and searched) or "model" (a full model, on the CPU).
        subject: the table's folder, the index's, or the model.
        queries: a JSON file of what it is asked.

    Raises:
        LightRetrieverError: it failed, with its last line.
    """
    command = [sys.executable, "-m", "lightretriever.bench.machine", kind, str(subject), str(queries)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise LightRetrieverError(f"measuring the memory of a process ({kind}) failed: {reason}")
    return [Memory(**found) for found in json.loads(ran.stdout.splitlines()[-1])]


def _hold(kind: str, subject: str, queries: Sequence[str]) -> list[Memory]:
    if kind == "query":
        from lightretriever.query.encoder import QueryEncoder

        encoder = QueryEncoder.load(subject)
        for query in queries:
            encoder.encode([query])
        singly = own_memory("table and query encoder, one query at a time")
        encoder.encode([*queries] * (1 + 8192 // len(queries)))
        return [singly, own_memory("the same after a large batch, compiled")]
    if kind == "index":
        from lightretriever.index.index import Index

        with Index.open(subject) as index:
            for query in queries:
                index.search(query)
            return [own_memory(f"index of {index.count:,} documents, searched")]
    from lightretriever.document.encoder import DocumentEncoder

    tower = DocumentEncoder.load(subject, device="cpu", sparse="none")
    for query in queries[:8]:
        tower.encode_queries([query])
    return [own_memory(f"full model {tower.name}, one query at a time")]


def main(arguments: Sequence[str]) -> None:
    """Do one thing and print what this process then holds."""
    kind, subject, queries = arguments
    found = _hold(kind, subject, json.loads(Path(queries).read_text(encoding="utf-8")))
    print(json.dumps([asdict(memory) for memory in found]))


if __name__ == "__main__":
    main(sys.argv[1:])
