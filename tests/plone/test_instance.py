"""Plone as it is run: over ZEO with a process beside it, several sites, and the page for managers."""

import json
import shutil

import pytest
from support import plone_service

pytestmark = [pytest.mark.plone, pytest.mark.slow, pytest.mark.server, pytest.mark.network]


def test_the_control_panel_shows_the_agents_to_managers(plone):
    page = plone.http.get(f"{plone.url}/@@overview-controlpanel", timeout=120)
    assert f'href="{plone.url}/@@livesync-status"' in page.text

    page = plone.http.get(f"{plone.url}/@@livesync-status", timeout=120)

    assert page.ok
    assert 'id="livesync-agents"' in page.text
    assert "index" in page.text
    assert "sqlite" in page.text
    assert "active" in page.text
    assert 'id="livesync-problem"' not in page.text


def test_the_page_is_for_managers_only(plone):
    answer = plone_service.requests.get(
        f"{plone.url}/@@livesync-status", timeout=120, headers={"Accept": "application/json"}
    )

    assert answer.status_code == 401
    assert "sqlite" not in answer.text


def test_the_command_line_works_beside_a_running_zope(plone):
    done = plone.livesync("status", "--json")
    assert done.returncode == 0, done.stderr
    assert [agent["id"] for agent in json.loads(done.stdout)["status"]["agents"]] == ["index"]

    # what writes is carried out by Zope's process, which owns the file
    for command, state in (("pause", "paused"), ("activate", "active")):
        done = plone.livesync("agent", command, "index")
        assert done.returncode == 0, done.stderr
        done = plone.livesync("status", "--json")
        assert json.loads(done.stdout)["status"]["agents"][0]["state"] == state


def test_over_zeo_a_process_of_its_own_delivers(plone_python, template, reader, tmp_path):
    shutil.copytree(template / "var", tmp_path / "var", ignore=shutil.ignore_patterns("*.lock"))
    with (
        plone_service.zeo_server(plone_python, tmp_path) as port,
        plone_service.started(plone_python, template, reader, tmp_path, zeo_port=port, runner="off") as plone,
    ):
        path, uid = plone.add("", "Document", "Over ZEO", text={"data": "<p>shared</p>"})
        plone.change_state(path, "publish")

        done = plone.livesync("agent", "run", "index")

        assert done.returncode == 0, done.stderr
        assert plone.arrived()[uid]["title"] == "Over ZEO"
        assert plone.indexed() == plone.documents()


def test_the_host_tells_of_one_site_or_of_all(plone):
    uid = plone.add("", "Folder", "Of Plone")[1]
    plone.script(
        "from Products.CMFPlone.factory import addPloneSite\n"
        "from Acquisition import aq_parent\n"
        "other = addPloneSite(aq_parent(site), 'other', extension_ids=['plone.app.contenttypes:default'])\n"
        "other.invokeFactory('Document', 'there', title='There')\n"
        "import transaction\n"
        "transaction.commit()\n"  # tools are looked up by the site that is set: so before it is set back
        "from zope.component.hooks import setSite\n"
        "setSite(site)"
    )
    paths = {json.loads(document)["path"] for document in plone.documents("role:Manager").values()}
    assert {"/Plone/of-plone", "/other", "/other/there"} <= paths

    done = plone.livesync("agent", "simulate", "index")
    assert done.returncode == 0, done.stderr
    assert uid in plone.documents("role:Manager")

    only = plone.reader.ask("documents", plone.db, audience="role:Manager", host="plone_hosts:other")
    assert {json.loads(document)["path"] for document in only.values()} == {"/other", "/other/there"}
    wrong = plone.reader.ask("documents", plone.db, host="plone_hosts:missing")
    assert wrong == {"error": "HostFailed: there is no Plone site at /nowhere"}
