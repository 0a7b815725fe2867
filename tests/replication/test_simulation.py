"""Convergence, whatever happens: random histories of up to five providers.

A failure names its seed: ``World(seed, kind, …)`` runs the same history again. LIVESYNC_TEST_HISTORIES sets
how many histories of each kind the long run takes.
"""

import os

import pytest
from support.sync_world import World

HISTORIES = int(os.environ.get("LIVESYNC_TEST_HISTORIES", "12"))

KINDS = {
    "plain": {},
    "failing": {"failures": 0.2},
    "restored": {"restores": True},
    "both": {"failures": 0.1, "restores": True},
}


def live_through(seed, kind, steps, **options):
    world = World(seed, kind, **options)
    world.run(steps)
    world.exchange()
    world.check()
    return world


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
