"""What every template is given."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str | bool]:
    """Return the name of the site (not as site_name, which Django's login view sets to the host), and what is open.

    The canonical address of a page is its path, with those parameters that its view reads (`ops.http.shared`), on
    SITE_URL, whichever of the site's names was asked for; without SITE_URL on that name.
    """
    path = getattr(request, "canonical_path", request.path)
    origin = settings.SITE_URL or f"{request.scheme}://{request.get_host()}"
    return {
        "site_title": settings.SITE_NAME,
        "lab_is_public": settings.LAB == "PUBLIC",
        "site_origin": origin,
        "canonical_url": f"{origin}{path}",
        "view_name": request.resolver_match.view_name if request.resolver_match else "",
    }
