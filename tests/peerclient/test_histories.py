"""``livesync version push`` and ``pull`` with another node, as people use them; and a network that fails."""

import json
import os
import random
import time

import pytest
import transaction
from support import peer_world
from support.faulty_proxy import FaultyProxy
from support.peer_world import PROFILE

from livesync.cli.exitcodes import ExitCode
from livesync.database import committed, open_database
from livesync.errors import LiveSyncError
from livesync.peering.keyring import open_keyring
from livesync.peering.peers import Peer
from livesync.peering.records import StoredSessions
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.trust import TrustStore
from livesync.versions import VersionedCollection
from livesync.versions.remotes.network import NetworkEnd

HISTORY = ScopeDefinition(id="history", profile=PROFILE, read_write_filter_template="version:documents")
READ = ScopeDefinition(id="read", profile=PROFILE, read_filter_template="version:documents")


@pytest.fixture
def world(stack, tmp_path, monkeypatch):
    """One whose clock is that of the wall, as the command's is."""
    monkeypatch.setattr(peer_world, "NOW", time.time())
    return peer_world.World(stack, tmp_path)


def give(livesync, world, scope):
    """Give a database a certificate of the world's."""
    db = open_database(livesync.uri)
    try:
        key = open_keyring(livesync.uri).generate()
        chain = [*world.root_chain, world.sign(key, scope, {})]
        TrustStore(db).run(lambda trust: trust.save_chain(chain, world.clock(), trust_root=True))
    finally:
        db.close()


def write(livesync, **documents):
    def work(root):
        VersionedCollection(root, "documents").documents.update(documents)

    db = open_database(livesync.uri)
    try:
        committed(db, work)
    finally:
        db.close()


@pytest.fixture
def desk(livesync, world, served):
    """A database with two versions, a certificate, and a peer."""
    assert livesync("install").code == ExitCode.OK
    assert livesync("peer", "init").code == ExitCode.OK
    give(livesync, world, HISTORY)
    added = livesync("peer", "add", "office", served.url, "--profile", PROFILE, "--insecure-http")
    assert added.code == ExitCode.OK
    write(livesync, a={"n": 1}, b={"n": 1})
    assert livesync("version", "init", "-m", "begun").code == ExitCode.OK
    write(livesync, a={"n": 2})
    assert livesync("version", "register", "-m", "one").code == ExitCode.OK
    return livesync


class There:
    """The server's collection, within one transaction."""

    def __init__(self, world):
        self.db = world.db

    def __enter__(self):
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.manager)
        return VersionedCollection(self.connection, "documents")

    def __exit__(self, kind, *_):
        self.manager.abort() if kind else self.manager.commit()
        self.connection.close()


def ids(result):
    return [one["id"] for one in json.loads(result.out)["versions"]]


def test_branches_and_tags_go_to_a_peer_and_come_back(desk, world):
    assert desk("version", "tag", "start", "0").code == ExitCode.OK

    pushed = desk("version", "push", "office", "--tags")

    assert pushed.out == "To office\n * [new branch]     main\n * [new tag]        start\n"
    assert desk("version", "push", "office").out == "Everything up-to-date\n"
    with There(world) as docs:
        assert [one.id for one in docs.get_log()] == ids(desk("--json", "version", "log"))
        assert dict(docs.documents) == {"a": {"n": 2}, "b": {"n": 1}}
        docs.documents["b"] = {"n": 3}
        docs.register("theirs", author="eve")
        docs.create_branch("side")

    pulled = desk("version", "pull", "office", "--all")

    assert pulled.code == ExitCode.OK
    assert pulled.out.startswith("From office\n * [new branch]     side\n   ")
    assert pulled.out.endswith(" main\nBranch main is at version 2.\n")
    assert "theirs" in desk("version", "log").out
    assert "office: up to date" in desk("version", "status").out
    write(desk, a={"n": 9})
    desk("version", "register", "-m", "more")
    assert "office: ahead by 1, behind by 0" in desk("version", "status").out
    assert desk("version", "fsck").code == ExitCode.OK
    sessions = json.loads(desk("--json", "peer", "sessions").out)["sessions"]
    assert {one["direction"] for each in sessions for one in each["transfers"]} == {
        "history push",
        "history pull",
    }
    assert not any(each["active"] for each in sessions)


