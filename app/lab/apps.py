"""Configuration of the lab."""

from django.apps import AppConfig


class LabConfig(AppConfig):
    """Techniques of Django performance, to be measured."""

    name = "lab"
