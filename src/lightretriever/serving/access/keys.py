"""API keys: who may read and who may write. The file holds their SHA-256, never a key.

A key is 32 random bytes. Nobody finds one by trying, however fast the hash, so a slow one, which passwords need because
people choose them, would only make every request slow.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lightretriever.artifact import new_file
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.regular_file import read_file

READ, WRITE, OPEN = "read", "write", "open"
_START = "lr_"
_LONGEST = 1 << 20  # bytes of the file
_NAME = 64  # characters


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key allows.

    Attributes:
        name: whose it is, for the log.
        sha256: of the key, in hexadecimal digits.
        may: "read", or "write", which includes it.
        tenant: the only tenant that it is for, a value of the index's tenant field; None for all.
    """

    name: str
    sha256: str
    may: str = READ
    tenant: str | int | float | bool | None = None

    def allows(self, wanted: str) -> bool:
        """Whether it is enough for what is asked."""
        return wanted != WRITE or self.may == WRITE


ANYONE = Key("", "", WRITE)
"""Who calls where no keys are needed."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key]


def new_key(file: Path, name: str, may: str = READ, tenant: str | int | float | bool | None = None) -> str:
    """Make a key, and add it to a file, which is made where there is none, for its owner's eyes alone.

    Returns:
        The key, which nobody can get back from the file.

    Raises:
        UsageError: no name, or one that is in the file, or another right than "read" or "write".
        ArtifactError: the file cannot be read or written.
    """
    if not name.isprintable() or not 0 < len(name) <= _NAME:
        raise UsageError(f"the key's name is {name!r}: give 1 to {_NAME} letters, to know it by")
    if may not in (READ, WRITE):
        raise UsageError(f"a key may {may!r}: choose read or write")
    keys = load_keys(file) if file.exists() else ()
    if any(key.name == name for key in keys):
        raise UsageError(f"{file} has a key named {name!r} already: choose another name, or take its line out")
    secret = _START + secrets.token_urlsafe(32)
    made = Key(name, _digest(secret), may, tenant)
    lines = [msgspec.json.encode(key).decode() for key in (*keys, made)]
    text = '{"keys": [\n' + ",\n".join(lines) + "\n]}\n"
    with new_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return secret


def load_keys(file: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises ArtifactError: there is none, it is damaged, or it holds no key."""
    try:
        found = msgspec.json.decode(read_file(file, _LONGEST), type=_File)
    except OSError as error:
        raise ArtifactError(
            f"{file} cannot be read: {error.strerror or error}: make it by lightretriever key"
        ) from None
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{file} is no file of keys ({error}): make it by lightretriever key") from None
    for key in found.keys:
        if key.may not in (READ, WRITE) or len(key.sha256) != 64 or key.sha256.strip("0123456789abcdef"):
            raise ArtifactError(f"{file}: the key {key.name[:_NAME]!r} is damaged: make another by lightretriever key")
    if not found.keys:
        raise ArtifactError(f"{file} holds no key: make one by lightretriever key")
    return tuple(found.keys)


def find_key(keys: Iterable[Key], secret: str) -> Key | None:
    """Whose key it is. All are compared, each in constant time, so that how long it takes tells nothing."""
    digest = _digest(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def presented(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, bool]:
    """The key that a request brings, "" for none, and whether a browser sent it, as it does of itself.

    ``Authorization: Bearer KEY``, as OpenAI's, Cohere's and Hugging Face's clients send it; ``api-key`` or
    ``x-api-key``; or, for browsers, ``Authorization: Basic`` with the key for a password.
    """
    for name, value in headers:
        if name == b"authorization":
            kind, _, rest = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer":
                return rest.strip(), False
            if kind.lower() == "basic":
                return _password(rest.strip()), True
        elif name in (b"api-key", b"x-api-key"):
            return value.decode("latin-1").strip(), False
    return "", False


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def tenant_value(text: str | None) -> str | int | float | bool | None:
    """A tenant as the command line names it: a number, true or false where it is one in JSON, else a string."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text
