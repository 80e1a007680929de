"""A request's body, read within limits and trusted in nothing: JSON without tricks, into typed values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec
from starlette.types import Receive

from lightretriever.errors import LightRetrieverError
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.settings import Limits

T = TypeVar("T")
_DEEPEST = 64  # levels of arrays and objects


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """The whole body. Raises Refused: it is too large (413), or comes too slowly (408)."""
    parts: list[bytes] = []
    size = 0
    async for part in body_parts(receive, limits):
        size += len(part)
        if size > limits.body:
            raise Refused(413, f"the body is larger than {limits.body:,} bytes: send less at once")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def body_parts(receive: Receive, limits: Limits) -> AsyncIterator[bytes]:
    """The parts of a body as they come. Raises Refused where the next takes too long, or the client left."""
    while True:
        try:
            async with asyncio.timeout(limits.slow):
                message = await receive()
        except TimeoutError:
            raise Refused(408, f"nothing came for {limits.slow:g} seconds: send the body faster") from None
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def body_lines(receive: Receive, limits: Limits) -> AsyncIterator[bytes]:
    """The lines of a streamed body, without line ends, blank ones left out. Raises Refused as `body_parts`, and for a
    line that is too long."""
    rest = bytearray()
    async for part in body_parts(receive, limits):
        rest += part
        if b"\n" in part:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                _check_line(line, limits)
                if line.strip():
                    yield line
        _check_line(rest, limits)
    if rest.strip():
        yield bytes(rest)


def _check_line(line: Sequence[int], limits: Limits) -> None:
    if len(line) > limits.line:
        raise Refused(413, f"a line is longer than {limits.line:,} bytes: split the document")


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON into a typed value.

    Raises:
        Refused: it is not JSON in UTF-8, names a key twice in an object, or is nested too deeply (400); or it is not
            what was asked for (422).
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(422, plain(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    check_keys(body)
    return value


def check_keys(body: bytes) -> None:
    """Refuse JSON whose objects name a key twice: what reads it next may take the other one.

    Raises:
        Refused: it does, or is nested too deeply (400).
    """
    if body.count(b":") < 2 and body.count(b"[") < _DEEPEST:
        return
    try:
        depth = _depth(_STRICT.decode(body.decode("utf-8")))
    except (RecursionError, ValueError) as error:
        message = str(error) if isinstance(error, _TwiceError) else "the body is no JSON that everybody reads alike"
        raise Refused(400, message) from None
    if depth > _DEEPEST:
        raise Refused(400, f"the body is nested more than {_DEEPEST} levels deep")


class _TwiceError(ValueError):
    """A key that an object has twice."""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"an object has the key {name[:40]!r} twice: leave one out")
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_distinct)


def _depth(value: object) -> int:
    """Levels of arrays and objects, walked without recursion, one level at a time."""
    level, depth = [value], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > _DEEPEST:
            break
        nested: list[object] = []
        for value in level:
            members = value.values() if isinstance(value, dict) else value
            nested += [member for member in members if isinstance(member, dict | list)]
        level = nested
    return depth


def convert(values: dict[str, object], kind: type[T]) -> T:
    """Query parameters, strings that they are, into a typed value. Raises Refused (422)."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(422, plain(error)) from None
    except LightRetrieverError as error:
        raise Refused(422, str(error)) from None


def plain(error: msgspec.ValidationError) -> str:
    """What msgspec says, with the place as people write it: ``filter.year`` for ``$.filter.year``."""
    return str(error).replace("`$.", "`").replace(" - at `$`", "")
