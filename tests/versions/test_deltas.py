"""The deltas of a collection: each stated behaviour, of a collection of its own and of one with versions."""

import dataclasses
import datetime
import math
import struct
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import transaction
import ZODB
from hypothesis import given
from hypothesis import strategies as st
from ZODB.DemoStorage import DemoStorage

from livesync.errors import (
    BranchNotFound,
    DocumentErased,
    InvalidCollectionState,
    InvalidCollectionVersion,
    InvalidOperation,
    UnkeptValue,
)
from livesync.versions import DeltasCollection, VersionedCollection
from livesync.versions.store.changesets import ERASED
from livesync.versions.upkeep.erasing import forget
from livesync.versions.values import CODEC
from livesync.versions.working import MappingCopy

from .typed import documents as typed_documents

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
MAIN = [(number, "main") for number in range(10)]


def at(hour):
    return NOON + datetime.timedelta(hours=hour)


def way(*places):
    return list(reversed(places))


@pytest.fixture
def deltas(new_root):
    made = DeltasCollection(new_root(), "docs")
    made.build()
    return made


@pytest.fixture(params=["alone", "of versions"])
def new_deltas(request, new_root, new_collection):
    """Makes deltas of either kind, of documents as they are first."""

    def make(**documents):
        if request.param == "of versions":
            return DeltasCollection(new_collection(documents)._root, "docs")
        made = DeltasCollection(new_root(), "docs")
        made.build()
        for document_id, document in documents.items():
            made.keep_first_state(document_id, document)
        return made

    return make


@pytest.fixture
def grown(new_deltas):
    """a: 1, 2, 3 on main; 20 on side, which begins at version 1; b is created at 2 of main."""
    deltas = new_deltas(a={"n": 0})
    grown_ids = {
        "a1": deltas.add_delta({"n": 0}, {"n": 1}, "a", 1, "main", at(1), MAIN[:1]),
        "a2": deltas.add_delta({"n": 1}, {"n": 2}, "a", 2, "main", at(2), way(*MAIN[:2])),
        "b2": deltas.add_delta({}, {"b": 2}, "b", 2, "main", at(2), way(*MAIN[:2])),
        "a3": deltas.add_delta({"n": 2}, {"n": 3}, "a", 3, "main", at(3), way(*MAIN[:3])),
        "s0": deltas.add_delta({"n": 1}, {"n": 20}, "a", 0, "side", at(4), way(*MAIN[:2])),
    }
    return deltas, grown_ids


def moved(deltas, start, end, documents):
    return deltas.apply_deltas(deltas.get_deltas(deltas.path(start, end)), documents)


# -- making ---------------------------------------------------------------------------------------------


def test_build_makes_it_once(new_root):
    made = DeltasCollection(new_root(), "docs")
    assert made.build() is True
    assert made.build() is False


def test_before_it_is_built_nothing_is_read_or_written(new_root):
    made = DeltasCollection(new_root(), "docs")
    with pytest.raises(InvalidOperation, match="call build"):
        made.get_deltas({})
    with pytest.raises(InvalidOperation, match="call build"):
        made.add_delta({}, {"n": 1}, "a", 1, "main", NOON, MAIN[:1])


def test_a_delta_document_has_every_field_of_the_schema(grown):
    deltas, ids = grown
    found = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (3, "main")))
    first, second, third = found["a"]
    names = [field.name for field in dataclasses.fields(DeltasCollection.SCHEMA)]
    assert names == [
        "document_id", "collection_version_id", "branch", "timestamp", "forward", "backward", "prev", "next",
        "id",
    ]  # fmt: skip
    assert (second.document_id, second.collection_version_id, second.branch) == ("a", 2, "main")
    assert second.timestamp == at(2)
    assert second.timestamp.tzinfo == ZoneInfo("Europe/Berlin")
    assert (second.id, second.prev, second.next) == (ids["a2"], ids["a1"], (ids["a3"],))
    assert (first.prev, set(first.next)) == (None, {ids["a2"], ids["s0"]})
    assert third["next"] == ()
    assert third["branch"] == "main"
    assert third["nothing"] is None


def test_equal_documents_have_no_delta(deltas):
    assert deltas.add_delta({"n": 1}, {"n": 1}, "a", 1, "main", NOON, MAIN[:1]) is None


