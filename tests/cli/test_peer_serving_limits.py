"""What a peers' server does with those who only sit there: it waits for nobody for long."""

import socket
import threading
import time
from argparse import Namespace

import pytest
from support.waiting import LONG_S

from livesync.cli import peer_serving
from livesync.cli.main import main
from livesync.cli.session import Session
from livesync.cli.values import Address
from livesync.database import open_database
from livesync.settings import read_settings

#: What holds where no test says otherwise; seconds.
IDLE_S = peer_serving._IDLE_S

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture
def serving(tmp_path, monkeypatch, no_fsync):
    """A server that closes who says nothing for two seconds."""
    monkeypatch.setattr(peer_serving, "_IDLE_S", 2)
    monkeypatch.chdir(tmp_path)
    uri = f"file://{tmp_path / 'Data.fs'}"
    for words in (("install",), ("peer", "init", "--root", "reports")):
        assert main(["--db", uri, *words]) == 0
    args = Namespace(peers=Address("127.0.0.1:0"), share_key=False, users=None)
    session = Session(args, read_settings({"db": uri}), None)
    db = open_database(uri)
    made = peer_serving.PeerServing(session, db, None)
    made.start()
    yield made
    made.close()
    db.close()


def test_who_sends_half_a_request_is_not_waited_for(serving):
    port = int(serving.url.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as half:
        half.sendall(b"POST /peer/v1/nonces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        answer = b""
        while piece := half.recv(4096):
            answer += piece

    # closed by the server, with or without a word, long before it would be without those two seconds
    assert time.monotonic() - began < IDLE_S
    assert b"200" not in answer.split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as whole:
        whole.sendall(b"GET /peer/v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = b""
        while piece := whole.recv(4096):
            found += piece
    assert found.startswith(b"HTTP/1.1 200")


def test_many_who_sit_there_keep_nobody_out(serving):
    port = int(serving.url.rstrip("/").rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port), timeout=LONG_S) for _ in range(40)]
    try:
        for each in idle:
            each.sendall(b"GET /peer/v1/info HTTP/1.1\r\n")
        answers = []

        def ask():
            with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as whole:
                whole.sendall(b"GET /peer/v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answers.append(whole.recv(4096)[:12])

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(LONG_S)
    finally:
        for each in idle:
            each.close()
    assert answers == [b"HTTP/1.1 200"]
