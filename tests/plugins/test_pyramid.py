"""livesync plugged into a Pyramid application: what requests do is recorded with their transactions."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest
import zope.event
from plugins.conftest import EXAMPLE, Sites, wait_for
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid_retry import RetryableException
from pyramid_zodbconn import get_connection
from support.waiting import LONG_S
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zope.lifecycleevent import ObjectModifiedEvent

from livesync import SyncManager
from livesync.database import committed
from livesync.destinations.sqlite import SQLiteAgent

pytestmark = pytest.mark.usefixtures("example")

EVENTS = """
    notes.events.Hidden set_private
    notes.events.Published set_public
"""


def with_view(name: str, view: Any) -> Any:
    """Return what adds a view of the notebook that answers GET."""
    return lambda config: config.add_view(view, name=name, renderer="string")


# -- transactions --------------------------------------------------------------------------------


def test_what_a_request_changes_is_recorded_once(sites: Sites) -> None:
    site = sites()

    path = site.add_note("Tea")
    site.post(f"{path}edit", title="Green tea", text="Boil water", status=303)

    assert site.actions() == [("Green tea", {"created"}), ("Green tea", {"data_changed", "title_changed"})]


def test_a_request_that_only_reads_leaves_nothing(sites: Sites) -> None:
    site = sites()
    path = site.add_note("Tea")
    site.forget()

    site.app.get("/")
    site.app.get(path)

    assert site.actions() == []


def test_a_request_that_fails_leaves_nothing(sites: Sites) -> None:
    def change_and_fail(request: Any) -> str:
        request.root["tea"].edit(title="Lost")
        raise ZeroDivisionError

    site = sites(with_view("fail", change_and_fail))
    site.add_note("Tea")
    site.forget()

    with pytest.raises(ZeroDivisionError):
        site.app.get("/fail")

    assert site.actions() == []
    assert "Tea" in site.app.get("/").text


def test_a_request_that_is_retried_leaves_one_action(sites: Sites) -> None:
    attempts: list[int] = []

    def change_and_fail_at_first(request: Any) -> str:
        request.root["tea"].edit(title=f"Attempt {len(attempts)}")
        attempts.append(1)
        if len(attempts) < 3:
            raise RetryableException
        return "done"

    site = sites(with_view("again", change_and_fail_at_first))
    site.add_note("Tea")
    site.forget()

    site.app.get("/again")

    assert len(attempts) == 3
    assert site.actions() == [("Attempt 2", {"data_changed", "title_changed"})]


def test_a_conflict_with_another_request_leaves_one_action_of_each(sites: Sites) -> None:
    attempts: list[int] = []

    def change_while_another_does(request: Any) -> str:
        note = request.root["tea"]
        note.edit(text="mine")
        attempts.append(1)
        if len(attempts) == 1:
            with request.registry._zodb_databases[""].transaction() as connection:
                connection.root()["notebook"]["tea"].edit(text="theirs")
        return "done"

    site = sites(with_view("meet", change_while_another_does))
    site.add_note("Tea")
    site.forget()

    site.app.get("/meet")

    assert len(attempts) == 2
    assert site.actions() == [("Tea", {"data_changed"}), ("Tea", {"data_changed"})]


def test_who_made_the_change_stands_with_it(sites: Sites) -> None:
    class Ada:
        """A policy by which everybody is Ada."""

        def identity(self, request: Any) -> str:
            return "ada"

        def authenticated_userid(self, request: Any) -> str:
            return "ada"

        def permits(self, request: Any, context: Any, permission: str) -> bool:
            return False

    site = sites(lambda config: config.set_security_policy(Ada()))
    site.add_note("Tea")

    with site.databases[""].transaction() as connection:
        (action,) = SyncManager.get(connection.root()).waiting()
    assert action.user == "ada"
    assert action.note == "/add-note"


# -- events --------------------------------------------------------------------------------------


def test_moves_and_removals_are_recorded_with_what_lies_inside(sites: Sites) -> None:
    site = sites()
    site.post("/add-folder", title="Drinks")
    site.post("/drinks/add-note", title="Tea")
    site.post("/add-folder", title="Kitchen")
    with site.databases[""].transaction() as connection:
        notebook = connection.root()["notebook"]
        uids = {entry.title: entry.uid for entry in notebook.everything_inside()}
    site.forget()

    site.post("/drinks/move", to=uids["Kitchen"], status=303)
    site.post("/kitchen/remove", status=303)

    assert site.actions()[0] == (uids["Drinks"], {"moved"})
    assert sorted(site.actions()[1:]) == sorted((uid, {"deleted"}) for uid in uids.values())


def test_events_of_the_applications_own_mean_what_the_settings_say(sites: Sites) -> None:
    site = sites(livesync__events=EVENTS)
    path = site.add_note("Tea")
    site.forget()

    site.post(f"{path}draft", draft="on", status=303)
    site.post(f"{path}draft", status=303)

    assert site.actions() == [("Tea", {"set_private"}), ("Tea", {"set_public"})]


def test_events_may_go_through_the_registry_as_well(sites: Sites) -> None:
    def tell(request: Any) -> str:
        from notes.events import Hidden

        note = request.root["tea"]
        note.text = "changed"
        request.registry.notify(ObjectModifiedEvent(note))
        request.registry.notify(Hidden(note))
        zope.event.notify(Hidden(note))
        return "done"

    site = sites(with_view("tell", tell), livesync__events=EVENTS)
    site.add_note("Tea")
    site.forget()

    site.app.get("/tell")

    assert site.actions() == [("Tea", {"data_changed", "set_private"})]


def test_an_interface_is_an_event_too_and_its_object_may_have_another_name(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    from notes import events
    from zope.interface import Interface, implementer

    class IShared(Interface):
        """Something is shared."""

    @implementer(IShared)
    class Shared:
        def __init__(self, note: Any) -> None:
            self.note = note

    monkeypatch.setattr(events, "IShared", IShared, raising=False)

    def share(request: Any) -> str:
        request.root["tea"].text = "shared"
        zope.event.notify(Shared(request.root["tea"]))
        return "done"

    site = sites(with_view("share", share), livesync__events="notes.events.IShared:note acl_changed shared")
    site.add_note("Tea")
    site.forget()

    site.app.get("/share")

    assert site.actions() == [("Tea", {"acl_changed", "shared"})]


def test_an_event_that_means_deleted_takes_in_what_lies_inside(sites: Sites) -> None:
    def hide_all(request: Any) -> str:
        from notes.events import Hidden

        zope.event.notify(Hidden(request.root["drinks"]))
        return "done"

    site = sites(with_view("hide", hide_all), livesync__events="notes.events.Hidden deleted")
    site.post("/add-folder", title="Drinks")
    site.post("/drinks/add-note", title="Tea")
    site.forget()

    site.app.get("/hide")

    assert site.actions() == [("Drinks", {"deleted"}), ("Tea", {"deleted"})]


def test_an_event_about_something_else_is_none_of_ours(sites: Sites) -> None:
    def tell(request: Any) -> str:
        from notes.events import Hidden

        zope.event.notify(Hidden(request.root))  # the notebook itself is never synced
        zope.event.notify(Hidden(object()))
        return "done"

    site = sites(with_view("tell", tell), livesync__events=EVENTS)
    site.add_note("Tea")
    site.forget()

    site.app.get("/tell")

    assert site.actions() == []


# -- databases -----------------------------------------------------------------------------------


def with_notebooks(site: Any) -> Any:
    """Return a site whose databases have a notebook each."""
    from notes.models import notebook_of

    for db in site.databases.values():
        with db.transaction() as connection:
            notebook_of(connection.root())
    return site


def add_elsewhere(request: Any) -> str:
    """Add one note to the main database and one to another."""
    from notes.models import Note, notebook_of

    for name in (None, "archive"):
        notebook_of(get_connection(request, name).root()).add(Note(f"in {name}"))
    return "done"


def test_each_database_has_its_own_track(sites: Sites) -> None:
    site = with_notebooks(sites(with_view("both", add_elsewhere), zodbconn__uri__archive="memory://"))

    site.app.get("/both")

    assert site.actions() == [("in None", {"created"})]
    assert site.actions("archive") == [("in archive", {"created"})]


def test_databases_that_are_not_named_are_left_alone(sites: Sites) -> None:
    site = with_notebooks(
        sites(
            with_view("both", add_elsewhere),
            livesync__databases="main",
            zodbconn__uri__archive="memory://",
        )
    )

    site.app.get("/both")

    assert site.actions() == [("in None", {"created"})]
    with site.databases["archive"].transaction() as connection:
        assert "livesync" not in connection.root()


def test_a_database_that_has_livesync_keeps_what_it_has(sites: Sites, tmp_path: Any) -> None:
    path = str(tmp_path / "Data.fs")
    db = DB(FileStorage(path))
    with db.transaction() as connection:
        track_id = SyncManager.install(connection.root(), granularity=5).track_id
    db.close()

    site = sites(zodbconn__uri=f"file://{path}")

    with site.databases[""].transaction() as connection:
        manager = SyncManager.get(connection.root())
        assert (manager.track_id, manager.granularity) == (track_id, 5)


def test_livesync_is_installed_for_the_site_that_is_set(sites: Sites) -> None:
    site = sites(livesync__site="staging")

    with site.databases[""].transaction() as connection:
        assert SyncManager.get(connection.root()).site == "staging"


def test_nothing_is_installed_where_that_is_not_wanted(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    site = sites(livesync__install="no", livesync__runner="thread")

    site.add_note("Tea")

    with site.databases[""].transaction() as connection:
        assert "livesync" not in connection.root()
    wait_for(lambda: "livesync is not installed" in caplog.text)


def test_the_plugin_may_be_included_after_the_databases(sites: Sites) -> None:
    site = sites(lambda config: config.include("livesync.plugins.pyramid"), plugin="")

    site.add_note("Tea")

    assert site.actions() == [("Tea", {"created"})]


def test_the_settings_of_the_command_line_hold_where_the_application_says_nothing(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "livesync.toml").write_text('host = "notes.livesync_host:NotesHost"\n')
    monkeypatch.setenv("LIVESYNC_SITE", "production")

    site = sites(livesync__host="")

    assert site.plugged.settings.site == "production"


# -- settings that make no sense -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"livesync.hots": "x"}, "there is no setting livesync.hots; there are: host, site"),
        ({"livesync.host": ""}, "livesync.host is not set"),
        ({"livesync.host": "nowhere:Host"}, "livesync.host: host 'nowhere:Host' cannot be imported"),
        ({"livesync.host": "notes.models:Note"}, "livesync.host: host 'notes.models:Note'"),
        ({"livesync.runner": "process"}, "livesync.runner is thread or off, not 'process'"),
        ({"livesync.install": "maybe"}, "livesync.install is true or false, not 'maybe'"),
        ({"livesync.events": "notes.events.Nothing set_private"}, "livesync.events: 'notes.events.Nothing'"),
        ({"livesync.events": "Hidden set_private"}, "livesync.events: 'Hidden' cannot be imported"),
        ({"livesync.events": "notes.models.notebook_of deleted"}, "neither a class nor an interface"),
        ({"livesync.events": "notes.events.Hidden"}, "at least one action is needed"),
        ({"livesync.events": "notes.events.Hidden set private!"}, "'private!' is no action word"),
        ({"livesync.events": "notes.events.Hidden:a.b set_private"}, "an attribute of the event"),
        ({"livesync.config": "/nowhere/livesync.toml"}, "livesync.config: the settings file"),
        ({"livesync.databases": "main other"}, "there is no database 'other'; there are: main"),
        ({"livesync.web_see": "everybody"}, "livesync.web_see is for the web pages: set livesync.web_prefix"),
        ({"livesync.web_prefix": "/sync", "livesync.web_database": "other"}, "no database 'other'"),
        (
            {"livesync.web_prefix": "/sync", "livesync.web_metrics": "secret"},
            "livesync.web_metrics is loopback",
        ),
        ({"zodbconn.uri": ""}, "there is no database: include pyramid_zodbconn"),
    ],
)
def test_one_clear_line_says_what_is_wrong(sites: Sites, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sites(**settings)

    assert says in str(caught.value)
    assert str(caught.value).startswith("livesync: ")
    assert "\n" not in str(caught.value)


def test_notices_of_a_wrong_form_are_said_too(sites: Sites, tmp_path: Any) -> None:
    (tmp_path / "livesync.toml").write_text('[notices]\nmail = "x"\n')

    with pytest.raises(ConfigurationError, match="there is no key 'mail'"):
        sites()


def test_an_application_that_could_not_be_made_hears_no_events(sites: Sites) -> None:
    before = list(zope.event.subscribers)

    with pytest.raises(ConfigurationError):
        sites(livesync__databases="main other")

    assert zope.event.subscribers == before


# -- who runs the agents -------------------------------------------------------------------------


def with_agent(site: Any, index: Any) -> Any:
    """Return a site that has an agent with an interval, which begins with what is there."""

    def add(root: Any) -> None:
        manager = SyncManager.get(root)
        manager.register_agent(SQLiteAgent("index", path=str(index)))
        manager.activate("index", from_start=True)
        manager.set_interval("index", 3600)

    committed(site.databases[""], add)
    return site


def titles(index: Any) -> list[str]:
    if not index.is_file():
        return []
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=5)) as file:
        try:
            return sorted(title for (title,) in file.execute("SELECT document ->> 'title' FROM documents"))
        except sqlite3.OperationalError:  # it is being made
            return []


def test_an_edit_arrives_in_the_index_by_itself(sites: Sites, tmp_path: Any) -> None:
    index = tmp_path / "index.sqlite"
    site = with_agent(sites(livesync__runner="thread"), index)

    site.add_note("Tea")
    wait_for(lambda: titles(index) == ["Tea"])
    site.post("/tea/edit", title="Green tea", text="", status=303)

    wait_for(lambda: titles(index) == ["Green tea"])
    assert site.plugged.runners[""].is_alive()
    site.plugged.close()
    assert not site.plugged.runners[""].is_alive()


def test_pages_know_whether_the_agents_are_run(sites: Sites) -> None:
    running = sites(livesync__runner="thread", livesync__web_prefix="/sync")
    off = sites(livesync__web_prefix="/sync")

    assert running.registry["livesync.web"].context.runner is running.plugged.runners[""]
    assert off.registry["livesync.web"].context.runner is None


FORKING = """
import os
import sys
import webtest
from notes import configured

