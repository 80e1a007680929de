"""Archives made to harm: each is refused soon, in little memory, and nothing is written outside."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir

import pytest
import zstandard

from lightretriever.errors import ArtifactError
from lightretriever.index.archive import MOST_FILES, read_archive, write_archive

OUTSIDE = f"{gettempdir()}/lightretriever-outside"


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.mode = size, kind, 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def listing(files: Sequence[tuple[str, int]], **fields: object) -> bytes:
    listed = [{"path": path, "size": size} for path, size in files]
    stored = {"kind": "snapshot", "format_version": 1, "files": listed, **fields}
    return raw_listing(json.dumps(stored).encode())


def raw_listing(content: bytes) -> bytes:
    return header("snapshot.json", len(content)) + padded(content)


def packed(*parts: bytes, zeros: int = 0) -> bytes:
    """Compressed, with so many zeros at the end, which take next to no room."""
    out = io.BytesIO()
    with zstandard.ZstdCompressor(1).stream_writer(out, closefd=False) as stream:
        for part in parts:
            stream.write(part)
        for _ in range(zeros >> 20):
            stream.write(bytes(1 << 20))
    return out.getvalue()


def sparse_header() -> bytes:
    """An old GNU sparse member of 8 exabytes, made of one map that says so."""
    block = bytearray(header("table/a", 0, tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (0, 0)
    block[483:495] = b"\x80" + (1 << 62).to_bytes(11, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


ONE = ("manifest.json", 3)
HUGE = 512 << 20  # bytes, more than a process that reads may have
DEEP = "/".join(["d"] * 17)
EVIL: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: packed(b""),
    "a sparse member": lambda: packed(listing([("table/a", 5)]), sparse_header()),
    "a sparse member first": lambda: packed(sparse_header()),
    "a long name of gigabytes": lambda: packed(header("././@LongLink", 4 << 30, tarfile.GNUTYPE_LONGNAME), zeros=HUGE),
    "pax headers of gigabytes": lambda: packed(header("x", 4 << 30, tarfile.XHDTYPE), zeros=HUGE),
    "a long name after the listing": lambda: packed(
        listing([ONE]), header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME), zeros=HUGE
    ),
    "a global pax header": lambda: packed(
        listing([ONE]), header("x", 30, tarfile.XGLTYPE), padded(b"30 path=../../x\n")
    ),
    "300,000 empty members": lambda: packed(header("member") * 300_000),
    "300,000 declared members": lambda: packed(listing([(f"table/{i}", 0) for i in range(300_000)])),
    "too many members": lambda: packed(listing([(f"table/{i}", 0) for i in range(MOST_FILES + 1)])),
    "an endless listing": lambda: packed(header("snapshot.json", 8 << 30), zeros=HUGE),
    "a listing of lists": lambda: packed(raw_listing(b'{"files": [' + b"[]," * 1_000_000 + b"1]}")),
    "a deep listing": lambda: packed(raw_listing(b"[" * 1_000_000)),
    "a number without end": lambda: packed(raw_listing(b'{"format_version": ' + b"9" * 1_000_000 + b"}")),
    "a file of exabytes": lambda: packed(listing([("table/a", 1 << 62)]), header("table/a", 1 << 62), zeros=HUGE),
    "many files of gigabytes": lambda: packed(listing([(f"table/{i}", 1 << 30) for i in range(50)])),
    "a negative size": lambda: packed(listing([("table/a", -1)])),
    "a size that is true": lambda: packed(listing([("table/a", True)])),
    "a way out": lambda: packed(listing([("../out", 1)]), header("../out", 1), padded(b"x")),
    "an absolute way": lambda: packed(listing([(OUTSIDE, 1)]), header(OUTSIDE, 1), padded(b"x")),
    "another system's way": lambda: packed(listing([("..\\out", 1)])),
    "a drive": lambda: packed(listing([("c:out", 1)])),
    "a way of no end": lambda: packed(listing([(DEEP, 0)])),
    "a path twice": lambda: packed(listing([ONE, ONE]), *[header("manifest.json", 3), padded(b"{}\n")] * 2),
    "a folder that is a file": lambda: packed(listing([("table", 0), ("table/a", 0)])),
    "a link": lambda: packed(listing([("table/a", 0)]), header("table/a", 0, tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a hard link": lambda: packed(
        listing([("table/a", 0)]), header("table/a", 0, tarfile.LNKTYPE, linkname="../../out")
    ),
    "a device": lambda: packed(listing([("table/a", 0)]), header("table/a", 0, tarfile.CHRTYPE)),
    "another member": lambda: packed(listing([("table/a", 0)]), header("table/b")),
    "a program's rights": lambda: packed(listing([("table/a", 0)]), header("table/a", mode=0o4755)),
    "something in the padding": lambda: packed(listing([("table/a", 1)]), header("table/a", 1), b"x" * 512),
    "a later version": lambda: packed(listing([ONE], format_version=2)),
    "an unknown field": lambda: packed(listing([ONE], more=1)),
    "no checksum": lambda: packed(header("snapshot.json", 2)[:148] + b"0" * 8 + header("snapshot.json", 2)[156:]),
    "a window of gigabytes": lambda: b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x03\x00\x00" + b"x" * 60,
    "a frame that says exabytes": lambda: b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x01\x00\x00",
    "a skippable frame without end": lambda: b"\x50\x2a\x4d\x18" + b"\xff\xff\xff\xff" + bytes(60),
    "empty frames": lambda: zstandard.ZstdCompressor().compress(b"") * 100_000,
    "raw zeros": lambda: bytes(1 << 20),
}

CHILD = """
import resource, sys
from pathlib import Path
from lightretriever.errors import ArtifactError
from lightretriever.index import archive
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
for file in sorted(Path(sys.argv[1]).iterdir()):
    folder = Path(sys.argv[2], file.name)
    folder.mkdir()
    try:
        archive.read_archive(file, folder, 0)
        print(file.name, "was read")
    except ArtifactError as error:
        assert len(str(error)) < 400 and "\\n" not in str(error), str(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are set in Linux's way")
def test_archives_made_to_harm_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "made").mkdir()
    for name, make in EVIL.items():
        (tmp_path / "evil" / name).write_bytes(make())
    assert max(file.stat().st_size for file in (tmp_path / "evil").iterdir()) < 2 << 20
    command = [sys.executable, "-c", CHILD, str(tmp_path / "evil"), str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evil", "made"]
    assert not [path for path in (tmp_path / "made").rglob("*") if path.is_symlink()]
    assert not Path(OUTSIDE).exists()


def make(folder: Path, files: dict[str, bytes]) -> list[str]:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return list(files)


FILES = {
    "manifest.json": b"{}",
    "table/empty": b"",
    "shard/holes": bytes(200_000) + b"x" + bytes(300_000),
    "shard/zeros": bytes(5_000_000),
    "shard/" + "n" * 200: b"a long name",
    "shard/Über": bytes(range(256)) * 700,
}


def test_files_are_read_as_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_archive(tmp_path / "in", make(tmp_path / "in", FILES), tmp_path / "a")
    assert (tmp_path / "a").stat().st_size < 10_000
    assert read_archive(tmp_path / "a", tmp_path / "out", 0) == list(FILES)
    assert {path: (tmp_path / "out" / path).read_bytes() for path in FILES} == FILES
    with pytest.raises(ArtifactError, match=r"the disk is full .* make room and run again"):
        read_archive(tmp_path / "a", tmp_path / "out", 1 << 60)


def test_an_archive_of_zeros_is_as_long_as_its_size_allows(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    size = (256 << 20) + 1
    (tmp_path / "a").write_bytes(packed(listing([("table/a", size)])) + zstandard.ZstdCompressor().compress(b""))
    with pytest.raises(ArtifactError, match="ends too early"):
        read_archive(tmp_path / "a", tmp_path / "out", 0)
    (tmp_path / "a").write_bytes(packed(listing([("table/b", size + 1_000_000)])))
    with pytest.raises(ArtifactError, match=r"declares 269,435,457 bytes, more than a snapshot of its size can hold"):
        read_archive(tmp_path / "a", tmp_path / "out", 0)


def test_paths_that_could_not_be_read_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files = make(tmp_path / "in", {"a\nb": b"x"})
    with pytest.raises(ArtifactError, match="'path' is"):
        write_archive(tmp_path / "in", files, tmp_path / "a")
