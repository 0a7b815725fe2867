"""A server on a port of its own, and nodes that talk to it."""

from contextlib import ExitStack

import pytest
from support.peer_serving import NetworkNode, Served
from support.peer_world import World


@pytest.fixture
def stack():
    with ExitStack() as found:
        yield found


@pytest.fixture
def world(stack, tmp_path):
    return World(stack, tmp_path)


@pytest.fixture
def served(world, stack):
    found = Served(world.app)
    stack.callback(found.close)
    return found


@pytest.fixture
def node(world):
    def make(name, *scope, **options):
        return NetworkNode(world, name, *scope, **options)

    return make
