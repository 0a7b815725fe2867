"""Sessions with a real server: what one side has, and the other may have, the other has."""


def test_what_a_client_has_reaches_the_server_and_the_other_way_round(world, served, node):
    home = node("home")
    home.fill(12)
    world.fill(7)
    world.fill(3, "F2")

    outcome = home.sync(home.peer(served.url))

    assert (outcome.pulled, outcome.pushed, outcome.error) == (7, 12, "")
    assert home.contents() == {key: text for key, text in world.contents().items() if " F2 " not in key}
    assert len(world.contents()) == 22
