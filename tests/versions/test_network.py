"""Push and pull beyond a network: a real server on a socket, sessions, certificates, and what is cut."""

import random
import tracemalloc

import pytest
import transaction
import ZODB
from support.peer_serving import NetworkNode, Served
from support.peer_world import PART, PROFILE, SUBPART, World
from ZODB.FileStorage import FileStorage

from livesync.errors import (
    CertificateRevoked,
    InvalidCollectionState,
    InvalidOperation,
    PeerSaysNo,
    PeerUnreachable,
    ScopeExceeded,
    UnknownPeer,
    UsageError,
    VersionPruned,
)
from livesync.peering.peers import Peer
from livesync.peering.records import StoredSessions
from livesync.peering.revocation import revoke
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.trust import TrustStore
from livesync.versions import VersionedCollection
from livesync.versions.remotes.network import NetworkEnd
from livesync.versions.upkeep.retention import Policy

from .editing import edit

#: Rights over one collection's history, or all: to read, to write, both.
HISTORY = ScopeDefinition(id="history", profile=PROFILE, read_write_filter_template="version:$name")
READ = ScopeDefinition(id="read", profile=PROFILE, read_filter_template="version:$name")
WRITE = ScopeDefinition(id="write", profile=PROFILE, write_filter_template="version:$name")


class Place:
    """A node's database with a collection, each use in a transaction that is committed."""

    def __init__(self, node, clock):
        self.node, self.clock = node, clock
        self.connection = None

    def __enter__(self):
        self.manager = transaction.TransactionManager(explicit=True)
        self.connection = self.node.db.open(transaction_manager=self.manager)
        self.manager.begin()
        return VersionedCollection(self.connection, "docs", clock=self.clock)

    def __exit__(self, kind, *_):
        if kind is None:
            self.manager.commit()
        else:
            self.manager.abort()
        self.connection.close()


class Pair:
    """A node with versions, and the server."""

    def __init__(self, world, served, clock, scope=HISTORY, params=None):
        self.world, self.served, self.clock = world, served, clock
        self.node = NetworkNode(world, "home", scope, {"name": "docs"} if params is None else params)
        self.peer = Peer("office", served.url, PROFILE, insecure_http=True)

    def here(self):
        return Place(self.node, self.clock)

    def there(self):
        return Place(self.world, self.clock)

    def end(self, direction, url=None, **options):
        peer = self.peer if url is None else Peer("office", url, PROFILE, insecure_http=True)
        options = {"retries": self.node.retries, "clock": self.world.clock, **options}
        return NetworkEnd(self.node.db, "docs", peer, self.node.keys, direction, **options)

    def push(self, *arguments, url=None, chunk_bytes=1_000_000, **options):
        with self.end("push", url, chunk_bytes=chunk_bytes) as end, self.here() as docs:
            return docs.push_refs(end, *arguments, **options), end.resumed

    def pull(self, *arguments, url=None, **options):
        with self.end("pull", url) as end:
            with self.here() as docs:
                moved = docs.pull_refs(end, *arguments, **options)
            end.forget()
            return moved, end.resumed

    def waiting(self, node):
        """Return how many chunks wait in a database."""
        manager = transaction.TransactionManager()
        connection = node.db.open(transaction_manager=manager)
        try:
            return len(StoredSessions.get(connection.root()).buffers)
        finally:
            manager.abort()
            connection.close()


@pytest.fixture
def world(tmp_path, stack):
    return World(stack, tmp_path)


@pytest.fixture
def stack():
    from contextlib import ExitStack

    with ExitStack() as found:
        yield found


@pytest.fixture
def served(world, stack):
    found = Served(lambda *arguments: world.app(*arguments))
    stack.callback(found.close)
    return found


@pytest.fixture
def pair(world, served, clock):
    made = Pair(world, served, clock)
    with made.here() as docs:
        docs.documents.update({"a": {"n": 1}, "b": {"n": 1}})
        docs.init()
    return made


def state(place):
    """Return what a collection is: its log, documents, branches, tags and faults."""
    with place as docs:
        return (
            [(one.version, one.branch, one.id, one.message) for one in docs.get_log()],
            dict(docs.documents),
            docs.branches(),
            docs.tags(),
            docs.check(),
        )


