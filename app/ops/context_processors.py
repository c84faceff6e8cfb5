"""What every template is given."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str | bool]:
    """Return the name of the site (not as site_name, which Django's login view sets to the host), and what is open."""
    return {"site_title": settings.SITE_NAME, "lab_is_public": settings.LAB == "PUBLIC"}
