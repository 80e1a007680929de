"""Limits as the command line names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from lightretriever.errors import UsageError
from lightretriever.serving.settings import Limits


def parse_limits(given: Iterable[str]) -> Limits:
    """Limits out of ``NAME=N``. Raises UsageError: there is no such limit, or it is no number."""
    defaults = Limits()
    kinds: dict[str, type[int] | type[float]] = {
        each.name: type(getattr(defaults, each.name)) for each in fields(Limits)
    }
    values: dict[str, int | float] = {}
    for each in given:
        name, _, value = each.partition("=")
        if name not in kinds:
            raise UsageError(f"--limit {each}: there is no limit {name!r}, choose one of {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise UsageError(f"--limit {each}: a number is needed, as {name}={getattr(defaults, name):g}") from None
    return Limits(**values)  # type: ignore[arg-type]