def test_a_push_to_nothing_and_a_pull_bring_everything_both_ways(pair):
    with pair.here() as docs:
        for n in range(2, 6):
            edit(docs, f"v{n}", a={"n": n}, b={"deep": {"n": n}})
        docs.tag("start", 0)

    moved, _ = pair.push(tags=True)

    assert [(one.name, one.what) for one in moved] == [("main", "new branch"), ("start", "new tag")]
    assert state(pair.there()) == state(pair.here())
    with pair.there() as docs:
        edit(docs, "theirs", a={"n": 9}, b=None)
        docs.create_branch("side")
        edit(docs, "side", c={"n": 1})
        docs.tag("later")
        docs.checkout(branch="main")
    moved, _ = pair.pull(tags=True, everything=True)
    assert {(one.name, one.what) for one in moved} == {
        ("main", "fast-forward"),
        ("side", "new branch"),
        ("later", "new tag"),
        ("start", "same tag"),
    }
    assert state(pair.there()) == state(pair.here())
    assert state(pair.here())[-1] == []
    with pair.here() as docs:
        assert docs.stored.references.remotes["office"].keys() == {"main", "side"}
    assert pair.waiting(pair.node) == pair.waiting(pair.world) == 0


def test_a_push_twice_is_a_push_once(pair):
    pair.push()
    with pair.here() as docs:
        edit(docs, "one", a={"n": 2})
    assert [one.what for one in pair.push()[0]] == ["fast-forward"]
    before = state(pair.there())
    assert [one.what for one in pair.push()[0]] == ["up to date"]
    assert state(pair.there()) == before
    assert [one.what for one in pair.pull()[0]] == ["up to date"]


def test_what_has_diverged_is_rejected_merged_by_a_pull_and_pushed(pair):
    pair.push()
    with pair.there() as docs:
        edit(docs, "theirs", a={"n": 2})
    with pytest.raises(InvalidOperation, match="'main' is behind the remote's; pull first"):
        pair.push()
    with pair.here() as docs:
        edit(docs, "ours", b={"n": 2})
    with pytest.raises(InvalidOperation, match="have diverged; pull first"):
        pair.push()

    assert [one.what for one in pair.pull()[0]] == ["merged"]

    assert [one.what for one in pair.push()[0]] == ["fast-forward"]
    assert state(pair.there())[1] == state(pair.here())[1] == {"a": {"n": 2}, "b": {"n": 2}}
    assert state(pair.there())[-1] == state(pair.here())[-1] == []
    with pair.here() as docs:
        assert docs.branches() == {"main", "__rebranched_main_0"}


def test_a_push_that_somebody_was_quicker_than_is_rejected_by_the_server(pair):
    pair.push()
    with pair.here() as docs:
        edit(docs, "ours", a={"n": 2})
    with pair.end("push") as end:
        with pair.here() as docs:
            _, outgoing, _ = docs.prepare_push(end)
        with pair.there() as docs:
            edit(docs, "theirs", b={"n": 2})
        before = state(pair.there())
        with pytest.raises(InvalidOperation, match="push rejected"):
            end.send(outgoing, True)
    assert state(pair.there()) == before


def test_a_push_into_documents_that_have_changed_is_refused_and_nothing_is_changed(pair):
    pair.push()
    with pair.here() as docs:
        edit(docs, "ours", a={"n": 2})
    with pair.there() as docs:
        edit(docs, b={"n": 9})
    with pytest.raises(InvalidOperation, match="register, stash or discard"):
        pair.push()
    with pair.there() as docs:
        assert (len(docs.get_log()), docs.documents["b"]) == (1, {"n": 9})
        docs.discard_changes()
    assert [one.what for one in pair.push()[0]] == ["fast-forward"]


def test_what_is_not_committed_is_not_pushed(pair):
    with pair.end("push") as end, pair.here() as docs:
        edit(docs, "one", a={"n": 2})
        with pytest.raises(InvalidOperation, match="committed first"):
            docs.push(end)


@pytest.mark.slow
def test_versions_of_any_size_travel_in_chunks_and_come_whole(pair):
    with pair.here() as docs:
        edit(docs, "many", **{f"d{n:04}": {"n": n, "text": f"text {n} " * 20} for n in range(500)})
        edit(docs, "large", big={"text": "0123456789" * 20_000})
        edit(docs, "changed", **{f"d{n:04}": {"n": -n, "text": f"text {n} " * 20} for n in range(0, 500, 2)})
    pair.push(chunk_bytes=5_000)
    assert state(pair.there()) == state(pair.here())
    with pair.there() as docs:
        assert docs.check() == []


def test_a_document_that_is_too_large_is_named(pair, monkeypatch):
    monkeypatch.setattr("livesync.versions.remotes.chunks.MAX_DOCUMENT_BYTES", 1_000)
    with pair.here() as docs:
        edit(docs, "large", big={"text": "0123456789" * 200})
    with pytest.raises(InvalidOperation, match="document 'big' is too large"):
        pair.push()


