"""Push and pull between two databases."""

import random
from itertools import pairwise

import pytest
import transaction

from livesync.errors import InvalidCollectionState, InvalidOperation, UnkeptValue
from livesync.versions import VersionedCollection
from livesync.versions.remotes.both import REBRANCHED
from livesync.versions.remotes.ends import LocalEnd, lacking, sent
from livesync.versions.remotes.exchange import Told
from livesync.versions.store.ancestry import all_before, is_ancestor, path_between
from livesync.versions.store.records import Record

from .editing import edit


@pytest.fixture
def empty(new_root, clock):
    return VersionedCollection(new_root(), "docs", clock=clock)


@pytest.fixture
def pair(new_collection, empty):
    """Two collections with the same first version."""
    here = new_collection({"a": {"n": 1}, "b": {"n": 1}})
    here.push(empty)
    return here, empty


def log(docs, branch=None):
    return [
        (entry.version, entry.branch, entry.message, entry.id, entry.timestamp)
        for entry in docs.get_log(branch)
    ]


def test_a_push_to_nothing_brings_all_versions_and_the_documents(new_collection, empty):
    here = new_collection({"a": {"n": 1}, "b": {"n": 1}})
    edit(here, "one", a={"n": 2}, b=None)
    assert here.push(empty)
    assert (log(empty), dict(empty.documents)) == (log(here), {"a": {"n": 2}})
    assert (empty.version, empty.branch, empty.has_changes) == (1, "main", False)
    assert dict(empty.read_all(0)) == {"a": {"n": 1}, "b": {"n": 1}}


def test_several_versions_of_one_document_arrive_as_they_are(pair):
    here, there = pair
    for n in range(2, 30):
        edit(here, f"v{n}", a={"n": n}, x={"deep": {"n": n}})
    assert here.push(there)
    assert there.documents["a"] == {"n": 29}
    assert [there.read("a", n)["n"] for n in range(29)] == list(range(1, 30))
    assert log(there) == log(here)


