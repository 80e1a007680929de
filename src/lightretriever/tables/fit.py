"""A token table fitted to a frozen tower, or to its vectors alone (METHOD "Beyond the authors").

The table E minimises Σ_s ‖bag(s)·E − f(s)‖² + λ‖E − E₀‖² over texts s with vectors f(s): no labels, no gradient
through the model, and with documents encoded before, no model at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table import TokenTable
from lightretriever.tables.bags import Bags, make_bags
from lightretriever.tables.ridge import solve_ridge
from lightretriever.tables.samples import Progress, Samples, Vectors, encode_sentences, read_vectors, text_key
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import id_count, tokenizer_hash

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Floats = NDArray[np.float32]

# λ in units of what one more occurrence of a token adds to the diagonal of XᵀX, from strong to weak.
_STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_HELD_OUT = 2000  # texts at most, and a tenth of all at most
_WELL_COVERED = 0.97


def fit_table(
    tower: DocumentEncoder | None = None,
    texts: Iterable[str | Mapping[str, object] | Document] = (),
    vectors: Vectors | None = None,
    prior: TokenTable | Floats | str | None = None,
    l2: float | None = None,
    dim: int | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: str = "float32",
    prompt: str | None = None,
    max_length: int = 512,
    max_sentences: int = 20_000,
    progress: Progress | None = None,
) -> TokenTable:
    """Fit a token table on unlabelled text encoded by the tower, on documents encoded before, or on both.

    Memory beside the table, in bytes: 4 · d for each text, 8 for each of its distinct tokens, and
    10 KiB for each token of the vocabulary that occurs, whatever d.

    Args:
        tower: the frozen document tower; may be None when ``vectors`` and ``tokenizer`` are given, and then
            neither torch nor a model is needed.
        texts: documents, passages or queries, streamed. Their distinct sentences and titles are encoded.
        vectors: documents with their vectors: a vectors folder, or texts and an array [n, d] of any float type.
        prior: E₀, [V, d], that rows without evidence fall back to: a table, an array, or "zero". None: each token
            through the tower alone times its inverse document frequency; zero without a tower.
        l2: λ, against bags that are scaled so that their prediction under E₀ has unit length (under the zero
            prior: so that their weights have). None: chosen by the cosine on held-out texts, then all are fitted.
        dim: the first so many dimensions of the vectors only (Matryoshka towers).
        tokenizer: the one that made the vectors' tokens; the tower's own when None.
        dtype, max_length: of the table, see `TokenTable`.
        prompt: the instruction that sentences are encoded with; the tower's default when None.
        max_sentences: of ``texts``, at most so many sentences are encoded: an even sample, the same for the
            same text.
        progress: called with sentences encoded and their number.

    Returns:
        The table; ``fitted`` says what it was made of: texts used and dropped, λ, coverage, held-out cosine.

    Raises:
        UsageError: neither texts nor vectors, texts without a tower, no tokenizer, an impossible ``l2``, prior or dim.
        MismatchError: vectors that do not belong to their texts, or to the tower.
        InputError: vectors that are not finite, or nothing left to fit to.
    """
    if tower is None and vectors is None:
        raise UsageError("nothing to fit to: give a tower and texts, or vectors of documents encoded before")
    if l2 is not None and not (np.isfinite(l2) and l2 > 0):
        raise UsageError(f"l2 is {l2}: it must be positive, or None to have it chosen")
    tokenizer = _tokenizer(tower, tokenizer)
    skip_ids = () if tower is None else tower.skip_ids
    prompt = prompt if prompt is not None else "" if tower is None else tower.default_prompt

    model, revision = _provenance(tower, vectors)
    samples = [] if vectors is None else [read_vectors(vectors)]
    if tower is not None:
        samples.insert(0, encode_sentences(tower, texts, prompt, max_sentences, progress))
    elif next(iter(texts), None) is not None:
        raise UsageError("texts are encoded by the tower: give one, or give vectors=(texts, array) instead")
    counts = {name: count for part in samples for name, count in part.counts.items()}
    joined, targets = _join(samples, dim)

    bags = make_bags(joined, tokenizer, id_count(tokenizer), _token_limit(tower, vectors, tokenizer), skip_ids)
    filled = np.flatnonzero(np.diff(bags.indptr))
    bags, targets = bags.take(filled), targets[filled]
    counts["without_tokens"] = len(joined) - len(filled)
    if not len(bags):
        raise InputError("nothing to fit to: no text with a token and a vector is left")
    coverage = _coverage(bags)

    base = _prior_rows(prior, tower, prompt, bags, targets.shape[1])
    bags = bags.scaled(_scales(bags, base))
    keys = [text_key(joined[row]) for row in filled]
    rows, l2, cosine = _fit(bags, targets, base, l2, keys)
    return TokenTable.from_rows(
        rows,
        tokenizer,
        model=model,
        revision=revision,
        prompt=prompt,
        dtype=dtype,
        skip_ids=skip_ids,
        max_length=max_length,
        fitted={
            "objective": "ridge",
            "samples": len(bags),
            **counts,
            "prior": _prior_name(prior, tower),
            "l2": l2,
            "held_out_cosine": cosine,
            "vocabulary_covered": coverage.vocabulary,
            "occurrences_covered": coverage.occurrences,
        },
    )


def _tokenizer(tower: DocumentEncoder | None, tokenizer: Tokenizer | None) -> Tokenizer:
    """A copy, without truncation and padding, of the tokenizer to make bags with."""
    if tower is not None:
        if tokenizer is not None and tokenizer_hash(tokenizer) != tokenizer_hash(tower.tokenizer):
            raise MismatchError("the tokenizer given is not the tower's: leave tokenizer out")
        tokenizer = tower.tokenizer
    if tokenizer is None:
        raise UsageError("without a tower a tokenizer is needed: tokenizer=load_tokenizer('tokenizer.json')")
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _provenance(tower: DocumentEncoder | None, vectors: Vectors | None) -> tuple[str, str]:
    """Model and revision that the table stands for; refuses vectors of another model than the tower."""
    folder = None if vectors is None or isinstance(vectors, tuple) else vectors
    if tower is None:
        return ("", "") if folder is None else (folder.model, folder.revision)
    if folder is not None and folder.revision and tower.revision and folder.revision != tower.revision:
        raise MismatchError(
            f"the vectors are of {folder.model} ({folder.revision}), the tower is {tower.name} ({tower.revision}): "
            "encode the documents again, or fit without the tower"
        )
    return tower.name, tower.revision


def _join(samples: list[Samples], dim: int | None) -> tuple[list[str], Floats]:
    """Texts and unit targets of all samples, cut to ``dim`` dimensions."""
    samples = [part for part in samples if len(part)]
    if not samples:
        raise InputError("nothing to fit to: no text is left that is not empty and has a vector")
    dims = {part.vectors.shape[1] for part in samples}
    if len(dims) > 1:
        raise MismatchError(f"the tower and the vectors differ in dimension {sorted(dims)}: use vectors of this tower")
    full = dims.pop()
    if dim is not None and not 1 <= dim <= full:
        raise UsageError(f"dim is {dim}, the vectors have {full} dimensions: choose 1 to {full}")
    targets = np.concatenate([part.vectors[:, :dim] for part in samples])
    if dim is not None:
        targets /= np.maximum(np.linalg.norm(targets, axis=1, keepdims=True), np.float32(1e-12))
    return [text for part in samples for text in part.texts], targets


def _token_limit(tower: DocumentEncoder | None, vectors: Vectors | None, tokenizer: Tokenizer) -> int:
    """Tokens of a text that its vector has seen: the tower's limit less the special tokens."""
    settings: Mapping[str, object] = {} if vectors is None or isinstance(vectors, tuple) else vectors.settings
    limit = tower.max_length if tower is not None else settings.get("max_length")
    return max(1, (limit if isinstance(limit, int) else 512) - tokenizer.num_special_tokens_to_add(False))


