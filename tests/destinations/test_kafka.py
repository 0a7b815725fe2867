import contextlib
import hashlib
import logging
import random
import signal
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import trustme
from confluent_kafka import KafkaError, KafkaException, Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from support import kafka_broker
from support.kafka_broker import Broker, Fault
from support.kafka_service import (
    KafkaDestination,
    PlainKafkaDestination,
    Quiet,
    consumed,
    fresh_topic,
    mock_cluster,
    needs_stand_in,
    partition_count,
    produce,
    servers,
)
from support.shelf import World

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record, document_digest, encode_document
from livesync.delivery.uploader import Delivery, StoredPointer
from livesync.destinations import _kafka_gathered, _kafka_topics, _kafka_writing, kafka
from livesync.destinations._kafka_gathered import Gathered
from livesync.destinations._kafka_reading import Reader
from livesync.destinations.kafka import KafkaAgent, KafkaUploader
from livesync.errors import (
    DeliveryError,
    LeaseLost,
    OptionError,
    RetryLater,
    ServiceRefuses,
)
from livesync.upkeep.export import export

pytestmark = pytest.mark.server


def upsert(object_id, position=7, actions=(), **document):
    return Record(Op.UPSERT, object_id, position, frozenset(actions), {"id": object_id, **document})


def delete(object_id, position=7, actions=()):
    return Record(Op.DELETE, object_id, position, frozenset(actions))


@pytest.fixture
def place(tmp_path):
    return KafkaDestination(tmp_path)


@pytest.fixture
def plain(tmp_path):
    return PlainKafkaDestination(tmp_path)


@pytest.fixture
def opened():
    with contextlib.ExitStack() as stack:

        def make(agent, **kwargs) -> KafkaUploader:
            kwargs = {"backoff": Backoff(random=lambda: 0.0), "sleep": lambda seconds: None, **kwargs}
            uploader = KafkaUploader(agent, **kwargs)
            stack.callback(uploader.close)
            uploader.open(Delivery(agent.id, "track", 1))
            return uploader

        yield make


@pytest.fixture
def broker():
    """A broker of its own, to be made to misbehave."""
    with Broker() as made:
        yield made


@pytest.fixture
def agent_at(broker):
    def make(agent_id="a", topic="things", **options):
        options = {"timeout_s": 5, "max_attempts": 2, **options}
        return KafkaAgent(agent_id, bootstrap_servers=broker.address, topic=topic, **options)

    return make


def send(uploader, till, records, end=True):
    uploader.begin_slice(till)
    result = uploader.iterate_over(records)
    if end:
        uploader.end_slice(till)
    return result


def keys(topic, at="", committed=True):
    return sorted(seen.key.decode() for seen in consumed(topic, at, committed))


def rows(uploader):
    return {row.object_id: row.position for row in uploader.rows()}


# what is in the topic


def test_messages_are_those_that_people_build_on(place):
    record = upsert("é/1", 7, ["moved", "created"], title="Zürich")
    place.deliver((7, [record, delete("b", 7, ["deleted"])]))

    by_key = {seen.key.decode(): seen for seen in consumed(place.topic)}

    assert by_key["é/1"].value == '{"id":"é/1","title":"Zürich"}'.encode()
    assert by_key["é/1"].headers == {
        "livesync-position": b"7",
        "livesync-actions": b"created,moved",
        "livesync-origin": b"track",
        "livesync-agent": b"a",
        "livesync-digest": document_digest(record.document).encode(),
    }
    assert by_key["b"].value is None
    assert by_key["b"].headers == {
        "livesync-position": b"7",
        "livesync-actions": b"deleted",
        "livesync-origin": b"track",
        "livesync-agent": b"a",
    }


def test_the_pointer_is_a_message_of_the_agent_beside_the_topic(place):
    place.deliver((7, [upsert("a")]), (8, []), generation=3)

    assert [(seen.key, seen.value) for seen in consumed(f"{place.topic}.livesync")] == [
        (b"a", b'{"generation":3,"position":7,"track_id":"track"}'),
        (b"a", b'{"generation":3,"position":8,"track_id":"track"}'),
    ]


