"""E-mail: single messages (.eml) and mailboxes (mbox). Attachments are not opened."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about, one_line
from lightretriever.pipeline.readers.decode import decode
from lightretriever.pipeline.readers.html import markdown_of_page

_MOST_PARTS = 1_000
# What starts a message names an address or a day; a sentence that starts with "From", not all programs mark as none.
_SEPARATOR = re.compile(rb"From (?:[^\s@]{1,200}@|\S{1,200} +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b)")


def read_message(data: bytes, options: ReadOptions) -> Content:
    """Its text, or its HTML as Markdown where it has no text; title: the subject; author: the sender.

    Raises:
        UnreadableError: no message, or one without text.
        MissingExtraError: it is HTML, and there is no ``selectolax``.
    """
    try:
        message = email.message_from_bytes(data)
        parts = _parts(message)
        fields = {name: _header(message, name) for name in ("subject", "from", "date")}
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:  # all of which `email` raises
        raise UnreadableError(f"it is no whole message ({type(error).__name__})") from None
    if not any(fields.values()):
        raise UnreadableError("it is no message: it has neither sender nor subject nor date")
    texts = [_body(part) for part in parts if part.get_content_type() == "text/plain"]
    if not any(text.strip() for text in texts):
        pages = [_body(part) for part in parts if part.get_content_type() == "text/html"]
        texts = [markdown_of_page(page, options) for page in pages]
    metadata = about(author=fields["from"], date=_date(fields["date"]))
    return Content(
        "\n\n".join(text.strip("\n") for text in texts if text.strip()), one_line(fields["subject"]), metadata
    )


def read_mbox(path: Path, options: ReadOptions) -> Iterator[Content | UnreadableError]:
    """The messages of a mailbox in their order, streamed; what cannot be read is an error in its place.

    Raises:
        UnreadableError: it is no mailbox.
        OSError: it cannot be read.
    """
    for data in _messages(path, options):
        if data is None:
            yield UnreadableError(f"the message is longer than {options.max_bytes:,} bytes (max_bytes)")
            continue
        try:
            yield read_message(data, options)
        except UnreadableError as error:
            yield error


def _messages(path: Path, options: ReadOptions) -> Iterator[bytes | None]:
    """The bytes of each message, None for one that is too long. "From " after an empty line starts one."""
    lines: list[bytes] = []
    size, empty_before, started = 0, True, False
    with path.open("rb") as file:
        while line := file.readline(1 << 20):
            if empty_before and _SEPARATOR.match(line):
                if started:
                    yield b"".join(lines) if size <= options.max_bytes else None
                lines, size, started = [], 0, True
            elif not started:
                if line.strip():
                    raise UnreadableError("it is no mailbox: it does not start with 'From '")
            else:
                size += len(line)
                if size <= options.max_bytes:
                    lines.append(line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(b"From ") else line)
            empty_before = not line.strip()
    if started:
        yield b"".join(lines) if size <= options.max_bytes else None


def _parts(message: Message) -> list[Message]:
    """The parts that are shown, from the outside in."""
    shown: list[Message] = []
    left = [message]
    while left:
        part = left.pop()
        inner = part.get_payload()
        if part.is_multipart() and isinstance(inner, list):
            left.extend(one for one in reversed(inner) if isinstance(one, Message))
        elif part.get_content_disposition() != "attachment" and part.get_content_maintype() == "text":
            shown.append(part)
        if len(left) + len(shown) > _MOST_PARTS:
            raise UnreadableError(f"it has more than {_MOST_PARTS:,} parts")
    return shown


def _body(part: Message) -> str:
    try:
        data = part.get_payload(decode=True)
        charset = part.get_content_charset()
    except (ValueError, LookupError, AttributeError, TypeError):
        return ""
    if not isinstance(data, bytes):
        return ""
    try:
        text = data.decode(charset or "utf-8")
    except (LookupError, ValueError):
        try:
            return decode(data)
        except UnreadableError:
            return ""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    try:
        return one_line(str(make_header(decode_header(value))))
    except (ValueError, LookupError, TypeError, AttributeError):
        return one_line(str(value))


def _date(header: str) -> str:
    try:
        return parsedate_to_datetime(header).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return ""