@dataclass(frozen=True, slots=True)
class _Coverage:
    vocabulary: float
    occurrences: float


def _coverage(bags: Bags) -> _Coverage:
    """Shares of the vocabulary that occurs, and of new text's tokens expected to (Good–Turing); warns if low.

    I. J. Good, "The population frequencies of species and the estimation of population parameters", 1953: the
    chance that the next observation is of an unseen species is the number of species seen once over all observations.
    """
    frequency = bags.document_frequency()
    seen = int((frequency > 0).sum())
    occurrences = 1.0 - float((frequency == 1).sum() / max(frequency.sum(), 1))
    if occurrences < _WELL_COVERED:
        warnings.warn(
            f"{len(bags)} texts are few for this vocabulary: they hold {seen} of its {bags.width} tokens "
            f"({seen / bags.width:.0%}), and about {1 - occurrences:.0%} of the tokens of further text like it "
            "will have the prior's row only; give more text",
            stacklevel=3,
        )
    return _Coverage(round(seen / bags.width, 4), round(occurrences, 4))


def _prior_name(prior: TokenTable | Floats | str | None, tower: DocumentEncoder | None) -> str:
    if prior is None:
        return "zero" if tower is None else "token alone, times idf"
    return prior if isinstance(prior, str) else f"table {prior.hash}" if isinstance(prior, TokenTable) else "array"


