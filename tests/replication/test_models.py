"""SyncableModel: the application's own classes, dependencies between them, and what cannot be applied."""

from typing import ClassVar

import pytest
from support.mapped import KEY, Application, MappedHost, sync

from livesync.action import CREATED
from livesync.errors import UsageError
from livesync.replication import (
    ConflictStatus,
    ConflictType,
    EventsManager,
    ModelRegistry,
    SyncableModel,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
)
from livesync.replication.models.model import calculate_item_id
from livesync.replication.sessions import newcomers
from livesync.replication.untaken import untaken


class Author(SyncableModel):
    sync_profile, model_name = "books", "author"

    def __init__(self, name):
        self.name = name

    def calculate_source_id(self):
        return self.name

    def calculate_partition(self):
        return f"authors:{self.ID_PLACEHOLDER}"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]

    def sync_key(self, item_id):
        return f"author-{self.name}"


class Book(SyncableModel):
    sync_profile, model_name = "books", "book"
    model_dependencies = ("author",)
    fields_not_to_serialize = ("seen",)

    def __init__(self, title, author, tags=()):
        self.title, self.author, self.tags, self.seen = title, author, list(tags), 0

    def calculate_source_id(self):
        return self.title

    def calculate_partition(self):
        return "books"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]

    def sync_key(self, item_id):
        return f"book-{self.title}"

    @classmethod
    def deserialize(cls, data, current=None):
        if data["title"] == "forbidden" and Book.is_strict:
            raise ValueError("no such title here")
        found = super().deserialize(data, current)
        found.__dict__.setdefault("seen", 0)
        return found

    @classmethod
    def dependencies(cls, data):
        yield calculate_item_id(f"authors:{data['author']}", data["author"], "author")

    @classmethod
    def merge_conflict(cls, current, incoming, base=None):
        if current["author"] != incoming["author"]:
            return None
        return {**current, "tags": sorted({*current["tags"], *incoming["tags"]})}

    is_strict = False


class Note(SyncableModel):
    """A model whose objects may have any id."""

    sync_profile, model_name = "books", "note"

    def __init__(self, text):
        self.text = text

    def calculate_partition(self):
        return f"notes:{self.ID_PLACEHOLDER}"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]


MODELS = (Book, Author, Note)


class Shelf(MappedHost):
    """Objects of models, each under a key of its own."""

    def object_id(self, obj):
        objects = obj._p_jar.root()[KEY] if obj._p_jar else self.objects
        return next(key for key, value in objects.items() if value is obj)

    def iter_ids(self, after=None):
        return iter(self.objects.keys(after, excludemin=after is not None))

    def document(self, obj, audience="public"):
        return obj.serialize()


class Library(Application):
    def __init__(self, name, models, clock):
        super().__init__(name, Shelf(), models, max_num=1, clock=clock)

    def add(self, key, obj):
        self.change(key, lambda shelf: shelf.__setitem__(key, obj), CREATED)

    def set(self, key, **values):
        self.change(
            key, lambda shelf: shelf[key].__dict__.update(values) or setattr(shelf[key], "_p_changed", 1)
        )

    def holds(self):
        with self.db.transaction() as connection:
            return {key: obj.serialize() for key, obj in connection.root()[KEY].items()}


@pytest.fixture
def libraries(monkeypatch):
    monkeypatch.setattr(Book, "is_strict", False)
    now = iter(range(2_000_000_000, 2_100_000_000))
    made = []

    class Two(list):
        """Two libraries, and whatever others are asked for, with one clock."""

        def more(self, name, models=MODELS):
            made.append(Library(name, models, lambda: next(now)))
            return made[-1]

    yield Two(Library(name, MODELS, lambda: next(now)) for name in "ab")
    for library in made:
        library.close()


def test_objects_of_models_travel_without_the_fields_that_stay(libraries):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    a.add("book-One", Book("One", "Ann"))
    a.set("book-One", seen=7)
    sync(a, b)

    assert b.holds() == a.holds()
    with b.db.transaction() as connection:
        assert connection.root()[KEY]["book-One"].seen == 0
    b.set("book-One", tags=["new"], seen=3)
    sync(a, b)
    assert a.holds()["book-One"]["tags"] == ["new"]
    with a.db.transaction() as connection:
        assert connection.root()[KEY]["book-One"].seen == 7