def test_what_was_erased_here_does_not_come_back_over_the_network(pair):
    pair.push()
    with pair.there() as docs:
        edit(docs, "theirs", a={"secret": "Byron"})
    with pair.here() as docs:
        docs.erase("a")
    pair.pull()
    log, documents, *_, faults = state(pair.here())
    assert (log, faults) == (state(pair.there())[0], [])
    assert documents == {"b": {"n": 1}}


# -- rights --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "params", "may"),
    [
        (HISTORY, {"name": "docs"}, {"push", "pull"}),
        (READ, {"name": "docs"}, {"pull"}),
        (WRITE, {"name": "docs"}, {"push"}),
        (HISTORY, {"name": "others"}, set()),
        (PART, {"part": "version"}, {"push", "pull"}),
        (PART, {"part": "F1"}, set()),
        (SUBPART, {"part": "version", "sub": "doc"}, set()),
    ],
)
def test_a_certificate_allows_what_its_filters_contain(world, served, clock, scope, params, may):
    made = Pair(world, served, clock, scope, params)
    with made.there() as docs:
        docs.documents["a"] = {"n": 1}
        docs.init()
    with made.here() as docs, made.there() as theirs:
        theirs.push(docs)
    with made.here() as docs:
        edit(docs, "ours", a={"n": 2})
    for direction in ("push", "pull"):
        if direction in may:
            assert getattr(made, direction)()[0]
        else:
            with pytest.raises(ScopeExceeded, match="partition version:docs"):
                getattr(made, direction)()
    assert len(state(made.there())[0]) == (2 if "push" in may else 1)


def test_a_certificate_that_is_revoked_in_the_middle_ends_a_push(pair):
    pair.push()
    with pair.here() as docs:
        edit(docs, "ours", a={"n": 2})
    before = state(pair.there())
    world = pair.world

    def stop(size, done, total):
        mark = revoke(tuple(pair.node.chain), world.root, world.root_key, world.clock())
        world.trust.run(lambda trust: trust.keep_revocation(mark))

    with (
        pair.end("push", progress=stop) as end,
        pytest.raises((PeerSaysNo, CertificateRevoked), match="revoked"),
        pair.here() as docs,
    ):
        docs.push(end)
    assert state(pair.there()) == before


# -- what is cut ---------------------------------------------------------------------------------------


class Lost(Exception):
    """A cut, as the test makes it."""


def fill(pair, versions=12):
    with pair.here() as docs:
        for n in range(versions):
            edit(docs, f"v{n}", **{f"d{m}": {"n": n, "m": m, "text": "x" * 200} for m in range(10)})


def test_a_push_that_was_cut_goes_on_after_the_last_chunk_that_was_confirmed(pair):
    fill(pair)
    sent = []

    def cut_after_five(size, done, total):
        sent.append(done)
        if len(sent) == 5:
            raise Lost

    with (
        pair.end("push", progress=cut_after_five, chunk_bytes=1_000) as end,
        pytest.raises(Lost),
        pair.here() as docs,
    ):
        docs.push(end)
    assert pair.waiting(pair.world) == 5
    with pair.there() as docs:
        assert not docs.is_tracked

    more = []
    with pair.end("push", progress=lambda *found: more.append(found[1]), chunk_bytes=1_000) as end:
        with pair.here() as docs:
            docs.push(end)
        assert end.resumed
    assert more[0] >= sent[-1]
    assert state(pair.there()) == state(pair.here())
    assert pair.waiting(pair.world) == 0


def small_chunks(world):
    world.options["chunk_bytes"] = 1_000
    world.restart()


def test_a_pull_that_was_cut_goes_on_after_the_last_chunk_that_was_kept(pair):
    fill(pair)
    pair.push()
    small_chunks(pair.world)
    other = Pair(pair.world, pair.served, pair.clock)
    seen = []

    def cut_after_five(size, done, total):
        seen.append((done, total))
        if len(seen) == 5:
            raise Lost

    with (
        other.end("pull", progress=cut_after_five) as end,
        pytest.raises(Lost),
        other.here() as docs,
    ):
        docs.pull(end)
    assert other.waiting(other.node) == 5
    pair.world.restart()

    moved, resumed = other.pull()

    assert resumed
    assert [one.what for one in moved] == ["new branch"]
    assert state(other.here()) == state(pair.here())
    assert other.waiting(other.node) == 0


