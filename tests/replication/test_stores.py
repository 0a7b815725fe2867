"""What every data store does: one suite for all."""

from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.sync_world import STORES, make_layers_small

from livesync.errors import UpgradeNeeded
from livesync.peering.partitions import contains
from livesync.replication.metadata.states import written
from livesync.replication.stored import pack, unpack
from livesync.replication.stores import bulk
from livesync.replication.stores.zodbstore import ZODBDataStore


def state(item_id="i", partition="F1", vector=None, payload="1"):
    vector = vector or {"a": 1}
    provider, stamp = max(vector.items(), key=lambda pair: pair[1])
    made = written(None, item_id, "thing", partition, payload, (provider, stamp))
    return type(made)(**{name: getattr(made, name) for name in made.__slots__} | {"vector": vector})


def put(store, *states):
    def work():
        for one in states:
            store.put(one, store.get(one.item_id))

    store.run(work)


def scanned(store, *arguments, **options):
    return store.read(lambda: [key[2] for key in store.scan(*arguments, **options)])


@contextmanager
def begun_store(kind):
    """Give a new store of a kind, which is begun; for properties, which have no fixtures."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "zodb, layers":
            make_layers_small(patch)
        store = STORES[kind.split(",")[0]]()
        store.run(lambda: store.begin("me"))
        try:
            yield store
        finally:
            if hasattr(store, "db"):
                store.db.close()


@pytest.fixture
def store(new_store):
    made = new_store()
    made.run(lambda: made.begin("me"))
    return made


def test_an_item_is_what_was_put_last(store):
    put(store, state(payload="1"))
    put(store, state(payload="2", vector={"a": 5}))

    assert store.read(lambda: store.get("i").payload) == "2"
    assert store.read(lambda: store.get("other")) is None


def test_an_item_is_found_by_each_entry_whoever_made_its_content(store):
    """Its state lies with its maker; when that changes, so does where it lies."""
    versions = [
        written(None, "i", "thing", "F1", f'"{stamp}"', (provider, stamp))
        for provider, stamp in (("a", 1), ("b", 2), ("a", 3), ("c", 4))
    ]
    vector = {}
    for version in versions:
        vector = {**vector, **version.vector}
        put(store, replace(version, vector=vector))

        found = store.read(
            lambda: [
                state for provider in store.providers() for _, state in store.scan_states(provider, "", 0)
            ]
        )
        assert found == [replace(version, vector=vector)] * len(vector)
        assert store.read(lambda: store.get("i")) == found[0]


def test_an_item_may_say_a_lot(store):
    long = state(payload='"' + "long " * 10_000 + '"')
    put(store, long)

    assert store.read(lambda: (store.get("i"), list(store.items()))) == (long, [long])
    put(store, state(payload="1", vector={"a": 5}))
    assert store.read(lambda: store.get("i").payload) == "1"


def test_a_transaction_that_raises_leaves_nothing(store):
    put(store, state(vector={"a": 1}))

    def work():
        store.next_stamp(10)
        store.put(state(vector={"a": 2, "b": 3}), store.get("i"))
        store.absorb({"F1": {"b": 3}})
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.run(work)

    assert store.read(lambda: store.get("i").vector) == {"a": 1}
    assert store.read(store.claims) == {}
    assert store.read(lambda: store.own_stamp) == 0
    assert scanned(store, "a", "", 0) == ["i"]
    assert scanned(store, "b", "", 0) == []


def test_a_savepoint_can_be_gone_back_to(store):
    def work():
        store.put(state("kept"), None)
        savepoint = store.savepoint()
        store.put(state("dropped", vector={"z": 4}), None)
        store.put(state("kept", payload="changed"), store.get("kept"))
        savepoint.rollback()

    store.run(work)

    assert store.read(lambda: [one.item_id for one in store.items()]) == ["kept"]
    assert store.read(lambda: store.get("kept").payload) == "1"
    assert scanned(store, "z", "", 0) == []


def test_a_run_within_a_run_is_one_transaction(store):
    def work():
        store.run(lambda: store.put(state(), None))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.run(work)

    assert store.read(lambda: store.get("i")) is None


def test_every_entry_of_a_vector_leads_to_the_item(store):
    """Indexed by the newest write alone, what was overwritten is in nobody's range."""
    put(store, state(vector={"a": 1}))
    put(store, state(vector={"a": 1, "b": 2}))

    assert scanned(store, "a", "", 0) == ["i"]
    assert scanned(store, "b", "", 0) == ["i"]


