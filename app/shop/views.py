"""The public pages of the shop."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_page
from django.views.decorators.http import require_safe

from blog.pagination import paginate
from ops.http import shared
from shop.counters import count_view
from shop.models import Product
from shop.selectors import product_by_slug

HOT_ON_LIST = 3
HOT_PRODUCTS = 12
PRODUCTS_PER_PAGE = 12
HOT_SECONDS = 15 * 60


@require_safe
@shared(browser=60, cdn=300, parameters=("before",))
def product_list(request: HttpRequest) -> HttpResponse:
    """List all products, newest first, below the hottest few."""
    products = Product.objects.on_sale().for_cards()
    cursor = request.GET.get("before")
    context = {
        "page": paginate(products, field="created_at", cursor=cursor, size=PRODUCTS_PER_PAGE),
        "hot": products.hottest_first()[:HOT_ON_LIST] if cursor is None else [],
    }
    return render(request, "shop/product_list.html", context)


@require_safe
@shared(browser=60, cdn=300, same_for_all=True)
@cache_page(HOT_SECONDS)
def hot_products(request: HttpRequest) -> HttpResponse:
    """List the products that are looked at most.

    The whole response is cached, one for everybody: its template leaves out the name of the user and the
    messages to them, so nothing reads the session and the response does not vary by cookie.
    """
    products = Product.objects.on_sale().for_cards().hottest_first()[:HOT_PRODUCTS]
    return render(request, "shop/hot_products.html", {"products": products})


@require_safe
@shared(browser=60, cdn=300)
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a product, and count the view."""
    shown = product_by_slug(slug)
    if shown is None:
        raise Http404("No such product.")
    # Neither a HEAD request nor a browser that fetches ahead of a click is somebody who looks at the page.
    if request.method == "GET" and "prefetch" not in request.headers.get("Sec-Purpose", ""):
        count_view(product_id=shown["pk"])
    return render(request, "shop/product.html", {"product": shown})
