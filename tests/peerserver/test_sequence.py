import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid.response import Response
from support.waiting import LONG_S

from livesync.peerserver.problems import Refused
from livesync.peerserver.sequence import BLOCK, Sequences, reserved


class Database:
    """What a record says, and processes that serve the session."""

    def __init__(self):
        self.stored = 0

    def reserve(self, known, number):
        self.stored = reserved(self.stored, known, number)
        return self.stored


def serve(sequences, database, number, asked, served):
    with sequences.turn("s", number, asked, database.reserve) as turn:
        if turn.answer is not None:
            return turn.answer
        answer = Response(b"%d" % len(served))
        served.append((number, asked))
        turn.keep(answer)
        return answer


def test_the_same_request_has_the_same_answer_and_is_served_once():
    sequences, database, served = Sequences(), Database(), []

    first = serve(sequences, database, 1, b"a", served)
    again = serve(sequences, database, 1, b"a", served)

    assert again is first
    assert served == [(1, b"a")]


def test_a_number_is_used_for_one_request():
    sequences, database, served = Sequences(), Database(), []
    serve(sequences, database, 4, b"a", served)

    with pytest.raises(Refused) as other:
        serve(sequences, database, 4, b"b", served)
    with pytest.raises(Refused) as lower:
        serve(sequences, database, 3, b"a", served)

    assert other.value.code == lower.value.code == "sequence"
    assert other.value.next_sequence == lower.value.next_sequence == 5
    assert served == [(4, b"a")]


def test_what_failed_is_served_again():
    sequences, database, served = Sequences(), Database(), []
    with sequences.turn("s", 1, b"a", database.reserve) as turn:
        assert turn.answer is None  # and nothing is kept: it was an error of the server's

    serve(sequences, database, 1, b"a", served)

    assert served == [(1, b"a")]


def test_a_process_that_was_started_again_takes_only_what_has_never_been_used():
    database, served = Database(), []
    serve(Sequences(), database, 1, b"a", served)

    after = Sequences()
    with pytest.raises(Refused) as refused:
        serve(after, database, 1, b"a", served)
    serve(after, database, refused.value.next_sequence, b"a", served)

    assert refused.value.next_sequence == 1 + BLOCK + 1
    assert [number for number, _ in served] == [1, 1 + BLOCK + 1]


@pytest.mark.parametrize("number", [2**53 + 1, 10**9])
def test_a_number_that_leaves_no_room_is_refused(number):
    with pytest.raises(Refused, match="too high"):
        serve(Sequences(), Database(), number, b"a", [])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200), st.sampled_from([b"a", b"b"])), max_size=60)
)
def test_no_number_is_served_twice_whoever_serves_and_whoever_is_started_again(steps):
    database = Database()
    processes = [Sequences(), Sequences()]
    served = []
    for process, number, asked in steps:
        if process == 2:
            processes[number % 2] = Sequences()
            continue
        with contextlib.suppress(Refused):
            serve(processes[process], database, number, asked, served)

    numbers = [number for number, _ in served]
    assert len(numbers) == len(set(numbers))


def test_one_request_of_a_session_is_served_at_a_time():
    sequences, database, served = Sequences(), Database(), []
    inside, most = [], []
    barrier = threading.Barrier(6)

    def ask():
        barrier.wait()
        with sequences.turn("s", 1, b"a", database.reserve) as turn:
            inside.append(1)
            most.append(len(inside))
            if turn.answer is None:
                served.append(1)
                turn.keep(Response(b"x"))
            inside.pop()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)

    assert served == [1]
    assert max(most) == 1


def test_answers_take_a_bounded_amount_of_memory(monkeypatch):
    monkeypatch.setattr("livesync.peerserver.sequence._KEPT_BYTES", 10_000)
    monkeypatch.setattr("livesync.peerserver.sequence._REMEMBERED", 30)
    sequences, databases = Sequences(), {}
    for number in range(200):
        database = databases.setdefault(number, Database())
        with sequences.turn(f"s{number}", 1, b"a", database.reserve) as turn:
            turn.keep(Response(b"x" * 500))
        assert sequences._kept <= 10_500
        assert len(sequences._live) <= 30
    sequences.forget("s199")
    assert sequences._kept == 500 * len(sequences._live)
