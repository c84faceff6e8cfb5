"""What readers need who do not see the pages, or see them badly, or use a keyboard: on rendered pages."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.template.loader import render_to_string
from django.test import Client

from blog.models import Author, Post
from blog.views import COMMENTS_PER_PAGE, POSTS_PER_PAGE
from tests.factories import PASSWORD, make_category, make_comments, make_post, make_product, make_user

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# Elements without an end tag, as far as the pages have any.
VOID = {"meta", "link", "input", "img", "br", "hr"}


@dataclass
class Element:
    """An element of a page, and the text in it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Document(HTMLParser):
    """The elements of a page, in their order."""

    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start with nothing open."""
        super().__init__()
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and what was left open in it."""
        while self.open and self.open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Add text to all elements that it stands in."""
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        """Return the elements with one of these tags."""
        return [element for element in self.elements if element.tag in tags]


def faults(html: str) -> set[str]:
    """Return what is wrong with a page, in words."""
    document = Document()
    document.feed(html)
    found: set[str] = set()

    def expect(condition: object, fault: str) -> None:
        if not condition:
            found.add(fault)

    identifiers = [element.attributes["id"] for element in document.elements if "id" in element.attributes]
    labelled = {element.attributes.get("for") for element in document.all("label") if element.text.strip()}
    levels = [HEADINGS.index(element.tag) + 1 for element in document.all(*HEADINGS)]
    expect([element.attributes.get("lang") for element in document.all("html")] == ["en"], "no language")
    expect(all(element.text.strip() for element in document.all("title")) and document.all("title"), "no title")
    expect(len(document.all("main")) == 1, "not one main part")
    expect(levels.count(1) == 1, "not one h1")
    expect(all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False)), "a level is skipped")
    expect(all(element.text.strip() for element in document.all(*HEADINGS)), "an empty heading")
    expect(len(identifiers) == len(set(identifiers)), "an id twice")
    for element in document.elements:
        attributes = element.attributes
        for name in ("for", "aria-describedby", "aria-labelledby"):
            expect(set((attributes.get(name) or "").split()) <= set(identifiers), f"{name} names nothing")
        if (attributes.get("href") or "").startswith("#"):
            expect(attributes["href"][1:] in identifiers, "a link into the page leads nowhere")
    for element in document.all("input", "select", "textarea"):
        if element.attributes.get("type") != "hidden":
            expect(element.attributes.get("id") in labelled, "a field without a label")
        if "aria-invalid" in element.attributes:
            expect("_error" in (element.attributes.get("aria-describedby") or ""), "an error its field does not name")
    for element in document.all("a", "button"):
        expect(element.text.strip(), "a link or button without words")
    for element in document.all("nav"):
        expect(element.attributes.get("aria-label"), "a nav without a name")
    for element in document.all("img"):
        expect("alt" in element.attributes, "a picture without an alternative")
    return found


SOUND = '<html lang="en"><title>T</title><body><main id="m"><h1>H</h1>{}</main></body></html>'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('<h2>A</h2><h3>B</h3><label for="f">F</label><input id="f"><img alt="">', None),
        ("<h3>Too deep</h3>", "a level is skipped"),
        ("<h1>Again</h1>", "not one h1"),
        ("<h2> </h2>", "an empty heading"),
        ('<input name="q" placeholder="No label">', "a field without a label"),
        ('<label for="f"> </label><input id="f">', "a field without a label"),
        ('<label for="f">F</label><input id="f" aria-invalid="true">', "an error its field does not name"),
        ('<label for="f">F</label><input id="f" aria-describedby="gone">', "aria-describedby names nothing"),
        ('<img src="a.png">', "a picture without an alternative"),
        ('<a href="/"><svg></svg></a>', "a link or button without words"),
        ('<a href="#gone">Skip</a>', "a link into the page leads nowhere"),
        ("<nav><p>Pages</p></nav>", "a nav without a name"),
        ('<p id="m">Twice</p>', "an id twice"),
        ("<main></main>", "not one main part"),
    ],
)
def test_a_fault_is_found(content: str, fault: str | None) -> None:
    assert faults(SOUND.format(content)) == ({fault} if fault else set())


def test_a_page_without_language_and_title() -> None:
    assert faults("<html><main><h1>H</h1></main></html>") == {"no language", "no title"}


@pytest.fixture
def post() -> Post:
    """Return a post with all that a page may show of one, and enough posts and comments for a second page."""
    post = make_post(category=make_category(description="A section"))
    make_comments(post, COMMENTS_PER_PAGE + 1)
    for _ in range(POSTS_PER_PAGE):
        make_post(author=post.author, category=post.category)
    return post


PUBLIC: dict[str, Callable[[Post], str]] = {
    "home": lambda post: "/",
    "posts": lambda post: "/posts/",
    "post": lambda post: post.get_absolute_url(),
    "category": lambda post: post.category.get_absolute_url(),
    "topic": lambda post: post.tags.all()[0].get_absolute_url(),
    "author": lambda post: post.author.get_absolute_url(),
    "search": lambda post: "/search/?q=length",
    "nothing found": lambda post: "/search/?q=submarine",
    "shop": lambda post: "/shop/",
    "hot products": lambda post: "/shop/hot/",
    "product": lambda post: make_product().get_absolute_url(),
    "login": lambda post: "/accounts/login/",
    "register": lambda post: "/accounts/register/",
    "not found": lambda post: "/nowhere/",
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", PUBLIC)
def test_pages_of_visitors(client: Client, post: Post, name: str) -> None:
    make_product()
    page = client.get(PUBLIC[name](post)).content.decode()
    assert faults(page) == set()
    # The first link of all leads to the content.
    assert re.search(r'<a class="skip" href="#content">.*<main id="content"[^>]* tabindex="-1"', page, re.DOTALL)
    assert page.index("<a ") == page.index('<a class="skip"')


@pytest.mark.django_db
def test_pages_of_users(client: Client, post: Post) -> None:
    user = make_user()
    Author.objects.filter(pk=post.author_id).update(user=user)
    client.force_login(user)
    for path in ("/", post.get_absolute_url(), "/accounts/profile/"):
        assert faults(client.get(path).content.decode()) == set(), path


@pytest.mark.django_db
def test_forms_that_come_back(client: Client, post: Post) -> None:
    form = {"username": "", "email": "none", "password1": PASSWORD, "password2": "other"}
    answers = {
        "register": client.post("/accounts/register/", form),
        "login": client.post("/accounts/login/", {"username": "nobody", "password": "wrong"}),
    }
    client.force_login(make_user())
    answers["profile"] = client.post("/accounts/profile/", {"email": ""})
    answers["comment"] = client.post(f"{post.get_absolute_url()}comments/", {"body": ""})
    for name, answer in answers.items():
        page = answer.content.decode()
        assert faults(page) == set(), name
        assert 'role="alert"' in page, name
        assert "aria-invalid" in page or name == "login", name


@pytest.mark.django_db
def test_a_form_without_a_token_is_refused_in_words() -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"username": "ada", "password": PASSWORD})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "That form is too old" in page
    assert faults(page) == set()


def test_the_page_for_what_broke() -> None:
    assert faults(render_to_string("500.html")) == set()


# Words and what they stand on, by the names of the colours. 4.5 is what WCAG asks of text, 3 of the edges of fields and
# of the ring around what has the focus.
TEXT = [
    *((words, ground) for words in ("ink", "muted", "accent", "brass") for ground in ("paper", "raised")),
    *(("accent-ink", "accent"), ("paper", "ink"), ("good", "good-wash"), ("bad", "bad-wash")),
]
EDGES = [(edge, ground) for edge in ("muted", "bad", "brass") for ground in ("paper", "raised")]


def colours() -> dict[str, dict[str, str]]:
    """Return the colours of the style sheet by scheme and name."""
    sheet = (settings.BASE_DIR / "static/site.css").read_text()
    light, dark = re.findall(r"^ *:root \{\n(.*?)\n *\}", sheet, re.DOTALL | re.MULTILINE)
    schemes = {"light": light, "dark": dark}
    return {scheme: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text)) for scheme, text in schemes.items()}


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_what_it_is_said_to_be() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_differ_enough(scheme: str) -> None:
    palette = colours()[scheme]
    assert palette.keys() == colours()["light"].keys()
    for pairs, least in ((TEXT, 4.5), (EDGES, 3)):
        faint = {pair: round(contrast(*map(palette.__getitem__, pair)), 2) for pair in pairs}
        assert not {pair: ratio for pair, ratio in faint.items() if ratio < least}
    # Every colour but that of hairlines, which say nothing, is in a pair: a new one has to be thought of.
    assert palette.keys() - {"line"} == {name for pair in TEXT for name in pair}
