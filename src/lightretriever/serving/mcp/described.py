"""What an agent is told of the index, so that it knows when to search it and by which metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from lightretriever.passages.fields import without_fields

if TYPE_CHECKING:
    from lightretriever.index.index import Index

_LOOKED_AT = 200  # documents whose metadata is looked at: a millisecond or two
_MOST_FIELDS = 12
# Whoever writes documents must not write instructions to agents this way: names and short values alone are shown.
_NAME = re.compile(r"[\w.-]{1,40}")
_VALUE = re.compile(r"[\w./:@+-]{1,24}")

SEARCH = (
    "Search {what} by meaning and by words. Gives the best passages with their document's id, title, location and "
    "scores, best first: fetch reads on in a document by its id.{fields}"
)
FETCH = "Read a document of {what}, by the id that search gave; a long one is cut, and says where to go on."


def what_it_is(name: str, index: Index | None) -> str:
    """The index in a few words; ``index`` is None where it is not there now."""
    if index is None:
        return f"the index {name!r} (not there now)"
    unit = "documents" if index.settings.passages is None else "passages of documents"
    return f"the index {name!r} ({index.count:,} {unit})"


def fields_of(index: Index) -> str:
    """A sentence on the fields that a filter can name; "" where there are none."""
    tenant = index.settings.tenant
    if tenant is not None:  # of others' documents nothing is told
        return ""
    seen = _values(without_fields(document.metadata)[1] for document in islice(index.documents(), _LOOKED_AT))
    if not seen:
        return ""
    shown = ", ".join(f"{name} (as {json.dumps(value, ensure_ascii=False)})" for name, value in seen.items())
    name, value = next(iter(seen.items()))
    example = json.dumps({name: value}, ensure_ascii=False)
    return f" Metadata that filter can name: {shown}; for instance filter {example}."


def needs_tenant(field: str) -> str:
    """A sentence for an index that keeps tenants apart, where whoever asks is not bound to one."""
    return f' Every search needs a filter that says whose documents it is for: {{"{field}": …}}.'


def _values(of_documents: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """A value of each field that documents have."""
    seen: dict[str, object] = {}
    for metadata in of_documents:
        for name, value in metadata.items():
            first = value[0] if isinstance(value, list) and value else value
            plain = isinstance(first, bool | int | float) or (isinstance(first, str) and _VALUE.fullmatch(first))
            if plain and name not in seen and _NAME.fullmatch(name):
                seen[name] = first
                if len(seen) == _MOST_FIELDS:
                    return seen
    return seen
