import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from support.postgres_service import PostgresDestination, postgres_server
from support.tls_front import tls_front

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import AttachedFile, Op, Record, document_digest, encode_document
from livesync.delivery.uploader import Delivery, HeldRow
from livesync.destinations import _postgres_files, _postgres_rows, _postgres_server, postgres
from livesync.destinations._postgres_rows import storable
from livesync.destinations.postgres import PostgresAgent, PostgresUploader
from livesync.errors import DeliveryError, LeaseLost, OptionError, RetryLater, ServiceRefuses
from livesync.host import content_digest

pytestmark = pytest.mark.server


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id, position=7):
    return Record(Op.DELETE, object_id, position)


@pytest.fixture(scope="session")
def server():
    return postgres_server()


@pytest.fixture
def place():
    """Empty tables in a schema of their own; ``place.execute`` looks into them from outside."""
    return PostgresDestination()


@pytest.fixture
def opened():
    uploaders = []

    def make(agent, *, open_it=True) -> PostgresUploader:
        uploader = PostgresUploader(agent, backoff=Backoff(random=lambda: 0.0), sleep=lambda seconds: None)
        uploaders.append(uploader)
        if open_it:
            uploader.open(Delivery(agent.id, "track", 1))
        return uploader

    yield make
    for uploader in uploaders:
        uploader.close()


@pytest.fixture
def uploader(place, opened):
    return opened(place.agent(batch_size=1, max_attempts=2))


def send(uploader, till, records, *, end=True):
    uploader.begin_slice(till)
    result = uploader.iterate_over(records)
    if end:
        uploader.end_slice(till)
    return result


def backend_of(uploader):
    return uploader._connection.info.backend_pid


def kill_backend(server, uploader):
    """Let the server end the uploader's session, and wait until it is gone."""
    if uploader._connection is None:
        return  # the session was lost before, and nothing has asked for a new one yet
    server.execute("SELECT pg_terminate_backend(%s, 5000)", (backend_of(uploader),))


def pointers(place):
    return place.execute("SELECT agent_id, position, track_id, generation FROM {}.documents_pointers")


def ids(place):
    return sorted(place.documents())


# the tables


def test_the_tables_are_those_that_people_build_on(place):
    place.deliver((7, [upsert("a", title="Hello"), delete("b")]))

    assert place.execute("SELECT object_id, position, document, digest, original FROM {}.documents") == [
        ("a", 7, {"id": "a", "title": "Hello"}, document_digest({"id": "a", "title": "Hello"}), None)
    ]
    assert place.execute("SELECT * FROM {}.documents_tombstones") == [("b", 7)]
    assert place.execute("SELECT agent_id, position, track_id, generation FROM {}.documents_pointers") == [
        ("a", 7, "track", 1)
    ]
    assert (
        place.execute("SELECT object_id, name, media_type, size, digest, position FROM {}.documents_files")
        == []
    )
    assert place.execute("SELECT digest, content FROM {}.documents_contents") == []
    assert place.execute("SELECT document->>'title' FROM {}.documents") == [("Hello",)]


def test_every_table_says_whose_it_is(place):
    place.deliver((7, []))

    comments = place.execute(
        "SELECT obj_description(oid) FROM pg_class WHERE relnamespace = '{}'::regnamespace AND relkind = 'r'"
    )

    assert len(comments) == 5
    assert all(comment.startswith("livesync schema 1: ") for (comment,) in comments)


def test_several_agents_may_have_tables_of_their_own_in_one_schema(place):
    place.deliver((7, [upsert("a")]))
    place.deliver((8, [upsert("b", 8)]), agent_id="b", table='Plone "site" {x}')

    assert ids(place) == ["a"]
    assert place.execute('SELECT object_id FROM {}."Plone ""site"" {x}"') == [("b",)]


def test_ids_with_any_characters_are_kept_apart(place):
    some = ["a", "A", "ä", "a\u0308", "'", "\\", "%s", "{}", "a b", "\x7f", "\U0001f600", "x" * 512]
    place.deliver((7, [upsert(object_id, n=1) for object_id in some]))

    place.deliver((8, [upsert(object_id, 8, n=2) for object_id in some] + [delete("A", 8)]))

    assert place.documents() == {
        object_id: encode_document({"id": object_id, "n": 2}) for object_id in some if object_id != "A"
    }


def test_values_come_back_as_they_were(place):
    document = {
        "big": 10**400, "small": -(2**63), "float": 1.0, "tiny": 5e-324, "huge": 1.7976931348623157e308,
        "text": "\\u0000 \\\\u0000 \x1f \x7f \u2028 \U0001f600 \ufffd", "nothing": None, "yes": True,
        "": {"": []},
    }  # fmt: skip

    place.deliver((7, [Record(Op.UPSERT, "a", 7, document=document)]))

    [(text,)] = place.execute("SELECT document::text FROM {}.documents")
    held = json.loads(text)
    assert float(held.pop("huge")) == document.pop("huge")  # written with all its zeros
    assert held == document
    assert place.execute("SELECT original FROM {}.documents") == [(None,)]


# what JSONB has no room for


def test_a_text_with_nul_is_kept_whole_and_shown_with_a_sign_for_it(place):
    place.deliver((7, [upsert("a", title="one\x00two")]))

    [(shown, original)] = place.execute("SELECT document->>'title', original::text FROM {}.documents")
    assert shown == "one\ufffdtwo"
    assert original.encode() == encode_document({"id": "a", "title": "one\x00two"})
    with place.session() as uploader:
        assert [row.digest for row in uploader.rows()] == [
            document_digest({"id": "a", "title": "one\x00two"})
        ]

    place.deliver((8, [upsert("a", 8, title="one two")]))
    assert place.execute("SELECT document->>'title', original FROM {}.documents") == [("one two", None)]


