"""The index through its public names: what is found, what is replaced, what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import (
    DIM,
    WORDS,
    RandomTower,
    make_documents,
    make_encoder,
    sparse_scores,
    unit_rows,
)
from index.raw_settings import read_raw, write_raw

from lightretriever import Encoded, Index, QueryEncoder, SparseVectors
from lightretriever.errors import (
    ArtifactError,
    InputError,
    MismatchError,
    UsageError,
)
from lightretriever.fusion import Fusion, fuse_exact
from lightretriever.types import sparse_from_dense, take_sparse

CODES = 5e-5  # what two-level codes may be off at 16 dimensions
QUERIES = ["w01 w05", "W07 w07 w30", "w12", "w02 w03 w04 w05 w06 w07 w08 w09"]


def test_both_arms_equal_brute_force(searchable) -> None:
    index, documents, encoded = searchable
    queries = index.encoder.encode(QUERIES)
    dense = queries.dense @ encoded.dense.T
    sparse = sparse_scores(queries.sparse, encoded.sparse)
    for mode, expected in (("dense", dense), ("sparse", sparse)):
        for hits, scores in zip(index.search_many(QUERIES, k=20, mode=mode), expected, strict=True):
            order = np.argsort(-scores)[:20]
            assert [hit.score for hit in hits] == pytest.approx([s for s in scores[order] if s != 0], abs=CODES)
            for rank, hit in enumerate(hits, 1):
                assert scores[int(hit.id[1:])] == pytest.approx(hit.score, abs=CODES)
                assert hit.text == documents[int(hit.id[1:])].text
                own, other = (hit.dense_score, hit.sparse_score)[:: 1 if mode == "dense" else -1]
                assert (own, other) == (hit.score, None)
                assert rank == (hit.dense_rank if mode == "dense" else hit.sparse_rank)


def test_hybrid_scores_the_best_hundred_of_each_arm_by_both(searchable) -> None:
    index, documents, encoded = searchable
    queries = index.encoder.encode(QUERIES)
    dense, sparse = queries.dense @ encoded.dense.T, sparse_scores(queries.sparse, encoded.sparse)
    floors = queries.dense @ encoded.dense.sum(axis=0) / (len(documents) + 16)
    for row, hits in enumerate(index.search_many(QUERIES, k=10)):
        ranked = [[i for i in np.argsort(-scores)[:100] if scores[i] != 0] for scores in (dense[row], sparse[row])]
        scores = {documents[i].id: (float(dense[row][i]), float(sparse[row][i])) for i in {*ranked[0], *ranked[1]}}
        expected = fuse_exact(scores, (float(floors[row]), 1.0))
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected[:10]], abs=1e-4)
        for hit in hits:
            assert hit.score == pytest.approx(dict(expected)[hit.id], abs=1e-4)
            assert hit.dense_score == pytest.approx(scores[hit.id][0], abs=CODES)
            assert hit.sparse_score == pytest.approx(scores[hit.id][1], abs=1e-5)
            assert (hit.dense_rank is None) == (hit.id not in {documents[i].id for i in ranked[0]})


def test_how_many_are_asked_for_changes_no_score(searchable) -> None:
    index, _, _ = searchable
    for query in QUERIES:
        few, many = index.search(query, k=5), index.search(query, k=1_000)
        assert [hit[:6] for hit in few] == [hit[:6] for hit in many[:5]]


def test_a_query_of_another_length_is_the_same_query(searchable) -> None:
    index, _, _ = searchable
    encoded = index.encoder.encode(QUERIES)
    found = index.search_encoded(encoded, k=20)
    for length in (0.01, 50.0):
        longer = index.search_encoded(Encoded(encoded.dense * np.float32(length), encoded.sparse), k=20)
        for one, other in zip(found, longer, strict=True):
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-4)


def test_opening_again_finds_the_same(filled) -> None:
    index, documents, _ = filled(120)
    before = index.search_many(QUERIES, k=30)
    index.close()
    index.close()
    with pytest.raises(UsageError, match="closed"):
        index.search("w01")
    with Index.open(index.path) as again:
        assert again.count == len(again) == len(documents)
        assert again.search_many(QUERIES, k=30) == before
        assert sorted(d.id for d in again.documents()) == sorted(d.id for d in documents)
        hit = again.search(QUERIES[0])[0]
        assert hit.metadata == documents[int(hit.id[1:])].metadata


def test_adding_an_id_again_replaces_and_deleting_removes(filled) -> None:
    index, documents, encoded = filled(30)
    with index:
        new = Encoded(encoded.dense[[5]], take_sparse(encoded.sparse, [5]))
        added = index.add(["d9"], new, [{"text": "changed", "year": 2026}])
        assert (added.documents, added.replaced, added.duplicates) == (1, 1, 0)
        assert index.count == len(documents)
        found = index.search_encoded(Encoded(encoded.dense[[5]]), k=2, mode="dense")[0]
        assert {hit.id for hit in found} == {"d5", "d9"}
        changed = next(hit for hit in found if hit.id == "d9")
        assert (changed.text, changed.title, changed.metadata) == ("changed", "", {"year": 2026})
        assert index.delete(["d9", "d5", "nowhere", "d5"]) == 2
        assert index.delete(["d9"]) == 0
        assert index.count == len(documents) - 2
        assert not {"d5", "d9"} & {hit.id for hit in index.search_encoded(Encoded(encoded.dense[[5]]), 300, "dense")[0]}


def test_of_equal_ids_in_one_call_the_last_wins(filled) -> None:
    index, _, encoded = filled(3)
    with index:
        added = index.add(["x", "y", "x"], Encoded(encoded.dense, encoded.sparse), [{"text": t} for t in "abc"])
        assert (added.documents, added.replaced, added.duplicates) == (2, 0, 1)
        assert {d.text for d in index.documents() if d.id == "x"} == {"c"}


def test_filters_are_exact_in_both_arms(searchable) -> None:
    index, documents, encoded = searchable
    queries = index.encoder.encode(QUERIES)
    arms = {"dense": queries.dense @ encoded.dense.T, "sparse": sparse_scores(queries.sparse, encoded.sparse)}
    filters = [
        {"group": 3},
        {"even": True},
        {"even": False, "group": 2},
        {"ratio": 1},
        {"ratio": 0.5},
        {"tags": "t1"},
        {"group": "3"},
        {"group": True},
        {"none": 1},
    ]

    def passes(metadata: dict, wanted: dict) -> bool:
        for name, value in wanted.items():
            found = metadata.get(name)
            options = found if isinstance(found, list) else [found]
            if not any(option == value and isinstance(option, bool) == isinstance(value, bool) for option in options):
                return False
        return True

    for wanted in filters:
        allowed = [i for i, document in enumerate(documents) if passes(document.metadata, wanted)]
        for mode, scores in arms.items():
            for hits, row in zip(index.search_many(QUERIES, 400, mode, wanted), scores, strict=True):
                assert {hit.id for hit in hits} == {f"d{i}" for i in allowed if row[i] != 0}
        hybrid = index.search(QUERIES[0], 400, filter=wanted)
        assert len(hybrid) == len(allowed)
    with pytest.raises(UsageError, match="'group'"):
        index.search("w01", filter={"group": [1, 2]})
    assert {hit.metadata["group"] for hit in index.search(QUERIES[0], filter={"group": {"$gte": 2, "$lt": 4}})} == {
        2,
        3,
    }


def test_filter_names_and_values_of_any_kind(filled) -> None:
    index, _, encoded = filled(5)
    metadata = [{'q"uo.te[0]': "a"}, {"": "a"}, {"日本": "é" * 500}, {"x": ["a", 1, None]}, {"x": {"y": 1}}]
    with index:
        index.add([str(i) for i in range(5)], encoded, [{"metadata": m} for m in metadata])
        for i, wanted in enumerate([{'q"uo.te[0]': "a"}, {"": "a"}, {"日本": "é" * 500}, {"x": 1}]):
            assert [hit.id for hit in index.search_encoded(encoded, 99, "dense", wanted)[0]] == [str(i)]
        assert index.search("w01", filter={"日本": "é" * 501}) == []


@pytest.mark.parametrize("k", [3, 10**12])
def test_many_queries_find_what_each_finds_alone(searchable, k: int) -> None:
    """However many documents are asked for: room is taken for a few queries at a time."""
    index, _, _ = searchable
    encoded = index.encoder.encode([f"w{i % 40:02d} w{i * 7 % 40:02d}" for i in range(300)])
    alone = [index.search_encoded(encoded.take([i]), k)[0] for i in range(300)]
    assert index.search_encoded(encoded, k) == alone


def test_queries_with_nothing_in_them_find_nothing(searchable) -> None:
    index, _, _ = searchable
    for mode in ("hybrid", "dense", "sparse"):
        assert index.search("", mode=mode) == []
    assert index.search_many([]) == []
    assert [hit[:9] for hit in index.search("zzz")] == [hit[:9] for hit in index.search("unknown")]
    assert [bool(hits) for hits in index.search_many(["", "w01", ""])] == [False, True, False]


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25") as index:
        assert index.search("w01") == []
        assert index.count == 0
        assert index.delete(["x"]) == 0
        assert index.info()["documents"] == 0


def test_without_a_sparse_side(filled) -> None:
    index, _, _ = filled(20, sparse="none")
    with index:
        assert index.search("w01") == index.search("w01", mode="dense")
        with pytest.raises(UsageError, match="no sparse side"):
            index.search("w01", mode="sparse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k": 0}, "k is 0"), ({"k": -1}, "k is -1"), ({"k": 2.5}, "k is 2.5"), ({"mode": "fast"}, "'fast'")],
)
def test_impossible_searches_are_refused(searchable, arguments: dict, message: str) -> None:
    index, _, _ = searchable
    with pytest.raises(UsageError, match=message):
        index.search("w01", **arguments)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_query_vectors_that_are_no_numbers_are_refused(searchable, wrong: float) -> None:
    index, _, encoded = searchable
    dense = encoded.dense[:2].copy()
    dense[1, 5] = wrong
    with pytest.raises(InputError, match="query vector holds NaN or infinity"):
        index.search_encoded(Encoded(dense), mode="dense")
    dense[1, 5] = 1e30  # finite, and its square is not
    assert index.search_encoded(Encoded(dense), mode="dense")[1]


def test_k_larger_than_the_index(searchable) -> None:
    index, documents, _ = searchable
    assert len(index.search("w01", k=1_000_000, mode="dense")) == len(documents)
    assert len(index.search("w01", k=1_000_000)) == len(documents)


def test_vectors_that_cannot_be_searched_are_refused(filled) -> None:
    index, _, encoded = filled(3)
    dense, sparse = encoded.dense, encoded.sparse
    nan, long = dense.copy(), dense.copy()
    nan[1, 3], long[2] = np.nan, long[2] * 3
    values = sparse.values.copy()
    values[7] = np.inf
    inf = SparseVectors(sparse.indptr, sparse.indices, values, sparse.width)
    wide = SparseVectors(sparse.indptr, sparse.indices, sparse.values, 99)
    ids = ["a", "b", "c"]
    with index:
        for wrong, error, message in [
            (Encoded(nan, sparse), InputError, "'b'.*NaN"),
            (Encoded(long, sparse), InputError, "'c'.*unit length"),
            (Encoded(dense, inf), InputError, "'b'.*sparse"),
            (Encoded(dense[:, :8], sparse), MismatchError, "8 dimensions, 16"),
            (Encoded(dense[:2], sparse), MismatchError, "3 documents"),
            (Encoded(dense, take_sparse(sparse, [0])), MismatchError, "1 sparse vectors"),
            (Encoded(dense), UsageError, "sparse vectors are needed"),
            (
                Encoded(dense, wide),
                MismatchError,
                "width 99",
            ),
        ]:
            with pytest.raises(error, match=message):
                index.add(ids, wrong)
        with pytest.raises(MismatchError, match="3 ids, 1 payloads"):
            index.add(ids, encoded, [{}])
        with pytest.raises(InputError, match=r"10,000 bytes"):
            index.add(["x" * 10_000, "b", "c"], encoded)
        assert sorted(d.id for d in index.documents()) == ["d0", "d1", "d2"]
        with pytest.raises(MismatchError, match="8"):
            index.search_encoded(Encoded(dense[:, :8]), mode="dense")


def test_text_of_any_kind_is_kept(filled) -> None:
    index, _, encoded = filled(4)
    texts = ["nul\0inside", "lone \ud800 surrogate", "x " * 5_000_000, "\u2028line\nline\r\ttab é 日本 🏔"]
    with index:
        index.add([f"é{i}\n" for i in range(4)], encoded, [{"text": text, "title": text[:20]} for text in texts])
        stored = {d.id: d.text for d in index.documents()}
        assert stored["é0\n"] == "nul\ufffdinside"
        assert stored["é1\n"] == "lone \ufffd surrogate"
        assert stored["é2\n"] == texts[2]
        assert stored["é3\n"] == texts[3]


def test_metadata_is_kept_or_refused(filled) -> None:
    index, _, encoded = filled(1)
    kept = {"a": [1, {"b": None}], "c": 0.1 + 0.2, "whole": 2.0**53 - 1, "big": 2**63 - 1, "d": "é"}
    with index:
        index.add(["x"], encoded, [{"metadata": kept}])
        assert next(d.metadata for d in index.documents() if d.id == "x") == kept


def test_it_is_open_as_often_as_one_likes(filled) -> None:
    index, _, encoded = filled(3)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from index.conftest import *
with Index.open({str(index.path)!r}, RandomTower()) as index:
    assert index.count == 4, index.count
    assert index.add_documents([Document("theirs", "w01 w02")]).documents == 1
"""
    with index, Index.open(index.path) as here:
        here.add(["ours"], Encoded(encoded.dense[:1], take_sparse(encoded.sparse, [0])))
        subprocess.run([sys.executable, "-c", script], check=True)
        for one in (index, here):
            assert one.count == 5
            assert {"ours", "theirs"} < {hit.id for hit in one.search("w01", 10, "dense")}
        here.close()
        assert index.delete(["ours", "theirs"]) == 2


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from index.conftest import *
index = Index.create({str(tmp_path / "i")!r}, make_encoder())
documents = make_documents(40)
for document in documents:
    index.add([document.id], RandomTower().encode([document]), [payload(document)], flush=False)
    print(document.id, flush=True)
