"""A server on a port of its own, and nodes that talk to it."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from support.peer_serving import NetworkNode, Served
from support.peer_world import PART, World

from livesync.cli.exitcodes import ExitCode
from livesync.cli.main import main
from livesync.database import open_database
from livesync.peering.keyring import open_keyring
from livesync.peering.trust import TrustStore
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider


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


@pytest.fixture
def livesync(tmp_path, capsys, monkeypatch):
    """Call the command on a database of its own; return what came of it."""
    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path / 'home.fs'}"

    def call(*argv):
        code = main(["--db", uri, *argv])
        said = capsys.readouterr()
        return SimpleNamespace(code=ExitCode(code), out=said.out, err=said.err)

    call.uri = uri
    return call


@pytest.fixture
def home(livesync, world):
    """A database that has a certificate of the world's."""
    assert livesync("install").code == ExitCode.OK
    assert livesync("peer", "init").code == ExitCode.OK
    db = open_database(livesync.uri)
    try:
        key = open_keyring(livesync.uri).generate()
        chain = [*world.root_chain, world.sign(key, PART, {"part": "F1"})]
        TrustStore(db).run(lambda trust: trust.save_chain(chain, world.clock(), trust_root=True))
        provider = ZODBSyncProvider(None, ZODBDataStore(db))
        for number in range(3):
            provider.commit_item_change(Operation.UPDATE, "note", f"h{number}", f'"{number}"', "F1")
    finally:
        db.close()
    return livesync
