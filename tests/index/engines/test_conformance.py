"""What every engine must do; an engine more is one more entry in ENGINES."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index import rest_server
from index.conftest import unit_rows, word_tokenizer
from index.engines.data import DIM, WIDTH, assert_equal, make_rows, names, part
from index.engines.strategies import DATES, FIELDS, NUMBERS, filters, metadata
from qdrant_client import QdrantClient

from lightretriever.errors import InputError
from lightretriever.index.engines.engine import START, Asked, Engine, Found, Ranking, Rows, pages
from lightretriever.index.engines.local.engine import LocalEngine
from lightretriever.index.engines.qdrant.calls import Connection
from lightretriever.index.engines.qdrant.collection import Contents
from lightretriever.index.engines.qdrant.server import QdrantServer
from lightretriever.index.engines.qdrant.url import parse_address
from lightretriever.index.filter.language import matches, parse_filter
from lightretriever.index.folder import create_folder, open_database
from lightretriever.index.settings import LOCAL, Settings
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document, as_document
from lightretriever.types import SparseVectors, sparse_from_dense, take_sparse

TOLERANCE = 5e-5  # of scores: engines may add up in another order, or keep 16 bits of a number
SERVER = "LIGHTRETRIEVER_QDRANT_URL"  # of a real server: http(s)://host:6333; collections are made there and deleted
BINDING = {"model": "tiny", "table_hash": "aa"}
Make = Callable[[Path, int | None], AbstractContextManager[Engine]]
"""An empty engine for vectors of `DIM`, with a sparse side as wide as is given that stores what it is given."""


@contextmanager
def local_mode(_: Path, width: int | None) -> Iterator[Engine]:
    """The client's own engine in this process: its data model and filters, without graph, network and server."""
    connection = Connection(parse_address("http://nowhere/everest"), True, QdrantClient(":memory:"))
    engine = QdrantServer(connection).create(Contents(DIM, width, BINDING))
    yield engine
    engine.close()


@contextmanager
def over_rest(_: Path, width: int | None) -> Iterator[Engine]:
    """The same behind HTTP: what is sent to a server, and what comes back from one."""
    with rest_server.serve() as server:
        connection = Connection(parse_address(f"{server.url}/everest"), True)
        engine = QdrantServer(connection).create(Contents(DIM, width, BINDING))
        yield engine
        engine.close()


@contextmanager
def real_server(_: Path, width: int | None) -> Iterator[Engine]:
    if SERVER not in os.environ:
        pytest.skip(f"no Qdrant server: {SERVER} is not set")
    address = parse_address(f"{os.environ[SERVER].split()[0].rstrip('/')}/lightretriever-test-{uuid4().hex}")
    server = QdrantServer(Connection(address, True))
    engine = server.create(Contents(DIM, width, BINDING))
    try:
        yield engine
    finally:
        server.drop(engine.collection)
        server.close()


@contextmanager
def local(path: Path, width: int | None) -> Iterator[Engine]:
    """The engine that holds an index in its own folder."""
    rows = np.eye(WIDTH, DIM, dtype=np.float32)
    table = TokenTable.from_rows(rows, word_tokenizer(), model="tiny", revision="r1", skip_ids=[0])
    settings = Settings.of(table, "none" if width is None else "lm", engine=LOCAL)
    create_folder(path / "i", table, settings)
    engine = LocalEngine(path / "i", open_database(path / "i"))
    yield engine
    engine.close()


