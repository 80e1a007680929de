"""Filters in the words of Qdrant Edge."""

from __future__ import annotations

from typing import Any

import qdrant_edge as qdrant

from lightretriever.index.filter.language import And, Filter, Not, Or
from lightretriever.index.filter.tags import TAGS, condition


def engine_filter(where: Filter) -> qdrant.Filter:
    """The engine's filter that passes the documents that ``where`` does, of payloads from `stored_conditions`."""
    match where:
        case And(parts):
            return qdrant.Filter(must=[engine_filter(part) for part in parts])
        case Or(parts):
            return qdrant.Filter(should=[engine_filter(part) for part in parts])
        case Not(part):
            return qdrant.Filter(must_not=[engine_filter(part)])
    asked = condition(where)
    options: list[Any] = []
    if asked.tags:
        options.append(qdrant.FieldCondition(TAGS, match=qdrant.MatchAny(list(asked.tags))))
    if asked.interval is not None:
        bounds = asked.interval
        inside = qdrant.RangeFloat(gte=bounds.gte, lt=bounds.lt)
        options.append(qdrant.FieldCondition(bounds.key, range=inside))
    return qdrant.Filter(should=options)
