"""Squash: a run of versions becomes one, what comes after keeps what it says, and nothing else moves."""

import pytest

from livesync.errors import InvalidCollectionVersion, InvalidOperation, VersionPruned
from livesync.versions import VersionedCollection
from livesync.versions.upkeep.retention import Policy

from .editing import edit


@pytest.fixture
def docs(new_collection):
    made = new_collection({"a": {"n": 0}, "b": {"n": 0}, "c": {"n": 0}})
    for n in range(1, 7):
        made.documents["a"] = {"n": n}
        made.register(f"v{n}", author="ada" if n % 2 else "bob", metadata={"n": n})
    return made


def said(docs, branch="main"):
    return [entry.message for entry in docs.get_log(branch)]


def test_a_run_becomes_one_version_and_what_comes_after_keeps_what_it_says(docs):
    before = docs.get_log()
    states = [dict(docs.read_all(n)) for n in range(7)]

    assert docs.squash(2, 4, message="2 to 4", metadata={"why": "tidy"}) == (2, "main")

    assert said(docs) == ["v6", "v5", "2 to 4", "v1", "Initial collection."]
    after = docs.get_log()
    assert (after[2].author, after[2].metadata, tuple(after[2].counts)) == (
        "bob, ada",
        {"why": "tidy"},
        (0, 1, 0),
    )
    assert [dict(docs.read_all(n)) for n in range(5)] == [states[n] for n in (0, 1, 4, 5, 6)]
    assert [entry.id for entry in after[3:]] == [entry.id for entry in before[5:]]
    for old, new in zip(before[:2], after[:2]):
        assert (old.message, old.author, old.timestamp, old.metadata, old.counts) == (
            new.message,
            new.author,
            new.timestamp,
            new.metadata,
            new.counts,
        )
        assert old.id != new.id
        with pytest.raises(InvalidCollectionVersion):
            find(docs, old.id)
    assert (docs.version, docs.is_detached, docs.has_changes) == (4, False, False)
    assert docs.check() == []
    assert [entry.version for entry in docs.history("a")] == [4, 3, 2, 1, 0]


def find(docs, version_id):
    from livesync.versions.refs import find_version

    return find_version(docs, version_id)


def test_the_same_run_squashed_in_two_databases_gives_the_same_ids(docs, new_root, clock):
    other = VersionedCollection(new_root(), "docs", clock=clock)
    docs.push(other)
    clock.now = 2_000_000_000.0
    docs.squash(2, 4, message="one", author="eve")
    clock.now = 2_000_000_000.0
    other.squash(2, 4, message="one", author="eve")
    assert [entry.id for entry in docs.get_log()] == [entry.id for entry in other.get_log()]


def test_one_version_alone_is_said_anew_and_without_a_message_all_are_kept(docs):
    assert docs.squash(6, message="said better") == (6, "main")
    assert said(docs)[0] == "said better"
    assert docs.squash(3) == (3, "main")
    assert said(docs)[0] == "v3\nv4\nv5\nsaid better"
    assert docs.read("a") == {"n": 6}
    assert docs.check() == []
    edit(docs, "and on", a={"n": 7})
    assert (docs.version, docs.check()) == (4, [])


def test_what_was_changed_and_changed_back_leaves_no_version(docs):
    docs.tag("end", 6)
    edit(docs, "there", b={"n": 1}, d={})
    edit(docs, "back", b={"n": 0}, d=None)
    edit(docs, "on", c={"n": 9})
    docs.tag("last")
    assert docs.squash(7, 8) is None
    assert said(docs)[:2] == ["on", "v6"]
    assert docs.tags() == {"end": (6, "main"), "last": (7, "main")}
    assert (docs.version, docs.history("d"), docs.check()) == (7, [], [])
    assert docs.checkout(6)
    assert docs.documents["c"] == {"n": 0}


def test_branches_tags_head_and_merges_that_come_after_follow(docs):
    docs.tag("here", 4)
    docs.checkout(4)
    edit(docs, b={"n": "side"})
    docs.register("side 0", "side")
    docs.create_branch("empty")
    docs.checkout(branch="main")
    docs.merge("side")
    states = {
        place: dict(docs.read_all(*place)) for place in ((4, "main"), (7, "main"), (0, "side"), (5, "main"))
    }
    docs.checkout(5, "main")

    assert docs.squash(2, 4, "main", "run") == (2, "main")

    assert docs.tags() == {"here": (2, "main")}
    assert (docs.version, docs.branch, docs.is_detached, docs.has_changes) == (3, "main", True, False)
    assert said(docs, "side") == ["side 0", "run", "v1", "Initial collection."]
    assert said(docs, "empty") == said(docs, "side")
    assert docs.get_log("main")[0].parents == ((4, "main"), (0, "side"))
    for (number, branch), moved in (((4, "main"), 2), ((7, "main"), 5), ((0, "side"), 0), ((5, "main"), 3)):
        assert dict(docs.read_all(moved, branch)) == states[number, branch]
        assert docs.checkout(moved, branch)
        assert dict(docs.documents) == states[number, branch]
    assert docs.check() == []
    assert docs.collect_garbage() == 0
    docs.checkout(branch="main")
    assert docs.merge("side").version is None


