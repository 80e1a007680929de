"""The tools `search` and `fetch`, apart from how they are called."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from lightretriever.errors import LightRetrieverError
from lightretriever.passages.fields import document_id
from lightretriever.serving.access.keys import Key, tenant_value
from lightretriever.serving.access.tenants import narrowed
from lightretriever.serving.http.body import plain
from lightretriever.serving.http.errors import Refused, refusal
from lightretriever.serving.log import say
from lightretriever.serving.mcp.answers import document_text, found_passages, hits_text, whole_document
from lightretriever.serving.mcp.described import FETCH, SEARCH, fields_of, needs_tenant, what_it_is
from lightretriever.serving.mcp.followed import Followed
from lightretriever.serving.mcp.messages import (
    FetchAnswer,
    FetchArguments,
    SearchAnswer,
    SearchArguments,
    schema_of,
)
from lightretriever.serving.mcp.options import McpOptions

if TYPE_CHECKING:
    from lightretriever.index.index import Index

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described:
    """A tool as agents are told of it; the schemas are JSON schemas."""

    name: str
    title: str
    description: str
    takes: dict[str, Any]
    gives: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a call: text, and the same as data; or what went wrong, in one line, and no data."""

    text: str
    data: dict[str, Any] | None


class Tools:
    """The tools over one index; threads may share them.

    Args:
        options: what to search, and how much to answer.

    Raises:
        ArtifactError: there is no index.
    """

    def __init__(self, options: McpOptions) -> None:
        self._options = options
        self._tenant = tenant_value(options.tenant)
        self._followed = Followed(options.served)
        self.schemas = {"search": schema_of(SearchArguments), "fetch": schema_of(FetchArguments)}

    @property
    def title(self) -> str:
        """The index's name."""
        return self._followed.name

    def warm_up(self) -> None:
        """Open the index, and load what the first search would wait for. What is wrong with it the next call says."""
        try:
            with self._followed.use() as index:
                if index.settings.tenant is None:
                    index.search("warm", 1)
        except (Refused, LightRetrieverError) as error:
            say("the index cannot be opened", logging.ERROR, error=str(error))

    def close(self) -> None:
        """Let go of the index."""
        self._followed.close()

    def described(self, key: Key) -> list[Described]:
        """The tools, and what the index holds that they search."""
        name = self._followed.name
        try:
            with self._followed.use() as index:
                what, fields = what_it_is(name, index), self._fields(index, key)
        except (Refused, LightRetrieverError) as error:
            say("the index cannot be described", logging.ERROR, error=str(error))
            what, fields = what_it_is(name, None), ""
        return [
            Described(
                "search",
                f"Search {name}",
                SEARCH.format(what=what, fields=fields),
                self.schemas["search"],
                schema_of(SearchAnswer),
            ),
            Described(
                "fetch", f"Read from {name}", FETCH.format(what=what), self.schemas["fetch"], schema_of(FetchAnswer)
            ),
        ]

    def _fields(self, index: Index, key: Key) -> str:
        tenant = index.settings.tenant
        if tenant is None:
            return fields_of(index)
        return needs_tenant(tenant) if key.tenant is None and self._tenant is None else ""

    def call(self, name: str, arguments: Mapping[str, Any], key: Key) -> Answered:
        """Do what a tool does; whatever goes wrong is an answer too.

        Args:
            name: "search" or "fetch".
            arguments: as the agent gave them.
            key: who asks.
        """
        try:
            if name == "search":
                return self._search(_read(arguments, SearchArguments), key)
            return self._fetch(_read(arguments, FetchArguments), key)
        except Refused as refused:
            return Answered(refused.message, None)
        except LightRetrieverError as error:
            found = refusal(error)
            if found.status >= 500:
                say("failed", logging.ERROR, error, tool=name)
            # Others are not told of this machine's files; who started this is.
            return Answered(found.message if self._options.http else " ".join(str(error).split()), None)
        except Exception as error:  # whatever it is, this call alone fails of it
            say("failed", logging.ERROR, error, tool=name)
            return Answered("the search failed: the server's log (standard error) says how", None)

    def _search(self, asked: SearchArguments, key: Key) -> Answered:
        longest = self._options.served.limits.query
        if len(asked.query) > longest:
            raise Refused(422, f"the query has {len(asked.query):,} characters: give at most {longest:,}")
        with self._followed.use() as index:
            where = narrowed(index.settings.tenant, key, self._tenant, asked.filter)
            hits = index.search(asked.query, asked.k, asked.mode, where)
            passages = found_passages(hits, self._options.size)
        return Answered(hits_text(passages), msgspec.to_builtins(SearchAnswer(passages)))

    def _fetch(self, asked: FetchArguments, key: Key) -> Answered:
        with self._followed.use() as index:
            settings = index.settings
            where = narrowed(settings.tenant, key, self._tenant, asked.filter)
            split = settings.passages is not None
            # An agent may give a passage's id, which it has seen elsewhere.
            names = [asked.id, document_id(asked.id)] if split and document_id(asked.id) else [asked.id]
            found = index.get(names, filter=where)
            name = next((name for name in names if name in found), None)
            if name is None:
                raise Refused(404, f"there is no document {asked.id[:80]!r}: give an id that search returned")
            answer = whole_document(name, found[name], split, asked.start, self._options.size)
        return Answered(document_text(answer), msgspec.to_builtins(answer))


def _read(arguments: Mapping[str, Any], kind: type[T]) -> T:
    """Raises Refused: an argument is missing, unknown, or of another kind; it is named."""
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise Refused(422, f"{plain(error)}: the tool's input schema says what it takes") from None
