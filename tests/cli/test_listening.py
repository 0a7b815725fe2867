"""Servers in threads: what they are at when they are closed is ended, and nothing of them is left."""

import http.client
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from support.waiting import LONG_S, eventually
from waitress.server import create_server

from livesync.cli.listening import RECEIVE_S, ServerThread, url_of

ANSWER = b"0123456789" * 500_000


class App:
    """Answers with much, once it may."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, environ, start_response):
        self.begun.set()
        assert self.go_on.wait(LONG_S)
        start_response("200 OK", [("Content-Length", str(len(ANSWER)))])
        return [ANSWER]


@pytest.fixture
def app():
    made = App()
    yield made
    made.go_on.set()


@pytest.fixture
def serve():
    """Serve an app: gives the server and its thread."""
    made = []

    def start(app, listen="127.0.0.1:0"):
        server = create_server(app, listen=listen)
        made.append(ServerThread(server, "a test's server"))
        return server, made[-1]

    yield start
    for each in made:
        each.close(LONG_S)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "a test's server"]


def connected(server):
    return socket.create_connection((server.effective_host, server.effective_port), timeout=LONG_S)


def test_a_request_at_work_is_answered_wholly_before_the_end(app, serve):
    server, thread = serve(app)
    thread.start()
    client = http.client.HTTPConnection("127.0.0.1", server.effective_port, timeout=LONG_S)
    client.request("GET", "/")
    assert app.begun.wait(LONG_S)

    closing = threading.Thread(target=thread.close, args=(LONG_S,))
    closing.start()
    app.go_on.set()
    answer = client.getresponse()

    assert (answer.status, answer.read()) == (200, ANSWER)
    closing.join(LONG_S)
    assert threads() == []
    client.close()


class Clock:
    """Seconds that stand still."""

    now = 0.0

    def __call__(self):
        return self.now


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture
def dripping():
    """Connect to a server, and send it a part of a request; gives that, its thread, and its clock."""
    made = []

    def start(begin):
        clock = Clock()
        server = create_server(App(), listen="127.0.0.1:0")
        server.adj.asyncore_loop_timeout = 0.02
        thread = ServerThread(server, "a test's server", clock)
        made.append(thread)
        thread.start()
        client = connected(server)
        client.sendall(begin)
        eventually(lambda: any(request_of(each) for each in list(thread._map.values())))
        clock.now += 2
        eventually(lambda: thread._coming)
        return client, thread, clock

    yield start
    for each in made:
        each.close(LONG_S)


def request_of(channel):
    return getattr(channel, "request", None)


@pytest.mark.parametrize("begin", [b"POST / HTTP/1.1\r\nX: ", HEAD + b"{"])
def test_a_request_that_drips_is_not_waited_for(dripping, begin):
    client, thread, clock = dripping(begin)

    with client:
        for _ in range(int(RECEIVE_S // 10)):
            seen = thread._looked
            clock.now += 10
            client.sendall(b"x")
            eventually(lambda seen=seen: thread._looked > seen)
            assert thread._coming
        clock.now += 10
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""  # closed

    eventually(lambda: not any(request_of(each) for each in list(thread._map.values())))


def test_a_large_request_that_comes_slowly_is_waited_for(dripping):
    client, thread, clock = dripping(HEAD + bytes(900_000))
    (channel,) = thread._coming
    eventually(lambda: request_of(channel).body_bytes_received == 900_000)

    seen = thread._looked
    clock.now += RECEIVE_S + 60
    eventually(lambda: thread._looked > seen)

    assert not channel.will_close
    clock.now += 60
    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_connections_that_only_stand_there_are_closed(app, serve):
    server, thread = serve(app)
    thread.start()
    idle = [connected(server) for _ in range(20)]
    for each in idle[:10]:
        each.sendall(b"GET / HTTP/1.1\r\n")
    eventually(lambda: len(server.active_channels) == 20)

    thread.close(LONG_S)

    assert [each.recv(100) for each in idle] == [b""] * 20
    assert threads() == []
    for each in idle:
        each.close()


def test_a_reader_that_does_not_read_is_not_waited_for(app, serve):
    server, thread = serve(app)
    thread.start()
    app.go_on.set()
    with connected(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1)

        thread.close(0.2)

        assert threads() == []


def test_one_that_never_began_gives_its_port_back(app, serve):
    server, thread = serve(app)
    port = int(server.effective_port)

    thread.close(1)

    with socket.create_server(("127.0.0.1", port)):
        assert threads() == []


def test_one_that_listens_at_several_addresses_says_the_first_and_ends_too(app, serve):
    server, thread = serve(app, listen="127.0.0.1:0 127.0.0.2:0")
    thread.start()
    app.go_on.set()
    for host, port in server.effective_listen:
        client = http.client.HTTPConnection(host, port, timeout=LONG_S)
        client.request("GET", "/")
        assert client.getresponse().read() == ANSWER
        client.close()
    host, port = server.effective_listen[0]
    assert urlsplit(url_of(server)).netloc == f"{host}:{port}"

    thread.close(LONG_S)

    assert threads() == []
