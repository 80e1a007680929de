"""The document tower: texts to dense vectors and, where there is an LM head, sparse ones (METHOD "Documents")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.document.backbone import Backbone, load_backbone
from lightretriever.document.batches import Budget, lanes_of, queue_batches, run_batches, windows
from lightretriever.document.device import queues, rounds_matrices, to_device, to_host
from lightretriever.document.folder import MINILM
from lightretriever.document.pooling import pool
from lightretriever.document.prefix import common_prefix, run_after, run_prefix
from lightretriever.document.rounding import round_matrices
from lightretriever.document.sparse import begin_sparse
from lightretriever.document.tokenise import make_text_tokenizer
from lightretriever.errors import UsageError
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document, as_document
from lightretriever.text.tokenizer import id_count
from lightretriever.text.values import safe_text
from lightretriever.types import Encoded, SparseVectors, concatenate_sparse, take_sparse

Rows = tuple[NDArray[np.float32], SparseVectors | None]
"""Of a batch: dense [n, d], and sparse where they are wanted."""

SPARSE = ("auto", "lm", "none")
_SHARED_TOKENS = 4  # a prefix of so many is run once for a batch, not for every text
_TOKENISE_TEXTS = 256  # at a time: the tokenizer's own record of a text is many times its ids


class DocumentEncoder:
    """A full language model that encodes documents, offline; `load` makes one.

    Attributes:
        name, revision: what tells towers apart: `minilm`, hub name or folder name; commit or hash of its files.
        source, base: what `load` was given, folders as absolute paths, so that it can be loaded again.
        dim: d, dimensions of a dense vector.
        vocab_size: V, width of a sparse vector: ids 0 … highest of the tokenizer.
        causal: whether attention is causal.
        has_sparse: whether `encode` gives sparse vectors.
        tokenizer: with its specials, without truncation and padding.
        bos_id, eos_id, pad_id: None where there is none. pad may equal eos.
        skip_ids: what a dense query leaves out: pad.
        counts: how the tokens of a sparse query count that it was trained for, see `Backbone`.
        default_prompt: what a query carries before its text.
        max_length: tokens of a text that count, specials included: what was asked for, or less where the model
            reads less (its positions, or the length its sentence-transformers folder names).
        top_k: entries kept of a sparse vector, None for all.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        max_length: int = 512,
        top_k: int | None = None,
        source: str = "",
        base: str | None = None,
    ) -> None:
        specials = backbone.specials
        self.backbone = backbone
        self.source, self.base = source, base
        self.name = backbone.folder.name
        self.dim = backbone.dim
        self.tokenizer: Tokenizer = specials.tokenizer
        self.vocab_size = id_count(specials.tokenizer)
        self.causal = backbone.causal
        self.has_sparse = backbone.head is not None
        self.bos_id, self.eos_id, self.pad_id = specials.bos_id, specials.eos_id, specials.pad_id
        self.skip_ids: tuple[int, ...] = () if specials.pad_id is None else (specials.pad_id,)
        self.counts = backbone.counts
        self.default_prompt = backbone.query_prompt
        self.max_length = min(max_length, backbone.max_length or max_length)
        self.top_k = top_k or backbone.top_k
        self._budget = Budget(backbone.device)
        self._trying = Lock()
        self._texts = make_text_tokenizer(specials.tokenizer)

    @staticmethod
    def load(
        model: str | Path,
        base: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_length: int = 512,
        sparse: str = "auto",
        top_k: int | None = None,
    ) -> DocumentEncoder:
        """Load a tower.

        Args:
            model: `minilm`, a folder or a hub name: a causal LM, an encoder, a sentence-transformers folder, a release
                of the authors, or LoRA weights for one of these; see `lightretriever.document.layout`.
            base: the base model of LoRA weights, where their adapter_config.json does not lead to it.
            device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1", …
            dtype: what the model computes in: "auto" (bfloat16 on a GPU, else float32), "float32", "bfloat16" (on a
                processor its matrices alone, see `rounding`; with AVX-512 BF16 or AMX twice as fast) or "float16".
                Vectors are pooled, normalised and given in float32.
            max_length: of a text in tokens, specials included.
            sparse: "auto" (from the LM or MLM head, or the one trained for it, where there is one), "lm" (an error
                without one) or "none".
            top_k: keep the max(top_k, 8) largest weights of a sparse vector, ties included; None for all, or for
                what a release was trained with.

        Raises:
            ModelError: no such model, weights only as a pickle, an unknown architecture, no tokenizer, LoRA weights
                without their base, a setting that is not honoured, no LM head for sparse="lm", or a device that is
                not here.
            MissingExtraError: `minilm` without its package.
            UsageError: an argument that makes no sense.

        Source: METHOD "Tokenizer", "Documents", "Released checkpoints".
        """
        if sparse not in SPARSE:
            raise UsageError(f"unknown sparse {sparse!r}: choose {', '.join(SPARSE)}")
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k is {top_k}: give a positive number, or None to keep everything")
        rounded = rounds_matrices(dtype, device)
        backbone = load_backbone(model, base, device, "float32" if rounded else dtype, sparse)
        if rounded:
            backbone = round_matrices(backbone)
        specials = len(backbone.specials.before) + len(backbone.specials.after)
        if max_length <= specials:
            raise UsageError(f"max_length is {max_length}: the model needs {specials} for its special tokens alone")
        return DocumentEncoder(
            backbone,
            max_length=max_length,
            top_k=top_k,
            source=_reference(model),
            base=None if base is None else _reference(base),
        )

    @property
    def revision(self) -> str:
        """The hub's commit hash, or ``sha256:`` and a hash over weights and settings."""
        return self.backbone.revision

    @property
    def dtype(self) -> str:
        """What the model computes in: "float32", "bfloat16" or "float16"."""
        return str(self.backbone.dtype).removeprefix("torch.")

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with specials, truncated to ``max_length`` with the specials kept."""
        before, after = self.backbone.specials.before, self.backbone.specials.after
        limit = self.max_length - len(before) - len(after)
        found: list[list[int]] = []
        for start in range(0, len(texts), _TOKENISE_TEXTS):
            part = [safe_text(text) for text in texts[start : start + _TOKENISE_TEXTS]]
            found += [[*before, *ids, *after] for ids in self._texts.ids(part, limit)]
        return found

    def encode(
        self,
        documents: str | Mapping[str, object] | Document | Iterable[str | Mapping[str, object] | Document],
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode documents; the results are in their order, and in memory: hand over a large corpus in parts.

        Args:
            documents: texts, or rows with ``text`` and perhaps ``title``, or Documents; an iterable of them is
                read in windows. One by itself counts as a list of one.
            progress: called after every batch.

        Returns:
            dense float32 [n, d], unit rows (raw ones for a sentence-transformers folder that does not normalise;
            the zero row for a text of no tokens under a tokenizer without specials); sparse [n, V] or None.

        Raises:
            InputError: something that is no document.

        Source: METHOD "Documents".
        """
        if isinstance(documents, str | Mapping | Document):
            documents = [documents]
        prompt = self.backbone.document_prompt
        texts = (prompt + as_document(document).input for document in documents)
        total = len(documents) if isinstance(documents, Sized) else None
        return self._encode(texts, total, self.has_sparse, progress)

    def encode_queries(self, texts: Iterable[str], prompt: str | None = None) -> NDArray[np.float32]:
        """The symmetric baseline: prompt and query as one string through the model, pooled like a document.

        Args:
            texts: queries.
            prompt: goes before each; None for ``default_prompt``.

        Returns:
            float32 [n, d], unit rows.

        Source: METHOD "Queries", symmetric dense query.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        start = self.default_prompt if prompt is None else prompt
        return self._encode((start + text for text in texts), len(texts), False, None).dense

    def _encode(self, texts: Iterable[str], total: int | None, sparse: bool, progress: Progress | None) -> Encoded:
        dense: list[NDArray[np.float32]] = []
        rows: list[SparseVectors] = []
        done = 0
        for tokens in self._tokenized(texts):
            vectors = np.zeros((len(tokens), self.dim), dtype=np.float32)
            parts: list[SparseVectors] = []
            order: list[int] = []
            begin = partial(self._begin_some, tokens, sparse)
            for batch, (rows_of, part) in self._batches(list(map(len, tokens)), begin):
                vectors[batch] = rows_of
                parts += [] if part is None else [part]
                order += batch
                done += len(batch)
                if progress is not None:
                    progress(done, total)
            dense.append(vectors)
            if sparse:
                rows.append(take_sparse(concatenate_sparse(parts), np.argsort(order)))
        empty = SparseVectors(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), self.vocab_size)
        return Encoded(
            dense=np.concatenate(dense) if dense else np.zeros((0, self.dim), dtype=np.float32),
            sparse=(concatenate_sparse(rows) if rows else empty) if sparse else None,
        )

    def _tokenized(self, texts: Iterable[str]) -> Iterator[list[list[int]]]:
        """Token ids window by window: of the next one while the model is at work on the one before."""
        with ThreadPoolExecutor(1, "tokenise") as pool:
            ahead = None
            for window in windows(texts):  # read in this thread: what gives them may belong to it
                coming = pool.submit(self.tokenize, window)
                if ahead is not None:
                    yield ahead.result()
                ahead = coming
            if ahead is not None:
                yield ahead.result()

    def _batches(
        self, lengths: Sequence[int], begin: Callable[[list[int]], Callable[[], Rows]]
    ) -> Iterator[tuple[list[int], Rows]]:
        if queues(self.backbone.device):
            return queue_batches(lengths, self._budget, begin)
        return run_batches(lengths, self._budget, lambda batch: begin(batch)(), self._lanes(lengths))

    def _begin_some(self, tokens: list[list[int]], sparse: bool, batch: list[int]) -> Callable[[], Rows]:
        return self._begin([tokens[i] for i in batch], sparse)

    def _lanes(self, lengths: Sequence[int]) -> int:
        lanes = lanes_of(self.backbone.device, lengths)
        return lanes if lanes > 1 and self.backbone.keeps_nothing else 1

    @torch.inference_mode()
    def _begin(self, tokens: list[list[int]], sparse: bool) -> Callable[[], Rows]:
        """One batch, begun: what gives its unit rows [n, d] and sparse rows once they are computed.

        On a GPU nothing here waits for it, but transformers does as it begins a run: it looks at the mask, or at the
        positions. By then only the batch before is in the queue, and all that follows goes on behind that look.
        """
        shared = None
        # Only queries carry a prompt, and have no sparse side, which looks at every position.
        prefix = common_prefix(tokens) if self.causal and not sparse and len(tokens) > 1 else []
        if len(prefix) >= _SHARED_TOKENS:
            with self._trying:  # whether they can be shared is found out once
                self.backbone.sharing  # noqa: B018
            shared = run_prefix(self.backbone, prefix)
        if shared is not None:
            tokens = [own[len(prefix) :] for own in tokens]
        ids, lengths = pad_ids(tokens, self.pad_id, self.backbone.device)
        if not ids.shape[1]:  # texts of no tokens, under a tokenizer that adds none
            dense = to_host(torch.zeros(len(tokens), self.dim))
            hidden = torch.zeros(len(tokens), 0, 1, device=ids.device)
        else:
            if shared is not None:
                hidden = run_after(self.backbone, shared, ids)
            else:
                hidden = self.backbone.hidden(ids, lengths)
            pooled = pool(hidden, lengths.clamp(min=1), self.backbone.pooling)[:, : self.dim]
            if self.backbone.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
            dense = to_host(pooled * (lengths > 0)[:, None])
        if not sparse or self.backbone.head is None:
            return partial(_end, dense, None)
        states = self.backbone.head_states(ids, hidden)
        counts = torch.tensor(list(map(len, tokens)))  # on the host, where nobody waits for them
        return partial(_end, dense, begin_sparse(states, counts, self.backbone.head, self.vocab_size, self.top_k))


def _end(dense: Callable[[], torch.Tensor], sparse: Callable[[], SparseVectors] | None) -> Rows:
    return dense().numpy(), None if sparse is None else sparse()


def pad_ids(
    tokens: Sequence[Sequence[int]], pad_id: int | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids int64 [n, T] and lengths int64 [n]; what is padding is told by the lengths alone."""
    lengths = torch.tensor([len(ids) for ids in tokens], dtype=torch.int64)
    ids = np.full((len(tokens), int(lengths.max())), pad_id or 0, dtype=np.int64)
    for row, own in zip(ids, tokens, strict=True):
        row[: len(own)] = own
    return to_device(torch.from_numpy(ids), device), to_device(lengths, device)


def _reference(model: str | Path) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if str(model) != MINILM and path.is_dir() else str(model)
