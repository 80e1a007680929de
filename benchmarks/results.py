"""What a benchmark found: printed as Markdown, saved as JSON, and put into the page that has its markers.

`python benchmarks/NAME.py` prints and saves to `.bench/NAME.json`, as `lightretriever bench -o .bench/bench.json` does;
`python benchmarks/results.py` then writes every saved table into the page that has its pair of marker comments. Nothing
there is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from lightretriever.bench import report as bench
from lightretriever.bench.machine import machine

ROOT = Path(__file__).parents[1]
SAVED = ROOT / ".bench"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "sizing.md")


@dataclass(frozen=True)
class Result:
    """One table.

    Attributes:
        name: of the benchmark, and of its markers on the page.
        header, rows: cells as they are shown.
        notes: one paragraph: what the columns are, how it was measured.
        data: what the cells were made from, for other tools.
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str
    data: object = field(default_factory=dict)


def markdown(result: Result) -> str:
    """The table and its paragraph."""
    lines = [result.header, ["---"] * len(result.header), *result.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{result.notes}"


def report(result: Result) -> None:
    """Print a result and save it, with the command and the machine that gave it."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    SAVED.mkdir(exist_ok=True)
    saved = asdict(result) | {"command": command, "machine": machine(), "date": date.today().isoformat()}
    (SAVED / f"{result.name}.json").write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(markdown(result))


def write_pages(pages: Sequence[Path] = PAGES, saved: Path = SAVED) -> list[str]:
    """Put every saved result between its markers on the page that has them; returns the names of those written."""
    texts, written = {page: page.read_text(encoding="utf-8") for page in pages}, []
    for path in sorted(saved.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        name = path.stem
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        page = next((page for page, text in texts.items() if begin in text and end in text), None)
        if page is None:
            names = " and ".join(page.name for page in pages)
            raise SystemExit(f"{names} have no markers for {name}: add {begin} and {end} where it belongs")
        if found.get("kind") == bench.KIND:  # of `lightretriever bench -o`
            shown = bench.markdown(bench.load(path))
        else:
            shown = markdown(Result(name, found["header"], found["rows"], found["notes"]))
        body = f"`{found['command']}` ({found['date']}; {found['machine']})\n\n{shown}"
        before, after = texts[page].split(begin)[0], texts[page].split(end)[1]
        texts[page] = f"{before}{begin}\n{body}\n{end}{after}"
        written.append(name)
    for page, text in texts.items():
        page.write_text(text, encoding="utf-8")
    return written


if __name__ == "__main__":
    print("written:", ", ".join(write_pages()))
