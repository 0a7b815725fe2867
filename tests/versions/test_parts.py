"""Several collections in one history: one version for an edit that touches both, and each read by itself."""

import pytest
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from livesync.errors import BranchNotFound, DocumentErased, InvalidCollectionState, InvalidOperation
from livesync.versions import VersionedCollection
from livesync.versions.several.parts import Address, Rule
from livesync.versions.stored import NotedDocuments
from livesync.versions.upkeep.erasing import forget

TALKS, EVENTS = "talks", "events"


@pytest.fixture
def new_catalogue(new_root, clock):
    """Makes a history of talks and events, in a database of its own unless one is given."""

    def make(talks=(), events=(), root=None, **options):
        made = VersionedCollection(
            new_root() if root is None else root,
            "catalogue",
            clock=clock,
            collections=[TALKS, EVENTS],
            **options,
        )
        made.part(TALKS).documents.update(talks)
        made.part(EVENTS).documents.update(events)
        return made

    return make


@pytest.fixture
def catalogue(new_catalogue):
    made = new_catalogue(
        {"t1": {"title": "Sync"}, "x": {"title": "Talk"}}, {"e1": {"year": 2017}, "x": {"year": 1}}
    )
    made.init()
    return made


def documents(catalogue):
    return {one: dict(catalogue.part(one).documents) for one in catalogue.collections}


# -- addresses ------------------------------------------------------------------------------------------


def test_an_address_is_read_back_from_its_text():
    address = Address("talks", "events:7")
    assert str(address) == "talks:events:7"
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["talk-7", ":talk-7", ""])
def test_a_text_without_a_collection_is_no_address(text):
    with pytest.raises(ValueError, match="names no collection"):
        Address.parse(text)


def test_a_collection_of_a_longer_name_is_kept_apart(new_root, clock):
    """ "talks" and "talks-2017", "talks;" and "talk": none has another one's documents."""
    names = ["talk", "talks", "talks-2017", "talks;"]
    made = VersionedCollection(new_root(), "all", clock=clock, collections=names)
    for name in names:
        made.part(name).documents["a"] = {"of": name}
    made.init()
    for name in names:
        made.part(name).documents["b"] = {"of": name}
    made.register("more")
    for name in names:
        assert list(made.part(name).read_all()) == [("a", {"of": name}), ("b", {"of": name})]
        assert made.part(name).changed((0, "main"), (1, "main")) == ["b"]


# -- one version for all --------------------------------------------------------------------------------


def test_an_edit_that_touches_both_is_one_version_with_one_record(catalogue):
    catalogue.part(TALKS).documents["t1"] = {"title": "Sync, again"}
    catalogue.part(EVENTS).documents["e2"] = {"year": 2018}
    del catalogue.part(EVENTS).documents["x"]
    assert catalogue.status()["documents"] == {
        "created": ["events:e2"],
        "changed": ["talks:t1"],
        "deleted": ["events:x"],
    }
    assert catalogue.part(EVENTS).status() == {"created": ["e2"], "changed": [], "deleted": ["x"]}
    assert catalogue.register("both")
    newest, first = catalogue.get_log()
    assert (newest.version, newest.counts) == (1, (1, 1, 1))
    assert first.counts == (4, 0, 0)
    assert first.metadata == {"livesync.collections": [EVENTS, TALKS]}
    assert catalogue.changed((0, "main"), (1, "main")) == ["events:e2", "events:x", "talks:t1"]
    assert not catalogue.has_changes
    assert catalogue.check() == []


def test_the_same_id_in_two_collections_is_two_documents(catalogue):
    catalogue.part(TALKS).documents["x"] = {"title": "Other"}
    catalogue.register("only the talk")
    assert catalogue.read("talks:x") == {"title": "Other"}
    assert catalogue.read("events:x") == {"year": 1}
    assert [one.version for one in catalogue.part(TALKS).history("x")] == [1, 0]
    assert [one.version for one in catalogue.part(EVENTS).history("x")] == [0]


