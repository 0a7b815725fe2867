"""People are told once of what has stopped or lags, and once when it is over."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from hypothesis import given
from hypothesis import strategies as st

from livesync.agent import StopReason, SyncAgent
from livesync.errors import LiveSyncError, UsageError
from livesync.status import AgentStatus
from livesync.upkeep.notices import (
    Notice,
    NoticeSettings,
    due_notices,
    send_notice,
    tell,
    trouble_of,
)


def status(ident="a", state="active", lag=0.0, reason="", error="") -> AgentStatus:
    return AgentStatus(
        id=ident, type_name="t", name=ident, description="", state=state, reason=reason, detail="why",
        position=1, lag_actions=int(lag > 0), lag_seconds=lag, dead=0, last_error=error, last_run=None,
        interval_s=None,
    )  # fmt: skip


def test_a_stopped_agent_and_one_that_lags_are_trouble():
    stopped = trouble_of(status(state="stopped", reason="service_refuses"), 10)
    lagging = trouble_of(status(lag=11, error="no route"), 10)

    assert (stopped.trouble, stopped.text) == ("stopped", "agent a is stopped (service_refuses): why")
    assert lagging.trouble == "lagging"
    assert lagging.text.endswith("its last run failed: no route")
    assert trouble_of(status(lag=9), 10).trouble == ""
    assert trouble_of(status(state="paused", lag=99), 10).trouble == ""  # a person wanted it so


@given(
    st.lists(
        st.tuples(st.floats(1, 50_000), st.sampled_from(["active", "stopped", "paused"]), st.booleans()),
        max_size=12,
    )
)
def test_each_trouble_is_told_once_until_it_changes_or_lasts(history):
    now, told, known = 0.0, {}, ("", 0.0)
    for step, state, lags in history:
        now += step
        agent = status(state=state, lag=20 if lags else 0)
        trouble = trouble_of(agent, 10).trouble
        due = due_notices([agent], told, 10, 86_400, now)
        expected = trouble != known[0] or (trouble and now - known[1] >= 86_400)
        assert [notice.trouble for notice in due] == ([trouble] if expected else [])
        if due:
            known = (trouble, now)
            told = {"a": {"trouble": trouble, "time": now}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Any]:
    box = Mailbox()
    controller = Controller(
        box, hostname="127.0.0.1", port=free_port(),
        authenticator=lambda server, session, envelope, mechanism, data: AuthResult(
            success=data.login == b"me" and data.password == b"open sesame"
        ),
        auth_require_tls=False,
    )  # fmt: skip
    controller.start()
    box.port = controller.port  # type: ignore[attr-defined]
    yield box
    controller.stop()


def test_a_mail_is_sent_through_a_real_server(mailbox, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "open sesame")
    settings = NoticeSettings.of(
        {
            "mail_to": "ops@example.org, boss@example.org", "mail_from": "livesync@example.org",
            "smtp_host": "127.0.0.1", "smtp_port": mailbox.port, "smtp_user": "me",
            "smtp_password": "env:MAIL_PASSWORD",
        }
    )  # fmt: skip

    send_notice(Notice("index", "stopped", "agent index is stopped"), settings)

    ((to, mail),) = mailbox.mails
    assert to == ["ops@example.org", "boss@example.org"]
    assert mail["Subject"] == "livesync: agent index: stopped"
    assert mail.get_payload().strip() == "agent index is stopped"


@pytest.fixture
def hook() -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.seen.append((self.headers.get("Authorization"), json.loads(body)))  # type: ignore[attr-defined]
            self.send_response(server.status)  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.status = [], 204  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def hook_settings(hook: Any, **more: Any) -> NoticeSettings:
    return NoticeSettings.of({"webhook": f"http://127.0.0.1:{hook.server_port}/?key=hidden", **more})


def test_a_web_hook_gets_json_and_its_token(hook, monkeypatch):
    monkeypatch.setenv("HOOK", "s3cret")

    send_notice(Notice("index", "lagging", "behind"), hook_settings(hook, webhook_token="env:HOOK"))

    assert hook.seen == [("Bearer s3cret", {"agent": "index", "trouble": "lagging", "text": "behind"})]


def test_a_command_gets_the_text_on_standard_input(tmp_path):
    target = tmp_path / "told"
    script = f"import sys; open({str(target)!r}, 'w').write(sys.stdin.read())"

    send_notice(
        Notice("index", "stopped", "it's over; $HOME"),
        NoticeSettings.of({"command": f'{sys.executable} -c "{script}"'}),
    )

    assert target.read_text() == "it's over; $HOME\n"


def test_a_command_that_fails_is_an_error():
    settings = NoticeSettings.of({"command": f"{sys.executable} -c 'import sys; sys.exit(3)'"})

    with pytest.raises(LiveSyncError, match="ended with 3"):
        send_notice(Notice("index", "stopped", "x"), settings)


def test_what_was_told_is_remembered_and_what_failed_is_told_later(world, hook, caplog):
    world.manager.remove_agent("index")
    world.manager.register_agent(SyncAgent("reader"))
    world.manager.activate("reader")
    world.manager.stop_agent("reader", StopReason.SERVICE_REFUSES, "no key")
    world.tm.commit()
    settings = hook_settings(hook)

    hook.status = 500
    assert tell(world.db, settings, 1e9) == []
    assert "could not be sent" in caplog.text
    assert "hidden" not in caplog.text
    hook.status = 200
    assert [notice.trouble for notice in tell(world.db, settings, 1e9)] == ["stopped"]
    assert tell(world.db, settings, 1e9 + 10) == []
    assert [notice.trouble for notice in tell(world.db, settings, 1e9 + 100_000)] == ["stopped"]

    world.tm.begin()
    world.manager.activate("reader")
    world.tm.commit()
    assert [notice.trouble for notice in tell(world.db, settings, 1e9 + 100_001)] == [""]
    assert tell(world.db, settings, 1e9 + 100_002) == []


def test_without_anybody_to_tell_nothing_is_written(world):
    world.manager.stop_agent("index", StopReason.FAILING, "x")
    world.tm.commit()
    before = world.db.storage.getSize()

    assert tell(world.db, NoticeSettings.of({}), 1e9) == []
    assert world.db.storage.getSize() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mial_to": "x"}, "there is no key 'mial_to'"),
        ({"webhook": "ftp://x"}, "webhook"),
        ({"smtp_port": "many"}, "smtp_port"),
        ({"smtp_password": "hunter2"}, "give env:NAME or file:PATH"),
    ],
)
def test_wrong_settings_are_refused(given, said):
    with pytest.raises(UsageError) as error:
        NoticeSettings.of(given)

    assert said in str(error.value)
    assert "hunter2" not in str(error.value)
