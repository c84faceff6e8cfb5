"""The shop: what it shows, whom, and by how many queries."""

from uuid import uuid4

import pytest
from django.core.cache import caches
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from shop import counters
from shop.models import Product
from shop.views import PRODUCTS_PER_PAGE
from tests.factories import make_product, make_user
from tests.test_pages import page_texts

pytestmark = pytest.mark.django_db


def test_the_shop_is_usable_without_data(client: Client) -> None:
    for path in ("/shop/", "/shop/hot/"):
        assert "Nothing is on sale yet." in client.get(path).content.decode()


def test_products_newest_first_and_in_pages(client: Client) -> None:
    products = [make_product() for _ in range(PRODUCTS_PER_PAGE + 1)]
    page = client.get("/shop/").context["page"]
    assert page.rows == products[:-1]
    older = client.get("/shop/", {"before": page.next_cursor})
    assert older.context["page"].rows == products[-1:]
    assert list(older.context["hot"]) == []


def test_hot_products_come_first(client: Client) -> None:
    products = [make_product(views=views) for views in (3, 50, 7, 9)]
    hot = client.get("/shop/").context["hot"]
    assert [product.views for product in hot] == [50, 9, 7]
    page = client.get("/shop/hot/").content.decode()
    places = [page.index(f">{product.name}<") for product in products]
    assert sorted(range(4), key=places.__getitem__) == [1, 3, 2, 0]


def test_what_is_not_on_sale_is_nowhere(client: Client) -> None:
    product = make_product(is_active=False, views=9)
    counters.flush()
    assert client.get(product.get_absolute_url()).status_code == 404
    for path in ("/shop/", "/shop/hot/"):
        assert product.name not in client.get(path).content.decode()
    assert counters.flush() == 0
    product.refresh_from_db()
    assert product.views == 9


def test_a_product_has_a_price() -> None:
    with pytest.raises(IntegrityError):
        make_product(price=0)


@pytest.mark.parametrize(("path", "visitor"), [("/shop/", 2), ("/shop/hot/", 1), ("product", 1)])
def test_queries_do_not_grow_with_the_data(client: Client, path: str, visitor: int) -> None:
    product = make_product()
    path = product.get_absolute_url() if path == "product" else path

    def queries() -> int:
        caches["default"].key_prefix = f"test-{uuid4().hex}"
        with CaptureQueriesContext(connection) as context:
            assert client.get(path).status_code == 200
        return len(context)

    few = queries()
    Product.objects.bulk_create(
        Product(name=f"Rope {number}", slug=f"rope-{number}", price=1, views=number) for number in range(500)
    )
    assert (few, queries()) == (visitor, visitor)


def test_visitors_get_no_cookie(client: Client) -> None:
    for path in ("/shop/", "/shop/hot/", make_product().get_absolute_url()):
        assert not client.get(path).cookies


def test_hot_products_are_one_page_for_all_for_a_quarter_of_an_hour(client: Client) -> None:
    make_product(name="Marlinspike")
    first = client.get("/shop/hot/")
    assert first["Cache-Control"].startswith("public, max-age=60, s-maxage=300")
    assert "Vary" not in first
    make_product(name="Boathook")
    reader = Client()
    reader.force_login(make_user(username="skipper"))
    for visitor in (client, reader):
        with CaptureQueriesContext(connection) as context:
            response = visitor.get("/shop/hot/")
        assert len(context) == 0
        assert response.content == first.content
        assert not response.cookies
    assert b"skipper" not in first.content
    assert "skipper" in page_texts(reader, "/shop/")


def test_a_message_is_kept_for_a_page_that_shows_it(client: Client) -> None:
    user = make_user()
    client.force_login(user)
    client.post("/accounts/profile/", {"email": user.email})
    assert "Your profile is saved." not in page_texts(client, "/shop/hot/")
    assert "Your profile is saved." in page_texts(client, "/shop/")


def test_lists_leave_the_long_texts_in_the_database(client: Client) -> None:
    make_product()
    client.force_login(make_user())
    with CaptureQueriesContext(connection) as context:
        client.get("/shop/")
    assert not any("description" in query["sql"] for query in context)
