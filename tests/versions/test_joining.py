"""Merge, cherry-pick and revert, and what becomes of conflicts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.errors import BranchNotFound, InvalidCollectionVersion, InvalidOperation, UnkeptValue
from livesync.versions.diffs.threeway import ABSENT, Kind, Strategies, merge
from livesync.versions.merging import put_at
from livesync.versions.store.ancestry import is_ancestor, merge_bases
from livesync.versions.store.records import Record
from livesync.versions.values import CODEC

from .editing import edit, edited
from .typed import documents


@pytest.fixture
def forked(new_collection):
    """Makes a collection with two branches that edited the same first version; main is checked out."""

    def make(base, ours, theirs):
        docs = new_collection(base)
        docs.create_branch("side")
        edit(docs, "theirs", **theirs)
        docs.checkout(branch="main")
        edit(docs, "ours", **ours)
        return docs

    return make


def test_a_merge_takes_what_only_one_side_changed_and_has_two_parents(forked):
    docs = forked(
        {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}, "d": {"n": 1}},
        {"a": {"n": 2}, "d": None},
        {"b": {"n": 2}, "c": None, "x": {"n": 1}, "d": None},
    )

    joined = docs.merge("side", author="ada")

    assert (joined.version, joined.conflicts) == ((2, "main"), ())
    assert dict(docs.documents) == dict(docs.read_all()) == {"a": {"n": 2}, "b": {"n": 2}, "x": {"n": 1}}
    entry = docs.get_log()[0]
    assert entry.parents == ((1, "main"), (0, "side"))
    assert (entry.author, entry.message, tuple(entry.counts)) == (
        "ada",
        "Merge 'side' into 'main'",
        (1, 1, 1),
    )
    assert "Merge:   1 (main), 0 (side)" in str(entry)
    assert not docs.has_changes


def test_what_was_merged_before_is_not_merged_again_and_later_versions_are(forked):
    docs = forked({"a": {"n": 1}, "b": {"n": 1}}, {"a": {"n": 2}}, {"b": {"n": 2}})
    docs.merge("side")
    assert docs.merge("side").version is None
    assert docs.merge("main").version is None
    docs.checkout(branch="side")
    edit(docs, "more", b={"n": 3})
    docs.checkout(branch="main")
    assert docs.merge("side").version == (3, "main")
    assert dict(docs.documents) == {"a": {"n": 2}, "b": {"n": 3}}


def test_a_merge_is_a_version_even_where_the_branch_could_just_go_on(new_collection):
    docs = new_collection({"a": {"n": 1}})
    docs.create_branch("side")
    edit(docs, "theirs", a={"n": 2})
    docs.checkout(branch="main")
    assert docs.merge("side").version == (1, "main")
    assert docs.documents["a"] == {"n": 2}


def test_both_sides_of_a_document_are_merged_by_path(forked):
    docs = forked(
        {"a": {"t": "x", "deep": {"k": 1, "l": 1}, "tags": ["p"]}},
        {"a": {"t": "y", "deep": {"k": 2, "l": 1}, "tags": ["p", "q"]}},
        {"a": {"t": "x", "deep": {"k": 1, "l": 3}, "tags": ["r", "p"]}},
    )
    assert docs.merge("side").conflicts == ()
    assert docs.documents["a"] == {"t": "y", "deep": {"k": 2, "l": 3}, "tags": ["r", "p", "q"]}


@pytest.fixture
def torn(forked):
    """A collection in which a merge has met two conflicts, in one document, and a deletion in another."""
    docs = forked(
        {"a": {"n": 1, "m": 1, "k": 1}, "b": {"n": 1}},
        {"a": {"n": 2, "m": 2, "k": 1}, "b": None},
        {"a": {"n": 3, "m": 3, "k": 9}, "b": {"n": 5}},
    )
    docs.merge("side", message="joined")
    return docs


def test_conflicts_are_values_and_nothing_is_written_until_they_are_resolved(torn):
    assert [
        (one.document_id, one.path, one.kind, one.base, one.ours, one.theirs) for one in torn.conflicts()
    ] == [
        ("a", ("n",), Kind.EDIT_EDIT, 1, 2, 3),
        ("a", ("m",), Kind.EDIT_EDIT, 1, 2, 3),
        ("b", (), Kind.DELETE_EDIT, {"n": 1}, ABSENT, {"n": 5}),
    ]
    assert str(torn.conflicts()[0]) == "a: edit/edit at n"
    assert dict(torn.documents) == {"a": {"n": 2, "m": 2, "k": 1}}
    assert (torn.has_conflicts, torn.version) == (True, 1)


def test_conflicts_are_resolved_one_by_one_and_the_last_makes_the_version(torn):
    assert len(torn.resolve_conflicts("theirs", "a", ["n"]).conflicts) == 2
    assert len(torn.resolve_conflicts(lambda conflict: conflict.ours + conflict.theirs, "a").conflicts) == 1
    joined = torn.resolve_conflicts("theirs")
    assert joined.version == (2, "main")
    assert dict(torn.documents) == {"a": {"n": 3, "m": 5, "k": 9}, "b": {"n": 5}}
    assert torn.get_log()[0].message == "joined"
    assert (torn.has_conflicts, torn.has_changes) == (False, False)


def test_ours_keeps_ours_and_base_takes_both_back(torn):
    torn.resolve_conflicts("base", "a")
    torn.resolve_conflicts("ours")
    assert dict(torn.documents) == {"a": {"n": 1, "m": 1, "k": 9}}


def test_while_conflicts_wait_no_version_is_made_and_none_is_gone_to(torn):
    edit(torn, x={"n": 1})
    for refused in (
        lambda: torn.register("no"),
        lambda: torn.checkout(0),
        lambda: torn.merge("side"),
        lambda: torn.revert(1),
        lambda: torn.delete_version_subtree(1),
    ):
        with pytest.raises(InvalidOperation, match="conflicts wait"):
            refused()
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        torn.resolve_conflicts("ours")
    assert torn.has_conflicts
    torn.discard_changes()
    assert torn.resolve_conflicts("ours").version == (2, "main")


def test_a_merge_can_be_aborted(torn):
    assert torn.abort_merge()
    assert not torn.abort_merge()
    assert torn.conflicts() == []
    assert (torn.version, torn.documents["a"]) == (1, {"n": 2, "m": 2, "k": 1})
    with pytest.raises(InvalidOperation, match="no conflicts"):
        torn.resolve_conflicts("ours")


def test_a_decision_that_is_none_is_refused(torn):
    with pytest.raises(ValueError, match="decided by"):
        torn.resolve_conflicts("mine")
    with pytest.raises(InvalidOperation, match="at this place"):
        torn.resolve_conflicts("ours", "a", ["k"])


def test_strategies_decide_beforehand(forked):
    docs = forked({"a": {"n": 10}}, {"a": {"n": 12}}, {"a": {"n": 13}})
    added = Strategies({("n",): lambda base, ours, theirs: ours + theirs - base})
    assert docs.merge("side", strategies=added).conflicts == ()
    assert docs.documents["a"] == {"n": 15}


def test_a_merge_needs_a_clean_collection_on_a_branch(forked):
    docs = forked({"a": {"n": 1}}, {"a": {"n": 2}}, {"b": {"n": 1}})
    edit(docs, a={"n": 9})
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        docs.merge("side")
    docs.discard_changes()
    docs.checkout(0)
    with pytest.raises(InvalidOperation, match="detached"):
        docs.merge("side")


def test_a_version_is_picked_from_another_branch(forked):
    docs = forked({"a": {"n": 1}, "b": {"n": 1}}, {"a": {"n": 2}}, {"b": {"n": 2}})
    docs.checkout(branch="side")
    edit(docs, "later", a={"n": 1, "m": 1})
    picked = docs.get_log()[0].id
    docs.checkout(branch="main")
    assert docs.cherry_pick(1, "side").version == (2, "main")
    assert dict(docs.documents) == {"a": {"n": 2, "m": 1}, "b": {"n": 1}}
    entry = docs.get_log()[0]
    assert (entry.message, entry.metadata, len(entry.parents)) == ("later", {"cherry-picked": picked}, 1)
    assert docs.cherry_pick(1, "side").version is None


def test_a_version_is_taken_back(forked):
    docs = forked({"a": {"n": 1}, "b": {"n": 1}}, {"a": {"n": 2}, "b": None}, {})
    edit(docs, "more", a={"n": 2, "m": 1})
    assert docs.revert(1).version == (3, "main")
    assert dict(docs.documents) == {"a": {"n": 1, "m": 1}, "b": {"n": 1}}
    assert docs.get_log()[0].message == "Revert 'ours'"
    with pytest.raises(InvalidOperation, match="first version"):
        docs.revert(0)
    with pytest.raises(InvalidCollectionVersion):
        docs.revert(9)


def test_a_version_that_was_merged_cannot_be_deleted_before_the_merge(forked):
    docs = forked({"a": {"n": 1}, "b": {"n": 1}}, {"a": {"n": 2}}, {"b": {"n": 2}})
    docs.merge("side")
    with pytest.raises(InvalidOperation, match="version 2 of 'main' has merged"):
        docs.delete_version_subtree(0, "side")
    assert docs.delete_version_subtree(2, "main")
    assert docs.delete_version_subtree(0, "side")
    assert dict(docs.documents) == {"a": {"n": 2}, "b": {"n": 1}}


def grown(docs, rng, steps):
    """Let branches fork, change and merge at random; return every version's parents by key."""
    for number in range(steps):
        docs.checkout(branch=rng.choice(sorted(docs.branches())))
        deed = rng.random()
        if deed < 0.15:
            docs.create_branch(f"b{number}")
        if deed < 0.6:
            edit(docs, "edit", **{rng.choice("abcd"): {"n": rng.randrange(4), "m": rng.randrange(4)}})
        else:
            joined = docs.merge(rng.choice(sorted(docs.branches())))
            if joined.conflicts:
                docs.resolve_conflicts(rng.choice(["ours", "theirs"]))
    stored = docs.stored
    records = {key: Record.unpacked(packed) for key, packed in stored.records.items()}
    return {key: {stored.keys[parent] for parent in record.parents} for key, record in records.items()}


