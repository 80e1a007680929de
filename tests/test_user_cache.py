"""The user's cache folder is where each platform has such folders, or where the environment says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightretriever.errors import ArtifactError
from lightretriever.user_cache import cache_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LIGHTRETRIEVER_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(lambda: tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", ".cache/lightretriever"),
        ("freebsd14", ".cache/lightretriever"),
        ("darwin", "Library/Caches/lightretriever"),
        ("win32", "AppData/Local/lightretriever/Cache"),
    ],
)
def test_each_platform_has_its_place(platform: str, expected: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == home / expected


def test_the_environment_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "lightretriever"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder() == home / ".cache" / "lightretriever"
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(home / "own"))
    assert cache_folder() == home / "own"
    monkeypatch.chdir(home)
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", "own")
    assert cache_folder() == home / "own"


def test_a_user_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(nobody))
    with pytest.raises(ArtifactError, match="LIGHTRETRIEVER_CACHE"):
        cache_folder()
