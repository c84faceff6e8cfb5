"""The project: settings, URLs, and the WSGI, ASGI and Celery entry points."""

from config.celery import app as celery_app

# Importing the Celery application with the project makes @shared_task bind to it in every process.
__all__ = ["celery_app"]
