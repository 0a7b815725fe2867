import json
import logging
import time
import traceback
from base64 import b64decode, b64encode
from datetime import datetime, timezone
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from support.webhook_service import (
    OLD_SECRET,
    SECRET,
    WebhookReceiver,
    is_string_of_cloudevents,
    read_event,
)
from support.wsgi_service import Fault, Service, answering

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record, encode_document
from livesync.delivery.uploader import Delivery
from livesync.destinations.webhook import WebhookAgent, WebhookUploader, sign, signing_key, subject
from livesync.errors import OptionError, RetryLater, ServiceRefuses

NOW = 1_700_000_000.7
DELIVERY = Delivery("a", "8a7f0c1e-2f4b-4a55-9d11-6f6d2a1c3b90", 1)


def upsert(object_id, position=7, actions=(), **document):
    return Record(Op.UPSERT, object_id, position, frozenset(actions), document={"id": object_id, **document})


def delete(object_id, position=7):
    return Record(Op.DELETE, object_id, position)


@pytest.fixture
def receiver():
    return WebhookReceiver()


@pytest.fixture
def service(receiver):
    served = Service(receiver)
    yield served
    assert served.errors == []


@pytest.fixture
def make_uploader(service, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HOOK_OLD_SECRET", OLD_SECRET)
    opened = []

    def make(*, till=7, delivery=DELIVERY, clock=time.time, **options) -> WebhookUploader:
        waits: list[float] = []
        values = {"url": service.url, "secret": "env:HOOK_SECRET"} | options
        uploader = WebhookUploader(
            WebhookAgent(delivery.agent_id, **values),
            clock=clock,
            backoff=Backoff(random=lambda: 0.0),
            sleep=waits.append,
        )
        uploader.waits = waits
        opened.append(uploader)
        uploader.open(delivery)
        uploader.begin_slice(till)
        return uploader

    yield make
    for uploader in opened:
        uploader.close()


def test_a_batch_is_an_array_of_events(service, make_uploader):
    make_uploader().iterate_over(
        [upsert("talks/ü", 7, {"moved", "created"}, title="Zürich", n=1.5), delete("b")]
    )

    [request] = service.requests
    assert request.method == "POST"
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert "Authorization" not in request.headers
    first, second = json.loads(request.body)
    ids = [first.pop("id"), second.pop("id")]
    assert len(set(ids)) == 2
    assert first == {
        "specversion": "1.0",
        "source": f"livesync:{DELIVERY.track_id}",
        "type": "livesync.upsert",
        "subject": "talks/ü",
        "position": "7",
        "actions": "created,moved",
        "datacontenttype": "application/json",
        "data": {"id": "talks/ü", "title": "Zürich", "n": 1.5},
    }
    assert second == {
        "specversion": "1.0",
        "source": f"livesync:{DELIVERY.track_id}",
        "type": "livesync.delete",
        "subject": "b",
        "position": "7",
    }
    assert encode_document({"id": "talks/ü", "title": "Zürich", "n": 1.5}) in request.body


def test_a_single_event_is_sent_alone(service, receiver, make_uploader):
    result = make_uploader(mode="single", batch_size=100).iterate_over([upsert("a"), delete("b")])

    assert result.accepted == 2
    assert [request.headers["Content-Type"] for request in service.requests] == [
        "application/cloudevents+json"
    ] * 2
    # several are under way at once, and which of two objects comes first is nobody's promise
    assert sorted(json.loads(request.body)["subject"] for request in service.requests) == ["a", "b"]
    assert set(receiver.documents) == {"a"}


def test_events_can_be_read_by_the_library_of_cloudevents(receiver, make_uploader):
    make_uploader(source="/catalogue?a=b#c", type_prefix="org.example.talks").iterate_over(
        [upsert("a", 2**40, title="x")]
    )

    [event] = receiver.events
    assert event.get_source() == "/catalogue?a=b#c"
    assert event.get_type() == "org.example.talks.upsert"
    assert event.get_subject() == "a"
    assert event.get_extension("position") == str(2**40)  # beyond CloudEvents' integers
    assert event.get_data() == {"id": "a", "title": "x"}


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
@example("b/ü\n")
@example("100%")
@example("\x9f\ufdd0\uffff\U0001fffe\U0010ffff\U0001f600")
def test_any_id_can_be_a_subject_and_be_had_back(object_id):
    text = subject(object_id)

    assert is_string_of_cloudevents(text)
    assert unquote(text) == object_id
    assert (text == object_id) == (is_string_of_cloudevents(object_id) and "%" not in object_id)


def test_requests_are_signed_as_the_library_of_standard_webhooks_signs():
    key = signing_key(SECRET, "secret")
    body = '[{"ü": 1}]'

    ours = sign(key, "msg_1", 1_700_000_000, body.encode())

    at = datetime.fromtimestamp(1_700_000_000, timezone.utc)
    assert ours == Webhook(SECRET).sign("msg_1", at, body)
    assert key == b64decode(SECRET.removeprefix("whsec_"))


def test_the_timestamp_is_the_clocks_and_the_signature_holds_it(service, make_uploader):
    service.script.append(answering(204))

    make_uploader(clock=lambda: NOW).iterate_over([upsert("a")])

    [request] = service.requests
    message_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert timestamp == "1700000000"
    assert "." not in message_id
    assert request.headers["webhook-signature"] == Webhook(SECRET).sign(
        message_id, datetime.fromtimestamp(1_700_000_000, timezone.utc), request.body.decode()
    )


@pytest.mark.parametrize("known", [SECRET, OLD_SECRET])
def test_during_a_rotation_both_secrets_are_good(receiver, service, make_uploader, known):
    receiver.webhook = Webhook(known)

    result = make_uploader(old_secret="env:HOOK_OLD_SECRET").iterate_over([upsert("a")])

    assert result.accepted == 1
    [request] = service.requests
    signatures = request.headers["webhook-signature"].split(" ")
    assert len(set(signatures)) == 2
    assert all(signature.startswith("v1,") for signature in signatures)


def test_a_request_that_was_tampered_with_does_not_verify(service, make_uploader):
    make_uploader().iterate_over([upsert("a")])

    [request] = service.requests
    Webhook(SECRET).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body, request.headers | {"webhook-id": "msg_other"})


