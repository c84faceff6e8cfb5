"""The admin's page of the shop."""

from django.contrib import admin

from ops.admin import LeanAdmin
from shop.models import Product


@admin.register(Product)
class ProductAdmin(LeanAdmin):
    """Products. Views are counted by the site, not typed in."""

    list_display = ["name", "price", "stock", "is_active", "views", "created_at"]
    list_filter = ["is_active"]
    search_fields = ["name"]
    ordering = ["-created_at", "-id"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["views", "created_at", "updated_at"]
    list_only = list_display
