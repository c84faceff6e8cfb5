"""The part of the first page that shows users their own comments: where it is cached, and when it is dropped.

Its key has the user in it, and a generation that all users share. What concerns one user drops their fragment; what
concerns the posts that anybody may have commented on begins another generation, and the fragments before are not asked
for any more.
"""

from uuid import uuid4

from django.core.cache import cache
from django.core.cache.utils import make_template_fragment_key

# As in the template of the first page, where the time is written too.
FRAGMENT = "own-comments"
GENERATION_KEY = "blog:own-comments-generation"
GENERATION_SECONDS = 24 * 60 * 60


def _new() -> str:
    return uuid4().hex


def generation() -> str:
    """Return the generation of the fragments that may be shown."""
    return cache.get_or_set(GENERATION_KEY, _new, GENERATION_SECONDS)


def forget(user_id: int) -> None:
    """Drop the fragment of a user."""
    cache.delete(make_template_fragment_key(FRAGMENT, [user_id, generation()]))


def forget_all() -> None:
    """Drop the fragments of all users."""
    cache.set(GENERATION_KEY, _new(), GENERATION_SECONDS)
