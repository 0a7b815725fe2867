"""Both ends of a transfer, on real databases, with nothing but the wire's values between them."""

import uuid
from contextlib import ExitStack

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ZODB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.errors import BufferGap, ChangesRefused, ClockAhead, OfferChanged, TransferEnded
from livesync.forms import decode_json
from livesync.peering import compression, wire
from livesync.peering.controller import SessionController
from livesync.peering.records import StoredSessions
from livesync.peering.stages import Stage, Status
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider
from livesync.replication.forgetting import forget
from livesync.replication.network.operations import OPERATIONS
from livesync.replication.network.transfers import Transfer, UnknownTransfer

NOW = 1_700_000_000.0


@pytest.fixture
def new_node():
    with ExitStack() as stack:

        def make(name, **options):
            db = DB(DemoStorage())
            stack.callback(db.close)
            return ZODBSyncProvider(name, ZODBDataStore(db), clock=lambda: NOW, **options)

        yield make


def put(provider, item_id, payload, partition="F1"):
    provider.commit_item_change(Operation.UPDATE, "thing", item_id, payload, partition)


def contents(provider):
    return {state.item_id: state.payload for state in provider.items()}


def travel(value):
    """Return a value as it comes out of JSON at the other end."""
    return decode_json(msgspec.json.encode(value), type(value))


CONTROLLER = SessionController(OPERATIONS)


class Link:
    """A transfer from one node to another; either end may be made anew, as after a kill."""

    def __init__(self, source, target, prefixes=("",), chunk=3):
        self.source, self.target, self.chunk = source, target, chunk
        self.id = uuid.uuid4().hex
        for provider, is_sender in ((source, True), (target, False)):
            Transfer.begin(provider, self.id, "s", "push", is_sender=is_sender, prefixes=prefixes).save()
            CONTROLLER.proceed_to(Stage.SERIALIZING, self._end(provider))
        self.offer()

    def _end(self, provider):
        return Transfer(provider, self.id)

    def offer(self):
        sender, receiver = self._end(self.source), self._end(self.target)
        told = travel(sender.make_offer(receiver.claims(), self.target.provider_id))
        CONTROLLER.proceed_to(Stage.QUEUING, sender)
        receiver.take_offer(told)
        CONTROLLER.proceed_to(Stage.QUEUING, receiver)

    def next_buffer(self):
        view = self._end(self.target).view()
        cursor = None if view.cursor is None else decode_json(view.cursor, wire.Cursor)
        return travel(self._end(self.source).read(view.confirmed, cursor, self.chunk))

    def send(self, buffers=None):
        """Send buffers until the last, or so many; tell whether the last was sent."""
        while buffers is None or buffers > 0:
            buffer = self.next_buffer()
            confirmed = self._end(self.target).take(buffer)
            assert confirmed.confirmed == buffer.number + 1
            if buffer.last:
                return True
            buffers = None if buffers is None else buffers - 1
        return False

    def end(self):
        for provider in (self.source, self.target):
            CONTROLLER.proceed_to(Stage.CLEANUP, self._end(provider))


def test_a_transfer_brings_everything_over_and_leaves_only_its_record(new_node):
    home, city = new_node("home"), new_node("city", applied_at_once=7)
    for number in range(20):
        put(home, f"i{number:02}", f"{number}")

    link = Link(home, city)
    link.send()
    link.end()

    assert contents(city) == contents(home)
    assert city.get_claims() == home.get_claims()
    for provider in (home, city):
        view = Transfer(provider, link.id).view()
        assert (view.stage, view.status, view.active, view.has_offer) == (
            Stage.CLEANUP,
            Status.COMPLETED,
            False,
            False,
        )
        assert provider.data_store.read(lambda p=provider: len(stored(p).buffers)) == 0
    again = Link(home, city)
    assert again.next_buffer().items == []


def stored(provider):
    return StoredSessions.get(provider.data_store.connection.root())


