"""Whose documents a call is about: what its key is bound to, and what it says, become one condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightretriever.serving.access.keys import Key
from lightretriever.serving.api.messages import Tenant
from lightretriever.serving.http.errors import Refused


def narrowed(
    field: str | None, key: Key, tenant: Tenant | None, filter: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """A call's filter, narrowed to the tenant that it is for.

    Args:
        field: by which the index keeps tenants apart; None where it does not.
        key: who calls; one that is bound to a tenant sees no other, whatever the filter says.
        tenant: as the call names it.
        filter: as the call gives it.

    Raises:
        Refused: the key is another tenant's (403), or the index keeps none apart (403, 422).
    """
    if key.tenant is not None:
        if field is None:
            raise Refused(403, "this key is for one tenant, and the index keeps no tenants apart")
        if tenant is not None and not same(tenant, key.tenant):
            raise Refused(403, "this key is for another tenant", "tenant")
        tenant = key.tenant
    filter = filter or None
    if tenant is None:
        return filter
    if field is None:
        raise Refused(422, "the index keeps no tenants apart: leave the tenant out", "tenant")
    own = {field: tenant}
    return own if filter is None else {"$and": [own, filter]}


def of_key(field: str | None, key: Key, metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a document that is to be stored: its tenant's field is the key's, and may be left out.

    Raises:
        Refused: it is another tenant's (403).
    """
    if key.tenant is None:
        return metadata
    if field is None:
        raise Refused(403, "this key is for one tenant, and the index keeps no tenants apart")
    if field not in metadata:
        return {**metadata, field: key.tenant}
    if not same(metadata[field], key.tenant):
        raise Refused(403, "this key is for another tenant than the document's", "metadata")
    return metadata


def same(one: object, other: object) -> bool:
    """Whether two tenants are one, as filters compare values: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
