"""Clients that ask for histories they may not have, or push what is none: refused, and nothing is changed."""

import uuid

import msgspec
import ormsgpack
import pytest
import transaction
from support.peer_world import FULL, PART, PROFILE

from livesync.peering import compression, historywire, wire
from livesync.peering.records import StoredSessions
from livesync.peering.scopes import ScopeDefinition
from livesync.versions import VersionedCollection
from livesync.versions.remotes import chunks
from livesync.versions.remotes.ends import Layout, LocalEnd, Outgoing, Tag, layouts_of
from livesync.versions.remotes.exchange import Told, TravellingRow, TravellingVersion
from livesync.versions.store.records import Record, made_id
from livesync.versions.store.sums import with_sum

pytestmark = pytest.mark.usefixtures("logged")

READ = ScopeDefinition(id="read", profile=PROFILE, read_filter_template="version:docs")
WRITE = ScopeDefinition(id="write", profile=PROFILE, write_filter_template="version:docs")
BOTH = ScopeDefinition(id="both", profile=PROFILE, read_write_filter_template="version:docs")


class Docs:
    """The collection in a node's database, in one transaction."""

    def __init__(self, node, name="docs"):
        self.node, self.name = node, name

    def __enter__(self):
        self.manager = transaction.TransactionManager()
        self.connection = self.node.db.open(transaction_manager=self.manager)
        return VersionedCollection(self.connection, self.name, clock=lambda: 1_600_000_000.0)

    def __exit__(self, kind, *_):
        self.manager.abort() if kind else self.manager.commit()
        self.connection.close()


def standing(node):
    """Return all that a push may change."""
    with Docs(node) as docs:
        staged = len(StoredSessions.get(docs._root).buffers)
        return (
            [(one.id, one.branch) for one in docs.get_log()],
            dict(docs.documents),
            docs.branches(),
            docs.tags(),
            docs.check(),
            staged,
        )


@pytest.fixture
def office(world):
    """The server, with a history that a client has, too; returns the client's node and a caller."""

    def make(scope=BOTH, params=None):
        node = world.node("home", scope, params or {})
        if not standing(world)[0]:
            with Docs(world) as docs:
                docs.documents.update({"a": {"n": 1}, "b": {"n": 1}})
                docs.init()
        with Docs(world) as docs, Docs(node) as ours:
            docs.push(ours)
        with Docs(node) as ours:
            ours.documents["a"] = {"n": 2}
            ours.documents["c"] = {"text": "c" * 50}
            ours.register("one")
            ours.documents["a"] = {"n": 3}
            ours.register("two")
        return node, world.session(node)

    return make


def begin(caller, direction="push", collection="docs", **more):
    body = historywire.NewHistoryTransfer(
        id=uuid.uuid4().hex, direction=direction, collection=collection, **more
    )
    return body.id, caller.signed("POST", "/historytransfers", body)


def parts_of(node):
    """Return what a right push of the node's would send."""
    with Docs(node) as docs:
        stored, names = docs.stored, docs.names
        ids = tuple(Record.unpacked(stored.records[key]).id for key in list(stored.records)[1:])
        layouts = tuple(layouts_of(stored, "main", names.branch("main"), 1))
        return list(Outgoing(ids, layouts).parts(docs.contents))


def pieces_of(parts):
    for part in parts:
        if isinstance(part, TravellingVersion):
            rows = [chunks._Row(*row) for row in part.rows]
            yield chunks._Version(part.record, part.branch, part.number, rows, True)
        elif isinstance(part, Tag):
            yield chunks._Tag(*part)
        else:
            yield chunks._Layout(*part[:3], list(part.ids))


def packed(parts):
    return compression.pack(msgspec.msgpack.encode(list(pieces_of(parts))), "zstd")


def chunk(transfer, data, number=0, last=True):
    following = historywire.HistoryCursor(part=number + 1)
    return historywire.HistoryChunk(transfer=transfer, number=number, data=data, next=following, last=last)


def send(caller, data, number=0, last=True):
    """Send one chunk in a transfer of its own; return the transfer and the answer."""
    transfer, answer = begin(caller)
    assert answer.status == 201, answer
    return transfer, caller.signed("POST", "/historychunks", chunk(transfer, data, number, last))


def finish(caller, transfer):
    return caller.signed("PATCH", f"/historytransfers/{transfer}", historywire.EndHistoryTransfer())


