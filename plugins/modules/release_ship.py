#!/usr/bin/python
"""Hand a finished release from the host that built it to the others: what the action of this name calls on hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.static_union import unite
from ansible_collections.slipway.kit.plugins.module_utils.release.store import (
    MARKER,
    LockedError,
    deploy_lock,
    is_complete,
    leads_to,
    point,
    read_marker,
    releases_in_use,
    write_marker,
)

DOCUMENTATION = r"""
module: release_ship
short_description: Copy a release from the host that built it to another host
description:
  - Three tasks, each on its hosts. C(ask) returns which parts of a release a host lacks. C(pack) packs these on the
    host that built it. C(receive) unpacks them, makes the release the candidate, and adds its static files to those of
    all releases that are kept.
  - Where nothing is missing, C(pack) and C(receive) make no connection.
options:
  step: {description: What to do., type: str, choices: [ask, pack, receive], required: true}
  app: {description: The application's name., type: str, required: true}
  id: {description: The release., type: str, required: true}
  static_only: {description: Whether the host has static files only., type: bool, default: false}
  parts: {description: The parts to receive., type: list, elements: str, default: []}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Find what the host lacks of the release
  slipway.kit.release_ship:
    step: ask
    app: shop
    id: "{{ release_id }}"
  register: asked
"""

RETURN = r"""
lacks: {description: The parts that the host lacks., returned: by ask, type: list, elements: str}
"""


class ShipError(Exception):
    """What went wrong, in words for the operator."""


class Release:
    """A release on this host."""

    def __init__(self, folder: str, name: str, marker: dict[str, Any], static_only: bool) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "releases", name)
        self.marker = marker
        self.static_only = static_only

    @property
    def venv(self) -> str:
        """The folder of its virtual environment."""
        return os.path.join(self.folder, "venvs", self.marker.get("venv", ""))

    def lacks(self) -> list[str]:
        """Return the parts that are not here."""
        if is_complete(self.path, self.static_only):
            return []
        if self.static_only:
            return ["static"]
        if self.marker.get("venv") and read_marker(self.venv) is not None:
            return ["release"]
        return ["venv", "release"]

    def pack(self, part: str, archive: str) -> None:
        """Write a part into an archive, for the owner of the folder that it lies in."""
        options = ["--dereference"] if part == "static" else []
        source, name = {
            "static": (self.path, "static"),
            "release": (os.path.dirname(self.path), os.path.basename(self.path)),
            "venv": (os.path.dirname(self.venv), os.path.basename(self.venv)),
        }[part]
        owner = os.stat(os.path.dirname(archive))
        descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
            words = ["tar", "--create", "--use-compress-program=gzip -1", f"--exclude={name}/{MARKER}", *options]
            tar([*words, "--directory", source, name], stdout=file)

    def receive(self, part: str, archive: str) -> None:
        """Unpack a part in place of what an unfinished transfer left."""
        target = {"static": self.path, "release": self.path, "venv": self.venv}[part]
        in_use = os.path.isdir(target) and os.path.realpath(target) in releases_in_use(self.folder, candidate=False)
        if part != "venv" and in_use:
            raise ShipError(
                f"{target} is in use and is not complete any more: its marker or its virtual environment was removed. "
                "Deploy with django_app_force for a release beside it"
            )
        if os.path.isdir(target):
            shutil.rmtree(target)
        into, name = (target, "static") if part == "static" else os.path.split(target)
        os.makedirs(into, mode=0o755, exist_ok=True)
        tar(["tar", "--extract", "--gzip", "--preserve-permissions", "--file", archive, "--directory", into, name])
        if part == "venv":
            write_marker(target, {"python": self.marker.get("python", "")})
        else:
            write_marker(target, self.marker | ({"static_only": True} if self.static_only else {}))


def tar(words: list[str], **options: Any) -> None:
    """Run tar, or say what it says."""
    done = subprocess.run(words, stderr=subprocess.PIPE, check=False, **options)
    if done.returncode:
        raise ShipError(f"{' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["ask", "pack", "receive"], "required": True},
            "folder": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "marker": {"type": "dict", "default": {}},
            "static_only": {"type": "bool", "default": False},
            "parts": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    parameters = module.params
    release = Release(parameters["folder"], parameters["id"], parameters["marker"], parameters["static_only"])
    link = os.path.join(release.folder, "candidate")
    try:
        if parameters["step"] == "pack":
            with deploy_lock(release.folder):
                for part, archive in parameters["parts"].items():
                    release.pack(part, archive)
            module.exit_json(changed=False)
        lacks = release.lacks()
        current = not lacks and leads_to(link, release.path)
        if current or module.check_mode:
            static = unite(release.folder, release.path, dry=module.check_mode) if current else []
            module.exit_json(changed=not current or bool(static), lacks=lacks)
        if lacks and parameters["step"] == "ask":
            module.exit_json(changed=False, lacks=lacks)
        with deploy_lock(release.folder):
            for part in release.lacks():
                release.receive(part, parameters["parts"][part])
            unite(release.folder, release.path)
            point(link, release.path)
    except (ShipError, LockedError, OSError) as error:
        module.fail_json(
            msg=f"The release {parameters['id']} was not handed over; the active release is unchanged. {error}"
        )
    module.exit_json(changed=True, lacks=[])


if __name__ == "__main__":
    main()
