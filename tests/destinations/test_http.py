import json
import logging
import socket
import ssl
import threading
import traceback
from contextlib import closing
from http.server import ThreadingHTTPServer

import pytest

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations.http import HTTPAgent, HTTPUploader
from livesync.errors import OptionError, RetryLater, ServiceRefuses

NOW = 1_700_000_000.0
DELIVERY = Delivery("a", "track", 1)


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


@pytest.fixture
def make_uploader():
    opened = []

    def make(url, *, till=7, delivery=DELIVERY, **options) -> HTTPUploader:
        uploader = HTTPUploader(
            HTTPAgent(delivery.agent_id, url=url, **options),
            clock=lambda: NOW,
            backoff=Backoff(random=lambda: 0.0),
            sleep=lambda seconds: waits.append(seconds),
        )
        waits: list[float] = []
        uploader.waits = waits
        opened.append(uploader)
        uploader.open(delivery)
        uploader.begin_slice(till)
        return uploader

    yield make
    for uploader in opened:
        uploader.close()


@pytest.fixture
def closed_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def test_a_request_says_whose_and_what_it_is(receiver, make_uploader):
    make_uploader(receiver.url + "?key=1", till=12).iterate_over(
        [upsert("a", 12), Record(Op.DELETE, "b", 12)]
    )

    [(path, headers, body)] = receiver.requests
    assert path == "/sync?key=1"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert (headers["Livesync-Agent"], headers["Livesync-Track"], headers["Livesync-Till"]) == (
        "a",
        "track",
        "12",
    )
    assert "Authorization" not in headers
    assert "Content-Encoding" not in headers
    assert [json.loads(line)["op"] for line in body.splitlines()] == ["upsert", "delete"]


def keys_of(receiver):
    return [headers["Idempotency-Key"] for _, headers, _ in receiver.requests]


def test_the_idempotency_key_is_that_of_the_batch_in_its_slice(receiver, make_uploader):
    records = [upsert("a"), upsert("b")]

    make_uploader(receiver.url).iterate_over(records)
    make_uploader(receiver.url, gzip=True).iterate_over(records)
    make_uploader(receiver.url).iterate_over(records[:1])
    make_uploader(receiver.url, till=8).iterate_over(records)
    make_uploader(receiver.url, delivery=Delivery("a", "track", 2)).iterate_over(records)
    make_uploader(receiver.url, delivery=Delivery("a", "other", 1)).iterate_over(records)
    make_uploader(receiver.url, delivery=Delivery("b", "track", 1)).iterate_over(records)

    keys = keys_of(receiver)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 6


def test_a_batch_that_is_sent_again_keeps_its_key(receiver, make_uploader):
    receiver.script += [(503, {"Retry-After": "2"}, b""), (500, {}, b"")]

    uploader = make_uploader(receiver.url)
    result = uploader.iterate_over([upsert("a")])

    assert result.accepted == 1
    assert len(keys_of(receiver)) == 3
    assert len(set(keys_of(receiver))) == 1
    assert uploader.waits == [2, 0]