def test_each_buffer_is_confirmed_for_good_and_applied_with_others(new_node):
    home, city = new_node("home"), new_node("city", applied_at_once=100)
    for number in range(10):
        put(home, f"i{number}", f"{number}")
    link = Link(home, city)

    link.send(2)

    assert contents(city) == {}
    assert waiting_numbers(city, link) == [0, 1]
    view = Transfer(city, link.id).view()
    assert (view.confirmed, view.waiting_items, view.items, view.stage) == (2, 6, 6, Stage.TRANSFERRING)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 99)), max_size=25),
    st.lists(st.sampled_from(["send", "twice", "again", "skip", "cut", "edit"]), max_size=20),
    st.integers(1, 9),
)
def test_whatever_is_repeated_lost_or_cut_both_hold_the_same_in_the_end(new_node, writes, steps, at_once):
    home, city = new_node("home"), new_node("city", applied_at_once=at_once)
    for item, value in writes:
        put(home, f"i{item}", f"{value}")
    link = Link(home, city)
    done = False
    sent = []
    for step in steps:
        if step == "edit":
            put(home, "i3", f"{len(sent) + 1000}")
        elif step == "cut":
            link.offer()
        elif step == "skip" and not done:
            late = msgspec.structs.replace(link.next_buffer(), number=link.next_buffer().number + 1)
            with pytest.raises(BufferGap):
                Transfer(city, link.id).take(late)
        elif step == "again" and sent:
            before = contents(city)
            assert Transfer(city, link.id).take(sent[0]).confirmed == len(sent)
            assert contents(city) == before
        elif not done:
            buffer = link.next_buffer()
            for _ in range(1 + (step == "twice")):
                assert Transfer(city, link.id).take(buffer).confirmed == buffer.number + 1
            sent.append(buffer)
            done = buffer.last
    if not done:
        link.send()
    link.end()
    rest = Link(home, city)
    rest.send()
    rest.end()

    assert contents(city) == contents(home)
    assert city.get_claims() == home.get_claims()


def test_nothing_is_claimed_before_the_last_buffer_has_come(new_node):
    home, city = new_node("home"), new_node("city")
    for number in range(10):
        put(home, f"i{number}", "1")
    link = Link(home, city)
    link.send(1)

    with pytest.raises(BufferGap, match="the last is missing"):
        CONTROLLER.proceed_to(Stage.CLEANUP, Transfer(city, link.id))

    assert city.get_claims() == {}
    view = Transfer(city, link.id).view()
    assert (view.stage, view.status) == (Stage.TRANSFERRING, Status.ERRORED)
    link.send()
    link.end()
    assert contents(city) == contents(home)


def test_what_lies_outside_of_the_filter_is_not_sent_and_not_taken(new_node):
    home, city = new_node("home"), new_node("city")
    put(home, "mine", "1", "F1:U1")
    put(home, "other", "2", "F1:U2")
    link = Link(home, city, ["F1:U1"])

    buffer = link.next_buffer()
    assert [item.id for item in buffer.items] == ["mine"]
    lie = msgspec.structs.replace(buffer.items[0], id="lie", partition="F1:U2")
    confirmed = Transfer(city, link.id).take(msgspec.structs.replace(buffer, items=[*buffer.items, lie]))
    link.end()

    assert confirmed.refused == [wire.Refusal(id="lie", partition="F1:U2")]
    assert contents(city) == {"mine": "1"}
    assert Transfer(city, link.id).view().refused == 1


def test_a_buffer_that_makes_no_sense_is_refused_as_a_whole_and_can_be_sent_right(new_node):
    home, city = new_node("home"), new_node("city")
    put(home, "a", "1")
    link = Link(home, city)
    buffer = link.next_buffer()
    item = buffer.items[0]
    for changed in ({"payload": "{"}, {"vector": {"x": 1}}, {"hard": True}, {"partition": "F1::"}):
        wrong = msgspec.structs.replace(buffer, items=[msgspec.structs.replace(item, **changed)])
        if changed.get("partition"):
            wrong = msgspec.structs.replace(wrong, items=[msgspec.structs.replace(item, partition="F1 ")])
        with pytest.raises(ChangesRefused):
            Transfer(city, link.id).take(wrong)
    future = msgspec.structs.replace(item, dot=("home", wire.MAX_STAMP))
    with pytest.raises(ClockAhead):
        Transfer(city, link.id).take(msgspec.structs.replace(buffer, items=[future]))

    assert Transfer(city, link.id).view().confirmed == 0
    link.send()
    link.end()
    assert contents(city) == {"a": "1"}


