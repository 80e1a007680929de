"""What ``cache`` says of a prompt that has to be run again for every token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_models import causal_folder

Verb = Callable[..., Any]


def test_it_says_why_a_prompt_is_run_again(verb: Verb, tower: Path, tmp_path: Path) -> None:
    encoder = verb("cache", tower, "-o", tmp_path / "encoder", "--prompt", "find: ")
    assert encoder.code == 0
    assert "the prompt is run again for every token: its attention looks both ways" in encoder.err
    assert "run again" not in verb("cache", tower, "-o", tmp_path / "bare", "--prompt", "").err


@pytest.mark.parametrize(("kind", "said"), [("llama", None), ("mamba", "longer: MambaModel")])
def test_a_causal_model_that_cannot_share_it_is_warned_of_once(
    kind: str, said: str | None, verb: Verb, tmp_path: Path
) -> None:
    outcome = verb("cache", causal_folder(tmp_path / kind, kind), "-o", tmp_path / "table")
    assert outcome.code == 0
    assert outcome.err.count("run again") == (0 if said is None else 1)
    assert said is None or said in outcome.err
