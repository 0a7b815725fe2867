"""A collection and its versions: registering, branches, checkout, and what people ask about them."""

import pytest

from livesync.errors import (
    BranchNotFound,
    CollectionAlreadyInitialised,
    InvalidCollectionState,
    InvalidCollectionVersion,
    InvalidOperation,
    UnkeptValue,
)
from livesync.versions import VersionedCollection
from livesync.versions.working import MappingCopy

from .editing import edit


@pytest.fixture
def docs(new_collection):
    return new_collection({"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}})


def contents(docs):
    return dict(docs.documents)


def flags(docs):
    return docs.has_changes, docs.is_detached, docs.has_stash, docs.has_conflicts


# -- the first version ---------------------------------------------------------------------------------


def test_the_first_version_is_number_0_of_main_and_holds_all_documents(docs):
    assert (docs.version, docs.branch, docs.branches()) == (0, "main", {"main"})
    assert [entry.message for entry in docs.get_log()] == ["Initial collection."]
    assert dict(docs.read_all()) == contents(docs)
    assert docs.is_tracked
    assert flags(docs) == (False, False, False, False)


def test_a_collection_may_begin_empty_and_with_a_message_of_its_own(new_collection):
    docs = new_collection(init=False)
    assert docs.init("begun", author="ada", metadata={"ticket": 7}) is True
    (entry,) = docs.get_log()
    assert (entry.message, entry.author, entry.metadata, entry.prev) == ("begun", "ada", {"ticket": 7}, None)
    edit(docs, "more", x={"n": 1})
    assert docs.read("x", 0) is None


def test_a_second_beginning_is_refused(docs):
    with pytest.raises(CollectionAlreadyInitialised):
        docs.init()


def test_without_versions_nothing_is_done_and_nothing_is_told(new_collection):
    docs = new_collection({"a": {}}, init=False)
    assert docs.status() == {"tracked": False}
    assert (docs.version, docs.branch, docs.branches(), docs.get_log()) == (None, None, set(), [])
    assert docs.register("x") is docs.checkout(0) is docs.discard_changes() is docs.stash() is False
    assert docs.stash_apply() is docs.stash_discard() is docs.delete_version_subtree(0) is False
    assert docs.create_branch("x") is docs.diff() is None
    assert flags(docs) == (False, False, False, False)
    assert docs.history("a") == []


@pytest.mark.parametrize("name", ["", "__x", "a b", "a:b", "x\n", "x" * 201])
def test_a_name_that_is_none_is_refused(new_root, docs, name):
    with pytest.raises(ValueError, match="is no name"):
        VersionedCollection(new_root(), name)
    with pytest.raises(ValueError, match="is no name"):
        docs.create_branch(name)


@pytest.mark.parametrize("name", ["HEAD", "7", "a~1", "a..b", "-m", "~"])
def test_a_name_by_which_nobody_could_call_a_branch_or_a_tag_is_refused(new_root, docs, name):
    assert VersionedCollection(new_root(), name).name == name
    for call in (docs.create_branch, docs.tag, lambda new: docs.rename_branch("main", new)):
        with pytest.raises(ValueError, match="is no name of a branch or a tag"):
            call(name)


# -- registering ---------------------------------------------------------------------------------------


def test_a_version_holds_what_was_created_changed_and_deleted(docs):
    edit(docs, a={"n": 2}, b=None, d={"n": 4})
    assert docs.status()["documents"] == {"created": ["d"], "changed": ["a"], "deleted": ["b"]}

    assert docs.register("one", author="ada")

    assert (docs.version, docs.has_changes) == (1, False)
    entry = docs.get_log()[0]
    assert (entry.message, entry.author, tuple(entry.counts), entry.prev) == (
        "one",
        "ada",
        (1, 1, 1),
        (0, "main"),
    )
    assert dict(docs.read_all(0)) == {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}
    assert dict(docs.read_all(1)) == {"a": {"n": 2}, "c": {"n": 1}, "d": {"n": 4}}


def test_nothing_to_register_makes_no_version(docs):
    assert docs.register("nothing") is False
    edit(docs, a={"n": 2})
    edit(docs, a={"n": 1}, x={"n": 1})
    edit(docs, x=None)
    assert docs.register("changed and changed back") is False
    assert (docs.version, len(docs.get_log())) == (0, 1)


def test_several_edits_of_a_document_are_one_change(docs):
    for n in range(5):
        edit(docs, a={"n": n})
    assert docs.register("five")
    assert tuple(docs.get_log()[0].counts) == (0, 1, 0)


def test_writes_through_another_connection_are_seen(new_root, clock):
    connection = new_root()
    docs = VersionedCollection(connection, "docs", clock=clock)
    docs.documents["a"] = {"n": 1}
    docs.init()
    connection.transaction_manager.commit()
    with connection.db().transaction() as other:
        other.root()["docs"]["a"] = {"n": 2}
    connection.sync()
    assert docs.has_changes
    assert docs.register("theirs")
    assert docs.read("a") == {"n": 2}


def test_a_plain_mapping_of_the_application_is_compared_as_a_whole(new_root, clock):
    root = new_root().root()
    root["docs"] = {"a": {"n": 1}, "b": {"n": 1}}
    docs = VersionedCollection(root, "docs", clock=clock)
    docs.init()
    root["docs"]["a"]["n"] = 2
    del root["docs"]["b"]
    assert docs.status()["documents"] == {"created": [], "changed": ["a"], "deleted": ["b"]}
    assert docs.register("one")
    assert docs.checkout(0)
    assert root["docs"] == {"a": {"n": 1}, "b": {"n": 1}}


def test_a_document_that_cannot_be_kept_fails_the_whole_version_and_is_named(docs):
    edit(docs, a={"n": 2}, b={"deep": [1, {"x": object()}]})
    with pytest.raises(UnkeptValue, match=r"document 'b'.*deep\[1\]\.x"):
        docs.register("no")
    assert (docs.version, len(docs.stored.records)) == (0, 1)
    edit(docs, b={"n": 3})
    assert docs.register("now")
    assert docs.read("a") == {"n": 2}


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ({"message": 5}, TypeError, "the message of a version is text, not int"),
        ({"author": b"ada"}, TypeError, "the author of a version is text, not bytes"),
        ({"message": "half \ud800"}, ValueError, "half a character"),
        ({"metadata": {1: 2}}, TypeError, "keys of a version's metadata are text"),
        ({"metadata": {"when": object()}}, UnkeptValue, "the metadata of a version: builtins.object"),
        ({"message": "x" * 600_000, "metadata": {"more": "x" * 600_000}}, ValueError, "at most 1,000,000"),
    ],
)
def test_what_could_not_travel_is_not_said_about_a_version(docs, said, error, text):
    edit(docs, a={"n": 2})
    with pytest.raises(error, match=text):
        docs.register(**{"message": "x", **said})
    with pytest.raises(error, match=text):
        docs.register(**{"message": "x", **said}, branch_name="without meaning")
    assert (docs.version, docs.has_changes) == (0, True)
    assert docs.register("x", author="grace", metadata={"ticket": [7]})


