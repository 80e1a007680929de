"""Encoding a corpus: what an interruption keeps is what it says, and going on gives what was never interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightretriever.vectors.encode import next_size
from lightretriever.vectors.folder import VectorsFolder

SCRIPT = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background may have it ignored
sys.path[:0] = [{str(Path(__file__).parents[1] / "index")!r}, {str(Path(__file__).parents[1])!r}]
from conftest import RandomTower
from lightretriever.text.corpus import Document
from lightretriever.vectors import encode

encode._SECONDS = 0.5

class SlowTower(RandomTower):
    def encode(self, documents, progress=None):
        for _ in documents:
            time.sleep(float(sys.argv[2]))
        return super().encode(documents, progress)

documents = [Document(str(number), f"text {{number}}") for number in range(400)]
print("begun", flush=True)
try:
    encode.encode_corpus(documents, SlowTower(), sys.argv[1])
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child alone")
def test_an_interrupted_run_keeps_what_it_says_and_is_gone_on_with(tmp_path: Path) -> None:
    done = tmp_path / "v/shard-00001-of-00001/done.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "v"), "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not done.exists() or done.read_bytes().count(b"\n") < 4:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 130
    kept = re.search(r"the first ([\d,]+) documents are kept, run the same command again", said)
    assert kept is not None, said
    parts = [int(number) for number in re.findall(r'"documents": (\d+)', done.read_text())]
    assert sum(parts) == int(kept[1].replace(",", ""))
    assert len(parts) > 1
    assert max(parts) <= 0.5 / 0.02 + 1  # half a second's work is lost at most
    subprocess.run([*command[:-1], "0"], check=True, capture_output=True)
    subprocess.run([*command[:-2], str(tmp_path / "whole"), "0"], check=True, capture_output=True)
    again, whole = (read(tmp_path / name) for name in ("v", "whole"))
    assert again[0] == whole[0] == [str(number) for number in range(400)]
    assert np.array_equal(again[1], whole[1])


def read(path: Path) -> tuple[list[str], np.ndarray]:
    parts = list(VectorsFolder.open(path).parts())
    return [d.id for documents, _ in parts for d in documents], np.concatenate([encoded.dense for _, encoded in parts])


def test_parts_follow_the_towers_pace() -> None:
    for pace, largest in [(1e-5, 1024), (0.01, 1024), (1.0, 20), (7.0, 2), (100.0, 1)]:  # seconds a document
        sizes = [1]
        for _ in range(6):
            sizes.append(next_size(sizes[-1], sizes[-1] * pace))
        assert sizes[-1] == largest
        assert all(size * pace <= 20 or size == 1 for size in sizes)
    assert next_size(1, 5.0) == 4  # a slow first batch says nothing yet
    assert next_size(8, 0.1) == 64
