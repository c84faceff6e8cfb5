"""What every template is given."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str | bool]:
    """Return the name of the site (not as site_name, which Django's login view sets to the host), and what is open.

    The canonical address of a page is its path, with those parameters that its view reads (`ops.http.shared`).
    """
    path = getattr(request, "canonical_path", request.path)
    return {
        "site_title": settings.SITE_NAME,
        "lab_is_public": settings.LAB == "PUBLIC",
        "canonical_url": f"{request.scheme}://{request.get_host()}{path}",
        "view_name": request.resolver_match.view_name if request.resolver_match else "",
    }
