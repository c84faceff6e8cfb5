"""The public pages of the shop."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from blog.pagination import paginate
from shop.models import Product

HOT_ON_LIST = 3
HOT_PRODUCTS = 12
PRODUCTS_PER_PAGE = 12


@require_safe
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
def hot_products(request: HttpRequest) -> HttpResponse:
    """List the products that are looked at most."""
    products = Product.objects.on_sale().for_cards().hottest_first()[:HOT_PRODUCTS]
    return render(request, "shop/hot_products.html", {"products": products})


@require_safe
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a product, and count the view."""
    shown = get_object_or_404(Product.objects.on_sale(), slug=slug)
    Product.objects.count_view(shown.pk)
    return render(request, "shop/product.html", {"product": shown})