def test_a_newer_entry_replaces_the_older_one(store):
    put(store, state(vector={"a": 1}))
    put(store, state(vector={"a": 7}))

    assert scanned(store, "a", "", 0) == ["i"]
    assert scanned(store, "a", "", 1) == ["i"]
    assert scanned(store, "a", "", 7) == []


def test_a_scan_is_of_a_prefix_and_ends_at_a_colon(store):
    for number, partition in enumerate(("F1", "F1:U1", "F10", "F1_", "F2", "")):
        put(store, state(f"i{number}", partition, {"a": number + 1}))

    assert scanned(store, "a", "F1", 0) == ["i0", "i1"]
    assert scanned(store, "a", "F1", 0, exact=True) == ["i0"]
    assert scanned(store, "a", "", 0, exact=True) == ["i5"]
    assert len(scanned(store, "a", "", 0)) == 6
    assert scanned(store, "nobody", "", 0) == []


def test_a_dropped_item_is_nowhere(store):
    put(store, state(vector={"a": 1, "b": 2}))
    store.run(lambda: store.drop(store.get("i")))

    assert store.read(lambda: list(store.items_of("thing"))) == []
    assert store.read(lambda: store.get("i")) is None
    assert scanned(store, "a", "", 0) == scanned(store, "b", "", 0) == []


@pytest.mark.parametrize("kind", [*sorted(STORES), "zodb, layers"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(("talk", "room", None)),
            st.integers(1, 5),
            st.sampled_from(("go on", "go back", "commit")),
        ),
        max_size=25,
    )
)
def test_the_items_of_a_model_are_found_by_themselves_whatever_became_of_them(kind, steps):
    held = {}
    with begun_store(kind) as store:
        while steps:
            end = next((n for n, step in enumerate(steps, 1) if step[3] != "go on"), len(steps))
            part, steps = steps[:end], steps[end:]

            def work(part=part, held=held):
                found = dict(held)
                savepoint = store.savepoint()
                for item_id, model, stamp, _ in part:
                    before = store.get(item_id)
                    found.pop(item_id, None)
                    if model is not None:
                        made = written(None, item_id, model, "F1", "1", ("a", stamp))
                        found[item_id] = made
                        store.put(made, before)
                    elif before is not None:
                        store.drop(before)
                if part[-1][3] == "go back":
                    savepoint.rollback()
                    return held
                return found

            held = store.run(work)
            for model in ("talk", "room", "none"):
                expected = [one for one in held.values() if one.entity_name == model]
                found = store.read(lambda model=model: list(store.items_of(model)))
                assert sorted(found, key=_by_id) == sorted(expected, key=_by_id)
            assert store.read(lambda: list(store.items())) == sorted(held.values(), key=_by_id)


def _by_id(one):
    return one.item_id


def test_the_items_of_a_model_come_in_the_order_in_which_they_arrived(store):
    later, sooner, other = (
        state("a", vector={"a": 9}),
        state("z", vector={"a": 5}),
        state("m", vector={"a": 7}),
    )
    put(store, later, sooner)
    put(store, other)
    newer = state("a", vector={"a": 12})
    store.run(lambda: store.put(newer, store.get("a")))

    assert store.read(lambda: list(store.items_of("thing"))) == [newer, sooner, other]