def test_the_same_delta_again_is_the_same_id_and_another_one_takes_its_place(grown):
    deltas, ids = grown
    before = way(*MAIN[:3])
    assert deltas.add_delta({"n": 2}, {"n": 3}, "a", 3, "main", at(9), before) == ids["a3"]
    assert deltas.add_delta({"n": 2}, {"n": 4}, "a", 3, "main", at(9), before) == ids["a3"]
    assert moved(deltas, (0, "main"), (3, "main"), {"a": {"n": 0}})["a"] == {"n": 4}
    assert moved(deltas, (3, "main"), (0, "main"), {"a": {"n": 4}, "b": {"b": 2}})["a"] == {"n": 0}


def test_an_id_from_elsewhere_is_kept_and_stands_for_one_delta(deltas):
    given_id = b"from elsewhere"
    assert deltas.add_delta({}, {"n": 1}, "a", 1, "main", NOON, MAIN[:1], with_id=given_id) == given_id
    with pytest.raises(InvalidCollectionState, match="already"):
        deltas.add_delta({}, {"n": 1}, "b", 1, "main", NOON, MAIN[:1], with_id=given_id)


def test_a_delta_that_those_before_do_not_lead_to_is_refused(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionState, match="another one before"):
        deltas.add_delta({"n": 99}, {"n": 4}, "a", 4, "main", at(5), way(*MAIN[:4]))


def test_a_delta_below_others_is_not_replaced(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionState, match="deltas after version 1"):
        deltas.add_delta({"n": 0}, {"n": 7}, "a", 1, "main", at(5), MAIN[:1])


def test_a_history_that_is_not_the_branchs_is_refused(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionState, match="another history"):
        deltas.add_delta({"n": 1}, {"n": 4}, "a", 2, "main", at(5), [(0, "side"), (1, "main"), (0, "main")])
    with pytest.raises(InvalidCollectionState, match="does not go on"):
        deltas.add_delta({"n": 1}, {"n": 4}, "a", 4, "main", at(5), way(*MAIN[:2]))


def test_what_cannot_be_kept_is_named(deltas):
    with pytest.raises(UnkeptValue, match="document 'a'"):
        deltas.add_delta({}, {"n": object()}, "a", 1, "main", NOON, MAIN[:1])


# -- walking --------------------------------------------------------------------------------------------


def test_both_directions_of_time(grown):
    deltas, _ = grown
    assert deltas.path((0, "main"), (2, "main")) == {(0, "main"): 1, (1, "main"): 1, (2, "main"): 1}
    there = moved(deltas, (0, "main"), (3, "main"), {"a": {"n": 0}})
    assert there == {"a": {"n": 3}, "b": {"b": 2}}
    assert moved(deltas, (3, "main"), (0, "main"), there) == {"a": {"n": 0}, "b": {}}


def test_a_way_that_turns_leaves_out_what_the_turning_version_changed(grown):
    deltas, _ = grown
    path = deltas.path((3, "main"), (0, "side"))
    assert path == {(3, "main"): -1, (2, "main"): -1, (1, "main"): 0, (0, "side"): 1}
    assert len(deltas.get_deltas(path)["a"]) == 3
    assert moved(deltas, (3, "main"), (0, "side"), {"a": {"n": 3}, "b": {"b": 2}}) == {
        "a": {"n": 20},
        "b": {},
    }
    assert len(deltas.get_delta_documents_in_path(path)["a"]) == 4
    assert deltas.path((1, "main"), (1, "main")) == {}


def test_several_histories_of_one_document_are_joined(deltas):
    """It is created on two branches apart: two trees; the way between them leads through its absence."""
    deltas.add_delta({}, {"z": 1}, "other", 1, "main", at(0), MAIN[:1])
    deltas.add_delta({}, {"here": 1}, "a", 2, "main", at(1), way(*MAIN[:2]))
    deltas.add_delta({}, {"there": [1]}, "a", 0, "side", at(2), way(*MAIN[:2]))
    found = deltas.get_delta_documents_in_path(deltas.path((2, "main"), (0, "side")))
    assert [one.prev for one in found["a"]] == [None, None]
    there = moved(deltas, (2, "main"), (0, "side"), {"a": {"here": 1}})
    assert there == {"a": {"there": [1]}}
    assert moved(deltas, (0, "side"), (2, "main"), there) == {"a": {"here": 1}}


def test_delta_documents_are_sorted_by_time_where_that_is_asked(grown):
    deltas, ids = grown
    path = deltas.path((0, "side"), (3, "main"))

    def order(sorting):
        return [one.id for one in deltas.get_delta_documents_in_path(path, sorting)["a"]]

    assert order(1) == [ids["a1"], ids["a2"], ids["a3"], ids["s0"]]
    assert order(-1) == order(1)[::-1]
    assert order(None) == [ids["s0"], ids["a1"], ids["a2"], ids["a3"]]
    with pytest.raises(ValueError, match="sorting_order"):
        order(2)


