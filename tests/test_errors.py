"""Errors travel: between the processes of a pool, and through copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from lightretriever import errors
from lightretriever.errors import LightRetrieverError, MissingExtraError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("carry", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_carried_elsewhere(kind: type[Exception], carry: Callable[[Any], Any]) -> None:
    error = kind("reading scrolls", "scrolls") if kind is MissingExtraError else kind("the scroll is torn")
    error.add_note("seen in the attic")
    carried = carry(error)
    assert type(carried) is kind
    assert str(carried) == str(error)
    assert carried.args == error.args
    assert carried.__notes__ == error.__notes__


def test_they_are_of_one_family() -> None:
    assert len(CLASSES) > 8
    assert all(issubclass(kind, LightRetrieverError) for kind in CLASSES)
