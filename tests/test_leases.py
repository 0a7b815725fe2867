"""Who may run an agent: the rules of a lease, and what they keep a former holder from."""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import pytest
import transaction
import ZODB
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ZODB.DemoStorage import DemoStorage
from ZODB.POSException import ConflictError

from livesync import SyncAgent, SyncManager, leases
from livesync.errors import Leased, LeaseLost
from livesync.process import this_process
from livesync.track.stored import StoredLease

HERE = this_process()
ELSEWHERE = ("elsewhere", 1, 1)


def take(lease: StoredLease, now: float = 100.0, process: Any = HERE, seconds: float = 30.0) -> int:
    return leases.take("a", lease, process, "run", now, seconds)


# the rules, one by one


def test_nobody_holds_a_new_lease():
    lease = StoredLease()

    assert leases.holder(lease, 0) == ""
    leases.check_free("a", lease, 0)


def test_who_takes_it_holds_it_and_is_named():
    lease = StoredLease()

    token = take(lease)

    assert token == 1
    assert leases.holder(lease, 129) == f"run by process {HERE[1]} on {HERE[0]}"
    assert (lease.since, lease.until) == (100, 130)
    leases.check_held("a", lease, token)


def test_while_it_is_held_nobody_else_takes_it_and_the_text_says_who_and_how_long():
    lease = StoredLease()
    take(lease)

    with pytest.raises(
        Leased, match=r"'a' is held: run by process \d+ .* until 1970-01-01T00:02:10Z"
    ) as caught:
        take(lease, 129.9, ELSEWHERE)

    assert caught.value.agent_id == "a"
    assert caught.value.holder == leases.holder(lease, 129)
    assert lease.token == 1


def test_one_that_nobody_renewed_may_be_taken_over():
    lease = StoredLease()
    former = take(lease)

    token = take(lease, 130, ELSEWHERE)

    assert token == 2
    with pytest.raises(LeaseLost, match="not heard of"):
        leases.check_held("a", lease, former)
    with pytest.raises(LeaseLost):
        leases.renew("a", lease, former, 1000)
    assert lease.until == 160


def test_one_that_was_renewed_may_not():
    lease = StoredLease()
    token = take(lease)

    leases.renew("a", lease, token, 150)

    with pytest.raises(Leased):
        take(lease, 149, ELSEWHERE)


def test_a_holder_that_is_late_still_holds_it_until_somebody_takes_it():
    lease = StoredLease()
    token = take(lease)

    leases.renew("a", lease, token, 10_000)  # long after 130

    with pytest.raises(Leased):
        take(lease, 5_000, ELSEWHERE)


def test_what_was_given_back_is_free_and_its_token_is_worth_nothing():
    lease = StoredLease()
    token = take(lease)

    leases.release(lease, token)

    assert leases.holder(lease, 101) == ""
    with pytest.raises(LeaseLost):
        leases.check_held("a", lease, token)
    assert take(lease, 101) == 2


def test_a_former_holder_gives_nothing_back():
    lease = StoredLease()
    former = take(lease)
    token = take(lease, 200, ELSEWHERE)

    leases.release(lease, former)

    leases.check_held("a", lease, token)


def test_whoever_asks_whether_it_is_free_ends_one_that_has_run_out():
    lease = StoredLease()
    token = take(lease)

    leases.check_free("a", lease, 131)

    with pytest.raises(LeaseLost):
        leases.check_held("a", lease, token)


# the rules, in any order


class Runner:
    def __init__(self, number: int) -> None:
        self.process = (("here", "there")[number % 2], number, 1)
        self.ahead_s = 0.0
        self.token = 0
        self.alive = True


