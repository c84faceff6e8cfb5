"""Configuration of the blog application."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    """Authors, posts, tags and comments."""

    name = "blog"