def test_a_removal_travels_and_what_was_removed_may_come_back(libraries):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    sync(a, b)
    b.remove("author-Ann")
    sync(a, b)
    assert a.holds() == b.holds() == {}
    a.add("author-Ann", Author("Ann"))
    sync(a, b)

    assert b.holds() == {"author-Ann": {"name": "Ann"}}
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []


def test_two_nodes_that_create_the_same_object_agree(libraries):
    a, b = libraries
    for library in libraries:
        library.add("author-Ann", Author("Ann"))
    sync(a, b)

    assert len(a.provider.items()) == 1
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []


def test_objects_without_a_source_id_get_a_random_one_that_stays(libraries):
    a, b = libraries
    a.add("x", Note("hello"))
    sync(a, b)
    (item,) = a.provider.items()
    assert b.holds() == {item.item_id: {"text": "hello"}}
    assert item.partition == f"notes:{item.item_id}"
    b.set(item.item_id, text="changed there")
    sync(a, b)

    assert a.holds() == {"x": {"text": "changed there"}}
    assert len(a.provider.items()) == 1


def test_a_child_is_applied_after_its_parent_and_a_missing_one_defers_it(libraries):
    a, b = libraries
    a.add("book-One", Book("One", "Ann"))
    sync(a, b)
    assert b.holds() == {}
    (log,) = b.provider.conflict_logs()
    assert (log.conflict_type, log.status) == (ConflictType.EXCEPTION_OCCURRED, ConflictStatus.DEFERRED)
    assert "MissingDependency" in log.reason
    assert log.item_change_winner is None

    a.add("author-Ann", Author("Ann"))
    sync(a, b)
    assert b.holds() == a.holds()
    (log,) = b.provider.conflict_logs()
    assert log.status is ConflictStatus.RESOLVED
    assert log.resolved_at is not None


def test_what_is_deferred_is_relayed_all_the_same(libraries):
    a, b = libraries
    c = libraries.more("c")
    a.add("book-One", Book("One", "Ann"))
    sync(a, b)
    c.add("author-Ann", Author("Ann"))
    sync(b, c, "b")

    assert "book-One" in c.holds()
    assert "book-One" in b.holds()


def test_what_raises_is_deferred_with_its_stack_trace_and_retried(libraries, monkeypatch):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    a.add("book-forbidden", Book("forbidden", "Ann"))
    a.add("book-Other", Book("Other", "Ann"))
    monkeypatch.setattr(Book, "is_strict", True)
    sync(a, b)

    assert sorted(b.holds()) == ["author-Ann", "book-Other"]
    (log,) = b.provider.conflict_logs()
    assert log.reason == "ValueError: no such title here"
    assert "Traceback" in log.description
    assert "deserialize" in log.description
    batch = b.provider.get_deferred_changes(a.provider.get_vector_clock().__class__())
    assert [change.serialization_result.item_id for change in batch.item_changes] == [
        log.item_change_loser.serialization_result.item_id
    ]
    sync(a, b)
    assert len(b.provider.conflict_logs()) == 1  # failing again adds nothing

    monkeypatch.setattr(Book, "is_strict", False)
    sync(a, b)
    assert b.holds() == a.holds()
    assert b.provider.conflict_logs()[0].status is ConflictStatus.RESOLVED


class Telling(EventsManager):
    """Is told."""


def test_what_raises_within_a_larger_transaction_is_deferred_alone(libraries, monkeypatch):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    a.add("book-forbidden", Book("forbidden", "Ann"))
    a.add("book-Other", Book("Other", "Ann"))
    a.provider.prepare()
    offer = a.provider.offer(("",), b.provider.get_claims(("",)))
    b.provider.begin(offer)
    monkeypatch.setattr(Book, "is_strict", True)
    told = []
    for name in ("on_item_change_applied", "on_exception"):
        monkeypatch.setattr(Telling, name, lambda self, what: told.append(what))
    b.provider.events_manager = Telling()

    def work():
        b.provider.receive(offer, a.provider.read(offer, size=10))
        assert told == []  # it may still be taken back

    with pytest.raises(ZeroDivisionError):
        b.provider.data_store.run(lambda: (work(), 1 / 0))
    before = b.holds(), len(b.provider.conflict_logs()), list(told)
    b.provider.data_store.run(work)

    assert before == ({}, 0, [])
    assert sorted(b.holds()) == ["author-Ann", "book-Other"]
    (log,) = b.provider.conflict_logs()
    assert log.reason == "ValueError: no such title here"
    assert len(told) == 4  # what came of three items, and what was wrong with one


