"""Filters in a Qdrant server's own terms: conditions on what `lightretriever.index.filter.tags` stores."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qdrant_client import models

from lightretriever.index.filter.language import And, Filter, Not, Or
from lightretriever.index.filter.tags import TAGS, condition

KEYWORD = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
NUMBER = models.FloatIndexParams(type=models.FloatIndexType.FLOAT)
"""The payload indexes of tags, and of each path that `number_paths` names."""


def server_filter(where: Filter) -> models.Filter:
    """A filter's tree as the server takes it."""
    match where:
        case And(parts):
            return models.Filter(must=[server_filter(part) for part in parts])
        case Or(parts):
            return models.Filter(should=[server_filter(part) for part in parts])
        case Not(part):
            return models.Filter(must_not=[server_filter(part)])
    asked = condition(where)
    options: list[Any] = []
    if asked.tags:
        options.append(models.FieldCondition(key=TAGS, match=models.MatchAny(any=list(asked.tags))))
    if asked.interval is not None:
        bounds = asdict(asked.interval)  # its bounds have the server's names
        options.append(models.FieldCondition(key=bounds.pop("key"), range=models.Range(**bounds)))
    return models.Filter(should=options)