def murmur2(key: bytes) -> int:
    """MurmurHash2 as the Java client of Kafka has it: 32 bits, of its own seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    hashed = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        hashed = hashed * m & mask ^ k
    if rest := key[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * m & mask
    hashed = (hashed ^ hashed >> 13) * m & mask
    return hashed ^ hashed >> 15


def test_the_hash_of_keys_is_the_java_clients():
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}

    assert {key: murmur2(key) - (murmur2(key) >> 31 << 32) for key in known} == known


def test_an_object_stays_in_the_partition_where_java_clients_put_it(place):
    ids = [f"talk/{number}" for number in range(40)] + ["é", "\U0001f600"]
    for till in (7, 8):
        place.deliver((till, [upsert(object_id, till) for object_id in ids]))

    seen = consumed(place.topic)

    partitions = {message.key: message.partition for message in seen}
    count = partition_count(place.topic)
    assert len(seen) == 2 * len(ids)
    assert partitions == {key.encode(): (murmur2(key.encode()) & 0x7FFFFFFF) % count for key in ids}
    assert len(set(partitions.values())) == count
    for message in seen[1:]:
        assert message.partition == partitions[message.key]


def test_messages_of_an_object_are_in_the_order_of_delivery(place):
    for till in range(7, 12):
        place.deliver((till, [upsert("a", till), upsert("b", till)] if till % 2 else [delete("a", till)]))

    positions = [int(seen.headers["livesync-position"]) for seen in consumed(place.topic) if seen.key == b"a"]

    assert positions == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd", "snappy"])
def test_every_compression_can_be_read(place, compression):
    place.deliver((7, [upsert("a", text="x" * 5000)]), compression=compression)

    assert place.documents() == {"a": encode_document({"id": "a", "text": "x" * 5000})}


def test_librdkafkas_own_mock_cluster_takes_what_is_written(opened, monkeypatch):
    monkeypatch.setattr(_kafka_topics, "_ANSWER_S", 0.1)  # it does not know these requests
    with mock_cluster() as at:
        uploader = opened(KafkaAgent("a", bootstrap_servers=at, topic="things"))
        assert uploader.read_pointer() is None
        assert uploader.probe().startswith("3 brokers; ")
        send(uploader, 7, [upsert("a"), upsert("b"), delete("c")])
        send(uploader, 8, [delete("a", 8)])

        assert keys("things", at) == ["a", "a", "b", "c"]
        assert rows(uploader) == {"b": 7}
        again = opened(KafkaAgent("a", bootstrap_servers=at, topic="things"))
        assert again.read_pointer() == StoredPointer(8, "track", 1)
        again.close()
        uploader.close()

        plain = opened(KafkaAgent("b", bootstrap_servers=at, topic="others", transactional=False))
        send(plain, 7, [upsert("a"), delete("b")])
        plain.close()
        assert keys("others", at) == ["a", "b"]


# transactions


def test_nothing_of_a_slice_is_seen_before_its_end(place, opened):
    uploader = opened(place.agent(batch_size=1))
    send(uploader, 7, [upsert("a"), upsert("b")], end=False)
    assert consumed(place.topic) == []
    assert keys(place.topic, committed=False) == ["a", "b"]

    uploader.end_slice(7)

    assert keys(place.topic) == ["a", "b"]


def test_an_aborted_slice_is_invisible_to_whoever_reads_what_is_committed(place, opened):
    uploader = opened(place.agent())
    send(uploader, 7, [upsert("a")])
    send(uploader, 8, [upsert("a", 8), upsert("ghost", 8)], end=False)

    uploader.abandon_slice()

    assert keys(place.topic) == ["a"]
    assert keys(place.topic, committed=False) == ["a", "a", "ghost"]
    assert rows(uploader) == {"a": 7}
    send(uploader, 8, [upsert("b", 8)])
    assert keys(place.topic) == ["a", "b"]


def test_the_pointer_of_a_slice_comes_with_its_rows_or_not_at_all(place, opened):
    uploader = opened(place.agent())
    send(uploader, 7, [upsert("a")])
    uploader.begin_slice(8)
    uploader.iterate_over([upsert("a", 8)])
    uploader._write_all([uploader._pointer_message(kafka._Pointer(1, 8, "track"))])  # as end_slice does

    uploader.abandon_slice()

    assert opened(place.agent()).read_pointer() == StoredPointer(7, "track", 1)
    assert len(consumed(f"{place.topic}.livesync", committed=False)) == 2


KILLED = """
import os, signal, sys
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations import kafka
servers, topic, when = sys.argv[1:]
uploader = kafka.KafkaUploader(kafka.KafkaAgent("a", bootstrap_servers=servers, topic=topic, batch_size=1))
uploader.open(Delivery("a", "track", 1))
uploader.read_pointer()
uploader.begin_slice(8)
uploader.iterate_over([Record(Op.UPSERT, "b", 8, document={}), Record(Op.DELETE, "a", 8)])
if when == "with the pointer written":
    uploader._write_all([uploader._pointer_message(kafka._Pointer(1, 8, "track"))])
