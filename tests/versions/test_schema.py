"""Histories of another schema than the code's."""

import pickle

import pytest

from livesync.errors import UpgradeNeeded
from livesync.versions import DeltasCollection, VersionedCollection
from livesync.versions.stored import DELTAS_KEY, SCHEMA, find_history
from livesync.versions.upkeep.erasing import forget


def test_a_history_of_another_schema_is_refused_wherever_it_is_come_across():
    root = {"docs": {"a": 1}, "other": {"a": 1}}
    collection = VersionedCollection(root, "docs")
    collection.init()
    alone = DeltasCollection(root, "alone")
    assert alone.build()
    histories = [find_history(root, "docs"), root[DELTAS_KEY]["alone"]]
    for history in histories:
        history.schema -= 1
    before = pickle.dumps(collection.contents.stored.references.__getstate__())

    for work in (
        lambda: VersionedCollection(root, "docs"),
        lambda: VersionedCollection(root, "other").init(),  # whose mapping may be the other one's
        lambda: DeltasCollection(root, "docs").is_view,
        lambda: DeltasCollection(root, "alone").get_deltas({(0, "main"): 1}),
        lambda: forget(root, "a"),
        lambda: histories[0].forget_object("a"),
    ):
        with pytest.raises(UpgradeNeeded, match="begin anew") as caught:
            work()
        assert (caught.value.stored, caught.value.expected) == (SCHEMA - 1, SCHEMA)

    assert pickle.dumps(collection.contents.stored.references.__getstate__()) == before
    histories[1].schema = SCHEMA
    with pytest.raises(UpgradeNeeded):
        forget(root, "a")
