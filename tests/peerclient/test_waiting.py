"""An application's own operations for stages: they are asked first, at both ends, and may let one wait."""

import pytest
from support.school import School

from livesync.errors import HostError, PeerSaysNo, StageWaits
from livesync.peering.retrying import Retries
from livesync.peering.stages import Status
from livesync.replication.network.operations import operations_with

pytestmark = pytest.mark.slow

STAGES = ["initializing", "serializing", "queuing", "transferring", "dequeuing", "deserializing", "cleanup"]


class Careful(School):
    """Notes what it is asked, and lets the stage ``waits`` wait."""

    def __init__(self, waits=""):
        super().__init__()
        self.asked, self.waits = [], waits

    def sync_operations(self):
        return {name: [lambda transfer, name=name: self.ask(name, transfer)] for name in STAGES}

    def ask(self, name, transfer):
        self.asked.append((transfer.view().direction, name))
        return Status.PENDING if name == self.waits else False


@pytest.fixture
def there(world, served):
    """The server's application."""
    made = Careful()
    world.options["host"] = made
    world.restart()
    served.app = world.app
    return made


@pytest.mark.parametrize("count", [3, 800], ids=["as a whole", "in buffers"])
@pytest.mark.parametrize("direction", ["pull", "push"])
def test_an_application_is_asked_first_in_every_stage_at_both_ends(
    direction, count, world, served, node, there
):
    home, here = node("home"), Careful()
    (home if direction == "push" else world).fill(count)

    home.sync(home.peer(served.url), direction, host=here)

    assert len(home.contents()) == len(world.contents()) == count
    for application in here, there:
        assert application.asked == [(direction, name) for name in STAGES]


@pytest.mark.parametrize("count", [3, 800], ids=["as a whole", "in buffers"])
@pytest.mark.parametrize("stage", ["dequeuing", "deserializing", "cleanup"])
@pytest.mark.parametrize("direction", ["pull", "push"])
def test_a_stage_that_waits_at_the_client_goes_on_with_the_next_sync(
    direction, stage, count, world, served, node
):
    home, here = node("home"), Careful(stage)
    (home if direction == "push" else world).fill(count)
    server = home.peer(served.url)

    with pytest.raises(StageWaits, match=f"the application lets the stage {stage} wait: sync again later"):
        home.sync(server, direction, host=here)
    here.waits = ""
    home.sync(server, direction, host=here)

    assert len(home.contents()) == len(world.contents()) == count
    again = home.sync(server, host=here)
    assert (again.pulled, again.pushed) == (0, 0)


@pytest.mark.parametrize("count", [3, 800], ids=["as a whole", "in buffers"])
@pytest.mark.parametrize("stage", ["dequeuing", "deserializing", "cleanup"])
@pytest.mark.parametrize("direction", ["pull", "push"])
def test_a_stage_that_waits_at_the_server_is_asked_for_again_and_goes_on_with_the_next_sync(
    direction, stage, count, world, served, node, there
):
    home = node("home")
    (home if direction == "push" else world).fill(count)
    server = home.peer(served.url)
    there.waits = stage

    with pytest.raises((StageWaits, PeerSaysNo), match=r"lets (the|a) stage .*wait"):
        home.sync(server, direction)
    waited = list(home.waits)
    there.waits = ""
    home.sync(server, direction)

    assert len(waited) == home.retries.most
    assert len(home.contents()) == len(world.contents()) == count
    again = home.sync(server)
    assert (again.pulled, again.pushed) == (0, 0)


def test_a_server_that_soon_goes_on_is_waited_for(world, served, node, there):
    home = node("home")
    home.fill(3)
    there.waits = "dequeuing"
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            there.waits = ""

    outcome = home.sync(home.peer(served.url), retries=Retries(sleep=sleep))

    assert len(waits) == 3
    assert outcome.pushed == 3
    assert world.contents() == home.contents()


def test_a_stage_that_there_is_not_is_named():
    class Wrong(School):
        def sync_operations(self):
            return {"thinking": []}

    with pytest.raises(HostError, match="there is no stage 'thinking'; there are: initializing, "):
        operations_with(Wrong())
