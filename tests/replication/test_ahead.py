"""What is done ahead: one piece of work at a time, in another thread, and never left under way."""

import threading
from contextlib import suppress

import pytest

from livesync.replication.network.ahead import Ahead


def test_what_was_begun_is_given_once():
    with Ahead() as ahead:
        assert ahead.take() is None
        ahead.begin(lambda: threading.current_thread().name)
        assert ahead.take()() == "livesync-peer-ahead"
        assert ahead.take() is None
        ahead.begin(lambda: 2)
        assert ahead.take()() == 2


def test_what_the_work_raises_is_raised_to_who_takes_it():
    with Ahead() as ahead:
        ahead.begin(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            ahead.take()()
        ahead.begin(lambda: 3)
        assert ahead.take()() == 3


def test_what_is_dropped_has_ended_and_raises_nothing():
    done = []
    with Ahead() as ahead:
        ahead.begin(lambda: done.append(1) or 1 // 0)
        ahead.drop()
        assert done == [1]
        ahead.drop()


def test_the_block_is_left_when_the_work_has_ended():
    may_end, threads = threading.Event(), []

    def work():
        threads.append(threading.current_thread())
        may_end.wait(10)

    def leave():
        with suppress(LookupError), Ahead() as ahead:
            ahead.begin(work)
            raise LookupError

    leaving = threading.Thread(target=leave)
    leaving.start()
    leaving.join(0.05)
    assert leaving.is_alive()
    may_end.set()
    leaving.join(10)
    assert not leaving.is_alive()
    assert not threads[0].is_alive()


def test_who_interrupts_does_not_wait():
    may_end = threading.Event()

    def leave():
        with Ahead() as ahead:
            ahead.begin(lambda: may_end.wait(10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert not may_end.is_set()
    may_end.set()