if when == "after the commit":
    uploader.end_slice(8)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "pointer", "living"),
    [
        ("before the commit", 7, ["a"]),
        ("with the pointer written", 7, ["a"]),
        ("after the commit", 8, ["b"]),
    ],
)
def test_rows_and_pointer_agree_after_a_kill(place, opened, monkeypatch, when, pointer, living):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    place.deliver((7, [upsert("a")]))

    killed = subprocess.run([sys.executable, "-c", KILLED, servers(), place.topic, when], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert sorted(place.documents()) == living
    uploader = opened(place.agent())
    assert uploader.read_pointer() == StoredPointer(pointer, "track", 1)
    send(uploader, 8, [upsert("b", 8), delete("a", 8)])
    assert (sorted(place.documents()), place.tombstones()) == (["b"], {"a": 8})
    assert uploader.read_pointer() == StoredPointer(8, "track", 1)


@needs_stand_in
def test_a_commit_whose_marks_are_late_is_waited_for(broker, agent_at, opened, monkeypatch):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    first = opened(agent_at())
    send(first, 7, [upsert("a")])
    broker.hold_marks = True
    send(first, 8, [upsert("b", 8)])
    late = threading.Timer(0.3, broker.write_marks)

    late.start()
    pointer = opened(agent_at()).read_pointer()

    late.join()
    assert pointer == StoredPointer(8, "track", 1)


@needs_stand_in
def test_rows_wait_for_the_marks_of_what_was_just_committed(broker, agent_at, opened):
    uploader = opened(agent_at())
    broker.hold_marks = True
    send(uploader, 7, [upsert("a")])
    late = threading.Timer(0.3, broker.write_marks)

    late.start()
    seen = rows(uploader)

    late.join()
    assert seen == {"a": 7}


def test_rows_do_not_wait_for_ever_for_a_transaction_that_is_open(place, opened, monkeypatch):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    uploader, other = opened(place.agent()), opened(place.agent("other"))
    send(uploader, 7, [upsert("a")])
    send(other, 8, [upsert("a", 8), upsert("b", 8)], end=False)

    assert rows(uploader) == {"a": 7}
    other.end_slice(8)
    assert rows(uploader) == {"a": 8, "b": 8}


@needs_stand_in
@pytest.mark.slow
def test_another_agents_open_transaction_may_hide_the_pointer(broker, agent_at, opened, monkeypatch):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    broker.make_topic("things.livesync", 1)
    uploader, other = opened(agent_at(timeout_s=1)), opened(agent_at("other"))
    send(uploader, 7, [upsert("a")])
    other.begin_slice(7)
    other.iterate_over([upsert("b")])
    other._write_all([other._pointer_message(kafka._Pointer(1, 7, "track"))])

    with pytest.raises(RetryLater, match=r"a transaction in things\.livesync is still open"):
        uploader.read_pointer()
    other.end_slice(7)

    assert uploader.read_pointer() == StoredPointer(7, "track", 1)


# two runners


def test_kafka_refuses_a_zombie_in_the_middle_of_its_slice(place, opened):
    zombie = opened(place.agent(batch_size=1))
    zombie.read_pointer()
    send(zombie, 7, [upsert("a"), upsert("b")], end=False)
    heir = opened(place.agent())
    heir.read_pointer()
    send(heir, 7, [upsert("c")])

    with pytest.raises(LeaseLost, match="another runner of this agent has begun a transaction"):
        zombie.end_slice(7)
    zombie.abandon_slice()
    zombie.close()

    assert keys(place.topic) == ["c"]
    send(heir, 8, [upsert("d", 8)])
    assert heir.read_pointer() == StoredPointer(8, "track", 1)


def test_kafka_refuses_the_next_batch_of_a_zombie(place, opened):
    zombie, heir = opened(place.agent()), opened(place.agent())
    send(zombie, 7, [upsert("a")])
    send(heir, 8, [upsert("b", 8)])

    with pytest.raises(LeaseLost):
        send(zombie, 9, [upsert("ghost", 9)])
    zombie.abandon_slice()

    assert keys(place.topic) == ["a", "b"]


def test_two_producers_of_one_transactional_id_do_not_write_both(place):
    options = {"bootstrap.servers": servers(), "transactional.id": place.topic}
    first, second = (Producer(options, logger=Quiet()) for _ in range(2))
    first.init_transactions(10)
    first.begin_transaction()
    first.produce(place.topic, b"first", b"a")
    assert first.flush(10) == 0

    second.init_transactions(10)
    second.begin_transaction()
    second.produce(place.topic, b"second", b"a")
    second.commit_transaction(10)

    with pytest.raises(Exception, match="fenced"):
        first.commit_transaction(10)
    assert [seen.value for seen in consumed(place.topic)] == [b"second"]


def test_a_runner_that_only_looks_fences_nobody(place, opened, monkeypatch):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    runner, idle = opened(place.agent()), opened(place.agent())
    runner.read_pointer()
    send(runner, 7, [upsert("a")], end=False)

    assert idle.read_pointer() is None
    assert idle.probe()
    assert rows(idle) == {}
    idle.close()

    runner.end_slice(7)
    assert keys(place.topic) == ["a"]


def test_two_agents_of_one_topic_do_not_fence_each_other(place, opened):
    first, second = opened(place.agent("first")), opened(place.agent("second"))
    for till in (7, 8):
        for name, uploader in (("a", first), ("b", second)):
            send(uploader, till, [upsert(f"{name}{till}", till)])

    assert keys(place.topic) == ["a7", "a8", "b7", "b8"]
    assert (first.read_pointer().position, second.read_pointer().position) == (8, 8)


# records that are too large


def random_text(size, seed=1):
    return random.Random(seed).randbytes(size).hex()[:size]


def test_a_record_that_is_too_large_stops_nobody(place):
    result = place.deliver((7, [upsert("a"), upsert("big", text=random_text(1_100_000)), upsert("c")]))

    assert (result.accepted, result.dead) == (2, 1)
    [dead] = result.dead_records
    assert dead.object_id == "big"
    assert "too large for Kafka: 1100" in dead.reason
    assert "max.message.bytes" in dead.reason
    assert sorted(place.documents()) == ["a", "c"]


def test_a_slice_of_too_large_records_only_moves_the_pointer(place, opened):
    result = place.deliver((7, [upsert("big", text=random_text(1_100_000))]))

    assert (result.accepted, result.dead) == (0, 1)
    assert opened(place.agent()).read_pointer() == StoredPointer(7, "track", 1)


@needs_stand_in
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_passes_the_check_passes_the_broker(broker, agent_at, opened, compression):
    broker.make_topic("things", 1, max_message_bytes="3000")
    uploader = opened(agent_at(compression=compression))
    records = [upsert(f"{size}", text=random_text(size, size)) for size in range(2500, 3001, 3)]

    result = send(uploader, 7, records)

    assert result.accepted + result.dead == len(records)
    assert result.accepted > 60  # the check is not far too strict: less than 300 bytes
    assert {int(dead.object_id) for dead in result.dead_records} == {
        int(record.object_id) for record in records[result.accepted :]
    }
    assert len(consumed("things", broker.address)) == result.accepted


@needs_stand_in
def test_a_topic_that_takes_more_gets_more(broker, agent_at, opened):
    broker.make_topic("things", 1, max_message_bytes="3000000")

    result = send(opened(agent_at()), 7, [upsert("big", text=random_text(2_000_000))])

    assert result.accepted == 1


@needs_stand_in
def test_client_config_lowers_the_limit(broker, agent_at, opened, tmp_path):
    (tmp_path / "client").write_text("message.max.bytes = 2000")

    uploader = opened(agent_at(client_config=tmp_path / "client"))
    result = send(uploader, 7, [upsert("a", text="x" * 1000), upsert("b", text="x" * 2000)])

    assert [dead.object_id for dead in result.dead_records] == ["b"]


@needs_stand_in
def test_a_limit_that_sinks_during_the_run_is_learnt(broker, agent_at, opened):
    uploader = opened(agent_at(compression="none"))
    send(uploader, 7, [upsert("a")])
    broker.topics["things"].settings["max.message.bytes"] = "2000"

    result = send(uploader, 8, [upsert("b", 8), upsert("big", 8, text=random_text(5000))])

    assert (result.accepted, result.dead) == (1, 1)
    assert keys("things", broker.address) == ["a", "b"]


@needs_stand_in
def test_a_limit_that_sinks_in_the_middle_of_a_slice_rolls_it_back(broker, agent_at, opened):
    uploader = opened(agent_at(compression="none", batch_size=1))
    send(uploader, 7, [upsert("a")], end=False)
    broker.topics["things"].settings["max.message.bytes"] = "2000"
    records = [upsert("b"), upsert("big", text=random_text(5000))]

    with pytest.raises(DeliveryError, match="takes 2000 bytes only; the slice was rolled back, run again"):
        uploader.iterate_over(records)
    uploader.abandon_slice()

    assert keys("things", broker.address) == []
    assert send(uploader, 7, records).dead == 1
    assert keys("things", broker.address) == ["b"]


@needs_stand_in
def test_a_limit_that_nobody_tells_stops_the_agent_with_the_remedy(broker, agent_at, opened):
    broker.make_topic("things", 1, max_message_bytes="2000")
    broker.denied.add("describe")

    with pytest.raises(ServiceRefuses, match=r"set message\.max\.bytes in client_config"):
        send(opened(agent_at(compression="none")), 7, [upsert("a"), upsert("big", text=random_text(5000))])

    assert keys("things", broker.address) == []


@needs_stand_in
def test_without_transactions_the_culprit_is_found_by_halving(broker, agent_at, opened):
    broker.make_topic("things", 1, max_message_bytes="2000")
    broker.denied.add("describe")
    uploader = opened(agent_at(compression="none", transactional=False))

    result = send(uploader, 7, [upsert("a"), upsert("b"), upsert("big", text=random_text(5000)), upsert("d")])

    assert [dead.object_id for dead in result.dead_records] == ["big"]
    assert result.accepted == 3
    assert set(keys("things", broker.address)) == {"a", "b", "d"}


# without transactions


def test_without_transactions_each_batch_is_there_at_once(plain, opened):
    uploader = opened(plain.agent(batch_size=1))
    assert not uploader.keeps_pointer

    send(uploader, 7, [upsert("a"), delete("b")], end=False)

    assert keys(plain.topic) == ["a", "b"]
    uploader.abandon_slice()
    uploader.end_slice(7)
    assert rows(uploader) == {"a": 7}
    assert uploader.sweep(8) == 1
    assert plain.tombstones() == {"a": 8, "b": 7}


@needs_stand_in
@pytest.mark.slow
def test_without_transactions_only_what_failed_is_sent_again(broker, agent_at, opened):
    broker.make_topic("things", 1)
    uploader = opened(agent_at(transactional=False, timeout_s=1, max_attempts=3))
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.PRODUCE, hang=True))

    result = send(uploader, 8, [upsert("b", 8)])

    assert (result.accepted, result.retried) == (1, 1)
    assert set(keys("things", broker.address)) == {"a", "b"}


