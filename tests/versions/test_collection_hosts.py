"""A collection of an application's documents: read through its host, followed on the track."""

import pytest

from livesync.errors import InvalidOperation, ReadOnlyHost

from .sites import Forgetful, Printed


@pytest.fixture
def site(new_site):
    made = new_site()
    made.edit(a={"n": 1}, b={"n": 1}, c={"n": 1})
    return made


@pytest.fixture
def docs(site):
    made = site.collection()
    made.init()
    site.tm.commit()
    return made


def test_every_collection_has_a_pointer_of_its_own(site, docs):
    other = site.collection("other")
    other.init()
    site.edit(a={"n": 2})
    assert docs.register("two")

    assert other.has_changes
    assert not docs.has_changes


def test_a_checkout_gives_documents_back_and_tells_the_track_who_did_it(site, docs):
    site.edit(a={"n": 2}, b=None, d={"n": 9})
    docs.register("two")
    site.tm.commit()

    docs.checkout(0)
    site.tm.commit()

    assert site.documents == {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}
    told = {
        action.object_id: set(action.actions)
        for action in site.manager.waiting()
        if action.user == "version:pages"
    }
    assert told == {"a": {"data_changed"}, "b": {"created"}, "d": {"deleted"}}
    site.host.looked.clear()
    assert not docs.has_changes
    docs.checkout(1)
    assert site.documents == {"a": {"n": 2}, "c": {"n": 1}, "d": {"n": 9}}


def test_a_pull_leaves_pages_that_were_edited_meanwhile(docs, site, new_site):
    other = new_site()
    there = other.collection()
    assert docs.push(there)
    other.tm.commit()
    other.edit(a={"n": 2})
    there.register("theirs")
    other.tm.commit()
    site.edit(c={"n": 3})
    docs.register("ours")
    site.tm.commit()
    site.edit(b={"n": 9}, c=None)
    site.collect()

    assert docs.pull(there)
    site.tm.commit()
    site.collect()

    assert site.documents == {"a": {"n": 2}, "b": {"n": 9}}
    assert dict(docs.changes()) == {"changed": "b", "deleted": "c"}
    assert docs.register("mine")
    assert not docs.has_changes
    assert dict(docs.read_all()) == site.documents


def test_its_own_writes_are_not_looked_at_again(site, docs):
    site.collect()
    site.edit(a={"n": 2})
    docs.register("two")
    site.collect()
    docs.register("")
    docs.checkout(0)
    site.tm.commit()
    site.host.looked.clear()

    assert not docs.has_changes

    assert site.host.looked == []


def test_a_host_that_takes_nothing_back_registers_but_checks_nothing_out(new_site):
    site = new_site(Printed)
    site.edit(a={"n": 1}, b={"n": 1})
    docs = site.collection()
    docs.init()
    site.edit(a={"n": 2})
    assert docs.register("two")
    site.tm.commit()

    with pytest.raises(ReadOnlyHost):
        docs.checkout(0)

    assert docs.version == 1
    assert docs.read("a", 0) == {"n": 1}
    site.edit(a={"n": 3})
    with pytest.raises(ReadOnlyHost):
        docs.discard_changes()
    with pytest.raises(ReadOnlyHost):
        docs.stash()
    assert not docs.has_stash
    assert site.documents["a"] == {"n": 3}


def test_a_host_that_makes_something_else_of_a_document_is_told_so_and_nothing_changes(new_site):
    site = new_site(Forgetful)
    site.edit(a={"n": 1}, b={"n": 1})
    docs = site.collection()
    docs.init()
    site.edit(a={"n": 2}, b=None)
    docs.register("two")
    site.tm.commit()

    with pytest.raises(InvalidOperation, match="another document of 'a'"):
        docs.checkout(0)

    assert docs.version == 1
    assert site.documents == {"a": {"n": 2}}


def test_a_change_that_nobody_has_recorded_is_not_overwritten(site, docs):
    site.edit(a={"n": 2})
    docs.register("two")
    site.collect()
    docs.register("")
    site.pages["a"] = {"id": "a", "n": 3}  # past the capture
    site.tm.commit()

    with pytest.raises(InvalidOperation, match="'a' was changed"):
        docs.checkout(0)

    assert site.documents["a"] == {"n": 3}


def test_what_reaches_everything_inside_is_looked_at_inside(site, docs):
    site.edit(**{"a/x": {"n": 1}, "a/y": {"n": 1}})
    docs.register("two")
    site.collect()
    docs.register("")
    site.pages["a/x"] = {"id": "a/x", "n": 2}
    site.edit(a={"n": 1}, word="moved")

    assert docs.status()["documents"]["changed"] == ["a/x"]


