"""Configuration of the accounts application."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, their registration, and the email that welcomes them."""

    name = "accounts"
