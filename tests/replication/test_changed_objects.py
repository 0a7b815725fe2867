"""Objects of models that were changed elsewhere are changed at once, and nothing comes out otherwise."""

from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.mapped import KEY, Application, MappedHost, sync

from livesync import ActionWrapper, SyncManager
from livesync.action import CREATED, DATA_CHANGED
from livesync.replication import ConflictStatus, ConflictType, SyncableModel, reader
from livesync.replication.models.model import calculate_item_id
from livesync.replication.sessions import receiving, successors
from livesync.replication.stores import writing
from livesync.replication.untaken import untaken

NAMES = tuple("abcd")


class Box(SyncableModel):
    """Something in a drawer, which may lie upon another one, under a label that may change."""

    sync_profile, model_name = "boxes", "box"
    refused = ""

    def __init__(self, name, text="", upon=None, label=None, drawer="boxes"):
        self.name, self.text, self.upon, self.label = name, text, upon, label or name
        self.drawer = drawer

    def calculate_source_id(self):
        return self.name

    def calculate_partition(self):
        return self.drawer

    def sync_key(self, item_id):
        return self.label

    @classmethod
    def sync_home(cls, root):
        return root[KEY]

    @classmethod
    def deserialize(cls, data, current=None):
        if data["text"] and data["text"] == cls.refused:
            raise ValueError("no such text here")
        return super().deserialize(data, current)

    @classmethod
    def dependencies(cls, data):
        if data["upon"] is not None:
            yield calculate_item_id("boxes", data["upon"], "box")


class Shelf(MappedHost):
    """Boxes by label."""

    def object_id(self, obj):
        return obj.label

    def document(self, obj, audience="public"):
        return obj.serialize()


class Site(Application):
    def __init__(self, name, clock, model=Box):
        super().__init__(name, Shelf(), (model,), clock=clock)
        self.model = model

    def add(self, name, **values):
        self.change(name, lambda shelf: shelf.__setitem__(name, self.model(name, **values)), CREATED)

    def set(self, key, **values):
        def work(shelf):
            for name, value in values.items():
                setattr(shelf[key], name, value)

        self.change(key, work)

    def says(self):
        with self.db.transaction() as connection:
            return {key: box.serialize() for key, box in connection.root()[KEY].items()}

    def state(self):
        """Return all that it has come to."""
        store = self.provider.data_store
        items = self.provider.items()
        return (
            self.says(),
            [(item.item_id, item.payload, item.dot, sorted(item.vector.items())) for item in items],
            [store.read(lambda item=item: store.bound(item.item_id)) for item in items],
            [(log.conflict_type, log.status, log.reason) for log in self.provider.conflict_logs()],
        )


@pytest.fixture
def stack():
    with ExitStack() as found:
        yield found


def two(stack):
    now = iter(range(2_000_000_000, 2_100_000_000))
    sites = [Site(name, lambda: next(now)) for name in "ab"]
    for site in sites:
        stack.callback(site.close)
    return sites


@pytest.fixture
def sites(stack):
    return two(stack)


@pytest.fixture
def long_way(monkeypatch):
    """The items that were received one by one."""
    found = []
    receive = receiving.Receiver.receive
    monkeypatch.setattr(
        receiving.Receiver,
        "receive",
        lambda self, remote: found.append(remote.item_id) or receive(self, remote),
    )
    return found


def item_id(name):
    return calculate_item_id("boxes", name, "box")


def fill(a, b):
    for name in NAMES:
        a.add(name)
    sync(a, b)


def test_many_changes_take_the_short_way_and_are_told(sites, long_way, monkeypatch):
    a, b = sites
    fill(a, b)
    told = []
    monkeypatch.setattr(
        type(b.provider.changes_executor),
        "record",
        lambda self, connection, objects, origin: told.append(sorted(objects)),
    )
    for name in NAMES:
        a.set(name, text="changed")
    sync(a, b)

    assert a.says() == b.says()
    assert {box["text"] for box in b.says().values()} == {"changed"}
    assert long_way == []
    assert [(name, True, True) for name in NAMES] in told
    assert b.provider.reader.gather(b.provider.node) == 0
    a.provider.prepare()
    assert a.provider.items() == b.provider.items()