index.delete(["d3"])
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    with Index.open(tmp_path / "i") as index:
        assert {d.id for d in index.documents()} == set(killed.stdout.split()) - {"d3"}
        encoded = RandomTower().encode(make_documents(40))
        for row in (0, 20, 39):
            hit = index.search_encoded(Encoded(encoded.dense[[row]]), 1, "dense")[0][0]
            assert (hit.id, hit.score) == (f"d{row}", pytest.approx(1, abs=CODES))


def test_what_does_not_belong_together_is_refused_by_name(filled) -> None:
    index, _, _ = filled(3)
    index.close()
    for encoder, message in [
        (make_encoder(1), "another table of 'tiny'"),
        (make_encoder(0, model="huge", revision="r9"), "'huge'.*'tiny'"),
    ]:
        shutil.rmtree(index.path / "table")
        encoder.table.save(index.path / "table")
        with pytest.raises(MismatchError, match=message):
            Index.open(index.path)
    shutil.rmtree(index.path / "table")
    make_encoder().table.save(index.path / "table")
    with pytest.raises(MismatchError, match=r"'huge'.*r2.*'tiny'"):
        Index.open(index.path, model=RandomTower(name="huge", revision="r2"))
    with Index.open(index.path, model=RandomTower(name="elsewhere/tiny")) as opened:
        assert opened.count == 3


