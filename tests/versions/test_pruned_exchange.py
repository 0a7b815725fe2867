"""What was pruned on one side of a push, a pull or a bundle: records travel, and what can be verified is."""

import io

import pytest

from livesync.errors import InvalidCollectionState, InvalidOperation
from livesync.versions import VersionedCollection
from livesync.versions.remotes.bundles import read_bundle, write_bundle
from livesync.versions.remotes.exchange import Told, TravellingRow, received, sent
from livesync.versions.upkeep.retention import Policy

from .editing import edit


@pytest.fixture
def docs(new_collection):
    made = new_collection({"a": {"n": 0}, "b": {"n": 0}, "c": {"n": 0}})
    for n in range(1, 12):
        edit(made, f"v{n}", a={"n": n}, b={"n": n // 4}, d={"n": n} if n % 3 else None)
    return made


@pytest.fixture
def new_other(new_root, clock):
    return lambda: VersionedCollection(new_root(), "docs", clock=clock)


def prune(docs, **policy):
    while docs.prune(Policy(**(policy or {"newest": 1}))):
        pass


def ids(docs, branch="main"):
    return [entry.id for entry in docs.get_log(branch)]


def pruned(docs, branch="main"):
    return {entry.version for entry in docs.get_log(branch) if entry.is_pruned}


def same(one, other):
    """All that both have is the same, and whole."""
    assert ids(one) == ids(other)
    for entry in one.get_log():
        if entry.version not in pruned(one) | pruned(other):
            assert dict(one.read_all(entry.version, "main")) == dict(other.read_all(entry.version, "main"))
    assert one.check() == other.check() == []


def test_a_pruned_history_is_taken_over_with_what_there_is(docs, new_other):
    docs.tag("here", 6)
    prune(docs)
    one, two = new_other(), new_other()
    docs.push(one)
    two.pull(docs)
    for other in (one, two):
        same(docs, other)
        assert pruned(other) == {1, 2, 3, 4, 5, 7, 8, 9, 10}
        assert dict(other.documents) == dict(docs.documents)
    assert [entry.version for entry in two.history("a")] == [11, 6, 0]
    assert docs.push(one)
    assert two.pull(docs)
    edit(two, "on", a={"n": "on"})
    two.push(one)
    docs.pull(one)
    same(docs, two)
    assert docs.documents["a"] == {"n": "on"}


def test_who_has_more_verifies_all_of_it(docs, new_other):
    other = new_other()
    other.pull(docs)
    for n in range(3):
        edit(docs, f"more {n}", a={"n": f"more {n}"}, e={"n": n // 2})
    docs.tag("here", 3)
    prune(docs)
    assert other.pull(docs)
    assert pruned(other) == {12, 13}
    same(docs, other)


def test_who_has_pruned_less_makes_the_next_version_against_his_own(docs, new_other):
    """The one that comes is told since version 0; here the one right before it, or a later one, is whole."""
    other = new_other()
    other.pull(docs)
    edit(docs, "next", a={"n": "next"})
    prune(docs)
    assert other.pull(docs)
    assert pruned(other) == set()
    same(docs, other)

    edit(docs, "pruned later", a={"n": "x"}, c=None)
    edit(docs, "last", a={"n": "y"}, c={"n": 0})
    prune(docs)
    assert other.pull(docs)
    assert pruned(other) == {13}
    assert docs.contents.base_of(docs.find(14)[1]) == docs.find(0)[1]
    assert other.contents.base_of(other.find(14)[1]) == other.find(12)[1]
    assert other.between((12, "main"), (14, "main")) == {"a": ({"n": "next"}, {"n": "y"})}
    same(docs, other)


def test_what_was_changed_back_meanwhile_is_right_on_both_sides(docs, new_other):
    other = new_other()
    other.pull(docs)
    start = docs.read("c", 0)
    edit(docs, "other", c={"n": "other"}, x={"n": 1})
    other.pull(docs)
    edit(docs, "gone by", c={"n": "z"}, y={"n": 1})
    edit(docs, "back", c=start, x=None, y=None)
    prune(docs)
    other.pull(docs)
    assert other.read("c") == start
    assert other.read("x") is None
    assert other.changed((12, "main"), (14, "main")) == ["c", "x"]
    same(docs, other)


def test_what_follows_a_version_that_was_pruned_here_is_refused(docs, new_other):
    other = new_other()
    other.pull(docs)
    prune(docs)
    other.checkout(5)
    edit(other, c={"n": "side"})
    other.register("side", "side")
    before = len(docs.stored.records)
    for exchange in (lambda: other.push(docs), lambda: docs.pull(other, "side")):
        with pytest.raises(InvalidOperation, match=r"comes after version 5 of 'main', which was pruned here"):
            exchange()
        docs._root._p_jar.transaction_manager.get()
    assert len(docs.stored.records) == before
    other.checkout(branch="main")
    other.cherry_pick(0, "side")
    other.push(docs)
    assert docs.documents["c"] == {"n": "side"}
    same(docs, other)


def test_a_branch_that_would_end_at_a_version_that_was_pruned_here_is_refused(docs, new_other):
    other = new_other()
    other.pull(docs)
    prune(docs)
    other.checkout(5)
    other.create_branch("side")
    for exchange in (lambda: other.push(docs, "side"), lambda: docs.pull(other, "side")):
        with pytest.raises(
            InvalidOperation, match="branch 'side' ends at version 5 of 'main', which was pruned"
        ):
            exchange()
    assert docs.branches() == {"main"}


def test_a_bundle_carries_a_pruned_history(docs, new_other):
    docs.erase("b")
    docs.tag("here", 5)
    prune(docs)
    file = io.BytesIO()
    assert write_bundle(docs, file) == 12
    file.seek(0)
    bundle = read_bundle(file)
    other = new_other()
    other.pull(bundle)
    same(docs, other)
    assert pruned(other) == {1, 2, 3, 4, 6, 7, 8, 9, 10}
    assert other.contents.is_erased("b", other.find(11)[1])


def travelling(docs, number):
    return sent(docs.contents, docs.names.places(), docs.find(number, "main")[1])


@pytest.mark.parametrize("kind", ["unknown base", "document", "missing", "generation", "late"])
def test_what_does_not_fit_is_refused(docs, new_other, kind):
    docs.tag("here", 6)
    other = new_other()
    prune(docs)
    docs.push(other)
    edit(docs, "one", a={"n": 1})
    edit(docs, "two", c={"n": 2})
    prune(docs)
    gone, version = travelling(docs, 12), travelling(docs, 13)
    assert [row.kind for row in gone.rows] == [Told.PRUNED]
    assert version.rows[0].kind == Told.SINCE
    if kind == "generation":
        record = docs._record(docs.find(12, "main")[1])
        gone = gone._replace(record=record._replace(generation=99).packed())
        with pytest.raises(InvalidCollectionState, match="lies elsewhere"):
            received(other.contents, gone)
        return
    received(other.contents, gone)
    rows = list(version.rows)
    if kind == "unknown base":
        rows[0] = rows[0]._replace(payload=bytes(32))
    elif kind == "document":
        rows[1] = travelling(docs, 0).rows[0]
    elif kind == "missing":
        del rows[1]
    elif kind == "late":
        rows = [*rows[1:], rows[0]]
    with pytest.raises((InvalidCollectionState, InvalidOperation)):
        received(other.contents, version._replace(rows=tuple(rows)))
    received(other.contents, version)
    assert other.read("a", 13, "main") == docs.read("a", 13, "main")


def test_a_first_version_is_never_one_that_was_pruned(docs, new_other):
    from livesync.versions.remotes.exchange import received_root
    from livesync.versions.store.contents import Contents
    from livesync.versions.stored import StoredHistory

    version = travelling(docs, 0)._replace(rows=(TravellingRow("", Told.PRUNED, b"", b""),))
    stored = StoredHistory("docs")
    with pytest.raises(InvalidCollectionState):
        received_root(stored, Contents(stored), version)
