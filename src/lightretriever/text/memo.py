"""Exact tokenisation by remembered chunks: most of a look-up's cost is tokenising, and most words come again.

A chunk is what stands between two spaces. For many tokenizers the ids of a text are the ids of its first chunk
followed by those of every later chunk with the space before it. `chunk_rule` decides, from the tokenizer's JSON,
whether that holds; a probe then tries it. `ChunkTokenizer` remembers the ids that ``tokenizers`` itself gave for
each chunk, and hands a whole text to ``tokenizers`` whenever anything in it could break the rule: white space
other than single spaces, control characters, an added token's literal, a very long chunk.
"""

from __future__ import annotations

import json
import os
import random
import re
import string
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from lightretriever.text.tokenizer import encode_batch, encode_one, flat_steps

if TYPE_CHECKING:
    from lightretriever.text.scan import Scanner

ChunkIds = tuple[int, ...] | Literal[False]  # False: only the whole text can tell

NONE = "none"  # the rule does not hold, or is not known to: every text goes to tokenizers
SPACED = "spaced"  # a later chunk is tokenised with the space before it (byte-level BPE, Metaspace)
WORDS = "words"  # white space only separates: chunks are alike everywhere (WordPiece)
WORDS_CJK = "words-cjk"  # moreover every CJK ideograph stands alone (BertNormalizer)
RULES = (NONE, SPACED, WORDS, WORDS_CJK)

LONGEST_CHUNK = 48  # characters; longer ones are seldom seen twice
MEMO_LIMIT = 1 << 18  # chunks remembered before starting afresh; about 60 MB
BATCH = 512  # texts from which the compiled scan pays for itself

# Split patterns of byte-level BPE that never match across the start of a single inner space.
_SPLIT_PATTERNS = frozenset(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" + tail
    for tail in (
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",  # Qwen 2, 2.5, 3
        "{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",  # Llama 3
    )
)
_NORMALIZERS = {
    "Lowercase",
    "BertNormalizer",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "StripAccents",
    "Precompiled",
    "Nmt",
}
_BY_WORD = {"WordPiece", "WordLevel", "Unigram", "BPE"}
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # all three-byte blocks that BertNormalizer sets apart
_CJK_CHUNK = re.compile(f"[{_CJK}]|[^ {_CJK}]+")
_BREAK = re.compile(r"[\t\n\r]")
_SPACES = str.maketrans("\t\n\r", "   ")
_SURROGATE = re.compile("[\ud800-\udfff]")


def chunk_rule(tokenizer: Tokenizer) -> str:
    """How a tokenizer's ids come apart at spaces: `NONE`, `SPACED`, `WORDS` or `WORDS_CJK`.

    What is not known to come apart is not guessed: it gives `NONE`. What is known is still tried on a few hundred
    generated texts, and a single difference gives `NONE`.
    """
    rule = _expected_rule(json.loads(tokenizer.to_str()))
    if rule == NONE:
        return NONE
    chunked = ChunkTokenizer(tokenizer, rule)
    same = all(chunked.ids(text) == chunked.plain_ids(text) for text in _probe_texts(tokenizer))
    return rule if same else NONE


