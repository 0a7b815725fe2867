"""Erasing a document's content from all versions: it is gone, and the tree stays whole."""

import pickle

import pytest

from livesync.errors import DocumentErased, InvalidOperation
from livesync.versions import VersionedCollection
from livesync.versions.store.changesets import ERASED
from livesync.versions.store.contents import Contents
from livesync.versions.store.records import Record
from livesync.versions.upkeep.erasing import forget

from .editing import edit

SECRET = "Mrs Ada Byron, 12 St James's Square"


@pytest.fixture
def docs(new_collection):
    made = new_collection({"ada": {"who": SECRET, "n": 0}, "bob": {"n": 0}, "cyd": {"n": 0}})
    for turn in range(1, 21):
        made.documents["ada"] = {"who": f"{SECRET} {turn}", "n": turn}
        made.documents["bob"] = {"n": turn}
        made.register(f"turn {turn}")
    return made


def everything(docs):
    """Return all that a database stores of a history, unpacked, as one string of bytes."""
    contents = Contents(docs.stored)
    found = list(contents.packs())
    for key in docs.stored.records:
        found.append([*contents.rows(key)])
        found.append([*contents.documents(key)])
    for history in docs.stored.documents.values():
        found.append(history.tail)
        found += [one.data for _, one in (history.segments or {}).values()]
    found += [one.data for one in docs.stored.dictionaries.values()]
    return pickle.dumps(found)


def test_what_was_erased_is_found_nowhere_and_others_are_untouched(docs):
    before = {n: docs.read("bob", n) for n in range(21)}
    assert b"Byron" in everything(docs)

    assert docs.erase("ada") == 21

    assert b"Byron" not in everything(docs)
    assert {n: docs.read("bob", n) for n in range(21)} == before
    for n in (0, 1, 16, 20):
        with pytest.raises(DocumentErased, match="'ada'"):
            docs.read("ada", n)
        assert dict(docs.read_all(n)) == {"bob": {"n": n}, "cyd": {"n": 0}}


def test_the_tree_stays_whole(docs):
    log = [(one.id, one.message) for one in docs.get_log()]
    changed = docs.changed((3, None), (5, None))
    docs.erase("ada")

    assert [(one.id, one.message) for one in docs.get_log()] == log
    assert [one.version for one in docs.history("ada")] == list(range(20, -1, -1))
    assert docs.changed((3, None), (5, None)) == changed == ["ada", "bob"]
    for packed in docs.stored.records.values():
        Record.unpacked(packed).checked()


def test_erasing_again_or_what_never_was_does_nothing(docs):
    assert docs.erase("nobody") == 0
    docs.erase("ada")
    assert docs.erase("ada") == 0


def test_the_working_document_stays_and_goes_on(docs):
    docs.erase("ada")
    assert docs.documents["ada"]["n"] == 20
    assert not docs.has_changes
    docs.documents["ada"] = {"who": "somebody"}
    assert docs.register("on")
    assert docs.read("ada") == {"who": "somebody"}

    docs.checkout(19)
    assert dict(docs.documents) == {"bob": {"n": 19}, "cyd": {"n": 0}}
    assert not docs.has_changes
    docs.checkout(21)
    assert docs.documents["ada"] == {"who": "somebody"}
    assert docs.documents["bob"] == {"n": 20}


def test_deleting_the_working_document_afterwards_is_no_change(docs):
    docs.erase("ada")
    del docs.documents["ada"]
    assert not docs.has_changes
    assert docs.register("nothing") is False


def test_a_deleted_document_is_erased_too(docs):
    del docs.documents["ada"]
    docs.register("gone")
    docs.erase("ada")
    assert b"Byron" not in everything(docs)
    assert docs.read("ada") is None
    with pytest.raises(DocumentErased):
        docs.read("ada", 20)


def test_the_dictionary_forgets_and_everything_else_reads_as_before(new_collection):
    docs = new_collection(
        {f"d{n:03}": {"text": f"{SECRET if n == 7 else 'plain'} text number {n} " * 8} for n in range(150)}
    )
    for turn in range(40):
        docs.documents["d010"] = {"text": f"all other {turn} " * 20}
        docs.register("turn")
    versions = (0, 5, 39, 40)
    before = {n: {key: one for key, one in docs.read_all(n) if key != "d007"} for n in versions}
    assert docs.contents.is_learned("d007")
    assert list(docs.stored.dictionaries) == [1]

    docs.erase("d007")

    assert list(docs.stored.dictionaries) == [2]
    assert b"Byron" not in everything(docs)
    assert {n: dict(docs.read_all(n)) for n in versions} == before
    docs.documents["d011"] = {"text": "on"}
    assert docs.register("on")