def test_after_the_track_was_emptied_everything_is_compared(site, docs):
    site.edit(a={"n": 2})
    site.manager.reset()
    site.tm.commit()

    assert docs.status()["documents"]["changed"] == ["a"]
    docs.register("two")
    site.tm.commit()
    assert not docs.has_changes


def test_pruning_waits_for_what_is_not_registered_yet(site, docs):
    site.collect()
    docs.register("")
    site.edit(a={"n": 2})
    site.collect()
    site.manager.prune()
    assert [action.object_id for _, action in site.manager.track.iterate()] == ["a"]

    docs.register("two")
    site.manager.prune()

    assert site.manager.track.is_empty()


def test_without_a_track_everything_is_compared(new_site):
    site = new_site(track=False)
    site.pages["a"] = {"id": "a", "n": 1}
    docs = site.collection()
    docs.init()
    site.pages["a"] = {"id": "a", "n": 2}
    assert docs.register("two")
    docs.checkout(0)
    assert site.documents == {"a": {"n": 1}}
    assert not docs.has_changes


def test_who_changed_the_documents_is_the_author(site, docs):
    site.edit(user="ada", a={"n": 2})
    site.edit(user="bob", b={"n": 2})
    docs.register("two")
    site.tm.commit()
    site.edit(user="cyd", c={"n": 2})
    docs.register("three", author="dee")

    site.collect()
    assert [entry.author for entry in docs.get_log()] == ["dee", "ada, bob", ""]


def test_without_a_track_the_transactions_user_is_the_author(new_collection):
    docs = new_collection({"a": 1})
    docs._root._p_jar.transaction_manager.get().setUser("ada")
    docs.documents["a"] = 2
    docs.register("two")
    assert docs.get_log()[0].author == "ada"


def test_an_object_without_a_document_is_none(site, docs):
    site.edit(a={"n": 1, "blank": True})
    assert docs.status()["documents"]["deleted"] == ["a"]


def test_what_was_noted_with_the_changes_is_the_message_unless_one_is_given(site, docs):
    site.tm.get().note("Talks of 2017")
    site.edit(a={"n": 2})
    site.tm.get().note("Talks of 2017")
    site.edit(b={"n": 2})
    site.tm.get().note("A venue")
    site.edit(c={"n": 2})
    docs.register()
    site.tm.commit()
    site.tm.get().note("Noted later")
    site.edit(user="ada", b={"n": 5})
    docs.register()
    site.tm.commit()
    assert (docs.get_log()[0].message, docs.get_log()[0].author) == ("Noted later", "ada")
    site.tm.get().note("Noted")
    site.edit(c={"n": 3})
    docs.register("Said")
    assert [entry.message for entry in docs.get_log()][:2] == ["Said", "Noted later"]
    assert docs.get_log()[0].author == ""
    assert docs.blame("a")[0].entry.message == "Talks of 2017\nA venue"


def test_a_message_from_many_notes_says_how_many_there_were(site, docs):
    for number in range(30):
        site.tm.get().note(f"note {number}")
        site.edit(a={"n": number + 5})
    docs.register()
    lines = docs.get_log()[0].message.splitlines()
    assert (len(lines), lines[0], lines[-2:]) == (21, "note 0", ["note 19", "and 10 more"])


def test_without_a_track_the_transactions_note_is_the_message(new_collection):
    docs = new_collection({"a": 1})
    docs._root._p_jar.transaction_manager.get().note("From the transaction")
    docs.documents["a"] = 2
    docs.register()
    assert docs.blame("a")[0].entry.message == "From the transaction"


def test_a_merge_into_a_host_that_takes_nothing_back_changes_nothing(new_site):
    site = new_site(Printed)
    site.edit(a={"n": 1}, b={"n": 1})
    docs = site.collection()
    docs.init()
    docs.create_branch("side")
    site.edit(a={"n": 2})
    docs.register("side")
    docs.create_branch("more")
    site.edit(b={"n": 3})
    docs.register("more")
    site.tm.commit()
    before = [entry.id for entry in docs.get_log()]
    with pytest.raises(ReadOnlyHost):
        docs.revert(0, "side")
    assert [entry.id for entry in docs.get_log()] == before
    assert (docs.branch, docs.has_conflicts, docs.check()) == ("more", False, [])
    site.tm.commit()
    assert docs.check() == []