def test_a_retry_after_with_a_date_is_counted_from_the_clock(receiver, make_uploader):
    receiver.script.append((429, {"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, b""))

    uploader = make_uploader(receiver.url)
    uploader.iterate_over([upsert("a")])

    assert uploader.waits == [60]


def test_gzip_is_used_when_asked(receiver, make_uploader):
    make_uploader(receiver.url, gzip="yes").iterate_over([upsert("a", text="x" * 10_000)])

    [(_, headers, _)] = receiver.requests
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) < 1000
    assert set(receiver.applied.documents) == {"a"}


def test_the_token_is_sent_and_a_netrc_is_not_looked_at(receiver, make_uploader, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password wrong")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("SYNC_TOKEN", "s3cret")

    make_uploader(receiver.url, token="env:SYNC_TOKEN").iterate_over([upsert("a")])
    make_uploader(receiver.url).iterate_over([upsert("a")])

    assert [headers.get("Authorization") for _, headers, _ in receiver.requests] == ["Bearer s3cret", None]


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "café"])
def test_a_token_that_no_header_can_carry_is_not_repeated(make_uploader, monkeypatch, token):
    monkeypatch.setenv("SYNC_TOKEN", token)

    with pytest.raises(OptionError, match="a header cannot carry") as caught:
        make_uploader("http://service.example/", token="env:SYNC_TOKEN")

    assert token not in str(caught.value)


def test_refused_batches_are_halved_and_a_lone_record_is_a_dead_letter(receiver, make_uploader):
    said = {"Content-Type": "application/json"}, b'{"error": "bad title"}'
    receiver.script += [(422, *said), (422, *said)]

    result = make_uploader(receiver.url).iterate_over([upsert("a"), upsert("b")])

    assert result.accepted == 1
    assert [(dead.object_id, dead.reason) for dead in result.dead_records] == [
        ("a", 'HTTP 422: {"error": "bad title"}')
    ]


def test_a_redirect_is_not_followed(receiver, make_uploader):
    receiver.script.append((307, {"Location": "/elsewhere"}, b""))

    with pytest.raises(ServiceRefuses, match=r"sends to http://127.0.0.1:\d+/elsewhere"):
        make_uploader(receiver.url).iterate_over([upsert("a")])

    assert len(receiver.requests) == 1


def test_a_login_page_stops_the_agent(receiver, make_uploader):
    receiver.script.append((200, {"Content-Type": "text/html"}, b"<html>log in</html>"))

    with pytest.raises(ServiceRefuses, match="text/html, not JSON"):
        make_uploader(receiver.url).iterate_over([upsert("a")])


def test_an_answer_is_read_up_to_a_limit(receiver, make_uploader):
    receiver.script += [(200, {}, b" " * 300_000 + b"{}"), (500, {}, b"x" * 300_000)]
    uploader = make_uploader(receiver.url)

    with pytest.raises(ServiceRefuses, match="too long"):
        uploader.iterate_over([upsert("a")])
    assert uploader.iterate_over([upsert("a")]).accepted == 1


def test_a_service_that_is_not_there_is_tried_again_and_then_given_up(make_uploader, closed_port):
    uploader = make_uploader(f"http://127.0.0.1:{closed_port}/sync?key=hidden", max_attempts=3)

    with pytest.raises(RetryLater, match=rf"^http://127.0.0.1:{closed_port}/sync did not answer: .*refused"):
        uploader.iterate_over([upsert("a")])

    assert len(uploader.waits) == 2


def test_a_service_that_does_not_answer_in_time_is_not_now(make_uploader):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        uploader = make_uploader(
            f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.05, max_attempts=1
        )

        with pytest.raises(RetryLater, match=r"did not answer within 0\.05 s"):
            uploader.iterate_over([upsert("a")])


def test_a_host_without_an_address_is_not_now(make_uploader):
    uploader = make_uploader("http://no-such-host.invalid/", max_attempts=1)

    with pytest.raises(RetryLater, match=r"^http://no-such-host\.invalid/ did not answer: "):
        uploader.iterate_over([upsert("a")])


def test_a_host_that_is_no_name_stops_the_agent(make_uploader):
    with pytest.raises(ServiceRefuses, match="check the URL"):
        make_uploader(f"http://{'x' * 300}.example/").iterate_over([upsert("a")])


def test_a_connection_that_breaks_off_is_not_now(make_uploader):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def hang_up():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        thread = threading.Thread(target=hang_up)
        thread.start()
        uploader = make_uploader(f"http://127.0.0.1:{server.getsockname()[1]}/", max_attempts=1)
        with pytest.raises(RetryLater, match="did not answer"):
            uploader.iterate_over([upsert("a")])
        thread.join()


def test_a_certificate_that_nobody_vouches_for_stops_the_agent(make_uploader):
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass

    with Quiet(("127.0.0.1", 0), None) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(ServiceRefuses, match=r"cannot be trusted: .*certificate"):
                make_uploader(f"https://localhost:{server.server_port}/x?key=hidden").iterate_over(
                    [upsert("a")]
                )
        finally:
            server.shutdown()
            thread.join()


def test_a_ca_bundle_that_is_not_there_stops_the_agent(make_uploader, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")

    with pytest.raises(ServiceRefuses, match="CA certificate bundle"):
        make_uploader("https://127.0.0.1:9/").iterate_over([upsert("a")])


def test_neither_logs_nor_errors_hold_the_query_or_the_token(make_uploader, closed_port, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "livesync")
    monkeypatch.setenv("SYNC_TOKEN", "s3cret")
    uploader = make_uploader(
        f"http://127.0.0.1:{closed_port}/sync?key=hidden", token="env:SYNC_TOKEN", max_attempts=2
    )
    records = [upsert("a", text="payload")]

    with pytest.raises(RetryLater) as caught:
        uploader.iterate_over(records)

    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert f"127.0.0.1:{closed_port}/sync" in told
    assert not [secret for secret in ("hidden", "s3cret", "payload") if secret in told]


def test_open_comes_first(receiver):
    uploader = HTTPUploader(HTTPAgent("a", url=receiver.url))

    with pytest.raises(RuntimeError, match=r"open\(\) comes before"):
        uploader.iterate_over([upsert("a")])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "ftp://x/"},
        {"url": "http://"},
        {"url": "http://h/", "timeout_s": 0},
        {"url": "http://h/", "batch_size": 0},
    ],
)
def test_options_of_a_wrong_form_are_refused(options):
    with pytest.raises(OptionError):
        HTTPAgent("a", **options)