@pytest.mark.parametrize("kind", [*sorted(STORES), "zodb, layers"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(("F1", "F1:U1", "F2")),
            st.dictionaries(st.sampled_from(("a", "b", "me")), st.integers(1, 9), min_size=1),
            st.sampled_from(("1", None, "x" * 3_000)),
        ),
        max_size=12,
    ),
    first=st.integers(0, 12),
)
def test_what_is_new_is_held_alike_one_by_one_and_at_once(kind, items, first):
    states = [
        state(f"i{number}", partition, vector, f'"{payload}"')
        for number, (partition, vector, payload) in enumerate(items)
    ]
    states = [one if items[n][2] is not None else replace(one, length=2) for n, one in enumerate(states)]
    found = []
    for at_once in (False, True):
        with begun_store(kind) as store:
            put(store, *states[:first])
            if at_once:
                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(bulk, "_AT_ONCE", 5)
                    store.run(lambda store=store: bulk.put_new(store, iter(states[first:])))
            else:
                put(store, *states[first:])
            found.append(store.read(lambda store=store: all_that_is_held(store)))
    assert found[0] == found[1]
    assert [each.item_id for each in found[0]["items"]] == sorted(f"i{n}" for n in range(len(items)))


@pytest.mark.parametrize("kind", [*sorted(STORES), "zodb, layers"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(("F1", "F1:U1", "F2")),
            st.dictionaries(st.sampled_from(("a", "b", "me")), st.integers(1, 9), min_size=1),
            st.dictionaries(st.sampled_from(("a", "b", "c")), st.integers(10, 19), min_size=1),
            st.sampled_from(("1", "x" * 3_000)),
            st.sampled_from(("2", "y" * 3_000)),
        ),
        max_size=12,
    ),
    apart=st.integers(0, 12),
)
def test_what_is_newer_is_held_alike_one_by_one_and_at_once(kind, items, apart):
    pairs = []
    for number, (partition, vector, more, payload, newer) in enumerate(items):
        before = state(f"i{number}", partition, vector, f'"{payload}"')
        home, stamp = max(more.items(), key=lambda pair: pair[1])
        after = written(before, before.item_id, "thing", partition, f'"{newer}"', (home, stamp))
        pairs.append((replace(after, vector={**vector, **more}), before))
    found = []
    for at_once in (False, True):
        with begun_store(kind) as store:
            put(store, *(before for _, before in pairs))
            put(store, *(after for after, _ in pairs[:apart]))
            if at_once:
                store.run(lambda store=store: bulk.put_newer(store, pairs[apart:]))
            else:
                put(store, *(after for after, _ in pairs[apart:]))
            found.append(store.read(lambda store=store: all_that_is_held(store)))
    assert found[0] == found[1]
    assert found[0]["items"] == sorted((after for after, _ in pairs), key=lambda one: one.item_id)


def all_that_is_held(store):
    tables = store.tables
    return {
        "items": list(store.items()),
        "index": {p: list(tables.index[p].items(("", 0, ""), None)) for p in tables.index},
        "entities": list(store.items_of("thing")),
        "digests": {prefix: store.digest(prefix) for prefix in ("", "F1", "F1:U1", "F2")},
        "tombstones": list(tables.tombstones),
        "issued": {p: dict(tables.issued[p]) for p in tables.issued},
    }


def test_a_store_of_a_schema_that_was_never_released_is_refused():
    store = STORES["zodb"]()
    store.run(lambda: setattr(store.tables, "schema", 1))

    with pytest.raises(UpgradeNeeded, match="begin anew"):
        ZODBDataStore(store.db)
    store.db.close()