ENGINES: dict[str, Make] = {
    "local": local,
    "qdrant, local mode": local_mode,
    "qdrant, REST": over_rest,
    "qdrant, server": real_server,
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with ENGINES[request.param](tmp_path, WIDTH) as made:
        yield made


def assert_best(found: Found, rankings: Iterable[Ranking], scores: np.ndarray, listed: np.ndarray, depth: int) -> None:
    """Rankings hold the best of each row of scores [q, n] that may be listed [q, n], by document ``d0`` … ``dn``."""
    for row, may, ranking in zip(scores, listed, rankings, strict=True):
        assert (ranking.keys.dtype, ranking.scores.dtype) == (np.int64, np.float32)
        assert ranking.scores == pytest.approx(np.sort(row[may])[::-1][:depth], abs=TOLERANCE)
        found_rows = [int(name[1:]) for name in names(found, ranking)]
        assert may[found_rows].all()
        assert row[found_rows] == pytest.approx(ranking.scores, abs=TOLERANCE)
        assert len(set(found_rows)) == len(found_rows)
        pairs = list(zip((-ranking.scores).tolist(), ranking.keys.tolist(), strict=True))
        assert pairs == sorted(pairs)


def test_documents_are_stored_replaced_and_deleted(engine: Engine) -> None:
    rows = make_rows(40)
    assert engine.store(part(rows, range(30)), None) == 0
    assert engine.store(part(rows, range(20, 40)), None) == 10
    assert (engine.count(), engine.existing(["d3", "nowhere", "d3", "d39"])) == (40, {"d3", "d39"})
    again = part(make_rows(40, seed=1), [7])
    again = Rows([Document("d7", "other", "new", {"group": 99})], again.dense, again.sparse)
    assert engine.store(again, None) == 1
    assert_equal(engine.rows(["d7"]), again)
    assert engine.delete(["d1", "d2", "nowhere", "d1"], None) == 2
    assert engine.delete(["d1", "d2"], None) == 0
    assert engine.delete([f"d{i}" for i in range(10)], parse_filter({"even": True})) == 4
    assert engine.existing([f"d{i}" for i in range(10)]) == {"d3", "d5", "d7", "d9"}
    assert (engine.delete([], None), engine.store(part(rows, []), None), engine.count()) == (0, 0, 34)


def test_no_document_takes_the_place_of_another_tenants(engine: Engine) -> None:
    rows = make_rows(6)

    def of(tenants: Sequence[object]) -> Rows:
        documents = [Document(f"d{i}", "", metadata={"owner": tenant}) for i, tenant in enumerate(tenants)]
        return Rows(documents, rows.dense[: len(tenants)], take_sparse(rows.sparse, range(len(tenants))))

    assert engine.store(of(["ann", "bob", 2, True]), "owner") == 0
    assert engine.store(of(["ann", "bob", 2.0, True]), "owner") == 4
    for tenants in (["bob"], ["ann", "ann"], ["ann", "bob", "2"], ["ann", "bob", 2, 1]):
        with pytest.raises(InputError, match=f"document d{len(tenants) - 1} is of another 'owner'"):
            engine.store(
                Rows([*of(tenants).documents, Document("e", "", metadata={"owner": "x"})], *vectors(rows, tenants)),
                "owner",
            )
    assert engine.existing(["e"]) == set()
    assert [document.metadata["owner"] for document in engine.rows(["d0", "d1"]).documents] == ["ann", "bob"]


def vectors(rows: Rows, of: Sequence[object]) -> tuple[np.ndarray, SparseVectors]:
    assert rows.sparse is not None
    return rows.dense[: len(of) + 1], take_sparse(rows.sparse, range(len(of) + 1))


ODD: list[dict[str, object]] = [
    {},
    {"n": [0.1 + 0.2, -0.0, 1e300, 5e-324, 2**63 - 1, -(2**63), 2**53 + 1, 1.0, 1, True, False, None]},
    {
        'q"uote': "a\\b\n\t\x7f\u2028",
        "": "",
        "dots.in.it": {"deep": [[{"x": [None, {}]}]]},
        "straße 街": "👩‍🚀 e\u0301",
    },
    {"numbers": "a field of this name", "tags": ["t"], "id": 7, "text": False, "metadata": "{}"},
    {"long": "ß" * 5_000, "many": list(range(300))},
]


def odd_rows() -> Rows:
    dense = np.zeros((len(ODD), DIM), np.float32)
    dense[np.arange(len(ODD)), 0] = 1
    dense[1, 1:5] = [1e-45, -1e-38, 3e-7, -0.0]
    dense[2] = unit_rows(np.random.default_rng(5), 1, DIM)[0]
    weights = np.zeros((len(ODD), WIDTH), np.float32)
    weights[0, [0, WIDTH - 1]] = [1e-30, 3e38]
    weights[1, 3:9] = np.float32([0.1, 1 / 3, 7, 2e-7, 16777216, np.pi])
    weights[3, 5] = 1
    documents = [Document(f"ñ/{i} ‘x’", "\ttext\r\n" * i, f"t{i}\u00a0", held) for i, held in enumerate(ODD)]
    return Rows(documents, dense, sparse_from_dense(weights))


def test_what_is_stored_comes_back_to_the_last_bit(engine: Engine) -> None:
    rows, odd = make_rows(53), odd_rows()
    engine.store(rows, None)
    engine.store(odd, None)
    assert_equal(engine.rows([document.id for document in odd.documents]), odd)
    some = engine.rows(["d7", "nowhere", "d3", "d7"])
    assert [document.id for document in some.documents] == ["d7", "d3"]
    assert_equal(some, part(rows, [7, 3]))
    assert (len(engine.rows([])), len(engine.rows(["nowhere"]))) == (0, 0)
    for size in (1, 17, 1_000):
        found = list(pages(engine, size, vectors=True))
        assert sorted(document.id for page in found for document in page.documents) == sorted(
            document.id for document in [*rows.documents, *odd.documents]
        )
        assert all(len(page) == size for page in found[:-1])
    (page,) = found
    assert_equal(part(page, [i for i, d in enumerate(page.documents) if d.id.startswith("d")]), rows)
    assert_equal(part(page, [i for i, d in enumerate(page.documents) if d.id.startswith("ñ")]), odd)


def test_pages_go_on_from_a_place(engine: Engine) -> None:
    engine.store(make_rows(30), None)
    first, place = engine.page(START, 12)
    second, last = engine.page(place, 100)
    assert (len(first), len(second), START < place < last) == (12, 18, True)
    assert (first.dense.shape, first.sparse) == ((12, 0), None)
    assert len(engine.page(last, 5)[0]) == 0
    assert [document.id for document in engine.page(START, 12)[0].documents] == [d.id for d in first.documents]
    engine.delete([document.id for document in first.documents], None)
    assert [document.id for document in engine.page(place, 100)[0].documents] == [d.id for d in second.documents]


def test_the_best_of_each_arm_are_found(engine: Engine) -> None:
    """In one story: engines are asked for much, and cost more to make."""
    rows, rng = make_rows(120), np.random.default_rng(1)
    assert rows.sparse is not None
    engine.store(rows, None)
    queries = unit_rows(rng, 70, DIM)
    queries[3] = 0
    counts = sparse_from_dense((rng.random((70, WIDTH)) < 0.1) * rng.integers(1, 4, (70, WIDTH)).astype(np.float32))
    dense = queries @ rows.dense.T
    sparse = counts.to_dense() @ rows.sparse.to_dense().T
    everything = np.ones(120, bool)
    held = [document.metadata for document in rows.documents]
    for depth, conditions in ((10, None), (1, None), (500, None), (10, {"even": True}), (500, {"group": {"$gte": 5}})):
        where = parse_filter(conditions)
        passing = everything if where is None else np.array([matches(where, one) for one in held])
        found = engine.search(Asked(queries, counts, depth, where))
        any_dense = queries.any(axis=1)[:, None] & passing
        assert_best(found, found.dense, dense, any_dense, depth)
        assert_best(found, found.sparse, sparse, (sparse > 0) & passing, depth)
    alone = engine.search(Asked(queries[:2], None, 5))
    assert [len(ranking) for ranking in alone.dense] == [5, 5]
    assert not any(len(ranking) for ranking in alone.sparse)
    alone = engine.search(Asked(None, take_sparse(counts, [0, 1, 2]), 5))
    assert_best(alone, alone.sparse, sparse[:3], sparse[:3] > 0, 5)
    assert not any(len(ranking) for ranking in alone.dense)
    engine.optimise()
    engine.flush()
    found = engine.search(Asked(queries, counts, 10))
    assert_best(found, found.sparse, sparse, sparse > 0, 10)
    json.dumps(engine.info())


def test_a_key_is_one_document_in_both_lists(engine: Engine) -> None:
    rows = make_rows(40)
    assert rows.sparse is not None
    engine.store(rows, None)
    found = engine.search(Asked(rows.dense[:9], take_sparse(rows.sparse, range(9)), 40))
    for i in range(9):
        in_dense = dict(zip(names(found, found.dense[i]), found.dense[i].keys.tolist(), strict=True))
        in_sparse = dict(zip(names(found, found.sparse[i]), found.sparse[i].keys.tolist(), strict=True))
        assert names(found, found.dense[i])[0] == f"d{i}"
        assert in_sparse
        assert all(in_dense[name] == key for name, key in in_sparse.items())


def test_an_empty_engine_has_nothing(engine: Engine) -> None:
    rows = make_rows(2)
    found = engine.search(Asked(rows.dense, rows.sparse, 5))
    assert [len(ranking) for ranking in [*found.dense, *found.sparse]] == [0] * 4
    assert (found.fetch([]), len(found.dense_scores(rows.dense[0], []))) == ([], 0)
    assert (engine.count(), list(pages(engine, 7)), engine.existing(["d1"])) == (0, [], set())
    assert engine.delete(["d1"], None) == 0
    engine.optimise()
    engine.flush()
    engine.store(rows, None)
    engine.delete(["d0", "d1"], None)
    found = engine.search(Asked(rows.dense, rows.sparse, 5))
    assert [len(ranking) for ranking in [*found.dense, *found.sparse]] == [0] * 4
    none = engine.search(Asked(rows.dense[:0], take_sparse(rows.sparse, []), 5))
    assert (len(none.dense), len(none.sparse)) == (0, 0)


def test_a_document_without_a_vector_is_not_found_by_it(engine: Engine) -> None:
    rows = make_rows(12)
    assert rows.sparse is not None
    rows.dense[[2, 5]] = 0
    weights = rows.sparse.to_dense()
    weights[[5, 6]] = 0
    rows = Rows(rows.documents, rows.dense, sparse_from_dense(weights))
    engine.store(rows, None)
    everything = sparse_from_dense(np.ones((2, WIDTH), np.float32))
    for where in (None, parse_filter({"group": {"$gte": 0}})):
        found = engine.search(Asked(rows.dense[[0, 2]], everything, 99, where))
        assert set(names(found, found.dense[0])) == {f"d{i}" for i in range(12)} - {"d2", "d5"}
        assert len(found.dense[1]) == 0  # nor does a query without one find any
        assert set(names(found, found.sparse[0])) == {f"d{i}" for i in range(12)} - {"d5", "d6"}
    assert_equal(engine.rows(["d2", "d5", "d6"]), part(rows, [2, 5, 6]))
    (again,) = pages(engine, 99, vectors=True)
    assert_equal(again, rows)
    found = engine.search(Asked(None, everything, 99))
    keys = dict(zip(names(found, found.sparse[0]), found.sparse[0].keys.tolist(), strict=True))
    assert found.dense_scores(rows.dense[0], [keys["d2"], keys["d0"]]) == pytest.approx([0, 1], abs=TOLERANCE)
    new = part(make_rows(12, seed=3), [2])
    engine.store(new, None)  # and one that had none may get one
    found = engine.search(Asked(new.dense, None, 1))
    assert names(found, found.dense[0]) == ["d2"]


def test_equal_scores_are_listed_in_an_order_that_never_changes(engine: Engine) -> None:
    rows = make_rows(30)
    dense = np.where(np.arange(30)[:, None] < 3, rows.dense[:1], -rows.dense[:1])  # three alike before 27 alike
    same = Rows(rows.documents, dense, sparse_from_dense(np.ones((30, WIDTH), np.float32)))
    engine.store(same, None)
    question = take_sparse(same.sparse, [0])
    whole = engine.search(Asked(dense[:1], question, 30))
    in_dense, in_sparse = (names(whole, arms[0]) for arms in (whole.dense, whole.sparse))
    assert set(in_dense[:3]) == {"d0", "d1", "d2"}
    for k in (2, 3, 7, 30, 99):
        for where in (None, parse_filter({"group": {"$gte": 0}})):
            found = engine.search(Asked(dense[:1], question, k, where))
            assert names(found, found.dense[0]) == in_dense[:k]
            assert names(found, found.sparse[0]) == in_sparse[:k]


def test_found_documents_are_fetched(engine: Engine) -> None:
    rows = make_rows(25)
    engine.store(rows, None)
    found = engine.search(Asked(rows.dense[:1], None, 25))
    keys, ids = found.dense[0].keys.tolist(), names(found, found.dense[0])
    by_id = {document.id: document for document in rows.documents}
    assert found.fetch(keys[::-1]) == [by_id[name] for name in ids[::-1]]
    assert found.fetch([keys[4], keys[4]]) == [by_id[ids[4]]] * 2
    assert found.ids(found.dense[0].keys[[4, 0, 4]]) == [ids[4], ids[0], ids[4]]
    engine.delete(ids[1:3], None)
    assert found.fetch(keys[:4]) == [by_id[ids[0]], None, None, by_id[ids[3]]]
    named = found.ids(found.dense[0].keys[:4])
    assert named in (ids[:4], [ids[0], None, None, ids[3]])  # an engine may have them at hand still


def test_dense_scores_are_of_the_vectors_as_they_are_stored(engine: Engine) -> None:
    rows, rng = make_rows(60), np.random.default_rng(8)
    engine.store(rows, None)
    found = engine.search(Asked(None, take_sparse(rows.sparse, range(9)), 60))
    for ranking in found.sparse:
        query, of = unit_rows(rng, 1, DIM)[0], names(found, ranking)
        scores = found.dense_scores(query, ranking.keys.tolist())
        assert scores.dtype == np.float32
        assert scores == pytest.approx([query @ rows.dense[int(name[1:])] for name in of], abs=TOLERANCE)
    engine.delete(of[:2], None)
    scores = found.dense_scores(query, ranking.keys.tolist())
    wanted = np.array([query @ rows.dense[int(name[1:])] for name in of])
    assert scores[2:] == pytest.approx(wanted[2:], abs=TOLERANCE)
    gone = np.isnan(scores[:2])  # or an engine has them at hand still
    assert gone.all() or scores[:2] == pytest.approx(wanted[:2], abs=TOLERANCE)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_without_a_sparse_side(name: str, tmp_path: Path) -> None:
    with ENGINES[name](tmp_path, None) as engine:
        rows = make_rows(9)
        rows = Rows(rows.documents, rows.dense, None)
        engine.store(rows, None)
        (page,) = pages(engine, 99, vectors=True)
        assert_equal(page, rows)
        found = engine.search(Asked(rows.dense[:2], None, 3))
        assert [names(found, ranking)[0] for ranking in found.dense] == ["d0", "d1"]


Stored = tuple[Engine, list[Document]]
COUNT = 150


@pytest.fixture(scope="module", params=ENGINES)
def filtered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Random metadata; two thirds of it were there when the engine was optimised."""
    drawn = np.random.default_rng(7)
    pools: list[list] = [NUMBERS, DATES, ["x", "1", True, False, "ü" * 300]]

    def pick(kinds: int) -> object:
        kind = drawn.integers(kinds)
        if kind < 3:
            return pools[kind][drawn.integers(len(pools[kind]))]
        return [pick(3) for _ in range(drawn.integers(4))] if kind == 3 else {"x": 1}

    held = [{name: pick(5) for name in FIELDS if drawn.random() < 0.5} for _ in range(COUNT)]
    documents = [as_document({"id": f"d{i}", "text": "", "metadata": row}) for i, row in enumerate(held)]
    sparse = sparse_from_dense(np.ones((COUNT, WIDTH), np.float32))
    rows = Rows(documents, unit_rows(drawn, COUNT, DIM), sparse)
    with ENGINES[request.param](tmp_path_factory.mktemp("filtered"), WIDTH) as engine:
        engine.store(part(rows, range(100)), None)
        engine.optimise()
        engine.store(part(rows, range(100, COUNT)), None)
        yield engine, documents


def check_filter(stored: Stored, conditions: dict) -> None:
    engine, documents = stored
    where = parse_filter(conditions)
    assert where is not None
    expected = {document.id for document in documents if matches(where, document.metadata)}
    query = np.full((1, DIM), DIM**-0.5, np.float32)
    found = engine.search(Asked(query, sparse_from_dense(np.ones((1, WIDTH), np.float32)), COUNT + 50, where))
    assert set(names(found, found.dense[0])) == set(names(found, found.sparse[0])) == expected


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(conditions=filters)
def test_a_search_finds_what_passes(filtered: Stored, conditions: dict) -> None:
    check_filter(filtered, conditions)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(held=st.lists(metadata, min_size=1, max_size=12), conditions=filters)
def test_any_metadata_is_filtered_as_the_language_says(filtered: Stored, held: list[dict], conditions: dict) -> None:
    engine, documents = filtered
    given_documents = [as_document({"id": f"n{i}", "text": "", "metadata": row}) for i, row in enumerate(held)]
    rows = make_rows(len(held))
    engine.store(Rows(given_documents, rows.dense, sparse_from_dense(np.ones((len(held), WIDTH), np.float32))), None)
    try:
        check_filter((engine, [*documents, *given_documents]), conditions)
        there = [document.id for document in given_documents]
        where = parse_filter(conditions)
        assert where is not None
        passing = {document.id for document in given_documents if matches(where, document.metadata)}
        assert engine.delete(there, where) == len(passing)
        assert engine.existing(there) == set(there) - passing
    finally:
        engine.delete([document.id for document in given_documents], None)


@pytest.mark.parametrize("depth", [1, 7, 80])
def test_every_document_listed_has_both_scores(engine: Engine, depth: int) -> None:
    """In whatever an engine keeps them: built, written since, replaced, and without vectors or tokens."""
    rows = make_rows(60)
    engine.store(part(rows, range(40)), None)
    engine.optimise()
    engine.store(part(rows, range(40, 60)), None)
    rows.dense[[3, 45]] = 0
    assert rows.sparse is not None
    weights = rows.sparse.to_dense()
    weights[[4, 46]] = 0
    rows = Rows(rows.documents, rows.dense, sparse_from_dense(weights))
    engine.store(part(rows, [3, 4, 45, 46]), None)
    queries, counts = make_rows(6, seed=4).dense, np.zeros((6, WIDTH), np.float32)
    counts[:, :5] = np.random.default_rng(9).integers(0, 3, (6, 5))
    counts[0], queries[1] = 0, 0  # a query without tokens, and one without a vector
    for where in (None, parse_filter({"even": True})):
        found = engine.search(Asked(queries, sparse_from_dense(counts), depth, where, both=True))
        dense, sparse = queries @ rows.dense.T, counts @ weights.T
        for rankings, other in ((found.dense, sparse), (found.sparse, dense)):
            for row, ranking in enumerate(rankings):
                places = [int(name[1:]) for name in names(found, ranking)]
                others = rankings.others[row, : len(ranking)]
                assert others == pytest.approx(other[row, places], abs=TOLERANCE)
        assert found.ends is not None
        assert found.ends[:, 0] == pytest.approx(queries @ rows.dense.sum(axis=0) / (60 + 16), abs=TOLERANCE)
        assert found.ends[:, 1] == pytest.approx([1, 0, 1, 1, 1, 1], abs=TOLERANCE)
    assert engine.search(Asked(queries, sparse_from_dense(counts), depth)).ends is None