def ancestors_of(parents, key):
    found, todo = {key}, [key]
    while todo:
        new = parents[todo.pop()] - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_best_common_ancestors_are_those_of_plain_sets(new_collection, seed):
    rng = random.Random(seed)
    docs = new_collection({one: {"n": 0, "m": 0} for one in "abcd"})
    parents = grown(docs, rng, 25)
    before = {key: ancestors_of(parents, key) for key in parents}
    for one in parents:
        for other in parents:
            common = before[one] & before[other]
            best = {key for key in common if not any(key in before[it] for it in common if it != key)}
            assert set(merge_bases(docs.contents, one, other)) == best
            assert is_ancestor(docs.contents, one, other) == (one in before[other])


@pytest.mark.parametrize("seed", range(8))
def test_after_merges_too_every_version_reads_back_by_path_by_changes_and_by_checkout(new_collection, seed):
    rng = random.Random(seed)
    docs = new_collection({one: {"n": 0, "m": 0} for one in "abcd"})
    grown(docs, rng, 30)
    versions = [
        (entry.version, name)
        for name in docs.branches()
        for entry in docs.get_log(name)
        if entry.branch == name
    ]
    states = {version: dict(docs.read_all(*version)) for version in versions}
    for _ in range(40):
        start, end = rng.choice(versions), rng.choice(versions)
        docs.checkout(*start)
        assert dict(docs.documents) == states[start]
        docs.checkout(*end)
        assert dict(docs.documents) == states[end]
        differing = {one for one in "abcd" if states[start].get(one, ABSENT) != states[end].get(one, ABSENT)}
        assert docs.changed(start, end) == sorted(differing)


