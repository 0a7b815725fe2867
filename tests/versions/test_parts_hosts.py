"""Several collections of an application's documents in one history: rules say which each one is."""

import pytest

from livesync.errors import InvalidOperation
from livesync.versions import VersionedCollection

RULES = {"talks": "kind=talk", "events": "kind=event"}


def talk(n):
    return {"kind": "talk", "n": n}


def event(n):
    return {"kind": "event", "n": n}


@pytest.fixture
def site(new_site):
    made = new_site()
    made.edit(a=talk(1), b=event(1), c={"kind": "page"})
    return made


@pytest.fixture
def catalogue(site):
    made = site.collection("catalogue", collections=RULES)
    made.init()
    site.tm.commit()
    return made


def test_rules_sort_the_documents_and_leave_out_what_is_no_collections(catalogue):
    assert dict(catalogue.read_all()) == {"events:b": event(1), "talks:a": talk(1)}
    assert dict(catalogue.part("talks").read_all()) == {"a": talk(1)}
    with pytest.raises(InvalidOperation, match="the application's"):
        _ = catalogue.part("talks").documents


def test_the_track_says_what_has_changed_and_one_version_holds_all_of_it(site, catalogue):
    site.collect()
    site.edit(user="ada", a=talk(2), b=event(2), c={"kind": "page", "n": 2})
    site.host.looked.clear()
    assert catalogue.status()["documents"]["changed"] == ["events:b", "talks:a"]
    assert set(site.host.looked) <= {"a", "b", "c"}
    assert catalogue.register("both")
    site.tm.commit()
    assert catalogue.get_log()[0].author == "ada"
    assert [one.version for one in catalogue.part("events").history("b")] == [1, 0]
    site.edit(user="cyd", c={"kind": "page", "n": 2})
    site.edit(user="bob", b=event(3))
    catalogue.register("one")
    assert catalogue.get_log()[0].author == "bob"
    catalogue.checkout(0)
    site.tm.commit()
    assert site.documents["a"] == talk(1)
    assert site.documents["b"] == event(1)
    assert site.documents["c"] == {"kind": "page", "n": 2}


def test_a_document_that_becomes_another_collections_is_deleted_there_and_created_here(site, catalogue):
    site.edit(a=event(5))
    assert catalogue.status()["documents"] == {
        "created": ["events:a"],
        "changed": [],
        "deleted": ["talks:a"],
    }
    catalogue.register("a talk that became an event")
    site.tm.commit()
    catalogue.checkout(0)
    site.tm.commit()
    assert site.documents["a"] == talk(1)
    catalogue.checkout(1)
    site.tm.commit()
    assert site.documents["a"] == event(5)
    assert not catalogue.has_changes


def test_ids_sort_documents_too_and_the_first_rule_that_fits_has_one(new_site):
    site = new_site()
    site.edit(**{"talks/1": {"n": 1}, "talks/old/1": {"n": 2}, "other": {"n": 3}})
    made = site.collection("all", collections={"old": "talks/old/*", "talks": "talks/*"})
    made.init()
    assert dict(made.read_all()) == {"old:talks/old/1": {"n": 2}, "talks:talks/1": {"n": 1}}
    site.collect()
    site.edit(**{"talks/1": None, "talks/old/2": {"n": 4}})
    assert made.status()["documents"] == {
        "created": ["old:talks/old/2"],
        "changed": [],
        "deleted": ["talks:talks/1"],
    }


def test_a_document_that_its_rule_does_not_hold_is_not_written(site, catalogue):
    before = site.documents
    with pytest.raises(InvalidOperation, match="do not put 'a' into 'events'"):
        catalogue.working.write([("talks:e", talk(3)), ("events:a", talk(2))])
    with pytest.raises(InvalidOperation, match="no collection 'people'"):
        catalogue.working.write([("people:e", {"kind": "person"})])
    assert site.documents == before


def test_without_its_host_a_history_is_read_and_says_what_is_missing_for_more(site, catalogue):
    alone = VersionedCollection(site.connection, "catalogue")
    assert alone.read("talks:a") == talk(1)
    for work in (alone.status, alone.discard_changes, alone.drop, lambda: alone.register("x")):
        with pytest.raises(InvalidOperation, match="are an application's: give its host"):
            work()
    again = site.collection("catalogue")
    assert again.collections == ("events", "talks")
    assert not again.has_changes


def test_versions_that_come_to_a_host_need_rules(site, catalogue, new_site):
    there = new_site()
    with pytest.raises(InvalidOperation, match="say by rules which of the host's they are"):
        catalogue.push(there.collection("catalogue"))
    there.tm.abort()
    made = there.collection("catalogue", collections=RULES)
    catalogue.push(made)
    there.tm.commit()
    assert there.documents == {"a": talk(1), "b": event(1)}
    site.edit(a=talk(2))
    catalogue.register("more")
    catalogue.push(there.collection("catalogue"))
    there.tm.commit()
    assert there.documents["a"] == talk(2)


def test_a_collection_is_added_by_its_rule(site, catalogue):
    site.collect()
    with pytest.raises(ValueError, match="give pages=FIELD=VALUE, or pages=PREFIX"):
        catalogue.add_collection("pages")
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        catalogue.add_collection("pages", "page")
    catalogue.add_collection("pages", "kind=page")
    assert catalogue.status()["documents"]["created"] == ["pages:c"]
    catalogue.register("pages, too")
    site.tm.commit()
    assert site.collection("catalogue").collections == ("events", "pages", "talks")


def test_a_hosts_history_of_one_collection_is_not_taken_for_a_mapping(site):
    docs = site.collection()
    docs.init()
    site.tm.commit()
    with pytest.raises(InvalidOperation, match="give its host"):
        _ = VersionedCollection(site.connection, "pages").has_changes
    assert VersionedCollection(site.connection, "pages").read("a") == talk(1)
