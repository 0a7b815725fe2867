"""What is missing though nobody said that it was deleted is looked for twice before it is taken as gone."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from livesync.delivery.access import ManagerAccess


class Looks:
    """Which snapshots were asked for; those with caches in them do not show what is ``hidden``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hidden: set[str] = set()
        self.past_caches: list[bool] = []
        self._snapshot = ManagerAccess.host_snapshot
        looks = self

        def host_snapshot(access: ManagerAccess, host: Any, past_caches: bool = False) -> Any:
            looks.past_caches.append(past_caches)
            return looks._snapshot(access, Blind(host, set() if past_caches else looks.hidden), past_caches)

        monkeypatch.setattr(ManagerAccess, "host_snapshot", host_snapshot)


class Blind:
    """A host on a database whose cache is wrong: it does not find some objects."""

    def __init__(self, host: Any, hidden: set[str]) -> None:
        self._host = host
        self._hidden = hidden

    def at(self, connection: Any) -> Any:
        made = self._host.at(connection)
        hidden = self._hidden

        class At:
            def __enter__(self) -> Any:
                host = made.__enter__()
                get = host.get
                host.get = lambda object_id: None if object_id in hidden else get(object_id)
                return host

            def __exit__(self, *failed: Any) -> Any:
                return made.__exit__(*failed)

        return At()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_what_a_wrong_cache_does_not_show_is_sent_and_named(
    world: Any, looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    for key in "abc":
        world.put(key)
    looks.hidden = {"b"}

    result = world.run()

    assert set(world.service.documents) == {"a", "b", "c"}
    assert world.service.tombstones == {}
    assert (result.read, result.accepted) == (3, 3)
    assert looks.past_caches == [False, True]
    (warning,) = warnings(caplog)
    assert "'b'" in warning
    assert "agent index" in warning


def test_the_order_of_the_records_is_kept(world: Any, looks: Looks) -> None:
    for key in "dcba":
        world.put(key)
    looks.hidden = {"c", "a"}

    world.run()

    assert list(world.service.documents) == ["d", "c", "b", "a"]


def test_what_is_gone_is_a_delete_after_a_second_look(
    world: Any, looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("a")
    world.put("b")
    del world.things["a"]  # and nobody says so
    world.tm.commit()

    world.run()

    assert set(world.service.documents) == {"b"}
    assert set(world.service.tombstones) == {"a"}
    assert looks.past_caches == [False, True]
    assert warnings(caplog) == []


def test_what_was_said_to_be_deleted_is_looked_for_once(world: Any, looks: Looks) -> None:
    world.put("a")
    world.run()
    looks.past_caches.clear()
    world.remove("a")

    world.run()

    assert set(world.service.tombstones) == {"a"}
    assert looks.past_caches == [False]
