"""Our search as mteb's model, on mteb's own made tasks and on one made here; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

mteb = pytest.importorskip("mteb")
pytest.importorskip("torch")

from made_models import causal_folder, masked_folder  # noqa: E402
from mteb import mocks  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402

from lightretriever import DocumentEncoder, Index, QueryEncoder, cache_table, evaluate  # noqa: E402
from lightretriever.errors import UsageError  # noqa: E402
from lightretriever.evaluation.runs import search_queries  # noqa: E402
from lightretriever.fusion import Fusion  # noqa: E402
from lightretriever.integrations.mteb import LookupRetriever, query_text  # noqa: E402

WORDS = "mountain highest world tall meters the in about is spaces tabs newlines leading trailing café naive".split()
INSTRUCTION = "Given a question, find its answer"


def made_rows() -> tuple[list[dict[str, str]], list[dict[str, str]], dict[str, dict[str, int]]]:
    """Documents, queries and judgements: each query is three words of its document, and the last has no token."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, 8)) for _ in range(24)]
    documents = [{"id": f"d{i}", "title": "" if i % 2 else f"about {i}", "text": text} for i, text in enumerate(texts)]
    queries = [{"id": f"q{i}", "text": " ".join(rng.choice(texts[i].split(), 3))} for i in range(11)]
    queries.append({"id": "q11", "text": ""})
    return documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(12)}


class MadeTask(AbsTaskRetrieval):
    """A task over `made_rows` with an instruction of its own."""

    metadata = mocks.MockRetrievalTask.metadata.model_copy(
        update={"name": "MadeTask", "prompt": {"query": INSTRUCTION}, "eval_splits": ["test"]}
    )

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:  # noqa: ARG002
        from datasets import Dataset

        documents, queries, judged = made_rows()
        rows = {"corpus": Dataset.from_list(documents), "queries": Dataset.from_list(queries)}
        self.dataset = {"default": {"test": {**rows, "relevant_docs": judged, "top_ranked": None}}}
        self.data_loaded = True


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> DocumentEncoder:
    return DocumentEncoder.load(causal_folder(tmp_path_factory.mktemp("models") / "tiny", "qwen2"))


def scores_of(model: LookupRetriever, task: AbsTaskRetrieval, cache: Path) -> dict[str, float]:
    results = mteb.evaluate(
        model, task, cache=mteb.ResultCache(cache), co2_tracker=False, show_progress_bar=False, raise_error=True
    )
    [found] = results.task_results[0].scores["test"]
    return found


@pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
def test_the_same_marks_as_our_own(tower: DocumentEncoder, tmp_path: Path, mode: str) -> None:
    with LookupRetriever(tower, tmp_path / "work", mode=mode) as model, pytest.warns(UserWarning, match="1 of 12"):
        found = scores_of(model, MadeTask(), tmp_path / "cache")
    [report] = model.reports
    assert report.prompt == f"Instruct: {INSTRUCTION}\nQuery: "
    assert (report.documents, report.queries, report.empty_queries) == (24, 12, 1)

    documents, queries, judged = made_rows()
    encoder = QueryEncoder(cache_table(tower, report.prompt))
    with Index.create(tmp_path / "index", encoder, sparse="lm", model=tower) as index:
        index.add_documents(documents)
        run = search_queries(index, {row["id"]: row["text"] for row in queries}, 1000, mode)
    ours = evaluate(run, judged, ["nDCG@10", "R@100", "RR@10"]).means  # the empty query counts zero in both
    assert found["ndcg_at_10"] == pytest.approx(ours["nDCG@10"], abs=2e-3)  # vectors were stored as float16
    assert found["recall_at_100"] == pytest.approx(ours["R@100"], abs=1e-5)
    assert found["mrr_at_10"] == pytest.approx(ours["RR@10"], abs=2e-3)


def test_what_was_made_is_used_again(tower: DocumentEncoder, tmp_path: Path) -> None:
    first = LookupRetriever(tower, tmp_path / "work")
    one = scores_of(first, MadeTask(), tmp_path / "one")
    first.close()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "work").parts[0] for path in kept} == {"vectors", "tables"}
    with LookupRetriever(tower, tmp_path / "work", keep_indexes=True) as model:
        assert scores_of(model, MadeTask(), tmp_path / "two") == one
        other = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    changed = [path for path in kept if other[path] != kept[path] and path.name != "lock"]
    assert not changed
    [index] = (tmp_path / "work" / "indexes").glob("*/MadeTask-default-test-*")
    with Index.open(index) as opened:
        assert opened.count == 24


