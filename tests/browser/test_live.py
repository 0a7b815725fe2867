"""The status keeps itself up to date, without being loaded again."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LANE = "#lane-archive"


def waiting(page):
    """What stands beside the archive's lane."""
    return page.locator(f"li:has({LANE}) .lag").inner_text()


def test_a_change_is_seen_without_a_reload(ada, site):
    ada.go("/")
    ada.page.evaluate("window.stayed = true")
    before = waiting(ada.page)
    ada.page.locator(LANE).focus()

    site.edit()

    ada.page.wait_for_function(
        "([lane, before]) => document.querySelector(`li:has(${lane}) .lag`).innerText !== before"
        " && /waiting/.test(document.querySelector(`li:has(${lane}) .lag`).innerText)",
        arg=[LANE, before],
    )
    assert ada.page.evaluate("window.stayed") is True
    assert ada.page.evaluate("document.activeElement.id") == "lane-archive"
    assert ada.page.locator(".live-text").inner_text().startswith("Live, updated")
    ada.shot("status-after-a-change")


def test_updates_pause_and_go_on_when_they_are_told_to(ada, site):
    ada.go("/")
    asked = []
    ada.page.on("request", lambda request: asked.append(request.url) if "part=live" in request.url else None)

    ada.press("Pause updates")
    assert ada.page.locator(".live-text").inner_text().startswith("Paused at")
    ada.page.wait_for_timeout(2600)
    paused = len(asked)
    with ada.page.expect_response(lambda answer: "part=live" in answer.url):
        ada.press("Resume updates")

    assert paused <= 1
    ada.page.wait_for_function(
        "() => document.querySelector('.live-text').innerText.startsWith('Live, updated')"
    )


def test_nothing_is_asked_while_the_page_is_hidden(ada):
    ada.go("/")
    asked = []
    ada.page.on("request", lambda request: asked.append(request.url) if "part=live" in request.url else None)

    ada.page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    ada.page.wait_for_timeout(2600)
    hidden = len(asked)
    with ada.page.expect_request(lambda request: "part=live" in request.url):
        ada.page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    assert hidden == 0


def test_a_server_that_is_away_is_said_and_found_again(ada):
    ada.go("/")

    ada.context.set_offline(True)
    ada.page.wait_for_function("() => document.querySelector('.live-text').innerText.startsWith('No answer')")
    ada.context.set_offline(False)

    ada.page.wait_for_function(
        "() => document.querySelector('.live-text').innerText.startsWith('Live, updated')"
    )


def test_an_expired_login_is_said_on_the_open_page(ada, site):
    ada.go("/runs")
    ada.go("/")
    try:
        site.offset = 13 * 3600.0
        ada.page.get_by_role("link", name="Log in again").wait_for()
        ada.shot("status-expired")
        ada.page.get_by_role("link", name="Log in again").click()
        ada.page.wait_for_url("**/login*")
    finally:
        site.offset = 0.0


def test_what_is_read_aloud_changes_only_when_the_words_do(ada, site):
    ada.go("/")
    ada.page.evaluate(
        "window.changes = 0; new MutationObserver(() => window.changes++)"
        ".observe(document.getElementById('summary'), {childList: true, subtree: true, characterData: true})"
    )

    for _ in range(2):
        with ada.page.expect_response(lambda answer: "part=live" in answer.url):
            pass

    assert ada.page.evaluate("window.changes") == 0
    assert ada.page.locator("[aria-live]").count() == 1


def test_without_a_script_the_status_is_whole_and_is_refreshed_by_a_link(visit):
    visitor = visit(java_script_enabled=False)
    visitor.go("/")

    visitor.page.get_by_role("link", name="Refresh").click()

    assert visitor.page.locator(".lanes li").count() >= 6
    visitor.shot("status-without-script")
