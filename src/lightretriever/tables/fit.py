"""A token table fitted to a frozen tower, or to its vectors alone (METHOD "Beyond the authors").

The table E minimises Σ_s ‖bag(s)·E − f(s)‖² + λ‖E − E₀‖² over texts s with vectors f(s): no labels, no gradient
through the model, and with documents encoded before, no model at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from lightretriever.axes import principal_axes
from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.progress import Progress
from lightretriever.query.table import TokenTable, check_options
from lightretriever.tables.at_hand import Begin, model_rows, silent
from lightretriever.tables.bags import Bags, Tokens, make_bags, tokenise, unit_rows
from lightretriever.tables.checks import check_prediction, check_texts
from lightretriever.tables.evidence import PRIOR_CONFIDENCE, evidence_of
from lightretriever.tables.phrases import (
    add_corrections,
    add_queries,
    frequent_phrases,
    frequent_queries,
    held_out_shares,
    phrase_index,
)
from lightretriever.tables.prior import (
    Floats,
    Prior,
    check_prior,
    measure_coverage,
    prior_name,
    prior_rows,
)
from lightretriever.tables.refine import Refined, fit_general, fit_refined
from lightretriever.tables.samples import Samples, Vectors, encode_sentences, read_vectors, unique_sentences
from lightretriever.tables.strength import fit_rows, scale_bags
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import id_count, load_tokenizer, tokenizer_hash, without_limits
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder


def fit_table(
    tower: DocumentEncoder | None = None,
    texts: Iterable[str | Mapping[str, object] | Document] = (),
    vectors: Vectors | Floats | str | Path | None = None,
    prior: Prior = None,
    l2: float | None = None,
    dim: int | None = None,
    *,
    rotate: bool | Floats = False,
    tokenizer: Tokenizer | str | Path | None = None,
    dtype: str = "float32",
    prompt: str | None = None,
    max_length: int = 512,
    max_sentences: int = 20_000,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    phrases: int = 0,
    queries_log: Iterable[str] = (),
    general: bool = False,
) -> TokenTable:
    """Fit a token table on unlabelled text encoded by the tower, on documents encoded before, or on both.

    Memory beside the table, in bytes: at most 16 · d for each text, 32 for each of its distinct tokens, 4 for each of
    its tokens, and 10 KiB for each token of the vocabulary that occurs, whatever d.

    Args:
        tower: the frozen document tower; may be None when ``vectors`` and ``tokenizer`` are given, and then
            neither torch nor a model is needed.
        texts: documents, passages or queries, streamed. Their distinct sentences and titles are encoded.
        vectors: documents with their vectors: a vectors folder (or its path), a pair of texts and an array [n, d] of
            any float type, or the array alone, whose rows are then those of ``texts``.
        prior: E₀, [V, d], that rows without evidence fall back to: a table, an array, "zero", or "model": each token
            through the model alone, weighted by its inverse document frequency, see `prior_rows`. None: "model" where
            that is at hand, else zero. At hand is the tower, or the model of a vectors folder, if it is on this machine
            (the hub is not asked) and its weights are below 600 MB, or its rows are kept from before. They are kept in
            the user's cache folder, see `lightretriever.tables.row_store`.
        l2: λ, against bags that are scaled so that their prediction under E₀ has unit length (under a zero
            one: their weights have): the plain formula. None: chosen by the cosine on held-out texts, then all
            are fitted; and where documents are given, their sentences refine the table, see `fit_refined`.
        dim: the first so many dimensions of the vectors only (Matryoshka towers); with ``rotate`` so many principal
            axes.
        rotate: turn vectors and table to the principal axes of the documents given with ``vectors``, or else of the
            texts, and keep the first ``dim``: for towers that were not trained to be cut. The table keeps the
            rotation, and an index made with it turns its documents. The ``rotation`` of another table, [d, D], turns to
            its axes, without a ``dim``: what is to follow a table in an index has to have the same.
        tokenizer: the one that queries are looked up with; a file or its
            folder will do; None for the tower's own, or the vectors folder's.
        dtype, max_length: of the table, see `TokenTable`.
        prompt: the instruction that sentences are encoded with; the tower's default when None.
        max_sentences: of ``texts``, at most so many sentences are encoded: an even sample, the same for the
            same text.
        cache: a folder that keeps the tower's vectors of sentences, so that a second fit, or one that was interrupted,
            encodes only what is new; None keeps nothing.
        progress: called with sentences encoded and their number, and with tokens run and theirs while the rows of the
            vocabulary are made.
        phrases: at most so many rows for sequences of tokens, see `lightretriever.tables.phrases`: first for the log's
            most frequent queries, the rest for frequent phrases of the texts.
        queries_log: queries as they were asked, repetitions and all; needs the tower.
        general: the table is to serve other corpora than the texts and documents given: see `fit_general`.

    Returns:
        The table; ``fitted`` says what it was made of: texts used and dropped, λ, coverage, held-out cosine.

    Raises:
        UsageError: neither texts nor vectors, texts without a tower, no tokenizer, an impossible ``l2``, prior or dim.
        MismatchError: vectors that do not belong to their texts, or to the tower.
        InputError: vectors that are not finite, or nothing left to fit to.
        ModelError, MissingExtraError: prior "model", which is not at hand.

    Warns of a vectors folder whose model is not at hand, so that tokens that no text holds have no row;
    of texts too few for the vocabulary, or in a language that the tokenizer or the tower does not seem to know;
    of vectors that were not of unit length; of texts for which the tower gives NaN, which are left out.
    """
    return fit_tables(
        tower,
        texts,
        [prompt],
        vectors,
        prior,
        l2,
        dim,
        rotate=rotate,
        tokenizer=tokenizer,
        dtype=dtype,
        max_length=max_length,
        max_sentences=max_sentences,
        cache=cache,
        begin=silent if progress is None else lambda _what, _unit: progress,
        phrases=phrases,
        queries_log=queries_log,
        general=general,
    )[0]


def fit_tables(
    tower: DocumentEncoder | None,
    texts: Iterable[str | Mapping[str, object] | Document],
    prompts: Sequence[str | None],
    vectors: Vectors | Floats | str | Path | None = None,
    prior: Prior = None,
    l2: float | None = None,
    dim: int | None = None,
    *,
    rotate: bool | Floats = False,
    tokenizer: Tokenizer | str | Path | None = None,
    dtype: str = "float32",
    max_length: int = 512,
    max_sentences: int = 20_000,
    cache: str | Path | None = None,
    begin: Begin = silent,
    phrases: int = 0,
    queries_log: Iterable[str] = (),
    general: bool = False,
) -> list[TokenTable]:
    """A table for each prompt, as `fit_table` makes it, from one reading of the texts and of the documents' vectors.

    What no prompt changes is done once: texts are read, chosen and made into bags, documents read with their vectors.
    What it does change is done for each: the tower's vectors of the sentences (under causal attention the prompt itself
    runs once a batch, see `lightretriever.document.prefix`), the prior, and the fit.

    Args:
        prompts: distinct, at least one; None for the tower's own.
        begin: called with the name of a step and what it counts, as it begins; gives its progress function.
        tower, texts, …: see `fit_table`.

    Raises:
        UsageError: no prompt, or one twice. Else as `fit_table`.
    """
    if not prompts or len(set(prompts)) < len(prompts):
        raise UsageError("a table belongs to one prompt: give at least one, and none twice")
    if tower is None and vectors is None:
        raise UsageError("nothing to fit to: give a tower and texts, or vectors of documents encoded before")
    if l2 is not None and not (np.isfinite(l2) and l2 > 0):
        raise UsageError(f"l2 is {l2}: it must be positive, or None to have it chosen")
    check_options(dtype, dim, max_length)
    check_prior(prior)
    if general and l2 is not None:
        raise UsageError("a general fit chooses its l2: leave one of the two out")
    if rotate is True and dim is None:
        raise UsageError("rotate needs a dim: how many of the principal axes to keep")
    if not isinstance(rotate, bool) and dim is not None:
        raise UsageError("axes are given, and a dim: the axes say how many dimensions there will be")
    queries = _head_queries(tower, queries_log, phrases)
    texts, vectors = _inputs(texts, vectors)
    tokenizer = _tokenizer(tower, tokenizer, vectors)
    skip_ids = tower.skip_ids if tower is not None else vectors.skip_ids if isinstance(vectors, VectorsFolder) else ()
    model, revision = _provenance(tower, vectors)
    documents = read_vectors(vectors) if vectors is not None else None
    sentences, read = unique_sentences(texts, max_sentences) if tower is not None else ([], {})
    if tower is None and next(iter(texts), None) is not None:
        raise UsageError("texts are encoded by the tower: give one, or give vectors=(texts, array) instead")
    token_limit = _token_limit(tower, vectors, tokenizer)
    bags_of = partial(make_bags, width=id_count(tokenizer), skip_ids=skip_ids)
    plain, wanted = l2 is not None, phrases - len(queries)
    known: list[str] = []
    tables = []
    for asked in prompts:
        samples = [documents] if documents is not None else []
        if tower is not None:
            show = begin("encoding for the fit", "sentences") if sentences else None
            samples.append(encode_sentences(tower, sentences, read, _prompt(tower, asked), cache, show))
        joined, targets = _join(samples, dim, rotate is not False)
        if joined != known:  # the same for every prompt, unless the tower gave NaN under one
            tokens, known = tokenise(joined, tokenizer, token_limit), joined
            bags = bags_of(tokens)
            if not len(bags.ids):
                raise InputError("nothing to fit to: no text with a token and a vector is left")
            coverage = measure_coverage(bags)
            check_texts(joined, targets, tokenizer)
            sequences = frequent_phrases(joined, tokenizer, wanted, token_limit, skip_ids) if wanted > 0 else []
            phrased_of = partial(bags_of, phrases=phrase_index(sequences, bags.width)) if sequences else bags_of
            phrased = phrased_of(tokens) if sequences else bags
        own = model_rows(prior, tower, vectors, tokenizer, asked, begin)
        alone = None if own is None else own.rows
        base = prior_rows(prior, alone, bags, targets, plain, tokenizer_hash(tokenizer))
        base = np.concatenate([base, np.zeros((len(sequences), base.shape[1]), np.float32)])
        scaled = scale_bags(phrased, base)
        if l2 is not None:
            refined = Refined(fit_rows(scaled, targets, base, l2), l2, None, None, scaled, targets)
        elif general:
            refined = fit_general(joined, targets, scaled, base, len(sequences))
        else:
            titles = documents.titles if documents is not None else ()
            further = partial(_read, tokenizer=tokenizer, max_tokens=token_limit, bags_of=phrased_of)
            refined = fit_refined(titles, joined, targets, scaled, base, further, len(sequences))
        check_prediction(refined.cosine, len(joined))
        fitted_to = tokens if refined.passages is None else tokens.joined(refined.passages)
        understood = evidence_of(fitted_to, tokenizer, skip_ids, PRIOR_CONFIDENCE if base.any() else 0.0)
        table = TokenTable.from_rows(
            refined.rows[: bags.width],
            tokenizer,
            model=model,
            revision=revision,
            prompt=_prompt(tower, asked) if own is None else own.prompt,
            skip_ids=skip_ids,
            max_length=max_length,
            evidence=understood,
            counts="sum" if tower is None else tower.counts,
            fitted={
                "objective": "ridge",
                "general": general,
                "samples": len(fitted_to),
                **{name: count for part in samples for name, count in part.counts.items()},
                "without_tokens": int((np.diff(bags.indptr) == 0).sum()),
                "passages": len(fitted_to) - len(joined),
                "prior": prior_name(prior, alone, plain),
                "l2": refined.l2,
                "held_out_cosine": refined.cosine,
                "vocabulary_covered": coverage.vocabulary,
                "occurrences_covered": coverage.occurrences,
            },
        )
        if sequences:
            shares = held_out_shares(refined.bags, refined.targets, refined.rows, refined.l2, bags.width)
            table = add_corrections(table, sequences, refined.rows, shares)
        axes_from = targets[: len(documents)] if documents else targets
        table = _turned(table, axes_from, bool(documents), rotate, dim)
        if queries and tower is not None:
            table = add_queries(table, tower, queries, cache, begin("encoding queries", "queries"))
        tables.append(table.converted(dtype))
    return tables


def _read(
    texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int, bags_of: Callable[[Tokens], Bags]
) -> tuple[Tokens, Bags]:
    """The tokens of further texts, and their bags."""
    tokens = tokenise(texts, tokenizer, max_tokens)
    return tokens, bags_of(tokens)


def _turned(table: TokenTable, vectors: Floats, documents: bool, rotate: bool | Floats, dim: int | None) -> TokenTable:
    """The table turned as is asked for; after the fit, so that one prior and one λ serve every number of axes."""
    if not isinstance(rotate, bool):
        return table.rotated(np.asarray(rotate, dtype=np.float32))
    if not rotate or dim is None:
        return table
    axes, kept = principal_axes(vectors, dim)
    turned = {"axes_of": "documents" if documents else "texts", "axes_keep": round(kept, 4)}
    return replace(table.rotated(axes), fitted={**table.fitted, **turned})


def _prompt(tower: DocumentEncoder | None, asked: str | None) -> str:
    """The instruction inside every row: what was asked for, or else the tower's own."""
    if asked is not None:
        return asked
    return "" if tower is None else tower.default_prompt


