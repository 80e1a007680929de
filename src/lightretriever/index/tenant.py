"""Tenants in one index: a field that every document has and every search fixes, so that none sees another's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lightretriever.errors import InputError, UsageError
from lightretriever.index.filter import And, Filter, In
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


def check_tenant(where: Filter | None, tenant: str | None) -> None:
    """Raises UsageError where a search does not say whose documents it may find: by equality or $in, on top."""
    if tenant is not None and not _fixes(where, tenant):
        raise UsageError(
            f"the index keeps tenants apart by {tenant!r}: every search needs a filter that fixes it, "
            f"as {{{tenant!r}: ...}}, on top or in a top $and"
        )


def _fixes(where: Filter | None, tenant: str) -> bool:
    if isinstance(where, And):
        return any(_fixes(part, tenant) for part in where.parts)
    return isinstance(where, In) and where.field == tenant