@pytest.mark.parametrize(
    "lie",
    [
        {"claims": {"F2": {"home": 5}}},
        {"collected": {"F2": {"home": 5}}},
        {"snapshots": ["F2"]},
        {"prefixes": ["F1", "F2"]},
        {"prefixes": [""]},
        {"claims": {"F1::x": {"home": 5}}},
        {"claims": {"F1": {"other": wire.MAX_STAMP}}},
        {"source": "city"},
    ],
)
def test_an_offer_of_more_than_the_filter_is_refused(new_node, lie):
    city = new_node("city")
    transfer = Transfer.begin(city, "t", "s", "push", is_sender=False, prefixes=["F1"])
    CONTROLLER.proceed_to(Stage.SERIALIZING, transfer)
    offer = wire.Offer(source="home", prefixes=["F1"], claims={"F1": {"home": 5}}, receiver={})

    with pytest.raises((ChangesRefused, ClockAhead)):
        transfer.take_offer(msgspec.structs.replace(offer, **lie))

    assert city.unfinished() == []
    assert not transfer.view().has_offer


def test_an_offer_is_not_changed_once_it_was_made(new_node):
    home, city = new_node("home"), new_node("city")
    put(home, "a", "1")
    link = Link(home, city)
    offer = Transfer(home, link.id).make_offer({}, "city")

    Transfer(city, link.id).take_offer(offer)
    with pytest.raises(TransferEnded, match="something else"):
        Transfer(city, link.id).take_offer(msgspec.structs.replace(offer, claims={}))


def test_a_sender_whose_tombstones_went_meanwhile_vouches_for_nothing(new_node):
    home, city = new_node("home"), new_node("city")
    put(home, "a", "1")
    link = Link(home, city)
    link.send()
    home.data_store.run(lambda: home.data_store.note_collected("F1", {"home": 1}))

    with pytest.raises(OfferChanged):
        CONTROLLER.proceed_to(Stage.CLEANUP, Transfer(home, link.id))


def test_a_transfer_that_is_given_up_leaves_nothing_that_nobody_claims(new_node):
    home, city, cloud = new_node("home"), new_node("city", applied_at_once=2), new_node("cloud")
    for number in range(9):
        put(home, f"i{number}", f"{number}")
    link = Link(home, city)
    link.send(2)
    held = contents(city)

    touched = Transfer(city, link.id).give_up()

    assert touched == len(held) > 0
    assert city.unfinished() == []
    with pytest.raises(TransferEnded):
        Transfer(city, link.id).take(link.next_buffer())
    further = Link(city, cloud)
    further.send()
    further.end()
    assert contents(cloud) == held


def test_two_transfers_at_once_over_the_same_items_stay_right(new_node):
    home, away, city = new_node("home"), new_node("away"), new_node("city", applied_at_once=5)
    for number in range(12):
        put(home, f"i{number}", f"{number}")
        put(away, f"i{number}", f"{number + 100}")
    one, two = Link(home, city, chunk=2), Link(away, city, chunk=3)
    done = [False, False]
    while not all(done):
        for index, link in enumerate((one, two)):
            done[index] = done[index] or link.send(1)
    one.end()
    two.end()
    for node in (home, away):
        back = Link(city, node)
        back.send()
        back.end()
        last = Link(node, city)
        last.send()
        last.end()
    final = Link(city, home)
    final.send()
    final.end()

    assert contents(home) == contents(away) == contents(city)
    assert len(contents(city)) == 12