def _head_queries(tower: DocumentEncoder | None, log: Iterable[str], limit: int) -> list[str]:
    """The most frequent queries of a log, refused where nothing can be made of them."""
    if limit < 0:
        raise UsageError(f"phrases is {limit}: give how many rows there may be, 0 for none")
    queries = frequent_queries(log, limit)
    if queries and tower is None:
        raise UsageError("queries of a log are encoded by the tower: give one, or leave the log out")
    return queries


def _inputs(
    texts: Iterable[str | Mapping[str, object] | Document], vectors: Vectors | Floats | str | Path | None
) -> tuple[Iterable[str | Mapping[str, object] | Document], Vectors | None]:
    """Texts to encode, and documents with their vectors, whatever form they came in."""
    if isinstance(texts, str | Mapping | Document):
        texts = [texts]
    if isinstance(vectors, np.ndarray):
        return (), (texts, vectors)
    if isinstance(vectors, str | Path):
        return texts, VectorsFolder.open(vectors)
    if isinstance(vectors, list) and len(vectors) == 2:
        return texts, (vectors[0], vectors[1])
    if vectors is None or isinstance(vectors, VectorsFolder) or (isinstance(vectors, tuple) and len(vectors) == 2):
        return texts, vectors
    raise UsageError(f"vectors is a {type(vectors).__name__}: give a vectors folder, or texts and an array [n, d]")


