"""Every page, in light and dark, on a large screen and a small one."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = {
    "status": "/",
    "agents": "/agents",
    "agent-active": "/agent/search",
    "agent-paused": "/agent/asleep",
    "agent-new": "/agent/later",
    "agent-failing": "/agent/lost",
    "agent-types": "/agents/add",
    "agent-add": "/agents/add?type=opensearch",
    "agent-edit": "/agent/search/edit",
    "agent-begin": "/agent/later/begin",
    "agent-export": "/agent/search/export",
    "agent-repair": "/agent/search/repair",
    "agent-enqueue": "/agent/search/enqueue",
    "agent-rewind": "/agent/asleep/rewind",
    "agent-schedule": "/agent/search/schedule",
    "agent-remove": "/agent/search/remove",
    "jobs": "/jobs",
    "runs": "/runs",
    "runs-of-one": "/runs?agent=search",
    "dead-letters": "/dead-letters",
    "dead-discard": "/dead-letters/discard?agent=fussy",
    "dead-retry": "/dead-letters/retry?agent=fussy",
    "tasks": "/tasks",
    "task-kinds": "/tasks/add",
    "task-add": "/tasks/add?kind=verify",
    "track": "/track",
    "prune": "/track/prune",
    "peers": "/peers",
    "history": "/history",
    "document-history": "/history/document?collection=notes&document=second",
    "not-found": "/nowhere",
}


def look(visitor, name):
    """Look at the page that is open in all lights and sizes."""
    page = visitor.page
    page.set_viewport_size({"width": 1280, "height": 860})
    page.emulate_media(color_scheme="light")
    visitor.shot(f"{name}-light")
    faults = [f"light: {fault}" for fault in visitor.faults()]
    page.emulate_media(color_scheme="dark")
    visitor.shot(f"{name}-dark")
    # only the colours are others
    faults += [f"dark: {fault}" for fault in visitor.faults("color-contrast", "link-in-text-block")]
    page.set_viewport_size({"width": 320, "height": 640})
    page.emulate_media(color_scheme="light")
    visitor.shot(f"{name}-phone")
    if not visitor.has_room():
        faults.append("phone: something reaches beyond the right edge")
    assert faults == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_keeps_nobody_out_in_any_light_or_size(ada, name):
    ada.go(PAGES[name])

    look(ada, name)


def test_a_version_keeps_nobody_out(ada):
    ada.go("/history")
    ada.page.get_by_role("link", name="rework:0").click()

    assert ada.page.locator("pre.diff ins").first.inner_text() == '+  "title": "The second",'
    look(ada, "version")


def test_the_login_keeps_nobody_out(visit):
    visitor = visit(None)
    visitor.go("/login")
    visitor.page.get_by_role("button", name="Log in").click()

    assert visitor.page.locator("[aria-invalid=true]").count() == 2
    look(visitor, "login")


def test_a_dead_letter_keeps_nobody_out(ada):
    ada.go("/dead-letters?agent=fussy")
    ada.page.locator("tbody th a").first.click()

    assert "has a number that this place does not take" in ada.message
    look(ada, "dead-letter")


@pytest.mark.parametrize(("button", "name"), [("Simulate", "job-simulate"), ("Verify", "job-verify"),
                                              ("Run now", "job-run")])  # fmt: skip
def test_a_job_keeps_nobody_out(ada, button, name):
    ada.go("/agent/archive" if button == "Simulate" else "/agent/search")
    ada.press(button)
    ada.finished()

    look(ada, name)


def test_a_form_with_wrong_values_keeps_nobody_out(ada):
    ada.go("/agents/add?type=webhook")
    ada.page.get_by_label("Id").fill("no id")
    ada.press("Add the agent")

    assert ada.page.locator("#problems").evaluate("box => box === document.activeElement")
    look(ada, "agent-add-wrong")


def test_somebody_who_may_only_see_finds_no_button(visit):
    visitor = visit("bob")
    for path in ("/", "/agents", "/agent/search", "/dead-letters?agent=fussy", "/tasks", "/track"):
        visitor.go(path)
        buttons = visitor.page.locator("main form[method=post]")
        assert buttons.count() == 0, path
    visitor.go("/agent/search/remove")
    assert visitor.page.locator("h1").inner_text() == "Not allowed"
    look(visitor, "not-allowed")