def test_an_edit_of_what_is_deferred_is_a_conflict_with_it(libraries, monkeypatch):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    a.add("book-forbidden", Book("forbidden", "Ann", ["0"]))
    sync(a, b)
    monkeypatch.setattr(Book, "is_strict", True)
    a.set("book-forbidden", tags=["of a"])
    sync(a, b)
    b.set("book-forbidden", tags=["of b"])
    monkeypatch.setattr(Book, "is_strict", False)
    sync(a, b)
    sync(a, b)

    assert a.holds() == b.holds()
    logs = [*a.provider.conflict_logs(), *b.provider.conflict_logs()]
    losers = [log.item_change_loser.serialization_result.serialized_item for log in logs]
    tags = a.holds()["book-forbidden"]["tags"]
    assert tags in (["of a"], ["of b"])
    lost = "of a" if tags == ["of b"] else "of b"
    assert any(lost in loser for loser in losers)


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_models_own_merge_unites_both_on_any_path_and_is_no_conflict(libraries, first):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    a.add("book-One", Book("One", "Ann"))
    sync(a, b)
    a.set("book-One", tags=["a"])
    b.set("book-One", tags=["b"])
    sync(a, b, first)
    sync(a, b, first)

    assert a.holds() == b.holds()
    assert a.holds()["book-One"]["tags"] == ["a", "b"]
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []
    assert [len(session.item_changes) for session in sync(a, b)] == [0, 0]


def test_two_nodes_that_merge_the_same_pair_get_the_same(libraries):
    a, b = libraries
    c, d = libraries.more("c"), libraries.more("d")
    a.add("author-Ann", Author("Ann"))
    a.add("book-One", Book("One", "Ann"))
    for one, other, first in ((a, b, "a"), (a, c, "a"), (b, d, "b")):
        sync(one, other, first)
    a.set("book-One", tags=["a"])
    b.set("book-One", tags=["b"])
    sync(a, c)
    sync(b, d, "b")
    sync(a, b)
    sync(c, d, "c")  # the same pair meets again
    for one, other, first in ((a, c, "a"), (b, d, "b"), (a, b, "a"), (c, d, "c")):
        sync(one, other, first)

    assert a.holds() == b.holds() == c.holds() == d.holds()
    assert a.holds()["book-One"]["tags"] == ["a", "b"]
    assert a.provider.items() == d.provider.items()


def test_what_no_merge_can_unite_goes_by_rank_and_is_logged(libraries):
    a, b = libraries
    for name in ("Ann", "Bob", "Cy"):
        a.add(f"author-{name}", Author(name))
    a.add("book-One", Book("One", "Ann"))
    sync(a, b)
    a.set("book-One", author="Bob")
    b.set("book-One", author="Cy")
    sync(a, b)

    assert a.holds() == b.holds()
    assert len([*a.provider.conflict_logs(), *b.provider.conflict_logs()]) == 1


def test_an_unknown_model_is_held_and_said_to_be_unknown(libraries):
    a, _ = libraries
    old = libraries.more("old", (Author,))
    a.add("author-Ann", Author("Ann"))
    a.add("book-One", Book("One", "Ann"))
    sync(a, old)

    assert sorted(old.holds()) == ["author-Ann"]
    assert "no model 'book'" in old.provider.conflict_logs()[0].reason
    assert len(old.provider.items()) == 2


def test_an_object_that_moves_to_another_partition_becomes_another_item(libraries, monkeypatch):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    sync(a, b)
    (before,) = a.provider.items()
    monkeypatch.setattr(Author, "calculate_partition", lambda self: "elsewhere")
    a.set("author-Ann", born=1900)
    sync(a, b)

    (after,) = b.provider.items()
    assert (after.partition, after.item_id == before.item_id) == ("elsewhere", False)
    assert b.holds() == a.holds() == {"author-Ann": {"name": "Ann", "born": 1900}}


def test_what_is_erased_is_gone_from_the_application_and_stays_closed(libraries):
    a, b = libraries
    a.add("author-Ann", Author("Ann"))
    sync(a, b)
    (item,) = a.provider.items()
    a.provider.erase(item.item_id)
    sync(a, b)
    assert a.holds() == b.holds() == {}
    b.add("author-Ann", Author("Ann"))
    sync(a, b)

    assert a.holds() == {}
    assert a.provider.items() == b.provider.items() == []
    with pytest.raises(LookupError):
        a.provider.erase("nothing")


def nameless():
    class Nameless(SyncableModel):
        sync_profile, model_name = "books", ""

    return Nameless


