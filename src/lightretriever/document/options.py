"""Which document tower, and how it computes; no torch here, for who only names one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightretriever.document.folder import MINILM

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder


@dataclass(frozen=True, slots=True)
class TowerOptions:
    """A document tower, by the arguments of `DocumentEncoder.load`.

    Attributes:
        model: None is the one that comes with the extra ``minilm``.
        compute: its ``dtype``; "auto" is what is fastest for documents, see `lightretriever.document.device.fastest`.
    """

    model: str | None = None
    base: str | None = None
    device: str = "auto"
    compute: str = "auto"
    max_length: int = 512
    top_k: int | None = None

    def decided(self) -> TowerOptions:
        """With what "auto" computes in on this machine."""
        from lightretriever.document.device import fastest

        return replace(self, compute=fastest(self.compute, self.device))

    def load(self, sparse: str = "auto") -> DocumentEncoder:
        """Load it. Raises as `DocumentEncoder.load`."""
        from lightretriever.document.encoder import DocumentEncoder

        return DocumentEncoder.load(
            self.model or MINILM,
            base=self.base,
            device=self.device,
            dtype=self.decided().compute,
            max_length=self.max_length,
            sparse=sparse,
            top_k=self.top_k,
        )