def _expected_rule(state: dict) -> str:
    """The rule that a tokenizer's JSON promises."""
    model, added = state["model"], state["added_tokens"]
    if model.get("dropout") or any(_holds_one_space(token["content"]) for token in added):
        return NONE
    normalizers = flat_steps(state["normalizer"], "normalizers")
    if not all(step["type"] in _NORMALIZERS or _is_harmless_replace(step) for step in normalizers):
        return NONE
    steps = flat_steps(state["pre_tokenizer"], "pretokenizers")
    kinds = {step["type"] for step in steps}
    if kinds and kinds <= {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"}:
        if not kinds & {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"} or model["type"] not in _BY_WORD:
            return NONE
        cjk = any(step["type"] == "BertNormalizer" and step["handle_chinese_chars"] for step in normalizers)
        return WORDS_CJK if cjk else WORDS
    if model["type"] == "BPE" and kinds in ({"ByteLevel"}, {"Split", "ByteLevel"}):
        return SPACED if all(_splits_at_spaces(step) for step in steps) and _has_split(steps) else NONE
    if model["type"] in _BY_WORD and kinds in ({"Metaspace"}, {"WhitespaceSplit", "Metaspace"}):
        return SPACED if all(step.get("split", True) for step in steps) else NONE
    return NONE


def _holds_one_space(content: str) -> bool:
    """Whether an added token could match across the single spaces between chunks; runs of spaces never do."""
    return content == " " or bool(content.strip() and re.search(r"\s", content))


def _is_harmless_replace(step: dict) -> bool:
    """Whether a normalizer replaces only runs of two or more spaces, or texts without any space."""
    if step["type"] != "Replace":
        return False
    pattern, content = next(iter(step["pattern"].items()))
    if pattern == "Regex":
        return content == " {2,}"
    return not re.search(r"\s", content + step["content"])


def _splits_at_spaces(step: dict) -> bool:
    """Whether a byte-level pre-tokenizer step keeps a word and the space before it apart from what precedes."""
    if step["type"] == "Split":
        pattern = step["pattern"].get("Regex")
        return pattern in _SPLIT_PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
    return True


def _has_split(steps: list[dict]) -> bool:
    return any(step["type"] == "Split" or step.get("use_regex", True) for step in steps)


def _probe_texts(tokenizer: Tokenizer) -> list[str]:
    """A few hundred texts of words from the vocabulary, numbers, punctuation and other scripts; always the same."""
    chosen = random.Random(0)
    words = sorted(tokenizer.get_vocab(with_added_tokens=True))
    pieces = [word.strip("#▁Ġ ") for word in chosen.sample(words, min(1000, len(words)))]
    pieces += [
        "don't",
        "2024",
        "3.14",
        "C++",
        "e-mail",
        "(a",
        "b)",
        "?!",
        "école",
        "naïve",
        "Straße",
        "İstanbul",
    ]
    pieces += ["中文", "テスト", "привет", "한국어", "x" * 30, "a_b", "$5", "’s", "½", "😀", "Ǆ", "ﬁ"]
    return [" ".join(chosen.choices(pieces, k=chosen.randint(1, 8))) for _ in range(300)]


def without_surrogates(text: str) -> str:
    """The text with every lone surrogate, which no UTF-8 encoder takes, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


class _Scanning:
    """A scanner, made when it is needed, and what its caller holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scanner: Scanner | None = None


class ChunkTokenizer:
    """Token ids without specials, equal to ``tokenizers`` on every text, from remembered chunks.

    Args:
        tokenizer: without truncation and padding; not changed.
        rule: what `chunk_rule` said of it.
    """

    def __init__(self, tokenizer: Tokenizer, rule: str) -> None:
        self._tokenizer = tokenizer
        self._rule = rule
        contents = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        added = [content for content in contents if content.strip()]
        self._added = re.compile("|".join(re.escape(_folded(content)) for content in added)) if added else None
        # A chunk's ids, or False where it must not be used. One memo serves both places where they are alike.
        self._later: dict[str, ChunkIds] = {}
        self._words = rule in (WORDS, WORDS_CJK)
        self._first = self._later if self._words else {}
        for memo in (self._first, self._later):
            memo[""] = () if self._words else False  # an extra space
        # Where white space only separates, a break is a space, unless a token of its own is made of it.
        self._breaks = self._words and not any(_BREAK.search(content) for content in contents)
        self._alone = _alone(tokenizer, contents) if self._words else b""
        self._process = os.getpid()
        self._scanners: dict[int, _Scanning] = {}

    def plain_ids(self, text: str) -> list[int]:
        """What ``tokenizers`` itself gives; lone surrogates count as U+FFFD."""
        return encode_one(self._tokenizer, without_surrogates(text))

    def ids(self, text: str, leading_space: bool = False) -> list[int]:
        """Token ids of one text, or of one space and the text."""
        text = self._in_one_line(text)
        if self._rule == NONE or not text.isprintable():
            return self.plain_ids(" " + text if leading_space else text)
        if self._rule != WORDS_CJK or text.isascii():
            chunks = text.split(" ")
        else:
            chunks = _CJK_CHUNK.findall(text)
        ids: list[int] = []
        memo = self._later if leading_space else self._first
        for chunk in chunks:
            known = memo.get(chunk)
            if known is None:
                known = self.learn([chunk], memo is self._later)[0]
            if known is False:
                return self.plain_ids(" " + text if leading_space else text)
            ids += known
            memo = self._later
        return ids

    def _in_one_line(self, text: str) -> str:
        return text.translate(_SPACES) if self._breaks and not text.isprintable() else text

    def flat_ids(
        self, texts: Sequence[str], leading_space: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of all texts, one after the other: int32 [tokens], and int64 [n + 1] where each text begins."""
        if self._rule != NONE and len(texts) >= BATCH:
            scanning = self._scanning()
            with scanning.lock:
                if scanning.scanner is None:
                    from lightretriever.text.scan import Scanner  # numba loads with the first large batch

                    cjk = self._rule == WORDS_CJK
                    scanning.scanner = Scanner(self, cjk=cjk, words=self._words, alone=self._alone)
                return scanning.scanner.flat_ids(list(map(self._in_one_line, texts)), leading_space)
        if self._rule == NONE and len(texts) > 1:
            rows = self.plain_batch(texts, leading_space)
        else:
            rows = [self.ids(text, leading_space) for text in texts]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.fromiter((i for row in rows for i in row), np.int32, count=int(offsets[-1])), offsets

    def plain_batch(self, texts: Sequence[str], leading_space: bool = False) -> list[list[int]]:
        """`plain_ids` of every text, on all cores."""
        space = " " if leading_space else ""
        if os.getpid() != self._process:  # forked: the threads of tokenizers were not, and it might wait for them
            return [self.plain_ids(space + text) for text in texts]
        spaced = [space + without_surrogates(text) for text in texts]
        return [encoding.ids for encoding in encode_batch(self._tokenizer, spaced)]

    def _scanning(self) -> _Scanning:
        """This process's own: where it was forked, a thread of the other may have been in the midst of a scan."""
        process = os.getpid()
        if process not in self._scanners:
            self._scanners.setdefault(process, _Scanning())
            for other in self._scanners.keys() - {process}:
                self._scanners.pop(other, None)
        return self._scanners[process]

    def learn(self, chunks: Sequence[str], later: bool) -> list[ChunkIds]:
        """Ids of chunks that may be new: from the memo, else from ``tokenizers``, and then remembered.

        Returns:
            For each chunk its ids, or False; what is False is judged anew each time, so as not to remember long texts.
        """
        memo = self._later if later else self._first
        found = {chunk: memo[chunk] for chunk in chunks if chunk in memo}
        safe = [chunk for chunk in dict.fromkeys(chunks) if chunk not in found and self._is_safe(chunk)]
        spaced = later and self._rule == SPACED
        if len(safe) == 1:
            rows = [self.plain_ids(" " + safe[0] if spaced else safe[0])]
        else:
            rows = self.plain_batch(safe, spaced) if safe else []
        if len(memo) > MEMO_LIMIT:
            for chunk in [chunk for chunk in memo if chunk]:
                memo.pop(chunk, None)
        for chunk, row in zip(safe, rows, strict=True):
            found[chunk] = memo[chunk] = tuple(row)
        return [found.get(chunk, False) for chunk in chunks]

    def _is_safe(self, chunk: str) -> bool:
        """Whether a chunk's ids are the same in every text."""
        if not chunk.isprintable() or " " in chunk or len(chunk) > LONGEST_CHUNK:
            return False
        if self._added is not None and self._added.search(_folded(chunk)):
            return False
        if chunk.isascii():
            return True
        # A combining mark would join what stands before it; some characters decompose to white space.
        return not unicodedata.category(chunk[0]).startswith("M") and not re.search(
            r"\s", unicodedata.normalize("NFKD", chunk)
        )


def _alone(tokenizer: Tokenizer, added: Iterable[str]) -> bytes:
    """The ASCII punctuation that is a chunk by itself, wherever it stands: BERT's pre-tokenizer sets it apart. What is
    in an added token is not: that is looked for in whole texts."""
    if not isinstance(tokenizer.pre_tokenizer, BertPreTokenizer):
        return b""
    return "".join(sorted(set(string.punctuation).difference(*map(_folded, added)))).encode()


def _folded(text: str) -> str:
    """Without case, marks and compatibility forms: an added token may be matched after normalisation."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in plain if c != "\ufffd" and unicodedata.category(c) != "Mn")