def depending(*names):
    class Depending(SyncableModel):
        sync_profile, model_name, model_dependencies = "books", "depending", names

    return Depending


def foreign():
    class Foreign(SyncableModel):
        sync_profile, model_name = "films", "film"

    return Foreign


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ([object], "no SyncableModel"),
        ([nameless()], "needs a model_name"),
        ([Author, Author], "two models 'author'"),
        ([depending("nothing")], "not registered"),
        ([depending("depending")], "in a circle"),
        ([Author, foreign()], "several profiles"),
    ],
)
def test_models_that_make_no_sense_are_refused_when_they_are_registered(models, reason):
    with pytest.raises(UsageError, match=reason):
        ModelRegistry(models)


def test_a_model_without_a_name_is_not_synced():
    class Quiet(Author):
        model_name = None

    assert list(ModelRegistry([Quiet, Author])) == [Author]


def test_what_has_an_empty_source_id_does_not_travel_and_is_named(libraries):
    a, b = libraries
    a.add("author-", Author(""))
    a.add("author-ann", Author("ann"))
    there, _ = SyncOrchestrator(SyncLock(), [a.provider, b.provider], 1e9).run()

    assert there.status is SyncSessionStatus.FINISHED
    assert len(b.provider.items()) == 1
    store = a.provider.data_store
    assert store.read(lambda: untaken(store)) == {"author-": "ValueError: Author: a source id is not empty"}


class Card(SyncableModel):
    """A model whose fields are merged by three: who changed one since both were the same, wins it."""

    sync_profile, model_name, keeps_base = "books", "card", True
    bases: ClassVar[list] = []

    def __init__(self, name, **fields):
        self.name, self.fields = name, fields

    def calculate_source_id(self):
        return self.name

    def calculate_partition(self):
        return "cards"

    def sync_key(self, item_id):
        return f"card-{self.name}"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]

    @classmethod
    def merge_conflict(cls, current, incoming, base=None):
        cls.bases.append(base)
        if base is None:
            return None
        mine, theirs, before = current["fields"], incoming["fields"], base["fields"]
        merged = {}
        for name in mine.keys() | theirs.keys():
            values = [found.get(name) for found in (mine, theirs)]
            changed = [value for value in values if value != before.get(name)]
            merged[name] = max(changed, key=str) if changed else before.get(name)
        return {**current, "fields": merged}


@pytest.fixture
def cards(libraries):
    Card.bases.clear()
    a, b = (libraries.more(name, (Card,)) for name in "ab")
    a.add("card-x", Card("x", title="old", place="old"))
    sync(a, b)
    return a, b


@pytest.mark.parametrize("first", ["a", "b"])
def test_fields_that_each_changed_are_both_kept_by_a_merge_that_knows_what_both_come_from(cards, first):
    a, b = cards
    a.set("card-x", fields={"title": "of a", "place": "old"})
    a.set("card-x", fields={"title": "again of a", "place": "old"})
    b.set("card-x", fields={"title": "old", "place": "of b"})
    sync(a, b, first)
    sync(a, b, first)

    assert a.holds()["card-x"]["fields"] == {"title": "again of a", "place": "of b"}
    assert a.holds() == b.holds()
    assert Card.bases == [{"name": "x", "fields": {"title": "old", "place": "old"}}]
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []


def test_the_base_is_the_last_version_that_both_have_seen(cards):
    a, b = cards
    for number in range(3):
        a.set("card-x", fields={"title": f"{number}", "place": "old"})
        sync(a, b)
    a.set("card-x", fields={"title": "2", "place": "of a"})
    b.set("card-x", fields={"title": "of b", "place": "old"})
    sync(a, b)

    assert a.holds() == b.holds()
    assert a.holds()["card-x"]["fields"] == {"title": "of b", "place": "of a"}
    assert Card.bases == [{"name": "x", "fields": {"title": "2", "place": "old"}}]


def test_few_versions_are_kept_and_none_of_what_was_erased_or_of_models_that_do_not_ask(cards, libraries):
    a, b = cards
    for number in range(20):
        a.set("card-x", fields={"title": f"{number}"})
        sync(a, b)
    kept = a.provider.data_store.read(
        lambda: {key: len(found) for key, found in a.provider.data_store.tables.bases.items()}
    )
    assert list(kept.values()) == [5]
    a.provider.erase(next(iter(kept)))
    sync(a, b)

    for provider in (a.provider, b.provider):
        store = provider.data_store
        assert store.read(lambda store=store: list(store.tables.bases)) == []
    one, other = libraries
    one.add("author-Ann", Author("Ann"))
    sync(one, other)
    one.set("author-Ann", born=1900)
    sync(one, other)
    assert one.provider.data_store.read(lambda: list(one.provider.data_store.tables.bases)) == []