def test_what_was_edited_here_meanwhile_is_a_conflict_and_the_others_take_the_short_way(sites, long_way):
    a, b = sites
    fill(a, b)
    a.provider.prepare()
    offer_to = b.provider.get_claims()
    for name in NAMES:
        a.set(name, text="there")
    a.provider.prepare()
    offer = a.provider.offer(("",), offer_to)
    b.provider.begin(offer)
    b.set("c", text="here")  # nobody has taken it when the other one comes in

    b.provider.receive(offer, a.provider.read(offer))

    assert long_way == [item_id("c")]
    assert len(b.provider.conflict_logs()) == 1
    assert {name: box["text"] for name, box in b.says().items()} == {
        name: "here" if name == "c" else "there" for name in NAMES
    }


def comes_while_made(a, b, change, make):
    """Let what ``a`` has changed come in at ``b``, which has made something that nobody has taken yet."""
    b.provider.prepare()
    claims = b.provider.get_claims()
    change()
    a.provider.prepare()
    offer = a.provider.offer(("",), claims)
    b.provider.begin(offer)
    make()
    b.provider.receive(offer, a.provider.read(offer))
    b.provider.finish(offer)


def test_what_was_made_here_meanwhile_is_not_overwritten_and_is_a_conflict(sites):
    a, b = sites

    def change():
        a.add("c", text="there")
        a.add("d", text="there")

    comes_while_made(a, b, change, lambda: b.add("c", text="here"))

    assert {name: box["text"] for name, box in b.says().items()} == {"c": "here", "d": "there"}
    (log,) = b.provider.conflict_logs()
    assert log.status is ConflictStatus.DEFERRED
    assert log.reason.endswith("PlaceTaken: at 'c' there is an object that was not taken into two-way sync")
    sync(a, b)

    assert a.says() == b.says()
    assert set(a.says()) == {"c", "d"}
    logs = [*a.provider.conflict_logs(), *b.provider.conflict_logs()]
    (lost,) = [log for log in logs if log.conflict_type is not ConflictType.EXCEPTION_OCCURRED]
    assert (a.says()["c"]["text"], lost.status) == ("here", ConflictStatus.RESOLVED)
    assert '"text":"there"' in lost.item_change_loser.serialization_result.serialized_item


def test_what_is_moved_to_where_something_was_made_meanwhile_does_not_overwrite_it(sites):
    a, b = sites
    fill(a, b)

    comes_while_made(a, b, lambda: a.set("a", label="z"), lambda: b.add("z", text="here"))

    assert b.says()["z"]["text"] == "here"
    assert b.says()["a"]["label"] == "a"
    (log,) = b.provider.conflict_logs()
    assert log.status is ConflictStatus.DEFERRED


def test_what_cannot_be_taken_is_deferred_alone(sites, monkeypatch):
    a, b = sites
    fill(a, b)
    for name in NAMES:
        a.set(name, text="bad" if name == "b" else "good")
    monkeypatch.setattr(Box, "refused", "bad")
    sync(a, b, "a")

    assert {name: box["text"] for name, box in b.says().items()} == {
        name: "" if name == "b" else "good" for name in NAMES
    }
    (log,) = b.provider.conflict_logs()
    assert (log.status, log.reason) == (ConflictStatus.DEFERRED, "ValueError: no such text here")
    monkeypatch.setattr(Box, "refused", "")
    sync(a, b)
    assert a.says() == b.says()


def test_an_object_that_cannot_be_looked_at_takes_nothing_from_the_others(sites, long_way, monkeypatch):
    a, b = sites
    fill(a, b)
    for name in NAMES:
        a.set(name, text="changed")
    a.provider.prepare()
    offer = a.provider.offer(("",), b.provider.get_claims())
    b.provider.begin(offer)
    serialize = Box.serialize

    def refusing(box):
        if box.name == "c" and box._p_jar.db() is b.db:
            raise ValueError("it is sealed")
        return serialize(box)

    with monkeypatch.context() as patch:
        patch.setattr(Box, "serialize", refusing)
        b.provider.receive(offer, a.provider.read(offer))

    assert set(long_way) == set(map(item_id, NAMES))
    assert {name: box["text"] for name, box in b.says().items()} == {
        name: "" if name == "c" else "changed" for name in NAMES
    }
    assert len(b.provider.conflict_logs()) == 1


