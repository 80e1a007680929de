"""The collections behind an address: bound to what they were made for, and put in each other's place in one step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from index.engines.data import DIM, WIDTH, make_rows
from index.engines.qdrant.conftest import CONTENTS, make, reach
from index.rest_server import RestServer
from qdrant_client import models

from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.index.engines.qdrant.collection import Contents


def bound(**changes: object) -> Contents:
    return replace(CONTENTS, binding={**CONTENTS.binding, **changes})


def test_a_collection_belongs_to_what_it_was_made_with(server: RestServer) -> None:
    made, reached = make(server), reach(f"{server.url}/everest")
    assert make(server).collection == made.collection  # empty and of the same binding: a killed creation's
    other, third = bound(table_hash="bb"), bound(table_hash="cc")
    with pytest.raises(MismatchError, match="documents of table hash 'aa', the index folder is of 'bb'"):
        reached.open(other)
    made.store(make_rows(3), None)
    with pytest.raises(ArtifactError, match="exists already and holds 3 documents"):
        make(server)
    reached.bind("everest-1", other.binding)
    reached.bind("everest-1", other.binding)  # once more, as after an answer that was lost
    assert reached.open(other).count() == reached.open(CONTENTS).count() == 3
    made.bind(third.binding)
    assert reached.open(other).count() == reached.open(third).count() == made.count() == 3
    with pytest.raises(MismatchError, match="documents of table hash 'cc', the index folder is of 'aa'"):
        reached.open(CONTENTS)
    with pytest.raises(MismatchError, match="documents of model 'tiny', the index folder is of 'big'"):
        reached.open(bound(table_hash="cc", model="big"))
    with pytest.raises(MismatchError, match=f"documents of dimensions {DIM}, the index folder is of 9"):
        reached.open(replace(third, dim=9))
    with pytest.raises(MismatchError, match="documents of sparse vectors True, the index folder is of False"):
        reached.open(replace(third, width=None))


def test_a_collection_that_something_else_made_is_refused(server: RestServer) -> None:
    server.client.create_collection("others", {})
    vectors = models.VectorParams(size=DIM, distance=models.Distance.DOT)
    server.client.create_collection("alike", vectors, metadata={"lightretriever": dict(CONTENTS.binding)})
    for name in ("others", "alike"):
        with pytest.raises(ArtifactError, match="lightretriever did not make"):
            reach(f"{server.url}/{name}").open(CONTENTS)
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        reach(f"{server.url}/nowhere").open(CONTENTS)


def test_a_new_collection_takes_the_place_of_the_old_in_one_step(server: RestServer) -> None:
    reached, here = reach(f"{server.url}/everest"), make(server)
    here.store(make_rows(10), None)
    elsewhere = reached.open(CONTENTS, "everest-1")
    following = reached.make(reached.next_name(), CONTENTS)
    following.store(make_rows(4, seed=1), None)
    assert (following.collection, here.count(), following.count()) == ("everest-2", 10, 4)
    assert here.info()["unused_collections"] == ["everest-2"]
    reached.settle("everest-1")  # the alias stands for it already
    assert here.count() == 10
    reached.settle("everest-2")
    reached.settle("everest-2")  # once more, as after an answer that was lost
    reached.settle("everest-1")  # by a copy that does not know yet
    assert [found.name for found in server.client.get_collections().collections] == ["everest-2"]
    assert elsewhere.count() == 4  # it looks where the alias leads, and finds what it was bound to
    assert elsewhere.info()["collection"] == "everest-2"
    assert reached.open(CONTENTS, "everest-1").collection == "everest-2"
    reached.make("everest-3", bound(model="other"))
    reached.settle("everest-3")
    with pytest.raises(MismatchError, match="documents of model 'other', the index folder is of 'tiny'"):
        elsewhere.count()
    reached.drop("everest-3")
    reached.drop("everest-3")
    assert not reached.exists("everest-3")


def test_a_collection_that_is_being_filled_goes_over_to_no_other(server: RestServer) -> None:
    make(server).store(make_rows(3), None)
    reached = reach(f"{server.url}/everest")
    filled = reached.make("everest-2", Contents(DIM, WIDTH, CONTENTS.binding))
    filled.follows = False
    reached.drop("everest-2")
    with pytest.raises(ArtifactError, match="404"):
        filled.store(make_rows(2, seed=5), None)
    assert reached.open(CONTENTS).count() == 3