def ids_of(service):
    return [request.headers["webhook-id"] for request in service.requests]


def test_a_batch_that_is_sent_again_keeps_its_id_and_gets_a_new_timestamp(service, make_uploader):
    service.script += [answering(503), answering(500), answering(204)]
    times = iter([100.0, 100.5, 200.0, 200.5, 300.0, 300.5])

    result = make_uploader(clock=lambda: next(times)).iterate_over([upsert("a")])

    assert result.accepted == 1
    assert len(set(ids_of(service))) == 1
    assert [request.headers["webhook-timestamp"] for request in service.requests] == ["100", "200", "300"]


def test_the_id_is_that_of_the_batch_in_its_slice(service, make_uploader):
    records = [upsert("a"), upsert("b")]

    make_uploader().iterate_over(records)
    make_uploader().iterate_over(records)
    make_uploader().iterate_over(records[:1])
    make_uploader(till=8).iterate_over(records)
    make_uploader(delivery=Delivery("a", DELIVERY.track_id, 2)).iterate_over(records)
    make_uploader(delivery=Delivery("a", "other", 1)).iterate_over(records)
    make_uploader(delivery=Delivery("b", DELIVERY.track_id, 1)).iterate_over(records)

    ids = ids_of(service)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 6


def test_an_events_id_is_that_of_what_it_says(receiver, make_uploader):
    for records in ([upsert("a")], [upsert("a"), upsert("b")]):
        make_uploader().iterate_over(records)
    same = [event.get_id() for event in receiver.events]
    assert same[0] == same[1] != same[2]

    make_uploader().iterate_over([upsert("a", n=1)])
    make_uploader().iterate_over([upsert("a", 8)])
    make_uploader().iterate_over([delete("a", 8)])
    make_uploader(delivery=Delivery("a", "other", 1)).iterate_over([upsert("a", 8)])

    ids = [event.get_id() for event in receiver.events]
    assert len(set(ids)) == len(ids) - 1


def test_a_receiver_may_answer_nothing(receiver, make_uploader):
    receiver.items = False

    assert make_uploader().iterate_over([upsert("a"), upsert("b")]).accepted == 2
    assert set(receiver.documents) == {"a", "b"}


def test_what_the_receiver_has_newer_is_stale(receiver, make_uploader):
    make_uploader().iterate_over([upsert("a", 9, n=9)])

    result = make_uploader().iterate_over([upsert("a", 8, n=8), upsert("b", 8)])

    assert (result.accepted, result.stale) == (1, 1)
    assert receiver.documents["a"] == encode_document({"id": "a", "n": 9})


def test_a_poison_record_stops_nobody(receiver, service, make_uploader):
    def refuse_poison(environ, start_response):
        body = environ["wsgi.input"].read()
        if b'"poison"' in body:
            start_response("422 Unprocessable", [("Content-Type", "application/json")])
            return [b'{"error": "bad title"}']
        environ["wsgi.input"].seek(0)
        return receiver(environ, start_response)

    service.app = refuse_poison
    records = [upsert(f"{n}", title="poison" if n == 5 else "good") for n in range(12)]

    result = make_uploader(in_flight=1).iterate_over(records)

    assert (result.accepted, result.dead) == (11, 1)
    [dead] = result.dead_records
    assert (dead.object_id, dead.reason) == ("5", 'HTTP 422: {"error": "bad title"}')
    assert set(receiver.documents) == {f"{n}" for n in range(12) if n != 5}


@pytest.mark.parametrize("cut", ["before", "middle", "after"])
def test_a_connection_that_is_cut_is_tried_again_and_all_arrives_once(receiver, service, make_uploader, cut):
    service.script.append(Fault(cut=cut))

    result = make_uploader().iterate_over([upsert("a", n=1), delete("b")])

    assert result.accepted == 2
    assert len(set(ids_of(service))) == 1
    assert len(service.requests) == 2
    # whoever heard it twice can tell
    assert len({event.get_id() for event in receiver.events}) == 2
    assert receiver.documents == {"a": encode_document({"id": "a", "n": 1})}


