"""schemathesis reads /openapi.json and asks whatever it allows, and much that it does not: nothing is ever a 5xx."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serving.running import Running, running

pytestmark = pytest.mark.slow
CHECKED = ("not_a_server_error", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def asked(made_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over a copy: it is written to."""
    copy = tmp_path_factory.mktemp("asked") / "i"
    shutil.copytree(made_index, copy)
    with running(copy, "--limit", "slow=2") as found:
        yield found


@pytest.mark.parametrize("wanted", ["what it allows", "what it does not"])
def test_whatever_is_asked_is_answered_as_described(asked: Running, wanted: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import GenerationMode, checks

    checks.load_all_checks()
    chosen = [checks.CHECKS.get_one(name) for name in CHECKED]
    mode = GenerationMode.POSITIVE if wanted == "what it allows" else GenerationMode.NEGATIVE
    schema = schemathesis.openapi.from_url(f"{asked.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # there is nothing to get wrong

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.validate_response(case.call(timeout=30), checks=chosen)

        ask()


def test_the_server_still_answers_and_never_failed(asked: Running) -> None:
    assert asked.get("/readyz").status == 200
    failed = [line for line in asked.log if line.get("status", 0) >= 500 or "traceback" in line]
    assert not failed, failed[:3]
