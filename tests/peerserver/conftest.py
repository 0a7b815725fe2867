from contextlib import ExitStack

import pytest
from support.peer_world import World


@pytest.fixture
def world(tmp_path):
    with ExitStack() as stack:
        yield World(stack, tmp_path)