def test_conflicts_are_decided_by_a_value_too(torn):
    assert len(torn.resolve_conflicts(document_id="a", path=["n"], value=7).conflicts) == 2
    torn.resolve_conflicts("ours", "b")
    torn.resolve_conflicts(value=ABSENT)
    assert dict(torn.documents) == {"a": {"n": 7, "k": 9}}
    assert (torn.has_conflicts, torn.check()) == (False, [])


def test_a_conflict_is_decided_in_one_way_at_a_time(torn):
    for arguments in ({}, {"how": "ours", "value": 1}):
        with pytest.raises(ValueError, match="give one of them"):
            torn.resolve_conflicts(**arguments)


def test_a_value_that_cannot_be_kept_decides_nothing(torn):
    torn.resolve_conflicts("ours", "b")
    torn.resolve_conflicts("ours", "a", ["m"])
    with pytest.raises(UnkeptValue, match="document 'a'"):
        torn.resolve_conflicts(value=object())
    assert [str(one) for one in torn.conflicts()] == ["a: edit/edit at n"]
    assert (torn.version, torn.check()) == (1, [])
    assert torn.resolve_conflicts("theirs").version == (2, "main")


@pytest.mark.parametrize("is_at_once", [True, False])
def test_items_taken_out_of_a_list_leave_the_conflicts_behind_them_in_place(forked, is_at_once):
    docs = forked(
        {"a": {"x": [1, 2, 3, 4], "y": [1, 2]}},
        {"a": {"x": [10, 2, 30, 40], "y": [10, 2]}},
        {"a": {"x": [11, 2, 31, 41], "y": [11, 2]}},
    )
    docs.merge("side")
    decisions = {10: ABSENT, 30: ABSENT, 40: "kept"}
    if is_at_once:
        docs.resolve_conflicts(lambda conflict: decisions[conflict.ours], "a", ["x"])
    else:
        left = docs.resolve_conflicts(document_id="a", path=["x", 0], value=ABSENT).conflicts
        assert [one.path for one in left] == [("x", 1), ("x", 2), ("y", 0)]
        docs.resolve_conflicts(document_id="a", path=["x", 1], value=ABSENT)
        docs.resolve_conflicts(document_id="a", path=["x", 1], value="kept")
    docs.resolve_conflicts("theirs")
    assert docs.documents["a"] == {"x": [2, "kept"], "y": [11, 2]}