def test_a_single_collection_is_read_at_any_version_by_its_own_ids(catalogue):
    catalogue.part(TALKS).documents["t1"] = {"title": "Sync, again"}
    catalogue.register("one")
    talks = catalogue.part(TALKS)
    assert talks.read("t1", 0, "main") == {"title": "Sync"}
    assert dict(talks.read_all(0, "main")) == {"t1": {"title": "Sync"}, "x": {"title": "Talk"}}
    assert dict(talks.read_all()) == {"t1": {"title": "Sync, again"}, "x": {"title": "Talk"}}
    assert talks.diff(0, "main", deep=True) == {"t1": ({"title": "Sync"}, {"title": "Sync, again"})}
    assert talks.diff(0, "main", deep=True, direction="bidirectional")["to"] == {
        "t1": ({"title": "Sync, again"}, {"title": "Sync"})
    }
    assert catalogue.part(EVENTS).diff(0, "main") == {}
    (blamed,) = talks.blame("t1")
    assert (blamed.value, blamed.entry.version) == ("Sync, again", 1)


def test_checkout_stash_and_discard_are_of_all_collections(catalogue):
    begin = documents(catalogue)
    catalogue.part(TALKS).documents["t1"] = {"title": "Sync, again"}
    catalogue.part(EVENTS).documents["e2"] = {"year": 2018}
    catalogue.register("both")
    then = documents(catalogue)
    catalogue.checkout(0)
    assert documents(catalogue) == begin
    catalogue.checkout(branch="main")
    assert documents(catalogue) == then
    del catalogue.part(TALKS).documents["x"]
    catalogue.part(EVENTS).documents["e1"] = {"year": 1}
    edited = documents(catalogue)
    assert catalogue.stash()
    assert documents(catalogue) == then
    assert catalogue.stash_apply()
    assert documents(catalogue) == edited
    assert catalogue.discard_changes()
    assert documents(catalogue) == then


def test_branches_are_merged_over_all_collections(catalogue):
    catalogue.create_branch("side")
    catalogue.part(TALKS).documents["t1"] = {"title": "Side"}
    catalogue.part(EVENTS).documents["e1"] = {"year": 2017, "city": "Riga"}
    catalogue.register("side")
    catalogue.checkout(branch="main")
    catalogue.part(TALKS).documents["t1"] = {"title": "Main"}
    catalogue.part(EVENTS).documents["e1"] = {"year": 2019}
    catalogue.register("main")
    (conflict,) = catalogue.merge("side").conflicts
    assert (conflict.document_id, conflict.path) == ("talks:t1", ("title",))
    assert catalogue.resolve_conflicts("theirs", "talks:t1").version == (2, "main")
    assert documents(catalogue)[TALKS]["t1"] == {"title": "Side"}
    assert documents(catalogue)[EVENTS]["e1"] == {"year": 2019, "city": "Riga"}
    assert catalogue.check() == []


def test_a_push_takes_the_collections_along_and_a_pull_brings_them_back(catalogue, new_root, clock):
    there = VersionedCollection(new_root(), "catalogue", clock=clock)
    catalogue.push(there)
    assert there.collections == (EVENTS, TALKS)
    assert documents(there) == documents(catalogue)
    assert set(there._root) == {EVENTS, TALKS, "livesync.versions"}
    there.part(EVENTS).documents["e1"] = {"year": 1}
    there.part(TALKS).documents["t2"] = {"title": "New"}
    there.register("there")
    catalogue.pull(there)
    assert documents(there) == documents(catalogue)
    assert [one.id for one in catalogue.get_log()] == [one.id for one in there.get_log()]


def test_documents_that_lie_there_already_are_not_overwritten(catalogue, new_root, clock):
    there = VersionedCollection(new_root(), "catalogue", clock=clock)
    there._root[EVENTS] = {"e1": {"year": 1}}
    with pytest.raises(InvalidOperation, match="documents there, and no versions: they would be lost"):
        catalogue.push(there)
    assert there._root[EVENTS] == {"e1": {"year": 1}}


