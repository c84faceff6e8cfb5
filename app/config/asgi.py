"""The ASGI entry point. The site's views are synchronous, so WSGI is the way to serve it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_asgi_application()
