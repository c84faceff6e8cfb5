"""What the pages of the shop read through the cache."""

from typing import Any

from ops.readthrough import MISSING, ReadThroughCache
from shop.models import Product

products = ReadThroughCache("product", ttl=600)
products.drop_on_change(Product, "slug")


def product_by_slug(slug: str) -> dict[str, Any] | None:
    """Return what the page of a product shows, or None where nothing is on sale under that name."""

    def load() -> Any:
        product = Product.objects.on_sale().filter(slug=slug).first()
        if product is None:
            return MISSING
        shown = ("pk", "name", "slug", "summary", "description", "price", "stock", "cover")
        return {name: getattr(product, name) for name in shown}

    product = products.get(slug, load)
    return None if product is MISSING else product