def test_a_right_push_by_hand_is_taken_and_finished_once(world, office):
    node, caller = office()
    transfer, answer = send(caller, packed(parts_of(node)))
    assert answer.of(wire.Confirmed).confirmed == 1
    number = caller.sequence + 1
    first = finish(caller, transfer)
    assert first.status == 200, first
    after = standing(world)
    assert (after[0], after[1], after[4:]) == (standing(node)[0], standing(node)[1], ([], 0))

    again = caller.signed(
        "PATCH", f"/historytransfers/{transfer}", historywire.EndHistoryTransfer(), number=number
    )
    assert (again.status, again.body) == (200, first.body)
    assert finish(caller, transfer).status == 200
    assert caller.signed("POST", "/historychunks", chunk(transfer, b"", 1)).code in ("ended", "refused")
    assert standing(world) == after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scope", "params", "may"),
    [
        (PART, {"part": "F1"}, set()),
        (PART, {"part": "version:doc"}, set()),
        (PART, {"part": "docs"}, set()),
        (READ, {}, {"pull"}),
        (WRITE, {}, {"push"}),
        (BOTH, {}, {"push", "pull"}),
        (FULL, {}, {"push", "pull"}),
    ],
)
def test_who_may_not_is_refused_whatever_is_asked(world, office, scope, params, may):
    if ":" in params.get("part", ""):
        params, scope = (
            {},
            ScopeDefinition(id="near", profile=PROFILE, read_write_filter_template="version:doc"),
        )
    _, caller = office(scope, params)
    known = historywire.AskVersions(collection="docs", ids=["0" * 64])
    for answer in (
        caller.signed("GET", "/histories", query={"collection": "docs"}),
        caller.signed("POST", "/knownversions", known),
    ):
        assert answer.code == (None if may else "scope")
    for direction in ("push", "pull"):
        _, answer = begin(caller, direction, wants=[historywire.HistoryWant(branch="main")])
        assert answer.code == (None if direction in may else "scope"), direction
    assert standing(world)[-1] == 0


def changed_row(version, number=0, **changes):
    rows = list(version.rows)
    rows[number] = rows[number]._replace(**changes)
    return version._replace(rows=tuple(rows))


def other_record(version, **changes):
    return version._replace(record=Record.unpacked(version.record)._replace(**changes).packed())


def of_another_id(version):
    return other_record(version, id=bytes(32))


def fields(value):
    return with_sum(ormsgpack.packb(value))


def signed(version, **changes):
    """Return a version whose record was changed and has the id that it says."""
    record = Record.unpacked(version.record)._replace(**changes)
    return version._replace(record=record._replace(id=made_id(record)).packed())