def test_a_document_that_was_not_modified_on_the_way_has_no_deltas(grown):
    deltas, _ = grown
    path = deltas.path((0, "main"), (1, "main"))
    assert set(deltas.get_deltas(path)) == set(deltas.get_delta_documents_in_path(path)) == {"a"}
    untouched = {"b": {"b": 7}}
    assert deltas.apply_deltas({}, untouched) == untouched


def test_an_empty_document_is_one_that_is_to_be_removed(grown):
    deltas, _ = grown
    deltas.add_delta({"n": 3}, {}, "a", 4, "main", at(5), way(*MAIN[:4]))
    assert moved(deltas, (3, "main"), (4, "main"), {"a": {"n": 3}}) == {"a": {}}
    assert moved(deltas, (4, "main"), (3, "main"), {}) == {"a": {"n": 3}}
    (last,) = deltas.get_delta_documents_in_path(deltas.path((3, "main"), (4, "main")))["a"]
    assert (last.forward, last["forward"]) == (b"", b"")
    deltas.add_delta({}, {"n": 5}, "a", 5, "main", at(6), way(*MAIN[:5]))
    assert moved(deltas, (3, "main"), (5, "main"), {"a": {"n": 3}}) == {"a": {"n": 5}}


def test_a_document_that_says_nothing_is_there_in_versions_and_is_carried_over_as_it_is(new_collection):
    versions = new_collection({"a": {}})
    deltas = DeltasCollection(versions._root, "docs")
    assert deltas.add_delta({}, {"n": 1}, "a", 1, "main", NOON, MAIN[:1])
    versions.close_version("one")
    versions.documents["a"] = {}
    versions.register("two")
    sent = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (2, "main")))["a"]
    assert (sent[0].backward, sent[1].forward) != (b"", b"")
    there = new_collection({"a": {}})
    DeltasCollection(there._root, "docs").insert_delta_docs(sent)
    there.close_version("one")
    there.close_version("two")
    assert [there.read("a", number, "main") for number in range(3)] == [{}, {"n": 1}, {}]
    assert there.check() == []


def test_a_path_that_leaves_out_a_version_is_refused(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionState, match="leaves out a version"):
        deltas.get_deltas({(0, "main"): 1, (1, "main"): 1, (3, "main"): 1})


def test_a_path_between_unknown_versions_is_refused(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionVersion):
        deltas.path((0, "main"), (9, "main"))
    with pytest.raises(BranchNotFound):
        deltas.path((0, "main"), (0, "nowhere"))


def test_documents_may_be_given_by_their_own_ids_and_come_back_beside_the_new_ones(deltas):
    old, new = {"_id": "a", "n": 1}, {"_id": "a", "n": 2}
    deltas.add_delta(old, new, "a", 1, "main", NOON, MAIN[:1])
    found = deltas.get_deltas(deltas.path((0, "main"), (1, "main")))
    updated, current = deltas.apply_deltas(found, [old, {"_id": "b"}], return_current_documents=True)
    assert updated == {"a": new, "b": {"_id": "b"}}
    assert current == {"a": old, "b": {"_id": "b"}}


def test_a_delta_that_does_not_fit_is_refused(deltas):
    deltas.add_delta({"n": [1, 2]}, {"n": [1, 2, 3]}, "a", 1, "main", NOON, MAIN[:1])
    found = deltas.get_deltas(deltas.path((0, "main"), (1, "main")))
    with pytest.raises(InvalidCollectionState, match="does not fit"):
        deltas.apply_deltas(found, {"a": {"m": 1}})


def test_a_version_without_deltas_is_no_obstacle(deltas):
    deltas.add_delta({"n": 0}, {"n": 1}, "a", 3, "main", NOON, way(*MAIN[:3]))
    path = dict.fromkeys(MAIN[:6], 1)
    assert deltas.apply_deltas(deltas.get_deltas(path), {"a": {"n": 0}}) == {"a": {"n": 1}}


# -- deleting, renaming, carrying over ------------------------------------------------------------------


def test_a_subtree_is_deleted_and_its_parents_forget_it(grown):
    deltas, ids = grown
    deltas.delete_subtrees((2, "main"), [(3, "main")])
    with pytest.raises(InvalidCollectionVersion):
        deltas.path((0, "main"), (2, "main"))
    (first,) = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (1, "main")))["a"]
    assert first.next == (ids["s0"],)
    assert moved(deltas, (0, "main"), (0, "side"), {"a": {"n": 0}}) == {"a": {"n": 20}}
    deltas.add_delta({"n": 1}, {"n": 5}, "a", 2, "main", at(7), way(*MAIN[:2]))
    assert moved(deltas, (0, "side"), (2, "main"), {"a": {"n": 20}}) == {"a": {"n": 5}}


