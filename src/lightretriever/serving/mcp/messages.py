"""What the tools take and give; their schemas, which agents read, are made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

MOST_HITS = 50

Query = Annotated[str, Meta(description="A question or key words, in the documents' language.", min_length=1)]
Hits = Annotated[int, Meta(ge=1, le=MOST_HITS, description="How many passages; more of them are shown more briefly.")]
Mode = Annotated[
    Literal["hybrid", "dense", "sparse"],
    Meta(description="hybrid: by meaning and by words; dense: by meaning alone; sparse: by words alone."),
]
Conditions = Annotated[
    dict[str, Any] | None,
    Meta(
        description=(
            'By metadata: {"lang": "en", "year": {"$gte": 1990, "$lt": 2000}}; also $in, $nin, $ne, $gt, $lte, '
            "$exists, and $and, $or, $not of filters. The tool's description names the fields."
        )
    ),
]
Own = Annotated[
    dict[str, Any] | None,
    Meta(description="As of search: what is not found by it is not read. Needed where every search needs one."),
]
Id = Annotated[str, Meta(description="A document's id, as search gives it.", min_length=1)]
Start = Annotated[
    int,
    Meta(ge=0, description="The character of the document to begin at: a hit's start, or next of the answer before."),
]


class SearchArguments(Struct, frozen=True, forbid_unknown_fields=True):
    """What `search` takes."""

    query: Query
    k: Hits = 10
    mode: Mode = "hybrid"
    filter: Conditions = None


class FetchArguments(Struct, frozen=True, forbid_unknown_fields=True):
    """What `fetch` takes."""

    id: Id
    start: Start = 0
    filter: Own = None


class FoundPassage(Struct, frozen=True):
    """A passage that was found.

    Attributes:
        id, title, metadata: of its document.
        text: of the passage; where that is long, the part with most of the query's words.
        shortened: whether it is such a part.
        location: file, headings and page; "" where documents are stored whole.
        start: the passage's first character in its document.
        score, dense_score, sparse_score: as of `lightretriever.types.Hit`.
    """

    id: str
    title: str
    text: str
    shortened: bool
    location: str
    start: int
    score: float
    dense_score: float | None
    sparse_score: float | None
    metadata: dict[str, Any]


class SearchAnswer(Struct, frozen=True):
    """Passages, best first."""

    hits: list[FoundPassage]


class FetchAnswer(Struct, frozen=True):
    """A document, or a part of it.

    Attributes:
        start, length: where the text begins in the document, and how many characters that has.
        next: where to go on; None where this is the end.
    """

    id: str
    title: str
    text: str
    start: int
    length: int
    next: int | None
    metadata: dict[str, Any]


def schema_of(kind: type[Struct]) -> dict[str, Any]:
    """The JSON schema of a message, an object at its root as clients want it."""
    (_,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = parts.pop(kind.__name__)
    for part in (own, *parts.values()):
        part.pop("title", None)
        part.pop("description", None)  # of the class: for people who read this file
    return {**own, "$defs": parts} if parts else own
