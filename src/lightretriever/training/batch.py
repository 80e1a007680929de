"""A batch as tensors: token ids of passages, of look-up queries, of their prompts and of full queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lightretriever.document.encoder import pad_ids
from lightretriever.document.specials import Specials
from lightretriever.document.tokenise import TextTokenizer, make_text_tokenizer
from lightretriever.errors import UsageError
from lightretriever.text.tokenizer import is_byte_level
from lightretriever.text.values import safe_text
from lightretriever.training.sampling import DrawnBatch
from lightretriever.training.text_keys import text_key


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B queries with P passages each, N = B · P; a query's positive comes first among its own.

    Attributes:
        dataset: the data set's name.
        passage_ids: int64 [N, T], with specials, padded on the right.
        passage_lengths: int64 [N]; what is padding is told by it alone.
        passage_keys: int64 [N], equal for passages that read the same but for case, white space and punctuation.
        query_tokens: int64 [sum of lengths], the dense side's: no specials, no prompt, no leading space, pad left out.
        query_offsets: int64 [B + 1], where each query begins.
        count_tokens: the sparse side's, with one leading space for byte-level BPE.
        count_offsets: int64 [B + 1].
        prompts: int64 [p] each, without specials: the distinct prompts of the batch, mostly one.
        prompt_of: int64 [B], which of them a query has.
        full_query_ids: int64 [B, Tq], prompt and query as one string, with specials, padded; None if not wanted.
        full_query_lengths: int64 [B], or None.
        ce_scores: float32 [B, P], or None unless every passage of the batch has one.
        only_hard_negatives: bool [B].
    """

    dataset: str
    passage_ids: Tensor
    passage_lengths: Tensor
    passage_keys: Tensor
    query_tokens: Tensor
    query_offsets: Tensor
    count_tokens: Tensor
    count_offsets: Tensor
    prompts: tuple[Tensor, ...]
    prompt_of: Tensor
    full_query_ids: Tensor | None
    full_query_lengths: Tensor | None
    ce_scores: Tensor | None
    only_hard_negatives: Tensor

    @property
    def queries(self) -> int:
        """B."""
        return len(self.prompt_of)

    @property
    def passages(self) -> int:
        """P."""
        return len(self.passage_lengths) // len(self.prompt_of)

    @property
    def tokens(self) -> int:
        """Tokens read by a model: of passages and full queries, and of look-up queries' own tokens; no padding."""
        full = 0 if self.full_query_lengths is None else int(self.full_query_lengths.sum())
        return int(self.passage_lengths.sum()) + len(self.query_tokens) + full

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        moved: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, non_blocking=True)
            elif isinstance(value, tuple):
                moved[field.name] = tuple(prompt.to(device, non_blocking=True) for prompt in value)
        return replace(self, **moved)  # type: ignore[arg-type]

    def pin_memory(self) -> Batch:
        """The same in page-locked memory; what a `DataLoader` calls."""
        pinned: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                pinned[field.name] = value.pin_memory()
        return replace(self, **pinned)  # type: ignore[arg-type]