def test_leaves_must_cover_the_subtree(grown):
    deltas, _ = grown
    with pytest.raises(InvalidCollectionState, match="is no leaf"):
        deltas.delete_subtrees((1, "main"), [(3, "main")])
    with pytest.raises(InvalidCollectionState, match="does not come after"):
        deltas.delete_subtrees((2, "main"), [(0, "side")])
    deltas.delete_subtrees((1, "main"), [(3, "main"), (0, "side")])
    with pytest.raises(InvalidCollectionVersion):
        deltas.path((0, "main"), (1, "main"))
    assert deltas.add_delta({"n": 0}, {"n": 5}, "a", 1, "main", at(7), MAIN[:1])
    assert moved(deltas, (0, "main"), (1, "main"), {"a": {"n": 0}}) == {"a": {"n": 5}}


def test_rebranch_moves_names_and_no_delta(grown):
    deltas, ids = grown
    deltas.rebranch((2, "main"), "moved", 2)
    found = deltas.get_delta_documents_in_path(deltas.path((1, "main"), (1, "moved")))["a"]
    assert [(one.collection_version_id, one.branch, one.id) for one in found] == [
        (0, "moved", ids["a2"]),
        (1, "moved", ids["a3"]),
    ]
    with pytest.raises(InvalidCollectionState, match="not 7"):
        deltas.rebranch((0, "main"), "more", 7)
    with pytest.raises(ValueError, match="already"):
        deltas.rebranch((0, "main"), "side", 2)


def test_delta_documents_are_carried_over_without_links_to_what_does_not_come(grown, new_deltas):
    deltas, ids = grown
    there = new_deltas(a={"n": 0})
    path = deltas.path((0, "main"), (2, "main"))
    sent = deltas.get_delta_documents_in_path(path)
    there.insert_delta_docs([*sent["a"], *sent["b"]])
    there.insert_delta_docs(sent["a"])  # once more: nothing happens
    found = there.get_delta_documents_in_path(path)
    assert [one.id for one in found["a"]] == [ids["a1"], ids["a2"]]
    assert [one.timestamp for one in found["a"]] == [at(1), at(2)]
    assert found["a"][0].next == (ids["a2"],)  # side stayed behind
    assert found["a"][1].next == ()
    more = deltas.get_delta_documents_in_path(deltas.path((2, "main"), (3, "main")))
    there.insert_delta_docs(more["a"])
    assert there.get_delta_documents_in_path(path)["a"][1].next == (ids["a3"],)
    assert moved(there, (0, "main"), (3, "main"), {"a": {"n": 0}}) == {"a": {"n": 3}, "b": {"b": 2}}
    sent = deltas.get_delta_documents_in_path(deltas.path((1, "main"), (0, "side")))
    there.insert_delta_docs(sent["a"])
    assert moved(there, (3, "main"), (0, "side"), {"a": {"n": 3}})["a"] == {"n": 20}


def test_a_delta_whose_parent_is_missing_is_refused(grown, new_deltas):
    deltas, _ = grown
    sent = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (2, "main")))["a"]
    with pytest.raises(InvalidCollectionState, match="which is not here"):
        new_deltas(a={"n": 0}).insert_delta_docs(sent[1:])
    with pytest.raises(InvalidCollectionState, match="does not fit"):
        new_deltas(a={"n": 5}).insert_delta_docs(sent)


def test_a_first_delta_that_is_no_creation_needs_what_was_before(grown, deltas):
    other, _ = grown
    sent = other.get_delta_documents_in_path(other.path((0, "main"), (2, "main")))["a"]
    with pytest.raises(InvalidCollectionState, match="keep its first state"):
        deltas.insert_delta_docs(sent)
    deltas.keep_first_state("a", {"n": 5})
    with pytest.raises(InvalidCollectionState, match="another first state"):
        deltas.keep_first_state("a", {"n": 6})
    deltas.keep_first_state("a", {"n": 5})
    deltas.add_delta({}, {"n": 6}, "c", 1, "main", NOON, MAIN[:1])
    with pytest.raises(InvalidCollectionState, match="has deltas already"):
        deltas.keep_first_state("c", {"n": 1})


def test_an_id_that_stands_for_another_delta_is_refused(grown, new_deltas):
    deltas, _ = grown
    (first,) = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (1, "main")))["a"]
    there = new_deltas(a={"n": 0}, b={"n": 0})
    there.insert_delta_docs([first])
    with pytest.raises(InvalidCollectionState, match="is another one here"):
        there.insert_delta_docs([dataclasses.replace(first, document_id="b")])


