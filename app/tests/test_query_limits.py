"""The number of queries of the pages that count most, as promised, with 50 posts and with 5,000."""

from io import StringIO
from uuid import uuid4

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from blog.models import Post
from shop.models import Product
from tests.factories import make_user

LIMITS = {"home": 4, "post list": 5, "post": 6, "product": 3, "admin": 12}


def queries(client: Client, path: str) -> int:
    """Return the number of queries of a page of which nothing is in the cache."""
    caches["default"].key_prefix = f"test-{uuid4().hex}"
    with CaptureQueriesContext(connection) as context:
        assert client.get(path).status_code == 200
    return len(context)


@pytest.mark.django_db
def test_limits() -> None:
    visitor, admin = Client(), Client()
    admin.force_login(make_user(is_staff=True, is_superuser=True))
    counts = []
    for posts in (50, 5000):
        call_command(
            "seed_demo", f"--posts={posts}", f"--comments={2 * posts}", f"--products={posts}", stdout=StringIO()
        )
        paths = {
            "home": "/",
            "post list": "/posts/",
            "post": Post.objects.published().newest_first()[0].get_absolute_url(),
            "product": Product.objects.on_sale()[0].get_absolute_url(),
            "admin": "/admin/blog/post/",
        }
        clients = {"admin": admin}
        counts.append({name: queries(clients.get(name, visitor), path) for name, path in paths.items()})
    assert counts[0] == counts[1]
    assert all(counts[0][name] <= limit for name, limit in LIMITS.items()), counts[0]