def test_keys_that_are_numbers_do_not_move(forked):
    docs = forked({"a": {"x": {0: 1, 1: 1}}}, {"a": {"x": {0: 2, 1: 2}}}, {"a": {"x": {0: 3, 1: 3}}})
    docs.merge("side")
    docs.resolve_conflicts(document_id="a", path=["x", 0], value=ABSENT)
    docs.resolve_conflicts("theirs")
    assert docs.documents["a"] == {"x": {1: 3}}


@given(documents, st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_deciding_for_ours_gives_what_the_merge_kept_there(base, seed, ours_edits, theirs_edits):
    mood = random.Random(seed)
    base = {"list": [base, {"id": 1, "k": [1, 2]}, {"id": 2}], "inner": base}
    ours = theirs = base
    for _ in range(ours_edits):
        ours = edited(ours, mood)
    for _ in range(theirs_edits):
        theirs = edited(theirs, mood)
    found = merge(base, ours, theirs, CODEC)
    for side in ("ours", "theirs", "base"):
        value = found.value
        for conflict in found.conflicts:
            value = put_at(value, conflict.path, getattr(conflict, side))
        if side == "ours":
            assert value is found.value or CODEC.equal(value, found.value)
        else:
            assert value is ABSENT or CODEC.encode(value)


def test_a_branch_that_was_merged_is_deleted_and_its_versions_stay(forked):
    docs = forked({"a": {"n": 1, "m": 1}}, {"a": {"n": 2, "m": 1}}, {"a": {"n": 1, "m": 2}})
    with pytest.raises(InvalidOperation, match="nothing else leads to version 0 of 'side': merge, or force"):
        docs.delete_branch("side")
    docs.merge("side")
    picked = docs.get_log("side")[0].id
    docs.delete_branch("side")
    assert docs.branches() == {"main"}
    assert docs.collect_garbage() == 0
    assert docs.get_log()[0].parents == ((1, "main"), (-1, ""))
    assert f"Merge:   1 (main), {picked[:12]}" in str(docs.get_log()[0])
    assert str(docs.blame("a")[1]).startswith(f"{picked[:12]} - ")
    assert docs.check() == []
    docs.create_branch("side")
    edit(docs, "again", a={"n": 5, "m": 5})
    assert docs.read("a", 0, "side") == {"n": 5, "m": 5}


def test_a_branch_that_is_needed_is_not_deleted(forked):
    docs = forked({"a": {"n": 1}}, {"a": {"n": 2}}, {"b": {"n": 1}})
    docs.checkout(branch="side")
    docs.create_branch("more")
    edit(docs, "more", a={"n": 3})
    with pytest.raises(InvalidOperation, match="HEAD is on 'more'"):
        docs.delete_branch("more", force=True)
    with pytest.raises(InvalidOperation, match="branch 'more' begins at version 0 of 'side'"):
        docs.delete_branch("side", force=True)
    with pytest.raises(BranchNotFound):
        docs.delete_branch("nowhere")
    docs.checkout(branch="main")
    docs.delete_branch("more", force=True)
    assert docs.collect_garbage() == 1
    assert (docs.branches(), docs.check()) == ({"main", "side"}, [])
