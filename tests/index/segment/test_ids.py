"""Ids of a segment: as they were given, or said to be damaged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import ArtifactError
from lightretriever.index.segment.ids import Ids, pack_ids

names = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), max_size=20)


@given(names, st.randoms(use_true_random=False))
def test_ids_come_back_in_the_order_asked_for(ids, random):
    places = [random.randrange(len(ids)) for _ in range(30)] if ids else []
    packed = Ids.of(pack_ids(ids).arrays())
    assert packed.at(np.array(places, np.int32)) == [ids[place] for place in places]


def test_damage_is_named():
    good = pack_ids(["one", "two", "three"])
    every = np.arange(3, dtype=np.int32)
    for at, value, message in ((0, 0xFF, "invalid start byte"), (4, 0, "one holds NUL")):
        text = good.text.copy()
        text[at] = value
        with pytest.raises(ArtifactError, match=message):
            Ids(good.starts, text).at(every)
    for starts in ([0, 5, 3, 11], [0, 3, 99, 11], [0, -4, 6, 11]):
        with pytest.raises(ArtifactError, match="does not ascend"):
            Ids(np.array(starts), good.text).at(every)