def test_what_a_run_has_merged_stays_merged(docs):
    docs.checkout(1)
    edit(docs, b={"n": "side"})
    docs.register("side 0", "side")
    edit(docs, "side 1", b={"n": "side", "m": 1})
    docs.checkout(branch="main")
    docs.merge("side", 0)
    edit(docs, "between", c={"n": "main"})
    docs.merge("side")
    docs.squash(5, message="all of it")
    entry = docs.get_log()[0]
    assert entry.parents == ((4, "main"), (1, "side"))
    assert docs.merge("side").version is None
    assert docs.check() == []


def test_a_run_that_something_needs_is_refused_and_nothing_changes(docs):
    docs.tag("here", 3)
    ids = [entry.id for entry in docs.get_log()]
    with pytest.raises(InvalidOperation, match="tag 'here' is at version 3 of 'main', within the run"):
        docs.squash(2, 4)
    docs.untag("here")
    docs.checkout(3)
    with pytest.raises(InvalidOperation, match="HEAD is at version 3 of 'main', within the run"):
        docs.squash(2, 4, "main")
    docs.create_branch("side")
    with pytest.raises(InvalidOperation, match="branch 'side' ends at version 3 of 'main'"):
        docs.squash(2, 4, "main")
    edit(docs, "side 0", b={"n": 2})
    docs.checkout(branch="main")
    with pytest.raises(InvalidOperation, match="version 0 of 'side' comes after version 3 of 'main'"):
        docs.squash(2, 4, "main")
    with pytest.raises(InvalidOperation, match="the first version of all stays"):
        docs.squash(0, 2)
    with pytest.raises(InvalidOperation, match="the older one first"):
        docs.squash(4, 2)
    with pytest.raises(InvalidCollectionVersion):
        docs.squash(2, 9)
    edit(docs, "side", b={"n": "main"})
    assert docs.merge("side").conflicts
    with pytest.raises(InvalidOperation, match="conflicts wait"):
        docs.squash(4, 6)
    docs.abort_merge()
    assert [entry.id for entry in docs.get_log()][1:] == ids
    assert docs.check() == []


def test_what_a_remote_has_is_refused_unless_it_is_forced(docs):
    docs.stored.references.remotes = {
        "https://there": {"main": docs.get_log()[2].record.id, "other": b"unknown"}
    }
    with pytest.raises(InvalidOperation, match=r"version 3 of 'main' is known at https://there: squash what"):
        docs.squash(3, 5)
    assert docs.squash(5) == (5, "main")
    assert docs.stored.references.remotes["https://there"].keys() == {"main", "other"}
    assert docs.squash(3, 4, force=True) == (3, "main")
    assert docs.stored.references.remotes["https://there"].keys() == {"other"}
    assert docs.check() == []


def test_working_changes_and_the_stash_stay(docs):
    edit(docs, b={"n": "stashed"})
    docs.stash()
    edit(docs, c={"n": "changed"})
    docs.squash(3, 5)
    assert (docs.has_stash, docs.status()["documents"]["changed"]) == (True, ["c"])
    docs.discard_changes()
    docs.stash_apply()
    assert docs.documents["b"] == {"n": "stashed"}


def test_pruned_and_erased_versions_are_squashed_too(docs):
    docs.erase("a")
    docs.tag("here", 5)
    edit(docs, "after", a={"n": "anew"}, b={"n": 1})
    while docs.prune(Policy(newest=1), 1):
        pass
    with pytest.raises(VersionPruned):
        docs.squash(1, 4)
    with pytest.raises(VersionPruned):
        docs.squash(3, 5)
    assert docs.squash(1, 5, message="all") == (1, "main")
    assert said(docs) == ["after", "v6", "all", "Initial collection."]
    assert docs.check() == []
    assert [docs.contents.is_pruned(docs.find(n)[1]) for n in range(4)] == [False, False, True, False]
    assert docs.contents.is_erased("a", docs.find(1)[1])
    assert docs.squash(2, message="the rest") == (2, "main")
    assert docs.read("a") == {"n": "anew"}
    assert docs.check() == []


def test_without_versions_nothing_is_squashed(new_collection):
    assert new_collection(init=False).squash(1) is None