def _prior_rows(
    prior: TokenTable | Floats | str | None, tower: DocumentEncoder | None, prompt: str, bags: Bags, dim: int
) -> Floats:
    """E₀, float32 [V, dim]."""
    if isinstance(prior, str) and prior != "zero":
        raise UsageError(f"prior is {prior!r}: give a table, an array, 'zero', or None")
    if prior is None and tower is not None:
        from lightretriever.tables.cache import token_rows  # torch, only where a tower is at hand

        alone = token_rows(tower, prompt)[: bags.width, :dim]
        idf = np.log((len(bags) + 1.0) / (bags.document_frequency() + 0.5)).clip(min=0.0)
        return alone * idf[:, None].astype(np.float32)
    if prior is None or isinstance(prior, str):
        return np.zeros((bags.width, dim), dtype=np.float32)
    rows = np.array(prior[:], dtype=np.float32)
    if rows.ndim != 2 or len(rows) < bags.width or rows.shape[1] < dim:
        raise MismatchError(
            f"the prior has shape {rows.shape}, the fit needs [{bags.width}, {dim}]: use one of this tower"
        )
    if not np.isfinite(rows).all():
        raise InputError("the prior is not finite: make it again")
    return np.ascontiguousarray(rows[: bags.width, :dim])


def _scales(bags: Bags, base: Floats) -> Floats:
    """Factors that bring each bag's prediction under ``base`` to unit length; its own weights where that is zero."""
    own = np.sqrt(np.add.reduceat(bags.weights**2, bags.indptr[:-1]))
    predicted = np.empty(len(bags), dtype=np.float32)
    for first in range(0, len(bags), 4096):
        rows = np.arange(first, min(first + 4096, len(bags)))
        predicted[rows] = np.linalg.norm(bags.take(rows).multiply(base), axis=1)
    return (1.0 / np.where(predicted > 0, predicted, own)).astype(np.float32)


def _fit(
    bags: Bags, targets: Floats, base: Floats, l2: float | None, keys: list[bytes]
) -> tuple[Floats, float, float | None]:
    """The table fitted to all texts, λ, and the mean cosine on held-out texts where λ was chosen by it."""
    used = np.unique(bags.ids)  # only these rows can move; the rest of the table stays out of the work
    new_ids = np.zeros(bags.width, dtype=np.int32)
    new_ids[used] = np.arange(len(used), dtype=np.int32)
    compact, prior = bags.relabelled(new_ids, len(used)), np.ascontiguousarray(base[used])
    start: Floats | None = None
    cosine: float | None = None
    if l2 is None:
        l2, start, cosine = _choose_l2(compact, targets, prior, keys)
    rows = base.copy()
    rows[used] = solve_ridge(compact, targets, prior, l2, start)
    return rows, float(l2), cosine


def _choose_l2(
    bags: Bags, targets: Floats, prior: Floats, keys: list[bytes]
) -> tuple[float, Floats | None, float | None]:
    """λ by the mean cosine on held-out texts, from strong to weak while it rises; the table it gave; the cosine."""
    unit = float(np.mean(bags.weights**2))
    order = np.argsort(np.array(keys, dtype="S16"), kind="stable")
    held = order[: min(_HELD_OUT, len(order) // 10)]
    if not len(held):
        return unit, None, None
    kept = np.sort(order[len(held) :])
    train, train_targets = bags.take(kept), targets[kept]
    test, test_targets = bags.take(held), targets[held]
    best: tuple[float, Floats | None, float] = (unit * _STRENGTHS[0], None, -np.inf)
    table: Floats | None = None
    for strength in _STRENGTHS:
        table = solve_ridge(train, train_targets, prior, unit * strength, table, iterations=15, tolerance=1e-2)
        predicted = test.multiply(table)
        lengths = np.maximum(np.linalg.norm(predicted, axis=1), 1e-12)
        cosine = float(np.mean(np.einsum("nd,nd->n", predicted, test_targets) / lengths))
        if cosine <= best[2]:
            break
        best = (unit * strength, table, cosine)
    return best[0], best[1], round(best[2], 4)
