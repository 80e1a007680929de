"""A token table fitted to a frozen tower, or to its vectors alone (METHOD "Beyond the authors").

The table E minimises Σ_s ‖bag(s)·E − f(s)‖² + λ‖E − E₀‖² over texts s with vectors f(s): no labels, no gradient
through the model, and with documents encoded before, no model at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from lightretriever.axes import principal_axes
from lightretriever.errors import InputError, UsageError
from lightretriever.progress import Progress
from lightretriever.query.phrases import PhraseTable
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, model_rows, silent
from lightretriever.tables.bags import Bags, Tokens, make_bags, tokenise
from lightretriever.tables.checks import check_prediction, check_texts
from lightretriever.tables.evidence import PRIOR_CONFIDENCE, evidence_of
from lightretriever.tables.given import Given, GivenVectors, Texts, join, read_given
from lightretriever.tables.listwise import fit_lists
from lightretriever.tables.options import FitOptions
from lightretriever.tables.phrases import (
    add_corrections,
    add_queries,
    frequent_phrases,
    frequent_queries,
    held_out_shares,
    phrase_index,
)
from lightretriever.tables.prior import Coverage, Floats, Prior, check_prior, measure_coverage, prior_name, prior_rows
from lightretriever.tables.refine import Refined, fit_general, fit_refined
from lightretriever.tables.row_store import ModelRows
from lightretriever.tables.samples import Samples
from lightretriever.tables.strength import Chosen, fit_rows, scale_bags
from lightretriever.text.tokenizer import id_count, tokenizer_hash

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder


def fit_table(
    tower: DocumentEncoder | None = None,
    texts: Texts = (),
    vectors: GivenVectors = None,
    prior: Prior = None,
    l2: float | None = None,
    dim: int | None = None,
    *,
    options: FitOptions | None = None,
    tokenizer: Tokenizer | str | Path | None = None,
    prompt: str | None = None,
    cache: str | Path | None = None,
    queries_log: Iterable[str] = (),
    progress: Progress | None = None,
) -> TokenTable:
    """Fit a token table on unlabelled text encoded by the tower, on documents encoded before, or on both.

    Memory beside the table, in bytes: at most 16 · d for each text, 512 where there are documents, 32 for each of its
    distinct tokens, 4 for each of its tokens, and 10 KiB for each token of the vocabulary that occurs, whatever d.

    Args:
        tower: the frozen document tower; may be None when ``vectors`` and ``tokenizer`` are given, and then
            neither torch nor a model is needed.
        texts: documents, passages or queries, streamed. Their distinct sentences and titles are encoded.
        vectors: documents with their vectors: a vectors folder (or its path), a pair of texts and an array [n, d] of
            any float type, or the array alone, whose rows are then those of ``texts``.
        prior: E₀, [V, d], that rows without evidence fall back to: a table, an array, "zero", or "model": what each
            token adds to texts made of the vocabulary, see `general_rows`. None: "model" where that is at hand, else
            zero. At hand is the tower, or the model of a vectors folder, if it is on this machine
            (the hub is not asked) and its weights are below 600 MB, or its rows are kept from before. They are kept in
            the user's cache folder, see `lightretriever.tables.row_store`.
        l2, dim: in place of those of ``options``.
        options: how it is fitted; the defaults when None.
        tokenizer: the one that queries are looked up with; a file or its
            folder will do; None for the tower's own, or the vectors folder's.
        prompt: the instruction that sentences are encoded with; the tower's default when None.
        cache: a folder that keeps the tower's vectors of sentences, so that a second fit, or one that was interrupted,
            encodes only what is new; None keeps nothing.
        queries_log: queries as they were asked, repetitions and all, of which the most frequent get rows of their own
            as far as ``options.phrases`` reaches; needs the tower.
        progress: called with sentences encoded and their number, and with tokens run and theirs while the rows of the
            vocabulary are made.

    Returns:
        The table; ``fitted`` says what it was made of: texts used and dropped, λ, coverage; and how it did on texts
        held out: the cosine of its vectors and the tower's, and of the tower's own ten best documents the share that
        it finds among its ten (``held_out_overlap``), and its nDCG@10 by them (``held_out_ndcg``).

    Raises:
        UsageError: neither texts nor vectors, texts without a tower, no tokenizer, an impossible option or prior.
        MismatchError: vectors that do not belong to their texts, or to the tower.
        InputError: vectors that are not finite, or nothing left to fit to.
        ModelError, MissingExtraError: prior "model", which is not at hand.

    Warns of a vectors folder whose model is not at hand, so that tokens that no text holds have no row;
    of texts too few for the vocabulary, or in a language that the tokenizer or the tower does not seem to know;
    of vectors that were not of unit length; of texts for which the tower gives NaN, which are left out.
    """
    options = options or FitOptions()
    if l2 is not None or dim is not None:
        options = replace(options, l2=options.l2 if l2 is None else l2, dim=options.dim if dim is None else dim)
    return fit_tables(
        tower,
        texts,
        [prompt],
        vectors,
        prior,
        options,
        tokenizer=tokenizer,
        cache=cache,
        queries_log=queries_log,
        begin=silent if progress is None else lambda _what, _unit: progress,
    )[0]


def fit_tables(
    tower: DocumentEncoder | None,
    texts: Texts,
    prompts: Sequence[str | None],
    vectors: GivenVectors = None,
    prior: Prior = None,
    options: FitOptions | None = None,
    *,
    tokenizer: Tokenizer | str | Path | None = None,
    cache: str | Path | None = None,
    queries_log: Iterable[str] = (),
    begin: Begin = silent,
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
    options = options or FitOptions()
    if not prompts or len(set(prompts)) < len(prompts):
        raise UsageError("a table belongs to one prompt: give at least one, and none twice")
    check_prior(prior)
    queries = _head_queries(tower, queries_log, options.phrases)
    given = read_given(tower, texts, vectors, tokenizer, options.max_sentences)
    words: _Words | None = None
    tables = []
    for prompt in prompts:
        samples = given.samples(prompt, cache, begin)
        joined, targets = join(samples, options.dim, cut=options.rotate is False)
        if words is None or words.texts != joined:  # the same for every prompt, unless the tower gave NaN under one
            words = _read_words(joined, given, options.phrases - len(queries))
            check_texts(joined, targets, given.tokenizer)
        own = model_rows(prior, tower, given.vectors, given.tokenizer, prompt, begin)
        table = _fit(given, samples, words, targets, prior, own, given.prompt(prompt), options)
        if queries and tower is not None:
            table = add_queries(table, tower, queries, cache, begin("encoding queries", "queries"))
        tables.append(table.converted(options.dtype))
    return tables


@dataclass(frozen=True, eq=False)
class _Words:
    """What texts are made of.

    Attributes:
        texts, tokens: of each.
        bags: of its tokens.
        phrases: those that get a row, as token ids.
        index: of them; None for none.
        phrased: bags that count them too.
        coverage: of the vocabulary by the bags.
    """

    texts: list[str]
    tokens: Tokens
    bags: Bags
    phrases: Sequence[tuple[int, ...]]
    index: PhraseTable | None
    phrased: Bags
    coverage: Coverage


def _read_words(texts: list[str], given: Given, phrases: int) -> _Words:
    """Split texts into tokens; raises InputError where none has any."""
    tokens, bags = _read_bags(texts, given, None)
    if not len(bags.ids):
        raise InputError("nothing to fit to: no text with a token and a vector is left")
    found, index, phrased = [], None, bags
    if phrases > 0:
        found = frequent_phrases(texts, given.tokenizer, phrases, given.token_limit, given.skip_ids)
    if found:
        index = phrase_index(found, bags.width)
        phrased = make_bags(tokens, bags.width, given.skip_ids, index)
    return _Words(texts, tokens, bags, found, index, phrased, measure_coverage(bags))


def _fit(
    given: Given,
    samples: Sequence[Samples],
    words: _Words,
    targets: Floats,
    prior: Prior,
    own: ModelRows | None,
    prompt: str,
    options: FitOptions,
) -> TokenTable:
    """The table of one prompt, in float32.

    Args:
        samples: what its texts and ``targets``, unit vectors [n, d], were joined of.
        own: what the model makes of each token, where that is the prior.
    """
    of_model = None if own is None else own.rows
    base = prior_rows(prior, of_model, words.bags.width, targets.shape[1], tokenizer_hash(given.tokenizer))
    base = np.concatenate([base, np.zeros((len(words.phrases), base.shape[1]), np.float32)])
    refined = _fit_rows(given, words, targets, base, options)
    rows, width = refined.rows, words.bags.width
    shares = held_out_shares(refined.bags, refined.targets, rows, refined.l2, width)
    rows[width:] *= shares[:, None]
    if refined.lists is not None:
        rows = fit_lists(rows, refined.bags, refined.lists)
    check_prediction(refined.chosen.cosine, len(words.texts))
    fitted_to = words.tokens if refined.passages is None else words.tokens.joined(refined.passages)
    table = TokenTable.from_rows(
        rows[:width],
        given.tokenizer,
        model=given.model,
        revision=given.revision,
        prompt=prompt if own is None else own.prompt,
        skip_ids=given.skip_ids,
        max_length=options.max_length,
        evidence=evidence_of(fitted_to, given.tokenizer, given.skip_ids, PRIOR_CONFIDENCE if base.any() else 0.0),
        counts="sum" if given.tower is None else given.tower.counts,
        fitted={
            "objective": "ridge",
            "general": options.general,
            "samples": len(fitted_to),
            **{name: count for part in samples for name, count in part.counts.items()},
            "without_tokens": int((np.diff(words.bags.indptr) == 0).sum()),
            "passages": len(fitted_to) - len(words.texts),
            "ranked": 0 if refined.lists is None else len(refined.lists.places),
            "prior": prior_name(prior, of_model),
            "l2": refined.l2,
            **_held_out(refined.chosen),
            "vocabulary_covered": words.coverage.vocabulary,
            "occurrences_covered": words.coverage.occurrences,
        },
    )
    if words.phrases:
        table = add_corrections(table, words.phrases, rows, shares)
    documents = len(given.documents or ())
    return _turned(table, targets[:documents] if documents else targets, bool(documents), options)


def _held_out(chosen: Chosen) -> dict[str, object]:
    """What was measured on held-out texts, for `TokenTable.fitted`."""
    kept = chosen.kept
    overlap, ndcg = (None, None) if kept is None else (kept.overlap, kept.ndcg)
    return {"held_out_cosine": chosen.cosine, "held_out_overlap": overlap, "held_out_ndcg": ndcg}


def _fit_rows(given: Given, words: _Words, targets: Floats, base: Floats, options: FitOptions) -> Refined:
    """Rows of the vocabulary, then of the phrases; ``base`` has as many."""
    scaled = scale_bags(words.phrased, base)
    if options.l2 is not None:
        rows = fit_rows(scaled, targets, base, options.l2)
        return Refined(rows, options.l2, Chosen(options.l2), scaled, targets)
    if options.general:
        return fit_general(words.texts, targets, scaled, base, len(words.phrases))
    titles = given.documents.titles if given.documents is not None else ()
    read = partial(_read_bags, given=given, index=words.index)
    return fit_refined(titles, words.texts, targets, scaled, base, read, len(words.phrases))


def _read_bags(texts: Sequence[str], given: Given, index: PhraseTable | None) -> tuple[Tokens, Bags]:
    """The tokens of texts, and their bags; with an index of phrases these are counted too."""
    tokens = tokenise(texts, given.tokenizer, given.token_limit)
    return tokens, make_bags(tokens, id_count(given.tokenizer), given.skip_ids, index)


def _turned(table: TokenTable, vectors: Floats, documents: bool, options: FitOptions) -> TokenTable:
    """The table turned as is asked for; after the fit, so that one prior and one λ serve every number of axes."""
    if not isinstance(options.rotate, bool):
        return table.rotated(np.asarray(options.rotate, dtype=np.float32))
    if not options.rotate or options.dim is None:
        return table
    axes, kept = principal_axes(vectors, options.dim)
    turned = {"axes_of": "documents" if documents else "texts", "axes_keep": round(kept, 4)}
    return replace(table.rotated(axes), fitted={**table.fitted, **turned})


def _head_queries(tower: DocumentEncoder | None, log: Iterable[str], limit: int) -> list[str]:
    """The most frequent queries of a log, refused where nothing can be made of them."""
    queries = frequent_queries(log, limit)
    if queries and tower is None:
        raise UsageError("queries of a log are encoded by the tower: give one, or leave the log out")
    return queries