#: What is done to what a right push would send.
FORGED = {
    "a value changed": lambda one, two, names: [
        changed_row(one, 1, payload=one.rows[1].payload.replace(b"ccc", b"ccd")),
        two,
        *names,
    ],
    "a hash changed": lambda one, two, names: [changed_row(one, 1, hash=bytes(16)), two, *names],
    "a row left out": lambda one, two, names: [one._replace(rows=one.rows[:1]), two, *names],
    "a row twice": lambda one, two, names: [one._replace(rows=(one.rows[0], *one.rows)), two, *names],
    "rows in another order": lambda one, two, names: [one._replace(rows=one.rows[::-1]), two, *names],
    "told as erased with another hash": lambda one, two, names: [
        changed_row(one, kind=Told.ERASED, payload=b"", hash=bytes(16)),
        two,
        *names,
    ],
    "told as gone": lambda one, two, names: [
        changed_row(one, kind=Told.GONE, payload=b"", hash=b""),
        two,
        *names,
    ],
    "another message": lambda one, two, names: [other_record(one, message="by the boss"), two, *names],
    "another author": lambda one, two, names: [other_record(one, author="boss"), two, *names],
    "another id": lambda one, two, names: [of_another_id(one), two, *names],
    "no record": lambda one, two, names: [one._replace(record=b"nothing at all"), two, *names],
    "a record of one field": lambda one, two, names: [one._replace(record=fields([1])), two, *names],
    "a record that is a mapping": lambda one, two, names: [
        one._replace(record=fields({"a": 1})),
        two,
        *names,
    ],
    "an author that is a number": lambda one, two, names: [signed(one, author=5), two, *names],
    "a time that is none": lambda one, two, names: [signed(one, time_us=1 << 62), two, *names],
    "a parent that is none": lambda one, two, names: [signed(one, parents=[b"short"]), two, *names],
    "counts that are none": lambda one, two, names: [other_record(one, counts=["many"]), two, *names],
    "the newest without contents": lambda one, two, names: [
        one,
        two._replace(rows=(TravellingRow("", Told.PRUNED, b"", b""),)),
        *names,
    ],
    "changes since what is not there": lambda one, two, names: [
        one._replace(rows=(TravellingRow("", Told.SINCE, bytes(32), b""), *one.rows)),
        two,
        *names,
    ],
    "pruned in the middle, and other documents after it": lambda one, two, names: [
        one._replace(rows=(TravellingRow("", Told.PRUNED, b"", b""),)),
        two._replace(
            rows=(TravellingRow("", Told.SINCE, Record.unpacked(one.record).parents[0], b""), *two.rows)
        ),
        *names,
    ],
    "a version left out": lambda one, two, names: [two, *names],
    "the second before the first": lambda one, two, names: [two, one, *names],
    "a branch at a version that has not come": lambda one, two, names: [
        one,
        two,
        Layout("main", b"", 1, (bytes(32),)),
    ],
    "a branch with a gap": lambda one, two, names: [one, two, Layout("main", b"", 5, ())],
    "a branch without a version": lambda one, two, names: [one, two, Layout("new", b"", 0, ())],
    "a branch that begins nowhere": lambda one, two, names: [one, two, Layout("new", bytes(32), 0, ())],
    "a tag at nothing": lambda one, two, names: [one, two, *names, Tag("t", bytes(32))],
    "a name with a colon": lambda one, two, names: [one, two, *names, Tag("a:b", bytes(32))],
    "a name that stands for something else": lambda one, two, names: [
        one,
        two,
        *names,
        Tag("HEAD", Record.unpacked(one.record).id),
    ],
    "a name with a line end": lambda one, two, names: [one, two, Layout("a\nb", b"", 1, ())],
}


@pytest.mark.slow
@pytest.mark.parametrize("how", FORGED)
def test_what_is_forged_is_refused_as_a_whole(world, office, how):
    node, caller = office()
    one, two, *names = parts_of(node)
    before = standing(world)

    transfer, answer = send(caller, packed(FORGED[how](one, two, names)))
    assert answer.status == 201, answer
    answer = finish(caller, transfer)

    # an honest sender may have a version that was pruned here: that is no forgery
    is_pruned = how == "the newest without contents"
    assert (answer.status, answer.code) == ((409, "rejected") if is_pruned else (422, "refused")), answer
    assert standing(world)[:-1] == before[:-1]
    assert caller.signed("DELETE", f"/historytransfers/{transfer}").status == 204
    assert standing(world) == before
    assert finish(caller, transfer).code == "ended"


def test_a_branch_is_never_put_back(world, office):
    node, caller = office()
    transfer, _ = send(caller, packed(parts_of(node)))
    assert finish(caller, transfer).status == 200
    before = standing(world)
    with Docs(world) as docs:
        root = bytes.fromhex(docs.get_log()[-1].id)
    for layout in (Layout("main", b"", 1, ()), Layout("main", b"", 0, (root,))):
        transfer, _ = send(caller, packed([layout]))
        assert finish(caller, transfer).code == "rejected"
    assert standing(world)[:-1] == before[:-1]


BOMB = compression.pack(bytes(40_000_000), "zstd")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (BOMB, "too_large"),
        (b"", "refused"),
        (b"no frame", "refused"),
        (compression.pack(b"no pieces", "zstd"), "refused"),
        (compression.pack(msgspec.msgpack.encode([["x", 1]]), "zstd"), "refused"),
        (
            compression.pack(
                msgspec.msgpack.encode([["v", b"r", "main", 0, [["a", 9, b"", b""]], True]]), "zstd"
            ),
            "refused",
        ),
        (compression.pack(msgspec.msgpack.encode([["t", "name", b"short"]]), "zstd"), "refused"),
        (compression.pack(b"\x91" * 100_000, "zstd"), "refused"),
        (packed([]) + b"more", "refused"),
    ],
    ids=[
        "bomb",
        "empty",
        "no frame",
        "no pieces",
        "unknown piece",
        "unknown kind",
        "short id",
        "deep",
        "more",
    ],
)
def test_what_is_no_chunk_is_not_even_kept(world, office, data, code):
    _, caller = office()
    _, answer = send(caller, data)
    assert answer.code == code, answer
    assert standing(world)[-1] == 0


