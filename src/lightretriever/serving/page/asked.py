"""What the page is asked for, in its URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from lightretriever.errors import UsageError
from lightretriever.index.filter.language import read_filter
from lightretriever.serving.api.messages import Mode, SearchParameters
from lightretriever.serving.page.markup import link


class PageParameters(Struct, frozen=True, kw_only=True):
    """The fields of the form, and which part of the page is wanted."""

    q: str = ""
    mode: Mode = "hybrid"
    k: Annotated[int, Meta(ge=1)] = 10
    filter: str = ""
    tenant: str = ""
    full: Literal["", "on"] = ""
    part: Literal["", "results"] = ""

    @property
    def conditions(self) -> Mapping[str, Any]:
        """The filter, as far as it can be read."""
        try:
            return read_filter(self.filter) if self.filter.strip() else {}
        except UsageError:
            return {}

    def search(self) -> SearchParameters:
        """What is searched for."""
        return SearchParameters(
            q=self.q,
            k=self.k,
            mode=self.mode,
            filter=self.filter,
            tenant=self.tenant,
            snippets=True,
            explain=True,
            query_encoder="full" if self.full else "lookup",
        )

    def address(self, **changed: str) -> str:
        """The page for the same, but for some fields."""
        asked = msgspec.structs.asdict(self) | changed | {"part": ""}
        defaults = msgspec.structs.asdict(PageParameters())
        return link("/", **{name: value for name, value in asked.items() if value != defaults[name]})
