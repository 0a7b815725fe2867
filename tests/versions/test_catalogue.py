"""Versions of the demo's catalogue, which an application edits and the track follows."""

import pytest
import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync import SyncManager
from livesync.demo.editor import Editor
from livesync.demo.host import demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.places import Place
from livesync.demo.replay import prepare
from livesync.demo.wiring import recorded
from livesync.errors import InvalidOperation, ReadOnlyHost
from livesync.versions import VersionedCollection
from livesync.versions.hosted import POINTER

TALK = "pycon/pycon-2020/a"


class Site:
    """A catalogue, and a collection of its documents in a connection of its own."""

    def __init__(self, clock):
        self.db = ZODB.DB(DemoStorage())
        prepare(self.db)
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        self.docs = VersionedCollection(self.connection, "catalogue", host=demo_paths_host(), clock=clock)

    def edit(self, user="", **titles):
        """Change talks' titles in a transaction of the application's own; None removes a talk."""
        with recorded(self.db, demo_paths_host()), self.db.transaction(note="edited") as connection:
            if user:
                connection.transaction_manager.get().setUser(user)
            editor = Editor(connection.root()[ROOT_KEY], lambda path: f"uid of {path}")
            for name, title in titles.items():
                place = Place("pycon-2020", name)
                if title is None:
                    editor.erase(editor.catalogue.find(place))
                else:
                    editor.write(place, {"title": title})
        self.connection.sync()

    def collect(self, now=2_000_000_000.0):
        with self.db.transaction() as connection:
            SyncManager.get(connection.root()).collect(now)
        self.connection.sync()

    def title(self, name="a"):
        with self.db.transaction() as connection:
            found = connection.root()[ROOT_KEY].find(Place("pycon-2020", name))
            return None if found is None else found.title

    def recorded_by(self, user):
        with self.db.transaction() as connection:
            return sorted(
                action.object_id
                for action in SyncManager.get(connection.root()).waiting()
                if action.user == user
            )

    def close(self):
        self.tm.abort()
        self.connection.close()
        self.db.close()


@pytest.fixture
def site(clock):
    made = Site(clock)
    made.edit(a="first", b="first")
    made.docs.init()
    made.tm.commit()
    yield made
    made.close()


def test_the_first_version_holds_what_the_host_says_of_its_objects(site):
    assert site.docs.read(TALK)["title"] == "first"
    assert not site.docs.has_changes
    with pytest.raises(InvalidOperation, match="the application's"):
        _ = site.docs.documents


def test_an_edit_that_was_committed_a_moment_before_is_seen_and_its_maker_named(site):
    site.edit(a="second", user="ada")
    assert site.docs.status()["documents"]["changed"] == [TALK]
    assert site.docs.register("one")
    site.tm.commit()
    assert (site.docs.read(TALK)["title"], site.docs.read(TALK, 0)["title"]) == ("second", "first")
    assert "ada" in site.docs.get_log()[0].author
    assert not site.docs.has_changes


def test_only_what_the_track_names_is_looked_at(site, monkeypatch):
    site.collect()
    site.docs.register("the pointer follows what is sealed")
    site.tm.commit()
    site.edit(a="second")
    looked_at = []
    read = type(site.docs.working).read

    def looking(copy, ids):
        looked_at.extend(ids)
        return read(copy, ids)

    monkeypatch.setattr(type(site.docs.working), "read", looking)
    site.docs.register("one")
    assert set(looked_at) == {TALK}


def test_the_pointer_moves_with_the_version_in_the_same_transaction(site):
    site.edit(a="second")
    site.collect()
    pointer = POINTER + "catalogue"
    track = SyncManager.get(site.connection.root()).track
    before = track.get_pointer_timestamp(pointer)
    site.docs.register("one")
    assert track.get_pointer_timestamp(pointer) == track.sealed
    site.tm.abort()
    assert SyncManager.get(site.connection.root()).track.get_pointer_timestamp(pointer) == before
    assert site.docs.has_changes


def test_a_track_that_was_pruned_meanwhile_means_that_all_is_compared(site):
    site.edit(a="second")
    site.collect()
    with site.db.transaction() as connection:
        SyncManager.get(connection.root()).prune(2_000_000_000, leave_behind=True)
    site.connection.sync()
    assert site.docs.register("one")
    assert site.docs.read(TALK)["title"] == "second"


def test_a_checkout_makes_the_application_what_it_was_and_is_recorded_as_the_collections(site):
    site.edit(a="second", b=None, c="new")
    site.docs.register("one")
    site.tm.commit()
    site.docs.checkout(0)
    site.tm.commit()
    assert [site.title(name) for name in "abc"] == ["first", "first", None]
    talks = [f"pycon/pycon-2020/{name}" for name in "abc"]
    assert site.recorded_by("version:catalogue") == talks
    assert not site.docs.has_changes
    site.docs.checkout(branch="main")
    site.tm.commit()
    assert [site.title(name) for name in "abc"] == ["second", None, "new"]


def test_changes_are_discarded_and_stashed_in_the_application(site):
    site.edit(a="second", c="new")
    site.docs.stash()
    site.tm.commit()
    assert [site.title(name) for name in "ac"] == ["first", None]
    assert not site.docs.has_changes
    site.docs.stash_apply()
    site.tm.commit()
    assert [site.title(name) for name in "ac"] == ["second", "new"]
    assert site.docs.has_changes
    site.docs.discard_changes()
    site.tm.commit()
    assert [site.title(name) for name in "ac"] == ["first", None]


def test_branches_of_an_applications_documents_are_merged_back(site):
    site.docs.create_branch("side")
    site.tm.commit()
    site.edit(a="theirs")
    site.docs.register("theirs")
    site.docs.checkout(branch="main")
    site.tm.commit()
    site.edit(b="ours")
    site.docs.register("ours")
    assert site.docs.merge("side").version == (2, "main")
    site.tm.commit()
    assert [site.title(name) for name in "ab"] == ["theirs", "ours"]


def test_a_host_that_takes_nothing_back_has_versions_and_no_checkout(site, monkeypatch):
    site.edit(a="second")
    assert site.docs.register("one")

    def restore(*_):
        raise ReadOnlyHost("this host takes no documents back")

    bound = demo_paths_host()
    with bound.at(site.connection) as host:
        monkeypatch.setattr(type(host), "restore", restore)
    with pytest.raises(ReadOnlyHost):
        site.docs.checkout(0)


def test_dropping_the_versions_leaves_the_documents_and_the_pointer_goes(site):
    site.docs.drop()
    site.tm.commit()
    assert site.title() == "first"
    assert not SyncManager.get(site.connection.root()).track.has_pointer(POINTER + "catalogue")


def test_a_collection_that_is_renamed_goes_on_from_where_it_was(site):
    site.edit(a="second")
    renamed = site.docs.rename("other")
    assert renamed.status()["documents"]["changed"] == [TALK]
    assert renamed.register("one")
    site.tm.commit()