# what goes wrong


def assert_says(caught, *words):
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    for word in words:
        assert word in text


@pytest.mark.parametrize(("at", "transactional"), [("localhost:1", True), ("nowhere.invalid:9092", False)])
def test_nobody_there_is_told_soon(opened, at, transactional):
    agent = KafkaAgent("a", bootstrap_servers=at, topic="things", transactional=transactional, max_attempts=2)
    uploader = opened(agent)

    for attempt in (uploader.probe, lambda: send(uploader, 7, [upsert("a")]), lambda: rows(uploader)):
        with pytest.raises(RetryLater) as caught:
            attempt()
        assert_says(caught, f"Kafka at {at}", "refused" if at.endswith(":1") else "resolve")
        uploader.abandon_slice()


@needs_stand_in
@pytest.mark.slow
def test_a_topic_that_is_not_there_and_is_not_made_stops_the_agent(opened):
    with Broker(auto_create=False) as broker:
        agent = KafkaAgent("a", bootstrap_servers=broker.address, topic="things", timeout_s=2)
        uploader = opened(agent)

        with pytest.raises(ServiceRefuses) as caught:
            send(uploader, 7, [upsert("a")])

        assert_says(caught, "create the topic things, and things.livesync", "cleanup.policy=compact")
        assert "there is no topic things yet" in uploader.probe()
        assert "things" not in broker.topics


@needs_stand_in
def test_the_topic_for_the_pointers_is_made_compacted(broker, agent_at, opened):
    send(opened(agent_at()), 7, [upsert("a")])

    made = broker.topics["things.livesync"]
    assert (len(made.partitions), made.settings["cleanup.policy"]) == (1, "compact")


@needs_stand_in
def test_the_topic_for_the_pointers_may_come_by_being_used(broker, agent_at, opened):
    broker.denied.add("create")
    uploader = opened(agent_at())

    send(uploader, 7, [upsert("a")])

    assert uploader.read_pointer() == StoredPointer(7, "track", 1)


@needs_stand_in
@pytest.mark.parametrize("transactional", [True, False])
def test_a_topic_that_we_may_not_use_stops_the_agent(broker, agent_at, opened, transactional):
    broker.make_topic("things")
    broker.denied.add("topic:things")
    uploader = opened(agent_at(transactional=transactional))

    for attempt in (uploader.probe, lambda: send(uploader, 7, [upsert("a")]), lambda: rows(uploader)):
        with pytest.raises(ServiceRefuses) as caught:
            attempt()
        assert_says(caught, "let the user read, write, describe things and things.livesync")
        uploader.abandon_slice()


@needs_stand_in
def test_no_right_on_any_group_is_needed(broker, agent_at, opened):
    broker.denied.add("groups")
    uploader = opened(agent_at())

    send(uploader, 7, [upsert("a")])

    assert rows(uploader) == {"a": 7}
    assert uploader.read_pointer() == StoredPointer(7, "track", 1)


@needs_stand_in
def test_rights_that_are_taken_away_stop_a_reader(broker, agent_at, opened):
    uploader = opened(agent_at())
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.FETCH, error=kafka_broker.TOPIC_DENIED, times=100))

    with pytest.raises(ServiceRefuses, match="let the user read"):
        rows(uploader)


@needs_stand_in
def test_a_transactional_id_that_we_may_not_use_stops_the_agent(broker, agent_at, opened):
    broker.denied.add("transactions")

    with pytest.raises(ServiceRefuses) as caught:
        send(opened(agent_at()), 7, [upsert("a")])

    assert_says(caught, "transactional ids that begin with livesync.things", "transactional=no")


@needs_stand_in
def test_transactions_that_may_not_last_that_long_are_told_with_the_remedy(opened, tmp_path):
    with Broker(longest_transaction_ms=60_000) as broker:
        options = {"bootstrap_servers": broker.address, "topic": "things", "timeout_s": 5}
        with pytest.raises(ServiceRefuses, match=r"lower transaction\.timeout\.ms"):
            send(opened(KafkaAgent("a", **options)), 7, [upsert("a")])

        (tmp_path / "client").write_text("# shorter\n\ntransaction.timeout.ms=60000\n")
        send(opened(KafkaAgent("a", client_config=tmp_path / "client", **options)), 7, [upsert("a")])

        assert keys("things", broker.address) == ["a"]


@needs_stand_in
@pytest.mark.parametrize("transactional", [True, False])
def test_records_that_the_topic_validates_away_stop_the_agent(broker, agent_at, opened, transactional):
    uploader = opened(agent_at(transactional=transactional))
    broker.faults.append(Fault(kafka_broker.PRODUCE, error=kafka_broker.INVALID_RECORD, times=9))

    with pytest.raises(ServiceRefuses, match="the topic things validates records"):
        send(uploader, 7, [upsert("a")])
    uploader.abandon_slice()

    assert keys("things", broker.address) == []


