"""Snapshots, and files that are not what they were."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import zstandard
from index.conftest import RandomTower, make_documents, make_encoder, payload
from index.raw_settings import read_raw, write_raw

from lightretriever import Index
from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.scratch import scratch_folder

QUERIES = ["w01 w02", "w03", "w10 w11 w12"]


def answers(index: Index) -> list:
    return [index.search_many(QUERIES, 30, mode) for mode in ("dense", "sparse", "hybrid")]


def test_a_restored_index_answers_identically(filled, tmp_path: Path) -> None:
    index, documents, _ = filled(120, "bm25")
    index.optimise()
    index.close()
    with Index.open(index.path) as index:
        index.delete(["d5"])
        before = answers(index)
        failures: list[BaseException] = []
        done = threading.Event()

        def write() -> None:
            try:
                number = 0
                while not done.is_set():
                    name = f"later{number}"
                    index.add([name], encoded_row(number % 100), [payload(documents[number % 100])])
                    index.delete([name])
                    number += 1
            except BaseException as error:
                failures.append(error)

        tower = RandomTower()

        def encoded_row(row: int):
            return tower.encode([documents[row]])

        first = index.snapshot(tmp_path / "quiet.snapshot")
        writer = threading.Thread(target=write)
        writer.start()
        index.snapshot(tmp_path / "busy.snapshot")
        done.set()
        writer.join()
        assert not failures
        assert first.documents == 119
        assert first.bytes == (tmp_path / "quiet.snapshot").stat().st_size
        with pytest.raises(ArtifactError, match="exists already"):
            index.snapshot(tmp_path / "quiet.snapshot")
    Index.restore(tmp_path / "quiet.snapshot", tmp_path / "quiet")
    with Index.open(tmp_path / "quiet") as restored:
        assert answers(restored) == before
        assert restored.info()["bm25"] == {**restored.info()["bm25"], "changes": 1}
    Index.restore(tmp_path / "busy.snapshot", tmp_path / "busy")
    with Index.open(tmp_path / "busy") as restored:
        assert {d.id for d in restored.documents()} - {d.id for d in documents} <= {
            f"later{number}" for number in range(10_000)
        }
        assert restored.count in (119, 120)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_damaged_snapshots_are_refused_and_leave_nothing(filled, tmp_path: Path) -> None:
    index, _, _ = filled(20)
    with index:
        index.snapshot(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    unpacked = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(good)).read()
    flipped = bytearray(unpacked)
    flipped[flipped.rindex(b"w01")] ^= 1
    pack = zstandard.ZstdCompressor().compress
    for name, content, message in [
        ("half", good[: len(good) // 2], "damaged"),
        ("short", good[:-1], "damaged"),
        ("empty", b"", "no snapshot"),
        ("text", b"hello there, this is a text", "damaged, or no snapshot"),
        ("longer", good + b"x", "damaged"),
        ("twice", good + good, "goes on after its last file"),
        ("flipped", pack(bytes(flipped)), "is damaged|is gone"),
        ("cut", pack(unpacked[: len(unpacked) // 2]), "ends too early"),
        ("more", pack(unpacked + bytes(512)), "goes on after its last file"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=message):
            Index.restore(tmp_path / name, tmp_path / "restored")
        (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match="does not exist"):
        Index.restore(tmp_path / "nowhere", tmp_path / "restored")
    with pytest.raises(ArtifactError, match="exists already"):
        Index.restore(tmp_path / "good", index.path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["good", "lm.index"]


def test_every_tar_reads_a_snapshot(filled, tmp_path: Path) -> None:
    index, _, _ = filled(5)
    with index:
        index.snapshot(tmp_path / "s")
        with (
            (tmp_path / "s").open("rb") as stream,
            zstandard.ZstdDecompressor().stream_reader(stream) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as archive,
        ):
            members = {member.name: member for member in archive}
    listed = json.loads(json.dumps(sorted(members)))
    assert {"snapshot.json", "index.db", "table/model.safetensors"} <= set(listed)
    assert all(member.isfile() and not member.pax_headers for member in members.values())


def repacked(snapshot: Path, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """The same snapshot with other files in it, whose listing says what they are."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(snapshot.read_bytes())) as unpacked:
        archive = tarfile.open(fileobj=io.BytesIO(unpacked.read()))  # noqa: SIM115
    files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    listing = json.loads(files.pop("snapshot.json"))
    change(files)
    listing["files"] = [{"path": path, "size": len(content)} for path, content in files.items()]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in {"snapshot.json": json.dumps(listing).encode(), **files}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    end = packed.getvalue().rstrip(b"\0")
    return zstandard.ZstdCompressor().compress(end + bytes(-len(end) % 512 + 1024))


