"""The document tower that an index was made with, loaded as it was then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightretriever.errors import ModelError, UsageError

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.settings import Settings


def load_document_tower(
    settings: Settings, model: str | None, base: str | None, device: str, compute: str
) -> DocumentEncoder:
    """Load the tower of an index to encode documents for it, as fast as can be. Raises as `load_tower_of`."""
    from lightretriever.document.device import fastest

    sparse = "lm" if settings.sparse == "lm" else "none"
    return load_tower_of(settings, model, base, device, sparse, fastest(compute, device))


def load_tower_of(
    settings: Settings, model: str | None, base: str | None, device: str, sparse: str, dtype: str = "auto"
) -> DocumentEncoder:
    """Load the tower of an index: from where it was then, or from ``model`` and ``base``; lengths as they were.

    Raises:
        ModelError: it is not there any more, or never was where the index's vectors were made; name it.
        UsageError: the index was made of vectors of no known model, and none is named.
    """
    then: dict[str, Any] = dict(settings.encoding)
    name = model or then.get("source") or settings.model
    if not name:
        raise UsageError(
            "this index does not know its document model: name it with --model, or give documents with their vectors"
        )
    from lightretriever.document.encoder import DocumentEncoder

    try:
        return DocumentEncoder.load(
            str(name),
            base=base or then.get("base"),
            device=device,
            dtype=dtype,
            max_length=then.get("max_length") or 512,
            sparse=sparse,
            top_k=then.get("top_k"),
        )
    except ModelError as error:
        if model or then.get("source"):
            raise
        raise ModelError(
            "the vectors of this index were given, made elsewhere: give documents with their vectors, or name the "
            f"--model ({error})"
        ) from None
