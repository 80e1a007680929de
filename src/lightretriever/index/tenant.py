"""Tenants in one index: a field that every document has and every search fixes, so that none sees another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from lightretriever.errors import InputError, UsageError
from lightretriever.index.filter.language import And, Filter, In, Value, matches
from lightretriever.text.corpus import Document
from lightretriever.text.values import safe_text


def check_field(tenant: str | None) -> str | None:
    """The field's name as metadata has it. Raises UsageError for one that filters cannot name."""
    if tenant is None:
        return None
    if not isinstance(tenant, str) or not tenant or tenant.startswith("$"):
        raise UsageError(f"the tenant field is {tenant!r}: name a metadata field")
    return safe_text(tenant)


def of_tenants(documents: Iterable[Document], tenant: str | None) -> Iterator[Document]:
    """The same documents, each of which is one tenant's.

    Raises:
        InputError: one has no value, or several, in the field; its id is named.
    """
    for document in documents:
        if tenant is not None:
            value = document.metadata.get(tenant)
            if not isinstance(value, str | int | float):
                raise InputError(
                    f"document {document.id} has no single value in {tenant!r}, by which the index keeps tenants "
                    "apart: give it a string, a number, true or false"
                )
        yield document


def check_ids(documents: Sequence[Document], tenant: str | None) -> None:
    """Check that of documents to store together no two of one id are of two tenants.

    Raises:
        InputError: two are; the id is named.
    """
    if tenant is None:
        return
    owners: dict[str, Filter] = {}
    for document in documents:
        found = owners.setdefault(document.id, owner(document, tenant))
        if not matches(found, document.metadata):
            raise another_tenants(document.id, tenant)


def check_owner(document: Document, stored: Mapping[str, object], tenant: str) -> None:
    """Check that a stored document, which a given one of its id would replace, is of the same tenant.

    Args:
        document: the one that is given.
        stored: the metadata of the one that there is.
        tenant: the field.

    Raises:
        InputError: it is another tenant's; its id is named.
    """
    if not matches(owner(document, tenant), stored):
        raise another_tenants(document.id, tenant)


def another_tenants(name: str, tenant: str) -> InputError:
    """What is said of an id that two tenants would have."""
    return InputError(
        f"document {name} is of another {tenant!r} already: all tenants share one set of ids, so begin them with the "
        "tenant's name"
    )


def owner_digest(document: Document, tenant: str) -> bytes:
    """16 bytes that are the same for documents of the same tenant."""
    value = document.metadata[tenant]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2 and 2.0 are equal, as filters have it
    return hashlib.blake2b(
        f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def owner(document: Document, tenant: str) -> Filter:
    """What documents of the same tenant pass."""
    return In(tenant, (cast(Value, document.metadata[tenant]),))


def check_tenant(where: Filter | None, tenant: str | None) -> None:
    """Raises UsageError where a call does not say whose documents it is about: by equality or $in, on top."""
    if tenant is not None and not _fixes(where, tenant):
        raise UsageError(
            f"the index keeps tenants apart by {tenant!r}: every call needs a filter that fixes it, "
            f"as {{{tenant!r}: ...}}, on top or in a top $and"
        )


def _fixes(where: Filter | None, tenant: str) -> bool:
    if isinstance(where, And):
        return any(_fixes(part, tenant) for part in where.parts)
    return isinstance(where, In) and where.field == tenant