# -- a collection with versions -------------------------------------------------------------------------


@pytest.fixture
def versions(new_collection):
    docs = new_collection({"a": {"n": 0}, "c": {"n": 0}})
    docs.documents["a"] = {"n": 1}
    docs.register("one")
    docs.documents["b"] = {"b": 2}
    del docs.documents["c"]
    docs.register("two")
    docs.checkout(1)
    docs.documents["a"] = {"n": 20}
    docs.register("side", "side")
    return docs


def test_the_deltas_of_a_collection_with_versions_are_its_own(versions):
    deltas = DeltasCollection(versions._root, "docs")
    assert deltas.build() is False
    assert deltas.is_view
    found = moved(deltas, (2, "main"), (0, "side"), dict(versions.read_all(2, "main")))
    assert {one: document for one, document in found.items() if document} == dict(
        versions.read_all(0, "side")
    )
    (first,) = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (1, "main")))["a"]
    (side,) = deltas.get_delta_documents_in_path(deltas.path((1, "main"), (0, "side")))["a"]
    assert (first.prev, first.next, side.prev) == (None, (side.id,), first.id)
    assert first.timestamp == versions.get_log()[1].timestamp
    assert CODEC.decode(first.forward) == [[], ["n", 1]]


def test_a_version_that_has_a_record_takes_no_other_delta(versions):
    deltas = DeltasCollection(versions._root, "docs")
    (first,) = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (1, "main")))["a"]
    assert deltas.add_delta({"n": 0}, {"n": 1}, "a", 1, "main", NOON, MAIN[:1]) == first.id
    for new in ({"n": 7}, {}):
        with pytest.raises(InvalidOperation, match="version 1 of 'main' has a record"):
            deltas.add_delta({"n": 0}, new, "a", 1, "main", NOON, MAIN[:1])
    for document_id, old, new in (("x", {}, {"n": 1}), ("b", {}, {"n": 1})):
        with pytest.raises(InvalidOperation, match="version 2 of 'main' has a record"):
            deltas.add_delta(old, new, document_id, 2, "main", NOON, way(*MAIN[:2]))
    with pytest.raises(InvalidOperation, match="its first one says"):
        deltas.keep_first_state("x", {"n": 1})
    with pytest.raises(InvalidCollectionVersion):
        deltas.get_deltas({(1, "main"): 1, (9, "main"): 1})
    with pytest.raises(InvalidCollectionState, match="does not go on at version 5"):
        deltas.add_delta({}, {"n": 1}, "x", 5, "main", NOON, way(*MAIN[:3]))
    assert versions.check() == []


@pytest.fixture
def opened(versions):
    """Version 3 of main is open: a becomes 3, c is created. HEAD is at the end of main."""
    versions.checkout(branch="main")
    deltas = DeltasCollection(versions._root, "docs")
    before = way(*MAIN[:3])
    ids = [
        deltas.add_delta({"n": 1}, {"n": 3}, "a", 3, "main", at(1), before),
        deltas.add_delta({}, {"n": 9}, "c", 3, "main", at(1), before),
    ]
    return versions, deltas, ids


def test_deltas_are_added_to_a_version_that_is_open_until_its_record_is_written(opened):
    versions, deltas, ids = opened
    assert versions.open_versions == [(3, "main")]
    assert (versions.version, versions.is_detached, versions.has_changes) == (2, False, False)
    assert [one.version for one in versions.get_log()] == [2, 1, 0]
    assert [str(one) for one in versions.check()] == [
        "version 3 of main: it is open: it has deltas, and no record"
    ]
    assert deltas.add_delta({"n": 1}, {"n": 3}, "a", 3, "main", at(5), way(*MAIN[:3])) == ids[0]
    found = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (3, "main")))
    assert [one.collection_version_id for one in found["a"]] == [1, 3]
    assert found["a"][0].next == tuple(one.id for one in found["a"][1:]) + found["a"][0].next[1:]
    assert (found["a"][1].prev, found["a"][1].timestamp) == (found["a"][0].id, at(1))
    assert versions.close_version("from elsewhere", author="ada") == (3, "main")
    assert (versions.open_versions, versions.check()) == ([], [])
    assert (versions.version, dict(versions.documents)) == (
        3,
        {"a": {"n": 3}, "b": {"b": 2}, "c": {"n": 9}},
    )
    newest = versions.get_log()[0]
    assert (newest.message, newest.author, newest.counts) == ("from elsewhere", "ada", (1, 1, 0))
    assert deltas.add_delta({"n": 1}, {"n": 3}, "a", 3, "main", at(5), way(*MAIN[:3])) == ids[0]
    with pytest.raises(InvalidOperation, match="no version of 'main' is open"):
        versions.close_version("again")


