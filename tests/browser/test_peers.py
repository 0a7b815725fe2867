"""The page Peers, with real sessions: what went well, what failed and why, and what goes on."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def row(page, title, name):
    """The text of a row of the table below a heading, on one line."""
    table = page.locator("section", has=page.get_by_role("heading", name=title))
    return " ".join(table.locator("tr", has_text=name).first.inner_text().split())


def test_what_became_of_sessions_and_conflicts_is_said(ada):
    ada.go("/peers")
    page = ada.page

    school = row(page, "Known peers", "school")
    assert "synced" in school
    assert "1,205 received, 88 sent" in school
    assert "1 conflict" in school
    away = row(page, "Known peers", "away")
    assert "failed http://127.0.0.1:9 did not answer: Connection refused" in away
    assert "sends nothing receives F1:U1" in away
    cut = row(page, "Last sessions", "cut")
    assert "receives F1: 1,000 of 1,700 items transferring (started)" in cut
    assert "the connection broke off" in cut
    assert "the next sync goes on with it" in cut
    assert "deferred could not be applied this node has no model" in row(page, "Conflicts", "exercise x-7")
    assert "settled created here and there" in row(page, "Conflicts", "note both")
    assert page.locator("#last-conflicts").get_by_text("1 could not be applied yet").count() == 1


def test_a_session_that_goes_on_is_seen_to_without_a_reload(ada, site):
    ada.go("/peers")
    ada.page.evaluate("window.stayed = true")
    bar = ada.page.locator("tr", has_text="under way").locator("progress")
    before = int(bar.get_attribute("value"))
    assert bar.get_attribute("max") == "1700"

    site.send_more(1)

    ada.page.wait_for_function(
        "before => Number([...document.querySelectorAll('#last-sessions tr')]"
        ".find(row => row.innerText.includes('under way')).querySelector('progress').value) > before",
        arg=before,
    )
    assert ada.page.evaluate("window.stayed") is True
    assert f"{before + 500:,} of 1,700 items" in row(ada.page, "Last sessions", "under way")
    assert ada.faults() == []
