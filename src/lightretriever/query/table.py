"""The token table: one row for each token id, the whole of a query's dense encoder (METHOD "Queries").

A row is the document tower's last hidden state for ``[bos?; prompt; token; eos]``, or was fitted to stand for it.
The table belongs to one prompt, one model revision and one tokenizer, and its folder says which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.artifact import (
    map_tensor,
    save_tensors,
    sha256_bytes,
    write_json,
)
from lightretriever.errors import ArtifactError, ModelError, UsageError
from lightretriever.paths import absolute
from lightretriever.query.evidence import Evidence
from lightretriever.query.phrases import PhraseTable, build_phrases
from lightretriever.query.quantised import dequantize_rows, first_columns, quantize_rows
from lightretriever.query.table_card import model_card
from lightretriever.query.table_manifest import (
    DTYPES,
    EVIDENCE,
    MANIFEST,
    PHRASES,
    ROTATION,
    TOKENIZER,
    WEIGHTS,
    read_table_manifest,
    write_table_manifest,
)
from lightretriever.scratch import new_folder
from lightretriever.text.memo import chunk_rule
from lightretriever.text.tokenizer import id_count, is_byte_level, load_tokenizer, tokenizer_hash, without_limits

LARGEST = 1e15  # of a value in a row: the squares of a long query's sum must fit into float32


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Rows of a token table, with what they belong to. Make one with `from_rows`, `load`, `cache_table` or `fit_table`.

    Attributes:
        rows: [V, d], float32, float16 or int8; not normalised. Often a memory map.
        scales: float32 [V] for int8 rows (a row is ``rows[v] * scales[v]``), else None.
        tokenizer: the document tower's own, without truncation and padding.
        tokenizer_hash: SHA-256 of what decides its ids.
        model, revision: the document tower that the rows stand for.
        prompt: the instruction inside every row; "" for none.
        max_length: tokens of a query that count; the rest is cut.
        skip_ids: ids that a dense query leaves out (the pad token).
        leading_space: whether a sparse query is tokenised with one leading space (byte-level BPE).
        chunks: how text may be tokenised chunk by chunk; see `lightretriever.text.memo`.
        fitted: how the rows were fitted; empty for a cached table.
        phrases: rows of multi-token sequences beside those of tokens, stored alike; None for none.
        rotation: float32 [tower's d, d], orthonormal columns, where rows stand for the tower's vectors turned by it:
            document vectors are multiplied by it and normalised before they are compared. None: their first d count.
        evidence: how much the texts of the fit said of each token; None where every row is as good as any, as in a
            cached table.
        counts: how the tokens of a sparse query count: "sum", or "bow" for each distinct one once, which some releases
            were trained for.
    """

    rows: NDArray[np.generic]
    scales: NDArray[np.float32] | None
    tokenizer: Tokenizer = field(repr=False)
    tokenizer_hash: str
    model: str
    revision: str
    prompt: str
    max_length: int
    skip_ids: tuple[int, ...]
    leading_space: bool
    chunks: str
    fitted: Mapping[str, object]
    phrases: PhraseTable | None = None
    rotation: NDArray[np.float32] | None = None
    evidence: Evidence | None = None
    counts: str = "sum"

    @staticmethod
    def from_rows(
        rows: NDArray[np.floating],
        tokenizer: Tokenizer,
        *,
        model: str,
        revision: str = "",
        prompt: str = "",
        dtype: str = "float32",
        dim: int | None = None,
        skip_ids: Iterable[int] = (),
        max_length: int = 512,
        fitted: Mapping[str, object] | None = None,
        rotation: NDArray[np.float32] | None = None,
        evidence: Evidence | None = None,
        counts: str = "sum",
    ) -> TokenTable:
        """A table of the given rows.

        Args:
            rows: floating [V, d], at least one row for each token id.
            tokenizer: the tower's; its truncation and padding are cleared in a copy.
            model, revision, prompt, max_length, skip_ids, fitted, evidence, counts: see the class.
            rotation: what the rows were turned by already, with as many columns as they.
            dtype: "float32", "float16" or "int8" (symmetric, one scale a row).
            dim: keep the first ``dim`` columns only (Matryoshka towers).

        Raises:
            UsageError: too few rows, rows that are not finite, a rotation of another width, or an impossible dtype,
                dim or max_length.
        """
        tokenizer = without_limits(tokenizer)
        ids = id_count(tokenizer)
        if rows.ndim != 2 or len(rows) < ids:
            raise UsageError(f"the table has shape {rows.shape}, the tokenizer {ids} ids: a row for each is needed")
        check_options(dtype, dim, max_length, rows.shape[1])
        sound = (np.abs(rows) < LARGEST).all(axis=1)  # false for NaN too
        if not sound.all():
            raise UsageError(
                f"row {int(np.argmin(sound))} of the table is not finite, or beyond {LARGEST:g}: it is no vector"
            )
        if rotation is not None and (rotation.ndim != 2 or rotation.shape[1] != rows.shape[1]):
            raise UsageError(f"the rotation has shape {rotation.shape}, the rows {rows.shape[1]} columns: [d, columns]")
        stored, scales = quantize_rows(first_columns(rows, dim), dtype)
        return TokenTable(
            rows=stored,
            scales=scales,
            tokenizer=tokenizer,
            tokenizer_hash=tokenizer_hash(tokenizer),
            model=model,
            revision=revision,
            prompt=prompt,
            max_length=max_length,
            skip_ids=tuple(sorted(set(skip_ids))),
            leading_space=is_byte_level(tokenizer),
            chunks=chunk_rule(tokenizer),
            fitted=dict(fitted or {}),
            rotation=None if rotation is None else first_columns(rotation.astype(np.float32), dim),
            evidence=evidence,
            counts=counts,
        )

    @staticmethod
    def load(path: str | Path) -> TokenTable:
        """Open a table folder; rows stay on disk until they are touched.

        Raises:
            ArtifactError: the folder is absent, incomplete, damaged or from a newer version.
        """
        folder = absolute(path)
        noted = read_table_manifest(folder)
        dtype, shape = noted["dtype"], noted["shape"]
        rows = map_tensor(folder / WEIGHTS, "embedding.weight")
        scales = map_tensor(folder / WEIGHTS, "embedding.scale") if dtype == "int8" else None
        if (rows.dtype.name, rows.shape) != (dtype, shape):
            raise ArtifactError(f"{folder / WEIGHTS} holds {rows.dtype} {rows.shape}, {MANIFEST} says {dtype} {shape}")
        if scales is not None and (scales.dtype != np.float32 or scales.shape != shape[:1] or not _is_sound(scales)):
            raise ArtifactError(f"{folder / WEIGHTS} does not hold a finite float32 scale for each row: {_WAY_OUT}")
        rotation = None
        if noted["rotation"]:
            rotation = map_tensor(folder / ROTATION, "rotation")
            if rotation.shape != noted["rotation"] or rotation.dtype != np.float32:
                raise ArtifactError(f"{folder / ROTATION} holds {rotation.shape}, {MANIFEST} says {noted['rotation']}")
            if rotation.shape[1] != shape[1] or not _is_sound(rotation):
                raise ArtifactError(f"{folder / ROTATION} holds no rotation of the table's rows: {_WAY_OUT}")
        phrases = None
        if noted["phrases"]:
            phrases = PhraseTable.load(folder / PHRASES, noted["phrases"]["whole"], dtype, shape)
            phrases.__dict__["sha256"] = noted["phrases"]["sha256"]  # known from when it was written
        evidence = Evidence.load(folder / EVIDENCE, shape[0]) if noted["evidence"] else None
        table = TokenTable(
            rows=rows,
            scales=scales,
            tokenizer=_load_tokenizer(folder / TOKENIZER),
            phrases=phrases,
            rotation=rotation,
            evidence=evidence,
            **{name: noted[name] for name in _STORED} | {"skip_ids": tuple(noted["skip_ids"])},
        )
        table.__dict__["weights_sha256"] = noted["weights_sha256"]
        table.__dict__["_place"] = (folder, None)
        return table

    def save(self, path: str | Path) -> None:
        """Write the table folder: table.json, model.safetensors, tokenizer.json and README.md.

        A rotation goes into a file of its own: documents need it, queries do not. Float32 and float16 tables load in
        sentence-transformers and model2vec too, by two more files, and give the same vectors where a query has no
        token of ``skip_ids``, no phrase, and no unknown token (which model2vec leaves out). In float16
        sentence-transformers gives NaN for an empty query.

        Raises:
            ArtifactError: ``path`` exists.
        """
        tokenizer_json = self.tokenizer.to_str(pretty=True)
        tensors: dict[str, np.ndarray] = {"embedding.weight": self.rows}
        if self.scales is not None:
            tensors["embedding.scale"] = self.scales
        elif len(self.rows) != self.tokenizer.get_vocab_size():
            tensors["mapping"] = np.arange(len(self.rows))  # without it model2vec wants a row for each token, no more
        phrases = self.phrases
        with new_folder(path) as folder:
            save_tensors(folder / WEIGHTS, tensors)
            (folder / TOKENIZER).write_bytes(tokenizer_json.encode())
            (folder / "README.md").write_text(model_card(self), encoding="utf-8")
            if self.rotation is not None:
                save_tensors(folder / ROTATION, {"rotation": np.asarray(self.rotation)})
            if phrases is not None:
                phrases.save(folder / PHRASES)
            if self.scales is None:
                write_json(folder / "modules.json", _MODULES)
                write_json(folder / "config_sentence_transformers.json", _LAYOUT | {"max_length": self.max_length})
            if self.evidence is not None:
                self.evidence.save(folder / EVIDENCE)
            write_table_manifest(
                folder,
                {
                    "dtype": self.dtype,
                    "shape": self.rows.shape,
                    "rotation": None if self.rotation is None else self.rotation.shape,
                    "phrases": phrases and {"count": len(phrases), "whole": phrases.whole, "sha256": phrases.sha256},
                    "evidence": self.evidence is not None,
                    "weights_sha256": self.weights_sha256,
                    **{name: getattr(self, name) for name in _STORED},
                },
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, ids: int | slice | NDArray[np.integer] | list[int]) -> NDArray[np.float32]:
        """Rows as float32, whatever their stored dtype."""
        return dequantize_rows(self.rows[ids], None if self.scales is None else self.scales[ids])

    def __copy__(self) -> TokenTable:
        return self  # nothing of it changes

    def __deepcopy__(self, memo: object) -> TokenTable:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the folder it was loaded from, which is compared with it when it is unpickled; else whole."""
        if "_place" in self.__dict__:
            return _load_again, (*self.__dict__["_place"], self.hash)
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.array(part) for name, part in parts.items() if isinstance(part, np.ndarray)}
        return _put_together, (parts | arrays,)

    @property
    def dim(self) -> int:
        """d, the width of a row."""
        return int(self.rows.shape[1])

    @property
    def dtype(self) -> str:
        """How rows are stored: "float32", "float16" or "int8"."""
        return self.rows.dtype.name

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the rows as stored, and of the scales."""
        scales = b"" if self.scales is None else self.scales.tobytes()
        return sha256_bytes(np.ascontiguousarray(self.rows).tobytes() + scales)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of rows, rotation, tokenizer and settings: tables of equal hash encode and compare all equally."""
        settings = [self.prompt, self.max_length, list(self.skip_ids), self.dtype, list(self.rows.shape)]
        identity: list[object] = [self.model, self.revision, self.tokenizer_hash, self.weights_sha256, settings]
        if self.phrases is not None:
            identity.append(self.phrases.sha256)
        if self.rotation is not None:
            identity.append(sha256_bytes(np.ascontiguousarray(self.rotation).tobytes()))
        if self.evidence is not None:
            identity.append(self.evidence.sha256)
        if self.counts != "sum":
            identity.append(self.counts)
        return sha256_bytes(json.dumps(identity, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    def truncated(self, dim: int) -> TokenTable:
        """The table of the first ``dim`` columns; query vectors made from it are normalised anew.

        Raises:
            UsageError: a dim outside 1 … d.
        """
        check_options(self.dtype, dim, self.max_length, self.dim)
        if dim == self.dim:
            return self
        rotation = None if self.rotation is None else first_columns(self.rotation, dim)
        phrases = self.phrases and replace(self.phrases, rows=first_columns(self.phrases.rows, dim))
        table = replace(self, rows=first_columns(self.rows, dim), rotation=rotation, phrases=phrases)
        if "_place" in self.__dict__:
            table.__dict__["_place"] = (self.__dict__["_place"][0], dim)
        return table

    def rotated(self, rotation: NDArray[np.float32]) -> TokenTable:
        """The table turned by ``rotation`` [d, D], see the class; stored as the same dtype.

        Raises:
            UsageError: a rotation of another height than the table's width, or a table that was turned before.
        """
        if self.rotation is not None or rotation.ndim != 2 or len(rotation) != self.dim:
            turned = "and was turned before" if self.rotation is not None else "so it needs as many rows"
            raise UsageError(f"the rotation has shape {rotation.shape}, the table {self.dim} columns {turned}")
        rows, scales = quantize_rows(self[:] @ rotation, self.dtype)
        phrases = self.phrases
        if phrases is not None:
            stored = quantize_rows(dequantize_rows(phrases.rows, phrases.scales) @ rotation, self.dtype)
            phrases = replace(phrases, rows=stored[0], scales=stored[1])
        kept = np.asarray(rotation, dtype=np.float32)
        return replace(self, rows=rows, scales=scales, rotation=kept, phrases=phrases)

    def converted(self, dtype: str) -> TokenTable:
        """The same rows stored as another dtype."""
        rows, scales = quantize_rows(self[:], dtype)
        phrases = self.phrases
        if phrases is not None:
            stored = quantize_rows(dequantize_rows(phrases.rows, phrases.scales), dtype)
            phrases = replace(phrases, rows=stored[0], scales=stored[1])
        return replace(self, rows=rows, scales=scales, phrases=phrases)

    def with_phrases(
        self,
        phrases: Sequence[Sequence[int]],
        queries: Sequence[Sequence[int]],
        rows: NDArray[np.floating],
        shares: NDArray[np.float32] | None = None,
    ) -> TokenTable:
        """The table with rows for sequences of tokens in place of those it has; none at all: without any.

        Args:
            phrases: token ids of sequences of two or more, distinct; none of a skipped id.
            queries: token ids of whole queries, distinct.
            rows: floating [P, d], of the phrases and then the queries, stored in the table's own dtype.
            shares: float32 [P], see `PhraseTable`; None for 1.

        Raises:
            UsageError: not one row of width d for each, rows that are not finite, or impossible sequences.
        """
        if not len(phrases) and not len(queries):
            return replace(self, phrases=None)
        if rows.ndim != 2 or rows.shape[1] != self.dim or not (np.abs(rows) < LARGEST).all():
            raise UsageError(f"the phrases' rows have shape {rows.shape} or are not finite: [P, {self.dim}] is needed")
        shares = np.ones(len(rows), np.float32) if shares is None else shares
        stored, scales = quantize_rows(rows, self.dtype)
        return replace(self, phrases=build_phrases(phrases, queries, stored, scales, shares, len(self)))


_WAY_OUT = "make the table again"


def _load_tokenizer(file: Path) -> Tokenizer:
    try:
        return load_tokenizer(file)
    except ModelError as error:  # of a table, not of a model: it is damaged, or is being removed
        raise ArtifactError(str(error)) from None


def _load_again(folder: Path, dim: int | None, of: str) -> TokenTable:
    table = TokenTable.load(folder)
    table = table if dim is None else table.truncated(dim)
    if table.hash != of:
        raise ArtifactError(f"{folder} is another table than the one that was pickled: pickle it again")
    return table


def _put_together(parts: dict[str, Any]) -> TokenTable:
    return TokenTable(**parts)


_STORED = (
    "model",
    "revision",
    "prompt",
    "tokenizer_hash",
    "max_length",
    "skip_ids",
    "leading_space",
    "chunks",
    "counts",
    "fitted",
)

# How other libraries know the folder: sentence-transformers by both files, model2vec by the second. A prompt is in the
# rows already, so none is named.
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"},
    {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
]
_LAYOUT = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine", "normalize": True}


def check_options(dtype: str, dim: int | None, max_length: int, width: int | None = None) -> None:
    """Refuse what no table can be, before anything is computed for it.

    Args:
        dtype, dim, max_length: see `TokenTable.from_rows`.
        width: columns that there are, where that is known.

    Raises:
        UsageError: an unknown dtype, a dim outside 1 … width, a max_length below 1.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}: choose one of {', '.join(DTYPES)}")
    if dim is not None and (dim < 1 or (width is not None and dim > width)):
        raise UsageError(f"dim is {dim}: choose 1 to {'the width of the vectors' if width is None else width}")
    if max_length < 1:
        raise UsageError(f"max_length is {max_length}: a query needs at least 1 token")


def _is_sound(numbers: NDArray[np.floating]) -> bool:
    return bool((np.abs(numbers) < LARGEST).all())  # false for NaN too


def same_rotation(one: TokenTable, other: TokenTable) -> bool:
    """Whether documents turned and cut for one table are so for the other too."""
    if one.rotation is None or other.rotation is None:
        return one.rotation is other.rotation
    return np.array_equal(one.rotation, other.rotation)
