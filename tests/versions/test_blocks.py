"""Records of versions, many to an object."""

from BTrees.LOBTree import LOBTree
from hypothesis import given
from hypothesis import strategies as st

from livesync.versions.store.blocks import Records
from livesync.versions.store.records import Record

#: Near the places where blocks begin and are united, on two lines.
KEYS = st.builds(lambda line, place: line << 32 | place, st.integers(0, 1), st.integers(0, 300))


def id_of(number):
    return number.to_bytes(32, "big")


def record(number, *parents):
    """A record that follows the one before it, or others; some have metadata."""
    metadata = {"at": number} if number % 7 == 0 else {}
    parents = tuple(map(id_of, parents or (number,)))
    return Record(
        id_of(number + 1), parents, number, "ada", number, "why", metadata, id_of(2), id_of(3), (0, number, 0)
    )


def read(records, keys):
    portions = records.read(keys)
    return dict(pair for one in portions for pair in zip(one.keys, one.records(), strict=True))


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=60), st.lists(st.integers(1, 300), max_size=2))
def test_records_are_those_of_a_plain_mapping(steps, runs):
    records, model = Records(LOBTree()), {}
    for run in runs:
        for key in range(run):  # as versions are made
            model[key] = record(key)
            records[key] = model[key].packed()
    for key, is_kept in steps:
        if is_kept:
            model[key] = record(key & 0xFFFF, 5, 6)
            records[key] = model[key].packed()
        elif key in model:
            del model[key], records[key]
    assert {key: records.record(key) for key in records} == model
    assert dict(records.items()) == {key: one.packed() for key, one in model.items()}
    assert list(records) == sorted(model)
    assert len(records) == len(model)
    downwards = range(300, -1, -1)
    assert list(read(records, downwards)) == [key for key in downwards if key in model]
    for chosen in list(model), sorted(model, reverse=True), sorted(model)[::50]:
        assert read(records, chosen) == {key: model[key] for key in chosen}
    assert [key in records for key in downwards] == [key in model for key in downwards]


def test_many_records_lie_in_few_objects():
    blocks = LOBTree()
    records = Records(blocks)
    for key in range(1_000):
        records[key] = record(key).packed()
    assert len(blocks) == 1_000 // 64 + (1_000 % 64 + 15) // 16


def test_a_record_costs_no_more_than_a_small_block():
    blocks = LOBTree()
    records = Records(blocks)
    for key in range(1_000):
        records[key] = record(key).packed()
        assert key % 64 == 63 or len(blocks[blocks.maxKey()].data) <= 16 * len(record(key).packed())
