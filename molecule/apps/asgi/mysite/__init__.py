"""A small ASGI project: what the tests of applications that are not ours deploy."""

from mysite.celery import app as celery_app

__all__ = ["celery_app"]
