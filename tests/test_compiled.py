"""Compiled code where nothing can be written: it works, is compiled anew, and that is said once."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import wordpiece

import lightretriever
from lightretriever import TokenTable
from lightretriever.text.tokenizer import id_count

PROGRAM = """
import sys, warnings
import numpy as np
from lightretriever import QueryEncoder
import lightretriever
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("default")
    encoder = QueryEncoder.load(sys.argv[1])
    texts = [f"read a csv file with {i} threads" for i in range(700)]
    many = encoder.encode(texts)
    from lightretriever.tables.kernels import multiply
    out = np.empty((1, 2), np.float32)
    multiply(np.array([0, 1]), np.array([0], np.int32), np.ones(1, np.float32), np.ones((1, 2), np.float32), out)
np.testing.assert_allclose(many.dense[:9], encoder.encode(texts[:9]).dense, atol=1e-6)
assert out.tolist() == [[1, 1]]
print(lightretriever.__file__)
print(*[warning.message for warning in said], sep="\\n")
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = np.random.default_rng(3).standard_normal((id_count(wordpiece()), 8)).astype(np.float32)
    TokenTable.from_rows(rows, wordpiece(), model="made").save(tmp_path / "table")
    return tmp_path / "table"


def run(command: list[str], **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow  # compiles everything anew
def test_a_zipped_package_without_a_home_compiles(table: Path, tmp_path: Path) -> None:
    source = Path(lightretriever.__file__).parent
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for file in source.rglob("*"):
            if file.suffix in (".py", ".json"):
                archive.write(file, Path("lightretriever", file.relative_to(source)))
    # A home that cannot be made, even by root: nothing can be in a file.
    home = str(tmp_path / "packed.zip" / "nobody")
    found, *said = run([sys.executable, "-c", PROGRAM, str(table)], PYTHONPATH=str(tmp_path / "packed.zip"), HOME=home)
    assert "packed.zip" in found
    assert len(said) == 1 and "set NUMBA_CACHE_DIR" in said[0]
    cache = tmp_path / "cache"
    found, *said = run(
        [sys.executable, "-c", PROGRAM, str(table)],
        PYTHONPATH=str(tmp_path / "packed.zip"),
        HOME=home,
        XDG_CACHE_HOME=str(cache),
    )
    assert said == [""]
    assert any(cache.rglob("*.nbi")), "compiled code was kept"


@pytest.mark.slow  # compiles everything anew
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="mounts are Linux's")
def test_a_package_folder_that_cannot_be_written_compiles(table: Path) -> None:
    source = Path(lightretriever.__file__).parents[1]
    mount = ["unshare", "-m", "sh", "-c"]
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    if os.name == "nt" or subprocess.run([*mount, read_only, str(source)], capture_output=True).returncode:
        pytest.skip("no mounts may be made here")
    command = [*mount, read_only + ' && exec "$@"', str(source), sys.executable, "-B", "-c", PROGRAM, str(table)]
    found, *said = run(command, PYTHONPATH=str(source), HOME="/proc/nonexistent")
    assert found == str(source / "lightretriever" / "__init__.py")
    assert len(said) == 1 and "set NUMBA_CACHE_DIR" in said[0]
    _, *said = run(command, PYTHONPATH=str(source), HOME="/proc/nonexistent", NUMBA_CACHE_DIR="/proc/nowhere")
    assert len(said) == 1 and "set NUMBA_CACHE_DIR" in said[0]
    cache = table.with_name("cache")
    _, *said = run(command, PYTHONPATH=str(source), HOME="/proc/nonexistent", NUMBA_CACHE_DIR=str(cache))
    assert said == [""] and any(cache.rglob("*.nbi"))


@pytest.mark.slow  # compiles everything anew
def test_damaged_files_of_compiled_code_are_replaced(table: Path, tmp_path: Path) -> None:
    command, cache = [sys.executable, "-c", PROGRAM, str(table)], tmp_path / "cache"
    assert run(command, NUMBA_CACHE_DIR=str(cache))[1:] == [""]
    damage = {".nbi": [b"", b"\x80\x04no pickle"], ".nbc": [b"", b"other bytes"]}
    for number, file in enumerate(sorted(cache.rglob("*.nb[ic]"))):
        if number % 3:  # an index without what it lists, the contrary, and both
            file.write_bytes(damage[file.suffix][number // 3 % 2])
    _, *said = run(command, NUMBA_CACHE_DIR=str(cache))
    assert said and all("is damaged" in line and str(cache) in line for line in said)
    assert run(command, NUMBA_CACHE_DIR=str(cache))[1:] == [""], "what was compiled anew is kept again"


@pytest.mark.slow  # compiles everything anew
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="mounts are Linux's")
def test_a_full_disk_stops_no_compiled_code(table: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=96k none "$0" && exec "$@"', str(tmp_path / "small")]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no mounts may be made here")
    _, *said = run([*mount, sys.executable, "-c", PROGRAM, str(table)], NUMBA_CACHE_DIR=str(tmp_path / "small"))
    assert len(said) == 1 and "set NUMBA_CACHE_DIR" in said[0]