class Rules(RuleBasedStateMachine):
    """Several runners on two hosts, with clocks that differ and step, of which some die.

    Who looks can tell of a process of the host "here" whether it is dead, of one of "there" not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lease = StoredLease()
        self.runners = [Runner(number) for number in range(4)]
        self.owner: Runner | None = None
        self.tokens: list[int] = []
        self.patch = mock.patch.object(leases, "is_dead", self.is_dead)
        self.patch.start()

    def teardown(self) -> None:
        self.patch.stop()

    def is_dead(self, process: Any) -> bool:
        return process[0] == "here" and not any(
            runner.alive for runner in self.runners if runner.process == process
        )

    numbers = st.integers(0, 3)

    @rule(seconds=st.sampled_from([0.5, 5, 9, 31]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=numbers, seconds=st.sampled_from([-3600, -10, 0, 10, 3600]))
    def a_clock_steps(self, number: int, seconds: float) -> None:
        self.runners[number].ahead_s = seconds

    @rule(number=numbers)
    def one_takes_it(self, number: int) -> None:
        runner = self.runners[number]
        if not runner.alive:
            return
        now = self.now + runner.ahead_s
        free = self.lease.holder is None or now >= self.lease.until or self.is_dead(self.lease.holder[:3])
        try:
            runner.token = leases.take("a", self.lease, runner.process, "run", now, 30)
        except Leased:
            assert not free
            return
        assert free
        assert all(runner.token > token for token in self.tokens)
        self.tokens.append(runner.token)
        self.owner = runner

    @rule(number=numbers)
    def one_renews_it(self, number: int) -> None:
        runner = self.runners[number]
        if runner.alive and runner.token:
            try:
                leases.renew("a", self.lease, runner.token, self.now + runner.ahead_s + 30)
            except LeaseLost:
                assert runner is not self.owner
            else:
                assert runner is self.owner

    @rule(number=numbers)
    def one_gives_it_back(self, number: int) -> None:
        runner = self.runners[number]
        if runner.alive and runner.token:
            leases.release(self.lease, runner.token)
            if runner is self.owner:
                self.owner = None
            runner.token = 0

    @rule(number=numbers)
    def one_dies(self, number: int) -> None:
        self.runners[number].alive = False

    @rule(number=numbers)
    def another_comes_in_its_place(self, number: int) -> None:
        runner = self.runners[number]
        if not runner.alive:
            host, pid, started = runner.process
            runner.process = (host, pid, started + 1)
            runner.token, runner.alive = 0, True
            if self.owner is runner:
                self.owner = None  # what it wrote as another process counts no more than before

    @rule(number=numbers)
    def somebody_wants_it_free(self, number: int) -> None:
        now = self.now + self.runners[number].ahead_s
        try:
            leases.check_free("a", self.lease, now)
        except Leased:
            assert leases.holder(self.lease, now)
        else:
            self.owner = None

    @invariant()
    def the_writes_of_one_count_at_most(self) -> None:
        for runner in self.runners:
            if not runner.token:
                continue
            try:
                leases.check_held("a", self.lease, runner.token)
            except LeaseLost:
                assert runner is not self.owner
            else:
                assert runner is self.owner

    @invariant()
    def tokens_grow(self) -> None:
        assert self.tokens == sorted(set(self.tokens))


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# in a database, with transactions that overlap


class Place:
    """A manager with an agent ``a`` whose pointer may go to 1000, and connections to it."""

    def __init__(self) -> None:
        self.db = ZODB.DB(DemoStorage(), pool_size=20)
        with self.db.transaction() as connection:
            manager = SyncManager.install(connection.root())
            manager.track.seal(1000)
            manager.register_agent(SyncAgent("a"))
            manager.activate("a", from_start=True)

    def connection(self) -> tuple[transaction.TransactionManager, Any]:
        transactions = transaction.TransactionManager()
        return transactions, self.db.open(transaction_manager=transactions)

    @property
    def pointer(self) -> int | None:
        with self.db.transaction() as connection:
            return SyncManager.get(connection.root()).track.get_pointer_timestamp("a")

    def close(self) -> None:
        self.db.close()


class Side:
    """One who uses the manager, with a connection of its own."""

    def __init__(self, place: Place) -> None:
        self.transactions, self.connection = place.connection()
        self.token = 0
        self.position: int | None = None
        self.moves = False

    @property
    def manager(self) -> SyncManager:
        return SyncManager.get(self.connection.root())

    @property
    def lease(self) -> StoredLease:
        return self.manager.stored("a").lease

    def close(self) -> None:
        self.transactions.abort()
        self.connection.close()


@pytest.fixture
def place():
    made = Place()
    yield made
    made.close()


@pytest.fixture
def side(place):
    sides = []

    def make() -> Side:
        sides.append(Side(place))
        return sides[-1]

    yield make
    for made in sides:
        made.close()


def taken(side: Side, now: float | None = None) -> int:
    side.transactions.begin()
    side.token = take(side.lease, time.time() if now is None else now)
    side.transactions.commit()
    return side.token


def test_the_pointer_is_moved_by_who_holds_the_agent_and_by_anybody_while_nobody_does(place, side):
    one, other = side(), side()
    other.manager.advance("a", 1)
    other.transactions.commit()
    token = taken(one)
    other.transactions.begin()

    with pytest.raises(Leased):
        other.manager.advance("a", 2)
    with pytest.raises(LeaseLost):
        other.manager.advance("a", 2, token=token - 1)
    one.manager.advance("a", 3, token=token)
    one.transactions.commit()

    assert place.pointer == 3


def test_a_transaction_that_began_before_the_agent_was_taken_over_does_not_commit(place, side):
    one, other = side(), side()
    one.transactions.begin()
    one.token = take(one.lease, 0)  # it has run out long ago
    one.transactions.commit()
    one.transactions.begin()
    one.manager.advance("a", 5, token=one.token)

    taken(other)

    with pytest.raises(ConflictError):
        one.transactions.commit()
    one.transactions.abort()
    with pytest.raises(LeaseLost):
        one.manager.advance("a", 5, token=one.token)
    assert place.pointer is None


def test_a_move_without_a_lease_does_not_commit_once_somebody_has_taken_it(place, side):
    one, other = side(), side()
    other.transactions.begin()
    other.manager.advance("a", 5)

    taken(one)

    with pytest.raises(ConflictError):
        other.transactions.commit()
    assert place.pointer is None


def test_who_was_frozen_does_not_undo_a_rewind(place, side):
    one, other = side(), side()
    one.transactions.begin()
    one.manager.advance("a", 500)
    one.token = take(one.lease, 0)  # it has run out long ago, and nobody has taken it over
    one.manager.pause("a")
    one.transactions.commit()

    other.transactions.begin()
    other.manager.rewind("a", 100)
    other.transactions.commit()
    one.transactions.begin()

    with pytest.raises(LeaseLost):
        one.manager.advance("a", 600, token=one.token)
    assert place.pointer == 100


class Pointer(RuleBasedStateMachine):
    """Runners whose transactions overlap: what a former holder has begun, it never commits."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.sides = [Side(self.place) for _ in range(3)]
        self.looker = Side(self.place)
        self.owner: Side | None = None
        self.pointer: int | None = None
        self.tokens = [0]

    def teardown(self) -> None:
        for side in (*self.sides, self.looker):
            side.close()
        self.place.close()

    numbers = st.integers(0, 2)

    @rule(number=numbers, runs_out=st.booleans())
    def one_takes_it(self, number: int, runs_out: bool) -> None:
        side = self.sides[number]
        side.transactions.begin()
        side.position = None
        free = leases.holder(side.lease, time.time()) == ""
        assert free or self.owner is not None
        try:
            token = take(side.lease, time.time(), seconds=-1.0 if runs_out else 1000.0)
        except Leased:
            assert not free
            side.transactions.abort()
            return
        side.transactions.commit()
        assert token > self.tokens[-1]
        self.tokens.append(token)
        side.token, self.owner = token, side

    @rule(number=numbers)
    def it_runs_out(self, number: int) -> None:
        if self.owner is not None:
            self.looker.transactions.begin()
            self.looker.lease.until = 0.0
            self.looker.transactions.commit()

    @rule(number=numbers, position=st.integers(0, 1000), knows=st.booleans())
    def one_begins_to_move_the_pointer(self, number: int, position: int, knows: bool) -> None:
        side = self.sides[number]
        side.transactions.begin()
        side.position = None
        side.moves = side.manager.track.get_pointer_timestamp("a") != position
        try:
            side.manager.advance("a", position, token=side.token if knows else None)
        except (Leased, LeaseLost):
            side.transactions.abort()
        else:
            side.position = position
            assert side is self.owner or not knows

    @rule(number=numbers)
    def it_commits(self, number: int) -> None:
        side = self.sides[number]
        if side.position is None:
            return
        try:
            side.transactions.commit()
        except ConflictError:
            side.transactions.abort()
        else:
            if side.moves:  # what stood there already is not written: this counts as committed earlier
                self.pointer = side.position
            self.looker.transactions.begin()
            if self.looker.lease.holder is None:
                self.owner = None  # it was free, or had run out and was ended
            assert self.owner in (None, side)
        side.position = None

    @rule(number=numbers)
    def one_gives_it_back(self, number: int) -> None:
        side = self.sides[number]
        side.transactions.begin()
        side.position = None
        leases.release(side.lease, side.token)
        side.transactions.commit()
        if side is self.owner:
            self.owner = None

    @precondition(lambda self: self.pointer is not None)
    @invariant()
    def the_pointer_stands_where_a_holder_or_nobody_has_put_it(self) -> None:
        self.looker.transactions.begin()
        assert self.looker.manager.track.get_pointer_timestamp("a") == self.pointer


TestPointer = Pointer.TestCase
TestPointer.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
