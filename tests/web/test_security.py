"""Logins, roles, forged and missing tokens, headers: nothing changes that should not, and nothing leaks."""

import re

import pytest
from pyramid.authorization import ACLHelper, Everyone
from pyramid.config import Configurator
from pyramid.response import Response
from support.desk import PASSWORD
from support.shelf import Shelf
from webtest import TestApp

from livesync.web.app import REGISTRY_KEY, WebApp, includeme
from livesync.web.context import WebContext
from livesync.web.throttle import PER_NAME
from livesync.web.users import Role


@pytest.fixture
def people(desk):
    desk.users.add_user("anna", PASSWORD, Role.OPERATE)
    desk.users.add_user("bob", PASSWORD, Role.SEE)
    desk.add_agent()
    return desk


def log_in(desk, name="anna", **environ):
    """Return a browser in which somebody is logged in, and the token for its scripts."""
    browser = desk.browser(**environ)
    answer = browser.post_json("/api/v1/session", {"name": name, "password": PASSWORD})
    return browser, {"X-CSRF-Token": answer.json["csrf_token"]}


def test_who_is_logged_in_may_what_the_role_allows(people):
    anna, anna_token = log_in(people)
    bob, bob_token = log_in(people, "bob")

    assert anna.get("/api/v1/session").json["name"] == "anna"
    assert bob.get("/api/v1/status").status_int == 200
    assert bob.post("/api/v1/agents/index/pause", headers=bob_token, status=403).json["error"]["code"] == (
        "role_forbids"
    )
    assert people.state()["index"][0] == "active"
    anna.post("/api/v1/agents/index/pause", headers=anna_token)
    assert people.state()["index"][0] == "paused"


