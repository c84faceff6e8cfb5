#!/usr/bin/python
"""Read or write the file with a host's private key and its certificate."""

from __future__ import annotations

import os
import re
import ssl
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_certificate
short_description: Keep a certificate of the site's own authority, with its private key, in a file
description:
  - A new certificate is issued when the present one is of another authority, has other names, does not fit its key, or
    has less than a third of its time left. It is signed on the control node, where the authority's key stays.
options:
  path: {description: The file., type: path, required: true}
  group: {description: "The group that may read it, besides root.", type: str, required: true}
  names: {description: Host names and addresses of the host., type: list, elements: str, required: true}
  authority: {description: The authority as the filter new_authority makes it., type: str, required: true}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Issue the certificate of Redis
  slipway.kit.host_certificate:
    path: /etc/redis/slipway-tls.pem
    group: redis
    names: [10.0.0.5, 127.0.0.1]
    authority: "{{ vault_site_authority }}"
"""

RETURN = r"""
issued_because: {description: Why one was issued; empty where none was., returned: always, type: str}
"""


def certificate_in(path: str) -> str:
    """Return the first certificate in a file whose key fits, nothing if there is none."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        with open(path, encoding="ascii") as file:
            found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", file.read(), re.DOTALL)
    except (OSError, ValueError):
        return ""
    return found[0] if found else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "group": {"type": "str", "required": True},
            "content": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    changed = False
    if module.params["content"] is not None:
        changed = True
        if not module.check_mode:
            descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
            with os.fdopen(descriptor, "w") as file:
                file.write(module.params["content"])
            module.atomic_move(temporary, path)
    if os.path.exists(path):
        wanted = {"path": path, "owner": "root", "group": module.params["group"], "mode": "0640"}
        arguments = module.load_file_common_arguments(wanted)
        changed = module.set_fs_attributes_if_different(arguments, changed)
    module.exit_json(changed=changed, certificate=certificate_in(path))


if __name__ == "__main__":
    main()