texts = st.lists(st.sampled_from(["\x00", "\\", "u", "0", "u0000", '"', "\ufffd", "é"]), max_size=6).map(
    "".join
)


@given(st.dictionaries(texts, texts | st.lists(texts), max_size=4))
def test_only_nul_is_replaced_and_the_original_is_exact(document):
    body = encode_document(document)

    stored, original = storable(body)

    def shown(value):
        return value.replace("\x00", "\ufffd") if isinstance(value, str) else [shown(item) for item in value]

    pairs = json.loads(stored, object_pairs_hook=list)
    assert pairs == [(shown(key), shown(value)) for key, value in json.loads(body, object_pairs_hook=list)]
    assert original == (body.decode() if stored != body else None)
    assert (original is None) == ("\\x00" not in repr(document).replace("\\\\", ""))


def test_a_text_too_long_for_the_index_is_kept_and_its_beginning_is_found(place):
    words = [f"w{number:06}" for number in range(120_000)]

    result = place.deliver((7, [upsert("a", title="first", words=" ".join(words)), upsert("b")]))

    assert result.accepted == 2
    found = "SELECT object_id FROM {}.documents WHERE search @@ to_tsquery('simple', %s)"
    assert place.execute(found, ("first & w000000 & w010000",)) == [("a",)]
    assert place.execute(found, ("w119999",)) == []
    assert place.execute("SELECT length(document->>'words') FROM {}.documents WHERE object_id = 'a'") == [
        (len(" ".join(words)),)
    ]


def test_a_long_text_of_few_words_is_indexed_to_its_end(place):
    place.deliver((7, [upsert("a", text="same words again " * 30_000 + "end")]))

    assert place.execute("SELECT object_id FROM {}.documents WHERE search @@ 'end'::tsquery") == [("a",)]


# full text


def found(place, words, language="simple"):
    rows = place.execute(
        "SELECT object_id FROM {}.documents WHERE search @@ websearch_to_tsquery(%s::regconfig, %s)",
        (language, words),
    )
    return sorted(object_id for (object_id,) in rows)


def test_the_index_follows_the_documents(place):
    place.deliver(
        (
            7,
            [
                upsert("a", title="red apple"),
                upsert("b", title="green apple"),
                upsert("c", deep=[{"x": "pear"}]),
            ],
        )
    )
    assert found(place, "apple") == ["a", "b"]
    assert found(place, "pear") == ["c"]
    assert found(place, "title") == []  # a key is no text

    place.deliver(
        (8, [upsert("a", 8, title="red cherry"), delete("b", 8), upsert("d", 8, title="apple pie")])
    )

    assert found(place, "apple") == ["d"]
    assert found(place, "cherry") == ["a"]


def test_the_language_is_a_text_search_configuration(place):
    place.deliver((7, [upsert("a", title="The running dogs")]), language="english")

    assert found(place, "run dog", "english") == ["a"]
    assert place.deliver((8, []), language="pg_catalog.english").accepted == 0


def test_another_language_than_that_of_the_table_stops_the_agent(place, opened):
    place.deliver((7, []), language="english")

    with pytest.raises(ServiceRefuses, match=r"is in the language english: set language=english, or make"):
        opened(place.agent(language="simple"))


@pytest.mark.parametrize("language", ["klingon", "", "no.such.thing", "'", "a\0"])
def test_a_language_that_the_server_lacks_stops_the_agent(place, opened, language):
    for _ in range(2):
        with pytest.raises(ServiceRefuses, match="has no text search configuration"):
            opened(place.agent(language=language))
        place.deliver((7, []))


def test_the_search_column_is_the_users_to_drop_or_to_make_otherwise(place):
    place.deliver((7, [upsert("a", title="apple")]))

    place.execute("ALTER TABLE {}.documents DROP COLUMN search")
    place.deliver((8, [upsert("a", 8, title="pear")]), language="english")
    place.execute(
        "ALTER TABLE {}.documents ADD search tsvector"
        " GENERATED ALWAYS AS (to_tsvector('german', coalesce(document->>'title', ''))) STORED"
    )
    place.deliver((9, [upsert("b", 9, title="Birnen")]), language="german")

    assert found(place, "Birne", "german") == ["b"]


# what did not change