def test_a_request_without_the_right_token_of_forms_changes_nothing(people):
    anna, token = log_in(people)
    _, bobs = log_in(people, "bob")
    before = people.state()

    for headers in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "0" * 64},
        {"X-CSRF-Token": "ä"},
        bobs,
        token | {"Origin": "http://evil.example"},
        token | {"Origin": "null"},
        token | {"Origin": "http://[::1"},
        token | {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = anna.post("/api/v1/agents/index/pause", headers=headers, status=403)
        assert answer.json["error"]["code"] == "csrf_refused"
        assert "nothing was changed" in answer.json["error"]["message"]

    assert people.state() == before
    anna.post("/api/v1/agents/index/pause", headers=token | {"Origin": "http://localhost:80"})


def test_a_forged_cookie_is_nobodys(people):
    browser, _ = log_in(people)
    cookie = browser.cookies["livesync"]
    for forged in (cookie[:-4] + "AAAA", "x" + cookie[1:], "", "a" * 4000, '"', "%00"):
        other = people.browser()
        other.set_cookie("livesync", forged)
        assert other.get("/api/v1/status", status=401).json["error"]["code"] == "not_logged_in"


def test_a_login_ends_when_it_is_idle_and_in_any_case(people):
    browser, token = log_in(people)
    for _ in range(23):
        people.clock += 29 * 60
        browser.get("/api/v1/status", status=200)
    before = people.state()

    people.clock += 60 * 60  # idle, and beyond twelve hours
    answer = browser.post("/api/v1/agents/index/pause", headers=token, status=401)

    assert "has expired" in answer.json["error"]["message"]
    assert people.state() == before
    other, _ = log_in(people)
    for _ in range(25):
        people.clock += 29 * 60
        last = other.get("/api/v1/status", expect_errors=True)
    assert last.status_int == 401


def test_after_a_logout_a_copy_of_the_cookie_is_worth_nothing(people):
    browser, token = log_in(people)
    copy = people.browser()
    copy.set_cookie("livesync", browser.cookies["livesync"])
    copy.get("/api/v1/status", status=200)

    browser.delete("/api/v1/session", headers=token, status=204)

    browser.get("/api/v1/status", status=401)
    copy.get("/api/v1/status", status=401)


def test_a_new_password_or_a_removal_ends_logins_and_a_role_holds_at_once(people):
    anna, token = log_in(people)
    bob, _ = log_in(people, "bob")

    people.users.set_role("anna", Role.SEE)
    anna.post("/api/v1/agents/index/pause", headers=token, status=403)
    people.users.set_password("anna", PASSWORD * 2)
    anna.get("/api/v1/status", status=401)
    people.users.remove_user("bob")
    bob.get("/api/v1/status", status=401)


def test_a_login_begins_a_session_that_nobody_can_have_prepared(people):
    browser = people.browser()
    browser.post_json("/api/v1/session", {"name": "bob", "password": PASSWORD})
    planted = browser.cookies["livesync"]

    browser.post_json("/api/v1/session", {"name": "anna", "password": PASSWORD})

    other = people.browser()
    other.set_cookie("livesync", planted)
    assert other.get("/api/v1/session").json["name"] == "bob"
    assert (
        other.get("/api/v1/session").json["csrf_token"] != browser.get("/api/v1/session").json["csrf_token"]
    )


def test_wrong_passwords_are_heard_a_few_times(people):
    browser = people.browser()
    for _ in range(PER_NAME):
        answer = browser.post_json("/api/v1/session", {"name": "anna", "password": "wrong"}, status=401)
        assert answer.json["error"] == {
            "code": "login_refused",
            "message": "the name or the password is wrong",
            "details": [],
            "incident": "",
        }

    answer = browser.post_json("/api/v1/session", {"name": "anna", "password": PASSWORD}, status=429)
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    people.clock += 301
    browser.post_json("/api/v1/session", {"name": "anna", "password": PASSWORD})


def test_an_address_is_counted_as_the_server_has_it(people):
    for number in range(20):
        browser = people.browser(
            REMOTE_ADDR=f"2001:db8::{number:x}", HTTP_X_FORWARDED_FOR=f"192.0.2.{number}"
        )
        browser.post_json("/api/v1/session", {"name": f"n{number}", "password": "wrong"}, status=401)

    browser = people.browser(REMOTE_ADDR="2001:db8::ffff", HTTP_X_FORWARDED_FOR="198.51.100.1")
    browser.post_json("/api/v1/session", {"name": "new", "password": "wrong"}, status=429)
    people.browser(REMOTE_ADDR="2001:db8:1::1").post_json(
        "/api/v1/session", {"name": "new", "password": "wrong"}, status=401
    )


def test_another_site_cannot_log_somebody_in(people):
    browser = people.browser()
    good = {"name": "anna", "password": PASSWORD}

    browser.post_json("/api/v1/session", good, headers={"Origin": "http://evil.example"}, status=403)
    browser.post("/api/v1/session", good, status=415)
    browser.post("/api/v1/session", '{"name": "anna"}', headers={"Content-Type": "text/plain"}, status=415)


def test_cookie_and_headers(make_desk):
    desk = make_desk(prefix="/ops/livesync")
    desk.users.add_user("anna", PASSWORD, Role.SEE)
    login = {"name": "anna", "password": PASSWORD}

    plain = desk.browser().post_json("/ops/livesync/api/v1/session", login)
    secure = desk.browser(**{"wsgi.url_scheme": "https"}).post_json("/ops/livesync/api/v1/session", login)

    cookie = plain.headers["Set-Cookie"]
    assert re.search(r"; Path=/ops/livesync(;|$)", cookie)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "secure" not in cookie.lower()
    assert "; secure" in secure.headers["Set-Cookie"].lower()
    assert "Strict-Transport-Security" not in plain.headers
    assert secure.headers["Strict-Transport-Security"].startswith("max-age=")
    for answer in (
        plain,
        desk.browser().get("/ops/livesync/api/v1/status", status=401),
        desk.browser().get("/ops/livesync/healthz"),
        desk.browser().get("/nothing/here", status=404),
        desk.browser().get("/%ff", status=400),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"


def test_every_view_of_ours_says_who_may(desk):
    views = [one["introspectable"] for one in desk.wsgi.registry.introspector.get_category("views")]
    ours = [view for view in views if str(view["route_name"]).startswith("livesync.")]
    public = {view["route_name"] for view in ours if view["livesync_role"] == "public"}

    assert len(ours) > 40
    assert {view["livesync_role"] for view in ours} == {"public", "see", "operate"}
    for view in ours:
        methods = view["request_methods"] or ()
        if set(methods) & {"POST", "PUT", "PATCH", "DELETE"} and view["livesync_role"] != "operate":
            assert view["route_name"] in ("livesync.api/session", "livesync.login", "livesync.logout")
    assert not {name for name in public if "agent" in name} - {
        view["route_name"] for view in ours if view["livesync_role"] != "public"
    }


def test_secrets_are_shown_by_their_reference_only(desk, monkeypatch):
    monkeypatch.setenv("SHELF_KEY", "hunter2-hunter2")
    options = {"url": "http://127.0.0.1:9/", "token": "env:SHELF_KEY"}
    answer = desk.ask("POST", "/agents", {"id": "hook", "type": "http", "options": options})
    assert answer.status_int == 201, answer.text

    shown = desk.ask("GET", "/agents/hook").json
    refused = desk.ask(
        "POST", "/agents", {"id": "h2", "type": "http", "options": options | {"token": "hunter3"}}
    )
    job = desk.finished(desk.ask("POST", "/agents/hook/test"))

    assert shown["options"]["token"] == "env:SHELF_KEY"
    assert (refused.status_int, refused.json["error"]["code"]) == (422, "option")
    assert "hunter3" not in refused.text
    assert job["result"]["ok"] is False
    assert "hunter2" not in str(job)


def host_application(db, policy, **settings):
    """An application of its own, with livesync below /livesync and a view besides."""
    config = Configurator()
    app = WebApp(WebContext(db, Shelf()), **settings)
    config.registry[REGISTRY_KEY] = app
    if policy is not None:
        config.set_security_policy(policy)
    config.add_route("home", "/")
    config.add_view(lambda request: Response(f"hello {request.authenticated_userid}"), route_name="home")
    config.add_route("broken", "/broken")
    config.add_view(lambda request: 1 / 0, route_name="broken")
    config.include(includeme, route_prefix="livesync")
    return TestApp(config.make_wsgi_app()), app


class HostPolicy:
    """A host's login: whoever a header names; the boss may operate, others who are named may look."""

    def identity(self, request):
        return request.headers.get("X-User")

    def authenticated_userid(self, request):
        return self.identity(request)

    def permits(self, request, context, permission):
        who = self.identity(request)
        principals = [Everyone, *([who, "staff"] if who else [])]
        return ACLHelper().permits(context, principals, permission)


def test_a_host_decides_by_its_own_login(desk):
    desk.add_agent()
    app, web = host_application(desk.db, HostPolicy(), see=("staff",), operate=("boss",))
    token = web.users.process_token("cli", Role.OPERATE)

    app.get("/livesync/api/v1/status", status=401)
    assert app.get("/livesync/api/v1/session", headers={"X-User": "eve"}).json["role"] == "see"
    boss = {"X-User": "boss"}
    app.post("/livesync/api/v1/agents/index/pause", headers=boss, status=403)
    csrf = app.get("/livesync/api/v1/session", headers=boss).json["csrf_token"]
    app.post(
        "/livesync/api/v1/agents/index/pause", headers={"X-User": "eve", "X-CSRF-Token": csrf}, status=403
    )
    assert desk.state()["index"][0] == "active"
    app.post("/livesync/api/v1/agents/index/pause", headers=boss | {"X-CSRF-Token": csrf}, status=200)
    app.post_json(
        "/livesync/api/v1/agents/index/activate", {}, headers={"Authorization": f"Bearer {token}"}, status=200
    )
    app.post_json("/livesync/api/v1/session", {"name": "anna", "password": PASSWORD}, status=401)
    web.close()


def test_the_views_of_a_host_are_left_alone(desk):
    app, web = host_application(desk.db, HostPolicy())

    answer = app.get("/", headers={"X-User": "eve"})

    assert answer.text == "hello eve"
    assert not {"Content-Security-Policy", "Cache-Control", "Set-Cookie"} & set(answer.headers)
    with pytest.raises(ZeroDivisionError):
        app.get("/broken")
    web.close()


def test_a_host_without_a_login_gets_ours_and_may_lie_below_a_scripts_name(people):
    app, web = host_application(people.db, None, users=people.users)
    app.extra_environ["SCRIPT_NAME"] = "/site"

    answer = app.post_json("/site/livesync/api/v1/session", {"name": "anna", "password": PASSWORD})
    csrf = {"X-CSRF-Token": answer.json["csrf_token"]}

    app.post("/site/livesync/api/v1/agents/index/pause", headers=csrf, status=200)
    app.get("/site/livesync/api/v1/runs?limit=0", status=400)
    web.close()
