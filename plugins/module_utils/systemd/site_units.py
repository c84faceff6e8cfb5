"""Which of a host's units are those of a site."""

from __future__ import annotations

import fnmatch

# Besides the application's own.
SERVICES = ("nginx.service", "nginx-*", "postgresql*.service", "pgbouncer.service", "redis-server@*.service")


def is_of_site(unit: str, application: str) -> bool:
    """Tell whether a unit is one of the application's, or of what it stands on."""
    own = unit.startswith(f"{application}-") and not unit.endswith(".slice")
    return own or any(fnmatch.fnmatch(unit, pattern) for pattern in SERVICES)
