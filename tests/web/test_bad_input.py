"""Whatever comes in, and whatever goes away: a clear message, the right status, nothing changed or leaked."""

from __future__ import annotations

import io
import time

import pytest
import ZEO
from support.desk import PASSWORD
from support.waiting import LONG_S

from livesync.database import open_database
from livesync.web.users import Role


@pytest.fixture
def filled(desk):
    desk.add_agent()
    desk.put("a", "b")
    desk.collect()
    return desk


BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"index"',
    b"\xff\xfe",
    b'{"position": 1e400}',
    b'{"position": NaN}',
    b'{"position": -1}',
    b'{"position": 1.5}',
    b'{"position": "1"}',
    b'{"position": true}',
    b'{"position": 99999999999999999999}',
    b'{"time": "yesterday"}',
    b'{"time": "2026-11-05T10:00:00"}',
    b'{"place": 1}',
    b'{"position": 1, "time": "2026-11-05T10:00:00Z"}',
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
)


@pytest.mark.parametrize("half", [0, 1])
def test_a_body_of_another_form_changes_nothing(filled, half):
    filled.ask("POST", "/agents/index/pause")
    before = filled.state()

    for body in BODIES[half::2]:
        answer = filled.browser().post(
            "/api/v1/agents/index/rewind",
            body,
            headers={
                "Authorization": f"Bearer {filled.tokens[Role.OPERATE]}",
                "Content-Type": "application/json",
            },
            expect_errors=True,
        )

        assert answer.status_int in (400, 422), answer.text
        error = answer.json["error"]
        assert error["code"] in ("bad_request", "usage")
        assert len(error["message"].splitlines()) == 1
        assert len(error["message"]) < 300
        assert filled.state() == before


FORMS = (
    ({"id": "index", "type": "sqlite", "options": {"path": "/tmp/x"}}, "usage", "already"),
    ({"id": "x", "type": "nothing"}, "no_such_type", "there is no agent type"),
    ({"id": "x", "type": "no.such:Thing"}, "no_such_type", "cannot be imported"),
    ({"id": "x", "type": "os:system"}, "no_such_type", "no agent type"),
    ({"id": "x", "type": "sqlite"}, "option", "path is needed"),
    ({"id": "x", "type": "sqlite", "options": {"path": "/x", "nix": 1}}, "option", "no option 'nix'"),
    (
        {"id": "x", "type": "sqlite", "options": {"path": "/x", "batch_size": "many"}},
        "option",
        "batch_size",
    ),
    ({"id": "x", "type": "sqlite", "options": {"path": "a\0b"}}, "option", "path"),
    ({"id": "x", "type": "http", "options": {"url": "http://a:b@c/"}}, "option", "no user or password"),
    ({"id": "../x", "type": "sqlite"}, "bad_request", "body.id"),
    ({"id": "x" * 65, "type": "sqlite"}, "bad_request", "body.id"),
    ({"id": "x", "type": "sqlite", "name": "two\nlines"}, "bad_request", "body.name"),
    ({"type": "sqlite"}, "bad_request", "id is needed"),
    ({"id": "x", "type": "sqlite", "colour": 1}, "bad_request", "there are only"),
)


def test_a_form_with_wrong_values_adds_nothing(filled):
    before = filled.state()

    for new, code, words in FORMS:
        answer = filled.ask("POST", "/agents", new)

        assert answer.status_int == (400 if code == "bad_request" else 422), answer.text
        assert answer.json["error"]["code"] == code
        assert words in answer.json["error"]["message"]
        assert filled.state() == before


PATHS = (
    "/../../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%2f..%2fapp.py",
    "/static/../app.py",
    "/static/%5c..%5capp.py",
    "/static//etc/passwd",
    "/api/v1/agents/..%2f..",
    "/api/v1/agents/index%00",
    "/api/v1//agents",
    "/%ff",
    "/api/v1/agents/%ff",
)


def test_a_path_outside_leads_nowhere(filled):
    for path in PATHS:
        answer = filled.browser().get(
            path, headers={"Authorization": f"Bearer {filled.tokens[Role.SEE]}"}, expect_errors=True
        )

        assert answer.status_int in (400, 404), path
        assert "root:" not in answer.text
        assert "import" not in answer.text


