"""Configuration of the shop application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Products and their views."""

    name = "shop"