OF_ALL = [
    Fault(kafka_broker.PRODUCE, error=kafka_broker.NOT_ENOUGH_REPLICAS, times=2),
    Fault(kafka_broker.PRODUCE, error=kafka_broker.NOT_LEADER, times=2),
    Fault(kafka_broker.PRODUCE, cut="before"),
    Fault(kafka_broker.PRODUCE, cut="after"),
    Fault(kafka_broker.METADATA, cut="before"),
    Fault(kafka_broker.INIT_PRODUCER_ID, error=kafka_broker.COORDINATOR_LOADING, times=2),
    Fault(kafka_broker.INIT_PRODUCER_ID, cut="after"),
]
OF_TRANSACTIONS = [
    Fault(kafka_broker.ADD_PARTITIONS_TO_TXN, error=kafka_broker.COORDINATOR_LOADING),
    Fault(kafka_broker.ADD_PARTITIONS_TO_TXN, cut="after"),
    Fault(kafka_broker.END_TXN, error=kafka_broker.COORDINATOR_LOADING),
    Fault(kafka_broker.END_TXN, cut="before"),
    Fault(kafka_broker.END_TXN, cut="after"),
]


@needs_stand_in
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "transactional"),
    [
        *((fault, True) for fault in OF_ALL),
        *((fault, False) for fault in OF_ALL),
        *((fault, True) for fault in OF_TRANSACTIONS),
    ],
    ids=lambda value: f"{value.api}-{value.cut or value.error}" if isinstance(value, Fault) else f"{value}",
)
def test_what_passes_by_is_ridden_out_and_nothing_comes_twice(broker, agent_at, opened, fault, transactional):
    broker.faults.append(Fault(**vars(fault)))
    uploader = opened(agent_at(transactional=transactional))

    result = send(uploader, 7, [upsert(f"{number}") for number in range(50)])

    assert result.accepted == 50
    assert len(consumed("things", broker.address, committed=False)) == 50
    assert len(consumed("things", broker.address)) == 50


@needs_stand_in
@pytest.mark.slow
def test_a_first_batch_without_an_answer_is_tried_again_in_a_new_transaction(broker, agent_at, opened):
    uploader = opened(agent_at(timeout_s=1))
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.PRODUCE, hang=True))

    result = send(uploader, 8, [upsert("b", 8)])

    assert (result.accepted, result.retried) == (1, 1)
    assert keys("things", broker.address) == ["a", "b"]
    assert uploader.read_pointer() == StoredPointer(8, "track", 1)


@needs_stand_in
@pytest.mark.slow
def test_a_later_batch_without_an_answer_rolls_the_whole_slice_back(broker, agent_at, opened):
    uploader = opened(agent_at(timeout_s=1, batch_size=1))
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.PRODUCE, hang=True, skip=1))
    records = [upsert("b", 8), upsert("c", 8)]

    with pytest.raises(DeliveryError, match="the slice was rolled back, run again") as caught:
        send(uploader, 8, records)
    assert not isinstance(caught.value, RetryLater)
    uploader.abandon_slice()

    assert keys("things", broker.address) == ["a"]
    assert uploader.read_pointer() == StoredPointer(7, "track", 1)
    send(uploader, 8, records)
    assert keys("things", broker.address) == ["a", "b", "c"]


@needs_stand_in
@pytest.mark.slow
@pytest.mark.parametrize(("cut", "pointer"), [("before", 7), ("after", 8)])
def test_a_commit_without_an_answer_is_settled_by_whoever_comes_next(
    broker, agent_at, opened, monkeypatch, cut, pointer
):
    monkeypatch.setattr(kafka, "_SETTLE_S", 0.05)
    uploader = opened(agent_at(timeout_s=1))
    send(uploader, 7, [upsert("a")])
    send(uploader, 8, [upsert("b", 8)], end=False)
    broker.faults.append(Fault(kafka_broker.END_TXN, cut=cut))
    broker.faults.append(Fault(kafka_broker.END_TXN, cut="before", times=1000))

    with pytest.raises(DeliveryError, match="whether the slice was committed, the next run will see"):
        uploader.end_slice(8)
    uploader.abandon_slice()
    uploader.close()
    broker.faults.clear()

    heir = opened(agent_at())
    assert heir.read_pointer() == StoredPointer(pointer, "track", 1)
    assert keys("things", broker.address) == ["a", "b"][: pointer - 6]
    send(heir, 9, [upsert("c", 9)])
    assert "c" in keys("things", broker.address)


@needs_stand_in
@pytest.mark.slow
def test_a_broker_that_goes_away_for_good_ends_the_run(broker, agent_at, opened):
    uploader = opened(agent_at(timeout_s=1, batch_size=1))
    send(uploader, 7, [upsert("a")], end=False)

    broker.close()

    with pytest.raises(DeliveryError, match="the slice was rolled back, run again"):
        uploader.iterate_over([upsert("b")])
    uploader.abandon_slice()
    with pytest.raises(RetryLater, match="Kafka at"):
        uploader.read_pointer()


@needs_stand_in
def test_a_slice_that_lasts_longer_than_a_transaction_may_says_so(broker, agent_at, opened):
    now = [0.0]
    uploader = opened(agent_at(batch_size=1), clock=lambda: now[0])
    send(uploader, 7, [upsert("a")], end=False)
    now[0] = 901.0
    broker.expire_transactions()

    with pytest.raises(DeliveryError, match=r"longer than Kafka lets .* last \(900 s\).*run again"):
        uploader.iterate_over([upsert("b")])
    uploader.abandon_slice()

    now[0] = 1000.0
    send(uploader, 7, [upsert("a"), upsert("b")])
    assert keys("things", broker.address) == ["a", "b"]


@needs_stand_in
@pytest.mark.slow
def test_a_reader_that_gets_no_answer_says_so(broker, agent_at, opened):
    uploader = opened(agent_at(timeout_s=1))
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.FETCH, hang=True, times=1000))

    with pytest.raises(RetryLater, match="Kafka at"):
        rows(uploader)


@needs_stand_in
def test_something_else_under_the_agents_name_is_not_taken_for_a_pointer(broker, agent_at, opened):
    produce("things.livesync", b"a", b"not json", at=broker.address)

    with pytest.raises(ServiceRefuses, match=r"things\.livesync holds something else"):
        opened(agent_at()).read_pointer()

    produce("things.livesync", b"a", None, at=broker.address)
    assert opened(agent_at()).read_pointer() is None


@needs_stand_in
@pytest.mark.slow
def test_a_broker_that_answers_nothing_is_told(broker, agent_at, opened):
    broker.faults.append(Fault(kafka_broker.METADATA, hang=True, times=1000))

    with pytest.raises(RetryLater, match="Kafka at"):
        opened(agent_at(timeout_s=1)).probe()