def test_a_closed_version_is_the_one_that_registering_would_have_made(opened, new_collection, clock):
    versions, _, _ = opened
    versions.close_version("same", author="ada")
    there = new_collection(init=False)
    there.pull(versions, "main")
    assert [one.id for one in there.get_log()] == [one.id for one in versions.get_log()]
    there.checkout(2)
    there.documents.update({"a": {"n": 3}, "c": {"n": 9}})
    clock.now = versions.get_log()[0].timestamp.timestamp() - 1
    there.register("same", "again", author="ada")
    assert there.get_log()[0].id == versions.get_log()[0].id


def test_a_branch_with_an_open_version_goes_on_with_that_only(opened, new_collection):
    versions, _, _ = opened
    versions.documents["b"] = {"b": 3}
    with pytest.raises(InvalidOperation, match="version 3 of 'main' is open"):
        versions.register("x")
    versions.rename_branch("main", "other")
    with pytest.raises(InvalidOperation, match="version 3 of 'other' is open"):
        versions.register("x")
    versions.rename_branch("other", "main")
    with pytest.raises(InvalidOperation, match="there are changes"):
        versions.close_version("x")
    versions.discard_changes()
    there = new_collection(init=False)
    there.pull(versions, "main")
    there.documents["z"] = {"n": 1}
    there.register("elsewhere")
    with pytest.raises(InvalidOperation, match="version 3 of 'main' is open"):
        versions.pull(there)
    versions._root._p_jar.transaction_manager.abort()


def test_what_an_open_version_follows_is_neither_deleted_nor_squashed_nor_collected(opened):
    versions, deltas, _ = opened
    for work in (lambda: versions.delete_version_subtree(2, "main"), lambda: versions.squash(1, 2, "main")):
        with pytest.raises(InvalidOperation, match="version 3 of 'main' is open"):
            work()
    assert versions.collect_garbage() == 0
    deltas.delete_subtrees((3, "main"), [(3, "main")])
    assert versions.check() == []
    assert versions.delete_version_subtree(2, "main")
    assert versions.check() == []


def test_a_new_branch_may_begin_with_an_open_version(versions):
    deltas = DeltasCollection(versions._root, "docs")
    before = way(*MAIN[:2])
    deltas.add_delta({"n": 1}, {"n": 5}, "a", 0, "new", at(1), before)
    deltas.add_delta({"n": 5}, {"n": 6}, "a", 1, "new", at(2), [(0, "new"), *before])
    deltas.add_delta({"n": 5}, {"n": 7}, "a", 0, "newer", at(3), [(0, "new"), *before])
    assert versions.open_versions == [(0, "new"), (1, "new"), (0, "newer")]
    with pytest.raises(InvalidOperation, match="follows version 0 of 'new', which is open"):
        versions.close_version("too early", "newer")
    with pytest.raises(ValueError, match="already"):
        versions.create_branch("new")
    assert versions.branches() == {"main", "side"}
    for branch in ("new", "new", "newer"):
        versions.close_version("closed", branch)
    assert versions.check() == []
    assert [versions.read("a", *place) for place in ((0, "new"), (1, "new"), (0, "newer"))] == [
        {"n": 5},
        {"n": 6},
        {"n": 7},
    ]
    assert versions.checkout(branch="newer")
    assert versions.documents["a"] == {"n": 7}


def test_deltas_of_versions_are_deleted_with_their_versions(versions):
    deltas = DeltasCollection(versions._root, "docs")
    with pytest.raises(InvalidOperation, match="HEAD is at one of them"):
        deltas.delete_subtrees((0, "side"), [(0, "side")])
    with pytest.raises(InvalidOperation, match="the first version"):
        deltas.delete_subtrees((0, "main"), [(2, "main"), (0, "side")])
    deltas.delete_subtrees((2, "main"), [(2, "main")])
    assert versions.check() == []
    assert [one.version for one in versions.get_log("main")] == [1, 0]
    assert versions.read("a") == {"n": 20}
    versions.checkout(branch="main")
    versions.documents["a"] = {"n": 8}
    versions.register("on")
    assert versions.version == 2


def test_a_version_that_another_has_merged_is_not_deleted(versions):
    versions.checkout(branch="main")
    versions.merge("side")
    deltas = DeltasCollection(versions._root, "docs")
    with pytest.raises(InvalidOperation, match="has merged"):
        deltas.delete_subtrees((0, "side"), [(0, "side")])
    assert versions.check() == []