def test_a_document_that_did_not_change_gets_its_position_and_nothing_else(place):
    place.deliver((7, [upsert("a", title="apple"), upsert("b", title="pear")]))
    place.execute("CREATE FUNCTION {}.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
    place.execute("CREATE TRIGGER t BEFORE UPDATE OF document ON {}.documents EXECUTE FUNCTION {}.refuse()")

    result = place.deliver((8, [upsert("a", 8, title="apple"), upsert("b", 8, title="pear")]))

    assert (result.accepted, result.dead) == (2, 0)
    assert place.execute("SELECT DISTINCT position FROM {}.documents") == [(8,)]


def test_a_row_that_somebody_altered_is_mended_by_the_same_document(place):
    place.deliver((7, [upsert("a", title="apple")]))
    place.alter("a")
    with place.session() as uploader:
        assert uploader.rows_of(["a"]) == [HeldRow("a", 7, "")]

    place.deliver((7, [upsert("a", title="apple")]))

    assert place.documents() == {"a": encode_document({"id": "a", "title": "apple"})}
    with place.session() as uploader:
        assert uploader.rows_of(["a"]) == [HeldRow("a", 7, document_digest({"id": "a", "title": "apple"}))]


def test_rows_come_page_by_page_as_they_are_then(place, uploader, monkeypatch):
    monkeypatch.setattr(_postgres_rows, "PAGE", 2)
    place.deliver((7, [upsert(object_id) for object_id in "abcdef"]))

    rows = uploader.rows(quick=True)
    first = [next(rows).object_id for _ in range(2)]
    place.deliver((8, [delete("c", 8), upsert("cc", 8), upsert("a", 8, n=1)]))

    assert first + [row.object_id for row in rows] == ["a", "b", "cc", "d", "e", "f"]
    assert [row.object_id for row in uploader.rows("d")] == ["e", "f"]


def test_an_id_with_nul_has_no_row_and_a_place_in_the_order(place, uploader):
    place.deliver((7, [upsert(object_id) for object_id in ("a", "aa", "b")]))

    assert [row.object_id for row in uploader.rows("a\x00z")] == ["aa", "b"]
    assert [row.object_id for row in uploader.rows_of(["a\x00", "b"])] == ["b"]


def test_reading_goes_on_with_a_new_connection(place, uploader, server, monkeypatch):
    monkeypatch.setattr(_postgres_rows, "PAGE", 1)
    place.deliver((7, [upsert(object_id) for object_id in "abc"]))
    rows = uploader.rows()
    assert next(rows).object_id == "a"

    kill_backend(server, uploader)

    with pytest.raises(RetryLater, match="PostgreSQL at"):
        next(rows)
    assert [row.object_id for row in uploader.rows("a")] == ["b", "c"]


# poison


@pytest.fixture
def picky(place):
    """Tables to which somebody has added a constraint."""
    place.deliver((6, []))
    place.execute("ALTER TABLE {}.documents ADD CHECK (document->>'title' <> 'poison')")
    return place


def test_a_poison_record_stops_nobody_and_undoes_nothing(picky, opened):
    uploader = opened(picky.agent(batch_size=8))
    records = [upsert(f"{n:02}", title="poison" if n in (3, 17) else "good") for n in range(30)]

    result = send(uploader, 7, [*records[:20], delete("00"), *records[20:]])

    assert (result.accepted, result.dead) == (29, 2)
    assert [dead.object_id for dead in result.dead_records] == ["03", "17"]
    assert ids(picky) == [f"{n:02}" for n in range(1, 30) if n not in (3, 17)]
    assert pointers(picky) == [("a", 7, "track", 1)]


def test_a_reason_is_the_servers_and_quotes_nothing_of_the_document(picky, uploader, caplog):
    result = send(uploader, 7, [upsert("a", title="poison", hidden="not for everybody")])

    [dead] = result.dead_records
    assert "violates check constraint" in dead.reason
    assert "SQLSTATE 23514" in dead.reason
    assert "everybody" not in dead.reason
    assert "everybody" not in caplog.text
    assert "\n" not in dead.reason


def test_an_id_that_a_text_cannot_hold_is_a_dead_letter(place):
    result = place.deliver((7, [upsert("a"), upsert("b\x00"), delete("c\x00"), upsert("d")]))

    assert (result.accepted, result.dead) == (2, 2)
    assert "invalid byte sequence" in result.dead_records[0].reason
    assert ids(place) == ["a", "d"]


def test_what_is_more_than_a_message_may_be_is_sent_in_parts_and_refused_alone(place, monkeypatch):
    monkeypatch.setattr(postgres, "MAX_VALUE_BYTES", 1000)

    result = place.deliver(
        (7, [upsert(f"{n}", text="x" * 300) for n in range(9)] + [upsert("big", text="x" * 990)])
    )

    assert (result.accepted, result.dead) == (9, 1)
    assert result.dead_records[0].reason == "larger than PostgreSQL takes at once"
    assert len(ids(place)) == 9


@pytest.mark.parametrize("state", ["22003", "23502", "54000", "P0001", "XX000"])
def test_what_the_server_says_of_a_record_is_a_dead_letter(place, uploader, state):
    raise_in(place, state)

    result = send(uploader, 7, [upsert("a"), delete("b")])

    assert (result.accepted, result.dead) == (1, 1)
    assert result.dead_records[0].reason == f"raised (SQLSTATE {state})"


# a server that cannot, now or ever


def raise_in(place, state):
    """Let the server answer every insert of a document with the error of this SQLSTATE."""
    place.execute(
        "CREATE OR REPLACE FUNCTION {}.fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN RAISE ''raised'' USING ERRCODE = ''{state}''; END'"
    )
    place.execute("CREATE TRIGGER fail BEFORE INSERT ON {}.documents EXECUTE FUNCTION {}.fail()")


@pytest.mark.parametrize("state", ["53100", "53200", "40001", "40P01", "55P03", "57014", "58030", "08006"])
def test_what_another_try_may_mend_is_tried_again_and_nothing_is_lost(place, uploader, state):
    place.deliver((6, [upsert("a", 6)]))
    uploader.read_pointer()
    raise_in(place, state)

    with pytest.raises(RetryLater, match=r"PostgreSQL at .*: raised \(given up after 2 tries\)"):
        send(uploader, 7, [delete("a"), upsert("b")])
    uploader.abandon_slice()
    assert ids(place) == ["a"]
    assert pointers(place) == [("a", 6, "track", 1)]

    place.execute("DROP TRIGGER fail ON {}.documents")
    assert send(uploader, 7, [delete("a"), upsert("b")]).accepted == 2
    assert ids(place) == ["b"]


def test_a_batch_that_comes_through_later_keeps_those_before_it(place, opened):
    place.deliver((6, []))
    waits = []

    def mend(seconds):
        waits.append(seconds)
        place.execute(
            "CREATE OR REPLACE FUNCTION {}.fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
        )

    uploader = PostgresUploader(place.agent(batch_size=1), backoff=Backoff(random=lambda: 0.0), sleep=mend)
    uploader.open(Delivery("a", "track", 1))
    raise_in(place, "53100")
    try:
        result = send(uploader, 7, [delete("x"), upsert("a"), upsert("b")])
    finally:
        uploader.close()

    assert len(waits) == 1
    assert result.accepted == 3
    assert (ids(place), place.tombstones()) == (["a", "b"], {"x": 7})


def test_nobody_waits_for_the_locks_of_a_run_that_waits_itself(place, opened):
    place.deliver((6, []))
    raise_in(place, "53100")
    locks = []

    def look(seconds):
        locks.extend(place.execute("SELECT FROM pg_locks WHERE relation = '{}.documents_pointers'::regclass"))

    uploader = PostgresUploader(place.agent(max_attempts=2), backoff=Backoff(random=lambda: 0.0), sleep=look)
    uploader.open(Delivery("a", "track", 1))
    try:
        with pytest.raises(RetryLater):
            send(uploader, 7, [upsert("a")])
    finally:
        uploader.close()

    assert locks == []


@pytest.mark.parametrize(
    ("state", "text"),
    [("42501", "grant the role what it needs"), ("25006", "it takes no writing"), ("XX001", "damaged"),
     ("0A000", "SQLSTATE 0A000")],
)  # fmt: skip
def test_what_no_try_mends_stops_the_agent(place, uploader, state, text):
    raise_in(place, state)

    with pytest.raises(ServiceRefuses, match=text):
        send(uploader, 7, [upsert("a")])
    uploader.abandon_slice()

    assert ids(place) == []


def test_a_constraint_that_would_wait_for_the_commit_is_looked_at_with_each_batch(place, uploader):
    place.execute(
        "CREATE FUNCTION {}.check_title() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.document->>'title' = 'poison' THEN RAISE 'no poison'; END IF; RETURN NULL; END $$"
    )
    place.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {}.documents DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION {}.check_title()"
    )

    result = send(uploader, 7, [upsert("a"), upsert("b", title="poison"), upsert("c")])

    assert [dead.reason for dead in result.dead_records] == ["no poison (SQLSTATE P0001)"]
    assert ids(place) == ["a", "c"]


