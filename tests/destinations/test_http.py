import json
import logging
import socket
import ssl
import threading
import traceback
from contextlib import closing
from http.server import ThreadingHTTPServer

import pytest
from support.waiting import LONG_S

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record
from livesync.delivery.uploader import Delivery
from livesync.destinations import _http_rows
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

    uploader = make_uploader(receiver.url, in_flight=1)
    result = uploader.iterate_over([upsert("a")])

    assert result.accepted == 1
    assert len(keys_of(receiver)) == 3
    assert len(set(keys_of(receiver))) == 1
    assert uploader.waits == [2, 0]


def test_a_retry_after_with_a_date_is_counted_from_the_clock(receiver, make_uploader):
    receiver.script.append((429, {"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, b""))

    uploader = make_uploader(receiver.url, in_flight=1)
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


# several requests at once


def test_batches_are_under_way_at_once_and_one_object_stays_in_order(receiver, make_uploader):
    together = threading.Barrier(3, timeout=LONG_S)
    apply = receiver.applied.apply

    def wait_for_the_others(line):
        receiver.lock.release()  # which the handler holds, one request at a time
        try:
            together.wait()
        finally:
            receiver.lock.acquire()
        return apply(line)

    receiver.applied.apply = wait_for_the_others
    uploader = make_uploader(receiver.url, in_flight=3, batch_size=1)

    result = uploader.iterate_over([upsert(object_id) for object_id in "abc"])
    receiver.applied.apply = apply
    for number in range(20):
        result.add(uploader.iterate_over([upsert("d", n=number), upsert("e"), upsert("d", n=number + 1)]))

    assert result.accepted == 63
    assert receiver.applied.documents["d"] == b'{"id":"d","n":20}'


# what the receiver holds


def asked(receiver):
    return [(method, path) for method, path, _, _ in receiver.questions]


def test_without_a_rows_url_nothing_can_be_read(receiver, make_uploader):
    uploader = make_uploader(receiver.url)

    assert not uploader.readable
    with pytest.raises(NotImplementedError, match="rows_url"):
        uploader.rows()
    with pytest.raises(NotImplementedError, match="rows_url"):
        uploader.rows_of(["a"])


def test_rows_are_asked_for_page_by_page_until_there_are_none(receiver, make_uploader, monkeypatch):
    monkeypatch.setattr(_http_rows.HeldRows.page, "__defaults__", (2,))
    monkeypatch.setenv("SYNC_TOKEN", "s3cret")
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url, token="env:SYNC_TOKEN")
    uploader.iterate_over([upsert(object_id) for object_id in ["a", "b c&d", "é"]])

    assert uploader.readable
    assert [row.object_id for row in uploader.rows(quick=True)] == ["a", "b c&d", "é"]
    assert asked(receiver) == [
        ("GET", "/rows?key=1&limit=2&digests=no"),
        ("GET", "/rows?key=1&limit=2&after=b%20c%26d&digests=no"),
        ("GET", "/rows?key=1&limit=2&after=%C3%A9&digests=no"),
    ]
    _, _, headers, _ = receiver.questions[0]
    assert (headers["Accept"], headers["Authorization"]) == ("application/x-ndjson", "Bearer s3cret")


def test_rows_of_ids_are_asked_for_with_a_list(receiver, make_uploader):
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url)
    uploader.iterate_over([upsert("a"), upsert("é")])
    receiver.script.append((200, {}, receiver.row("a") + receiver.row("é") + b"\n"))

    assert [row.object_id for row in uploader.rows_of(["é", "x"])] == ["é"]  # and nothing unasked

    [(method, path, headers, body)] = receiver.questions
    assert (method, path, headers["Content-Type"]) == ("POST", "/rows?key=1", "application/json")
    assert json.loads(body) == {"ids": ["é", "x"]}
    assert uploader.rows_of([]) == []


def test_a_receiver_without_positions_says_null(receiver, make_uploader):
    receiver.script.append((200, {}, b'{"id":"a","position":null}'))
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url)

    assert next(uploader.rows(quick=True)) == ("a", None, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {}, b'{"id":"a"}'), "rows of another form: .*position"),
        ((200, {}, b'{"id":1,"position":1}'), "rows of another form"),
        ((200, {}, b'[{"id":"a","position":1}]'), "rows of another form"),
        ((200, {"Content-Type": "text/html"}, b"<html>"), "text/html, not JSON Lines: is it a login page"),
        ((200, {}, b"\xff"), "not JSON Lines"),
        ((200, {}, b"[" * 100_000), "not JSON Lines|another form"),
        ((200, {}, b'{"id":"a","position":1}'), "tells no digest of 'a'"),
        ((200, {}, b" " * 9_000_000), "more than was asked for"),
        ((302, {"Location": "/login"}, b""), "redirects are not followed"),
        ((401, {}, b""), "answered 401 to GET: check the token"),
        ((404, {}, b""), "answered 404 to GET: check the URL"),
        ((405, {}, b""), "answered 405 to GET: the URL takes no GET"),
        ((400, {"Content-Type": "text/plain"}, b"no limit?"), "answered 400 to GET: check the URL: no limit"),
    ],
)
def test_answers_that_are_no_rows_are_said_in_one_line(receiver, make_uploader, answer, reason):
    receiver.script.append(answer)
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url)

    with pytest.raises(ServiceRefuses, match=reason) as caught:
        list(uploader.rows())

    assert "key=1" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_rows_that_do_not_ascend_are_refused(receiver, make_uploader):
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url)
    uploader.iterate_over([upsert("a"), upsert("b")])

    receiver.script.append((200, {}, receiver.row("b") + receiver.row("a")))
    with pytest.raises(ServiceRefuses, match="tells of 'a' after 'b': rows must come by ascending ids"):
        list(uploader.rows())
    receiver.script += [(200, {}, receiver.row("a"))] * 2  # a service that does not look at "after"
    with pytest.raises(ServiceRefuses, match="tells of 'a' after 'a'"):
        list(uploader.rows())