def test_two_that_were_made_at_once_have_no_base_and_go_by_rank(libraries):
    Card.bases.clear()
    a, b = (libraries.more(name, (Card,)) for name in "ab")
    a.add("card-x", Card("x", title="of a"))
    b.add("card-x", Card("x", title="of b"))
    sync(a, b)

    assert a.holds() == b.holds()
    assert Card.bases == [None]
    assert len([*a.provider.conflict_logs(), *b.provider.conflict_logs()]) == 1


class Paper(SyncableModel):
    """A model whose objects lie in drawers."""

    sync_profile, model_name = "books", "paper"

    def __init__(self, name, drawer):
        self.name, self.drawer = name, drawer

    def calculate_source_id(self):
        return self.name

    def calculate_partition(self):
        return self.drawer

    def sync_key(self, item_id):
        return f"paper-{self.name}"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]


@pytest.mark.parametrize("later", ["a", "b"])
@pytest.mark.parametrize("first", ["a", "b"])
def test_an_object_of_a_model_that_two_move_apart_ends_where_it_was_moved_last(libraries, first, later):
    papers = {name: libraries.more(name, (Paper,)) for name in "ab"}
    a, b = papers.values()
    a.add("paper-x", Paper("x", "old"))
    sync(a, b)
    earlier = papers["b" if later == "a" else "a"]
    earlier.set("paper-x", drawer="earlier")
    earlier.provider.prepare()
    papers[later].set("paper-x", drawer="later")
    papers[later].provider.prepare()
    for _ in range(3):
        sync(a, b, first)

    assert a.holds() == b.holds() == {"paper-x": {"name": "x", "drawer": "later"}}
    assert [state.partition for state in a.provider.items()] == ["later"]
    assert a.provider.items() == b.provider.items()


class Part(SyncableModel):
    """A part of another one of the same model."""

    sync_profile, model_name = "books", "part"

    def __init__(self, name, inside=None):
        self.name, self.inside = name, inside

    def calculate_source_id(self):
        return self.name

    def calculate_partition(self):
        return "parts"

    @classmethod
    def sync_home(cls, root):
        return root[KEY]

    @classmethod
    def dependencies(cls, data):
        if data["inside"] is not None:
            yield calculate_item_id("parts", data["inside"], "part")


def test_new_objects_are_made_at_once_and_may_depend_on_one_another(libraries, monkeypatch):
    a, b = libraries.more("one", (Part,)), libraries.more("two", (Part,))
    for number in range(30):
        inside = f"part {number - 1:02}" if number else None
        a.add(f"part {number:02}", Part(f"part {number:02}", inside))
    a.provider.prepare()
    set_up, at = [], MappedHost.at
    monkeypatch.setattr(MappedHost, "at", lambda *given: set_up.append(given) or at(*given))
    sync(a, b, "one")

    assert sorted(part["name"] for part in b.holds().values()) == sorted(a.holds())
    assert b.provider.conflict_logs() == []
    assert len(set_up) < 15
    store = b.provider.data_store
    bound = {
        state.item_id: store.read(lambda state=state: store.bound(state.item_id)[0])
        for state in b.provider.items()
    }
    assert set(bound.values()) == set(b.holds())
    assert all(store.read(lambda key=key: store.item_of(key)) == item for item, key in bound.items())


class Single(Part):
    """A model whose objects all have one key where they are received."""

    model_name = "single"

    def sync_key(self, item_id):
        return "the only one"


@pytest.mark.parametrize("at_once", [True, False])
def test_of_two_new_items_that_become_one_object_the_later_one_stays(libraries, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(newcomers, "hold_new", lambda node, ordered, repeated: {})
    a, b = libraries.more("one", (Single,)), libraries.more("two", (Single,))
    a.add("first", Single("first"))
    a.provider.prepare()
    a.add("second", Single("second"))
    for _ in range(2):
        sync(a, b, "one")

    assert {key: value["name"] for key, value in b.holds().items()} == {"the only one": "second"}
    assert [value["name"] for value in a.holds().values()] == ["second"]
    assert {state.item_id for state in a.provider.items()} == {state.item_id for state in b.provider.items()}