def test_a_change_set_without_a_record_that_is_not_open_is_named(opened):
    versions, _, _ = opened
    references = versions.contents.stored.references
    references.opened = {}
    assert "it has a change set, and no record" in [one.text for one in versions.check()]


def test_deltas_travel_between_both_kinds(versions, deltas):
    view = DeltasCollection(versions._root, "docs")
    for document_id, document in versions.read_all(0, "main"):
        deltas.keep_first_state(document_id, document)
    sent = view.get_delta_documents_in_path(view.path((0, "main"), (2, "main")))
    rows = sorted(
        (one for found in sent.values() for one in found), key=lambda one: one.collection_version_id
    )
    deltas.insert_delta_docs(rows)
    found = moved(deltas, (0, "main"), (2, "main"), dict(versions.read_all(0, "main")))
    assert {one: value for one, value in found.items() if value} == dict(versions.read_all(2, "main"))
    there = deltas.get_delta_documents_in_path(deltas.path((0, "main"), (2, "main")))
    assert {one.id for documents in there.values() for one in documents} == {one.id for one in rows}
    view.insert_delta_docs(rows)  # all are here
    assert versions.check() == []


def test_rebranch_takes_head_along(versions):
    versions.checkout(branch="main")
    DeltasCollection(versions._root, "docs").rebranch((2, "main"), "moved", 1)
    assert (versions.version, versions.branch) == (0, "moved")
    assert dict(versions.read_all()) == {"a": {"n": 1}, "b": {"b": 2}}


# -- forgetting -----------------------------------------------------------------------------------------


def test_what_is_forgotten_is_erased_from_deltas_with_versions_and_without(grown, versions):
    deltas, _ = grown
    path = deltas.path((0, "main"), (3, "main"))
    assert forget(deltas._root, "a") == ("docs",)
    found = deltas.get_deltas(path)
    assert deltas.apply_deltas({"b": found["b"]}, {}) == {"b": {"b": 2}}
    with pytest.raises(DocumentErased, match="'a'"):
        deltas.apply_deltas(found, {"a": {"n": 0}})
    deltas.add_delta({"n": 3}, {"n": 4}, "a", 4, "main", at(9), way(*MAIN[:4]))
    (later,) = deltas.get_delta_documents_in_path(deltas.path((3, "main"), (4, "main")))["a"]
    assert CODEC.decode(later.forward) == [None, {"n": 4}]
    assert later.backward == ERASED
    assert forget(versions._root, "a") == ("docs",)
    view = DeltasCollection(versions._root, "docs")
    with pytest.raises(DocumentErased, match="'a'"):
        moved(view, (0, "main"), (1, "main"), {"a": {"n": 0}})


# -- exact values ---------------------------------------------------------------------------------------

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_BEEF))[0]
FOLD = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
LONG = " ".join(f"word{number}" for number in range(9_000))