def test_an_object_that_lies_elsewhere_afterwards_is_found_there(sites, long_way):
    a, b = sites
    fill(a, b)

    def relabel(shelf):
        box = shelf.pop("b")
        box.label = "z"
        shelf["z"] = box

    a.change("z", relabel)
    a.change("b", lambda shelf: None, "deleted")
    a.set("c", text="changed")
    sync(a, b)

    assert a.says() == b.says()
    assert sorted(b.says()) == ["a", "c", "d", "z"]
    store = b.provider.data_store
    assert store.read(lambda: store.bound(item_id("b")))[0] == "z"
    assert store.read(lambda: (store.item_of("z"), store.item_of("b"))) == (item_id("b"), None)
    assert a.provider.items() == b.provider.items()


def relabel(site, labels):
    """Let the application give boxes other labels, all at once: those that others had."""
    with site.db.transaction() as connection:
        shelf = connection.root()[KEY]
        boxes = {old: shelf.pop(old) for old in labels}
        for old, new in labels.items():
            boxes[old].label = new
            shelf[new] = boxes[old]
        told = [ActionWrapper(0, key, {DATA_CHANGED}) for key in sorted({*labels, *labels.values()})]
        SyncManager.get(connection.root()).record(told)


@pytest.mark.parametrize(
    "labels",
    [{"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}, {"a": "b", "b": "z"}, {"b": "z", "a": "b"}],
)
def test_objects_that_come_to_where_others_were_take_nothing_away_with_them(sites, labels):
    a, b = sites
    fill(a, b)
    relabel(a, labels)
    there = a.says()
    sync(a, b)
    sync(a, b)

    assert a.says() == b.says() == there
    assert sorted(box["name"] for box in there.values()) == list(NAMES)
    logs = [*a.provider.conflict_logs(), *b.provider.conflict_logs()]
    assert all(log.status is ConflictStatus.RESOLVED for log in logs)


def test_a_new_object_that_comes_to_where_one_was_that_was_changed_later_stays(sites):
    a, b = sites
    fill(a, b)
    relabel(a, {"b": "z"})
    a.change("b", lambda shelf: shelf.__setitem__("b", Box("new", label="b")), CREATED)
    a.provider.prepare()
    a.set("z", text="later")
    there = a.says()
    sync(a, b)
    sync(a, b)

    assert a.says() == b.says() == there
    assert sorted(box["name"] for box in there.values()) == [*NAMES, "new"]


class Slip(Box):
    """A box that is not the same thing as another one of its name elsewhere."""

    model_name = "slip"

    def calculate_source_id(self):
        return None


def test_an_object_that_has_left_its_partition_keeps_nothing_else_from_being_applied(stack):
    now = iter(range(2_000_000_000, 2_100_000_000))
    a, b = (Site(name, lambda: next(now), Slip) for name in "ab")
    stack.callback(a.close)
    stack.callback(b.close)
    for name in NAMES:
        a.add(name)
    sync(a, b)
    (key,) = (key for key, box in b.says().items() if box["name"] == "c")
    b.set(key, drawer="attic")  # what has no source id stays in its partition
    for name in NAMES:
        a.set(name, text="changed")
    sync(a, b)

    assert sorted((box["name"], box["text"]) for box in b.says().values()) == [
        (name, "" if name == "c" else "changed") for name in NAMES
    ]
    store = b.provider.data_store
    ((named, reason),) = store.read(lambda: untaken(store)).items()
    assert (named, "a partition never changes" in reason) == (key, True)
    assert [log.status for log in b.provider.conflict_logs()] == [ConflictStatus.DEFERRED]

    b.set(key, drawer="boxes")
    sync(a, b)

    assert {box["text"] for box in b.says().values()} == {"changed"}
    assert store.read(lambda: untaken(store)) == {}


BOXES, LABELS = st.sampled_from("abcdmn"), st.sampled_from("abcdxyz")
EDITS = st.one_of(
    st.tuples(st.just("label"), BOXES, LABELS),
    st.tuples(st.just("swap"), BOXES, BOXES),
    st.tuples(st.just("text"), BOXES, st.sampled_from("123")),
    st.tuples(st.just("drawer"), BOXES, st.sampled_from(("boxes", "attic"))),
    st.tuples(st.sampled_from(("remove", "prepare", "sync")), BOXES, st.none()),
)


def edit(site, what, name, value):
    """Let the application do something to the box of a name, which is made where there is none."""
    with site.db.transaction() as connection:
        shelf = connection.root()[KEY]
        boxes = {box.name: box for box in shelf.values()}
        box, other, told = boxes.get(name), boxes.get(value), set()
        if what == "label" and value not in shelf:
            if box is None:
                box = Box(name)
            else:
                told.add(box.label)
                del shelf[box.label]
            box.label, shelf[value] = value, box
        elif box is not None and what == "swap" and other is not None:
            box.label, other.label = other.label, box.label
            shelf[box.label], shelf[other.label] = box, other
            told.add(other.label)
        elif box is not None and what == "remove":
            del shelf[box.label]
        elif box is not None and what in ("text", "drawer"):
            setattr(box, what, value)
        if box is not None:
            told.add(box.label)
        SyncManager.get(connection.root()).record(
            [ActionWrapper(0, key, {DATA_CHANGED}) for key in sorted(told)]
        )


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EDITS, min_size=3, max_size=14))
def test_whatever_one_site_does_to_its_objects_the_other_comes_to_have_the_same(edits):
    with ExitStack() as stack:
        a, b = two(stack)
        fill(a, b)
        for what, name, value in [*edits, ("sync", "", None)]:
            if what == "prepare":
                a.provider.prepare()
            elif what == "sync":
                there = a.says()
                sync(a, b)
                sync(a, b)
                assert a.says() == b.says() == there
            else:
                edit(a, what, name, value)


