"""The URLs of the site."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from ops import health

admin.site.site_header = admin.site.site_title = f"{settings.SITE_NAME} administration"

urlpatterns = [
    path("", include("blog.urls")),
    path("accounts/", include("accounts.urls")),
    path("shop/", include("shop.urls")),
    path("lab/", include("lab.urls")),
    path("admin/", admin.site.urls),
    # Without a slash at the end, as probes ask for them.
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]

if "debug_toolbar" in settings.INSTALLED_APPS:
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += debug_toolbar_urls()
if settings.SILK_PERCENT:
    urlpatterns.append(path("silk/", include("silk.urls", namespace="silk")))
