"""What is made before it is asked for: in order, not more than has room, and never left under way."""

import threading
from contextlib import suppress

import pytest
from support.waiting import eventually

from livesync.replication.network.supply import Supply


class Source:
    """Counts up, and notes what it has made."""

    def __init__(self, count):
        self.count, self.made, self.threads = count, [], set()

    def __iter__(self):
        for number in range(self.count):
            self.threads.add(threading.current_thread().name)
            self.made.append(number)
            yield number


def test_all_is_given_in_order_and_then_there_is_no_more():
    source = Source(50)
    with Supply(source, 3) as supply:
        assert [supply.take() for _ in range(50)] == list(range(50))
        for _ in range(2):
            with pytest.raises(StopIteration):
                supply.take()
    assert source.threads == {"livesync-peer-supply"}


def test_no_more_is_made_than_waits_and_one():
    source = Source(50)
    with Supply(source, 3) as supply:
        eventually(lambda: len(source.made) == 4)
        assert supply.take() == 0
        eventually(lambda: len(source.made) == 5)
    assert len(source.made) == 5


def test_what_is_heavy_waits_for_room_and_what_is_too_heavy_waits_alone():
    source = Source(50)
    with Supply(source, 10, lambda number: 1 if number < 4 else 100, 6) as supply:
        eventually(lambda: len(source.made) == 5)
        assert [supply.take() for _ in range(4)] == [0, 1, 2, 3]
        eventually(lambda: len(source.made) == 6)
        assert supply.take() == 4
        assert supply.take() == 5


def test_what_making_one_raises_is_raised_after_those_before_it():
    def source():
        yield 1
        raise LookupError("no more paper")

    with Supply(source(), 3) as supply:
        assert supply.take() == 1
        for _ in range(2):
            with pytest.raises(LookupError, match="paper"):
                supply.take()


def test_the_block_is_left_when_the_one_that_is_made_is_ready():
    may_end, ended = threading.Event(), []

    def source():
        may_end.wait(10)
        ended.append(1)
        yield 1
        ended.append(2)

    def leave():
        with suppress(LookupError), Supply(source(), 1):
            raise LookupError

    leaving = threading.Thread(target=leave)
    leaving.start()
    leaving.join(0.05)
    assert leaving.is_alive()
    may_end.set()
    leaving.join(10)
    assert not leaving.is_alive()
    assert ended == [1]


def test_who_interrupts_does_not_wait():
    may_end = threading.Event()

    def source():
        may_end.wait(10)
        yield 1

    def leave():
        with Supply(source(), 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert not may_end.is_set()
    may_end.set()
