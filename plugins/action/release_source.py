"""Get the application's source on the control node: one archive and its digest, the same for all hosts of a run.

    slipway.kit.release_source:
      refuse: true     # false: tell what is wrong as `error` and `variable`, for preflight
    register: source

It reads the role's variables (django_app_source_type, _source, _version, _archive_checksum, ...) itself: preflight
calls it before they are known to be sound, and the deploy key must be in no task's arguments. Returns

- `digest`: SHA-256 over the sorted paths, the executable bits, the targets of links and the contents. The same content
  has the same digest from any kind of source, in any folder, under any umask and at any time;
- `archive`: a .tar.gz of the tree, removed when Ansible ends;
- `description`: where it came from, in words for the log; `commit`, `files`, `size`;
- `missing`: what the other variables name in the source and is not in it;
- `unlocked`: the requirements that come without a hash;
- `faults`: what cannot be installed, each with `variable` and `why`; where this is judged by a version of Python, by
  that of the host that builds;
- `installation`: what the requirement files say, for release_build (see Requirements);
- `environment`: a digest of django_app_build_environment, empty where that is;
- `scm`: the version of the project by git, where a tool of its build asks git and the source is installed;
- `run`: a name for this run, which no other has.

The first host that asks does the work; the others of the run get what it found, even if the source changes meanwhile.

folder   In a work tree of git: all tracked files, and untracked ones that git does not ignore and that do not belong to
         a checkout or a machine (LEFT_OUT). Elsewhere, all files but LEFT_OUT. A submodule is packed as it is. What
         django_app_include_ignored names is added.
git      The one branch, tag or commit is fetched, without history, into a cache of the control node; the tree is what a
         checkout has. The attributes export-ignore and export-subst have no effect, as in a folder.
archive  A tar or zip file, here or on a web server, held to its checksum. A single folder at its top is not part of the
         tree.
package  The tree is empty: the application is among the Python packages.

Pointers of Git LFS in place of files are refused: the same commit would have two trees.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.source import requirements as reader
from ansible_collections.slipway.kit.plugins.plugin_utils.source.get import get_source_once
from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError, Wanted


class ActionModule(ActionBase):
    """Get the source that the role's variables name."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the digest and the archive of the tree; check mode is no different."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={"refuse": {"type": "bool", "default": True}})
        run = os.path.basename(C.DEFAULT_LOCAL_TMP)
        nothing = {
            "changed": False,
            "error": "",
            "variable": "",
            "missing": [],
            "unlocked": [],
            "faults": [],
            "installation": {"files": {}, "locked": [], "local": False, "no_project": [], "git": False},
            "scm": {},
            "environment": self._digest_environment(task_vars or {}),
            "description": "",
            "run": run,
        }
        try:
            wanted, key = self._read(task_vars or {})
        except (AnsibleError, TypeError, KeyError, ValueError) as error:
            if arguments["refuse"]:
                raise AnsibleActionFail(f"the variables of the source are not in order: {error}") from error
            return result | nothing  # preflight says of the variables themselves what is wrong
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "slipway/sources")
        try:
            found = get_source_once(wanted, key, cache)
        except SourceError as error:
            if arguments["refuse"]:
                raise AnsibleActionFail(f"{error.variable} {error}") from error
            return result | nothing | {"error": str(error), "variable": error.variable}
        if found.missing and arguments["refuse"]:
            raise AnsibleActionFail(f"not in the source {found.description}: {', '.join(found.missing)}")
        faults = found.faults + self._refuse_python(found.pythons, task_vars or {})
        if faults and arguments["refuse"]:
            raise AnsibleActionFail("; ".join(f"{fault['variable']} {fault['why']}" for fault in faults))
        # An installation command may fetch from git too, and a key is given for nothing else.
        installation = found.installation | {"git": found.installation["git"] or self._has_key(task_vars or {})}
        return result | nothing | asdict(found) | {"faults": faults, "installation": installation}

    def _digest_environment(self, variables: Mapping[str, Any]) -> str:
        """Return a digest of the environment of the build, in which there may be secrets."""
        try:
            environment = self._templar.template(variables.get("django_app_build_environment", {}))
            content = json.dumps(environment, sort_keys=True) if environment else ""
        except (AnsibleError, TypeError, ValueError):
            return ""  # preflight says what is wrong with it
        return hashlib.sha256(content.encode()).hexdigest() if content else ""

    def _has_key(self, variables: Mapping[str, Any]) -> bool:
        try:
            return bool(self._templar.template(variables.get("django_app_build_git_key", "")))
        except AnsibleError:
            return False

    def _refuse_python(self, pythons: dict[str, str], variables: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return a fault if the source does not admit the Python that it is installed for; unknown, it is no fault."""
        facts = variables.get("ansible_facts", {})
        program = str(self._templar.template(variables.get("django_app_python", "")))
        if program:
            version = facts.get("preflight_python", {}).get(program, "")
        else:
            stated = self._templar.template(variables.get("django_app_python_version", ""))
            version = stated or facts.get("python_version", "")
        refused = reader.refused_pythons(pythons, version) if version else []
        if not refused:
            return []
        why = f"{'; '.join(refused)}, and {program or 'the Python of the host that builds'} is {version}"
        return [{"variable": "django_app_python", "why": why}]

    def _read(self, variables: Mapping[str, Any]) -> tuple[Wanted, str]:
        """Return what the variables ask for, and the deploy key."""

        def read(name: str, kind: type, default: Any) -> Any:
            value = self._templar.template(variables.get(f"django_app_{name}", default))
            if not isinstance(value, kind):
                raise TypeError(f"django_app_{name} is not what it should be")
            return value

        kind, source = read("source_type", str, "folder"), read("source", str, "")
        if kind not in ("folder", "git", "archive", "package") or bool(source) == (kind == "package"):
            raise ValueError("django_app_source does not fit django_app_source_type")
        if kind == "folder" or (kind == "archive" and not re.match(r"https?://", source)):
            source = self._loader.path_dwim(source)
        files = {
            os.fspath(file["path"]): str(file["content"])
            for file in read("files", list, [])
            if not file["path"].startswith("/")
        }
        requirements = [str(name) for name in read("requirements", list, [])]
        if kind == "package":
            requirements = [name for name in requirements if name in files]
        return Wanted(
            type=kind,
            source=str(source),
            version=str(read("version", str, "")) if kind == "git" else "",
            archive_checksum=str(read("archive_checksum", str, "")) if kind == "archive" else "",
            include_ignored=[str(name) for name in read("include_ignored", list, [])] if kind == "folder" else [],
            directory=str(read("directory", str, "")),
            extras=[str(name) for name in read("extras", list, [])],
            groups=[str(name) for name in read("dependency_groups", list, [])],
            install_project=read("install_project", bool, False),
            install_command=bool(read("install_command", list, [])),
            requirements=requirements if not read("install_command", list, []) else [],
            manage=[str(word) for word in read("manage", list, [])],
            files=files,
            packages=[str(name) for name in read("python_packages", list, [])],
        ), str(read("git_key", str, ""))
