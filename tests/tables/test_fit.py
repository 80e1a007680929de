"""Tables fitted to vectors: the least-squares solution, λ, provenance, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_bags import made_bags
from made_query_towers import QueryTower
from made_tokenizers import qwen, wordpiece
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from lightretriever import QueryEncoder
from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.query.table_card import model_card
from lightretriever.tables.bags import Bags
from lightretriever.tables.fit import fit_table
from lightretriever.tables.general_rows import turn
from lightretriever.tables.options import FitOptions
from lightretriever.tables.refine import agreement
from lightretriever.tables.ridge import solve_ridge
from lightretriever.tables.samples import unique_sentences
from lightretriever.text.corpus import Document
from lightretriever.text.sentences import split_sentences
from lightretriever.text.tokenizer import encode_batch, id_count, tokenizer_hash
from lightretriever.types import Encoded
from lightretriever.vectors.folder import VectorsFolder, VectorsWriter

WORDS = "tall mount everest highest mountain world who invented light bulb read csv file thread slow use".split()
WIDTH = id_count(wordpiece())


def made_texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 9))) + f" {row}" for row in range(count)]


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made_vectors(texts: Sequence[str], dim: int = 24) -> NDArray[np.float32]:
    """Vectors that a table can express exactly: unit means of rows drawn once."""
    rows = np.random.default_rng(1).normal(size=(WIDTH, dim)).astype(np.float32)
    return unit(made_bags(texts, wordpiece(), WIDTH, 510).multiply(rows))


def predicted(table: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
    return unit(made_bags(texts, wordpiece(), WIDTH, 510).multiply(table))


def dense(bags: Bags) -> NDArray[np.float64]:
    matrix = np.zeros((len(bags), bags.width))
    rows = np.repeat(np.arange(len(bags)), np.diff(bags.indptr))
    matrix[rows, bags.ids] = bags.weights
    return matrix


@pytest.mark.parametrize("dim", [1, 5, 600])
def test_solver_finds_the_ridge_solution(dim: int) -> None:
    random = np.random.default_rng(2)
    bags = made_bags(made_texts(60), wordpiece(), WIDTH, 510)
    targets, prior = random.normal(size=(60, dim)), random.normal(size=(WIDTH, dim)).astype(np.float32)
    x, l2 = dense(bags), 0.01
    exact = prior + np.linalg.solve(x.T @ x + l2 * np.eye(WIDTH), x.T @ (targets - x @ prior))
    for start in (None, np.zeros_like(prior)):
        table = solve_ridge(bags, targets, prior, l2, start, iterations=200, tolerance=1e-7)
        np.testing.assert_allclose(table, exact, atol=2e-4)


def test_bags_are_what_a_query_averages() -> None:
    skipped = wordpiece().token_to_id("[PAD]")
    texts = ["everest everest tall", "", "[PAD] tall"]
    bags = made_bags(texts, wordpiece(), WIDTH, 510, skip_ids=[skipped])
    for row, text in enumerate(texts):
        ids = [i for i in wordpiece().encode(text, add_special_tokens=False).ids if i != skipped]
        expected = np.bincount(ids, minlength=WIDTH) / max(len(ids), 1)
        np.testing.assert_allclose(dense(bags)[row], expected, atol=1e-7)
    assert len(made_bags(["tall " * 50], wordpiece(), WIDTH, 10).ids) == len(
        made_bags(["tall"], wordpiece(), WIDTH, 10).ids
    )


def test_given_l2_matches_the_formula_with_bags_scaled_under_the_prior() -> None:
    texts = made_texts(200)
    vectors = made_vectors(texts)
    prior = np.random.default_rng(3).normal(size=(WIDTH, 24)).astype(np.float32)
    bags = made_bags(texts, wordpiece(), WIDTH, 510)
    x = dense(bags.scaled(1 / np.linalg.norm(bags.multiply(prior), axis=1)))
    exact = prior + np.linalg.solve(x.T @ x + 0.05 * np.eye(WIDTH), x.T @ (vectors - x @ prior))
    table = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), prior=prior, l2=0.05)
    np.testing.assert_allclose(table[:], exact, atol=3e-3)  # 30 iterations
    assert table.fitted["l2"] == 0.05
    assert (table.fitted["held_out_cosine"], table.fitted["held_out_overlap"]) == (None, None)
    assert "held out" not in model_card(table)


def test_vectors_alone_give_a_table_for_unseen_texts() -> None:
    texts = made_texts(800)
    vectors = made_vectors(texts)
    table = fit_table(vectors=(texts, vectors.astype(np.float16)), tokenizer=wordpiece())
    new = made_texts(50, seed=9)
    assert np.einsum("nd,nd->n", predicted(table[:], new), made_vectors(new)).mean() > 0.97
    assert 0.95 < table.fitted["held_out_cosine"] <= 1  # type: ignore[operator]
    assert 0.5 < table.fitted["held_out_overlap"] <= 1  # type: ignore[operator]
    assert 0.5 < table.fitted["held_out_ndcg"] <= 1  # type: ignore[operator]
    assert f"finds {table.fitted['held_out_overlap']:.0%} of the ten" in model_card(table)
    assert table.fitted["documents_used"] == 800
    again = fit_table(vectors=(texts, vectors.astype(np.float16)), tokenizer=wordpiece())
    assert again.hash == table.hash


def test_first_dimensions_and_storage() -> None:
    texts = made_texts(300)
    table = fit_table(
        vectors=(texts, made_vectors(texts)), tokenizer=wordpiece(), options=FitOptions(dim=8, dtype="int8")
    )
    assert (table.dim, table.dtype) == (8, "int8")
    cut = unit(made_vectors(texts)[:, :8])
    assert np.einsum("nd,nd->n", predicted(table[:], texts), cut).mean() > 0.8


def test_duplicates_and_empty_texts_are_counted_and_leave_no_trace() -> None:
    texts = made_texts(300)
    vectors = made_vectors(texts)
    clean = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=0.1)
    more = [*texts, texts[0], " ", ""]
    table = fit_table(vectors=(more, np.vstack([vectors, vectors[:3]])), tokenizer=wordpiece(), l2=0.1)
    np.testing.assert_allclose(table[:], clean[:], atol=1e-3)
    assert (table.fitted["documents_read"], table.fitted["documents_used"]) == (303, 300)
    assert table.fitted["documents_empty"] == 2


def test_vectors_of_other_lengths_are_normalised_and_said() -> None:
    texts = made_texts(300)
    vectors = made_vectors(texts)
    clean = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=0.1)
    with pytest.warns(UserWarning, match="300 of 300 vectors were not of unit length"):
        table = fit_table(vectors=(texts, vectors * 7), tokenizer=wordpiece(), l2=0.1)
    np.testing.assert_allclose(table[:], clean[:], atol=1e-3)


def test_few_texts_warn_with_the_coverage() -> None:
    texts = ["tall mount everest", "who invented the bulb", "read a csv file", "use one thread"]
    with pytest.warns(UserWarning, match=r"4 texts are few .* of its \d+ tokens \(\d+%\)"):
        table = fit_table(vectors=(texts, made_vectors(texts)), tokenizer=wordpiece())
    assert np.isfinite(table[:]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        many = made_texts(2000)
        fit_table(
            vectors=([text.rsplit(" ", 1)[0] for text in many], made_vectors(many)), tokenizer=wordpiece(), l2=1.0
        )


def test_what_cannot_be_fitted_is_refused() -> None:
    texts = made_texts(20)
    vectors = made_vectors(texts)
    broken = vectors.copy()
    broken[7, 3] = np.nan
    tokenizer = wordpiece()
    with pytest.raises(InputError, match=r"vector 7 \(text 7\) is not finite"):
        fit_table(vectors=(texts, broken), tokenizer=tokenizer)
    with pytest.raises(MismatchError, match="20 texts, 19 vectors"):
        fit_table(vectors=(texts, vectors[1:]), tokenizer=tokenizer)
    with pytest.raises(InputError, match="shape"):
        fit_table(vectors=(texts, vectors[0]), tokenizer=tokenizer)
    with pytest.raises(InputError, match="nothing to fit to"):
        fit_table(vectors=(["", " "], vectors[:2]), tokenizer=tokenizer)
    with pytest.raises(UsageError, match="give a tower and texts"):
        fit_table(tokenizer=tokenizer)
    with pytest.raises(UsageError, match="tokenizer"):
        fit_table(vectors=(texts, vectors))
    with pytest.raises(UsageError, match="tower"):
        fit_table(texts=texts, vectors=(texts, vectors), tokenizer=tokenizer)
    for l2 in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="l2"):
            fit_table(vectors=(texts, vectors), tokenizer=tokenizer, l2=l2)
    with pytest.raises(UsageError, match="dim is 25"):
        fit_table(vectors=(texts, vectors), tokenizer=tokenizer, dim=25)
    with pytest.raises(UsageError, match="prior"):
        fit_table(vectors=(texts, vectors), tokenizer=tokenizer, prior="raw")
    with pytest.raises(MismatchError, match="prior"):
        fit_table(vectors=(texts, vectors), tokenizer=tokenizer, prior=np.zeros((3, 24), np.float32))


def test_sentences_are_distinct_and_their_choice_does_not_depend_on_order() -> None:
    texts = [f"Sentence {row} stands here. It is followed by another." for row in range(500)]
    chosen, counts = unique_sentences([*texts, texts[0], ""], limit=40)
    assert len(set(chosen)) == 40
    assert counts == {"texts_read": 502, "texts_empty": 1, "sentences": 501, "sentences_used": 40}
    assert unique_sentences(texts[::-1], limit=40)[0] == chosen


@dataclass
class MadeTower(QueryTower):
    """Answers by rows drawn once; counts the texts it encodes."""

    encoded: int = 0
    fails_after: int = 10**9

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        assert prompt == ""
        if self.encoded + len(texts) > self.fails_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        return made_vectors(texts, self.dim)


def test_vectors_come_in_any_form(tmp_path: Path) -> None:
    texts = made_texts(200)
    vectors = made_vectors(texts)
    tokenizer = wordpiece()
    expected = fit_table(vectors=(texts, vectors), tokenizer=tokenizer)[:]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    forms = [
        fit_table(None, texts, vectors=vectors, tokenizer=tokenizer),
        fit_table(None, [{"text": text} for text in texts], vectors, tokenizer=tokenizer),
        fit_table(vectors=[texts, vectors], tokenizer=tmp_path),  # type: ignore[arg-type]
        fit_table(vectors=([Document("", text) for text in texts], vectors), tokenizer=tmp_path / "tokenizer.json"),
    ]
    for table in forms:
        np.testing.assert_array_equal(table[:], expected)
    with pytest.raises(UsageError, match="vectors is a dict"):
        fit_table(vectors={}, tokenizer=tokenizer)  # type: ignore[arg-type]


def test_what_no_table_can_be_is_refused_before_anything_is_encoded() -> None:
    for options, message in (({"dtype": "int4"}, "dtype"), ({"dim": 0}, "dim"), ({"max_length": 0}, "max_length")):
        with pytest.raises(UsageError, match=message):
            FitOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="general fit chooses its l2"):
        FitOptions(l2=0.1, general=True)
    tower = MadeTower()
    with pytest.raises(UsageError, match="dim is 0"):
        fit_table(tower, made_texts(50), dim=0)  # type: ignore[arg-type]
    assert tower.encoded == 0


def test_a_vectors_folder_brings_its_tokenizer(tmp_path: Path) -> None:
    texts = made_texts(300)
    vectors = made_vectors(texts)
    settings = {"max_length": 512, "top_k": None, "skip_ids": [0]}
    for name, tokenizer in (("with", wordpiece()), ("without", None)):
        writer = VectorsWriter.open(
            tmp_path / name,
            model="made",
            revision="1",
            dim=24,
            settings=settings,
            width=None,
            dtype="float32",
            tokenizer=tokenizer,
        )
        writer.append([Document(str(i), text) for i, text in enumerate(texts)], Encoded(vectors))
        writer.finish()
    table = fit_table(vectors=VectorsFolder.open(tmp_path / "with"))
    assert (table.model, table.revision, table.skip_ids) == ("made", "1", (0,))
    assert table.tokenizer_hash == tokenizer_hash(wordpiece())
    with pytest.raises(UsageError, match="without a tower a tokenizer is needed"):
        fit_table(vectors=VectorsFolder.open(tmp_path / "without"))


def test_texts_through_the_tower_and_vectors_together() -> None:
    texts, documents = made_texts(400), made_texts(200, seed=4)
    seen: list[tuple[int, int | None]] = []
    table = fit_table(
        MadeTower(),  # type: ignore[arg-type]
        [{"title": "Mount Everest", "text": text} for text in texts],
        vectors=(documents, made_vectors(documents)),
        prior="zero",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (table.model, table.revision, table.fitted["prior"]) == ("made", "1", "zero")
    assert (table.fitted["sentences_used"], table.fitted["documents_used"]) == (401, 200)
    assert seen == [(0, 401), (401, 401)]
    new = made_texts(50, seed=9)
    assert np.einsum("nd,nd->n", predicted(table[:], new), made_vectors(new)).mean() > 0.9
    with pytest.raises(MismatchError, match=r"differ in dimension \[9, 24\]"):
        fit_table(MadeTower(), texts, vectors=(documents, made_vectors(documents, 9)), prior="zero")  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="not the tower's"):
        fit_table(MadeTower(), texts, tokenizer=qwen(), prior="zero")  # type: ignore[arg-type]


def test_an_interrupted_fit_resumes_and_a_second_one_encodes_nothing(tmp_path: Path) -> None:
    texts = made_texts(3000)
    interrupted = MadeTower(fails_after=2500)
    with pytest.raises(KeyboardInterrupt):
        fit_table(interrupted, texts, prior="zero", cache=tmp_path)  # type: ignore[arg-type]
    assert interrupted.encoded == 2048
    resumed, again = MadeTower(), MadeTower()
    first = fit_table(resumed, texts, prior="zero", l2=0.5, cache=tmp_path)  # type: ignore[arg-type]
    second = fit_table(again, texts[::-1], prior="zero", l2=0.5, cache=tmp_path)  # type: ignore[arg-type]
    assert (resumed.encoded, again.encoded) == (952, 0)
    np.testing.assert_allclose(first[:], second[:], atol=1e-3)
    other = MadeTower(revision="2")
    fit_table(other, texts, prior="zero", l2=0.5, cache=tmp_path)  # type: ignore[arg-type]
    assert other.encoded == 3000


def test_a_prior_is_turned_so_that_texts_are_predicted() -> None:
    random = np.random.default_rng(8)
    texts = made_texts(500)
    rows = random.normal(size=(WIDTH, 24)).astype(np.float32)
    rotation = np.linalg.qr(random.normal(size=(24, 24)))[0].astype(np.float32)
    bags = made_bags(texts, wordpiece(), WIDTH, 510)
    targets = predicted(rows @ rotation, texts)
    np.testing.assert_allclose(unit(turn(rows, bags, targets)), unit(rows @ rotation), atol=0.05)
    few = turn(rows, bags.take(np.arange(3)), targets[:3])  # fewer texts than dimensions
    assert np.isfinite(few).all()


def test_a_prior_turned_to_few_texts_keeps_what_they_say_nothing_about() -> None:
    random = np.random.default_rng(18)
    texts = made_texts(4)
    rows = random.normal(size=(WIDTH, 64)).astype(np.float32)
    bags = made_bags(texts, wordpiece(), WIDTH, 510)
    targets = unit(predicted(rows, texts) + 0.05 * random.normal(size=(4, 64)))
    unseen = np.flatnonzero(bags.document_frequency() == 0)
    turned = turn(rows, bags, targets)[unseen]
    assert np.einsum("nd,nd->n", unit(turned), unit(rows[unseen])).min() > 0.8
    assert 0.5 < np.linalg.norm(turned) / np.linalg.norm(rows[unseen]) < 1.5


def test_agreement_is_full_for_the_nearest_document_and_falls_with_distance() -> None:
    documents = unit(np.random.default_rng(5).normal(size=(50, 24)))
    rows = np.arange(50)
    np.testing.assert_allclose(agreement(documents, rows, documents), 1, atol=1e-4)
    wrong = agreement(documents, np.roll(rows, 1), documents)
    scores = np.einsum("nd,nd->n", documents, documents[np.roll(rows, 1)])
    np.testing.assert_allclose(wrong, np.exp((scores - 1) / 0.05), rtol=1e-3, atol=1e-6)


def test_sentences_of_documents_draw_queries_towards_them() -> None:
    random = np.random.default_rng(6)
    words = sorted(token for token in wordpiece().get_vocab() if token.isalpha() and len(token) > 1)
    texts = [". ".join(" ".join(random.choice(words, 4)) for _ in range(3)) for _ in range(400)]
    # What the tower sees in a document beyond its tokens, which a table fitted to documents alone must guess.
    vectors = unit(made_vectors(texts) + 0.1 * random.normal(size=(400, 24)))
    table = fit_table(vectors=(texts, vectors), tokenizer=wordpiece())
    plain = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=table.fitted["l2"])  # type: ignore[arg-type]
    assert table.fitted["passages"] == len({sentence for text in texts for sentence in split_sentences(text)})
    assert (table.fitted["ranked"], plain.fitted["ranked"]) == (table.fitted["samples"], 0)
    queries = [text.split(". ")[1] for text in texts]

    def own_score(rows: NDArray[np.float32]) -> float:
        return float(np.einsum("nd,nd->n", predicted(rows, queries), vectors).mean())

    assert own_score(table[:]) > own_score(plain[:]) + 0.01


@pytest.mark.parametrize("phrases", [0, 5])
def test_every_text_is_tokenised_once(phrases: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{one}. {other}." for one, other in pairwise(made_texts(40))]
    vectors = made_vectors(texts)
    seen = Counter[str]()

    def count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
        seen.update(texts)
        return encode_batch(tokenizer, texts)

    for name, module in list(sys.modules.items()):  # but for the sample that warnings are made of
        if (
            name.startswith("lightretriever.tables.")
            and not name.endswith(".checks")
            and hasattr(module, "encode_batch")
        ):
            monkeypatch.setattr(module, "encode_batch", count)
    table = fit_table(
        vectors=(texts, vectors), tokenizer=wordpiece(), prior="zero", options=FitOptions(phrases=phrases)
    )
    assert set(seen.values()) == {1}
    assert seen.keys() == {*texts, *(sentence for text in texts for sentence in split_sentences(text))}
    assert table.evidence is not None
    assert len(seen) == table.evidence.texts == table.fitted["samples"]


def test_a_general_fit_is_the_plain_formula_with_a_strength_chosen_by_the_cosine() -> None:
    texts = [". ".join(pair) for pair in zip(made_texts(300), made_texts(300, seed=1), strict=True)]
    vectors = unit(made_vectors(texts) + 0.2 * np.random.default_rng(7).normal(size=(300, 24)))
    given = (texts, vectors)
    own = fit_table(vectors=given, tokenizer=wordpiece())
    general = fit_table(vectors=given, tokenizer=wordpiece(), options=FitOptions(general=True))
    assert general.fitted["passages"] == 0 < own.fitted["passages"]  # type: ignore[operator]
    # The other fit chooses its λ by the ranking of the same texts, and then relaxes it to 0.4 of that.
    l2 = float(general.fitted["l2"])  # type: ignore[arg-type]
    assert l2 < float(own.fitted["l2"]) * 3 / 0.4  # type: ignore[arg-type]
    assert general.fitted["held_out_cosine"] > own.fitted["held_out_cosine"]  # type: ignore[operator]
    plain = fit_table(vectors=given, tokenizer=wordpiece(), l2=l2)
    np.testing.assert_allclose(general[:], plain[:], atol=1e-3)


def test_a_fit_from_vectors_imports_no_torch() -> None:
    script = (
        "import sys; from lightretriever import fit_table\n"
        "import lightretriever.tables.fit\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_words_that_no_text_holds_are_not_understood() -> None:
    texts = made_texts(300)
    table = fit_table(vectors=(texts, made_vectors(texts)), tokenizer=wordpiece())
    trust = QueryEncoder(table).encode(["tall mountain", "tall kestrel", "kestrel zq", "世 tall"]).trust
    assert trust is not None
    assert trust[0] > 0.9 > trust[1] > trust[2]
    assert trust[3] < 0.9, "an unknown character is unknown, however often the texts had others"
    assert table.evidence is not None and table.evidence.texts == table.fitted["samples"]


def test_what_a_prior_says_of_unseen_words_is_trusted() -> None:
    texts = made_texts(300)
    prior = np.random.default_rng(4).standard_normal((WIDTH, 24)).astype(np.float32)
    table = fit_table(vectors=(texts, made_vectors(texts)), tokenizer=wordpiece(), prior=prior)
    trust = QueryEncoder(table).encode(["kestrel zq"]).trust
    assert trust is not None and trust[0] == pytest.approx(1.0)
