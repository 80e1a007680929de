"""Values of Python libraries in an index: stored as what they mean, found by filters of the same kind."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_encoder

from lightretriever import Index
from lightretriever.errors import InputError
from lightretriever.text.corpus import Document

ROW = {
    "floor": np.int16(7),
    "rent": Decimal("950.50"),
    "furnished": np.bool_(True),
    "rooms": np.array(["kitchen", "hall"]),
    "owners": {"ann", "bob"},
    "built": datetime(1931, 5, 1, tzinfo=UTC),
    "sold": np.datetime64("NaT"),
}
FOUND = {
    "floor": 7,
    "rent": 950.5,
    "furnished": True,
    "rooms": ["kitchen", "hall"],
    "owners": ["ann", "bob"],
    "built": "1931-05-01T00:00:00+00:00",
    "sold": None,
}


@pytest.mark.parametrize("given", ["documents", "payloads"])
def test_what_is_added_is_found_by_its_values(tmp_path: Path, given: str) -> None:
    tower = RandomTower()
    other = {"id": "other", "text": "w03 w04", "floor": 1, "sold": "2001-01-01"}
    with Index.create(tmp_path / "i", make_encoder(), model=tower) as index:  # type: ignore[arg-type]
        if given == "documents":
            index.add_documents([{"id": np.int64(12), "text": "w01 w02", **ROW}, other])
        else:
            encoded = tower.encode([Document("12", "w01 w02")])
            index.add(np.array([12]), encoded, [{"text": "w01 w02", **ROW}])  # type: ignore[arg-type]
        for conditions in (
            {"floor": np.uint8(7)},
            {"floor": {"$in": np.arange(5, 9)}},
            {"rent": {"$gt": Decimal("950"), "$lt": np.float32(951)}},
            {"furnished": np.bool_(True), "rooms": np.str_("hall")},
            {"owners": "bob"},
            {"built": {"$lt": datetime(1931, 5, 2, tzinfo=UTC)}},
            {"sold": {"$exists": False}},
        ):
            hits = index.search("w01 w03", 5, "dense", conditions)
            assert [hit.id for hit in hits] == ["12"], conditions
            assert hits[0].metadata == FOUND


def test_a_tenant_said_twice_must_be_the_same(tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), model=RandomTower(), tenant="shop") as index:  # type: ignore[arg-type]
        with pytest.raises(InputError, match="its 'shop' is 'north' outside its metadata and 'south' in it"):
            index.add_documents([{"id": "1", "text": "w01", "shop": "north", "metadata": {"shop": "south"}}])
        index.add_documents([{"id": "2", "text": "w01", "shop": b"north", "metadata": {"shop": "north"}}])
        assert [hit.id for hit in index.search("w01", 5, filter={"shop": "north"})] == ["2"]