WORDS = {
    "set": st.sampled_from(("1", "2", "bad")),
    "remove": st.none(),
    "move": st.sampled_from(("boxes", "attic")),
    "upon": st.sampled_from((None, *NAMES)),
    "sync": st.booleans(),
}


def operations(*words):
    """Draw what happens: a word, at which site, to which box, and a value."""
    one = [st.tuples(st.just(w), st.sampled_from("ab"), st.sampled_from(NAMES), WORDS[w]) for w in words]
    return st.lists(st.one_of(*one), min_size=4, max_size=16)


def played(happens):
    """Return what two sites come to that do all this."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        a, b = two(stack)
        fill(a, b)
        both = {"a": a, "b": b}
        for what, where, name, value in happens:
            site = both[where]
            if what == "sync":
                patch.setattr(Box, "refused", "bad" if value else "")
                sync(a, b, where)
            elif name not in site.says():
                site.add(name)
            elif what == "remove":
                site.remove(name)
            else:
                site.set(name, **{{"set": "text", "upon": "upon", "move": "drawer"}[what]: value})
        patch.setattr(Box, "refused", "")
        for _ in range(2):
            sync(a, b)
        return a.state(), b.state()


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations(*WORDS))
def test_any_changes_come_to_the_same_one_by_one_and_at_once(happens):
    at_once = played(happens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(successors, "hold_successors", lambda node, states, repeated: {})
        assert played(happens) == at_once


def without_stamps(sites):
    """Return what sites have come to, but for when each of several changes was taken: that has no order."""
    return [(says, [item[:2] for item in items], *rest) for says, items, *rest in sites]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations("set", "remove", "move", "sync"))
def test_any_edits_are_taken_one_by_one_and_at_once_alike(happens):
    """What depends on what was moved would tell in which order several changes were taken."""
    at_once = played(happens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_changed", lambda node, drafts: {})
        assert without_stamps(played(happens)) == without_stamps(at_once)


def test_many_edits_of_what_is_known_are_written_at_once_as_own_writes(sites, monkeypatch):
    a, _ = sites
    fill(*sites)
    before = {item.item_id: item for item in a.provider.items()}
    for name in NAMES:
        a.set(name, text="changed")
    monkeypatch.setattr(writing, "write", None)  # nothing is written one by one

    a.provider.prepare()

    store, items = a.provider.data_store, a.provider.items()
    stamps = sorted(item.dot[1] for item in items)
    assert len(set(stamps)) == len(NAMES)
    assert stamps[0] > max(item.dot[1] for item in before.values())
    assert store.read(lambda: store.own_stamp) == stamps[-1]
    assert store.read(lambda: all(store.has_written(item.item_id, item.dot[1]) for item in items))
    assert all(item.inserted == before[item.item_id].inserted for item in items)
    assert {item.vector["a"] for item in items} == set(stamps)
    assert a.provider.reader.gather(a.provider.node) == 0
