"""Settings of the tests: the project's own, of whose environment only the services are taken."""

import os
import tempfile

os.environ.update(
    SECRET_KEY="the-tests-need-a-key-and-it-protects-nothing-0123456789",  # noqa: S106 -- as it says
    DEBUG="false",
    ALLOWED_HOSTS="testserver",
    SITE_URL="https://slipway.example",
    HTTPS="false",
    LAB="PUBLIC",
    LOG_LEVEL="INFO",
    STATIC_URL="/static/",
    MEDIA_ROOT=tempfile.mkdtemp(prefix="slipway-test-media-"),
    STATIC_ROOT=tempfile.mkdtemp(prefix="slipway-test-static-"),
    DEFAULT_FROM_EMAIL="Slipway <hello@slipway.example>",
)

from config.settings import *  # noqa: F403 -- after the environment is set, and all of them

# A busy machine is no fault of the database.
DATABASES["default"]["OPTIONS"]["connect_timeout"] = 60  # noqa: F405 -- of the settings
# Fast instead of safe.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# A queue of this run's own, so that no worker which serves the same broker takes its tasks.
CELERY_TASK_DEFAULT_QUEUE = f"test-{os.getpid()}"
