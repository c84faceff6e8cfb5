#!/usr/bin/python
"""Document the action release_source, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_source
short_description: Get the source of the application on the control node
description:
  - Makes one archive of the source and its digest, the same for all hosts of a run. The same content has the same
    digest from any kind of source, in any directory, under any umask and at any time. Check mode is no different.
  - The first host that asks does the work; the others of the run get what it found.
  - Reads the role variables C(django_app_source_type), C(django_app_source), C(django_app_version),
    C(django_app_archive_checksum), C(django_app_git_key), C(django_app_include_ignored), C(django_app_directory),
    C(django_app_extras), C(django_app_dependency_groups), C(django_app_install_project),
    C(django_app_install_command), C(django_app_requirements), C(django_app_manage), C(django_app_files),
    C(django_app_python_packages), C(django_app_python), C(django_app_python_version), C(django_app_build_environment)
    and C(django_app_build_git_key). No call names them, since preflight calls it before they are known to be sound,
    and keys and files with secrets must be in no task's arguments.
options:
  refuse:
    description: Whether to fail on an error; false returns it as C(error) and C(variable), for preflight.
    type: bool
    default: true
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Get the source
  slipway.kit.release_source:
  register: source
"""

RETURN = r"""
archive: {description: The path of a .tar.gz of the tree; removed when Ansible ends., returned: success, type: str}
digest: {description: "SHA-256 over paths, executable bits, links and contents.", returned: success, type: str}
description: {description: Where the source came from., returned: always, type: str}
commit: {description: The commit; empty where there is none., returned: success, type: str}
missing: {description: Files that variables name and the source lacks., returned: always, type: list, elements: str}
unlocked: {description: Requirements without a hash., returned: always, type: list, elements: str}
faults:
  description: What cannot be installed, each with C(variable) and C(why).
  returned: always
  type: list
  elements: dict
error: {description: What is wrong with the source; empty where nothing is., returned: always, type: str}
variable: {description: The variable that the error is about., returned: always, type: str}
"""