def test_a_table_is_not_taken_for_a_missing_index(tmp_path: Path) -> None:
    make_encoder().table.save(tmp_path / "t")
    with pytest.raises(ArtifactError, match=r"t is a token table, an index is wanted"):
        Index.open(tmp_path / "t")


def test_what_is_half_built_or_no_index_is_refused(filled, tmp_path: Path) -> None:
    index, _, _ = filled(3)
    index.close()
    write_raw(index.path, {**read_raw(index.path), "state": "building"})
    with pytest.raises(ArtifactError, match=r"half-built: run the same `index` command again, it resumes"):
        Index.open(index.path)
    (index.path / "index.db").unlink()
    with pytest.raises(ArtifactError, match=r"index\.db does not exist: .* is no index, or not complete"):
        Index.open(index.path)
    with pytest.raises(ArtifactError, match="nowhere does not exist: name the folder of an index"):
        Index.open(tmp_path / "nowhere")


def test_creating_over_something_is_refused(filled) -> None:
    index, _, _ = filled(3)
    index.close()
    with pytest.raises(ArtifactError, match="exists already"):
        Index.create(index.path, make_encoder())
    with pytest.raises(UsageError, match="'splade'"):
        Index.create(index.path.with_name("new"), make_encoder(), sparse="splade")
    assert not index.path.with_name("new").exists()


