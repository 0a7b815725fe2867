import random

import pytest

from livesync.delivery.record import encode_document
from livesync.demo.host import demo_host, demo_paths_host

HOSTS = pytest.mark.parametrize("factory", [demo_host, demo_paths_host])


def restore(world, host, documents):
    """Restore ``(id, document)`` pairs in one transaction."""
    with world.change() as root, host.at(root._p_jar) as bound:
        for object_id, document in documents:
            bound.restore(object_id, document)


def state(world, host):
    """Return id -> document of everything."""
    with world.root() as root, host.at(root._p_jar) as bound:
        return {bound.object_id(obj): bound.document(obj, "staff") for obj in bound.iter_objects()}


@HOSTS
def test_whole_catalogue_comes_back_from_its_documents_in_any_order(world, demo, small_history, factory):
    host, other = factory(), demo.World()
    world.replay(host, *small_history)
    documents = list(state(world, host).items())
    random.Random(1).shuffle(documents)

    restore(other, host, documents)

    assert other.index(host, "staff") == world.index(host, "staff")
    assert other.documents() == world.documents()
    other.check()
    other.db.close()


@HOSTS
@pytest.mark.parametrize("seed", range(2))
def test_catalogue_goes_back_to_what_it_was_by_restoring_what_differs(world, small_history, factory, seed):
    host = factory()
    world.replay(host, *small_history[:35])
    before = state(world, host)
    world.replay(host, *small_history[35:70])
    after = state(world, host)
    differing = [
        (object_id, before.get(object_id))
        for object_id in {*before, *after}
        if before.get(object_id) != after.get(object_id)
    ]
    random.Random(seed).shuffle(differing)

    restore(world, host, differing)

    assert state(world, host) == before
    world.check()


@pytest.mark.parametrize("seed", range(20))
def test_conferences_that_moved_and_swapped_go_back_in_any_order(world, demo, seed):
    host = demo_host()
    line = demo.line
    world.replay(
        host,
        line(("created", "a-2001/category.json", {"title": "A"}), ("created", "a-2001/videos/x.json", {})),
        line(("created", "b-2001/category.json", {"title": "B"}), ("created", "b-2001/videos/x.json", {})),
        line(("created", "b-2001/videos/y.json", {"n": 3})),
    )
    before = state(world, host)
    world.replay(
        host,
        line(
            ("moved", "c/category.json", None, "a-2001/category.json"),
            ("moved", "c/videos/x.json", None, "a-2001/videos/x.json"),
        ),
        line(
            ("moved", "a-2001/category.json", None, "b-2001/category.json"),
            ("moved", "a-2001/videos/x.json", None, "b-2001/videos/x.json"),
        ),
        line(
            ("moved", "b-2001/category.json", None, "c/category.json"),
            ("moved", "b-2001/videos/x.json", None, "c/videos/x.json"),
        ),
        line(("deleted", "b-2001/videos/y.json")),
    )
    after = state(world, host)
    differing = [
        (object_id, before.get(object_id))
        for object_id in sorted({*before, *after})
        if before.get(object_id) != after.get(object_id)
    ]
    random.Random(seed).shuffle(differing)

    for pair in differing:
        restore(world, host, [pair])

    assert {key: encode_document(value) for key, value in state(world, host).items()} == {
        key: encode_document(value) for key, value in before.items()
    }
    world.check()


def test_restored_documents_are_told_to_the_track(world, demo, small_history):
    host = demo_host()
    world.replay(host, *small_history[:65])
    mirror = demo.Mirror(world, host)
    mirror.follow()
    conference_id = world.uids()["pydata-warsaw/pydata-warsaw"]
    document = state(world, host)[conference_id]

    from livesync.demo.wiring import recorded

    with recorded(world.db, host):
        restore(world, host, [(conference_id, {**document, "title": "Back", "source": "some file"})])

    assert mirror.follow() == world.index(host)
    assert world.collect()[-1].actions == {"data_changed", "title_changed", "set_public"}


def test_restoring_where_nobody_records_is_no_error(world, demo):
    host = demo_host()
    restore(world, host, [("1", {"kind": "talk", "path": "a/a-2001/x", "title": "X"})])

    restore(world, host, [("1", {"kind": "talk", "path": "a/a-2001/x", **demo.ready})])

    assert world.uids()["a/a-2001/x"] == "1"
    assert world.collect() == []


def test_database_without_catalogue_gets_one(world):
    with world.change() as root:
        del root["catalogue"]

    restore(world, demo_host(), [("1", {"kind": "series", "path": "a"})])

    assert world.uids() == {"a": "1"}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "talk"},
        {"kind": "talk", "path": 5},
        {"kind": "talk", "path": "a/a-2001"},
        {"kind": "series", "path": "a/a-2001"},
        {"kind": "conference", "path": "a"},
        {"kind": "room", "path": "a"},
        {"kind": "conference", "path": "b/a-2001"},
    ],
)
def test_document_that_does_not_say_what_and_where_is_refused(world, document):
    with pytest.raises(ValueError, match=r"path|kind"):
        restore(world, demo_host(), [("1", document)])


def test_talk_cannot_become_a_conference(world):
    restore(world, demo_host(), [("1", {"kind": "talk", "path": "a/a-2001/x"})])

    with pytest.raises(ValueError, match="a talk cannot become a conference"):
        restore(world, demo_host(), [("1", {"kind": "conference", "path": "a/a-2001"})])


@HOSTS
def test_series_and_all_in_it_is_gone_once_each_is_removed(world, demo, factory):
    host = factory()
    files = ["a-2001/category.json", "a-2001/videos/x.json"]
    world.replay(host, demo.line(*(("created", file, {}) for file in files)))

    restore(world, host, [(object_id, None) for object_id in state(world, host)])

    assert world.uids() == {}


def test_removing_what_is_not_there_is_no_error(world):
    restore(world, demo_host(), [("1", None)])

    assert world.uids() == {}