@pytest.mark.parametrize(
    ("document_id", "text"),
    [
        (5, "ids of documents are text; 5 is of type int"),
        (b"a", "ids of documents are text; b'a' is of type bytes"),
        ("half \ud800", "half a character"),
        ("x" * 4_001, "4,000 characters at most; 'x"),
    ],
)
def test_an_id_that_cannot_be_kept_is_named(new_collection, document_id, text):
    for docs in (new_collection({document_id: {}}, init=False), new_collection({})):
        docs.documents[document_id] = {"n": 1}
        with pytest.raises(UnkeptValue, match=text):
            docs.register("x") if docs.is_tracked else docs.init()
    plain = new_collection(init=False)
    plain._root["docs"] = {"a": {}, document_id: {}}
    with pytest.raises(UnkeptValue, match=text):
        plain.init()


def test_1_and_true_and_the_order_of_keys_are_changes(docs):
    edit(docs, "types", a={"n": True}, b={"n": 1.0}, c={"n": 1, "m": 2})
    edit(docs, "order", c={"m": 2, "n": 1})
    assert (docs.read("a")["n"], docs.read("b")["n"]) == (True, 1.0)
    assert type(docs.read("a", 0)["n"]) is int
    assert list(docs.read("c", 1)) == ["n", "m"]
    assert list(docs.read("c", 2)) == ["m", "n"]


