"""Return the version of Slipway: lookup('slipway.kit.kit_version')."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.slipway.kit.plugins.plugin_utils.version import kit_version

DOCUMENTATION = """
name: kit_version
short_description: Return the version of Slipway
description: The version of the collection, as galaxy.yml has it.
author: The Slipway developers
options: {}
"""


class LookupModule(LookupBase):
    """Read the version."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **_: Any) -> list[str]:
        """Return the version as the one item."""
        return [kit_version()]
