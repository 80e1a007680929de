"""What a fit asks of a tower, without its answers: those are each test's own."""

from __future__ import annotations

from dataclasses import dataclass

from made_tokenizers import wordpiece
from tokenizers import Tokenizer


@dataclass
class QueryTower:
    """A tower of no model; who inherits gives it `encode_queries`."""

    name: str = "made"
    revision: str = "1"
    dim: int = 24
    max_length: int = 512
    default_prompt: str = ""
    dtype: str = "float32"
    skip_ids: tuple[int, ...] = ()
    counts: str = "sum"

    @property
    def tokenizer(self) -> Tokenizer:
        return wordpiece()