def test_adding_documents_through_the_tower(tmp_path: Path) -> None:
    documents = make_documents(600)
    with Index.create(tmp_path / "i", make_encoder(), model=RandomTower()) as index:
        rows = [{"id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in documents]
        added = index.add_documents([*rows, rows[0]])
        assert (added.documents, added.replaced, added.unchanged) == (600, 0, 1)
        assert index.count == 600
        hit = index.search_encoded(Encoded(RandomTower().encode(documents[:1]).dense), 1, "dense")[0][0]
        assert (hit.id, hit.metadata) == ("d0", documents[0].metadata)
        with pytest.raises(UsageError, match="no id"):
            index.add_documents([{"text": "nameless"}])
    with Index.open(tmp_path / "i") as index, pytest.raises(UsageError, match="model="):
        index.add_documents(rows)


def test_what_is_there_as_it_is_given_is_not_encoded_again(tmp_path: Path) -> None:
    tower, documents = RandomTower(), make_documents(600)
    with Index.create(tmp_path / "i", make_encoder(), model=tower) as index:  # type: ignore[arg-type]
        index.add_documents(documents)
        before = tower.calls
        added = index.add_documents(documents)
        assert (tower.calls, added.documents, added.unchanged) == (before, 0, 600)
        changed = [
            replace(documents[0], text="w01"),
            replace(documents[1], title="another"),
            replace(documents[2], metadata={**documents[2].metadata, "year": 1999}),
        ]
        added = index.add_documents([*changed, *documents[3:]])
        assert (tower.calls, added.documents, added.replaced, added.unchanged) == (before + 1, 3, 3, 597)
        assert {document.id: document for document in index.documents()}["d0"] == changed[0]
        index.delete(["d5"])
        assert index.add_documents(documents[3:]).documents == 1


def test_a_table_of_fewer_dimensions_cuts_the_documents(tmp_path: Path) -> None:
    documents = make_documents(50)
    dense = RandomTower().encode(documents).dense[:, :6]
    with Index.create(tmp_path / "i", make_encoder(dim=6), model=RandomTower()) as index:
        index.add_documents(documents)
        query = (dense[7] / np.linalg.norm(dense[7]))[None]
        hit = index.search_encoded(Encoded(query), 1, "dense")[0][0]
        assert (hit.id, hit.score) == ("d7", pytest.approx(1, abs=CODES))


def test_fusion_is_stored(filled) -> None:
    index, _, _ = filled(120)
    before = index.search("w01 w02", k=5)
    index.set_fusion(Fusion(method="rrf"))
    ranked = index.search("w01 w02", k=5)
    assert [hit.score for hit in ranked] != [hit.score for hit in before]
    index.close()
    with Index.open(index.path) as again:
        assert again.fusion == Fusion(method="rrf")
        assert again.search("w01 w02", k=5) == ranked


def test_the_graph_finds_what_a_scan_finds(tmp_path: Path) -> None:
    """Walked by narrow codes and rescored, it misses next to nothing."""
    rng = np.random.default_rng(0)
    n = 6_000
    dense = unit_rows(rng, n, 64)
    weights = sparse_from_dense((rng.random((n, len(WORDS) + 2)) < 0.1).astype(np.float32))
    with Index.create(tmp_path / "i", make_encoder(dim=64)) as index:
        index.add([str(i) for i in range(n)], Encoded(dense, weights), flush=False)
        index.optimise()
        assert (index.info()["segments"], index.info()["unoptimised"]) == ([n], 0)
        queries = unit_rows(rng, 50, 64)
        exact = np.argsort(-(queries @ dense.T), axis=1)[:, :10]
        found = index.search_encoded(Encoded(queries), 10, "dense")
        recall = np.mean(
            [len({int(h.id) for h in hits} & set(row)) / 10 for hits, row in zip(found, exact, strict=True)]
        )
        assert recall > 0.98
        assert index.search_encoded(Encoded(queries), 10, "dense", {"x": 1}) == [[]] * 50


def test_the_query_path_loads_no_torch(filled) -> None:
    index, _, _ = filled(30)
    index.close()
    script = f"""
import sys
from lightretriever import Index, fuse
with Index.open({str(index.path)!r}) as index:
    assert index.search("w01 w02", k=3)
    assert index.search_many(["w01"] * 300, k=3)
    index.optimise()
    assert index.search("w01 w02", k=3, filter={{"even": True}})
loaded = {{"torch", "transformers", "pandas", "scipy.sparse"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_one_string_is_one_id_and_no_list_of_letters(tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), sparse="none") as index:
        rows = unit_rows(np.random.default_rng(0), 3)
        index.add(["1", "7", "17"], Encoded(rows))
        assert index.delete("17") == 1
        assert {document.id for document in index.documents()} == {"1", "7"}
        with pytest.raises(UsageError, match="give a list of ids"):
            index.add("17", Encoded(rows[:2]))


def test_a_table_of_fewer_dimensions_takes_the_first_of_the_towers(tmp_path: Path) -> None:
    encoder = make_encoder()
    short = QueryEncoder(encoder.table.truncated(DIM // 2))
    rows = unit_rows(np.random.default_rng(0), 5)
    with Index.create(tmp_path / "i", short, sparse="none") as index:
        index.add([str(i) for i in range(5)], Encoded(rows))
        cut = rows[:, : DIM // 2] / np.linalg.norm(rows[:, : DIM // 2], axis=1, keepdims=True)
        (hits,) = index.search_encoded(Encoded(cut[2:3]), k=1, mode="dense")
        assert hits[0].id == "2"
        assert hits[0].score == pytest.approx(1, abs=CODES)


def test_any_k_may_be_asked_for(tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), sparse="none") as index:
        index.add(["a"], Encoded(unit_rows(np.random.default_rng(0), 1)))
        assert [hit.id for hit in index.search("mount", k=2**70)] == ["a"]


def test_what_was_stored_before_a_bad_document_stays(tmp_path: Path) -> None:
    documents = [*make_documents(600), {"text": "nameless"}]
    with Index.create(tmp_path / "i", make_encoder(), sparse="bm25", model=RandomTower()) as index:  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="has no id"):
            index.add_documents(documents)
        assert index.count == 512
    with Index.open(tmp_path / "i") as index:
        assert index.count == 512


def test_a_turned_table_turns_the_documents(tmp_path: Path) -> None:
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, 6)))[0].astype(np.float32)
    encoder = QueryEncoder(make_encoder().table.rotated(axes))
    documents = make_documents(40)
    encoded = RandomTower().encode(documents)
    turned = encoded.dense @ axes
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    expected = sorted((encoder.encode("w03 w09").dense @ turned.T)[0], reverse=True)[:5]
    with Index.create(tmp_path / "i", encoder, model=RandomTower()) as index:
        index.add([d.id for d in documents[:20]], Encoded(encoded.dense[:20], take_sparse(encoded.sparse, range(20))))
        index.add_documents(documents[20:])
        assert [hit.score for hit in index.search("w03 w09", 5, "dense")] == pytest.approx(expected, abs=CODES)
        with pytest.raises(MismatchError, match="6 dimensions, 16 are needed"):
            index.add(["x"], Encoded(turned[:1], take_sparse(encoded.sparse, [0])))
    with Index.open(tmp_path / "i") as index:
        assert (index.encoder.table.rotation == axes).all()
        index.set_table(make_encoder(seed=5).table.rotated(axes))
        for other in (make_encoder().table.rotated(-axes), make_encoder(dim=6).table):
            with pytest.raises(MismatchError, match="other axes"):
                index.set_table(other)


def test_ties_are_in_the_order_in_which_they_were_stored(tmp_path: Path) -> None:
    one = unit_rows(np.random.default_rng(3), 1)
    weights = np.zeros((1, len(WORDS) + 2), np.float32)
    weights[0, 3] = 0.5  # of w01
    names = [f"{i * 7919 % 101:03d}" for i in range(60)]
    encoded = Encoded(np.repeat(one, 60, axis=0), sparse_from_dense(np.repeat(weights, 60, axis=0)))
    with Index.create(tmp_path / "i", make_encoder()) as index:
        for start in (0, 20, 40):
            rows = slice(start, start + 20)
            part = Encoded(encoded.dense[rows], take_sparse(encoded.sparse, range(start, start + 20)))
            index.add(names[rows], part)
            if start == 20:
                index.optimise()  # so that they are in a segment and beside it
        index.add(names[:1], Encoded(one, take_sparse(encoded.sparse, [0])))  # replaced: stored anew
        expected = [*names[1:], names[0]]
        for mode in ("dense", "sparse", "hybrid"):
            assert [hit.id for hit in index.search("w01", 60, mode)] == expected
            assert [hit.id for hit in index.search("w01", 7, mode)] == expected[:7]
