"""What caches may do with a page: one policy for all, said once.

Whatever a view does not say, a response is private and not stored: a page that somebody forgets is slow, not leaked. A
view that is the same for all visitors who are not logged in says so by `shared`, and then

- a visitor without a session gets `public`, with one time for browsers and one for caches between (a CDN). There is no
  session that could be read, so the page is the same for all such visitors;
- a visitor with a session, or with a message that waits, gets the same page as `private`: it greets them;
- an answer that sets a cookie is never `public`, whatever was said;
- `Vary: Cookie` is on every page that may be a personal one. A cache that honours it keeps visitors with cookies apart;
  one that does not has to be told to pass by requests with the session's cookie, or they get the page of strangers;
- parameters that the view does not name are removed from the request: they reach no cache key and no link of the page.
"""

import hashlib
from collections.abc import Callable
from functools import cache, wraps
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

View = Callable[..., HttpResponse]

# Seconds for which a page may be shown while a new one is fetched, and while the site cannot be reached.
STALE_WHILE_REVALIDATE = 60
STALE_IF_ERROR = 24 * 60 * 60
# What does not exist may do so soon; until then, those who ask for it cost nothing.
NOT_FOUND_SECONDS = 10


def keep_parameters(request: HttpRequest, names: tuple[str, ...]) -> None:
    """Remove all parameters of the URL but these, and all values of these but the last."""
    kept = QueryDict(mutable=True)
    for name in names:
        if name in request.GET:
            kept[name] = request.GET[name]
    request.GET = kept
    # Django's cache_page takes the URL from here.
    request.META["QUERY_STRING"] = kept.urlencode()


def shared(
    *, browser: int, cdn: int, same_for_all: bool = False, parameters: tuple[str, ...] = ()
) -> Callable[[View], View]:
    """Let caches keep the pages of a view, for so many seconds.

    Args:
        browser: How long a visitor's browser shows a page without asking again.
        cdn: How long a cache that serves many visitors does so.
        same_for_all: Whether the page is the same even for those who are logged in; it then must not ask who is there.
        parameters: The parameters of the URL that the view reads. The canonical address of the page has these alone.
    """
    policy = (
        f"public, max-age={browser}, s-maxage={cdn}, "
        f"stale-while-revalidate={STALE_WHILE_REVALIDATE}, stale-if-error={STALE_IF_ERROR}"
    )

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            keep_parameters(request, parameters)
            request.canonical_path = request.get_full_path()
            response = view(request, *args, **kwargs)
            if response.status_code in (200, 304):
                response.shared_policy = policy
                response.shared_with_all = same_for_all
                if not same_for_all:
                    # Also where nobody looked for a session, as a 304: it belongs to the same page.
                    patch_vary_headers(response, ["Cookie"])
            return response

        return wrapper

    return decorate


def is_personal(request: HttpRequest) -> bool:
    """Tell whether a visitor has a session, or a message that waits: what they see may be for them alone."""
    return not {settings.SESSION_COOKIE_NAME, CookieStorage.cookie_name}.isdisjoint(request.COOKIES)


class CachePolicyMiddleware:
    """Says on each response what caches may do with it. Stands above the sessions, so that it sees every cookie."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the site."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Add the policy, unless the view wrote a strict one itself."""
        response = self.get_response(request)
        if "no-store" not in response.get("Cache-Control", ""):
            response["Cache-Control"] = self._policy(request, response)
        return response

    @staticmethod
    def _policy(request: HttpRequest, response: HttpResponseBase) -> str:
        # With DEBUG somebody works on the page and wants to see it as it is now.
        if request.method in ("GET", "HEAD") and not settings.DEBUG:
            policy = getattr(response, "shared_policy", None)
            if policy and is_personal(request) and not response.shared_with_all:
                return "private, no-cache"
            if policy and not response.cookies:
                return policy
            if response.status_code == 404 and not is_personal(request) and not response.cookies:
                return f"public, max-age={NOT_FOUND_SECONDS}"
        return "private, no-store"


@cache
def content_security_policy(*, scripts: bool = False) -> str:
    """Return what pages may load: nothing, but for each kind that they have, the files of this site.

    Args:
        scripts: Whether the page has scripts, and these ask the site for data. Only the admin's pages do.
    """
    folders = [urlsplit(url) for url in (settings.STATIC_URL, settings.MEDIA_URL)]
    elsewhere = sorted({f"{url.scheme}://{url.netloc}" for url in folders if url.netloc})
    files = " ".join(["'self'", *elsewhere])
    return "; ".join(
        [
            "default-src 'none'",
            f"img-src {files}",
            f"style-src {files}",
            *([f"script-src {files}", "connect-src 'self'"] if scripts else []),
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


# What browsers may do with a page of this site; a page that is made to be embedded says so itself.
PAGE_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class ContentSecurityPolicyMiddleware:
    """Says on each response what its page may load, unless the view said it; tools of others are left as they are."""

    EXEMPT = ("/silk/",)
    WITH_SCRIPTS = ("/admin/",)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        """Take the rest of the site."""
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Add the policy."""
        response = self.get_response(request)
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
        # With DEBUG, Django's own page for errors has its styles and scripts in it.
        if not settings.DEBUG and not request.path.startswith(self.EXEMPT):
            scripts = request.path.startswith(self.WITH_SCRIPTS)
            response.headers.setdefault("Content-Security-Policy", content_security_policy(scripts=scripts))
        return response


@cache
def _release() -> bytes:
    """Return a digest of what pages are made of beside data: the code, the templates, the addresses of files."""
    # Each release has a folder of its own, which stands for its code.
    digest = hashlib.sha256(str(settings.BASE_DIR.resolve()).encode())
    for path in sorted((settings.BASE_DIR / "templates").rglob("*.*")):
        digest.update(path.read_bytes())
    names = sorted(getattr(staticfiles_storage, "hashed_files", {}).items())
    digest.update(repr((settings.STATIC_URL, settings.MEDIA_URL, names)).encode())
    return digest.digest()


def etag(*shown: Any) -> str:
    """Return a validator for a page that shows these values, whose `repr` must say all of them.

    It is weak, since Nginx compresses the page: the same content, not the same bytes.
    """
    return f'W/"{hashlib.sha256(_release() + repr(shown).encode()).hexdigest()[:32]}"'
