#!/usr/bin/python
"""Make a release that is on the host the candidate."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.store import (
    LockedError,
    deploy_lock,
    is_complete,
    leads_to,
    point,
)

DOCUMENTATION = r"""
module: release_select
short_description: Make a release that is on the host the candidate
description:
  - Refuses one that is not there or not complete.
  - Its folder is the fact C(release_selected), in check mode too, where the link C(candidate) stays as it is.
options:
  application: {description: The application., type: str, required: true}
  name:
    description: "The release's id; empty means the one that served before, and C(current) the one that serves."
    type: str
    default: ""
author: Slipway contributors
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"application": {"type": "str", "required": True}, "name": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    folder = f"/srv/{module.params['application']}"
    releases = os.path.join(folder, "releases")
    name = module.params["name"] or "previous"
    if name in ("previous", "current"):
        link = os.path.join(folder, name)
        name = os.path.basename(os.path.realpath(link)) if os.path.islink(link) else ""
    if not name and module.params["name"] == "current":
        module.fail_json(msg="no release serves on this host yet: run site.yml first")
    if not name:
        module.fail_json(msg="there is no release before the one that serves; name one with -e release_name=...")
    release = os.path.join(releases, name)
    if not is_complete(release, static_only=True):
        there = sorted(
            entry for entry in os.listdir(releases) if is_complete(os.path.join(releases, entry), static_only=True)
        )
        module.fail_json(
            msg=f"there is no complete release {name} on this host; there are {', '.join(there) or 'none'}"
        )
    candidate = os.path.join(folder, "candidate")
    changed = not leads_to(candidate, release)
    if changed and not module.check_mode:
        try:
            with deploy_lock(folder):
                point(candidate, release)
        except LockedError as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=changed, release=name, ansible_facts={"release_selected": release})


if __name__ == "__main__":
    main()
