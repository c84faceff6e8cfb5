"""What every template is given."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str]:
    """Return the name of the site (not as site_name, which Django's login view sets to the host)."""
    return {"site_title": settings.SITE_NAME}