@pytest.mark.parametrize("status", [429, 503])
def test_rows_that_cannot_be_had_now_are_asked_for_later(receiver, make_uploader, status):
    receiver.script.append((status, {"Retry-After": "7"}, b""))
    uploader = make_uploader(receiver.url, rows_url=receiver.rows_url)

    with pytest.raises(RetryLater, match=f"answered {status}") as caught:
        list(uploader.rows())

    assert caught.value.after_s == 7


# whether it can be reached


@pytest.mark.parametrize(("status", "more"), [(200, ""), (405, ""), (501, ""), (404, ": whether it takes a")])
def test_a_probe_asks_with_a_head(receiver, make_uploader, status, more):
    receiver.script.append((status, {}, b""))

    line = make_uploader(receiver.url + "?key=1").probe()

    assert line.startswith(f"{receiver.url} can be reached (HEAD: {status}){more}")
    assert asked(receiver) == [("HEAD", "/sync?key=1")]


def test_a_probe_reads_a_row_where_there_are_some(receiver, make_uploader):
    line = make_uploader(receiver.url, rows_url=receiver.rows_url).probe()

    assert line == f"{receiver.url} can be reached (HEAD: 405); what it holds can be read"
    assert asked(receiver) == [("HEAD", "/sync"), ("GET", "/rows?key=1&limit=1")]


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, ServiceRefuses, "answered 401: check the token"),
        (403, ServiceRefuses, "answered 403: check the token and its rights"),
        (407, ServiceRefuses, "answered 407: check the proxy"),
        (301, ServiceRefuses, "redirects are not followed"),
        (429, RetryLater, "answered 429"),
        (500, RetryLater, "answered 500"),
    ],
)
def test_a_probe_that_is_turned_away_says_why(receiver, make_uploader, status, kind, reason):
    receiver.script.append((status, {}, b""))

    with pytest.raises(kind, match=reason):
        make_uploader(receiver.url).probe()


def test_a_probe_of_nobody_says_so(make_uploader, closed_port):
    with pytest.raises(RetryLater, match="did not answer"):
        make_uploader(f"http://127.0.0.1:{closed_port}/").probe()


def test_another_rows_url_is_no_other_destination():
    declared = {option.name: option for option in HTTPAgent.declared_options()}

    assert declared["url"].identifies
    assert not declared["rows_url"].identifies
