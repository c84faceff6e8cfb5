"""The admin's page of the shop."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from shop.models import Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products. Views are counted by the site, not typed in."""

    list_display = ["name", "price", "stock", "is_active", "views", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["name"]
    ordering = ["-created_at", "-id"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["views", "created_at", "updated_at"]
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        """Leave the long text behind in the list."""
        products = super().get_queryset(request)
        if request.resolver_match and request.resolver_match.url_name == "shop_product_changelist":
            products = products.defer("description", "summary")
        return products