def test_the_stash_forgets_and_a_merge_that_waits_is_named(docs):
    docs.documents["ada"] = {"who": "stashed"}
    docs.documents["bob"] = {"n": "stashed"}
    docs.stash()
    docs.erase("ada")
    docs.stash_apply()
    assert docs.documents["bob"] == {"n": "stashed"}
    assert docs.documents["ada"] == {"who": f"{SECRET} 20", "n": 20}
    docs.register("stashed")

    docs.create_branch("side")
    docs.documents["bob"] = {"n": "theirs"}
    docs.register("theirs")
    docs.checkout(branch="main")
    docs.documents["bob"] = {"n": "ours"}
    docs.register("ours")
    docs.merge("side")
    with pytest.raises(InvalidOperation, match="resolve or abort"):
        docs.erase("bob")


@pytest.fixture
def twin(docs, new_root, clock):
    """Another database that has all of ``docs``, and still has what is erased there later."""
    made = VersionedCollection(new_root(), "docs", clock=clock)
    docs.push(made)
    return made


def ids(docs):
    return [one.id for one in docs.get_log()]


def test_versions_travel_without_what_was_erased_and_are_whole(docs, new_root, clock):
    docs.erase("ada")
    edit(docs, "on", bob={"n": "on"})
    other = VersionedCollection(new_root(), "docs", clock=clock)

    assert docs.push(other)

    assert ids(other) == ids(docs)
    assert (other.check(), docs.check()) == ([], [])
    assert b"Byron" not in everything(other)
    assert dict(other.documents) == {"bob": {"n": "on"}, "cyd": {"n": 0}}
    with pytest.raises(DocumentErased):
        other.read("ada", 3)
    assert not other.has_changes


def test_what_another_database_still_has_does_not_come_back_by_a_pull(docs, twin):
    edit(twin, "before", ada={"who": SECRET, "n": "before"}, bob={"n": 30})
    docs.erase("ada")
    edit(twin, "after", ada={"who": SECRET, "n": "after"}, cyd={"n": 31})

    assert docs.pull(twin)

    assert b"Byron" not in everything(docs)
    assert (ids(docs), docs.check()) == (ids(twin), [])
    assert dict(docs.documents) == {"bob": {"n": 30}, "cyd": {"n": 31}}
    for version in (21, 22):
        with pytest.raises(DocumentErased):
            docs.read("ada", version)


def test_what_was_erased_does_not_come_back_as_a_document_made_anew(docs, twin):
    last = twin.documents["ada"]
    edit(twin, "gone", ada=None)
    docs.erase("ada")
    edit(twin, "back", ada=last)

    assert docs.pull(twin)
    assert b"Byron" not in everything(docs)
    assert (ids(docs), docs.check()) == (ids(twin), [])

    edit(twin, "gone again", ada=None)
    edit(twin, "another", ada={"who": "somebody else"})
    assert docs.pull(twin)
    assert docs.read("ada") == docs.documents["ada"] == {"who": "somebody else"}
    assert (ids(docs), docs.check()) == (ids(twin), [])


def test_what_was_not_here_when_it_was_erased_does_not_come_later(docs, twin):
    edit(twin, "new", eve={"who": SECRET})
    assert docs.erase("eve") == 0

    assert docs.pull(twin)

    assert "eve" not in docs.documents
    with pytest.raises(DocumentErased):
        docs.read("eve")
    assert docs.check() == []


def test_what_follows_an_erased_state_reaches_a_database_that_still_has_it(docs, twin):
    docs.erase("ada")
    edit(docs, "after", ada={"who": "somebody"})
    edit(docs, "edited", ada={"who": "somebody", "n": 1})

    assert docs.push(twin)

    assert twin.documents["ada"] == {"who": "somebody", "n": 1}
    assert twin.read("ada", 20)["n"] == 20
    assert (ids(docs), twin.check(), docs.check()) == (ids(twin), [], [])
    edit(twin, "theirs", ada={"who": "somebody", "n": 2})
    assert docs.pull(twin)
    assert docs.documents["ada"] == {"who": "somebody", "n": 2}


