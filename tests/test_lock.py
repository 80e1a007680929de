"""The lock and what pyproject.toml allows: whoever changes the one without the other is told here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OPEN = {"pyarrow"}  # without an upper bound, for the reason that stands beside it
PYTHONS, SYSTEMS = ("3.11.7", "3.12.4", "3.13.1"), (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows"))


@pytest.fixture(scope="module")
def wanted() -> list[Requirement]:
    """Everything that the package, its extras and its build ask for, itself left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = [project["project"]["dependencies"], project["build-system"]["requires"]]
    lists += project["project"]["optional-dependencies"].values()
    every = [Requirement(line) for lines in lists for line in lines]
    return [requirement for requirement in every if requirement.name != "lightretriever"]


@pytest.fixture(scope="module")
def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_every_line_of_the_lock_pins_one_version_and_no_index_is_named(pins: list[Requirement]) -> None:
    assert len(pins) > 100
    for pin in pins:
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
        assert pin.url is None and not pin.extras, pin
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and not re.search(r"^\s*-", text, re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("platform", "system"), SYSTEMS)
def test_what_is_asked_for_is_pinned_once_on_every_platform_to_a_version_in_its_range(
    python: str, platform: str, system: str, wanted: list[Requirement], pins: list[Requirement]
) -> None:
    place = {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": platform,
        "platform_system": system,
        "platform_machine": "arm64" if platform == "darwin" else "x86_64",
    }
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(place)]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}
    assert len(versions) == len(here)
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate(place):
            continue  # not asked for there
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None and requirement.specifier.contains(version), f"{requirement}: make lock"


def test_every_range_has_a_lower_bound_and_an_upper_one(wanted: list[Requirement]) -> None:
    for requirement in wanted:
        kinds = {clause.operator for clause in requirement.specifier}
        if kinds != {"=="}:
            assert ">=" in kinds, requirement
            assert "<" in kinds or requirement.name in OPEN, requirement


def test_torch_is_one_release_in_the_lock_and_in_the_makefile(pins: list[Requirement]) -> None:
    (torch,) = (str(pin) for pin in pins if pin.name == "torch")
    assert f"TORCH := {torch}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
