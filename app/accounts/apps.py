"""Configuration of the accounts application."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, their registration, and the emails to them."""

    name = "accounts"