def test_a_collection_that_was_added_later_is_among_those_that_a_pull_brings(catalogue, new_root, clock):
    catalogue.add_collection("people")
    catalogue.part("people").documents["p1"] = {"name": "Ada"}
    catalogue.register("people, too")
    there = VersionedCollection(new_root(), "catalogue", clock=clock)
    there.pull(catalogue)
    assert documents(there) == documents(catalogue)
    named = VersionedCollection(new_root(), "catalogue", clock=clock, collections=[TALKS, EVENTS])
    with pytest.raises(InvalidOperation, match="that come are of events, people, talks"):
        named.pull(catalogue)
    more = VersionedCollection(new_root(), "catalogue", collections=[TALKS, EVENTS, "people", "places"])
    assert more.pull(catalogue)
    assert more.collections == (EVENTS, "people", "places", TALKS)


def test_versions_of_one_collection_do_not_come_to_several(new_collection, new_root):
    docs = new_collection({"a": {"n": 1}}, name="catalogue")
    several = VersionedCollection(new_root(), "catalogue", collections=[TALKS, EVENTS])
    with pytest.raises(InvalidOperation, match="that come are of one collection"):
        several.pull(docs)
    assert not several.is_tracked


def test_a_first_version_that_names_no_collections_is_refused(new_collection, new_root):
    for metadata in ({"livesync.collections": ["talks"]}, {"livesync.collections": 7}):
        docs = new_collection({"a": {"n": 1}}, init=False)
        docs.init(metadata=metadata)
        with pytest.raises(InvalidCollectionState, match="say not of which collections"):
            VersionedCollection(new_root(), "docs").pull(docs)


# -- what it is of --------------------------------------------------------------------------------------


def test_of_which_collections_a_history_is_is_known_when_it_is_opened_again(catalogue):
    again = VersionedCollection(catalogue._root, "catalogue")
    assert again.collections == (EVENTS, TALKS)
    again.part(TALKS).documents["t9"] = {"title": "Seen"}
    assert catalogue.status()["documents"]["created"] == ["talks:t9"]
    with pytest.raises(InvalidOperation, match="is of events, talks, not of talks"):
        VersionedCollection(catalogue._root, "catalogue", collections=[TALKS])
    with pytest.raises(InvalidOperation, match="no collection 'people' in it, but events, talks"):
        again.part("people")
    with pytest.raises(InvalidOperation, match="see part"):
        _ = again.documents


def test_a_history_of_one_collection_has_no_parts(new_collection):
    docs = new_collection({"a": {}})
    assert docs.collections == ()
    with pytest.raises(InvalidOperation, match="no collection 'docs'"):
        docs.part("docs")
    with pytest.raises(InvalidOperation, match="of one collection"):
        docs.add_collection("more")


@pytest.mark.parametrize(
    ("collections", "error", "said"),
    [
        ([], ValueError, "at least one"),
        (["a", "a"], ValueError, "once"),
        (["a:b"], ValueError, "no name"),
        ({"a": "kind=talk"}, ValueError, "give a host"),
        ({"a": {}}, TypeError, "must be persistent"),
    ],
)
def test_collections_that_are_none_are_refused(new_root, collections, error, said):
    with pytest.raises(error, match=said):
        VersionedCollection(new_root(), "catalogue", collections=collections)


def test_two_histories_of_one_mapping_are_refused(catalogue, new_root, clock):
    alone = VersionedCollection(catalogue._root, TALKS, clock=clock)
    with pytest.raises(InvalidOperation, match="'talks' has versions already, in the history 'catalogue'"):
        alone.init()
    other = VersionedCollection(new_root(), EVENTS, clock=clock)
    other.init()
    with pytest.raises(InvalidOperation, match="'events' has versions already, in the history 'events'"):
        VersionedCollection(other._root, "catalogue", collections=[TALKS, EVENTS]).init()
    assert not VersionedCollection(other._root, "catalogue").is_tracked


def test_a_collection_is_added_and_its_documents_are_new_with_the_next_version(catalogue):
    catalogue._root["people"] = OOBTree({"p1": {"name": "Ada"}, "p2": {"name": "Grace"}})
    catalogue.add_collection("people")
    assert catalogue.collections == (EVENTS, "people", TALKS)
    assert catalogue.part("people").status()["created"] == ["p1", "p2"]
    catalogue.register("people, too")
    catalogue.checkout(0)
    assert list(catalogue.part("people").documents) == []
    catalogue.checkout(branch="main")
    assert dict(catalogue.part("people").documents) == {"p1": {"name": "Ada"}, "p2": {"name": "Grace"}}
    with pytest.raises(ValueError, match="already"):
        catalogue.add_collection("people")


