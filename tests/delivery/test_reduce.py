from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livesync import ActionWrapper, Op
from livesync.delivery.reduce import cascading, count_unsent, reduce


def item(position: int, object_id: str, *words: str) -> tuple[int, ActionWrapper]:
    return position, ActionWrapper(float(position), object_id, words)


def test_one_record_an_object_with_all_its_actions_in_the_order_of_last_actions() -> None:
    data = [item(1, "a", "created"), item(2, "b", "created"), item(3, "a", "data_changed")]

    records = list(reduce(data, 9, attempted=-1))

    assert [(r.object_id, r.op, r.position, r.actions) for r in records] == [
        ("b", Op.UPSERT, 9, frozenset({"created"})),
        ("a", Op.UPSERT, 9, frozenset({"created", "data_changed"})),
    ]


def test_created_and_deleted_is_nothing_where_nothing_can_have_been_sent() -> None:
    data = [item(5, "a", "created"), item(6, "a", "data_changed"), item(7, "a", "deleted")]

    assert list(reduce(data, 9, attempted=4)) == []


def test_created_and_deleted_is_a_delete_where_the_creation_may_have_been_sent() -> None:
    data = [item(5, "a", "created"), item(7, "a", "deleted")]

    assert [r.op for r in reduce(data, 9, attempted=5)] == [Op.DELETE]
    assert [r.op for r in reduce(data, 9, attempted=None)] == [Op.DELETE]


def test_a_creation_and_deletion_that_an_undo_touches_is_never_left_out() -> None:
    data = [item(5, "a", "created"), item(6, "a", "undone"), item(7, "a", "deleted")]

    assert [r.op for r in reduce(data, 9, attempted=-1)] == [Op.DELETE]


def test_what_was_deleted_and_created_in_one_transaction_is_never_left_out() -> None:
    # under path ids another object may have been there before
    data = [item(5, "a", "created", "deleted"), item(7, "a", "deleted")]

    assert [r.op for r in reduce(data, 9, attempted=-1)] == [Op.DELETE]


def test_deleted_and_created_again_is_an_upsert() -> None:
    data = [item(5, "a", "deleted"), item(7, "a", "created")]

    assert [r.op for r in reduce(data, 9, attempted=-1)] == [Op.UPSERT]


def test_only_actions_that_reach_the_inside_cascade_once_an_object() -> None:
    data = [item(1, "a", "moved"), item(2, "b", "data_changed"), item(3, "a", "set_private", "data_changed")]

    assert cascading(data) == {"a": frozenset({"moved", "set_private"})}


words = st.sampled_from(["created", "data_changed", "deleted", "moved", "undone", "host.word"])
histories = st.lists(
    st.tuples(st.sampled_from("abc"), st.frozensets(words, min_size=1, max_size=3)), max_size=12
)


@given(histories, st.one_of(st.none(), st.integers(-1, 12)), st.floats(0, 12))
def test_each_object_has_the_record_that_its_own_actions_ask_for(
    history: list[tuple[str, frozenset[str]]], attempted: int | None, shown: float
) -> None:
    data = [item(number, object_id, *acts) for number, (object_id, acts) in enumerate(history)]

    records = list(reduce(data, 20, attempted, shown))

    alone = [
        reduce([each for each in data if each[1].object_id == object_id], 20, attempted, shown)
        for object_id in dict.fromkeys(reversed([object_id for object_id, _ in history]))
    ]
    assert records == [record for made in reversed(alone) for record in made]
    for record in records:
        own = [acts for object_id, acts in history if object_id == record.object_id]
        assert record.actions == frozenset().union(*own)
        gone = "deleted" in own[-1] and "created" not in own[-1]
        assert record.op is (Op.DELETE if gone else Op.UPSERT)


@given(histories, st.integers(-1, 12))
def test_the_counts_add_up_to_what_was_read(
    history: list[tuple[str, frozenset[str]]], attempted: int
) -> None:
    data = [item(number, object_id, *acts) for number, (object_id, acts) in enumerate(history)]

    sent = [record.object_id for record in reduce(data, 20, attempted)]
    coalesced, cancelled = count_unsent(data, set(sent))

    assert len(sent) == len(set(sent))
    assert len(sent) + coalesced + cancelled == len(data)


@given(histories, st.integers(-1, 12))
def test_an_object_is_left_out_only_if_it_was_made_after_what_was_attempted_and_is_gone(
    history: list[tuple[str, frozenset[str]]], attempted: int
) -> None:
    data = [item(number, object_id, *acts) for number, (object_id, acts) in enumerate(history)]

    left_out = {action.object_id for _, action in data} - {r.object_id for r in reduce(data, 20, attempted)}

    for object_id in left_out:
        own = [(position, action.actions) for position, action in data if action.object_id == object_id]
        assert own[0][0] > attempted
        assert "created" in own[0][1]
        assert "deleted" in own[-1][1]
        assert not any("undone" in acts for _, acts in own)