@needs_stand_in
@pytest.mark.slow
def test_a_write_that_the_client_does_not_give_up_is_given_up(broker, agent_at, opened, monkeypatch):
    monkeypatch.setattr(_kafka_writing, "_GRACE_S", -0.8)  # before the client itself does
    broker.make_topic("things")
    broker.faults.append(Fault(kafka_broker.PRODUCE, hang=True, times=1000))

    with pytest.raises(RetryLater, match=r"did not answer within 1 s \(given up after 1 tries"):
        send(opened(agent_at(timeout_s=1, max_attempts=1)), 7, [upsert("a")])


@needs_stand_in
def test_a_topic_without_a_leader_is_waited_for(broker, agent_at, opened):
    uploader = opened(agent_at())
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.METADATA, error=kafka_broker.NO_LEADER))

    assert rows(uploader) == {"a": 7}


@needs_stand_in
def test_more_records_than_the_client_queues_are_written(broker, agent_at, opened, tmp_path):
    (tmp_path / "client").write_text("queue.buffering.max.messages=10")
    uploader = opened(agent_at(client_config=tmp_path / "client"))

    send(uploader, 7, [upsert(f"{number}") for number in range(100)])

    assert len(rows(uploader)) == 100


@needs_stand_in
@pytest.mark.slow
def test_a_commit_that_kafka_refuses_takes_nothing_with_it(broker, agent_at, opened):
    uploader = opened(agent_at())
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.END_TXN, error=kafka_broker.TXN_DENIED))

    with pytest.raises(ServiceRefuses, match=r"transactional ids that begin with livesync\.things"):
        send(uploader, 8, [upsert("b", 8)])
    uploader.abandon_slice()

    assert keys("things", broker.address) == ["a"]
    assert uploader.read_pointer() == StoredPointer(7, "track", 1)
    send(uploader, 8, [upsert("b", 8)])
    assert keys("things", broker.address) == ["a", "b"]


def test_a_zombie_whose_client_does_not_say_why_is_known_all_the_same(place, opened, monkeypatch):
    zombie = opened(place.agent(batch_size=1))
    send(zombie, 7, [upsert("a")], end=False)
    send(opened(place.agent()), 7, [upsert("b")])

    def write(self, messages):
        raise KafkaException(KafkaError(KafkaError._FATAL, "something", True))

    monkeypatch.setattr(_kafka_writing.Writer, "write", write)
    with pytest.raises(LeaseLost):
        zombie.iterate_over([upsert("c")])


def test_what_the_client_raises_is_found_below_what_python_makes_of_it():
    fenced = KafkaError(KafkaError._FENCED, "fenced", True)

    def tangled():
        with _kafka_writing._untangled():
            try:
                raise SystemError("a function returned a result") from KafkaException(fenced)
            except SystemError as exc:
                raise SystemError("and another") from exc

    with pytest.raises(KafkaException) as caught:
        tangled()
    assert caught.value.args[0].code() == KafkaError._FENCED
    with pytest.raises(KafkaException) as caught, _kafka_writing._untangled():
        raise SystemError("returned NULL without setting an exception")
    assert caught.value.args[0].fatal()


@needs_stand_in
@pytest.mark.parametrize("error", [kafka_broker.OUT_OF_ORDER, kafka_broker.OLD_EPOCH, kafka_broker.FENCED])
def test_a_producer_without_transactions_that_lost_count_is_replaced(broker, agent_at, opened, error):
    uploader = opened(agent_at(transactional=False, max_attempts=3))
    send(uploader, 7, [upsert("a")])
    broker.faults.append(Fault(kafka_broker.PRODUCE, error=error))

    result = send(uploader, 8, [upsert("b", 8)])

    assert result.accepted == 1
    assert keys("things", broker.address) == ["a", "b"]


# who we are


@pytest.fixture
def guarded():
    with Broker(users={"me": "open sesame"}) as made:
        yield made


def guarded_agent(at, monkeypatch, password="open sesame", **options):
    monkeypatch.setenv("KAFKA_PASSWORD", password)
    who = {"username": "me", "password": "env:KAFKA_PASSWORD", "security_protocol": "sasl_plaintext"}
    options = {"timeout_s": 5, "max_attempts": 2, **who, **options}
    return KafkaAgent("a", bootstrap_servers=at.address, topic="things", **options)


@needs_stand_in
def test_user_and_password_are_sent(guarded, opened, monkeypatch):
    uploader = opened(guarded_agent(guarded, monkeypatch))

    send(uploader, 7, [upsert("a")])

    assert rows(uploader) == {"a": 7}


@needs_stand_in
@pytest.mark.parametrize("transactional", [True, False])
def test_a_wrong_password_stops_the_agent_and_is_seen_nowhere(
    guarded, opened, monkeypatch, caplog, tmp_path, transactional
):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "client").write_text("debug=security,conf,protocol\n")
    agent = guarded_agent(
        guarded, monkeypatch, "gEhEiM-47", client_config=tmp_path / "client", transactional=transactional
    )
    uploader = opened(agent)

    for attempt in (uploader.probe, lambda: send(uploader, 7, [upsert("a")])):
        with pytest.raises(ServiceRefuses) as caught:
            attempt()
        assert_says(caught, "check username, password, security_protocol and sasl_mechanism")
        assert "gEhEiM" not in str(caught.value)
        uploader.abandon_slice()
    uploader.close()
    assert "rdkafka" in caplog.text
    assert "gEhEiM" not in caplog.text
    assert "gEhEiM" not in repr(uploader._settings)


def lock_out(guarded):
    """Let nobody in any more, whoever is in included."""
    guarded._users = {"somebody": "else"}
    guarded.cut_all()


@needs_stand_in
@pytest.mark.parametrize("transactional", [True, False])
def test_credentials_that_are_taken_back_stop_a_writer(guarded, opened, monkeypatch, transactional):
    uploader = opened(guarded_agent(guarded, monkeypatch, batch_size=1, transactional=transactional))
    send(uploader, 7, [upsert("a")], end=False)
    lock_out(guarded)

    with pytest.raises(ServiceRefuses, match="check username, password"):
        uploader.iterate_over([upsert("b")])


@needs_stand_in
def test_credentials_that_are_taken_back_stop_whoever_begins(guarded, opened, monkeypatch):
    uploader = opened(guarded_agent(guarded, monkeypatch))
    monkeypatch.setattr(kafka, "topic_settings", lambda settings: lock_out(guarded) or {})
    monkeypatch.setattr(kafka, "make_pointer_topic", lambda settings: None)
    monkeypatch.setattr(Reader, "partitions", lambda self, topic: [0])

    with pytest.raises(ServiceRefuses, match="check username, password"):
        send(uploader, 7, [upsert("a")])