class Collator:
    """Tokenises what was drawn, each side exactly as its encoder does after training.

    Args:
        specials: the tower's tokenizer with its special ids, as `DocumentEncoder` uses them.
        prompt: the model's own, for queries that bring none.
        document_prompt: before every passage; a sentence-transformers folder may have one.
        passage_max_length: tokens of a passage, specials included.
        query_max_length: tokens of a look-up query, which has no specials.
        full_queries: also make the symmetric queries.
        full_query_max_length: tokens of prompt, query and specials together; None for ``passage_max_length``, which
            is what `DocumentEncoder.encode_queries` allows.

    Raises:
        UsageError: a length that leaves no room for text.
    """

    def __init__(
        self,
        specials: Specials,
        prompt: str,
        *,
        document_prompt: str = "",
        passage_max_length: int = 512,
        query_max_length: int = 512,
        full_queries: bool = False,
        full_query_max_length: int | None = None,
    ) -> None:
        around = len(specials.before) + len(specials.after)
        self.full_query_max_length = full_query_max_length or passage_max_length
        lengths = {"passage_max_length": passage_max_length, "full_query_max_length": self.full_query_max_length}
        for name, length in lengths.items():
            if length <= around:
                raise UsageError(f"{name} is {length}: the model needs {around} for its special tokens alone")
        if query_max_length < 1:
            raise UsageError(f"query_max_length is {query_max_length}: at least 1 is needed")
        self.specials, self.prompt, self.document_prompt = specials, prompt, document_prompt
        self.passage_max_length, self.query_max_length = passage_max_length, query_max_length
        self.full_queries = full_queries
        self._texts: TextTokenizer = make_text_tokenizer(specials.tokenizer)
        self._leading_space = is_byte_level(specials.tokenizer)
        self._prompt_ids: dict[str, Tensor] = {}

    def __call__(self, drawn: DrawnBatch) -> Batch:
        """The tensors of a batch, on the CPU."""
        rows = drawn.rows
        passages = [passage for row in rows for passage in row.passages]
        texts = [self.document_prompt + passage.input for passage in passages]
        passage_ids, passage_lengths = self._padded(texts, self.passage_max_length)
        queries = [safe_text(row.query) for row in rows]
        dense = self._texts.ids(queries, self.query_max_length)
        counted = dense
        if self._leading_space:
            spaced = self._texts.ids([" " + query for query in queries], self.query_max_length)
            counted = [ids if query else [] for query, ids in zip(queries, spaced, strict=True)]
        skip = self.specials.pad_id
        query_tokens, query_offsets = flatten([[i for i in ids if i != skip] for ids in dense])
        count_tokens, count_offsets = flatten(counted)
        given = [self.prompt if row.instruction is None else row.instruction for row in rows]
        distinct = list(dict.fromkeys(given))
        full_ids = full_lengths = None
        if self.full_queries:
            whole = [prompt + query for prompt, query in zip(given, queries, strict=True)]
            full_ids, full_lengths = self._padded(whole, self.full_query_max_length)
        scores = [passage.ce_score for passage in passages]
        known = [score for score in scores if score is not None]
        return Batch(
            dataset=drawn.dataset,
            passage_ids=passage_ids,
            passage_lengths=passage_lengths,
            passage_keys=torch.tensor([text_key(p.input) for p in passages], dtype=torch.int64),
            query_tokens=query_tokens,
            query_offsets=query_offsets,
            count_tokens=count_tokens,
            count_offsets=count_offsets,
            prompts=tuple(self.prompt_ids(prompt) for prompt in distinct),
            prompt_of=torch.tensor([distinct.index(prompt) for prompt in given], dtype=torch.int64),
            full_query_ids=full_ids,
            full_query_lengths=full_lengths,
            ce_scores=torch.tensor(known).view(len(rows), -1) if len(known) == len(scores) else None,
            only_hard_negatives=torch.full((len(rows),), drawn.only_hard_negatives),
        )

    def prompt_ids(self, prompt: str) -> Tensor:
        """int64 [p]: a prompt's ids by itself, without specials, as every row of the token table carries it."""
        if prompt not in self._prompt_ids:
            ids = self.specials.tokenizer.encode(safe_text(prompt), add_special_tokens=False).ids
            self._prompt_ids[prompt] = torch.tensor(ids, dtype=torch.int64)
        return self._prompt_ids[prompt]

    def _padded(self, texts: Sequence[str], limit: int) -> tuple[Tensor, Tensor]:
        before, after = self.specials.before, self.specials.after
        found = self._texts.ids([safe_text(text) for text in texts], limit - len(before) - len(after))
        return pad_ids([[*before, *ids, *after] for ids in found], self.specials.pad_id, torch.device("cpu"))


def flatten(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids one after another, int64, and where each begins, int64 [n + 1]."""
    offsets = torch.zeros(len(rows) + 1, dtype=torch.int64)
    offsets[1:] = torch.tensor([len(ids) for ids in rows], dtype=torch.int64).cumsum(0)
    return torch.tensor([i for ids in rows for i in ids], dtype=torch.int64), offsets
