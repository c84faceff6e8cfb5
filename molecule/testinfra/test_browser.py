"""The site in a browser: Debian's Chromium, without a screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Site
from playwright.sync_api import Browser, Page, sync_playwright

testinfra_hosts = ["ansible://edge"]
pytestmark = pytest.mark.usefixtures("articles")

# Background traffic would go to hosts that this machine may not reach.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 800), (375, 667)], ids=["desktop", "telephone"])
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Return a page that fails the test when anything on it fails."""
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height})
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "response", lambda answer: troubles.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
    )
    yield page
    page.close()
    assert not troubles


def test_front_page_is_styled(page: Page, site: Site) -> None:
    page.goto(site.url + "/")
    sheets = page.evaluate("[...document.styleSheets].map(sheet => [sheet.href, sheet.cssRules.length])")
    assert sheets and all(rules > 0 for _, rules in sheets), sheets
    plain = page.evaluate(
        "(() => { const before = getComputedStyle(document.body).fontFamily;"
        " [...document.styleSheets].forEach(sheet => sheet.disabled = true);"
        " const after = getComputedStyle(document.body).fontFamily;"
        " [...document.styleSheets].forEach(sheet => sheet.disabled = false);"
        " return before === after; })()"
    )
    assert not plain, "the style sheet does nothing"


@pytest.mark.parametrize("path", ["/", "/posts/", "/accounts/register/"])
def test_nothing_overflows(page: Page, site: Site, path: str) -> None:
    page.goto(site.url + path)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_reader_follows_a_post(page: Page, site: Site) -> None:
    page.goto(site.url + "/posts/")
    page.locator("article a[href^='/posts/']").first.click()
    assert page.locator("article h1").inner_text()