def test_a_push_twice_is_a_push_once(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    assert here.push(there)
    before = (log(there), len(there.stored.records))
    assert here.push(there)
    assert (log(there), len(there.stored.records)) == before


def test_a_push_without_checkout_leaves_the_working_documents_behind_the_tip(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    assert here.push(there, do_checkout=False)
    assert (there.documents["a"], there.version, there.is_detached) == ({"n": 1}, 0, True)
    there.checkout(branch="main")
    assert there.documents["a"] == {"n": 2}


def test_a_push_into_documents_that_have_changed_is_refused_before_anything_is_written(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    edit(there, b={"n": 9})
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        here.push(there)
    assert (len(there.get_log()), there.documents["b"]) == (1, {"n": 9})


def test_a_push_that_is_behind_or_has_diverged_is_rejected(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    with pytest.raises(InvalidOperation, match="behind the remote's"):
        here.push(there)
    edit(here, "ours", b={"n": 2})
    with pytest.raises(InvalidOperation, match="have diverged"):
        here.push(there)
    assert len(there.get_log()) == 2


def test_a_new_branch_needs_the_version_that_it_begins_at(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    here.create_branch("side")
    edit(here, "side", b={"n": 2})
    with pytest.raises(InvalidOperation, match="lacks version 1 of 'main'"):
        here.push(there)
    assert here.push(there, "main")
    assert here.push(there)
    assert log(there, "side") == log(here, "side")
    assert there.documents["b"] == {"n": 1}


def test_an_empty_branch_can_be_pushed(pair):
    here, there = pair
    here.create_branch("empty")
    assert here.push(there)
    assert there.branches() == {"main", "empty"}


def test_a_collection_exchanges_nothing_with_itself_over_another_connection(new_collection):
    docs = new_collection({"a": {"n": 0}})
    manager = docs._root._p_jar.transaction_manager
    manager.commit()
    other_manager = transaction.TransactionManager()
    connection = docs._root._p_jar.db().open(transaction_manager=other_manager)
    same = VersionedCollection(connection, "docs")
    for call in (docs.push, docs.pull):
        with pytest.raises(InvalidOperation, match="nothing with itself"):
            call(same)
    connection.close()


def test_what_cannot_be_exchanged_is_refused(pair, new_collection, new_root, clock):
    here, there = pair
    with pytest.raises(InvalidOperation, match="with itself"):
        here.push(here)
    with pytest.raises(ValueError, match="names must be the same"):
        here.push(new_collection(name="others"))
    with pytest.raises(InvalidOperation, match="no branch"):
        here.push(there, "nope")
    with pytest.raises(InvalidOperation, match="no branch"):
        here.pull(there, "nope")
    edit(here, "one", a={"n": 2})
    here.checkout(0)
    with pytest.raises(InvalidOperation, match="detached"):
        here.push(there)
    with pytest.raises(InvalidOperation, match="detached"):
        here.pull(there)
    other = new_collection({"a": {"n": 5}})
    with pytest.raises(InvalidCollectionState, match="diverging roots"):
        other.push(there)
    with pytest.raises(InvalidCollectionState, match="diverging roots"):
        other.pull(there)
    untracked = VersionedCollection(new_root(), "docs", clock=clock)
    untracked.documents["precious"] = {"n": 1}
    for refused in (lambda: here.push(untracked, "main"), lambda: untracked.pull(there)):
        with pytest.raises(InvalidOperation, match="would be lost"):
            refused()
    assert dict(untracked.documents) == {"precious": {"n": 1}}
    assert untracked.push(here) is False
    assert here.pull(untracked) is False


def test_a_pull_goes_on_with_what_the_other_has(pair):
    here, there = pair
    edit(there, "one", a={"n": 2})
    edit(there, "two", a={"n": 3}, b=None)
    assert here.pull(there)
    assert (log(here), dict(here.documents)) == (log(there), {"a": {"n": 3}})
    assert here.pull(there)
    edit(here, "three", a={"n": 4})
    assert here.pull(there)
    assert here.version == 3


def test_a_pull_of_another_branch_leaves_the_working_documents(pair):
    here, there = pair
    there.create_branch("side")
    edit(there, "side", a={"n": 7})
    edit(here, b={"n": 9})
    assert here.pull(there, "side")
    assert (here.branch, here.documents["b"], here.branches()) == ("main", {"n": 9}, {"main", "side"})
    assert here.read("a", 0, "side") == {"n": 7}


def test_a_pull_leaves_changes_of_other_documents_as_they_are(pair):
    here, there = pair
    edit(there, "one", a={"n": 2})
    edit(here, b={"n": 9}, x={"n": 1})
    assert here.pull(there)
    assert dict(here.documents) == {"a": {"n": 2}, "b": {"n": 9}, "x": {"n": 1}}
    assert dict(here.changes()) == {"changed": "b", "created": "x"}
    assert here.register("mine")
    assert (here.read("b", 1), here.read("b", 2), here.has_changes) == ({"n": 1}, {"n": 9}, False)


def test_where_both_went_on_changes_stay_beside_the_merge_and_what_is_stashed_stays_stashed(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, y={"n": 0})
    here.stash()
    edit(here, "ours", b={"n": 2})
    edit(here, b=None, x={"n": 1})  # of what only ours changed, too
    assert here.pull(there)
    assert [entry.message for entry in here.get_log()][:2] == ["[Auto-Merged]\nours", "theirs"]
    assert dict(here.documents) == {"a": {"n": 2}, "x": {"n": 1}}
    assert dict(here.changes()) == {"deleted": "b", "created": "x"}
    assert here.discard_changes()
    assert dict(here.documents) == {"a": {"n": 2}, "b": {"n": 2}}
    assert here.stash_apply()
    assert here.documents["y"] == {"n": 0}


def test_where_both_disagree_changes_stay_until_the_merge_was_decided(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, "ours", a={"n": 3})
    edit(here, b={"n": 9})
    assert here.pull(there)
    assert (here.has_conflicts, dict(here.documents)) == (True, {"a": {"n": 2}, "b": {"n": 9}})
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        here.resolve_conflicts("theirs")
    assert here.stash()
    assert here.resolve_conflicts("theirs").version == (2, "main")
    assert here.stash_apply()
    assert (dict(here.documents), list(here.changes())) == (
        {"a": {"n": 3}, "b": {"n": 9}},
        [("changed", "b")],
    )


@pytest.mark.parametrize("ours", [None, {"n": 5}])
def test_a_pull_of_documents_that_have_changes_is_refused_as_a_whole(pair, ours):
    here, there = pair
    edit(there, "theirs", a={"n": 2}, b={"n": 2})
    if ours is not None:
        edit(here, "ours", x=ours)
    edit(here, b={"n": 9})
    before = log(here), here.branches(), dict(here.documents), len(here.stored.records)
    with pytest.raises(InvalidOperation, match="'b' changed here and there: register, stash or discard your"):
        here.pull(there)
    assert (log(here), here.branches(), dict(here.documents), len(here.stored.records)) == before
    assert list(here.changes()) == [("changed", "b")]
    assert here.stash()
    assert here.pull(there)


def test_a_pull_into_nothing_takes_everything(new_collection, empty):
    there = new_collection({"a": {"n": 1}})
    there.create_branch("side")
    edit(there, "side", a={"n": 2})
    assert empty.pull(there, "side")
    assert (empty.branch, empty.version, empty.documents["a"]) == ("side", 0, {"n": 2})
    assert empty.branches() == {"main", "side"}


def test_where_both_went_on_ours_are_kept_by_name_and_merged_as_one_version(pair):
    here, there = pair
    edit(there, "theirs 1", a={"n": 2})
    edit(there, "theirs 2", a={"n": 3})
    edit(here, "ours 1", b={"n": 2})
    edit(here, "ours 2", x={"n": 1})

    assert here.pull(there)

    aside = f"{REBRANCHED}main_0"
    assert here.branches() == {"main", aside}
    assert [entry.message for entry in here.get_log(aside)] == ["ours 2", "ours 1", "Initial collection."]
    messages = [entry.message for entry in here.get_log()]
    assert messages == ["[Auto-Merged]\nours 1\nours 2", "theirs 2", "theirs 1", "Initial collection."]
    assert here.get_log()[0].parents == ((2, "main"), (1, aside))
    assert dict(here.documents) == {"a": {"n": 3}, "b": {"n": 2}, "x": {"n": 1}}
    assert here.push(there)
    assert dict(there.documents) == dict(here.documents)
    assert [entry.id for entry in there.get_log()] == [entry.id for entry in here.get_log()]


def test_long_messages_of_what_was_put_aside_are_cut_in_the_merges(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    for number in range(2):
        edit(here, f"{number}" * 90_000, b={"n": number + 2})
    here.pull(there)
    message = here.get_log()[0].message
    assert message.startswith("[Auto-Merged]\n000")
    assert message.endswith("1 …")
    assert len(message) == 100_002
    here.squash(2, 2)
    assert here.push(there)


def test_where_both_disagree_the_merge_waits_and_can_be_left(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, "ours", a={"n": 3})
    assert here.pull(there)
    assert (here.has_conflicts, here.documents["a"]) == (True, {"n": 2})
    assert here.conflicts()[0].theirs == 3
    joined = here.resolve_conflicts("theirs")
    assert joined.version == (2, "main")
    assert here.documents["a"] == {"n": 3}
    assert here.push(there)
    assert there.documents["a"] == {"n": 3}


def test_a_second_divergence_has_a_name_of_its_own(pair):
    here, there = pair
    for n in range(2):
        edit(there, "theirs", a={"n": 10 + n})
        edit(here, "ours", b={"n": 10 + n})
        assert here.pull(there)
        assert here.push(there)
    assert here.branches() >= {f"{REBRANCHED}main_0", f"{REBRANCHED}main_1"}
    assert dict(here.documents) == dict(there.documents)


@pytest.mark.parametrize("what", ["record", "delta", "hash", "row"])
def test_what_was_changed_on_the_way_is_refused(pair, what, monkeypatch):
    here, there = pair
    edit(here, "one", a={"n": 2}, b={"n": 2})

    def tampered(*arguments):
        version = sent(*arguments)
        if what == "record":
            told = Record.unpacked(version.record)._replace(message="two")
            return version._replace(record=told.packed())
        if what == "row":
            return version._replace(rows=version.rows[:1])
        row = version.rows[0]
        if what == "hash":  # a document that was not erased travels as one that was
            lost = row._replace(kind=Told.ERASED, payload=b"", hash=bytes(16))
            return version._replace(rows=(lost, *version.rows[1:]))
        return version._replace(
            rows=(row._replace(payload=row.payload.replace(b"\x02", b"\x03")), *version.rows[1:])
        )

    monkeypatch.setattr("livesync.versions.remotes.ends.sent", tampered)
    with pytest.raises(InvalidCollectionState, match="its id says"):
        here.push(there)


def test_tags_travel_when_they_are_asked_for(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    here.tag("first", 0)
    here.tag("second")
    assert here.push(there)
    assert there.tags() == {}
    assert here.push(there, tags=True)
    assert there.tags() == here.tags() == {"first": (0, "main"), "second": (1, "main")}

    there.tag("third", 1, "main")
    assert here.pull(there)
    assert "third" not in here.tags()
    assert here.pull(there, tags=True)
    assert here.tags()["third"] == (1, "main")


def test_a_tag_brings_the_versions_that_it_needs(pair):
    here, there = pair
    here.create_branch("side")
    edit(here, "side", a={"n": 2})
    here.tag("there", 0, "side")
    here.checkout(branch="main")
    assert here.push(there, tags=True)
    assert there.tags() == {"there": (0, "side")}
    assert there.read("a", 0, "side") == {"n": 2}


def test_a_tag_that_the_other_has_elsewhere_stays_where_it_is(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    here.push(there)
    here.tag("v", 0)
    there.tag("v", 1)
    with pytest.raises(InvalidOperation, match="tag 'v' at another version"):
        here.push(there, tags=True)
    assert [(one.name, one.what) for one in here.pull_refs(there, tags=True)] == [("v", "other tag")]
    assert (here.tags(), there.tags()) == ({"v": (0, "main")}, {"v": (1, "main")})


def test_all_branches_travel_but_those_that_a_pull_has_put_aside(pair):
    here, there = pair
    edit(there, "theirs", b={"n": 5})
    edit(here, "ours", a={"n": 2})
    here.pull(there)
    for name in ("one", "two"):
        here.create_branch(name)
        edit(here, name, a={"name": name})
    moved = here.push_refs(there, everything=True)
    assert [(one.name, one.what) for one in moved] == [
        ("main", "fast-forward"),
        ("one", "new branch"),
        ("two", "new branch"),
    ]
    assert {name: log(there, name) for name in ("main", "one", "two")} == {
        name: log(here, name) for name in ("main", "one", "two")
    }
    assert there.documents["a"] == {"n": 2}

    edit(there, "more", a={"n": 3})
    here.checkout(branch="main")
    edit(here, "ours", b={"n": 9})
    here.create_branch("three")
    moved = here.pull_refs(there, everything=True)
    assert [(one.name, one.what) for one in moved] == [("main", "diverged")]
    assert len(here.get_log("main")) == 4


def test_a_branch_that_has_merged_the_others_goes_on_there(pair):
    """The other one's tip is the second parent of ours."""
    here, there = pair
    here.create_branch("side")
    edit(here, "side", a={"n": 2})
    here.push(there)
    here.checkout(branch="main")
    edit(here, "main", b={"n": 2})
    here.merge("side")
    here.rename_branch("side", "old")
    here.rename_branch("main", "side")
    assert here.push(there, "side")
    assert [entry.id for entry in there.get_log("side")] == [entry.id for entry in here.get_log("side")]
    assert there.checkout(branch="side")
    assert dict(there.documents) == dict(here.documents)
    assert (there.check(), here.check()) == ([], [])


def test_a_branch_of_another_name_is_pushed_though_all_of_its_versions_are_there(pair):
    here, there = pair
    here.create_branch("side")
    edit(here, "side", a={"n": 2})
    here.push(there)
    here.rename_branch("side", "feature")
    assert here.push(there, "feature")
    assert [one.id for one in there.get_log("feature")] == [one.id for one in here.get_log("feature")]
    assert there.branches() == {"main", "side", "feature"}


def test_of_a_remote_with_an_address_it_is_noted_where_its_branches_were(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    assert here.push(LocalEnd(there, "office"))
    tip = bytes.fromhex(here.get_log()[0].id)
    assert here.stored.references.remotes == {"office": {"main": tip}}
    edit(there, "two", a={"n": 3})
    assert here.pull(LocalEnd(there, "office"))
    assert here.stored.references.remotes == {"office": {"main": bytes.fromhex(there.get_log()[0].id)}}


def grow(docs, rng):
    """Make branches, versions and merges."""
    for turn in range(25):
        deed = rng.random()
        if deed < 0.2:
            docs.create_branch(f"b{turn}")
        elif deed < 0.4:
            docs.checkout(branch=rng.choice(sorted(docs.branches())))
        elif deed < 0.55:
            docs.merge(rng.choice(sorted(docs.branches())))
            if docs.has_conflicts:
                docs.resolve_conflicts("ours")
        else:
            edit(docs, "edit", **{rng.choice("abc"): {"turn": turn}})


@pytest.mark.parametrize("seed", range(20))
def test_what_is_sent_is_what_the_other_lacks(new_collection, seed):
    """Against plain sets, on histories with merges."""
    rng = random.Random(seed)
    docs = new_collection({name: {} for name in "abc"})
    grow(docs, rng)
    contents = docs.contents
    keys = list(docs.stored.records)
    for _ in range(20):
        tips, haves = (rng.sample(keys, rng.randint(0, 3)) for _ in range(2))
        had = set().union(*(all_before(contents, key) for key in haves))
        wanted = set().union(*(all_before(contents, key) for key in tips))
        found = lacking(contents, tips, haves)
        assert set(found) == wanted - had
        assert len(found) == len(set(found))
        place = {key: number for number, key in enumerate(found)}
        for key in found:
            for parent in Record.unpacked(docs.stored.records[key]).parents:
                assert place.get(docs.stored.keys[parent], -1) < place[key]
    one, other = rng.choice(keys), rng.choice(keys)
    if is_ancestor(contents, one, other):
        way = [one, *path_between(contents, one, other)]
        assert way[-1] == other
        for before, after in pairwise(way):
            ids = Record.unpacked(docs.stored.records[after]).parents
            assert before in {docs.stored.keys[one] for one in ids}


@pytest.mark.parametrize("seed", range(10))
def test_random_work_in_two_places_ends_equal(pair, seed):
    rng = random.Random(seed)
    sides = list(pair)
    for _ in range(25):
        one, other = rng.sample(sides, 2)
        deed = rng.random()
        if deed < 0.6:
            edit(one, "edit", **{rng.choice("abc"): {"n": rng.randrange(5), "m": rng.randrange(5)}})
        else:
            one.pull(other)
            while one.has_conflicts:
                one.resolve_conflicts(rng.choice(["ours", "theirs"]))
            assert one.push(other)
            assert dict(one.documents) == dict(other.documents)
            assert [entry.id for entry in one.get_log()] == [entry.id for entry in other.get_log()]
            for entry in one.get_log():
                if entry.branch:
                    assert dict(one.read_all(entry.version, entry.branch)) == dict(
                        other.contents.documents(other.stored.keys[entry.record.id])
                    )


def test_a_push_takes_what_is_registered_and_leaves_changes_and_the_stash_alone(pair):
    here, there = pair
    edit(here, "one", a={"n": 2})
    edit(here, b={"n": "stashed"})
    here.stash()
    edit(here, a={"n": "changed"})
    assert here.push(there)
    assert there.documents["a"] == {"n": 2}
    assert (here.documents["a"], here.has_changes, here.has_stash) == ({"n": "changed"}, True, True)
    edit(here, a={"n": 2})
    assert here.stash_apply()
    assert here.documents["b"] == {"n": "stashed"}


def test_branches_that_hang_from_what_a_pull_puts_aside_stay(pair):
    here, there = pair
    edit(there, "theirs", b={"n": 2})
    edit(here, "ours", a={"n": 2})
    here.create_branch("child")
    edit(here, "child", a={"n": 3})
    here.checkout(branch="main")

    assert here.pull(there)

    aside = f"{REBRANCHED}main_0"
    assert here.branches() == {"main", "child", aside}
    assert [one.message for one in here.get_log("child")] == ["child", "ours", "Initial collection."]
    assert here.get_log("child")[0].prev == (0, aside)
    assert here.read("a", 0, "child") == {"n": 3}
    assert here.checkout(branch="child")
    assert (here.documents["a"], here.check()) == ({"n": 3}, [])


def test_what_both_changed_alike_is_joined_without_a_conflict(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, "ours", a={"n": 2})
    assert here.pull(there)
    assert (here.has_conflicts, here.has_changes) == (False, False)
    newest = here.get_log()[0]
    assert (newest.parents, sum(newest.counts)) == (((1, "main"), (0, f"{REBRANCHED}main_0")), 0)
    assert here.push(there)
    assert log(there)[0][3] == log(here)[0][3]


def test_a_merge_that_is_aborted_leaves_their_branch_and_ours_by_its_name(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, "ours", a={"n": 3})
    here.pull(there)
    assert here.abort_merge()
    aside = f"{REBRANCHED}main_0"
    assert log(here) == log(there)
    assert (here.documents["a"], here.has_changes) == ({"n": 2}, False)
    assert here.push(there)
    assert here.read("a", 0, aside) == {"n": 3}
    assert here.merge(aside).conflicts
    assert here.resolve_conflicts("theirs").version == (2, "main")
    assert here.push(there)
    assert there.documents["a"] == {"n": 3}


def test_a_branch_that_was_put_aside_can_be_pushed_by_its_name(pair):
    here, there = pair
    edit(there, "theirs", a={"n": 2})
    edit(here, "ours", b={"n": 3})
    here.pull(there)
    aside = f"{REBRANCHED}main_0"
    assert here.push(there, aside)
    assert [one.id for one in there.get_log(aside)] == [one.id for one in here.get_log(aside)]


def nested(depth, inner):
    """Return what is so many dicts deep."""
    return nested(depth - 1, {"in": inner}) if depth else inner


def test_what_is_changed_far_inside_a_document_is_kept_and_travels(new_collection, empty):
    docs = new_collection({"a": nested(250, {"n": 0})})
    for number in range(1, 5):
        edit(docs, f"v{number}", a=nested(250, {"n": number}))
    assert docs.squash(1, 2)
    empty.pull(docs)
    for one in (docs, empty):
        assert one.check() == []
        for version, number in enumerate((0, 2, 3, 4)):
            one.checkout(version, "main")
            assert one.documents["a"] == nested(250, {"n": number})
    docs.checkout(branch="main")
    docs.documents["b"] = nested(254, {"n": 0})
    docs.register("too deep to be changed")
    docs.documents["b"] = nested(254, {"n": 1})
    with pytest.raises(UnkeptValue, match="document 'b'"):
        docs.register()
