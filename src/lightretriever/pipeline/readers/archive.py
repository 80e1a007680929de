"""Zip archives that documents are, unpacked within limits; XML without entities."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers import expat

from lightretriever.pipeline.readers.content import ReadOptions, UnreadableError

_MOST_MEMBERS = 20_000
_DEEPEST = 200


class Archive:
    """The members of a zip archive, the limits checked before any is unpacked.

    Raises:
        UnreadableError: no archive, or one that goes beyond the limits.
    """

    def __init__(self, data: bytes, options: ReadOptions) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
            raise UnreadableError(f"it is no whole zip archive ({error})") from None
        if len(members) > _MOST_MEMBERS:
            raise UnreadableError(f"it holds {len(members):,} files, more than {_MOST_MEMBERS:,}")
        # What a member says of its size binds: no more than that is ever unpacked of it.
        size = sum(member.file_size for member in members)
        if size > options.max_unpacked:
            raise UnreadableError(f"it unpacks to {size:,} bytes, more than {options.max_unpacked:,} (max_unpacked)")
        self.names = {member.filename for member in members}

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises UnreadableError where it is absent, damaged or encrypted."""
        try:
            return self._zip.read(name)
        except KeyError:
            raise UnreadableError(f"it holds no {name}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError, ValueError):
            raise UnreadableError(f"{name} in it is damaged, or encrypted") from None


@dataclass(frozen=True, slots=True)
class Element:
    """One element of XML, names without their prefixes."""

    name: str
    attributes: Mapping[str, str]
    text: str


def xml_elements(data: bytes, what: str) -> list[Element]:
    """All elements in the order of their ends, each with the text that stands directly in it.

    Raises:
        UnreadableError: it is not well-formed, declares entities, or is nested too deep.
    """
    found: list[Element] = []
    open_: list[tuple[str, dict[str, str], list[str]]] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_) >= _DEEPEST:
            raise UnreadableError(f"{what} in it is nested deeper than {_DEEPEST} elements")
        open_.append((_local(name), {_local(key): value for key, value in attributes.items()}, []))

    def end(name: str) -> None:  # noqa: ARG001 (expat's signature)
        local, attributes, texts = open_.pop()
        found.append(Element(local, attributes, "".join(texts).strip()))

    def text(piece: str) -> None:
        if open_:
            open_[-1][2].append(piece)

    def entity(*declared: object) -> None:  # noqa: ARG001
        raise UnreadableError(f"{what} in it declares entities, which no such file needs")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise UnreadableError(f"{what} in it is not well-formed XML") from None
    return found


def _local(name: str) -> str:
    return name.rpartition(":")[2]