@needs_stand_in
def test_credentials_that_are_taken_back_stop_a_reader(guarded, opened, monkeypatch):
    uploader = opened(guarded_agent(guarded, monkeypatch))
    send(uploader, 7, [upsert("a")])
    partitions = Reader.partitions
    monkeypatch.setattr(Reader, "partitions", lambda *args: (partitions(*args), lock_out(guarded))[0])

    with pytest.raises(ServiceRefuses, match="check username, password"):
        rows(uploader)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@needs_stand_in
def test_tls_is_verified(opened, authority, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    with Broker(tls=context) as broker:
        for name in ("ours", "other"):
            (tmp_path / name).write_text(f"ssl.ca.location={tmp_path / name}.pem\n")
        options = {"bootstrap_servers": broker.address, "topic": "things", "security_protocol": "ssl"}

        send(opened(KafkaAgent("a", client_config=tmp_path / "ours", **options)), 7, [upsert("a")])
        with pytest.raises(ServiceRefuses) as caught:
            opened(KafkaAgent("a", client_config=tmp_path / "other", **options)).probe()

        assert_says(caught, "certificate verify failed", "ssl.ca.location")


# settings


def make(tmp_path, text, **options):
    (tmp_path / "client").write_text(text)
    agent = KafkaAgent("a", bootstrap_servers="x:1", topic="t", client_config=tmp_path / "client", **options)
    return KafkaUploader(agent)


def test_settings_of_the_client_come_from_a_file(tmp_path):
    lines = ["# a comment", "! another", "", " linger.ms = 7 ", "ssl.key.password=a=b c", "client.rack="]

    uploader = make(tmp_path, "\n".join(lines))

    assert uploader._settings.given == {"linger.ms": "7", "ssl.key.password": "a=b c", "client.rack": ""}
    assert uploader._settings.complaints.hide("it is a=b c") == "it is ***"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("linger.ms\n", "line 1 of"),
        ("\n# x\nhunter2 hunter2\n", "line 3 of"),
        ("=hunter2\n", "line 1 of"),
        ("acks=1\n", "acks is set by livesync"),
        ("enable.idempotence=false\n", "enable.idempotence is set by livesync"),
        ("transactional.id=x\n", "transactional.id is set by livesync"),
        ("error_cb=x\n", "error_cb is set by livesync"),
        ("transaction.timeout.ms=soon\n", "transaction.timeout.ms is a whole number"),
        ("message.max.bytes=0\n", "message.max.bytes is a whole number"),
        ("batch.size=-1\n", "batch.size is a whole number"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_told(tmp_path, text, says):
    with pytest.raises(OptionError, match=says) as caught:
        make(tmp_path, text)

    assert "hunter2" not in str(caught.value)


def test_a_file_of_settings_that_is_not_there_is_told(tmp_path):
    agent = KafkaAgent("a", bootstrap_servers="x:1", topic="t", client_config=tmp_path / "none")

    with pytest.raises(OptionError, match=r"client_config: .*none cannot be read"):
        KafkaUploader(agent)


@pytest.mark.parametrize(
    "text", ["no.such.setting=1\n", "sasl.mechanism=hunter2\nsasl.password=hunter2\n", "linger.ms=long\n"]
)
def test_settings_that_the_client_refuses_are_told_without_secrets(tmp_path, text):
    uploader = make(tmp_path, text, security_protocol="sasl_plaintext")
    uploader.open(Delivery("a", "track", 1))

    with pytest.raises(OptionError, match="the Kafka client refuses its settings: ") as caught:
        send(uploader, 7, [upsert("a")])

    assert "hunter2" not in str(caught.value)
    uploader.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"username": "me"}, "username and password go together"),
        ({"password": "env:KAFKA_PASSWORD"}, "username and password go together"),
        ({"username": "me", "password": "env:KAFKA_PASSWORD", "security_protocol": "ssl"}, "sends no user"),
    ],
)
def test_options_that_do_not_go_together_are_told(monkeypatch, options, says):
    monkeypatch.setenv("KAFKA_PASSWORD", "x")

    with pytest.raises(OptionError, match=says):
        KafkaUploader(KafkaAgent("a", bootstrap_servers="x:1", topic="t", **options))


@pytest.mark.parametrize("topic", ["", "a b", "é", "a/b", "x" * 241])
def test_a_topic_that_cannot_be_is_told(topic):
    with pytest.raises(OptionError, match="option topic: "):
        KafkaAgent("a", bootstrap_servers="x:1", topic=topic)


def test_a_password_goes_over_tls_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", "x")
    agent = KafkaAgent("a", bootstrap_servers="x:1", topic="t", username="me", password="env:KAFKA_PASSWORD")

    assert KafkaUploader(agent)._settings.given == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "x",
    }


# what the topic holds


def test_messages_that_are_nobodys_do_no_harm(place, opened):
    place.deliver((7, [upsert("a"), upsert("b"), upsert("c")]))
    produce(place.topic, None, b"no key")
    produce(place.topic, b"\xff\xfe", b"no id")
    produce(place.topic, b"b", b"{}")  # no position: it stands, until a record comes
    produce(place.topic, b"c", b"{}", [("livesync-position", b"many")])
    produce(place.topic, b"d", b"{}", [("livesync-position", str(2**70).encode())])
    uploader = opened(place.agent())

    found = {row.object_id: (row.position, row.digest) for row in uploader.rows()}

    empty = hashlib.blake2b(b"{}", digest_size=16).hexdigest()
    assert found == {
        "a": (7, document_digest({"id": "a"})), "b": (None, empty), "c": (None, empty), "d": (None, empty)
    }  # fmt: skip
    send(uploader, 7, [upsert("b")])
    assert rows(uploader)["b"] == 7


def test_an_older_message_does_not_overwrite_in_what_is_told(place, opened):
    place.deliver((8, [upsert("a", 8, n=2), delete("b", 8)]), (7, [upsert("a", 7, n=1), upsert("b", 7)]))

    [row] = opened(place.agent()).rows()

    assert (row.object_id, row.position, row.digest) == ("a", 8, document_digest({"id": "a", "n": 2}))


