"""How documents are split; apart from the splitting itself, which who only searches does not load."""

from __future__ import annotations

from dataclasses import dataclass

from lightretriever.errors import UsageError

LEAST_TOKENS = 16
"""Fewer would leave no room beside a title."""


@dataclass(frozen=True)
class PassageOptions:
    """How documents are split.

    Attributes:
        tokens: the tower's own, at most in a passage: special tokens, title and headings included. 0: documents stay
            whole.
        overlap: tokens of a passage that the next one begins with, at most; about so many of a sentence that has more.
        headings: whether the headings that a passage stands under go before its text, after the title, when it is
            encoded.

    Raises:
        UsageError: too few tokens, or an overlap that is negative or more than half of them.
    """

    tokens: int = 256
    overlap: int = 32
    headings: bool = True

    def __post_init__(self) -> None:
        if self.tokens and self.tokens < LEAST_TOKENS:
            raise UsageError(f"a passage of {self.tokens} tokens: give at least {LEAST_TOKENS}, or 0 to split nothing")
        if self.tokens and not 0 <= self.overlap <= self.tokens // 2:
            raise UsageError(f"an overlap of {self.overlap} tokens: give 0 to half of the passage's {self.tokens}")
