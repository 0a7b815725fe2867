"""Sessions with a real server: what one side has, and the other may have, the other has."""

import threading


def test_what_a_client_has_reaches_the_server_and_the_other_way_round(world, served, node):
    home = node("home")
    home.fill(12)
    world.fill(7)
    world.fill(3, "F2")

    outcome = home.sync(home.peer(served.url))

    assert (outcome.pulled, outcome.pushed, outcome.error) == (7, 12, "")
    assert home.contents() == {key: text for key, text in world.contents().items() if " F2 " not in key}
    assert len(world.contents()) == 22


def test_what_comes_in_any_thread_of_the_server_is_applied_in_one(world, served, node, monkeypatch):
    home = node("home")
    home.fill(12)
    world.provider.applied_at_once = 3
    threads = set()
    apply = world.provider.apply_checked

    def watched(*args, **options):
        threads.add(threading.current_thread().name)
        return apply(*args, **options)

    monkeypatch.setattr(world.provider, "apply_checked", watched)
    for number in range(3):
        home.put(f"more {number}", '"more"')
        home.sync(home.peer(served.url, f"again-{number}"), chunk_size=2)

    assert world.contents() == home.contents()
    (thread,) = threads
    assert thread.startswith("livesync-peer-applying")