def test_a_pointer_that_the_server_refuses_stops_the_agent_and_keeps_nothing(place, uploader):
    place.execute("ALTER TABLE {}.documents_pointers ADD CHECK (position < 8)")
    send(uploader, 7, [upsert("a")])

    with pytest.raises(ServiceRefuses, match="violates check constraint"):
        send(uploader, 8, [upsert("b", 8)])

    assert ids(place) == ["a"]
    assert pointers(place) == [("a", 7, "track", 1)]


# a connection that breaks


def test_a_slice_whose_connection_broke_is_not_ended_without_its_first_batches(place, uploader, server):
    place.deliver((6, []))
    uploader.read_pointer()

    def records():
        yield upsert("a")
        yield upsert("b")
        kill_backend(server, uploader)
        yield upsert("c")

    with pytest.raises(DeliveryError, match="the slice was rolled back, run again"):
        send(uploader, 7, records())
    uploader.abandon_slice()
    assert ids(place) == []
    assert pointers(place) == [("a", 6, "track", 1)]

    # the next run is on a new connection
    assert send(uploader, 7, [upsert("a"), upsert("b"), upsert("c")]).accepted == 3
    assert ids(place) == ["a", "b", "c"]


def test_a_connection_that_broke_before_a_slice_is_made_anew(place, uploader, server):
    send(uploader, 7, [upsert("a")])
    before = backend_of(uploader)

    kill_backend(server, uploader)

    assert send(uploader, 8, [upsert("b", 8)]).accepted == 1
    assert backend_of(uploader) != before
    kill_backend(server, uploader)
    send(uploader, 9, [])
    assert pointers(place) == [("a", 9, "track", 1)]


def test_a_slice_in_which_nothing_was_sent_leaves_no_transaction(place, uploader):
    uploader.begin_slice(7)
    uploader.end_slice(None)

    assert pointers(place) == []
    assert uploader._connection.info.transaction_status == TransactionStatus.IDLE


def test_a_connection_that_broke_before_the_commit_moves_no_pointer(place, uploader, server):
    send(uploader, 7, [upsert("a")], end=False)
    kill_backend(server, uploader)

    with pytest.raises(RetryLater):
        uploader.end_slice(7)
    uploader.abandon_slice()

    assert ids(place) == []
    assert pointers(place) == []
    assert uploader.read_pointer() is None


