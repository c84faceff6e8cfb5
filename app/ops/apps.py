"""Configuration of the ops application."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class OpsConfig(AppConfig):
    """Probes, system checks and housekeeping."""

    name = "ops"

    def ready(self) -> None:
        """Register the system checks."""
        from ops import checks  # noqa: F401 -- importing is what registers them


class OpsAdminConfig(AdminConfig):
    """Django's admin, with the site of this project."""

    default_site = "ops.admin.Site"