def test_a_body_that_is_too_large_is_not_read(office):
    _, caller = office()
    body = b"{" + b" " * (3 * wire.MAX_BUFFER_BYTES)
    assert caller.signed("POST", "/historychunks", body, packed="").code == "too_large"


def test_chunks_come_in_order_and_again_does_no_harm(world, office):
    node, caller = office()
    one, two, *names = parts_of(node)
    first, second = packed([one]), packed([two, *names])
    transfer, answer = send(caller, first, last=False)
    assert answer.status == 201
    assert caller.signed("POST", "/historychunks", chunk(transfer, second, 2)).code == "gap"
    assert finish(caller, transfer).code == "gap"
    again = caller.signed("POST", "/historychunks", chunk(transfer, second, 0))
    assert again.of(wire.Confirmed).confirmed == 1
    assert caller.signed("POST", "/historychunks", chunk(transfer, second, 1)).status == 201
    assert caller.signed("POST", "/historychunks", chunk(transfer, second, 2)).code == "gap"
    assert finish(caller, transfer).status == 200
    assert standing(world)[0] == standing(node)[0]


def test_a_version_that_comes_in_part_is_refused(world, office):
    node, caller = office()
    one, *_ = parts_of(node)
    (piece,) = pieces_of([one])
    for pieces in (
        [msgspec.structs.replace(piece, is_whole=False)],
        [msgspec.structs.replace(piece, record=b"")],
        [msgspec.structs.replace(piece, is_whole=False), piece],
        [msgspec.structs.replace(piece, is_whole=False), *pieces_of([Tag("t", bytes(32))])],
    ):
        transfer, answer = send(caller, compression.pack(msgspec.msgpack.encode(pieces), "zstd"))
        assert answer.status == 201
        assert finish(caller, transfer).code == "refused"
    assert len(standing(world)[0]) == 1


def test_a_transfer_is_its_clients_alone(world, office):
    node, caller = office()
    transfer, _ = send(caller, packed(parts_of(node)))
    _, other = office()
    for answer in (
        other.signed("GET", f"/historytransfers/{transfer}"),
        finish(other, transfer),
        other.signed("DELETE", f"/historytransfers/{transfer}"),
        other.signed("POST", "/historychunks", chunk(transfer, packed([]), 1)),
        other.signed("GET", "/historychunks", query={"transfer": transfer, "number": 0}),
    ):
        assert answer.code == "no_such_thing", answer
    assert standing(world)[-1] == 1


def test_transfers_of_items_and_of_histories_are_not_taken_for_each_other(world, office):
    node, caller = office(FULL)
    items = node.begin_push(caller)
    history, answer = begin(caller)
    assert answer.status == 201
    assert caller.signed("GET", f"/historytransfers/{items}").code == "no_such_thing"
    assert finish(caller, items).code == "no_such_thing"
    assert caller.signed("GET", f"/transfersessions/{history}").code == "no_such_thing"
    drive = wire.Drive(stage="cleanup")
    assert caller.signed("PATCH", f"/transfersessions/{history}", drive).code == "no_such_thing"
    body = wire.NewTransfer(id=history, direction="push", filter=["F1"])
    assert caller.signed("POST", "/transfersessions", body).code == "ended"
    body = historywire.NewHistoryTransfer(id=items, direction="push", collection="docs")
    assert caller.signed("POST", "/historytransfers", body).code == "no_such_thing"


def test_a_session_without_a_provider_is_for_histories_only(world, office):
    node, _ = office(FULL)
    caller = world.caller(node)
    answer = caller.begin(world.chain, None)
    assert answer.status == 201
    assert answer.of(wire.SyncSession).introduction is None
    body = wire.NewTransfer(id=uuid.uuid4().hex, direction="push", filter=["F1"])
    assert caller.signed("POST", "/transfersessions", body).code == "forbidden"
    assert caller.signed("GET", "/histories", query={"collection": "docs"}).status == 200


@pytest.mark.parametrize("name", ["application", "livesync.new", "livesync.versions"])
def test_a_new_history_takes_the_place_of_nothing_else(world, office, name):
    _, caller = office(FULL)
    with Docs(world) as docs:
        docs._root["application"] = {"precious": True}
    assert begin(caller, collection=name)[1].code == "forbidden"
    with Docs(world) as docs:
        assert docs._root["application"] == {"precious": True}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["__x", "a b", "a:b", "a\nb"])