def changed(tmp_path: Path, **fields: object) -> Callable[[dict[str, bytes]], None]:
    """Gives the index in a snapshot other settings."""

    def change(files: dict[str, bytes]) -> None:
        folder = tmp_path / "changed"
        folder.mkdir()
        (folder / "index.db").write_bytes(files["index.db"])
        write_raw(folder, {**read_raw(folder), **fields})
        files["index.db"] = (folder / "index.db").read_bytes()
        shutil.rmtree(folder)

    return change


def test_what_is_restored_is_a_local_index_and_nothing_else(filled, tmp_path: Path) -> None:
    index, _, _ = filled(4)
    with index:
        index.optimise()
        index.snapshot(tmp_path / "good")
    (tmp_path / "thesis").mkdir()

    def flip(files: dict[str, bytes]) -> None:
        (name,) = (name for name in files if name.endswith("dense.hi.bin"))
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])

    def lose(files: dict[str, bytes]) -> None:
        del files[next(name for name in files if name.endswith("keys.bin"))]

    settings = partial(changed, tmp_path)
    for change, message in [
        (settings(engine="https://qdrant.example.org:6333/all", collection="all-1"), "is of an index on a server"),
        (settings(table="../thesis"), "'table' is '../thesis', not a plain file name"),
        (settings(table="thesis"), "'table' is 'thesis', which no table"),
        (settings(successor={"table": "../thesis"}), "'successor'"),
        (settings(dim=17), "has 16 dimensions, the index's settings say 17"),
        (lambda files: files.update(more=b"x"), "holds 'more', which is no part"),
        (lambda files: files.update({"thesis/chapter": b"x"}), "holds 'thesis', which is no part"),
        (lambda files: files.update({"segments/0123456789abcdef/keys.bin": b"x"}), "which is no part"),
        (lambda files: files.pop("table/tokenizer.json"), "tokenizer"),
        (lambda files: files.pop("index.db"), "no snapshot of an index"),
        (flip, r"dense\.hi\.bin is damaged"),
        (lose, r"keys\.bin cannot be read"),
    ]:
        (tmp_path / "made").write_bytes(repacked(tmp_path / "good", change))  # type: ignore[arg-type]
        with pytest.raises((ArtifactError, MismatchError), match=message):
            Index.restore(tmp_path / "made", tmp_path / "restored")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["good", "lm.index", "made", "thesis"]
    (tmp_path / "made").write_bytes(repacked(tmp_path / "good", dict.copy))
    Index.restore(tmp_path / "made", tmp_path / "restored")
    with Index.open(tmp_path / "restored") as restored:
        assert restored.count == 4
        assert restored.info()["segments"] == [4]


@pytest.mark.parametrize("sparse", ["lm", "none"])
def test_an_empty_index_is_restored(tmp_path: Path, sparse: str) -> None:
    with Index.create(tmp_path / "i", make_encoder(), sparse) as index:
        index.snapshot(tmp_path / "s")
    Index.restore(tmp_path / "s", tmp_path / "again")
    with Index.open(tmp_path / "again") as index:
        documents = make_documents(3)
        index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])
        assert index.count == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from lightretriever import Index
from lightretriever.index import snapshot

def stop(*_):
    print("there", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "snapshot":
    snapshot.write_archive = stop
    with Index.open(sys.argv[2]) as index:
        index.snapshot(sys.argv[3])
else:
    snapshot.restamp = stop
    Index.restore(sys.argv[2], sys.argv[3])
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(filled, tmp_path: Path) -> None:
    index, _, _ = filled(4)
    index.close()
    outputs = tmp_path / "out"
    (outputs / ".s.keep.part").mkdir(parents=True)
    (outputs / ".other.abcdefgh.part").mkdir()
    (outputs / ".s.12345678.part.txt").write_text("mine")
    with scratch_folder(outputs / "s") as held:
        for verb, source, output in (("snapshot", index.path, "s"), ("restore", outputs / "s", "r")):
            for _ in range(2):
                command = [sys.executable, "-c", KILLED, verb, str(source), str(outputs / output)]
                killed = subprocess.run(command, capture_output=True, text=True, check=False)
                assert (killed.stdout, killed.returncode) == ("there\n", -9)
            left = [entry.name for entry in outputs.iterdir() if entry.name.startswith(f".{output}.")]
            assert len([name for name in left if len(name) == len(held.name)]) == (2 if output == "s" else 1)
            if verb == "snapshot":
                with Index.open(index.path) as opened:
                    opened.snapshot(outputs / "s")
            else:
                Index.restore(outputs / "s", outputs / "r")
        assert held.is_dir()
        kept = {held.name, ".s.keep.part", ".other.abcdefgh.part", ".s.12345678.part.txt", "s", "r"}
        assert {entry.name for entry in outputs.iterdir()} == kept