@pytest.mark.slow
def test_a_pull_from_a_history_that_was_cut_down_meanwhile_begins_anew(pair):
    fill(pair)
    pair.push()
    small_chunks(pair.world)
    other = Pair(pair.world, pair.served, pair.clock)

    begun = []

    def cut_down(size, done, total):
        if not begun:
            begun.append(done)
            with pair.there() as docs:
                docs.delete_version_subtree(8, "main")

    with other.end("pull", progress=cut_down) as end, other.here() as docs:
        assert docs.pull(end)
    assert len(state(other.here())[0]) == 8
    assert state(other.here())[0] == state(pair.there())[0]
    assert state(other.here())[-1] == []


def test_staging_that_nobody_goes_on_with_is_cleaned_up(pair):
    from livesync.replication.network.expiring import cleanup

    fill(pair)

    def cut(size, done, total):
        raise Lost

    with pair.end("push", progress=cut, chunk_bytes=1_000) as end, pytest.raises(Lost), pair.here() as docs:
        docs.push(end)
    assert pair.waiting(pair.world) == 1
    pair.world.clock.now += 7 * 3600

    done = cleanup(pair.world.provider)

    assert done.transfers == 1
    assert pair.waiting(pair.world) == 0
    assert [one.what for one in pair.push()[0]] == ["new branch"]
    assert state(pair.there()) == state(pair.here())


def test_a_peer_that_does_not_answer_is_said_in_one_line(pair):
    with pytest.raises(PeerUnreachable, match="did not answer"):
        pair.push(url="http://127.0.0.1:9")


@pytest.mark.slow
def test_histories_that_began_otherwise_are_refused(pair):
    with pair.there() as docs:
        docs.documents["z"] = {}
        docs.init()
    for deed in (pair.push, pair.pull):
        with pytest.raises(InvalidCollectionState, match="diverging roots"):
            deed()


def test_an_address_or_a_name_says_where_to_and_the_keys_with_what(pair):
    pair.node.registry.add(pair.peer)
    keys = pair.node.keys
    with pair.here() as docs:
        docs._clock = pair.world.clock
        assert docs.push("office", keys=keys)
    assert state(pair.there()) == state(pair.here())
    with pair.there() as docs:
        edit(docs, "theirs", a={"n": 2})
    with pair.here() as docs:
        docs._clock = pair.world.clock
        assert docs.pull(pair.served.url, keys=keys)
        assert pair.waiting(pair.node) == 1
    assert pair.waiting(pair.node) == 0
    assert state(pair.there()) == state(pair.here())
    with pair.here() as docs:
        with pytest.raises(UsageError, match="give the key ring"):
            docs.push("office")
        with pytest.raises(UnknownPeer, match="no peer 'nowhere'"):
            docs.push("nowhere", keys=keys)
        with pytest.raises(UsageError, match="not encrypted"):
            docs.push("http://elsewhere.example", keys=keys)


@pytest.mark.slow
def test_a_large_history_is_pulled_in_little_memory(pair, tmp_path):
    """Four times as many versions take as much, and less than they are."""
    other = Pair(pair.world, pair.served, pair.clock)
    other.node.db = ZODB.DB(FileStorage(str(tmp_path / "other.fs")))
    other.node.trust = TrustStore(other.node.db, create=True)
    other.node.trust.run(
        lambda trust: trust.save_chain(other.node.chain, pair.world.clock(), trust_root=True)
    )
    dice, peaks, versions = random.Random(7), [], 0
    for count in (100, 300):
        with pair.here() as docs:
            for n in range(versions, versions + count):
                edit(docs, "v", **{f"d{n % 10}": {f"k{n}": dice.randbytes(50_000)}})
        versions += count
        pair.push()
        tracemalloc.start()
        other.pull("main")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        if count == 100:
            with other.here() as docs:
                docs.create_branch("mine")  # what a checkout takes is another matter
    assert peaks[1] < 1.5 * peaks[0] < 300 * 100_000
    with other.here() as docs:
        assert len(docs.get_log("main")) == versions + 1
    other.node.db.close()


@pytest.mark.slow
def test_a_history_whose_older_contents_were_pruned_travels(pair):
    fill(pair)
    with pair.here() as docs:
        assert docs.prune(Policy(newest=3)) > 0
    pair.push(chunk_bytes=1_000)
    assert state(pair.there()) == state(pair.here())
    assert state(pair.there())[-1] == []
    with pair.there() as docs, pytest.raises(VersionPruned):
        docs.read("d1", 3)
