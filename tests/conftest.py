"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says nothing there.
hypothesis.settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared machine")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No test is named by bytes: those of an archive hold the time of day, and processes that share a run must collect
    the same names."""
    return argname if isinstance(val, bytes) else None


SHARED = Path(os.environ.get("LIGHTRETRIEVER_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache folder of the session, processes that tests start included: never the real one."""
    folder = tmp_path_factory.mktemp("user-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTRETRIEVER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def float32_on_every_processor() -> Iterator[None]:
    """Verbs compute in float32 unless a test asks for less: what is compared to the last digits must not depend on
    whether the machine multiplies bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightretriever.document.device.cpu_has_bfloat16", lambda _: False)
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the numbers an independent implementation computed; the test is skipped without it."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("no golden numbers here: set LIGHTRETRIEVER_SHARED to the folder that holds golden/")
    return folder


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks a real collection by name into a BEIR folder; the test is skipped where there is none."""
    import zstandard

    root = tmp_path_factory.mktemp("collections")

    def unpack(name: str) -> Path:
        archive = SHARED / "data" / f"{name}.tar.zst"
        if not archive.is_file():
            pytest.skip(f"no collection {name} here: set LIGHTRETRIEVER_SHARED to the folder that holds data/")
        if not (root / name).is_dir():
            with (
                archive.open("rb") as packed,
                zstandard.ZstdDecompressor().stream_reader(packed) as stream,
                tarfile.open(fileobj=stream, mode="r|") as tar,
            ):
                tar.extractall(root, filter="data")
        return root / name

    return unpack


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were not installed."""
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
