"""Filters for the certificate authority by which the hosts of a site know each other."""

from __future__ import annotations

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.kit.plugins.plugin_utils.authority import Authority


def authority_certificate(text: str) -> str:
    """Return the authority's certificate in PEM, which is no secret."""
    try:
        return Authority(text).pem
    except ValueError as error:
        raise AnsibleFilterError(f"the authority {error}") from None


def authority_faults(text: str) -> str:
    """Return what is wrong with the authority, nothing when it is in order."""
    try:
        Authority(text)
    except ValueError as error:
        return str(error)
    return ""


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "authority_certificate": authority_certificate,
            "authority_faults": authority_faults,
        }