def test_a_receiver_that_never_answers_is_not_now(receiver, service, make_uploader):
    service.script.append(Fault(silent=True, done=True))
    uploader = make_uploader(timeout_s=0.1, max_attempts=1)

    with pytest.raises(RetryLater, match=r"did not answer within 0\.1 s"):
        uploader.iterate_over([upsert("a")])

    assert make_uploader().iterate_over([upsert("a")]).accepted == 1
    assert len({event.get_id() for event in receiver.events}) == 1


def test_a_receiver_that_asks_for_time_gets_it(service, make_uploader):
    service.script.append(answering(429, Retry_After="17"))

    uploader = make_uploader(in_flight=1)
    uploader.iterate_over([upsert("a")])

    assert uploader.waits == [17]


def test_a_wrong_secret_stops_the_agent(receiver, make_uploader):
    receiver.webhook = Webhook(OLD_SECRET)

    with pytest.raises(
        ServiceRefuses, match="answered 401: it does not take our signature; check the secret"
    ):
        make_uploader().iterate_over([upsert("a")])

    assert receiver.documents == {}


@pytest.mark.parametrize("status", [301, 404, 410])
def test_a_url_that_is_not_the_receivers_stops_the_agent(service, make_uploader, status):
    service.script.append(answering(status))

    with pytest.raises(ServiceRefuses, match=str(status)):
        make_uploader().iterate_over([upsert("a")])

    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "secret",
    [
        b64encode(bytes(32)).decode(),
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        "whsec_not base64 at all, is it?",
        "whsk_" + b64encode(bytes(32)).decode(),
    ],
)
@pytest.mark.parametrize("option", ["secret", "old_secret"])
def test_a_secret_of_another_form_is_refused_and_not_repeated(make_uploader, monkeypatch, option, secret):
    monkeypatch.setenv("WRONG_SECRET", secret)

    with pytest.raises(
        OptionError, match=rf"option {option}: the secret is no key of the form whsec_"
    ) as caught:
        make_uploader(**{option: "env:WRONG_SECRET"})

    assert secret not in str(caught.value)


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_key_may_be_written_without_padding(length):
    key = bytes(range(length))

    assert signing_key("whsec_" + b64encode(key).decode(), "secret") == key
    assert signing_key("whsec_" + b64encode(key).decode().rstrip("="), "secret") == key


@pytest.mark.parametrize(
    "options",
    [
        {"secret": None},
        {"url": None},
        {"url": "ftp://x/"},
        {"mode": "binary"},
        {"source": ""},
        {"source": "two words"},
        {"source": "ü"},
        {"type_prefix": ""},
        {"type_prefix": "a..b"},
        {"in_flight": 0},
    ],
)
def test_options_of_a_wrong_form_are_refused(options):
    values = {"url": "http://h/", "secret": "env:HOOK_SECRET"} | options
    with pytest.raises(OptionError):
        WebhookAgent("a", **{name: value for name, value in values.items() if value is not None})


def test_a_probe_shows_that_the_receiver_takes_the_signature(receiver, service, make_uploader):
    uploader = make_uploader()

    assert uploader.probe() == f"{service.url} takes signed batches (200)"

    assert receiver.events == []
    receiver.webhook = Webhook(OLD_SECRET)
    with pytest.raises(ServiceRefuses, match="check the secret"):
        uploader.probe()


def test_a_probe_says_what_it_cannot_tell(service, make_uploader):
    service.script += [answering(400), answering(503), answering(405), answering(302), answering(502)]

    assert "takes no empty batch (400)" in make_uploader().probe()
    with pytest.raises(RetryLater, match="503"):
        make_uploader().probe()
    single = make_uploader(mode="single")
    assert single.probe() == f"{service.url} can be reached (OPTIONS: 405)"
    with pytest.raises(ServiceRefuses, match="redirects are not followed"):
        single.probe()
    with pytest.raises(RetryLater, match="502"):
        single.probe()


def test_neither_logs_nor_errors_hold_a_secret(service, make_uploader, caplog):
    caplog.set_level(logging.DEBUG, "livesync")
    service.script += [answering(500)] * 2
    uploader = make_uploader(url=f"{service.url}?key=hidden", max_attempts=2)
    records = [upsert("a", text="payload")]

    with pytest.raises(RetryLater) as caught:
        uploader.iterate_over(records)

    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert service.url in told
    assert not [text for text in ("hidden", SECRET[6:20], "payload") if text in told]


def test_open_comes_first(service):
    uploader = WebhookUploader(WebhookAgent("a", url=service.url, secret="env:HOOK_SECRET"))

    with pytest.raises(RuntimeError, match=r"open\(\) comes before"):
        uploader.iterate_over([upsert("a")])


def test_the_receiver_of_these_tests_is_strict(make_uploader, service):
    with pytest.raises(AssertionError):
        read_event({"specversion": "1.0", "id": "1", "source": "a", "type": "t", "subject": "a\n"})
    with pytest.raises(AssertionError):
        read_event({"specversion": "1.0", "id": "1", "source": "a", "type": "t", "position": 7})