def _tokenizer(
    tower: DocumentEncoder | None, tokenizer: Tokenizer | str | Path | None, vectors: Vectors | None
) -> Tokenizer:
    """A copy, without truncation and padding, of the tokenizer to make bags with."""
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    if tower is not None:
        if tokenizer is not None and tokenizer_hash(tokenizer) != tokenizer_hash(tower.tokenizer):
            raise MismatchError("the tokenizer given is not the tower's: leave tokenizer out")
        tokenizer = tower.tokenizer
    elif tokenizer is None and vectors is not None and not isinstance(vectors, tuple):
        tokenizer = vectors.tokenizer
    if tokenizer is None:
        raise UsageError(
            "without a tower a tokenizer is needed: tokenizer=load_tokenizer('tokenizer.json'), or packaged_tokenizer()"
        )
    return without_limits(tokenizer)


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


def _join(samples: list[Samples], dim: int | None, rotate: bool) -> tuple[list[str], Floats]:
    """Texts and unit targets of all samples, documents first, cut to ``dim`` dimensions unless they will be turned.

    Of equal texts the first stays.
    """
    samples = [part for part in samples if len(part)]
    if not samples:
        raise InputError("nothing to fit to: no text is left that is not empty and has a vector")
    dims = {part.vectors.shape[1] for part in samples}
    if len(dims) > 1:
        raise MismatchError(f"the tower and the vectors differ in dimension {sorted(dims)}: use vectors of this tower")
    full = dims.pop()
    if dim is not None and not 1 <= dim <= full:
        raise UsageError(f"dim is {dim}, the vectors have {full} dimensions: choose 1 to {full}")
    cut = None if rotate else dim
    place: dict[str, int] = {}
    texts = [text for part in samples for text in part.texts]
    for row, text in enumerate(texts):
        place.setdefault(text, row)
    rows = np.fromiter(place.values(), dtype=np.int64)
    return list(place), unit_rows(np.concatenate([part.vectors[:, :cut] for part in samples])[rows])


def _token_limit(tower: DocumentEncoder | None, vectors: Vectors | None, tokenizer: Tokenizer) -> int:
    """Tokens of a text that its vector has seen: the limit of the tower, or of the vectors where theirs was shorter,
    less the special tokens."""
    settings: Mapping[str, object] = {} if vectors is None or isinstance(vectors, tuple) else vectors.settings
    limits = [settings.get("max_length"), tower.max_length if tower is not None else None]
    limit = min((limit for limit in limits if isinstance(limit, int)), default=512)
    return max(1, limit - tokenizer.num_special_tokens_to_add(False))