def test_documents_of_a_collection_that_is_not_known_there_are_refused_with_what_to_do(
    catalogue, new_root, clock
):
    there = VersionedCollection(new_root(), "catalogue", clock=clock)
    catalogue.push(there)
    catalogue.add_collection("people")
    catalogue.part("people").documents["p1"] = {"name": "Ada"}
    catalogue.register("people, too")
    with pytest.raises(
        InvalidOperation, match="no collection 'people' in it, but events, talks: add it first"
    ):
        catalogue.push(there)
    there._root._p_jar.transaction_manager.abort()


def test_mappings_that_the_application_gives_have_to_be_given_again(new_root, clock):
    root = new_root()
    given = {TALKS: OOBTree({"t1": {"n": 1}}), EVENTS: PersistentMapping({"e1": {"n": 1}})}
    made = VersionedCollection(root, "catalogue", clock=clock, collections=given)
    made.init()
    given[TALKS]["t1"] = {"n": 2}
    given[EVENTS]["e2"] = {"n": 1}
    assert made.register("both")
    unnamed = VersionedCollection(root, "catalogue", clock=clock)
    assert unnamed.read("talks:t1") == {"n": 2}
    with pytest.raises(InvalidOperation, match="open with collections="):
        _ = unnamed.has_changes
    with pytest.raises(InvalidOperation, match="open with collections="):
        unnamed.checkout(0)
    assert unnamed.version == 1
    again = VersionedCollection(root, "catalogue", clock=clock, collections=given)
    again.checkout(0)
    assert (dict(given[TALKS]), dict(given[EVENTS])) == ({"t1": {"n": 1}}, {"e1": {"n": 1}})
    again.drop()
    assert dict(given[TALKS]) == {"t1": {"n": 1}}


def test_the_history_is_renamed_and_dropped_with_its_mappings(catalogue):
    begin = documents(catalogue)
    renamed = catalogue.rename("all")
    assert documents(renamed) == begin
    renamed.part(TALKS).documents["t1"] = {"n": 2}
    assert renamed.register("one")
    assert not catalogue.is_tracked
    renamed.drop()
    assert set(renamed._root) == {"livesync.versions"}


# -- erasing --------------------------------------------------------------------------------------------


def test_forgetting_an_id_reaches_every_collection_and_erasing_an_address_one(catalogue):
    assert catalogue.part(EVENTS).erase("x") == 1
    with pytest.raises(DocumentErased):
        catalogue.read("events:x")
    assert catalogue.read("talks:x") == {"title": "Talk"}
    assert forget(catalogue._root, "x") == ("catalogue",)
    with pytest.raises(DocumentErased):
        catalogue.part(TALKS).read("x")
    assert catalogue.read("talks:t1") == {"title": "Sync"}
    assert forget(catalogue._root, "unknown") == ()
    assert catalogue.check() == []


# -- rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "talk", "=talk"])
def test_a_rule_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        Rule.parse(text)


def test_rules_look_at_a_field_or_at_the_beginning_of_an_id():
    assert Rule.parse("kind=talk").holds("a", {"kind": "talk"})
    assert not Rule.parse("kind=talk").holds("a", {"kind": "event"})
    assert not Rule.parse("kind=talk").holds("a", ["kind"])
    assert Rule.parse("/events/*").holds("/events/a", {})
    assert not Rule.parse("/events/*").may_hold("/talks/a")
    assert Rule.parse("*").holds("a", None)


def test_a_plain_mapping_of_the_root_is_one_of_them(new_root, clock):
    connection = new_root()
    connection.root()[TALKS] = NotedDocuments()
    connection.root()[EVENTS] = {"e1": {"n": 1}}
    made = VersionedCollection(connection, "catalogue", clock=clock, collections=[TALKS, EVENTS])
    made.init()
    made.part(TALKS).documents["t1"] = {"n": 1}
    made.register("one")
    made.checkout(0)
    connection.transaction_manager.commit()
    assert documents(made) == {TALKS: {}, EVENTS: {"e1": {"n": 1}}}
    with pytest.raises(BranchNotFound):
        made.checkout(branch="side")