def test_the_folder_stays_where_it_was_when_the_working_folder_changes(
    tower: DocumentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with LookupRetriever(tower, "work", keep_indexes=True) as model:
        monkeypatch.chdir(tmp_path / "there")
        scores_of(model, MadeTask(), tmp_path / "cache")
    assert list((tmp_path / "there").iterdir()) == []
    assert {path.name for path in (tmp_path / "here/work").iterdir()} == {"vectors", "tables", "indexes"}


@pytest.mark.parametrize("name", ["MockRetrievalTask", "MockInstructionRetrieval", "MockRerankingTask"])
def test_tasks_of_mteb(tower: DocumentEncoder, tmp_path: Path, name: str) -> None:
    task = getattr(mocks, name)()
    with LookupRetriever(tower, tmp_path / "work") as model:
        results = mteb.evaluate(
            model, task, cache=mteb.ResultCache(tmp_path / "cache"), co2_tracker=False, show_progress_bar=False
        )
    assert 0 < results.task_results[0].get_score() <= 1
    assert all(report.prompt == tower.default_prompt for report in model.reports)  # the made tasks have none
    assert all((report.documents, report.queries) == (2, 2) for report in model.reports)


def test_a_fitted_table_and_bm25_for_an_encoder(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(masked_folder(tmp_path / "bert", "bert", head=False))
    fusion = Fusion(dense=0.5, sparse=0.5)
    with LookupRetriever(tower, tmp_path / "work", table="corpus", fusion=fusion) as model:
        assert scores_of(model, MadeTask(), tmp_path / "cache")["recall_at_100"] > 0.9
    [report] = model.reports
    assert report.prompt == tower.default_prompt == ""
    [table] = (tmp_path / "work" / "tables").iterdir()
    with LookupRetriever(tower, tmp_path / "other", table=table, mode="sparse", sparse="bm25") as model:
        assert scores_of(model, MadeTask(), tmp_path / "cache")["recall_at_100"] > 0.9
    assert not (tmp_path / "other" / "tables").exists()


def test_results_have_names_of_their_own(tower: DocumentEncoder, tmp_path: Path) -> None:
    hybrid = LookupRetriever(tower, tmp_path).mteb_model_meta
    assert hybrid.name == "lightretriever/tiny"
    assert hybrid.revision == tower.revision.replace(":", "-")
    assert hybrid.embed_dim == tower.dim
    assert hybrid.model_type == ["hybrid"]
    others = [
        LookupRetriever(tower, tmp_path, mode="dense").mteb_model_meta,
        LookupRetriever(tower, tmp_path, fusion=Fusion(dense=0.5, sparse=0.5)).mteb_model_meta,
        LookupRetriever(tower, tmp_path, instructions={"MadeTask": "Find it"}).mteb_model_meta,
        LookupRetriever(tower, tmp_path, prompt="query: ").mteb_model_meta,
        LookupRetriever(tower, tmp_path, table="corpus").mteb_model_meta,
    ]
    assert len({hybrid.experiment_name, *(meta.experiment_name for meta in others)}) == 6
    assert LookupRetriever(tower, tmp_path, name="us/ours").mteb_model_meta.name == "us/ours"


def test_instructions(tower: DocumentEncoder, tmp_path: Path) -> None:
    task = MadeTask.metadata
    assert LookupRetriever(tower, tmp_path).prompt_of(task) == f"Instruct: {INSTRUCTION}\nQuery: "
    own = LookupRetriever(tower, tmp_path, instructions={"MadeTask": "Find it"}, prompt="{instruction}: ")
    assert own.prompt_of(task) == "Find it: "
    assert LookupRetriever(tower, tmp_path, prompt="query: ").prompt_of(task) == "query: "
    plain = task.model_copy(update={"prompt": "Find {this}"})
    assert LookupRetriever(tower, tmp_path).prompt_of(plain) == "Instruct: Find {this}\nQuery: "


def test_queries_as_text() -> None:
    assert query_text({"id": "1", "text": "a b"}) == "a b"
    assert query_text({"id": "1", "text": "a b", "instruction": "only c"}) == "a b only c"
    assert query_text({"id": "1", "text": "a b", "instruction": None}) == "a b"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert query_text({"id": "1", "text": turns}) == "user: hi; assistant: hello"
    assert query_text({"id": "1", "text": ["hi", "there"], "instruction": "c"}) == "c hi; there"


def test_wrong_use(tower: DocumentEncoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of hybrid"):
        LookupRetriever(tower, tmp_path, mode="both")
    with pytest.raises(UsageError, match="organisation/name"):
        LookupRetriever(tower, tmp_path, name="ours")
    model = LookupRetriever(tower, tmp_path)
    where: dict[str, Any] = {"task_metadata": MadeTask.metadata, "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(UsageError, match="calls index before"):
        model.search([], **where, top_k=10)
    documents, queries, _ = made_rows()
    with model:
        model.index(documents, **where)
        with pytest.raises(UsageError, match="no reranking"):
            model.search(queries[:1], **where, top_k=10, top_ranked={"q0": ["d0"]})
        found = model.search(queries[:2], **where, top_k=3)
        assert [len(scores) for scores in found.values()] == [3, 3]