EXACT = {
    "1, 1.0 and True are three": ([1, 1.0, True], [True, 1, 1.0]),
    "1 becomes True": ({"v": 1}, {"v": True}),
    "keys 1 and True": ({1: "x"}, {True: "x"}),
    "the bits of a NaN": ({"v": math.nan}, {"v": NAN}),
    "a fold": ({"v": FOLD}, {"v": FOLD.replace(fold=1)}),
    "a fold without a zone": (
        {"v": FOLD.replace(tzinfo=None)},
        {"v": FOLD.replace(tzinfo=None, fold=1)},
    ),
    "a decimal's zeros": ({"v": Decimal("1.0")}, {"v": Decimal("1.00")}),
    "the order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "moves in a list": (list("abcdefgh"), list("ghabcdef")),
    "a word in a long text": (LONG, LONG.replace("word4500", "another")),
    "bytes": ({"v": b"\x00\xff" * 40}, {"v": b"\x00\xff" * 39 + b"\x00"}),
    "0.0 and -0.0": ({"v": 0.0}, {"v": -0.0}),
    "sets and tuples": ({"v": {1, 2}}, {"v": (1, 2)}),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_come_back_exactly_both_ways(deltas, name):
    old, new = ({"value": value} for value in EXACT[name])
    assert deltas.add_delta(old, new, "a", 1, "main", NOON, MAIN[:1]) is not None
    there = moved(deltas, (0, "main"), (1, "main"), {"a": old})
    back = moved(deltas, (1, "main"), (0, "main"), {"a": new})
    assert CODEC.encode(there["a"]) == CODEC.encode(new)
    assert CODEC.encode(back["a"]) == CODEC.encode(old)


# ZODB's pickles, in which working documents lie, cannot hold a zone by name
@pytest.mark.parametrize("name", [name for name in EXACT if name != "a fold"])
def test_values_come_back_exactly_from_a_version_that_was_open(new_collection, name):
    old, new = ({"value": value} for value in EXACT[name])
    versions = new_collection({"a": old})
    deltas = DeltasCollection(versions._root, "docs")
    assert deltas.add_delta(old, new, "a", 1, "main", NOON, MAIN[:1]) is not None
    there = moved(deltas, (0, "main"), (1, "main"), {"a": old})
    assert CODEC.encode(there["a"]) == CODEC.encode(new)
    versions.close_version("closed")
    assert CODEC.encode(versions.read("a")) == CODEC.encode(versions.documents["a"]) == CODEC.encode(new)
    assert CODEC.encode(versions.read("a", 0, "main")) == CODEC.encode(old)
    assert versions.check() == []


@pytest.mark.slow
@given(
    states=st.lists(typed_documents, min_size=2, max_size=6),
    branching=st.lists(st.integers(0, 5), max_size=5),
)
def test_any_documents_on_any_branches_come_back_exactly_from_anywhere(states, branching):
    """Each version is hung at any one before; from each version all others are reached exactly."""
    db = ZODB.DB(DemoStorage())
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    try:
        deltas = DeltasCollection(connection, "docs")
        deltas.build()
        known = [((0, "main"), [], states[0])]
        deltas.add_delta({}, {"z": 0}, "mark", 0, "main", NOON, [])
        for number, state in enumerate(states[1:]):
            parent, history, old = (
                known[branching[number] % len(known)] if number < len(branching) else known[-1]
            )
            place, before = (0, f"branch{number}"), [parent, *history]
            deltas.add_delta({}, {"z": number}, f"mark{number}", *place, NOON, before)
            deltas.add_delta(old, state, "a", *place, NOON, before)
            known.append((place, before, state))
        manager.commit()
        connection.cacheMinimize()
        for start, _, old in known:
            for end, _, new in known:
                found = moved(deltas, start, end, {"a": old})["a"]
                assert CODEC.encode(found) == CODEC.encode(new)
    finally:
        manager.abort()
        connection.close()
        db.close()


def test_a_document_with_many_deltas_is_read_through_few_of_them(deltas):
    history = [(0, "main")]
    text = LONG
    for number in range(1, 60):
        new = text.replace(f"word{number} ", f"edit{number} ")
        deltas.add_delta({"t": text}, {"t": new}, "a", number, "main", at(number), history)
        history, text = [(number, "main"), *history], new
    contents = deltas._contents()
    longest = max(contents.state("a", key).deltas for key in range(60))
    assert 0 < longest <= 16
    assert moved(deltas, (59, "main"), (0, "main"), {"a": {"t": text}}) == {"a": {"t": LONG}}


@pytest.mark.slow
@given(
    states=st.lists(typed_documents, min_size=2, max_size=5),
    branching=st.lists(st.integers(0, 4), max_size=4),
)
def test_open_versions_of_any_documents_are_closed_as_versions_that_are_whole(states, branching):
    """Deltas hang at any version before, open ones included; once closed, each reads as registered."""
    states = [state or {"nothing": None} for state in states]  # {} stands for a document that is not there
    db = ZODB.DB(DemoStorage())
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    try:
        # documents are not stored themselves: ZODB's pickles lose folds, and refuse zones by name
        versions = VersionedCollection(connection, "docs", working=MappingCopy({}, "docs"))
        versions.documents["a"] = states[0]
        versions.init()
        deltas = DeltasCollection(connection, "docs")
        known = [((0, "main"), [], states[0])]
        for number, state in enumerate(states[1:]):
            parent, history, old = (
                known[branching[number] % len(known)] if number < len(branching) else known[-1]
            )
            place, before = (0, f"branch{number}"), [parent, *history]
            deltas.add_delta({}, {"z": number}, f"mark{number}", *place, NOON, before)
            deltas.add_delta(old, state, "a", *place, NOON, before)
            known.append((place, before, state))
        assert len(versions.check()) == len(known) - 1
        for (_, branch), _, _ in known[1:]:
            versions.close_version("closed", branch)
        assert versions.check() == []
        for place, _, state in known:
            assert CODEC.encode(versions.read("a", *place)) == CODEC.encode(state)
            versions.checkout(*place)
            assert not versions.has_changes
    finally:
        manager.abort()
        connection.close()
        db.close()
