"""A ZEO server that is killed and started again on the same file: its clients go on by themselves."""

import subprocess
import sys

import pytest
import ZEO
from persistent.mapping import PersistentMapping
from support.ports import free_port
from support.runners import Place
from support.waiting import LONG_S, eventually
from ZODB.DB import DB

from livesync.capture import Capture
from livesync.database import committed, connected, open_database
from livesync.delivery.access import ManagerAccess
from livesync.demo.host import demo_host
from livesync.manager import SyncManager
from livesync.schedule.thread import Runner
from livesync.zeoclient import forget_ids, forget_ids_at_reconnection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]

#: As many objects as a client is given ids for at once, and some more.
MANY = 120


class Server:
    """A ZEO server in a process of its own."""

    def __init__(self, directory):
        self.port = free_port()
        self._directory = directory
        self._process = None
        self.start()

    @property
    def uri(self):
        return f"zeo://127.0.0.1:{self.port}?wait_timeout={LONG_S:.0f}"

    def start(self):
        command = [sys.executable, "-m", "ZEO.runzeo", "-a", f"127.0.0.1:{self.port}", "-f", "Data.fs"]
        self._process = subprocess.Popen(
            command, cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self):
        self._process.kill()
        self._process.wait(LONG_S)

    def restart(self, *clients):
        """Kill it and start it again; ``clients`` are connected then."""
        generations = [db.storage._connection_generation for db in clients]
        self.kill()
        self.start()
        for db, before in zip(clients, generations):
            # one for the end of a connection, one for the next
            eventually(lambda db=db, before=before: db.storage._connection_generation >= before + 2)
            eventually(db.storage.is_connected)


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.kill()


def opened(server):
    return open_database(server.uri)


def alone(server):
    return DB(ZEO.client(("127.0.0.1", server.port), wait_timeout=LONG_S))


def captured(server):
    db = alone(server)
    Capture(demo_host()).install(db)
    return db


def mappings(count):
    return PersistentMapping({number: PersistentMapping() for number in range(count)})


def shows(db, key):
    with connected(db) as root:
        return key in root


def fails_after_a_restart(server, one, other):
    """Return the errors of one client, while another has used the ids that were given to the first."""
    committed(one, lambda root: root.update(one=PersistentMapping()))
    assert len(one.storage._oids) > MANY / 2
    server.restart(one, other)
    committed(other, lambda root: root.update(many=mappings(MANY)))
    eventually(lambda: shows(one, "many"))  # what the server tells of a commit is on its way
    with connected(one) as root:
        for each in root["many"].values():
            each._p_activate()
    errors = []
    for number in range(3):
        try:
            committed(one, lambda root, number=number: root["one"].update({number: PersistentMapping()}))
        except ValueError as exc:
            errors.append(str(exc))
    return errors


def test_zeo_alone_uses_ids_that_somebody_else_has(server):
    """Why all this is there. Where this fails, ZEO has been mended, and it may go."""
    one, other = alone(server), alone(server)

    errors = fails_after_a_restart(server, one, other)

    assert errors == ["A different object already has the same oid"] * 3
    one.close()
    other.close()


@pytest.mark.parametrize("open_it", [opened, captured])
def test_a_client_asks_for_new_ids_when_it_is_connected_anew(server, open_it):
    one, other = open_it(server), open_it(server)

    assert fails_after_a_restart(server, one, other) == []

    with connected(one) as root:
        assert sorted(root["one"]) == [0, 1, 2]
        assert sorted(root["many"]) == list(range(MANY))
    one.close()
    other.close()


def test_a_change_that_meets_such_an_id_is_made_with_another(server):
    one, other = opened(server), opened(server)
    committed(one, SyncManager.install)
    committed(one, lambda root: root.update(many=mappings(3)))
    with connected(one) as root:
        access = ManagerAccess(SyncManager.get(root))
        for each in root["many"].values():
            each._p_activate()
        taken = [each._p_oid for each in root["many"].values()]
    with access.snapshot() as manager:  # whose connection knows them too
        for each in manager._p_jar.root()["many"].values():
            each._p_activate()
        one.storage._oids[:] = taken  # an answer of the server that was, which came late

    def change(manager):
        manager._p_jar.root()["new"] = PersistentMapping(a=1)
        return True

    access.change(change, "a test")
    access.close()

    eventually(lambda: shows(other, "new"))
    with connected(other) as root:
        assert dict(root["new"]) == {"a": 1}
        assert [dict(each) for each in root["many"].values()] == [{}, {}, {}]
    one.close()
    other.close()


def test_a_runner_goes_on_when_the_server_was_killed_and_is_back(server):
    one, other = opened(server), opened(server)
    place, elsewhere = Place(one), None
    service = place.add_agent("good")
    runner = Runner(one, place.host)
    runner.start()
    place.put("before")
    eventually(lambda: "before" in service.documents)

    server.restart(one, other)
    elsewhere = Place.__new__(Place)
    elsewhere.db, elsewhere.host, elsewhere.capture = other, place.host, Capture(place.host)
    elsewhere.put(*(f"after-{number:03}" for number in range(MANY)))
    eventually(lambda: len(service.documents) == MANY + 1)
    place.put("last")
    eventually(lambda: "last" in service.documents)

    assert runner.stop(30)
    assert place.agent("good")["failures"] == 0
    one.close()
    other.close()


def test_other_storages_are_left_alone(tmp_path):
    db = open_database(f"file://{tmp_path}/Data.fs", create=True)
    kind = type(db.storage)

    forget_ids_at_reconnection(db)

    assert type(db.storage) is kind
    assert forget_ids(db) is False
    db.close()