# -- branches and checkout -----------------------------------------------------------------------------


def test_a_new_branch_has_no_version_until_one_is_registered_and_keeps_changes(docs):
    edit(docs, "one", a={"n": 2})
    edit(docs, b={"n": 9})

    assert docs.create_branch("side") == (1, "main")

    assert (docs.version, docs.branch, docs.is_detached, docs.has_changes) == (-1, "side", False, True)
    assert [entry.version for entry in docs.get_log("side")] == [1, 0]
    assert docs.register("on side", branch_name="without meaning here")
    assert (docs.version, docs.branch, docs.branches()) == (0, "side", {"main", "side"})
    assert docs.get_log()[0].prev == (1, "main")


def test_a_branch_from_an_empty_branch_begins_at_the_real_version(docs):
    docs.create_branch("empty")
    assert docs.create_branch("next") == (0, "main")


def test_a_name_that_is_taken_is_refused(docs):
    with pytest.raises(ValueError, match="already"):
        docs.create_branch("main")


def test_checkout_brings_back_every_version_of_every_branch(docs):
    states = {(0, "main"): contents(docs)}
    edit(docs, "one", a={"n": 2}, d={"n": 1})
    states[1, "main"] = contents(docs)
    docs.create_branch("side")
    edit(docs, "side", b=None, d={"n": 2})
    states[0, "side"] = contents(docs)
    docs.checkout(0, "main")
    assert docs.is_detached
    edit(docs, c={"n": 7})
    assert docs.register("from the past", "old")
    states[0, "old"] = contents(docs)

    for start in states:
        for end in states:
            assert docs.checkout(*start)
            assert docs.checkout(*end)
            assert contents(docs) == states[end]
            assert dict(docs.read_all(*start)) == states[start]
            assert (docs.version, docs.branch) == end
            assert not docs.has_changes


def test_checkout_leads_past_removals_and_more_edits_than_are_applied_one_by_one(docs):
    states = [contents(docs)]
    for number in range(40):
        body = {"text": "a text that is long enough to be edited", "n": number}
        removed = dict.fromkeys(["b"] if number % 7 == 6 else ["c"] if number == 20 else [])
        edit(docs, f"edit {number}", **{"a": body, "b": body, **removed})
        states.append(contents(docs))

    for start, end in [(40, 0), (0, 40), (40, 23), (5, 22), (22, 5), (7, 13), (13, 7), (6, 8)]:
        docs.checkout(start, "main")
        docs.checkout(end, "main")
        assert contents(docs) == states[end], (start, end)


