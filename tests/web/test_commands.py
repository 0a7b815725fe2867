"""The endpoint of commands: a real server, raw requests, and a carrier that does as it is told."""

import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest
from support.waiting import LONG_S, eventually

from livesync.web.commands import MOST_BYTES, PATH, CommandApp, CommandServer

TOKEN = "t" * 43


class Carrier:
    """Writes what it was given, and waits where it is told to."""

    def __init__(self):
        self.commands = []
        self.began = threading.Event()
        self.stopped = threading.Event()

    def __call__(self, command, stdout, stderr, stop):
        self.commands.append(command)
        stdout.write("out ü\n")
        stderr.write("err\n")
        if command.argv == ("fail",):
            raise ZeroDivisionError
        if command.argv == ("wait",):
            self.began.set()
            eventually(stop)
            self.stopped.set()
            return 130
        if command.argv == ("flood",):
            self.began.set()
            while not stop():
                stdout.write("x" * 10_000)
            self.stopped.set()
        return 8


@pytest.fixture
def carrier():
    return Carrier()


@pytest.fixture
def server(carrier):
    made = CommandServer(CommandApp(carrier, TOKEN))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def connect(server):
    opened = []

    def make():
        opened.append(http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=LONG_S))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def send(connect):
    def request(argv=("status",), method="POST", path=PATH, body=None, drop=(), **headers):
        values = {"id": "abc", "argv": list(argv), "directory": "/srv", "columns": 80}
        text = json.dumps(values) if body is None else body
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = connect()
        connection.request(method, path, text, {k: v for k, v in sent.items() if k not in drop})
        return connection.getresponse()

    return request


def pieces(answer):
    return [json.loads(line) for line in answer if line.strip()]


def test_a_command_is_carried_out_and_what_it_says_comes_back_with_its_code(send, carrier):
    answer = send(("agent", "list"))

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert pieces(answer) == [{"out": "out ü\n"}, {"err": "err\n"}, {"exit": 8}]
    (command,) = carrier.commands
    assert (command.argv, command.directory, command.columns) == (("agent", "list"), "/srv", 80)


def test_one_that_fails_has_a_code_and_nothing_of_it_is_told(send, caplog):
    assert pieces(send(("fail",)))[-1] == {"exit": 70}
    assert "ZeroDivisionError" in caplog.text


def test_one_that_is_at_work_is_asked_to_end(send, carrier):
    answer = send(("wait",))
    assert carrier.began.wait(LONG_S)

    assert send(method="DELETE", path=f"{PATH}/abc").status == 202

    assert pieces(answer)[-1] == {"exit": 130}
    assert send(method="DELETE", path=f"{PATH}/abc").status == 404


@pytest.mark.parametrize("word", ["wait", "flood"])
def test_one_whose_reader_is_gone_is_asked_to_end(send, carrier, word):
    answer = send((word,))
    assert carrier.began.wait(LONG_S)

    answer.close()

    assert carrier.stopped.wait(LONG_S)


def test_no_two_commands_have_one_id(send, carrier):
    answer = send(("wait",))
    assert carrier.began.wait(LONG_S)

    assert send(("status",)).status == 409

    send(method="DELETE", path=f"{PATH}/abc")
    pieces(answer)


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"drop": ("Authorization",)}, 401, "token"),
        ({"Authorization": "Bearer wrong"}, 401, "token"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "token"),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401, "token"),
        ({"Host": "evil.example:80"}, 403, "this machine"),
        ({"Host": "127.0.0.1.evil.example:80"}, 403, "this machine"),
        ({"Origin": "http://127.0.0.1"}, 403, "web pages"),
        ({"Content_Type": "text/plain"}, 415, "application/json"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Content_Length": str(MOST_BYTES + 1), "body": ""}, 413, "at most"),
        ({"Content_Length": "-1", "body": ""}, 411, "length"),
        ({"method": "GET"}, 405, "posted"),
        ({"path": "/"}, 404, "nothing"),
        ({"path": f"{PATH}/../../etc/passwd", "method": "DELETE"}, 404, "no command"),
        ({"path": f"{PATH}/abc"}, 405, "deleted"),
        ({"path": f"{PATH}/abc", "method": "DELETE"}, 404, "no command"),
        ({"body": "{"}, 400, "no command"),
        ({"body": "[]"}, 400, "no command"),
        ({"body": "{}"}, 400, "no command"),
        ({"body": '{"id": "a", "argv": "status", "directory": "/", "columns": 80}'}, 400, "no command"),
        ({"body": '{"id": "a", "argv": [1], "directory": "/", "columns": 80}'}, 400, "no command"),
        ({"body": '{"id": "a/b", "argv": [], "directory": "/", "columns": 80}'}, 400, "no command"),
        ({"body": '{"id": "a", "argv": [], "directory": "x", "columns": 80}'}, 400, "no command"),
        ({"body": '{"id": "a", "argv": [], "directory": "/", "columns": 0}'}, 400, "no command"),
    ],
)
def test_whoever_is_somebody_else_or_sends_something_else_is_refused(send, carrier, change, status, text):
    answer = send(**change)

    assert answer.status == status
    error = json.loads(answer.read())["error"]
    assert text in error
    assert TOKEN not in error
    assert carrier.commands == []


def test_a_server_that_ends_asks_what_is_at_work_to_end(carrier):
    server = CommandServer(CommandApp(carrier, TOKEN))
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=LONG_S)
    body = json.dumps({"id": "a", "argv": ["wait"], "directory": "/", "columns": 80})
    connection.request(
        "POST", PATH, body, {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert carrier.began.wait(LONG_S)

    server.stop()

    assert pieces(answer)[-1] == {"exit": 130}
    connection.close()
