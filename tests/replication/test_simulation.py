"""Convergence, whatever happens: random histories of up to five providers.

They edit, move, delete, delete for good and revive items, sync any pair over any filter, are cut at random
chunks, get chunks twice and in any order, raise as they apply, have clocks that are hours wrong, and are
restored from old copies.

A failure names its seed: ``World(seed, kind, …)`` runs the same history again. LIVESYNC_TEST_HISTORIES sets
how many histories of each kind the long run takes.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.sync_world import World, make_layers_small

HISTORIES = int(os.environ.get("LIVESYNC_TEST_HISTORIES", "12"))

KINDS = {
    # claims alone have to do, where no database was restored
    "plain": {"digests": False},
    "failing": {"failures": 0.2, "digests": False},
    "restored": {"restores": True},
    "both": {"failures": 0.1, "restores": True},
    "forked": {"failures": 0.1, "restores": True, "dense": True},
}


def live_through(seed, kind, steps, **options):
    world = World(seed, kind, **options)
    world.run(steps)
    world.exchange()
    world.check()
    return world


class Histories(RuleBasedStateMachine):
    """The same world, with the choice of what happens next left to hypothesis, which shrinks what fails."""

    @initialize(seed=st.integers(0, 2**32), failures=st.sampled_from((0.0, 0.2)), dense=st.booleans())
    def begin(self, seed, failures, dense):
        self.world = World(seed, failures=failures, dense=dense)

    def _node(self, number):
        return self.world.nodes[number % len(self.world.nodes)]

    @rule(number=st.integers(0, 4), ticks=st.sampled_from((0, 0, 1, 3600)))
    def edit(self, number, ticks):
        self.world.ticks += ticks
        self.world.edit(self._node(number))

    @rule(number=st.integers(0, 4))
    def move(self, number):
        self.world.move(self._node(number))

    @rule(number=st.integers(0, 4), hard=st.booleans())
    def delete(self, number, hard):
        self.world.delete(self._node(number), hard)

    @rule(number=st.integers(0, 4))
    def revive(self, number):
        self.world.revive(self._node(number))

    @rule(one=st.integers(0, 4), other=st.integers(0, 4), narrow=st.booleans(), is_cut=st.booleans())
    def sync(self, one, other, narrow, is_cut):
        if self._node(one) is not self._node(other):
            self.world.sync(self._node(one), self._node(other), narrow, is_cut)

    @rule(number=st.integers(0, 4), offset=st.integers(-36_000, 36_000))
    def clock_is_set_wrong(self, number, offset):
        self._node(number).offset = offset

    @rule(number=st.integers(0, 4))
    def backup(self, number):
        self._node(number).save_image()

    @precondition(lambda self: any(node.images for node in self.world.nodes))
    @rule(number=st.integers(0, 4))
    def restore(self, number):
        if self._node(number).images:
            self.world.restore(self._node(number))

    def teardown(self):
        if hasattr(self, "world"):
            self.world.exchange()
            self.world.check()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=5 * HISTORIES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_nodes_converge_after_any_history(seed, options):
    world = live_through(seed, "memory", 80, **options)

    assert len(world.writes) > 10


@pytest.mark.parametrize("options", [KINDS["failing"], KINDS["restored"]], ids=["failing", "restored"])
def test_nodes_in_databases_converge_too(options):
    live_through(1, "zodb", 50, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "zodb"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_nodes_converge_after_many_long_histories(kind, options):
    count = HISTORIES if kind == "memory" else max(1, HISTORIES // 6)
    for seed in range(1_000, 1_000 + count):
        live_through(seed, kind, 200, **options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [KINDS["both"], KINDS["forked"]], ids=["both", "forked"])
def test_nodes_whose_items_go_down_into_large_trees_at_once_converge_too(monkeypatch, options):
    make_layers_small(monkeypatch)
    for seed in range(max(1, HISTORIES // 6)):
        live_through(7_000 + seed, "zodb", 100, **options)


@pytest.mark.parametrize("options", [KINDS["both"]], ids=["both"])
def test_a_seed_lives_through_the_same_history_again(options):
    one, other = (live_through(2_000, "memory", 80, **options) for _ in range(2))

    assert one.writes == other.writes
    for mine, theirs in zip(one.nodes, other.nodes):
        assert mine.states() == theirs.states()
        assert mine.provider.provider_id == theirs.provider.provider_id
        assert [log.id for log in mine.provider.conflict_logs()] == [
            log.id for log in theirs.provider.conflict_logs()
        ]