def test_a_first_version_whose_documents_were_erased_travels(new_collection, new_root, clock):
    docs = new_collection({"ada": {"who": SECRET}, "bob": {"n": 0}})
    docs.erase("ada")
    other = VersionedCollection(new_root(), "docs", clock=clock)

    assert docs.push(other)

    assert (dict(other.documents), other.check()) == ({"bob": {"n": 0}}, [])
    with pytest.raises(DocumentErased):
        other.read("ada", 0)


@pytest.fixture
def sides(new_collection):
    """Two branches that part where ada, bob and cyd are; HEAD is on main."""
    docs = new_collection({name: {"n": 0, "m": 0} for name in ("ada", "bob", "cyd")})
    docs.create_branch("side")
    edit(docs, "theirs", ada={"n": 0, "m": 2}, bob={"n": 0, "m": 2})
    docs.checkout(branch="main")
    edit(docs, "ours", ada={"n": 1, "m": 0}, cyd={"n": 1, "m": 0})
    return docs


def test_an_erased_document_that_one_side_changed_is_merged_as_erased(sides):
    sides.erase("bob")
    sides.erase("cyd")

    assert sides.merge("side").version == (2, "main")

    # the working document of what was erased stays as it is, and is no change; the other side's is gone
    assert dict(sides.documents) == {"ada": {"n": 1, "m": 2}, "cyd": {"n": 1, "m": 0}}
    assert (sides.has_changes, sides.check()) == (False, [])
    for name in ("bob", "cyd"):
        with pytest.raises(DocumentErased):
            sides.read(name)


def test_a_merge_across_an_erased_base_keeps_what_both_say_after_it(sides):
    sides.erase("ada")
    edit(sides, "ours again", ada={"n": 1})
    sides.checkout(branch="side")
    edit(sides, "theirs again", ada={"m": 2})
    sides.checkout(branch="main")

    assert sides.merge("side").conflicts == ()
    assert sides.documents["ada"] == {"n": 1, "m": 2}
    assert sides.check() == []


@pytest.mark.parametrize(("how", "left"), [("ours", {"n": 1}), ("theirs", None)])
def test_a_document_that_one_side_has_erased_and_the_other_changed_is_a_conflict(sides, how, left):
    sides.erase("ada")
    edit(sides, "ours again", ada={"n": 1})

    (conflict,) = sides.merge("side").conflicts
    assert str(conflict) == "ada: delete/edit at document"

    assert sides.resolve_conflicts(how).version == (3, "main")
    assert sides.documents.get("ada") == left
    assert sides.check() == []


def test_a_document_that_both_sides_changed_and_that_was_erased_stays_erased(sides):
    sides.erase("ada")
    assert sides.merge("side").conflicts == ()
    with pytest.raises(DocumentErased):
        sides.read("ada")
    assert (sides.has_changes, sides.check()) == (False, [])


def test_all_histories_of_a_database_forget(docs, clock):
    other = VersionedCollection(docs._root, "others", clock=clock)
    other.documents["ada"] = {"who": SECRET}
    other.init()
    VersionedCollection(docs._root, "third", clock=clock).init()

    assert forget(docs._root, "ada") == ("docs", "others")
    assert forget({}, "ada") == ()


def test_what_was_erased_may_be_changed_and_what_it_was_before_is_told_as_erased(docs):
    docs.erase("ada")
    docs.documents["ada"] = {"n": "after"}
    assert docs.register("after")

    (ada,) = docs.contents.rows(docs.names.head[1])
    assert ada.backward == ERASED
    assert docs.read("ada") == {"n": "after"}


def test_a_checkout_brings_back_what_was_registered_anew_as_it_was_before_it_was_erased(new_collection):
    docs = new_collection({"a": {"n": 1}, "b": {"n": 1}})
    edit(docs, "one", b={"n": 2})
    docs.erase("a")
    edit(docs, "other", a={"n": 2})
    edit(docs, "as it was", a={"n": 1})

    docs.checkout(1)
    assert "a" not in docs.documents
    docs.checkout(3)

    assert (docs.documents["a"], docs.has_changes) == ({"n": 1}, False)
    docs.checkout(0)
    assert ("a" in docs.documents, docs.has_changes) == (False, False)
