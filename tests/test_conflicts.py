"""Conflicts over livesync's own objects are counted, others are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.shelf import World
from ZODB.POSException import ConflictError

from livesync import Capture, conflicts
from livesync.delivery.access import ManagerAccess


class Spoiler:
    """A data manager that ends a commit with an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def tpc_vote(self, _: Any) -> None:
        raise self._error

    def abort(self, _: Any) -> None: ...

    tpc_begin = commit = tpc_finish = tpc_abort = abort

    def sortKey(self) -> str:  # noqa: N802
        return "zz"


def conflict(class_name: str) -> ConflictError:
    """As a storage raises it: the class is known from the data."""
    module, _, name = class_name.rpartition(".")
    error = ConflictError(oid=b"\0" * 8)
    error.class_name = f"{module}.{name}"
    return error


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (conflict("livesync.track.stored.Lane"), 1),
        (conflict("shop.Basket"), 0),
        (ConflictError("no class known"), 0),
        (ValueError("livesync."), 0),
    ],
)
def test_a_host_transaction_that_fails_over_an_object_of_ours_is_counted(captured, error, counted):
    before = conflicts.counts()["host"]
    captured.capture.record("some-id", "data_changed", connection=captured.connection)
    captured.tm.get().join(Spoiler(error))

    with pytest.raises(type(error)):
        captured.tm.commit()
    captured.tm.abort()

    assert conflicts.counts()["host"] - before == counted


def test_a_short_transaction_that_is_tried_again_is_counted(captured):
    before = conflicts.counts()["own"]
    access = ManagerAccess(captured.manager)
    errors = iter([ConflictError(), ConflictError()])

    def change(manager: Any) -> int:
        for error in errors:
            raise error
        return 1

    assert access.change(change, "test") == 1
    access.close()
    assert conflicts.counts()["own"] - before == 2


@pytest.fixture
def captured(tmp_path: Any) -> Iterator[Any]:
    world = World(str(tmp_path / "host.fs"))
    with Capture(world.host).attached(world.db) as capture:
        world.capture = capture
        world.tm.begin()
        yield world
        world.tm.abort()
    world.connection.close()
    world.db.close()