def test_a_name_that_is_none_is_a_mistake(office, name):
    _, caller = office(FULL)
    assert begin(caller, collection=name)[1].code == "bad_request"
    assert caller.signed("GET", "/histories", query={"collection": name}).code == "bad_request"


def test_a_pull_of_what_is_not_there_brings_nothing(world, office):
    _, caller = office(FULL)
    assert begin(caller, "pull", "nothing")[1].code == "no_such_thing"
    transfer, answer = begin(caller, "pull", wants=[historywire.HistoryWant(branch="nope")], tags=["nope"])
    assert (answer.status, answer.of(historywire.HistoryTransfer).parts) == (201, 0)
    answer = caller.signed("GET", "/historychunks", query={"transfer": transfer, "number": 0})
    assert answer.of(historywire.HistoryChunk).last
    for cursor in ("{", '{"part": -1}', '{"part": 1, "more": 2}'):
        query = {"transfer": transfer, "number": 0, "cursor": cursor}
        assert caller.signed("GET", "/historychunks", query=query).code == "bad_request"


def test_what_the_server_says_of_itself_is_what_it_has(world, office):
    _, caller = office(READ)
    with Docs(world) as docs:
        docs.tag("start")
        refs = LocalEnd(docs).refs()
    told = caller.signed("GET", "/histories", query={"collection": "docs"}).of(historywire.History)
    assert bytes.fromhex(told.root) == refs.root
    assert {name: bytes.fromhex(one.tip) for name, one in told.branches.items()} == {
        name: one.tip for name, one in refs.branches.items()
    }
    assert told.tags == {"start": refs.root.hex()}
    empty = caller.signed("GET", "/histories", query={"collection": "docs"})
    assert empty.status == 200


@pytest.mark.parametrize("name", ["application", "livesync.versions", "livesync.peering.peers", "empty"])
def test_a_new_history_of_several_collections_takes_the_place_of_nothing_else(world, office, name):
    """A mapping that is empty is an application's, too."""
    _, caller = office(FULL)
    with Docs(world) as docs:
        docs._root["application"] = {"precious": True}
        docs._root["empty"] = {}
    node = world.node("liar", FULL, {})
    with Docs(node, "many") as docs:
        docs.documents[f"{name}:a"] = {"n": 1}
        docs.init(metadata={"livesync.collections": [name]})
        stored, names = docs.stored, docs.names
        ids = tuple(Record.unpacked(packed).id for packed in stored.records.values())
        parts = list(
            Outgoing(ids, tuple(layouts_of(stored, "main", names.branch("main"), 0))).parts(docs.contents)
        )
    transfer, answer = begin(caller, collection="many")
    assert answer.status == 201
    assert caller.signed("POST", "/historychunks", chunk(transfer, packed(parts))).status == 201

    assert finish(caller, transfer).code == "forbidden"

    with Docs(world, "many") as docs:
        assert not docs.is_tracked
        assert (docs._root["application"], docs._root["empty"]) == ({"precious": True}, {})


@pytest.mark.parametrize("document_id", ["no collection", ":nothing", "livesync.versions:a", "application:a"])
def test_a_document_of_no_collection_does_not_come_into_a_history_of_several(world, office, document_id):
    _, caller = office(FULL)
    node = world.node("liar", FULL, {})
    with Docs(node, "many") as docs, Docs(world, "many") as theirs:
        docs.documents["talks:a"] = {"n": 1}
        docs.init(metadata={"livesync.collections": ["talks"]})
        theirs._root["application"] = {}
        docs.push(theirs)
    with Docs(node, "many") as docs:
        docs.documents[document_id] = {"n": 1}
        docs.register("more")
        stored, names = docs.stored, docs.names
        newest = Record.unpacked(list(stored.records.values())[-1]).id
        layouts = tuple(layouts_of(stored, "main", names.branch("main"), 1))
        parts = list(Outgoing((newest,), layouts).parts(docs.contents))
    transfer, _ = begin(caller, collection="many")
    assert caller.signed("POST", "/historychunks", chunk(transfer, packed(parts))).status == 201

    assert finish(caller, transfer).code in ("refused", "rejected")

    with Docs(world, "many") as docs:
        assert (len(docs.get_log()), docs._root["application"]) == (1, {})