def test_a_second_look_reads_only_what_was_added(place, opened, monkeypatch):
    taken = []
    add = Gathered.add
    monkeypatch.setattr(Gathered, "add", lambda self, messages: (taken.extend(messages), add(self, messages)))
    uploader = opened(place.agent())
    send(uploader, 7, [upsert(f"{number}") for number in range(50)])

    assert len(rows(uploader)) == 50
    assert len(taken) == 50
    send(uploader, 8, [upsert("50", 8), delete("7", 8)])
    assert [row.object_id for row in uploader.rows_of(["50", "7", "8"])] == ["50", "8"]
    assert len(taken) == 52


@dataclass
class Message:
    """As the table takes it."""

    id: bytes
    position: int | None
    body: bytes | None

    def key(self):
        return self.id

    def value(self):
        return self.body

    def headers(self):
        return None if self.position is None else [("livesync-position", b"%d" % self.position)]


messages = st.lists(
    st.builds(
        Message,
        st.sampled_from([key.encode() for key in ("a", "b", "é", "\uffff", "\U0001f600", "a\0b")]),
        st.integers(0, 4),
        st.none() | st.sampled_from([b"{}", b"[]"]),
    )
)


@settings(deadline=None)
@given(chunks=st.lists(messages, max_size=4), before=st.integers(0, 5), after=st.sampled_from(["", "a", "é"]))
def test_what_is_gathered_is_what_the_rule_of_positions_says(chunks, before, after):
    expected: dict[str, Message] = {}
    for message in (message for chunk in chunks for message in chunk):
        held = expected.get(message.id.decode())
        if held is None or message.position >= held.position:
            expected[message.id.decode()] = message
    living = {key: message for key, message in expected.items() if message.body is not None}
    gathered = Gathered()
    with contextlib.closing(gathered), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kafka_gathered, "_PAGE", 2)
        for chunk in chunks:
            gathered.add(chunk)

        found = list(gathered.rows(after or None, False))
        older = [key.decode() for keys in gathered.older(before) for key in keys]

    digests = {body: hashlib.blake2b(body, digest_size=16).hexdigest() for body in (b"{}", b"[]")}
    assert found == [
        (key, living[key].position, digests[living[key].body]) for key in sorted(living) if key > after
    ]
    assert older == [key for key in sorted(living) if living[key].position < before]


def test_a_disk_that_is_full_is_no_reason_to_stop(monkeypatch):
    with contextlib.closing(Gathered()) as gathered:
        gathered._connection.execute("PRAGMA max_page_count = 4")

        with pytest.raises(RetryLater, match="make room in TMPDIR"):
            gathered.add([Message(b"%d" % number, 1, b"{}") for number in range(10_000)])


# sweeping


def test_a_sweep_is_one_transaction_and_leaves_tombstones(place, opened, monkeypatch):
    monkeypatch.setattr(_kafka_gathered, "_PAGE", 10)
    uploader = opened(place.agent())
    send(uploader, 7, [upsert(f"{number:02}") for number in range(35)])
    send(uploader, 9, [upsert("00", 9), delete("01", 9)])

    assert uploader.sweep(9) == 33
    assert uploader.sweep(9) == 0

    assert sorted(place.documents()) == ["00"]
    assert place.tombstones() == {f"{number:02}": 9 for number in range(1, 35)}
    assert uploader.read_pointer() == StoredPointer(9, "track", 1)


@needs_stand_in
@pytest.mark.slow
def test_a_sweep_that_breaks_off_has_removed_nothing(broker, agent_at, opened, monkeypatch):
    monkeypatch.setattr(_kafka_gathered, "_PAGE", 10)
    uploader = opened(agent_at(timeout_s=1))
    send(uploader, 7, [upsert(f"{number:02}") for number in range(35)])
    broker.faults.append(Fault(kafka_broker.PRODUCE, hang=True, skip=2))

    with pytest.raises(RetryLater, match="Kafka at"):
        uploader.sweep(9)

    assert len(rows(uploader)) == 35
    assert broker.open_transactions == 0
    assert uploader.sweep(9) == 35
    assert rows(uploader) == {}


# whether it can be reached


@needs_stand_in
def test_a_probe_tells_of_a_topic_that_is_not_compacted(broker, agent_at, opened):
    uploader = opened(agent_at())
    assert uploader.probe() == "1 broker; there is no topic things yet"

    broker.make_topic("things", 1)
    assert uploader.probe() == "1 broker; topic things: 1 partition, not compacted (cleanup.policy=delete)"

    broker.topics["things"].settings["cleanup.policy"] = "compact,delete"
    assert uploader.probe() == "1 broker; topic things: 1 partition"
    assert set(broker.topics) == {"things"}
    assert kafka_broker.INIT_PRODUCER_ID not in broker.requests


# all of it, from a database


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def held(topic):
    documents = {}
    for seen in consumed(topic):
        documents[seen.key.decode()] = seen.value
    return {key: value for key, value in documents.items() if value is not None}


def expected(world):
    return {key: encode_document(document) for key, document in world.expected().items()}


def test_from_a_database_to_a_topic(world):
    topic = fresh_topic()
    world.manager.register_agent(KafkaAgent("topic", bootstrap_servers=servers(), topic=topic))
    world.tm.commit()
    for number in range(10):
        world.put(f"{number}", extra=number)
    world.clock += 10_000_000_000
    export(world.manager, "topic", world.host, now=world.clock)
    world.tm.begin()
    assert held(topic) == expected(world)

    world.put("3", extra=33)
    world.put("5", private=True)
    world.remove("7")
    world.run(world.manager.get_agent("topic"))

    assert held(topic) == expected(world)
    assert {"3", "5", "7"} & held(topic).keys() == {"3"}


def broken_off(*args):
    raise InterruptedError


def test_a_crash_between_commit_and_acknowledgement_repeats_nothing(world, monkeypatch):
    topic = fresh_topic()
    world.manager.register_agent(KafkaAgent("topic", bootstrap_servers=servers(), topic=topic))
    world.manager.activate("topic", from_start=True)
    world.tm.commit()
    world.put("a")
    world.run(world.manager.get_agent("topic"))
    world.put("b")
    with monkeypatch.context() as patch:
        patch.setattr(KafkaAgent, "acknowledge", broken_off)
        with pytest.raises(InterruptedError):
            world.run(world.manager.get_agent("topic"))
    assert keys(topic) == ["a", "b"]

    result = world.run(world.manager.get_agent("topic"))

    assert result.accepted == 0
    assert keys(topic) == ["a", "b"]
    world.put("c")
    assert world.run(world.manager.get_agent("topic")).accepted == 1
    assert keys(topic) == ["a", "b", "c"]
