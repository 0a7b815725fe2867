import pytest

from livesync.demo.host import demo_host, demo_paths_host
from livesync.demo.model import ROOT_KEY, Talk
from livesync.destinations.sqlite import SQLiteAgent
from livesync.errors import HostFailed
from livesync.host import load_host
from livesync.manager import SyncManager
from livesync.upkeep.detect import detect

HOSTS = pytest.mark.parametrize("factory", [demo_host, demo_paths_host])


@pytest.fixture(scope="module")
def small(demo, small_history):
    """The small history, replayed; only to read."""
    world = demo.World()
    world.replay(demo_host(), *small_history)
    yield world
    world.db.close()


def at_path(root, path):
    return root[ROOT_KEY].at_path(path)


@pytest.mark.parametrize("name", ["livesync.demo.host:demo_host", "livesync.demo.host:demo_paths_host"])
def test_hosts_are_made_by_their_factories(name):
    assert load_host(name)


@HOSTS
def test_host_without_connection_says_what_it_lacks(factory):
    with pytest.raises(HostFailed, match="no connection"):
        factory().get("x")
    with pytest.raises(HostFailed, match="no connection"):
        list(factory().iter_objects())


@HOSTS
def test_everything_is_listed_by_ascending_id_and_found_by_it(small, factory):
    with small.root() as root, factory().at(root._p_jar) as host:
        ids = [host.object_id(obj) for obj in host.iter_objects()]

        assert ids == sorted(ids) == list(host.iter_ids())
        assert len(ids) == len(set(ids)) == len(root[ROOT_KEY].by_uid)
        assert all(host.object_id(host.get(object_id)) == object_id for object_id in ids)
        assert host.get("nothing") is None


@HOSTS
def test_list_begins_after_an_id(small, factory):
    with small.root() as root, factory().at(root._p_jar) as host:
        ids = list(host.iter_ids())

        for number in (0, 400, len(ids) - 1):
            assert [host.object_id(obj) for obj in host.iter_objects(ids[number])] == ids[number + 1 :]
            assert list(host.iter_ids(ids[number])) == ids[number + 1 :]


@HOSTS
def test_database_without_catalogue_has_nothing(world, factory):
    with world.change() as root:
        del root[ROOT_KEY]

    with world.root() as root, factory().at(root._p_jar) as host:
        assert list(host.iter_objects()) == list(host.iter_ids()) == []
        assert host.get("x") is None


@HOSTS
def test_database_of_another_application_is_told(world, factory):
    with world.change() as root:
        root[ROOT_KEY] = "a library"

    with world.root() as root, factory().at(root._p_jar) as host, pytest.raises(HostFailed, match="another"):
        host.get("x")


def test_contents_come_parents_first(small):
    with small.root() as root, demo_host().at(root._p_jar) as host:
        below = list(host.contents(at_path(root, "pytexas")))

        assert {entry.path for entry in below if entry.kind == "conference"} == {
            "pytexas/pytexas-2012",
            "pytexas/pytexas-2013",
        }
        seen = {"pytexas"}
        for entry in below:
            assert entry.__parent__.path in seen
            seen.add(entry.path)
        assert len(below) == 30 + 21
        assert list(host.contents(below[1])) == []


def test_document_says_what_and_where_and_what_the_history_says(small, small_history):
    with small.root() as root, demo_host().at(root._p_jar) as host:
        talk = next(host.contents(at_path(root, "pycon-us/pycon-us-2013")))
        document = host.document(talk)

        assert document == {
            **talk.data,
            "kind": "talk",
            "path": f"pycon-us/pycon-us-2013/{talk.__name__}",
            "series": "pycon-us",
            "source": f"pycon-us-2013/videos/{talk.__name__}.json",
        }
        assert host.document(at_path(root, "pycon-us")) == {
            "kind": "series",
            "title": "pycon-us",
            "path": "pycon-us",
            "series": "pycon-us",
            "source": None,
        }
        assert host.label(talk) == f"talk {talk.title}"


@HOSTS
def test_documents_do_not_depend_on_ids(small, factory):
    with small.root() as root, factory().at(root._p_jar) as host:
        conference = at_path(root, "montreal-python/montreal-python")

        assert host.document(conference, "staff") == {
            "kind": "conference",
            "title": "Montréal-Python",
            "path": "montreal-python/montreal-python",
            "series": "montreal-python",
            "source": "montreal-python/category.json",
        }


def test_private_things_and_what_lies_in_them_are_for_others_than_the_public(small):
    with small.root() as root, demo_host().at(root._p_jar) as host:
        conference = at_path(root, "pydata-warsaw/pydata-warsaw")
        inside = list(host.contents(conference))

        assert conference.data is None
        assert len(inside) == 28
        for entry in (conference, *inside):
            assert host.is_excluded(entry)
            assert not host.is_excluded(entry, "staff")
        assert any(not talk.is_private for talk in inside)


def test_excluded_series_and_what_lies_in_it_is_for_nobody(small):
    with small.root() as root, demo_host().at(root._p_jar) as host:
        series = at_path(root, "kyivpy")
        entries = [series, *host.contents(series)]

        assert len(entries) == 1 + 15
        for entry in entries:
            assert host.is_excluded(entry)
            assert host.is_excluded(entry, "staff")


def test_fair_share_of_talks_is_private(small):
    with small.root() as root, demo_host().at(root._p_jar) as host:
        talks = [obj for obj in host.iter_objects() if obj.kind == "talk"]

        share = sum(map(host.is_excluded, talks)) / len(talks)

    assert 0.05 < share < 0.25


def test_only_what_is_in_the_catalogue_is_synced(small):
    with small.root() as root:
        host = demo_host()

        assert host.is_never_synced(object())
        assert host.is_never_synced(root)
        assert host.is_never_synced(root[ROOT_KEY])
        assert not host.is_never_synced(at_path(root, "pycon-us"))


def test_former_path_is_told_of_a_move_and_of_what_is_inside(small):
    with small.root() as root:
        host = demo_paths_host()
        conference = at_path(root, "pytexas/pytexas-2012")
        talk = next(host.contents(conference))

        former = host.former_id(conference, at_path(root, "pydata"), "old")

        assert former == "pydata/old"
        assert host.former_id_inside(talk, conference, former) == f"pydata/old/{talk.__name__}"
        assert demo_host().former_id(conference, at_path(root, "pydata"), "old") is None


@HOSTS
def test_of_a_replayed_history_a_detection_names_only_what_was_stored_behind_its_back(
    demo, small_history, factory
):
    world = demo.World()
    world.replay(factory(), *small_history)
    with world.change() as root:
        manager = SyncManager.get(root)
        manager.register_agent(SQLiteAgent("index", path="index.db"))
        manager.activate("index", from_start=True)

    assert detected(world, factory()) == []
    with world.change() as root, factory().at(root._p_jar) as host:
        changed = next(obj for obj in host.iter_objects() if isinstance(obj, Talk))
        changed.data = {**changed.data, "title": "Changed by a script"}
        object_id = host.object_id(changed)
    assert detected(world, factory()) == [object_id]
    world.db.close()


def detected(world, host):
    named = []
    with world.root() as root:
        detect(SyncManager.get(root), "index", host, since=0.0, told=lambda one: named.append(one.object_id))
    return named