def test_a_network_that_is_cut_costs_a_slice_and_no_more(place, uploader):
    def records():
        yield upsert("a")
        with socket.socket(fileno=os.dup(uploader._connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        yield upsert("b")

    with pytest.raises(DeliveryError, match="the slice was rolled back, run again"):
        send(uploader, 7, records())
    uploader.abandon_slice()

    assert send(uploader, 7, [upsert("a"), upsert("b")]).accepted == 2


def test_a_server_that_goes_while_a_run_begins_may_be_back_later(uploader, server):
    kill_backend(server, uploader)

    for look in (uploader._server._check, lambda it: uploader._tables.make(it, uploader._server, "simple")):
        with pytest.raises(RetryLater, match="PostgreSQL at"), uploader._meaning():
            look(uploader._connection)


def test_a_transaction_that_the_server_gave_up_is_not_taken_for_committed(place, uploader):
    send(uploader, 7, [upsert("a")], end=False)
    with pytest.raises(psycopg.Error):
        uploader._connection.execute("SELECT 1 / 0")

    with pytest.raises(DeliveryError, match="rolled the slice back, run again"):
        uploader.end_slice(None)

    assert ids(place) == []


def test_a_mistake_of_ours_is_not_taken_for_an_answer(uploader):
    with pytest.raises(psycopg.ProgrammingError, match="placeholders"), uploader._meaning():
        uploader._connection.execute("SELECT %s, %s", (1,))


def test_a_restart_of_the_server_costs_a_slice_and_no_more(place, uploader, server):
    send(uploader, 7, [upsert("a")])

    def records():
        yield upsert("b", 8)
        server.restart()
        yield upsert("c", 8)

    with pytest.raises(DeliveryError, match="run again"):
        send(uploader, 8, records())
    uploader.abandon_slice()

    assert ids(place) == ["a"]
    send(uploader, 8, [upsert("b", 8), upsert("c", 8)])
    assert ids(place) == ["a", "b", "c"]
    assert pointers(place) == [("a", 8, "track", 1)]


def test_abandoning_and_closing_a_broken_connection_is_no_error(uploader, server):
    send(uploader, 7, [upsert("a")], end=False)
    kill_backend(server, uploader)

    uploader.abandon_slice()
    uploader.close()
    uploader.close()


KILLED = """
import os, signal, sys
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations.postgres import PostgresAgent, PostgresUploader
dsn, schema, when = sys.argv[1:]
uploader = PostgresUploader(PostgresAgent("a", dsn=dsn, schema=schema, batch_size=1))
uploader.open(Delivery("a", "track", 1))
uploader.begin_slice(8)
uploader.iterate_over([Record(Op.UPSERT, "b", 8, document={}), Record(Op.DELETE, "a", 8)])
if when == "after":
    uploader.end_slice(8)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "pointer", "living"), [("before", 7, ["a"]), ("after", 8, ["b"])])
def test_rows_and_pointer_agree_after_a_kill(place, server, when, pointer, living):
    place.deliver((7, [upsert("a")]))

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, server.dsn(place.database), place.schema, when], check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert [position for _, position, _, _ in pointers(place)] == [pointer]
    assert ids(place) == living
    place.deliver((8, [upsert("b", 8), delete("a", 8)]))
    assert (ids(place), place.tombstones()) == (["b"], {"a": 8})


# two runners


def test_a_second_runner_waits_and_then_finds_that_it_has_lost(place, opened, monkeypatch):
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_S", 0.01)
    first, second = opened(place.agent(batch_size=1)), opened(place.agent(max_attempts=2))
    send(first, 7, [upsert("a"), upsert("b")], end=False)

    with pytest.raises(RetryLater, match="lock timeout"):
        send(second, 7, [upsert("c")])
    second.abandon_slice()
    first.end_slice(7)

    with pytest.raises(LeaseLost, match="another runner has moved the pointer of agent 'a'"):
        send(second, 7, [upsert("c")])
    assert ids(place) == ["a", "b"]


def test_a_runner_that_lost_learns_it_before_it_writes_anything(place, opened):
    slow, quick = opened(place.agent()), opened(place.agent())
    send(quick, 8, [upsert("a", 8)])

    for attempt in (lambda: slow.missing_files({"x"}), lambda: slow.iterate_over([upsert("b")]),
                    lambda: slow.end_slice(7), lambda: slow.sweep(99)):  # fmt: skip
        slow.begin_slice(7)
        with pytest.raises(LeaseLost):
            attempt()

    assert ids(place) == ["a"]


def test_a_frozen_runner_loses_its_locks_and_its_slice(place, opened, server):
    frozen = opened(place.agent(batch_size=1, idle_timeout_s=0.01))
    send(frozen, 7, [upsert("a")], end=False)
    pid = backend_of(frozen)
    # one that runs is not disturbed; wait until the server has had enough
    while server.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)):
        pass

    place.deliver((7, [upsert("a", n=2)]))

    with pytest.raises(DeliveryError, match="run again"):
        frozen.iterate_over([upsert("b")])
    with pytest.raises(LeaseLost):
        frozen.end_slice(7)
    assert place.documents() == {"a": encode_document({"id": "a", "n": 2})}


def test_agents_that_share_tables_come_one_after_the_other(place, opened, monkeypatch):
    one, other = opened(place.agent("one")), opened(place.agent("other"))
    send(one, 8, [delete("a", 8)], end=False)  # a tombstone that the other cannot see yet
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_S", 0.01)
    impatient = opened(place.agent("third", max_attempts=1))

    with pytest.raises(RetryLater):
        send(impatient, 7, [upsert("a")])
    waiting = threading.Thread(target=send, args=(other, 7, [upsert("a"), upsert("b")]))
    waiting.start()
    one.end_slice(8)
    waiting.join()

    assert (ids(place), place.tombstones()) == (["b"], {"a": 8})
    assert sorted(row[:2] for row in pointers(place)) == [("one", 8), ("other", 7)]


def test_a_slice_has_guards_and_leaves_none_behind(place, opened):
    uploader = opened(place.agent(idle_timeout_s=45.5))
    send(uploader, 7, [upsert("a")], end=False)
    connection = uploader._connection

    def setting(name):
        return connection.execute(f"SHOW {name}").fetchone()[0]

    assert setting("application_name") == "livesync"
    assert setting("lock_timeout") == "10s"
    assert setting("idle_in_transaction_session_timeout") == "45500ms"
    assert setting("transaction_isolation") == "read committed"
    uploader.end_slice(7)
    assert setting("lock_timeout") == "0"
    assert setting("idle_in_transaction_session_timeout") == "0"
    assert connection.execute("SELECT FROM pg_prepared_statements").fetchall() == []


def test_two_runners_that_begin_at_once_make_the_tables_once(place):
    agents = ["a1", "a2", "a3"]
    with ThreadPoolExecutor(3) as threads:
        results = list(
            threads.map(lambda agent_id: place.deliver((7, [upsert(agent_id)]), agent_id=agent_id), agents)
        )

    assert [result.accepted for result in results] == [1, 1, 1]
    assert ids(place) == agents


# files


def attached(name, content, *, digest=None, sent=True):
    return AttachedFile(
        name,
        "text/plain",
        len(content),
        digest or content_digest(content),
        io.BytesIO(content) if sent else None,
    )


def with_files(object_id, position, *files, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document}, files=files)


def contents(place):
    return sorted(content for (content,) in place.execute("SELECT content FROM {}.documents_contents"))


def test_a_content_is_held_once_and_goes_with_the_last_file_that_names_it(place):
    place.deliver((7, [with_files("a", 7, attached("x", b"one"), attached("y", b"two")),
                       with_files("b", 7, attached("z", b"one"))]))  # fmt: skip
    assert contents(place) == [b"one", b"two"]
    assert place.execute(
        "SELECT object_id, name, media_type, size, position FROM {}.documents_files ORDER BY 1, 2"
    ) == [("a", "x", "text/plain", 3, 7), ("a", "y", "text/plain", 3, 7), ("b", "z", "text/plain", 3, 7)]

    place.deliver((8, [delete("a", 8)]))
    assert contents(place) == [b"one"]

    place.deliver((9, [with_files("b", 9)]))
    assert contents(place) == []


def test_a_content_that_was_said_to_be_there_stays_until_the_slice_ends(place, opened):
    place.deliver((7, [with_files("a", 7, attached("x", b"one"))]))
    uploader = opened(place.agent(batch_size=1))
    uploader.begin_slice(8)
    assert uploader.missing_files({content_digest(b"one")}) == set()

    uploader.iterate_over([delete("a", 8), with_files("b", 8, attached("y", b"one", sent=False))])
    uploader.end_slice(8)

    assert place.files() == {"b": {"y": b"one"}}


def test_a_content_that_came_with_a_refused_record_is_there_for_the_next(picky, opened):
    uploader = opened(picky.agent(batch_size=10))
    refused = with_files("a", 7, attached("x", b"shared"), attached("y", b"alone"), title="poison")

    result = send(uploader, 7, [refused, with_files("b", 7, attached("x", b"shared", sent=False))])

    assert result.dead == 1
    assert picky.files() == {"b": {"x": b"shared"}}
    assert contents(picky) == [b"shared"]


def test_a_content_that_is_not_what_its_digest_says_is_refused(place):
    wrong = with_files("b", 7, attached("x", b"two", digest=content_digest(b"one")))

    result = place.deliver((7, [upsert("a"), wrong, upsert("c")]))

    assert (result.accepted, result.dead) == (2, 1)
    assert (ids(place), contents(place)) == (["a", "c"], [])


def test_a_content_larger_than_a_value_may_be_is_refused(place, monkeypatch):
    monkeypatch.setattr(_postgres_files, "MAX_VALUE_BYTES", 3)

    result = place.deliver(
        (7, [with_files("a", 7, attached("x", b"four")), with_files("b", 7, attached("x", b"3"))])
    )

    assert result.dead_records[0].reason == "its file 'x' is larger than PostgreSQL can hold"
    assert place.files() == {"b": {"x": b"3"}}


def test_a_record_that_says_nothing_of_files_leaves_them(place):
    place.deliver((7, [with_files("a", 7, attached("x", b"one"))]))

    place.deliver((8, [upsert("a", 8, n=2)]))

    assert place.files() == {"a": {"x": b"one"}}


def test_a_sweep_takes_files_along(place):
    place.deliver((7, [with_files("gone", 7, attached("x", b"one"))]))
    place.deliver((9, [with_files("kept", 9, attached("x", b"two"))]))

    with place.session() as uploader:
        assert uploader.sweep(9) == 1

    assert place.files() == {"kept": {"x": b"two"}}
    assert contents(place) == [b"two"]
    assert place.tombstones() == {"gone": 9}


# who is let in, and where


@pytest.fixture
def reach(server, opened):
    """Opens an uploader on a database, as a role."""

    def open_it(database="postgres", user="postgres", *, dsn=None, **options):
        return opened(PostgresAgent("a", dsn=dsn or server.dsn(database, user), **options))

    return open_it


@pytest.fixture
def no_password(monkeypatch, tmp_path):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    return tmp_path / "pgpass"


def test_a_password_comes_from_the_secret_or_from_libpq(server, reach, no_password, monkeypatch):
    role = server.new_role("LOGIN PASSWORD 's3cret' IN ROLE with_password")
    database = server.new_database(f"OWNER {role}")
    monkeypatch.setenv("PG_SECRET", "s3cret")

    assert reach(database, role, password="env:PG_SECRET").probe()
    no_password.write_text(f"*:*:*:{role}:s3cret\n")
    no_password.chmod(0o600)
    assert reach(database, role).probe()


def test_wrong_credentials_stop_the_agent_and_are_not_repeated(
    server, reach, no_password, monkeypatch, caplog
):
    role = server.new_role("LOGIN PASSWORD 's3cret' IN ROLE with_password")
    monkeypatch.setenv("PG_SECRET", "wr0ng")

    with pytest.raises(ServiceRefuses, match="password authentication failed") as caught:
        reach("postgres", role, password="env:PG_SECRET")
    assert "wr0ng" not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)
    with pytest.raises(ServiceRefuses, match="no password supplied"):
        reach("postgres", role)
    monkeypatch.delenv("PG_SECRET")
    with pytest.raises(OptionError, match="PG_SECRET is empty or not there"):
        reach("postgres", role, password="env:PG_SECRET")


def test_a_database_or_role_that_is_not_there_or_closed_stops_the_agent(server, reach):
    closed = server.new_database("ALLOW_CONNECTIONS false")
    private = server.new_database()
    server.execute(f"REVOKE CONNECT ON DATABASE {private} FROM public")
    asleep, other = server.new_role("NOLOGIN"), server.new_role()

    for database, user, text in (
        ("nowhere", "postgres", 'database "nowhere" does not exist'),
        ("postgres", "nobody", 'role "nobody" does not exist'),
        ("postgres", asleep, "is not permitted to log in"),
        (closed, "postgres", "is not currently accepting connections"),
        (private, other, "permission denied for database"),
    ):
        with pytest.raises(ServiceRefuses, match=text) as caught:
            reach(database, user)
        assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_may_be_later(server, reach, tmp_path):
    crowded = server.new_role("LOGIN CONNECTION LIMIT 0")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for dsn in (
        f"host=127.0.0.1 port={port}",
        f"host={tmp_path}",
        "host=no-such-host.invalid",
        f"host=127.0.0.1,127.0.0.1 port={port},{port}",
        server.dsn(user=crowded),
    ):
        with pytest.raises(RetryLater, match=r"PostgreSQL at .* cannot be reached: ") as caught:
            reach(dsn=dsn + " dbname=postgres")
        assert "\n" not in str(caught.value)


def test_a_port_that_is_not_postgresql_stops_the_agent(reach):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServiceRefuses, match=r"refuses us: .*invalid response"):
            reach(dsn=f"host=127.0.0.1 port={listener.getsockname()[1]} sslmode=prefer")
        thread.join()


@pytest.mark.parametrize(
    "dsn", ["sslmode=sometimes", "port=70000", "host=a,b,c port=1,2", "service=none", "port=x"]
)
def test_an_address_that_makes_no_sense_stops_the_agent(reach, dsn):
    with pytest.raises(ServiceRefuses, match="refuses us"):
        reach(dsn=dsn)


def test_a_role_that_may_not_make_tables_is_told_so(server, reach):
    database, role = server.new_database(), server.new_role()

    with pytest.raises(ServiceRefuses, match="permission denied for schema public; grant the role"):
        reach(database, role)
    with pytest.raises(ServiceRefuses, match=r"permission denied for database .*; grant the role"):
        reach(database, role, schema="own")


def test_a_role_with_no_more_rights_than_it_needs_delivers(server, reach):
    database, role = server.new_database(), server.new_role()
    reach(database, schema="sync").close()
    server.execute(f"GRANT USAGE ON SCHEMA sync TO {role}", database=database)
    server.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sync TO {role}", database=database
    )
    uploader = reach(database, role, schema="sync")

    assert uploader.probe().endswith("table sync.documents")
    send(uploader, 7, [with_files("a", 7, attached("x", b"one")), upsert("b")])
    send(uploader, 8, [delete("a", 8), upsert("b", 8, n=2)])
    assert uploader.sweep(9) == 1

    server.execute(f"REVOKE INSERT ON sync.documents FROM {role}", database=database)
    uploader.read_pointer()
    with pytest.raises(ServiceRefuses, match=r"the role may not INSERT in sync\.documents: grant it"):
        uploader.probe()
    with pytest.raises(ServiceRefuses, match="permission denied for table documents; grant the role"):
        send(uploader, 9, [upsert("c", 9)])


def test_a_session_that_may_only_read_stops_the_agent(server, reach):
    database, role = server.new_database(), server.new_role()
    server.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")

    with pytest.raises(ServiceRefuses, match="it takes no writing: name a primary"):
        reach(database, role)


@pytest.mark.slow
def test_a_standby_is_waited_for_until_it_is_the_primary(server, reach):
    with server.standby() as (dsn, promote):
        with pytest.raises(RetryLater, match="is a standby, which takes no writing"):
            reach(dsn=dsn)
        promote()
        assert send(reach(dsn=dsn), 7, [upsert("a")]).accepted == 1


def test_a_certificate_that_does_not_verify_stops_the_agent_and_one_that_does_is_taken(
    server, reach, tmp_path
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    for name, made in (("right", authority), ("wrong", trustme.CA())):
        made.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    with tls_front(f"{server.socket_directory}/.s.PGSQL.5432", context) as port:

        def secure(root, host="localhost"):
            return (
                f"host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres"
                f" sslmode=verify-full sslrootcert={tmp_path / root}.pem"
            )

        for dsn, said in (
            (secure("wrong"), "certificate verify failed"),
            (secure("right", "another.example"), "does not match host name"),
        ):
            with pytest.raises(ServiceRefuses, match=said) as told:
                reach(dsn=dsn)
            assert "\n" not in told.value.reason
        assert send(reach(dsn=secure("right")), 7, [upsert("a")]).accepted == 1


def test_an_old_server_stops_the_agent(reach, monkeypatch):
    monkeypatch.setattr(_postgres_server, "_OLDEST_VERSION", 99)

    with pytest.raises(ServiceRefuses, match=r"is PostgreSQL 1\d: 99 or newer is needed"):
        reach()


def test_a_database_whose_encoding_lacks_characters_stops_the_agent(server, reach):
    database = server.new_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")

    with pytest.raises(ServiceRefuses, match="has the encoding LATIN1"):
        reach(database)


def test_a_probe_says_where_and_what(place, uploader):
    said = uploader.probe()

    assert said.startswith(
        f"PostgreSQL at {place.server.socket_directory}, database {place.database}: PostgreSQL 1"
    )
    assert said.endswith(f"table {place.schema}.documents")


# tables that are not ours


@pytest.mark.parametrize(
    "relation",
    ["TABLE {}.documents (id int)", "VIEW {}.documents_files AS SELECT 1", "SEQUENCE {}.documents_pointers"],
)
def test_another_applications_tables_are_not_touched(place, opened, relation):
    place.execute("CREATE SCHEMA {}")
    place.execute("CREATE " + relation)
    before = place.execute("SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace")

    with pytest.raises(ServiceRefuses, match="is another application's"):
        opened(place.agent())

    assert place.execute("SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace") == before


def test_a_function_of_the_name_is_not_replaced(place, opened):
    place.execute("CREATE SCHEMA {}")
    place.execute(
        "CREATE FUNCTION {}.documents_words(regconfig, jsonb) RETURNS tsvector"
        " LANGUAGE sql AS 'SELECT $2::text::tsvector'"
    )

    with pytest.raises(ServiceRefuses, match='function "documents_words" already exists'):
        opened(place.agent())

    assert place.execute("SELECT to_regclass('{}.documents')") == [(None,)]


def test_a_newer_schema_is_not_touched(place, opened):
    place.deliver((7, []))
    place.execute("COMMENT ON TABLE {}.documents_files IS 'livesync schema 2: files'")

    with pytest.raises(ServiceRefuses, match=r"documents_files was made by .*schema 2, this one has 1"):
        opened(place.agent())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("DROP TABLE {}.documents", "lacks the table documents of livesync's tables"),
        ("DROP TABLE {}.documents_tombstones", "lacks the table documents_tombstones of"),
        ("ALTER TABLE {}.documents DROP COLUMN checksum", "lacks the column checksum bytea of"),
        ("ALTER TABLE {}.documents_pointers ALTER position TYPE text", "lacks the column position bigint of"),
    ],
)
def test_tables_that_are_not_whole_stop_the_agent_and_are_not_made_anew(place, opened, change, text):
    place.deliver((7, [upsert("a")]))
    place.execute(change)

    with pytest.raises(ServiceRefuses, match=text):
        opened(place.agent())


def test_a_table_that_was_changed_in_the_middle_of_a_run_stops_the_agent(place, uploader):
    place.execute("ALTER TABLE {}.documents RENAME COLUMN digest TO hash")

    with pytest.raises(ServiceRefuses, match=r"does not exist; the tables are not as livesync made them"):
        send(uploader, 7, [upsert("a")])


def test_columns_that_somebody_added_are_no_trouble(place):
    place.deliver((7, [upsert("a", title="x")]))
    place.execute(
        "ALTER TABLE {}.documents ADD seen timestamptz DEFAULT now(),"
        " ADD title text GENERATED ALWAYS AS (document->>'title') STORED"
    )

    place.deliver((8, [upsert("a", 8, title="y")]))

    assert place.execute("SELECT title FROM {}.documents") == [("y",)]


# options


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db password=s3cret",
        "postgresql://sync:s3cret@db/site",
        "postgresql://sync@db/site?password=s3cret",
        "host=db sslpassword=s3cret",
        "s3cret",
        "host=db s3cret",
        "mysql://sync:s3cret@db/site",
        "host='s3cret",
        "no_such_thing=s3cret",
    ],
)
def test_a_password_or_nonsense_in_the_dsn_is_refused_and_not_repeated(dsn):
    with pytest.raises(OptionError, match="option dsn: ") as caught:
        PostgresAgent("a", dsn=dsn)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"table": "x" * 53},
        {"table": "é" * 27},
        {"table": ""},
        {"table": "a\0b"},
        {"table": "50%"},
        {"schema": ""},
        {"schema": "x" * 64},
    ],
)
def test_a_name_that_postgresql_would_cut_is_refused(options):
    with pytest.raises(OptionError, match=f"option {next(iter(options))}: a name has"):
        PostgresAgent("a", dsn="dbname=site", **options)


def test_the_longest_names_work(place):
    place.deliver((7, [upsert("a")]), table="é" * 26)

    names = place.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace AND relkind = 'r'"
    )
    assert {"é" * 26, "é" * 26 + "_tombstones"} <= {name for (name,) in names}


def test_what_identifies_the_tables():
    options = {option.name: option for option in PostgresAgent.options}

    assert {name for name, option in options.items() if option.identifies} == {"dsn", "schema", "table"}
    with pytest.raises(OptionError, match="option dsn is needed"):
        PostgresAgent("a")


def test_open_comes_first(place, opened):
    with pytest.raises(RuntimeError, match=r"open\(\) comes before"):
        opened(place.agent(), open_it=False).iterate_over([upsert("a")])


# and against a model, over several slices, with crashes at every step

steps = st.lists(
    st.tuples(
        st.sampled_from(["keep", "abandon", "break", "part"]),
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(5, 9), st.none() | st.integers(0, 1)), max_size=5
        ),
    ),
    max_size=5,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=steps, batch_size=st.integers(1, 3))
def test_rows_and_tombstones_keep_to_the_rule_of_positions(server, steps, batch_size):
    place = PostgresDestination()
    held: dict[str, tuple[int, int | None]] = {}
    with place.session(batch_size=batch_size) as uploader:
        for end, changes in steps:
            staged = dict(held)
            expected = []
            records = []
            for object_id, position, value in changes:
                record = (
                    delete(object_id, position) if value is None else upsert(object_id, position, n=value)
                )
                records.append(record)
                expected.append(staged.get(object_id, (-1, None))[0] <= position)
                if expected[-1]:
                    staged[object_id] = (position, value)
            uploader.begin_slice(9)
            result = uploader.iterate_over(records)
            assert (result.accepted, result.stale) == (sum(expected), len(expected) - sum(expected))
            if end == "keep":
                uploader.end_slice(9)
            elif end == "part":
                uploader.end_slice(None)
            elif end == "abandon":
                uploader.abandon_slice()
            else:
                kill_backend(server, uploader)
                uploader.abandon_slice()
            held = staged if end in ("keep", "part") else held

    assert place.documents() == {
        key: encode_document({"id": key, "n": value}) for key, (_, value) in held.items() if value is not None
    }
    assert place.tombstones() == {key: position for key, (position, value) in held.items() if value is None}


# the documentation

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "postgres.rst"


def test_the_statements_of_the_documentation_work(server, reach):
    database = server.new_database()
    send(reach(database), 7, [with_files("a", 7, attached("x", b"one"), title="ZODB", state="published")])
    server.execute("CREATE ROLE sync")
    blocks = re.findall(r"code-block:: sql\n\n((?:   .*\n|\n)+)", PAGE.read_text("utf-8"))

    answers = [
        server.execute(statement, database=database)
        for block in blocks
        for statement in block.split(";")
        if statement.strip()
    ]

    assert len(blocks) == 3
    assert answers[-2:] == [[("a",)], [("a", "x", b"one")]]
    send(reach(database, language="german"), 8, [upsert("b", 8, title="Bäume")])
    assert server.execute("SELECT object_id FROM documents WHERE search @@ 'baum'", database=database) == [
        ("b",)
    ]
