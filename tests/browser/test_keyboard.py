"""The pages by the keyboard alone."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def focused(page):
    """The text, or the label, of what has the focus."""
    return page.evaluate(
        "(() => { const at = document.activeElement;"
        " return (at.labels && at.labels[0] ? at.labels[0].innerText : at.innerText).trim(); })()"
    )


def walk_to(page, text, most=60):
    """Press Tab until what says ``text`` has the focus; every stop on the way can be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "(() => { const at = document.activeElement, style = getComputedStyle(at), box ="
            " at.getBoundingClientRect(); return [style.outlineStyle, box.width, box.height]; })()"
        )
        assert style[0] != "none", f"the focus is not seen: {focused(page)}"
        assert style[1] > 1, focused(page)
        assert style[2] > 1, focused(page)
        if text in focused(page):
            return
    raise AssertionError(f"{text!r} is not reached")


def test_one_logs_in_skips_to_the_content_and_pauses_an_agent_without_a_mouse(visit, site):
    visitor = visit(None, viewport={"width": 1280, "height": 860})
    page = visitor.page
    visitor.go("/agent/archive")
    walk_to(page, "Name")
    page.keyboard.type("ada")
    walk_to(page, "Password")
    page.keyboard.type("correct horse battery")
    page.keyboard.press("Enter")
    page.wait_for_url("**/agent/archive")

    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    visitor.shot("keyboard-skip-link")
    page.keyboard.press("Enter")
    walk_to(page, "Pause")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message")

    assert site.stored("archive")["state"] == "paused"
    walk_to(page, "Activate")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message:has-text('is active')")
    assert site.stored("archive")["state"] == "active"


def test_every_page_is_reached_through_the_navigation(visit):
    visitor = visit(viewport={"width": 1280, "height": 860})
    page = visitor.page
    for label in ("Agents", "Runs", "Dead letters", "Tasks", "Track", "Peers", "History", "Status"):
        walk_to(page, label)
        page.keyboard.press("Enter")
        page.wait_for_function("text => document.querySelector('h1').innerText === text", arg=label)
        assert page.locator("nav [aria-current=page]").inner_text() == label
