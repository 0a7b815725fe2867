"""Logging in and out; who may do what; what is shown where a request cannot be served."""

import pytest

from livesync.web.pages import VIEWS
from livesync.web.pages.frame import ADDRESSES

OPERATED = sorted({(name, method) for name, methods, role, _ in VIEWS if role == "operate"
                   for method in ((methods,) if isinstance(methods, str) else methods)})  # fmt: skip
SEEN = sorted({name for name, methods, role, _ in VIEWS if role == "see" and "GET" in methods})


def test_who_is_not_logged_in_is_led_to_the_login_and_then_to_where_they_wanted(nobody, desk):
    desk.users.add_user("ada", "correct horse battery", next(iter(desk.tokens)))

    login = nobody.get("/runs?agent=&x=1", status=303).follow()
    form = login.form
    form["name"], form["password"] = "ada", "correct horse battery"

    assert form.submit().location == "http://localhost/runs?agent=&x=1"


@pytest.mark.parametrize(
    "address", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/\n/x"]
)
def test_a_login_leads_to_no_other_site(nobody, desk, address):
    desk.users.add_user("ada", "correct horse battery", next(iter(desk.tokens)))
    form = nobody.app.get("/login", params={"came_from": address}).form
    form["name"], form["password"] = "ada", "correct horse battery"

    assert form.submit().location == "http://localhost/"


def test_a_wrong_password_is_told_and_not_shown_again(nobody, desk):
    desk.users.add_user("ada", "correct horse battery", next(iter(desk.tokens)))

    answer = nobody.log_in("ada", "wrong horse battery")

    assert answer.status_int == 401
    assert nobody.message(answer) == "The name or the password is wrong"
    assert answer.form["name"].value == "ada"
    assert "wrong horse" not in answer.text


def test_an_empty_login_says_what_is_needed_beside_each_field(nobody):
    answer = nobody.log_in("", "")

    assert answer.status_int == 422
    for name in ("name", "password"):
        field = answer.html.find("input", {"name": name})
        assert field["aria-invalid"] == "true"
        assert answer.html.find(id=field["aria-describedby"]).get_text() == "This is needed"


def test_too_many_failures_are_answered_with_when_to_come_back(nobody):
    for _ in range(50):
        answer = nobody.log_in("ada", "no")
        if answer.status_int == 429:
            break

    assert answer.status_int == 429
    assert int(answer.headers["Retry-After"]) > 0


def test_after_logging_out_one_is_nobody(ada):
    answer = ada.post("/logout")

    assert ada.message(answer) == "You are logged out"
    assert "/login" in ada.get("/", status=303).location


def test_who_is_logged_in_need_not_log_in_again(ada):
    assert ada.get("/login", status=303).location == "http://localhost/"


def test_an_expired_login_is_told_and_nothing_is_changed(ada, desk):
    desk.add_agent()
    token = ada.token()
    before = desk.state()
    desk.clock += 13 * 3600

    answer = ada.app.post("/agent/index/pause", {"csrf_token": token}, expect_errors=True)

    assert answer.status_int == 401
    assert "The login has expired" in answer.text
    assert desk.state() == before
    assert "/login" in ada.get("/agents", status=303).location


def test_the_script_of_an_expired_page_is_told_so_and_not_led_astray(ada, desk):
    desk.clock += 13 * 3600

    ada.get("/?part=live", status=401)


@pytest.mark.parametrize("token", ["", "0" * 64, "ä"])
def test_a_forged_token_is_refused_and_nothing_is_changed(ada, desk, token):
    desk.add_agent()
    before = desk.state()

    answer = ada.app.post("/agent/index/pause", {"csrf_token": token}, expect_errors=True)

    assert answer.status_int == 403
    assert "nothing was changed" in answer.text
    assert desk.state() == before


def test_the_token_of_somebody_else_is_refused(ada, bob, desk):
    desk.add_agent()

    answer = ada.app.post("/agent/index/pause", {"csrf_token": bob.token()}, expect_errors=True)

    assert answer.status_int == 403


#: What some addresses need besides.
QUERIES = {
    "dead-letter": "?agent=index&object=a/1",
    "version": "?collection=talks",
    "document-history": "?collection=talks&document=a/1",
}


def path_of(name, desk):
    """The address of a page, with something in it to look at."""
    jobs = desk.ask("GET", "/jobs").json["jobs"]
    job = jobs[0]["id"] if jobs else "0"
    version = ""
    if name == "version":
        version = desk.ask("GET", "/collections/talks/versions").json["versions"][0]["id"]
    path = ADDRESSES[name].format(agent="index", job=job, task="tidy", version=version)
    return path + QUERIES.get(name, "")


def test_who_may_only_see_gets_nothing_that_changes_anything(bob, dead):
    before = dead.state()

    for name, method in OPERATED:
        path = path_of(name, dead)
        if method == "POST":
            answer = bob.post(path, confirmed="yes", agent="index")
        else:
            answer = bob.app.request(path, method=method, expect_errors=True)
        assert answer.status_int == 403, (method, path)

    assert dead.state() == before


def test_who_may_only_see_has_no_button_but_the_one_that_logs_out(bob, dead, versions):
    for name in SEEN:
        page = bob.get(path_of(name, dead)).html

        forms = page.find_all("form", {"method": "post"})
        assert [form["action"] for form in forms] == ["/logout"], name
        assert not any("…" in link.get_text() for link in page.find_all("a")), name


def test_every_page_has_its_landmarks_and_one_heading_of_the_first_rank(ada, dead, versions):
    for name in SEEN:
        answer = ada.get(path_of(name, dead))
        page = answer.html

        assert page.html["lang"] == "en", name
        assert len(page.find_all("h1")) == len(page.find_all("main")) == 1, name
        assert page.find("a", class_="skip")["href"] == "#main", name
        assert page.title.get_text().endswith("· livesync"), name
        assert all(table.find("caption") for table in page.find_all("table")), name
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"], name
        assert not page.find_all(style=True), name
        assert not [script for script in page.find_all("script") if not script.get("src")], name


@pytest.mark.parametrize(
    "path", ["/nowhere", "/agent/nobody", "/job/0", "/dead-letter?agent=index&object=x",
             "/static/0/../app.py", "/static/0/app.py", "/runs?agent=nobody"]
)  # fmt: skip
def test_what_is_not_there_is_said_on_a_page(ada, desk, path):
    desk.add_agent()

    page = ada.get(path, status=404).html

    assert page.find("h1").get_text() == "Nothing is here"
    assert page.find("nav", {"aria-label": "Main"}) is not None


@pytest.mark.parametrize("path", ["/runs?from=x", "/track?from=-1", "/dead-letters?from=9999999999999"])
def test_a_part_of_a_list_that_is_none_is_said_on_a_page(ada, path):
    assert "page before" in ada.get(path, status=400).text


def test_styles_and_script_stay_with_the_browser_until_they_change(nobody):
    page = nobody.get("/login").html
    path = page.find("link", rel="stylesheet")["href"]

    answer = nobody.get(path)

    assert answer.content_type == "text/css"
    assert answer.cache_control.max_age > 86_400
    assert nobody.get(path.replace(path.split("/")[2], "0" * 16)).headers["Cache-Control"] == "no-store"


def test_a_database_that_is_away_is_said_on_a_page(ada, desk, monkeypatch):
    monkeypatch.setattr(type(desk.db.storage), "is_connected", lambda self: False, raising=False)

    page = ada.get("/", status=503)

    assert "does not answer" in page.text
