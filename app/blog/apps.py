"""Configuration of the blog application."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    """Authors, posts, tags and comments."""

    name = "blog"

    def ready(self) -> None:
        """Have changes of authors drop what is cached of them, and those of pictures seen to, whoever makes them."""
        from blog import selectors, signals  # noqa: F401 -- they connect signals, and need the models
