import json

import pytest

from livesync.delivery.record import encode_document
from livesync.demo.dump import dump
from livesync.demo.host import DemoHost, demo_host, demo_paths_host
from livesync.errors import NoDocument


class Forgetful(DemoHost):
    """Has no documents for series."""

    def document(self, obj, audience="public"):
        if obj.kind == "series":
            raise NoDocument("a series has none")
        return super().document(obj, audience)


@pytest.mark.parametrize("factory", [demo_host, demo_paths_host])
def test_everything_that_may_be_seen_is_written_by_id(world, small_history, factory):
    host = factory()
    world.replay(host, *small_history)

    with world.root() as root:
        lines = list(dump(host, root._p_jar))

    ids = [json.loads(line)["id"] for line in lines]
    assert ids == sorted(ids)
    assert set(ids) == world.index(host).keys()
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_document_has_the_bytes_that_a_destination_holds(world, demo):
    world.replay(demo_host(), demo.line(("created", "b/category.json", {"title": "Z\n", "é": [1.0, None]})))

    with world.root() as root:
        line = list(dump(demo_paths_host(), root._p_jar))[1]

    document = encode_document(json.loads(line)["document"])
    assert line == b'{"id":"b/b","document":%b}\n' % document


def test_what_has_no_document_is_left_out_and_told(world, small_history):
    world.replay(demo_host(), *small_history[:5])
    told = []

    with world.root() as root:
        lines = list(dump(Forgetful(), root._p_jar, "staff", lambda *what: told.append(what)))

    assert {json.loads(line)["document"]["kind"] for line in lines} == {"conference", "talk"}
    assert {reason for _object_id, reason in told} == {"a series has none"}
    assert len(told) == 2
