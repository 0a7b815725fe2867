"""The pages below a path of an application: every page, what each brings with it, and where it leads."""

from urllib.parse import urlsplit

import pytest
from browser.conftest import Site, Visitor
from browser.test_every_page import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PREFIX = "/office/livesync"


@pytest.fixture(scope="module")
def mounted(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("mounted"), PREFIX)
    yield made
    made.close()


@pytest.fixture
def ada(browser, mounted):
    """Somebody who has logged in below the prefix; what the server refused is in ``refused``."""
    visitor = Visitor(browser, mounted)
    visitor.refused = []
    visitor.page.on(
        "response",
        lambda answer: visitor.refused.append((answer.status, answer.url)) if answer.status >= 400 else None,
    )
    visitor.log_in()
    yield visitor
    complaints = visitor.complaints
    visitor.close()
    assert complaints == []


def outside(visitor):
    """Where the page leads, and what it brings, that is not below the prefix."""
    found = visitor.page.evaluate(
        """() => [...document.querySelectorAll("[href], [src], [action], [data-url]")].flatMap(
            (each) => ["href", "src", "action", "data-url"].map((name) => each.getAttribute(name))
        ).filter((value) => value !== null).map((value) => new URL(value, document.baseURI).href)"""
    )
    here = urlsplit(visitor.site.address).netloc
    paths = [urlsplit(url).path for url in found if urlsplit(url).netloc == here]
    assert paths
    return [path for path in paths if path != PREFIX and not path.startswith(f"{PREFIX}/")]


def test_every_page_and_all_that_it_leads_to_is_below_the_prefix(ada):
    for name, path in PAGES.items():
        ada.go(path)
        assert outside(ada) == [], name
    ada.shot("mounted-history")

    missing = [url for status, url in ada.refused]
    assert [urlsplit(url).path for url in missing] == [f"{PREFIX}/nowhere"]


def test_buttons_forms_and_the_live_status_work_below_it(ada, mounted):
    ada.go("/")
    with ada.page.expect_response(lambda answer: "/api/v1/" in answer.url or "live" in answer.url) as polled:
        mounted.edit(1)
    assert urlsplit(polled.value.url).path.startswith(f"{PREFIX}/")
    assert polled.value.status == 200
    ada.shot("mounted-status")

    ada.go("/agent/search")
    ada.press("Run now")
    assert "accepted" in ada.finished()
    ada.press("To the agent")
    ada.press("Pause")
    assert mounted.stored("search")["state"] == "paused"
    ada.go("/agent/search/remove")
    ada.page.get_by_label("Its id").fill("another")
    ada.press("Remove it for good")
    assert ada.page.get_by_label("Its id").get_attribute("aria-invalid") == "true"
    ada.shot("mounted-wrong-form")


def test_the_login_is_kept_for_what_is_below_the_prefix_and_ends_with_the_log_out(ada):
    (cookie,) = [each for each in ada.context.cookies() if each["httpOnly"]]
    assert cookie["path"] == PREFIX

    ada.page.get_by_role("button", name="Log out").click()
    ada.go("/agents")

    assert urlsplit(ada.page.url).path == f"{PREFIX}/login"
