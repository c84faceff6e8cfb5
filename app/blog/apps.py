"""Configuration of the blog application."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    """Authors, posts, tags and comments."""

    name = "blog"

    def ready(self) -> None:
        """Have changes of authors drop what is cached of them, whichever process makes them."""
        from blog import selectors  # noqa: F401 -- connects signals, needs the models
