"""Every button, as a person presses them, from a new agent to its removal."""

import re

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_agent_from_its_beginning_to_its_end(ada, site):
    page = ada.page
    ada.go("/")
    page.get_by_role("link", name="Agents").click()
    ada.press("Add an agent")
    ada.press("sqlite")

    # wrong values first: told beside their fields, and kept
    page.get_by_label("Id").fill("a b")
    page.get_by_label("Name", exact=True).fill("Trial")
    page.get_by_text("More options").click()
    page.get_by_label("batch_size").fill("many")
    ada.press("Add the agent")
    assert page.get_by_label("Id").get_attribute("aria-invalid") == "true"
    assert "whole number" in page.locator("#f-o-batch_size-wrong").inner_text()
    assert page.get_by_label("Name", exact=True).input_value() == "Trial"

    page.get_by_label("Id").fill("trial")
    page.get_by_label("batch_size").fill("50")
    page.get_by_label("path").fill(str(site.directory / "trial.db"))
    ada.press("Test the connection")
    assert "delivered to" in ada.finished()
    assert page.get_by_label("Id").input_value() == "trial"
    ada.press("Add the agent")

    # it begins with an export
    assert "Trial is added" in ada.message
    page.get_by_label("With an export").check()
    ada.press("Begin")
    assert re.search(r"[1-9]\d* accepted", ada.finished())
    assert site.stored("trial")["state"] == "active"

    ada.press("To the agent")
    site.edit(3)
    page.reload()
    ada.press("Simulate")
    assert "Nothing was sent" in ada.finished()
    ada.press("To the agent")
    ada.press("Run now")
    assert "accepted" in ada.finished()
    ada.press("To the agent")
    ada.press("Verify")
    assert "The service holds what the application has" in ada.finished()
    ada.press("To the agent")
    ada.press("Test the connection")
    assert "It can be delivered to" in ada.finished()

    # by hand, and by a schedule
    ada.press("To the agent")
    ada.press("Schedule…")
    page.get_by_label("Every").fill("often")
    ada.press("Save")
    assert page.get_by_label("Every").get_attribute("aria-invalid") == "true"
    page.get_by_label("Every").fill("5m")
    ada.press("Save")
    assert site.stored("trial")["interval_s"] == 300.0

    ada.go("/agent/trial")
    ada.press("Enqueue…")
    ada.press("Enqueue")
    assert "at least one" in page.locator(".wrong").inner_text()
    page.get_by_label("Objects").fill("nothing-of-this-name\n")
    ada.press("Enqueue")
    assert "1 object is queued" in ada.message

    ada.press("Edit")
    page.get_by_label("Description").fill("On trial")
    ada.press("Save")
    assert "Trial is changed" in ada.message

    ada.press("Repair…")
    ada.press("Repair")
    ada.finished()
    ada.press("To the agent")
    ada.press("Export…")
    page.get_by_label("Some objects").check()
    ada.press("Export")
    assert "at least one" in page.locator(".wrong").inner_text()
    page.get_by_label("Everything, and then what changes").check()
    ada.press("Export")
    assert "accepted" in ada.finished()

    # back to the start of everything, once it is paused
    ada.press("To the agent")
    ada.press("Pause")
    assert "is paused" in ada.message
    ada.press("Rewind…")
    ada.press("Go on")
    assert "one of the two" in page.locator(".wrong").inner_text()
    page.get_by_label("Or to a position").fill("1")
    ada.press("Go on")
    assert re.search(r"[1-9][\d,]* delivered actions will be delivered again", page.inner_text("main"))
    ada.shot("agent-rewind-sure")
    ada.press("Rewind")
    assert "pointer has moved" in ada.message
    ada.press("Activate")
    assert "is active" in ada.message

    # and away with it
    ada.press("Remove…")
    page.get_by_label("Its id").fill("search")
    ada.press("Remove it for good")
    assert "Write trial" in page.locator(".wrong").inner_text()
    page.get_by_label("Its id").fill("trial")
    ada.press("Remove it for good")
    assert "Trial is removed" in ada.message
    assert page.get_by_role("link", name="Trial").count() == 0


