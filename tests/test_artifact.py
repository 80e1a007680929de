"""Folders and files on disk: whole or absent, never a pickle, damage named."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import save_file

from lightretriever.artifact import (
    as_any_new,
    load_tensors,
    map_tensor,
    new_file,
    read_json,
    read_manifest,
    save_tensors,
    sha256_bytes,
    sha256_file,
    write_json,
)
from lightretriever.errors import ArtifactError
from lightretriever.scratch import new_folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep/er/f") as folder:
        (folder / "sub").mkdir()
        (folder / "sub/file").write_text("x")
        assert not (tmp_path / "deep/er/f").exists()
    assert (tmp_path / "deep/er/f/sub/file").read_text() == "x"
    assert names(tmp_path / "deep/er") == ["f"]
    assert (tmp_path / "deep/er/f").stat().st_mode & 0o777 == 0o755


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), new_folder(tmp_path / "f") as folder:
        (folder / "file").write_text("x")
        raise RuntimeError("boom")
    assert names(tmp_path) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "f") as folder:
        (folder / "old").write_text("old")
    with pytest.raises(ArtifactError, match="exists already"), new_folder(tmp_path / "f"):
        pass
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with new_file(tmp_path / "f") as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), new_file(tmp_path / "f") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=4))
def test_json_is_read_as_written(tmp_path: Path, value: dict) -> None:
    try:
        write_json(tmp_path / "j.json", value)
    except UnicodeEncodeError:  # a lone surrogate somewhere in the values: nothing is written
        return
    assert read_json(tmp_path / "j.json") == value


@pytest.mark.parametrize(("content", "message"), [("[1]", "no JSON object"), ("{", "as JSON"), ("\udcff", "as JSON")])
def test_json_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "j.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError, match=message):
        read_json(tmp_path / "j.json")
    with pytest.raises(ArtifactError, match="does not exist"):
        read_json(tmp_path / "none.json")


def test_manifests_of_other_kinds_and_later_versions_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"kind": "index", "format_version": 2})
    assert read_manifest(tmp_path, "index", 2)["format_version"] == 2
    with pytest.raises(ArtifactError, match=r"version 2.*up to 1"):
        read_manifest(tmp_path, "index", 1)
    with pytest.raises(ArtifactError, match="not a vectors folder"):
        read_manifest(tmp_path, "vectors", 2)
    write_json(tmp_path / "manifest.json", {"kind": "index", "format_version": "x"})
    with pytest.raises(ArtifactError, match="format version 'x'"):
        read_manifest(tmp_path, "index", 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
@given(
    st.sampled_from(["float32", "float16", "int8", "int32", "int64"]),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.data(),
)
def test_arrays_are_read_as_written(tmp_path: Path, dtype: str, shape: tuple[int, int], data: st.DataObject) -> None:
    array = data.draw(npst.arrays(dtype, shape))
    save_tensors(tmp_path / "t", {"a": array, "turned": array.T})
    loaded = load_tensors(tmp_path / "t")
    for name, expected in (("a", array), ("turned", array.T)):
        for found in (loaded[name], map_tensor(tmp_path / "t", name)):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == np.ascontiguousarray(expected).tobytes()
    with pytest.raises(ArtifactError, match="'b'"):
        map_tensor(tmp_path / "t", "b")


def test_a_mapped_array_cannot_be_written(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", {"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="read-only"):
        map_tensor(tmp_path / "t", "a")[0] = 1


@pytest.mark.parametrize("damage", [lambda b: b[:-4], lambda b: b"\x80\x04." + b, lambda _: b"", lambda b: b[:6]])
def test_damaged_arrays_are_named(tmp_path: Path, damage) -> None:
    save_file({"a": np.arange(100, dtype=np.float32)}, tmp_path / "t")
    (tmp_path / "t").write_bytes(damage((tmp_path / "t").read_bytes()))
    for read in (load_tensors, lambda path: map_tensor(path, "a")):
        with pytest.raises(ArtifactError, match=str(tmp_path / "t")):
            read(tmp_path / "t")
        with pytest.raises(ArtifactError, match="does not exist"):
            read(tmp_path / "none")


def test_checksums(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == sha256_bytes(data)
    assert sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": 1, "b": {"c": 1, "c": 2}}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": "x"}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b"",
    ],
)
def test_json_that_would_break_a_parser_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read as JSON") as raised:
        read_json(tmp_path / "j.json")
    assert len(str(raised.value)) < 300


def test_json_is_read_from_files_of_bounded_size_only(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match="it is no file"):
        read_json(tmp_path / "folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ArtifactError, match="it is no file"):
            read_json(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b'{"a": "' + b"x" * (1 << 20) + b'"}')
    with pytest.raises(ArtifactError, match="longer than 1 MB"):
        read_json(tmp_path / "long", 1 << 20)


@pytest.mark.parametrize("version", [True, 0, -1, 1.0, None, "1", 10**40])
def test_a_format_version_is_a_positive_number(tmp_path: Path, version: object) -> None:
    write_json(tmp_path / "manifest.json", {"kind": "index", "format_version": version})
    with pytest.raises(ArtifactError, match="format version") as raised:
        read_manifest(tmp_path, "index", 3)
    assert len(str(raised.value)) < 300


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder/inside").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"file/j\.json cannot be written \(.+\): see what is in its place"):
        write_json(tmp_path / "file/j.json", {})
    with pytest.raises(ArtifactError, match="folder cannot be written"):
        write_json(tmp_path / "folder", {})
    with pytest.raises(ArtifactError, match="cannot be written"), new_folder(tmp_path / "file/folder"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_of_two_files_the_one_that_is_written_counts(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match=r"copy cannot be written \(No space left on device\): make room"),
        new_file(tmp_path / "copy") as temporary,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/source", None, str(temporary))
    assert names(tmp_path) == []


def test_what_else_goes_wrong_meanwhile_is_said_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_file(tmp_path / "copy") as temporary:
        temporary.write_bytes((tmp_path / "nowhere").read_bytes())
    with pytest.raises(ConnectionError), new_folder(tmp_path / "f"):
        raise ConnectionResetError(104, "the other side is gone")
    assert names(tmp_path) == []


def test_a_header_of_tensors_that_lies_is_refused(tmp_path: Path) -> None:
    for entry in (
        b'{"a": {"dtype": "F32", "shape": [9223372036854775807, 9], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": ' + b"[" * 50_000,
    ):
        (tmp_path / "t").write_bytes(len(entry).to_bytes(8, "little") + entry + bytes(8))
        for read in (load_tensors, lambda path: map_tensor(path, "a")):
            with pytest.raises(ArtifactError, match="damaged"):
                read(tmp_path / "t")


@pytest.mark.skipif(os.name == "nt", reason="modes are not Windows's")
@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_and_folders_have_the_mode_that_the_umask_gives(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "outer" / "folder") as folder:
            write_json(folder / "a.json", {})
            save_tensors(folder / "b.safetensors", {"x": np.zeros(3)})
            (folder / "plain").write_text("")
            (folder / "private").touch(0o400)
            as_any_new(folder / "private")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "outer").rglob("*")}
    assert len(modes) == 5
    assert {mode for path, mode in modes.items() if path.is_file()} == {file_mode}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {folder_mode}
