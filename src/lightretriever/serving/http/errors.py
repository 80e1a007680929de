"""What a request is refused with, and which of the package's errors are the caller's fault."""

from __future__ import annotations

from lightretriever.errors import (
    ArtifactError,
    InputError,
    LightRetrieverError,
    LockedError,
    MismatchError,
    UsageError,
)

CODES = {
    400: "bad_request",
    401: "no_key",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "needs_model",
    413: "too_large",
    415: "unsupported_media_type",
    421: "misdirected",
    422: "invalid",
    429: "too_many_requests",
    431: "headers_too_large",
    500: "internal",
    503: "busy",
}
"""A word for each status that is ever given."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP, one of `CODES`.
        message: one line for the caller: what is wrong, and what to do.
        parameter: the field at fault; "" where it is none.
        headers: besides.
    """

    def __init__(
        self, status: int, message: str, parameter: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.parameter = parameter
        self.headers = headers

    @property
    def code(self) -> str:
        """What it is, in a word for programs."""
        return CODES[self.status]


def busy(message: str, seconds: int = 1) -> Refused:
    """Come back later."""
    return Refused(503, message, headers=(("retry-after", str(seconds)),))


def refusal(error: LightRetrieverError) -> Refused:
    """An error of the package as an answer. What the caller gave is said; what is wrong with files here is not."""
    if isinstance(error, LockedError):
        return busy("another process is writing: send it again in a second")
    if isinstance(error, UsageError | InputError | MismatchError):
        return Refused(422, " ".join(str(error).split()))
    if isinstance(error, ArtifactError):
        return Refused(500, "the index or its machine is at fault: the server's log says how")
    return Refused(500, "the server failed: its log says how")