ITEMS = st.lists(
    st.tuples(
        st.sampled_from(("F1", "F1:U1", "F10", "F2", "F1:U1:x")),
        st.dictionaries(st.sampled_from("ab"), st.integers(1, 9), min_size=1),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", sorted(STORES))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=ITEMS,
    prefix=st.sampled_from(("", "F1", "F1:U1", "F2")),
    after=st.integers(0, 9),
    cut=st.integers(0, 5),
)
def test_a_scan_finds_what_looking_at_everything_finds(kind, items, prefix, after, cut):
    with begun_store(kind) as store:
        states = [state(f"i{number}", partition, vector) for number, (partition, vector) in enumerate(items)]
        put(store, *states)

        keys = store.read(lambda: list(store.scan("a", prefix, after)))

        assert {key[2] for key in keys} == {
            one.item_id
            for one in states
            if contains(prefix, one.partition) and one.vector.get("a", 0) > after
        }
        assert keys == sorted(keys)
        begun = keys[:cut]
        rest = store.read(lambda: list(store.scan("a", prefix, after, start=begun[-1] if begun else None)))
        assert begun + rest == keys


def test_stamps_strictly_increase_under_any_clock(store):
    stamps = [store.run(lambda now=now: store.next_stamp(now)) for now in (100, 100, 5, 0, 101)]

    assert stamps == sorted(set(stamps))
    assert stamps[0] == 100


def test_a_stamp_is_above_all_that_was_seen(store):
    store.run(lambda: store.see(500))

    assert store.run(lambda: store.next_stamp(100)) == 501


def test_own_writes_are_claimed_for_everything(store):
    store.run(lambda: store.next_stamp(100))
    store.run(lambda: store.absorb({"F1": {"b": 3}}))

    assert store.read(store.claims) == {"": {"me": 100}, "F1": {"b": 3}}


def test_a_claim_never_goes_down(store):
    store.run(lambda: store.absorb({"F1": {"b": 10}}))
    store.run(lambda: store.absorb({"F1": {"b": 3}}))

    assert store.read(store.claims) == {"F1": {"b": 10}}


def test_a_store_belongs_to_one_provider(store):
    assert store.run(lambda: store.begin("me")) == "me"
    with pytest.raises(ValueError, match="belongs to provider 'me'"):
        store.run(lambda: store.begin("you"))


def test_who_takes_a_new_id_claims_what_it_wrote_if_nobody_else_did(store):
    store.run(lambda: store.next_stamp(100))
    new = store.run(lambda: store.renew(truthful=True))

    assert store.read(store.claims) == {"": {"me": 100}}
    assert store.read(lambda: (store.past, store.lost)) == (("me",), ())
    assert store.run(lambda: store.begin(None)) == new
    assert store.run(lambda: store.next_stamp(0)) == 101


def test_who_takes_a_new_id_since_it_was_restored_claims_nothing_of_the_old_one(store):
    store.run(lambda: store.next_stamp(100))
    store.run(lambda: store.absorb({"": {"b": 3}}))
    store.run(lambda: store.renew(truthful=False))

    assert store.read(store.claims) == {"": {"b": 3}}
    assert store.read(lambda: store.lost) == ("me",)


def test_what_the_application_has_is_found_both_ways(store):
    store.run(lambda: store.bind("i", "object", b"digest"))

    assert store.read(lambda: (store.bound("i"), store.item_of("object"))) == (("object", b"digest"), "i")
    store.run(lambda: store.unbind("i"))
    assert store.read(lambda: (store.bound("i"), store.item_of("object"))) == (None, None)


def test_an_item_that_was_dropped_is_held_anew_within_one_transaction(store):
    made = state()
    put(store, made)

    def work():
        store.drop(made)
        bulk.put_new(store, [made])

    store.run(work)

    assert store.read(lambda: list(store.items_of("thing"))) == [made]


def test_states_share_what_they_have_in_common():
    """Tens of thousands are held while they are applied."""
    one, other = (
        unpack(item_id, pack(written(None, item_id, "thing", "F1:U1", "1", ("provider", 5))))
        for item_id in ("i", "j")
    )

    assert one.entity_name is other.entity_name
    assert one.partition is other.partition
    assert one.dot[0] is other.dot[0] is next(iter(one.vector))
    assert one.inserted is one.dot
    two = replace(one, vector={"a": 1, "provider": 5}, inserted=("a", 1))
    assert unpack("i", pack(two)) == two
