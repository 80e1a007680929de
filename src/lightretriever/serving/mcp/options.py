"""How to serve agents: frozen options, of which those for HTTP are the HTTP server's own."""

from __future__ import annotations

from dataclasses import dataclass

from lightretriever.errors import UsageError
from lightretriever.serving.settings import ServeOptions

LEAST_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class McpOptions:
    """What agents are given.

    Attributes:
        served: the index; with ``http`` also where to listen, to whom, and the limits.
        http: over streamable HTTP; else over standard input and output, for the one program that started this.
        tenant: the only tenant whose documents are found, where the index keeps tenants apart: a number, true or false
            where it is one in JSON, else a string.
        size: characters of documents' text in one answer, at most, so that it leaves an agent's context some room.
    """

    served: ServeOptions
    http: bool = False
    tenant: str | None = None
    size: int = 16_000

    def __post_init__(self) -> None:
        if self.size < LEAST_SIZE:
            raise UsageError(f"an answer of {self.size} characters: give at least {LEAST_SIZE:,}")
        if self.served.keys is not None and not self.http:
            raise UsageError("keys are for --http: over standard input nobody else can ask")