config = configured({
    "zodbconn.uri": "memory://",
    "notes.index": "nowhere",
    "livesync.host": "notes.livesync_host:NotesHost",
    "pyramid.includes": "livesync.plugins.pyramid",
})
app = webtest.TestApp(config.make_wsgi_app(), extra_environ={"HTTP_HOST": "localhost"})
runner = config.registry["livesync.plugin"].runners[""]
parent = runner.is_alive()
child = os.fork()
if not child:
    before = runner.is_alive()
    app.get("/")
    os._exit((0 if not before and runner.is_alive() else 1))
_, status = os.waitpid(child, 0)
print(parent, runner.is_alive(), os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
def test_a_forked_process_runs_them_too_from_its_first_request_on(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        env={**os.environ, "PYTHONPATH": str(EXAMPLE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )

    assert done.stdout == "True True 0\n", done.stderr


# -- web pages -----------------------------------------------------------------------------------


def test_the_pages_are_mounted_where_the_settings_say(sites: Sites) -> None:
    site = sites(livesync__web_prefix="/sync")

    assert site.app.get("/sync/healthz").status_int == 200
    assert site.app.get("/sync/api/v1/status", status="*").status_int == 401
    assert "Notebook" in site.app.get("/").text


def test_without_a_prefix_there_are_no_pages(sites: Sites) -> None:
    site = sites()

    assert site.app.get("/livesync/healthz", status="*").status_int == 404


# -- the end -------------------------------------------------------------------------------------


def test_after_it_is_closed_nothing_is_heard_or_recorded(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    before = list(zope.event.subscribers)
    site = sites(livesync__events=EVENTS)
    path = site.add_note("Tea")

    site.plugged.close()
    site.post(f"{path}edit", title="Changed", status=303)

    assert site.actions() == [("Changed", {"created"})]
    assert zope.event.subscribers == before
    site.plugged.close()  # once more does no harm


def test_nothing_runs_where_the_database_is_a_copy(
    sites: Sites, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    path = str(tmp_path / "Data.fs")
    db = DB(FileStorage(path))
    with db.transaction() as connection:
        SyncManager.install(connection.root(), site="production")
    db.close()

    with caplog.at_level(logging.WARNING):
        site = sites(zodbconn__uri=f"file://{path}", livesync__site="staging", livesync__runner="thread")
    site.add_note("Tea")

    wait_for(lambda: "this database belongs to site 'production'" in caplog.text)
    assert site.actions() == [("Tea", {"created"})]


def test_the_configurator_is_all_that_it_needs(sites: Sites) -> None:
    """An application that has no pyramid_tm is captured by the transaction of its thread."""
    import transaction
    from notes.models import Note, notebook_of

    config = Configurator(
        settings={
            "zodbconn.uri": "memory://",
            "livesync.host": "notes.livesync_host:NotesHost",
            "livesync.runner": "off",
        }
    )
    config.include("pyramid_zodbconn")
    config.include("livesync.plugins.pyramid")
    app = config.make_wsgi_app()
    db = app.registry._zodb_databases[""]
    connection = db.open()
    notebook_of(connection.root()).add(Note("Tea"))
    transaction.commit()
    connection.close()

    with db.transaction() as connection:
        assert len(list(SyncManager.get(connection.root()).waiting())) == 1
    app.registry["livesync.plugin"].close()
    db.close()
