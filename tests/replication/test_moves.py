"""Moves in applications: an object whose partition changes is another item, and one object all the same."""

import itertools

import pytest
from support.mapped import Application, MappedHost, sync


class Drawers(MappedHost):
    """Documents by id, each in a drawer: its partition."""

    def sync_partition(self, obj):
        return obj["drawer"]


class Office(Application):
    def __init__(self, name, clock, max_num):
        super().__init__(name, Drawers(), max_num=max_num, clock=clock)

    def write(self, object_id, **values):
        super().write(object_id, **({"drawer": "A"} | self.documents().get(object_id, {}) | values))

    def documents(self):
        return super().holds()

    def holds(self):
        return {key: (obj["drawer"], obj.get("text")) for key, obj in self.documents().items()}

    def items(self):
        return [(state.partition, state.item_id) for state in self.provider.items()]


@pytest.fixture(params=[1, 500], ids=["one in a chunk", "all in a chunk"])
def offices(request):
    now = itertools.count(2_000_000_000)
    made = [Office(name, lambda: next(now), request.param) for name in "abc"]
    yield made
    for office in made:
        office.close()


def exchange(*offices):
    for _ in range(3):
        for one, other in itertools.combinations(offices, 2):
            sync(one, other)


def test_an_object_that_moved_is_moved_and_not_removed_elsewhere(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    sync(a, b)
    a.write("x", drawer="B")
    sync(a, b)

    assert a.holds() == b.holds() == {"x": ("B", "hello")}
    assert a.items() == b.items()
    assert len(a.items()) == 1
    assert b.documents()["x"]["text"] == "hello"
    assert a.provider.conflict_logs() == b.provider.conflict_logs() == []
    assert b.provider.data_store.read(lambda: list(b.provider.data_store.tables.displaced)) == []


def test_it_may_move_back(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    for drawer in "BAB":
        sync(a, b)
        a.write("x", drawer=drawer)
    sync(a, b)
    b.write("x", drawer="A", text="home")
    sync(a, b)

    assert a.holds() == b.holds() == {"x": ("A", "home")}
    assert a.items() == b.items()


def test_what_moves_out_of_a_filter_is_gone_there_and_what_moves_in_comes(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    a.write("y", drawer="B", text="there")
    sync(a, b, prefixes=("A",))
    assert b.holds() == {"x": ("A", "hello")}
    a.write("x", drawer="B")
    a.write("y", drawer="A")
    sync(a, b, prefixes=("A",))

    assert b.holds() == {"y": ("A", "there")}


def test_a_move_beats_an_edit_in_the_old_place_and_the_edit_is_kept(offices):
    a, b, _ = offices
    a.write("x", text="hello")
    sync(a, b)
    a.write("x", drawer="B")
    b.write("x", text="edited")
    exchange(a, b)

    assert a.holds() == b.holds() == {"x": ("B", "hello")}
    logs = [*a.provider.conflict_logs(), *b.provider.conflict_logs()]
    assert any("edited" in log.item_change_loser.serialization_result.serialized_item for log in logs)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_two_that_move_one_object_apart_agree_on_the_later_move(offices, order):
    a, b, c = offices
    a.write("x", text="hello")
    exchange(a, b, c)
    a.write("x", drawer="B")
    sync(a, c)
    b.write("x", drawer="C", text="moved by b")
    exchange(*(offices[number] for number in order))

    assert a.holds() == b.holds() == c.holds() == {"x": ("C", "moved by b")}
    assert a.items() == b.items() == c.items()
    assert len(a.items()) == 1
    logs = [log for office in offices for log in office.provider.conflict_logs()]
    assert any('"drawer":"B"' in log.item_change_loser.serialization_result.serialized_item for log in logs)


def test_after_two_moves_it_can_be_removed_and_stays_away(offices):
    a, b, c = offices
    a.write("x", text="hello")
    exchange(a, b, c)
    a.write("x", drawer="B")
    b.write("x", drawer="C")
    exchange(a, b, c)
    a.remove("x")
    exchange(a, b, c)

    assert a.holds() == b.holds() == c.holds() == {}
    assert a.items() == b.items() == c.items() == []
