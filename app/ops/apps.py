"""Configuration of the ops application."""

from django.apps import AppConfig


class OpsConfig(AppConfig):
    """Probes, system checks and housekeeping."""

    name = "ops"

    def ready(self) -> None:
        """Register the system checks."""
        from ops import checks  # noqa: F401 -- importing is what registers them