def test_a_run_from_the_list_of_agents(ada, site):
    ada.go("/agents")

    ada.page.get_by_role("button", name="Run now Long-term archive").click()

    assert "accepted" in ada.finished() or "nothing" in ada.finished()


def test_dead_letters_are_retried_and_discarded(ada, site):
    before = site.stored("picky")["dead"]
    assert before > 2
    ada.go("/dead-letters")
    ada.page.get_by_label("Agent", exact=True).select_option("picky")
    ada.press("Show")
    ada.page.locator("tbody th a").first.click()
    ada.press("Retry…")
    ada.press("Send again")
    assert "1 dead letter" in ada.finished()

    ada.go("/dead-letters?agent=picky")
    ada.page.locator("tbody th a").last.click()
    ada.press("Discard…")
    ada.press("Throw away")
    assert ada.message == "1 dead letter is gone"
    assert site.stored("picky")["dead"] == before - 1

    ada.press("Retry all…")
    ada.press("Cancel")
    ada.press("Discard all…")
    ada.press("Throw away")
    assert site.stored("picky")["dead"] == 0
    ada.go("/dead-letters?agent=picky")
    ada.shot("dead-letters-none")


def test_a_task_is_added_run_and_removed(ada):
    ada.go("/tasks")
    ada.press("Add a task")
    ada.press("cleanup")
    ada.page.get_by_label("Or at").fill("whenever")
    ada.press("Add the task")
    assert ada.page.get_by_label("Or at").get_attribute("aria-invalid") == "true"
    ada.page.get_by_label("Or at").fill("0 3 * * *")
    ada.press("Add the task")
    assert "at 0 3 * * * UTC" in ada.page.inner_text("main")
    ada.shot("tasks-with-a-task")

    ada.page.get_by_role("button", name="Run now the task cleanup").click()
    assert "done" in ada.finished()
    ada.press("To the tasks")
    ada.page.get_by_role("link", name="Remove… the task cleanup").click()
    ada.press("Remove")
    assert "Task cleanup is removed" in ada.page.locator(".message").first.inner_text()


def test_the_track_is_paged_through_and_pruned(ada):
    ada.go("/track")
    newest = ada.page.locator("tbody tr").first.inner_text()
    ada.press("Older")
    assert ada.page.locator("tbody tr").first.inner_text() != newest
    ada.press("Newest")
    assert ada.page.locator("h1").inner_text() == "Track"

    ada.press("Prune…")
    ada.page.get_by_label("Keep how many days").fill("soon")
    ada.press("Prune")
    assert "number of days" in ada.page.locator(".wrong").inner_text()
    ada.page.get_by_label("Keep how many days").fill("366")
    ada.press("Prune")
    assert ada.message.startswith("0 actions are dropped")


def test_runs_are_narrowed_to_one_agent_and_drawn(ada):
    ada.go("/runs")
    ada.page.get_by_label("Agent", exact=True).select_option("search")
    ada.press("Show")

    assert ada.page.locator("h1").inner_text() == "Runs of Search of the site"
    assert ada.page.locator("figure.chart [role=img]").count() >= 2


def test_the_scale_of_the_time_line_is_chosen(ada):
    ada.go("/")
    for label in ("Last hour", "Last day", "All, evenly", "Recent first"):
        ada.page.get_by_role("link", name=label).click()
        assert ada.page.locator(".tabs [aria-current]").inner_text() == label


def test_a_forged_token_changes_nothing(ada, site):
    ada.go("/agent/search")
    ada.page.evaluate("document.querySelectorAll('[name=csrf_token]').forEach(each => each.value = 'x')")

    ada.press("Pause")

    assert "nothing was changed" in ada.page.inner_text("main")
    assert site.stored("search")["state"] == "active"


def test_a_form_that_was_open_too_long_changes_nothing_and_says_so(ada, site):
    ada.go("/agent/search")
    try:
        site.offset = 13 * 3600.0
        ada.press("Pause")
        assert "The login has expired" in ada.page.inner_text("main")
    finally:
        site.offset = 0.0
    assert site.stored("search")["state"] == "active"


def test_logging_out_leads_to_the_login(visit):
    ada = visit()
    ada.go("/")
    ada.page.get_by_role("button", name="Log out").click()

    assert ada.message == "You are logged out"
    ada.go("/agents")
    assert "/login" in ada.page.url
