"""The site in a browser: Debian's Chromium, without a screen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from conftest import Servers, Site, mail_to, wait_until
from playwright.sync_api import Browser, Page, expect, sync_playwright

# A small host that was just deployed answers slowly at first.
expect.set_options(timeout=15_000)

testinfra_hosts = ["ansible://edge"]
# One Nginx of a site shows all that a browser can find; those of many are held equal elsewhere.
pytestmark = [pytest.mark.usefixtures("articles"), pytest.mark.runs_on("edge", first=True)]

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

# What is pressed in menus and forms and is smaller than 24 by 24 pixels, which WCAG 2.2 asks for (2.5.8). Links amid
# words are exempt and not among them; nor is what stands outside the page until it has the focus.
SMALL_TARGETS = """
[...document.querySelectorAll(
  'body > header a, nav a, button, input:not([type=hidden]), select, textarea'
)].filter(element => {
  const box = element.getBoundingClientRect();
  return box.right > 0 && box.width > 0 && (box.width < 24 || box.height < 24);
}).map(element => element.outerHTML)
"""


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


def check_layout(page: Page) -> None:
    """Fail when the page that is open is wider than the screen, or has something too small to press."""
    page.wait_for_load_state()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} is {wide} pixels too wide"
    assert page.evaluate(SMALL_TARGETS) == [], page.url


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/posts/", "/search/?q=tide", "/shop/", "/shop/hot/", "/numbers/"),
        *("/accounts/login/", "/accounts/register/"),
    ],
)
def test_everything_fits(page: Page, site: Site, path: str) -> None:
    page.goto(site.url + path)
    check_layout(page)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('<p style="width: 2000px">Wide</p>', "too wide"),
        ('<nav><a href="/" style="font-size: 9px">Small</a></nav>', "Small"),
        ('<form><input id="tiny" style="height: 12px"></form>', "tiny"),
    ],
)
def test_what_does_not_fit_is_found(chromium: Browser, content: str, fault: str) -> None:
    page = chromium.new_page(viewport={"width": 375, "height": 667})
    page.set_content(content)
    with pytest.raises(AssertionError, match=fault):
        check_layout(page)
    page.close()


def test_reader_follows_a_post(page: Page, site: Site) -> None:
    page.goto(site.url + "/posts/")
    page.locator("article a[href^='/posts/']").first.click()
    assert page.locator("article h1").inner_text()


def log_in(page: Page, name: str, password: str) -> None:
    """Fill in the form of the page for logging in, which is open, and send it."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("main").get_by_role("button", name="Log in").click()


def test_reader_registers_comments_and_comes_back(page: Page, site: Site, servers: Servers) -> None:
    name, password = f"reader{secrets.token_hex(6)}", secrets.token_urlsafe(16)
    remark = f"Aye, {secrets.token_hex(60)}."  # a word that is longer than a line
    menu, content = page.get_by_role("navigation", name="Main"), page.get_by_role("main")

    page.goto(site.url + "/")
    menu.get_by_role("link", name="Register").click()
    page.get_by_label("Username").fill(name)
    page.get_by_label("Email address").fill(f"{name}@example.com")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Password confirmation").fill(password)
    check_layout(page)
    content.get_by_role("button", name="Register").click()
    expect(page.get_by_role("status")).to_contain_text(f"Welcome, {name}.")
    expect(menu.get_by_role("link", name=name)).to_be_visible()
    check_layout(page)
    menu.get_by_role("button", name="Log out").click()
    expect(menu.get_by_role("link", name="Register")).to_be_visible()

    menu.get_by_role("link", name="Log in").click()
    log_in(page, name, "not-this-one")
    expect(page.get_by_role("alert")).to_contain_text("Please enter a correct username and password")
    expect(menu.get_by_role("link", name="Log in")).to_be_visible()
    check_layout(page)
    log_in(page, name, password)
    expect(menu.get_by_role("link", name=name)).to_be_visible()

    menu.get_by_role("link", name="Stories").click()
    content.locator("article a[href^='/posts/']").first.click()
    page.get_by_label("Your comment").fill(remark)
    check_layout(page)
    page.get_by_role("button", name="Publish comment").click()
    expect(page.get_by_role("status")).to_contain_text("your comment is published")
    comment = page.get_by_role("region", name="Comments").get_by_role("article").filter(has_text=remark)
    expect(comment).to_contain_text(name)
    check_layout(page)
    post = page.url

    menu.get_by_role("link", name=name).click()
    expect(page.get_by_label("Email address")).to_have_value(f"{name}@example.com")
    page.get_by_label("First name").fill("Tamsin")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Your profile is saved.")
    page.reload()
    expect(page.get_by_label("First name")).to_have_value("Tamsin")
    check_layout(page)
    menu.get_by_role("button", name="Log out").click()
    expect(menu.get_by_role("link", name="Log in")).to_be_visible()

    page.goto(post)
    expect(comment).to_contain_text(name)
    expect(page.get_by_label("Your comment")).to_have_count(0)
    wait_until(lambda: mail_to(servers, f"{name}@example.com") == 1, "a mail that welcomes the reader")


def test_admin_is_refused_nothing(page: Page, site: Site, inventory: dict[str, str]) -> None:
    """The Content-Security-Policy lets the admin load and ask for all that it needs: else the browser says an error."""
    page.goto(site.url + "/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(inventory["vault_demo_admin_password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    for path in ("blog/post/", "accounts/user/", "shop/product/add/"):
        page.goto(f"{site.url}/admin/{path}")
    page.goto(site.url + "/admin/blog/post/add/")
    for field in ("author", "category", "tags"):
        page.locator(f".field-{field} .select2-selection").click()
        page.locator(".select2-results__option[aria-selected]").first.click()
    expect(page.locator(".field-author .select2-selection__rendered")).not_to_have_text("")
    page.get_by_label("Title:").press_sequentially("Fair winds")
    expect(page.get_by_label("Slug:")).to_have_value("fair-winds")


def test_keyboard_skips_the_menu(page: Page, site: Site) -> None:
    page.goto(site.url + "/")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).not_to_be_in_viewport()
    page.keyboard.press("Tab")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null && document.activeElement.tagName === 'A'")
