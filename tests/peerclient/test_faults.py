"""A network that does whatever a network can: sessions fail or not, and afterwards all is as it should be.

LIVESYNC_TEST_PEER_WORLDS says how many worlds there are, each of sixteen sessions (6; with --soak 300).
"""

import logging
import os
import random

import pytest
from support.faulty_proxy import FaultyProxy

from livesync.errors import LiveSyncError
from livesync.replication import Operation


def edit(nodes, dice, written):
    for each in nodes:
        for _ in range(dice.randrange(6)):
            number = dice.randrange(40)
            item_id, partition = f"item {number}", ("F1", "F1:U1")[number % 2]
            if item_id in each.contents() and dice.random() < 0.2:
                each.provider.commit_item_change(Operation.DELETE, "note", item_id, None, partition)
                continue
            text = f'"{each.name} {dice.random()}"'
            written.setdefault(item_id, set()).add(text)
            each.put(item_id, text, partition)


#: Worlds of sixteen sessions each.
WORLDS = int(os.environ.get("LIVESYNC_TEST_PEER_WORLDS", "6"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(WORLDS))
def test_after_any_faults_one_clean_session_makes_both_equal(seed, world, served, node, stack, caplog):
    dice = random.Random(f"edits {seed}")
    home = node("home")
    proxy = FaultyProxy(served.port, seed, share=0.25)
    stack.callback(proxy.close)
    through, clean = home.peer(proxy.url, "through"), home.peer(served.url, "clean")
    at_once = dice.choice((1, 5, 3000))
    home.provider.applied_at_once = world.provider.applied_at_once = at_once
    failures, written = [], {}

    for _ in range(16):
        edit((home, world), dice, written)
        try:
            home.sync(through, chunk_size=dice.choice((1, 2, 5, 500)))
        except LiveSyncError as exc:
            failures.append(exc)
    outcome = home.sync(clean)

    assert outcome.error == ""
    assert home.contents() == world.contents()
    assert home.contents().keys() <= written.keys()
    assert all(text in written[key] for key, text in home.contents().items())
    assert all("\n" not in str(exc) and len(str(exc)) > 20 for exc in failures)
    assert sum(proxy.happened.values()) > 10
    # the server foresaw all of it
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