def test_checkout_writes_documents_in_order_of_their_ids(new_root):
    class Noting(MappingCopy):
        def write(self, documents):
            rows = list(documents)
            written.extend(one for one, _ in rows)
            super().write(rows)

    written = []
    root = new_root().root()
    docs = VersionedCollection(root, "docs", working=Noting(root, "docs"))
    docs.documents.update({"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}})
    docs.init()
    edit(docs, "one", b={"n": 2})
    edit(docs, "two", a={"n": 2}, d={"n": 2})
    edit(docs, "three", c={"n": 2})
    docs.checkout(0)
    assert written == ["a", "b", "c", "d"]


def test_checkout_overwrites_no_document_that_was_changed_without_being_assigned(docs):
    edit(docs, "one", a={"n": 2, "m": 1}, b={"n": 2})
    docs.documents["a"]["n"] = 3  # the very value that the way replaces
    with pytest.raises(InvalidOperation, match="'a' was changed"):
        docs.checkout(0)
    assert (docs.version, contents(docs)["a"], contents(docs)["b"]) == (1, {"n": 3, "m": 1}, {"n": 2})


def test_checkout_of_a_branch_goes_to_its_tip_and_of_an_empty_one_to_where_it_begins(docs):
    edit(docs, "one", a={"n": 2})
    docs.create_branch("empty")
    docs.checkout(0, "main")
    assert docs.checkout(branch="empty")
    assert (docs.version, docs.branch, docs.documents["a"]) == (-1, "empty", {"n": 2})
    with pytest.raises(InvalidCollectionVersion):
        docs.checkout(0)
    assert (docs.version, docs.branch) == (-1, "empty")
    assert docs.checkout(branch="main")
    assert (docs.version, docs.is_detached) == (1, False)


def test_checkout_of_the_current_version_does_nothing_even_with_changes(docs):
    edit(docs, a={"n": 5})
    assert docs.checkout(0) is True
    assert docs.documents["a"] == {"n": 5}


def test_checkout_refuses_what_it_cannot_do_and_changes_nothing(docs):
    edit(docs, "one", a={"n": 2})
    with pytest.raises(ValueError, match="what"):
        docs.checkout()
    with pytest.raises(BranchNotFound):
        docs.checkout(branch="nope")
    for version in (7, -1, True, "0"):
        with pytest.raises(InvalidCollectionVersion):
            docs.checkout(version)
    edit(docs, a={"n": 3})
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        docs.checkout(0)
    assert (docs.version, docs.documents["a"]) == (1, {"n": 3})


def test_in_a_detached_state_a_version_needs_a_new_branch(docs):
    edit(docs, "one", a={"n": 2})
    docs.checkout(0)
    edit(docs, a={"n": 3})
    with pytest.raises(ValueError, match="detached"):
        docs.register("x")
    with pytest.raises(ValueError, match="already"):
        docs.register("x", "main")
    assert docs.has_changes
    assert docs.register("x", "side")
    assert (docs.version, docs.branch, docs.is_detached) == (0, "side", False)


def test_a_branch_can_be_renamed(docs):
    edit(docs, "one", a={"n": 2})
    docs.rename_branch("main", "trunk")
    assert (docs.branches(), docs.branch, docs.version) == ({"trunk"}, "trunk", 1)
    with pytest.raises(BranchNotFound):
        docs.rename_branch("main", "x")
    with pytest.raises(ValueError, match="already"):
        docs.rename_branch("trunk", "trunk")


def test_tags_stay_with_their_version(docs):
    docs.tag("first")
    edit(docs, "one", a={"n": 2})
    docs.tag("second", 1, "main")
    edit(docs, "two", a={"n": 3})
    assert docs.tags() == {"first": (0, "main"), "second": (1, "main")}
    with pytest.raises(ValueError, match="already"):
        docs.tag("first")
    with pytest.raises(InvalidCollectionVersion):
        docs.tag("x", 9)
    assert docs.untag("first")
    assert not docs.untag("first")


# -- what is not registered ----------------------------------------------------------------------------


def test_discarding_brings_back_what_was_registered(docs):
    before = contents(docs)
    edit(docs, a={"n": 2}, b=None, x={"n": 1})
    assert docs.discard_changes()
    assert contents(docs) == before
    assert not docs.has_changes


def test_a_stash_puts_changes_aside_and_gives_them_back_elsewhere_too(docs):
    edit(docs, "one", a={"n": 2})
    edit(docs, b=None, x={"n": 1}, c={"n": 8})
    assert docs.stash()
    assert (docs.has_stash, docs.has_changes) == (True, False)
    docs.checkout(0)
    assert docs.stash_apply()
    assert contents(docs) == {"a": {"n": 1}, "c": {"n": 8}, "x": {"n": 1}}
    assert (docs.has_stash, docs.has_changes) == (False, True)
    assert docs.stash_apply() is False


def test_a_stash_of_deletions_alone_comes_back(docs):
    edit(docs, a=None)
    docs.stash()
    assert "a" in docs.documents
    docs.stash_apply()
    assert "a" not in docs.documents


def test_one_stash_is_kept_unless_it_is_to_be_overwritten(docs):
    assert docs.stash() is False
    edit(docs, a={"n": 2})
    docs.stash()
    edit(docs, a={"n": 3})
    with pytest.raises(InvalidOperation, match="stashed already"):
        docs.stash()
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        docs.stash_apply()
    assert docs.stash(overwrite=True)
    docs.stash_apply()
    assert docs.documents["a"] == {"n": 3}
    docs.stash(overwrite=True)
    assert docs.stash_discard()
    assert not docs.stash_discard()
    assert not docs.has_stash


# -- looking -------------------------------------------------------------------------------------------


def test_a_diff_shows_lines_of_json_and_what_came_and_went_in_between_is_left_out(docs):
    edit(docs, "one", a={"n": 2}, x={"n": 1})
    edit(docs, "two", x=None)
    edit(docs, b={"n": 5})
    found = docs.diff(0)
    assert set(found) == {"a", "b"}
    assert '-  "n": 1\n+  "n": 5' in found["b"]
    assert docs.diff() == {"b": found["b"]}
    assert docs.diff(0, deep=True) == {"a": ({"n": 1}, {"n": 2}), "b": ({"n": 1}, {"n": 5})}
    both = docs.diff(0, direction="bidirectional", deep=True)
    assert both["to"] == {"a": ({"n": 2}, {"n": 1}), "b": ({"n": 5}, {"n": 1})}
    assert both["from"] == docs.diff(0, deep=True)


def test_a_diff_without_changes_is_empty_and_wrong_arguments_are_refused(docs):
    assert docs.diff() == {}
    with pytest.raises(InvalidCollectionVersion):
        docs.diff(3)
    with pytest.raises(BranchNotFound):
        docs.diff(branch="x")
    with pytest.raises(ValueError, match="direction"):
        docs.diff(direction="up")


def test_a_diff_shows_what_json_lacks_and_an_edit_that_only_changes_a_type(docs):
    import datetime

    edit(docs, "one", a={"when": datetime.date(2020, 1, 2), 3: (1, 2)}, b={"n": {1}})
    edit(docs, a={"when": datetime.date(2020, 1, 3), 3: (1, 2)}, b={"n": frozenset({1})}, c={"n": 1.0})
    found = docs.diff()
    assert "datetime.date(2020, 1, 3)" in found["a"]
    assert set(found) == {"a", "b", "c"}


def test_any_two_versions_are_compared_without_a_checkout(docs):
    edit(docs, "one", a={"n": 2}, b={"n": 2})
    docs.create_branch("side")
    edit(docs, "back", a={"n": 1}, c=None)
    assert docs.changed((0, "main"), (0, "side")) == ["b", "c"]
    assert docs.between((0, "main"), (0, "side")) == {"b": ({"n": 1}, {"n": 2}), "c": ({"n": 1}, None)}
    assert docs.changed((1, "main"), (1, "main")) == []


def test_the_history_of_a_document_names_the_versions_that_changed_it(docs):
    edit(docs, "one", a={"n": 2})
    edit(docs, "two", b={"n": 2})
    edit(docs, "three", a=None, x={"n": 1})
    assert [entry.message for entry in docs.history("a")] == ["three", "one", "Initial collection."]
    assert [entry.message for entry in docs.history("a", 2)] == ["one", "Initial collection."]
    assert [entry.message for entry in docs.history("x")] == ["three"]
    assert docs.history("never") == []


def test_log_entries_tell_what_was_so_when_they_were_read(docs):
    edit(docs, "one", a={"n": 2})
    before = docs.get_log()

    edit(docs, "two", a={"n": 3})

    after = docs.get_log()
    assert (after[1:], set(after[1:])) == (before, set(before))
    assert after[0] != after[1]
    assert after[0] != "two"
    assert [entry.record.checked().message for entry in before] == ["one", "Initial collection."]
    assert [entry.record.time_us for entry in after] == [entry.time_us for entry in after]
    docs.rename_branch("main", "trunk")
    assert [entry.branch for entry in before] == ["main", "main"]
    assert not set(docs.get_log()) & set(after)


def test_of_a_long_log_only_as_much_is_read_as_is_asked_for(docs):
    for n in range(2, 400):
        edit(docs, f"v{n}", a={"n": n})
    block = next(iter(docs.stored.blocks.values()))
    block.data = b"damaged"
    docs = VersionedCollection(docs._root, "docs")

    assert [entry.message for entry in docs.get_log(limit=2)] == ["v399", "v398"]
    assert docs.get_log(limit=0) == []
    with pytest.raises(InvalidCollectionState):
        docs.get_log()


def test_a_log_entry_reads_well(docs):
    edit(docs, a={"n": 2})
    docs.register("why\nand more", author="ada")
    entry = docs.get_log()[0]
    assert str(entry).splitlines()[1:] == [
        "Author:  ada",
        f"Date:    {entry.timestamp:%Y-%m-%d %H:%M:%S} +0000",
        "",
        "    why",
        "    and more",
    ]
    assert len(entry.id) == 64
    with pytest.raises(BranchNotFound):
        docs.get_log("nope")


# -- taking versions away ------------------------------------------------------------------------------


@pytest.fixture
def grown(docs):
    """main 0-3, side from main 1 with two versions, twig from side 0 with one; HEAD at main 3."""
    edit(docs, "one", a={"n": 2})
    docs.create_branch("side")
    edit(docs, "side 0", b={"n": 2})
    docs.create_branch("twig")
    edit(docs, "twig 0", c={"n": 2})
    docs.checkout(branch="side")
    edit(docs, "side 1", b={"n": 3})
    docs.checkout(branch="main")
    edit(docs, "two", a={"n": 3})
    edit(docs, "three", a={"n": 4})
    return docs


def test_deleting_a_version_takes_what_came_after_it_and_leaves_head_that_is_elsewhere(grown):
    edit(grown, c={"n": 99})
    grown.tag("gone", 0, "side")
    assert grown.delete_version_subtree(0, "side")
    assert grown.branches() == {"main", "side"}
    assert (grown.version, grown.branch, grown.documents["c"]) == (3, "main", {"n": 99})
    assert grown.tags() == {}
    assert [entry.message for entry in grown.get_log("side")] == ["one", "Initial collection."]
    assert grown.history("b") == grown.get_log("main")[-1:]


def test_deleting_the_current_version_goes_to_its_parent_and_attaches_head(grown):
    edit(grown, a={"n": 99}, b=None)
    assert grown.delete_version_subtree(2)
    assert (grown.version, grown.branch, grown.is_detached, grown.has_changes) == (1, "main", False, False)
    assert contents(grown) == {"a": {"n": 2}, "b": {"n": 1}, "c": {"n": 1}}
    assert grown.branches() == {"main", "side", "twig"}
    edit(grown, "anew", a={"n": 7})
    assert (grown.version, grown.read("a", 2), grown.read("a", 1)) == (2, {"n": 7}, {"n": 2})


def test_deleting_from_a_branch_that_descends_goes_to_the_deleted_versions_parent(grown):
    grown.checkout(branch="twig")
    assert grown.delete_version_subtree(1, "main")
    assert (grown.branches(), grown.version, grown.branch) == ({"main"}, 0, "main")
    assert contents(grown) == {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}


def test_deleting_the_first_version_drops_the_collection(grown):
    assert grown.delete_version_subtree(0, "main")
    assert not grown.is_tracked


def test_deleting_what_is_not_there_is_refused(grown):
    with pytest.raises(InvalidCollectionVersion):
        grown.delete_version_subtree(9)
    with pytest.raises(BranchNotFound):
        grown.delete_version_subtree(0, "nope")


# -- the collection as a whole -------------------------------------------------------------------------


def test_renaming_moves_documents_and_versions(docs):
    edit(docs, "one", a={"n": 2})
    renamed = docs.rename("others")
    assert (renamed.version, renamed.documents["a"]) == (1, {"n": 2})
    assert not docs.is_tracked
    with pytest.raises(ValueError, match="already"):
        renamed.rename("others")


def test_dropping_removes_documents_and_versions(docs):
    docs.drop()
    assert not docs.is_tracked
    assert list(docs.documents) == []
    docs.documents["z"] = {}
    assert docs.init()
    assert dict(docs.read_all()) == {"z": {}}


def test_an_aborted_transaction_leaves_nothing_of_a_version(new_root, clock):
    connection = new_root()
    docs = VersionedCollection(connection, "docs", clock=clock)
    for number in range(300):
        docs.documents[f"d{number:03}"] = {"n": number, "text": "the same words again and again"}
    connection.transaction_manager.commit()
    docs.init()
    connection.transaction_manager.abort()
    assert not docs.is_tracked
    docs.init()
    connection.transaction_manager.commit()
    edit(docs, d001={"n": -1})
    connection.transaction_manager.commit()
    docs.register("one")
    connection.transaction_manager.abort()
    assert (docs.version, docs.has_changes) == (0, True)
    docs.register("one")
    connection.transaction_manager.commit()
    connection.cacheMinimize()
    assert docs.read("d001") == {"n": -1}
    assert docs.read("d001", 0)["n"] == 1


def test_a_history_may_be_cut_after_the_newest_versions(docs):
    for number in range(2, 40):
        edit(docs, f"edit {number}", a={"n": number, "text": f"{number} " * number})
    whole = docs.history("a")
    assert [entry.message for entry in docs.history("a", limit=3)] == ["edit 39", "edit 38", "edit 37"]
    assert docs.history("a", limit=len(whole) + 1) == docs.history("a", limit=len(whole)) == whole
    assert docs.history("a", limit=0) == docs.history("nobody", limit=2) == []


def test_a_collection_whose_first_version_was_aborted_is_not_tracked(new_root, clock):
    connection = new_root()
    docs = VersionedCollection(connection, "docs", clock=clock)
    docs.documents["a"] = {"n": 1}
    connection.transaction_manager.commit()
    docs.init()
    assert docs.read("a") == {"n": 1}

    connection.transaction_manager.abort()

    assert (docs.is_tracked, docs.version, docs.get_log()) == (False, None, [])
    docs.init("again")
    connection.transaction_manager.commit()
    assert [entry.message for entry in docs.get_log()] == ["again"]


def test_an_edit_that_was_taken_back_is_no_difference_to_any_version(docs):
    edit(docs, "one", a={"n": 2})
    edit(docs, a={"n": 3}, x={"n": 1})
    edit(docs, a={"n": 2}, x=None)
    assert (docs.diff(), docs.has_changes, docs.stash()) == ({}, False, False)
    assert set(docs.diff(0)) == {"a"}
    edit(docs, a={"n": 1})
    assert docs.diff(0) == {}
    assert set(docs.diff()) == {"a"}


def test_a_stashed_creation_becomes_a_change_where_the_document_is_there_already(docs):
    edit(docs, x={"n": "stashed"})
    docs.stash()
    edit(docs, "made meanwhile", x={"n": "registered"})
    assert docs.stash_apply()
    assert docs.status()["documents"] == {"created": [], "changed": ["x"], "deleted": []}
    assert docs.documents["x"] == {"n": "stashed"}


def test_a_checkout_overwrites_no_edit_that_nobody_has_told_it_of(docs):
    edit(docs, "more", a={"n": 2}, b={"n": 2})
    docs.documents["a"]["n"] = 3  # within the object: not assigned, and so not noted

    with pytest.raises(InvalidOperation, match="'a' was changed, and nobody has said so"):
        docs.checkout(0)

    assert contents(docs) == {"a": {"n": 3}, "b": {"n": 2}, "c": {"n": 1}}
    assert docs.version == 1
