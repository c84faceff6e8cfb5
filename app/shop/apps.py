"""Configuration of the shop application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Products and their views."""

    name = "shop"

    def ready(self) -> None:
        """Have changes of products drop what is cached of them, whichever process makes them."""
        from shop import selectors  # noqa: F401 -- connects signals, needs the models
