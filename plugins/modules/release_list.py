#!/usr/bin/python
"""Tell which releases are on the host."""

from __future__ import annotations

import glob
import json
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.slots import all_services
from ansible_collections.slipway.kit.plugins.module_utils.release.store import read_marker

DOCUMENTATION = r"""
module: release_list
short_description: Tell which releases are on the host
description: Their markers, what the log says of them, and which services serve which. Changes nothing.
options:
  application: {description: The application., type: str, required: true}
author: Slipway contributors
"""


def read_log(path: str) -> list[dict]:
    """Return the entries of the release log; a line that was cut is left out."""
    entries = []
    try:
        with open(path) as file:
            for line in file:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    continue
    except FileNotFoundError:
        pass
    return entries


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"application": {"type": "str", "required": True}}, supports_check_mode=True)
    folder = f"/srv/{module.params['application']}"
    current = os.path.realpath(os.path.join(folder, "current"))
    log = read_log(os.path.join(folder, "deploy.log"))
    serves: dict[str, list[str]] = {}
    for service in all_services(module.params["application"], module):
        if service.live and service.is_up(service.live):
            serves.setdefault(os.path.basename(service.release(service.live)), []).append(service.name)
    releases = {}
    for path in glob.glob(f"{folder}/releases/*"):
        name, marker = os.path.basename(path), read_marker(path)
        if os.path.exists(os.path.join(path, ".failed")):
            state = "failed"
        elif marker is None:
            state = "unfinished"
        else:
            state = "current" if path == current else "kept"
        deployed = [entry for entry in log if entry["release"] == name and entry["what"] != "failed"]
        last = (deployed or [entry for entry in log if entry["release"] == name] or [{}])[-1]
        releases[name] = {
            "state": state,
            "source": (marker or {}).get("source", ""),
            "at": last.get("at", ""),
            "by": last.get("by", ""),
            "serves": serves.get(name, []),
        }
    module.exit_json(changed=False, releases=releases, log=log[-50:])


if __name__ == "__main__":
    main()