@pytest.mark.slow
def test_what_has_diverged_is_said_and_a_pull_leads_on(desk, world):
    desk("version", "push", "office")
    with There(world) as docs:
        docs.documents["a"] = {"n": 7}
        docs.register("theirs")
    behind = desk("version", "push", "office")
    write(desk, a={"n": 8})
    desk("version", "register", "-m", "ours")
    diverged = desk("version", "push", "office")

    assert (behind.code, diverged.code) == (ExitCode.USAGE, ExitCode.USAGE)
    assert "'main' is behind the remote's; pull first" in behind.err
    assert "have diverged; pull first" in diverged.err
    pulled = desk("version", "pull", "office")
    assert (pulled.code, "conflicts wait (1)" in pulled.out) == (ExitCode.DIFFERENT, True)
    assert "__rebranched_main_0" in desk("version", "branch").out
    assert desk("version", "conflicts", "--take", "theirs").code == ExitCode.OK
    assert desk("version", "push", "office").code == ExitCode.OK
    with There(world) as docs:
        assert docs.documents["a"] == {"n": 8}


@pytest.mark.slow
def test_an_address_is_as_good_as_a_name(desk, world, served):
    assert desk("peer", "remove", "office").code == ExitCode.OK
    assert desk("version", "push", served.url).code == ExitCode.USAGE
    pushed = desk("version", "push", served.url, "--insecure-http", "--no-checkout")
    assert pushed.out.startswith(f"To {served.url}\n")
    told = json.loads(desk("--json", "version", "pull", served.url, "--insecure-http").out)
    assert [one["what"] for one in told["refs"]] == ["up to date"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("push", "nobody"), ExitCode.NOT_FOUND, "there is no peer 'nobody'"),
        (("pull", "office"), ExitCode.USAGE, "has no versions of 'documents' yet"),
        (("pull", "office", "--collection", "others"), ExitCode.REFUSED, "partition version:others"),
        (("push", "office", "--branch", "nope"), ExitCode.USAGE, "no branch 'nope'"),
        (("push", "office", "--branch", "main", "--all"), ExitCode.USAGE, "not allowed with"),
        (("push", "https://127.0.0.1:9/x y"), ExitCode.USAGE, "no address of a peer"),
        (("push", "http://127.0.0.1:9"), ExitCode.USAGE, "not encrypted"),
        (("push", "file:///nowhere/Data.fs"), ExitCode.DATABASE, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(desk, argv, code, text):
    found = desk("version", *argv)
    assert (found.code, found.out) == (code, "")
    assert text in found.err
    assert len(found.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_peer_that_may_only_read_is_refused_before_anything_is_sent(livesync, world, served):
    livesync("install")
    livesync("peer", "init")
    give(livesync, world, READ)
    livesync("peer", "add", "office", served.url, "--profile", PROFILE, "--insecure-http")
    write(livesync, a={"n": 1})
    livesync("version", "init")

    refused = livesync("version", "push", "office")

    assert (refused.code, refused.out) == (ExitCode.REFUSED, "")
    assert "allow to push the history of 'documents' (partition version:documents)" in refused.err
    with There(world) as docs:
        assert not docs.is_tracked


#: Worlds of six pushes and pulls each.
WORLDS = int(os.environ.get("LIVESYNC_TEST_PEER_WORLDS", "6"))


class Talk:
    """A node's pushes and pulls through a network that does what networks can."""

    def __init__(self, node, dice):
        self.node, self.dice = node, dice

    def docs(self):
        self.manager = transaction.TransactionManager()
        self.connection = self.node.db.open(transaction_manager=self.manager)
        return VersionedCollection(self.connection, "docs", clock=self.node.world.clock)

    def settle(self, commit):
        self.manager.commit() if commit else self.manager.abort()
        self.connection.close()

    def once(self, url, direction):
        """Do it once; return what kept it from being done."""
        peer = Peer("office", url, PROFILE, insecure_http=True)
        options = {"retries": self.node.retries, "clock": self.node.world.clock}
        with NetworkEnd(
            self.node.db, "docs", peer, self.node.keys, direction, chunk_bytes=2_000, **options
        ) as end:
            docs = self.docs()
            try:
                if direction == "push":
                    docs.push(end)
                else:
                    docs.pull(end)
                    while docs.has_conflicts:
                        docs.resolve_conflicts(self.dice.choice(["ours", "theirs"]))
            except BaseException:
                self.settle(commit=False)
                raise
            self.settle(commit=True)
            end.forget()


def edit(node, dice, count):
    """Register some versions."""
    manager = transaction.TransactionManager()
    connection = node.db.open(transaction_manager=manager)
    docs = VersionedCollection(connection, "docs", clock=node.provider.node.clock)
    for _ in range(count):
        docs.documents[f"d{dice.randrange(9)}"] = {"by": node.name, "n": dice.random(), "text": "t" * 300}
        docs.register(f"by {node.name}")
    manager.commit()
    connection.close()


def standing(db):
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    docs = VersionedCollection(connection, "docs")
    found = [one.id for one in docs.get_log()], dict(docs.documents), docs.check()
    manager.abort()
    connection.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(WORLDS))
def test_after_any_faults_one_clean_pull_and_push_make_both_equal(seed, world, served, node, stack):
    dice = random.Random(f"histories {seed}")
    docs = ScopeDefinition(id="docs", profile=PROFILE, read_write_filter_template="version:docs")
    home = node("home", docs, {})
    world.options["chunk_bytes"] = 2_000
    world.restart()
    served.app = world.app
    manager = transaction.TransactionManager()
    connection = home.db.open(transaction_manager=manager)
    VersionedCollection(connection, "docs", clock=world.clock).init()
    manager.commit()
    connection.close()
    proxy = FaultyProxy(served.port, seed, share=0.25)
    stack.callback(proxy.close)
    talk, failures = Talk(home, dice), []

    talk.once(served.url, "push")
    for turn in range(6):
        edit(home if turn % 2 else world, dice, 1 + dice.randrange(4))
        for direction in ("pull", "push"):
            try:
                talk.once(proxy.url, direction)
            except LiveSyncError as exc:
                failures.append(exc)
            assert standing(home.db)[2] == standing(world.db)[2] == []
    for direction in ("pull", "push"):
        talk.once(served.url, direction)

    assert standing(home.db) == standing(world.db)
    assert standing(home.db)[2] == []
    assert all("\n" not in str(exc) and len(str(exc)) > 20 for exc in failures)
    assert sum(proxy.happened.values()) > 10


@pytest.mark.slow
def test_a_push_that_was_cut_is_gone_on_with_by_the_next_and_not_by_peer_resume(desk, world, served, stack):
    rng = random.Random(3)
    write(desk, **{f"d{n}": {"text": rng.randbytes(300_000).hex()} for n in range(6)})
    assert desk("version", "register", "-m", "large").code == ExitCode.OK
    proxy = FaultyProxy(served.port, 1, share=0)
    stack.callback(proxy.close)
    for name in ("remove", "add"):
        more = (proxy.url, "--profile", PROFILE, "--insecure-http") if name == "add" else ()
        assert desk("peer", name, "office", *more).code == ExitCode.OK
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livesync.peering.retrying.Retries.wait", lambda *_: None)
        proxy.lose_after = 12
        cut = desk("version", "push", "office")
    proxy.lose_after = None
    assert (cut.code, len(cut.err.strip().splitlines()) > 0) == (ExitCode.SERVICE, True)
    with There(world) as docs:
        assert not docs.is_tracked
        waiting = len(StoredSessions.get(docs._root).buffers)
    assert waiting > 0
    (session,) = json.loads(desk("--json", "peer", "sessions").out)["sessions"]
    assert session["transfers"][0]["active"]

    resumed = desk("peer", "resume", session["id"], "--force")
    before = proxy.requests
    pushed = desk("version", "push", "office")

    assert resumed.code == ExitCode.NOT_FOUND
    assert "is one of a history: what was cut goes on with the next" in resumed.err
    assert pushed.code == ExitCode.OK
    assert proxy.requests - before < 25 - waiting
    with There(world) as docs:
        assert (len(docs.get_log()), docs.check()) == (3, [])
