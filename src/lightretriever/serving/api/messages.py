"""What the search API takes and gives; the description in /openapi.json is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Mode = Literal["hybrid", "dense", "sparse"]
Encoder = Literal["lookup", "full"]
Count = Annotated[int, Meta(ge=1)]
Weight = Annotated[float, Meta(ge=0, le=1e9)]
Cosine = Annotated[float, Meta(ge=-1, le=1)]
Tenant = str | int | float | bool


class FusionWeights(Struct, frozen=True, forbid_unknown_fields=True):
    """How one list is made of two: by weighted scores, or by reciprocal ranks."""

    method: Literal["linear", "rrf"] = "linear"
    dense: Weight = 0.7
    sparse: Weight = 0.3


class SearchOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked of each query."""

    k: Count = 10
    mode: Mode = "hybrid"
    filter: dict[str, Any] | None = None
    fusion: FusionWeights | None = None
    tenant: Tenant | None = None
    min_dense: Cosine | None = None
    group: bool = True
    texts: bool = True
    snippets: bool = False
    explain: bool = False
    query_encoder: Encoder = "lookup"


class SearchRequest(SearchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A query, or many."""

    query: str | UnsetType = UNSET
    queries: list[str] | UnsetType = UNSET


class SearchParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same in a URL, one query."""

    q: str
    k: Count = 10
    mode: Mode = "hybrid"
    filter: str = ""
    tenant: str = ""
    snippets: bool = False
    explain: bool = False
    query_encoder: Encoder = "lookup"


class Span(Struct, frozen=True, array_like=True):
    """Where a word of the query is in a snippet, in characters."""

    start: int
    end: int


class Word(Struct, frozen=True):
    """A word of the query, and what it added to the sparse score."""

    word: str
    score: float


class PlaceOf(Struct, frozen=True):
    """Where a passage is in its document: characters, headings from the top, page from 1."""

    start: int
    end: int
    headings: list[str]
    page: int | None


class FoundHit(Struct, frozen=True, omit_defaults=False):
    """One document found; see `lightretriever.types.Hit`."""

    id: str
    score: float
    dense_score: float | None
    dense_rank: int | None
    sparse_score: float | None
    sparse_rank: int | None
    title: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    passage: str | UnsetType = UNSET
    place: PlaceOf | UnsetType = UNSET
    location: str | UnsetType = UNSET
    snippet: str | UnsetType = UNSET
    spans: list[Span] | UnsetType = UNSET
    words: list[Word] | UnsetType = UNSET


class SearchAnswer(Struct, frozen=True):
    """The hits of one query, best first."""

    hits: list[FoundHit]
    took_ms: float


class SearchAnswers(Struct, frozen=True):
    """The hits of each query, in order."""

    results: list[list[FoundHit]]
    took_ms: float


class SparseVector(Struct, frozen=True, forbid_unknown_fields=True):
    """Token ids of the document model, ascending, and their weights."""

    indices: list[Annotated[int, Meta(ge=0, le=2**31 - 1)]]
    values: list[float]


class DocumentIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A document to store; with a vector no model is needed. That is numbers, or float32, little-endian, in base64."""

    id: str
    text: str = ""
    title: str = ""
    metadata: dict[str, Any] = {}
    vector: list[float] | str | None = None
    sparse: SparseVector | None = None


class DocumentsIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Documents to store; those of equal id are replaced."""

    documents: list[DocumentIn]


class Stored(Struct, frozen=True):
    """What was stored. Where the index splits documents, passages are counted."""

    stored: int
    replaced: int
    unchanged: int


class PassageOut(Struct, frozen=True):
    """A passage of a document."""

    id: str
    text: str
    location: str
    place: PlaceOf


class DocumentOut(Struct, frozen=True):
    """A document as it is stored: its text, or where the index splits documents its passages, in order."""

    id: str
    title: str
    metadata: dict[str, Any]
    text: str | UnsetType = UNSET
    passages: list[PassageOut] | UnsetType = UNSET


class Deleted(Struct, frozen=True):
    """How many documents were removed."""

    deleted: int


class Reloaded(Struct, frozen=True):
    """What is served now."""

    models: list[str]
    documents: int | None