def test_what_nobody_foresaw_leaks_nothing_and_can_be_found_in_the_log(filled, monkeypatch, caplog):
    def broken(self, *args, **how):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("livesync.manager.SyncManager.status", broken)
    answer = filled.ask("GET", "/status")

    error = answer.json["error"]
    assert (answer.status_int, error["code"]) == (500, "internal")
    assert "hunter2" not in answer.text
    assert error["incident"] in error["message"]
    assert any(error["incident"] in record.message and record.exc_info for record in caplog.records)


@pytest.mark.parametrize("path", ["/agents/index/enqueue", "/session"])
def test_a_huge_upload_is_refused_before_it_is_looked_at(filled, path):
    before = filled.state()
    headers = {
        "Authorization": f"Bearer {filled.tokens[Role.OPERATE]}",
        "Content-Type": "application/json",
    }
    browser = filled.browser()

    class Unread(io.BytesIO):
        """A body that must not be read."""

        def read(self, *args):
            raise AssertionError("it was read")

    answer = browser.request(
        f"/api/v1{path}",
        method="POST",
        headers=headers,
        environ={"CONTENT_LENGTH": "5000000", "wsgi.input": Unread()},
        expect_errors=True,
    )
    endless = browser.request(
        f"/api/v1{path}",
        method="POST",
        headers=headers,
        environ={"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": Unread(), "wsgi.input_terminated": True},
        expect_errors=True,
    )

    assert (answer.status_int, answer.json["error"]["code"]) == (413, "too_large")
    assert "4,000,000" in answer.text
    assert endless.status_int == 413
    assert filled.state() == before


# -- a database that goes away ---------------------------------------------------------------------------


@pytest.fixture
def behind_zeo(tmp_path, make_desk):
    """An application whose database is behind a ZEO server, and what stops and starts that."""
    path = str(tmp_path / "Data.fs")
    # a process of its own: a server in a thread may stop and leave its connections open, unheard
    address, stop = ZEO.server(path, threaded=False)
    stops = [stop]
    db = open_database(f"zeo://{address[0]}:{address[1]}?wait_timeout=2")

    def kill():
        stops.pop()()

    def restart():
        again, stop = ZEO.server(path, port=address[1], threaded=False)
        assert again[1] == address[1]
        stops.append(stop)

    yield make_desk(db), kill, restart
    db.close()
    for stop in stops:
        stop()


@pytest.mark.slow
def test_a_database_that_goes_away_while_a_page_is_open(behind_zeo):
    desk, kill, restart = behind_zeo
    desk.users.add_user("anna", PASSWORD, Role.OPERATE)
    desk.add_agent()
    desk.put("a")
    browser = desk.browser()
    csrf = browser.post_json("/api/v1/session", {"name": "anna", "password": PASSWORD}).json["csrf_token"]
    browser.get("/api/v1/status", status=200)
    before = desk.state()

    kill()
    asked = [
        browser.get("/api/v1/status", expect_errors=True),
        browser.post("/api/v1/agents/index/pause", headers={"X-CSRF-Token": csrf}, expect_errors=True),
        browser.get("/readyz", expect_errors=True),
    ]

    assert [answer.status_int for answer in asked] == [503, 503, 503]
    assert [answer.json["error"]["code"] for answer in asked[:2]] == ["database", "database"]
    assert "nothing was changed" in asked[1].json["error"]["message"]
    assert asked[0].headers["Retry-After"]
    assert asked[2].json["reason"] == "database"
    for answer in asked:
        assert "Traceback" not in answer.text
        assert str(desk.tmp_path) not in answer.text
    assert browser.get("/healthz").status_int == 200
    desk.clock += 2
    assert "livesync_database_up 0.0" in browser.get("/metrics").text
    assert browser.get("/api/v1/session").json["name"] == "anna"

    restart()
    deadline = time.monotonic() + LONG_S
    while browser.get("/readyz", expect_errors=True).status_int != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert desk.state() == before
    browser.post("/api/v1/agents/index/pause", headers={"X-CSRF-Token": csrf}, status=200)