def test_large_items_travel_in_buffers_of_their_own(new_node):
    home, city = new_node("home"), new_node("city")
    for number in range(4):
        put(home, f"i{number}", '"' + "x" * (wire.CHUNK_CHARACTERS // 2) + '"')
    link = Link(home, city, chunk=500)

    sizes = []
    while True:
        buffer = link.next_buffer()
        sizes.append(len(buffer.items))
        Transfer(city, link.id).take(buffer)
        if buffer.last:
            break
    link.end()

    assert sizes == [1, 1, 1, 1]
    assert contents(city) == contents(home)


def test_an_unknown_transfer_is_named(new_node):
    city = new_node("city")
    with pytest.raises(UnknownTransfer, match="no transfer x"):
        Transfer(city, "x").view()


def test_forgetting_an_item_ends_the_transfers_whose_waiting_buffers_hold_it_and_the_next_goes_on(new_node):
    home, city = new_node("home"), new_node("city", applied_at_once=100)
    for number in range(10):
        put(home, f"i{number}", f'"said {number}"')
    link, other = Link(home, city), Link(home, city)
    link.send(2)
    other.send(1)

    gone = forget(city, "i4")

    assert (gone.item_ids, gone.transfers) == ((), 1)
    assert not Transfer(city, link.id).view().active
    assert waiting_numbers(city, link) == []
    assert waiting_numbers(city, other) == [0]
    assert forget(city, "i4").transfers == 0
    other.send()
    other.end()
    assert contents(city) == contents(home)
    assert forget(city, "i4").item_ids == ("i4",)


class Kept(Link):
    """A transfer whose ends are kept, as a process does that lives on."""

    def __init__(self, *arguments, **options):
        self.ends = {}
        super().__init__(*arguments, **options)

    def _end(self, provider):
        return self.ends.setdefault(provider.provider_id, Transfer(provider, self.id))

    def killed(self):
        self.ends.clear()


def test_buffers_that_wait_are_not_read_again_by_the_process_that_took_them(new_node, monkeypatch):
    home, city = new_node("home"), new_node("city", applied_at_once=10)
    for number in range(30):
        put(home, f"i{number:02}", f"{number}")
    read = []
    unpacked = Transfer._unpacked
    monkeypatch.setattr(
        Transfer, "_unpacked", staticmethod(lambda *given: read.append(given) or unpacked(*given))
    )
    link = Kept(home, city)

    link.send()
    link.end()

    assert contents(city) == contents(home)
    assert read == []
    assert waiting_numbers(city, link) == []


@pytest.mark.parametrize("change", ["killed", "another process", "forgotten"])
def test_buffers_that_wait_are_applied_whoever_took_them(change, new_node):
    home, city = new_node("home"), new_node("city", applied_at_once=100)
    for number in range(30):
        put(home, f"i{number:02}", f"{number}")
    link = Kept(home, city)
    link.send(3)
    if change == "killed":
        link.killed()
    elif change == "another process":
        mine, link.ends = link.ends, {}
        link.send(2)
        link.ends = mine
    else:
        link.ends["city"].forget_waiting()
    link.send(2)

    link.send()
    link.end()

    assert contents(city) == contents(home)
    assert waiting_numbers(city, link) == []
    assert city.get_claims() == home.get_claims()


def test_a_buffer_that_waits_is_kept_as_it_came(new_node):
    home, city = new_node("home"), new_node("city", applied_at_once=100)
    put(home, "i", '"' + "said " * 100 + '"')
    link = Link(home, city)
    buffer = link.next_buffer()
    packed = compression.pack(msgspec.json.encode(buffer), "zstd")

    Transfer(city, link.id).take(buffer, len(packed), packed)

    kept = city.data_store.read(lambda: [data for _, data in stored(city).waiting(link.id)])
    assert kept == [packed]
    link.end()
    assert contents(city) == contents(home)


def test_a_buffer_of_another_transfer_is_refused(new_node):
    home, city = new_node("home"), new_node("city")
    put(home, "i", "1")
    link, other = Link(home, city), Link(home, city)

    with pytest.raises(ChangesRefused, match="another transfer"):
        Transfer(city, other.id).take(link.next_buffer())

    assert contents(city) == {}


def waiting_numbers(provider, link):
    return provider.data_store.read(lambda: [number for number, _ in stored(provider).waiting(link.id)])
