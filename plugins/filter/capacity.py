"""The arithmetic of the capacity plan: workers, memory and connections, each worked out in one place.

Roles and the wiring take their numbers from the filters here; plan_capacity.yml and preflight add the same numbers
up over all hosts. docs/capacity.md says why each is reckoned as it is. Memory is in MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import (
    background_connections,
    celery_processes,
    gunicorn_sizing,
    web_connections,
)


def filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that takes its arguments as a dictionary, and says which of them are wrong."""

    def call(arguments: Mapping[str, Any]) -> Any:
        try:
            return function(**arguments)
        except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise AnsibleFilterError(f"{function.__name__} cannot reckon with {dict(arguments)}: {error}") from error

    return call


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = (gunicorn_sizing, celery_processes, background_connections, web_connections)
        return {function.__name__: filtered(function) for function in functions}
