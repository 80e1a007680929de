"""Token ids of texts, whatever their length (METHOD "Tokenizer").

A text of 10 MB has a document's 512 tokens in its first pages. It is cut before it is tokenised, at a place
where the ids before the cut are exactly those of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Tokenizer

from lightretriever.text.tokenizer import encode_batch

_SPACES = {" ", "▁", "Ġ"}
# A byte-level vocabulary's tab, newlines and space; tokens of white space alone do not matter here.
_BLANKS = {*_SPACES, *"ĉĊċČč\t\n\v\f\r"}


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Cuts texts to ids.

    Attributes:
        tokenizer: without truncation and padding.
        can_cut: whether a text may be cut between a letter or digit and a space; see `make_text_tokenizer`.
    """

    tokenizer: Tokenizer
    can_cut: bool

    def ids(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """The first ``limit`` token ids of each text, without specials."""
        found: list[list[int]] = [[] for _ in texts]
        pending, characters = list(range(len(texts))), 8 * limit + 512
        while pending:
            pieces = [self._cut(texts[i], characters) for i in pending]
            encodings = encode_batch(self.tokenizer, pieces)
            longer = []
            for i, piece, encoding in zip(pending, pieces, encodings, strict=True):
                if len(encoding) >= limit or len(piece) == len(texts[i]):
                    found[i] = encoding.ids[:limit]
                else:
                    longer.append(i)
            pending, characters = longer, 4 * characters
        return found

    def _cut(self, text: str, characters: int) -> str:
        if not self.can_cut or len(text) <= 2 * characters:
            return text
        end = text.find(" ", characters)
        while end != -1 and end < 2 * characters and not text[end - 1].isalnum():
            end = text.find(" ", end + 1)
        return text if end == -1 or end >= 2 * characters else text[:end]


def make_text_tokenizer(tokenizer: Tokenizer) -> TextTokenizer:
    """Decide whether long texts may be cut between a letter or digit and the space after it.

    The ids of what stands before such a cut do not depend on what follows, if no token of the vocabulary (added
    ones included) reaches from something else into a space: then no merge and no piece crosses the cut, whatever
    the pre-tokenizer. Normalizers work within that distance too, and the pre-tokenizers in use look ahead by one
    character at most, and for it a space and the end of the text are the same. A vocabulary with such tokens
    is never cut, only slower.
    """
    crossing = any(
        after in _SPACES and before not in _BLANKS
        for token in tokenizer.get_vocab(with_added_tokens=True)
        for before, after in pairwise(token)
    )
    return TextTokenizer(tokenizer, not crossing)
