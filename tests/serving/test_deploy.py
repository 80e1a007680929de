"""What is in deploy/: that it names what there is, and asks for no more rights than it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from index.conftest import WORDS
from serving.running import Running

from lightretriever.cli.main import VERBS

DEPLOY = Path(__file__).parents[2] / "deploy"
yaml = pytest.importorskip("yaml")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_made_in_stages_and_runs_as_nobody_much() -> None:
    found = instructions((DEPLOY / "Dockerfile").read_text())
    stages = [place for place, (name, _) in enumerate(found) if name == "FROM"]
    assert len(stages) == 2
    last = dict(found[stages[1] :])
    assert last["USER"].split(":")[0] not in ("root", "0")
    assert json.loads(last["ENTRYPOINT"]) == ["lightretriever", "serve"]
    command = json.loads(last["CMD"])
    assert "--keys" in command and "--insecure" not in command
    assert not any(name == "RUN" and "pip" in rest for name, rest in found[stages[1] :])
    root = DEPLOY.parent
    for name, rest in found:
        if name == "COPY" and "--from" not in rest:
            assert all((root / part).exists() for part in rest.split()[:-1]), rest


def test_the_unit_names_a_verb_that_there_is_and_few_rights() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "lightretriever.service")
    service = unit["Service"]
    command = service["ExecStart"].split()
    assert command[0].endswith("/lightretriever") and command[1] in VERBS and "--insecure" not in command
    assert service["ExecReload"].endswith("-HUP $MAINPID")
    for name in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "DynamicUser"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""


def test_the_compose_file_holds_no_secret() -> None:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    search = compose["services"]["search"]
    assert search["read_only"] and search["cap_drop"] == ["ALL"]
    assert (DEPLOY / search["build"]["context"] / search["build"]["dockerfile"]).exists()
    assert "qdrant" in search["build"]["args"]["EXTRAS"].split(",")
    assert all(str(value).startswith(("http://qdrant", "${")) for value in search["environment"].values())
    assert set(compose["volumes"]) == {"qdrant", "compiled"}


def test_the_dashboard_asks_for_numbers_that_there_are(server: Running) -> None:
    server.post("/search", {"query": WORDS[1]})
    server.post("/v1/embeddings", {"input": WORDS[1]})
    said = server.get("/metrics").body.decode()
    there = set(re.findall(r"^(lightretriever_\w+)", said, re.MULTILINE))
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for expression in expressions for name in re.findall(r"lightretriever_\w+", expression)}
    elsewhere = {"lightretriever_index_bm25_stale", "lightretriever_index_tokens_unknown_share"}  # of other indexes
    assert len(asked) > 15 and asked - there <= elsewhere
    routes = set(re.findall(r'route="([^"]+)"', " ".join(expressions)))
    assert all(f'route="{route}"' in said for route in routes)


@pytest.mark.slow
def test_what_compiles_the_searches_leaves_nothing_to_compile(tmp_path: Path) -> None:
    """In a folder of its own; what a server of an index needs is then read, and the folder does not grow."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PATH": ""}
    program = [sys.executable, str(DEPLOY / "compile_searches.py")]
    kept = []
    for _ in range(2):
        subprocess.run(program, check=True, timeout=900, env=environment)
        kept.append({(path, path.stat().st_mtime_ns) for path in (tmp_path / "cache").rglob("*.nbc")})
    assert kept[0] == kept[1] and len(kept[0]) > 10
