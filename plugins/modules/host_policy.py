#!/usr/bin/python
"""Change settings in files of packages, enable profiles of PAM: the part of the action of this name on the host."""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_policy
short_description: Change settings in files that belong to packages, and enable profiles of PAM
description:
  - Changes settings in files that belong to packages and have no directory of drop-ins, as C(/etc/login.defs). All
    other lines stay. The lines that were there before are kept in I(record) and restored when a setting or a file is
    no longer wanted, so that the file is the package's again.
  - Enables profiles of C(pam-auth-update), and removes those of the same prefix that are no longer wanted.
  - Before PAM's files are left as they are now, PAM is asked through the services that open a host. When one answers
    otherwise than before, everything is restored and the module fails.
options:
  files:
    description: >-
      Files, each with settings or with a content that replaces all of it. A setting whose value is empty is a word
      alone.
    type: list
    elements: dict
    default: []
    options:
      path: {description: The path., type: path, required: true}
      separator: {description: What stands between name and value., type: str, default: " "}
      settings: {description: "The settings, name to value.", type: dict}
      content: {description: The whole content., type: str}
  profiles: {description: Profiles of PAM, name to text., type: dict, default: {}}
  prefix: {description: With what the names of our profiles begin., type: str, default: slipway-}
  users: {description: Users whose logins must stay possible., type: list, elements: str, default: []}
  wanted: {description: A hash of all that is wanted., type: str, required: true}
  record: {description: Where the lines of before are kept., type: path, required: true}
author: Slipway contributors
"""

PROFILES = "/usr/share/pam-configs"
PAM_FILES = [f"/etc/pam.d/common-{kind}" for kind in ("account", "auth", "password", "session")]
PAM_STATE = "/var/lib/pam"
# Services by which a host is opened; those that a host does not have are not asked.
SERVICES = ("sshd", "sudo", "su")
# What PAM returns when a module or a file is broken: open, symbol, service, system and buffer error, abort, no module.
BROKEN = {1, 2, 3, 4, 5, 26, 28}


def lines_of(text: str, name: str, separator: str) -> list[int]:
    """Return the numbers of the lines of a text that set `name`."""
    end = r"(?:\s|$)" if separator == " " else r"\s*(?:=|$)"
    return [number for number, line in enumerate(text.splitlines()) if re.match(rf"\s*{re.escape(name)}{end}", line)]


def replace(text: str, name: str, separator: str, wanted: list[str]) -> str:
    """Return a text whose lines that set `name` are the wanted ones, in the place of the first."""
    lines, found = text.splitlines(), lines_of(text, name, separator)
    place = found[0] if found else len(lines)
    kept = [line for number, line in enumerate(lines) if number not in found]
    kept[place:place] = wanted
    return "".join(f"{line}\n" for line in kept)


def set_line(name: str, separator: str, value: Any) -> str:
    """Return the line that sets a value."""
    return f"{name}{separator}{value}" if str(value) else name


def change(text: str, entry: dict[str, Any], before: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the text with what is wanted of a file, and the record of what was there before any of it."""
    if entry.get("content") is not None:
        return entry["content"].rstrip("\n") + "\n", {"content": before.get("content", text)}
    separator, settings = entry["separator"], entry["settings"] or {}
    lines = dict(before.get("lines", {}))
    for name in [name for name in lines if name not in settings]:
        text = replace(text, name, separator, lines.pop(name))
    for name, value in settings.items():
        if name not in lines:
            lines[name] = [text.splitlines()[number] for number in lines_of(text, name, separator)]
        text = replace(text, name, separator, [set_line(name, separator, value)])
    return text, {"separator": separator, "lines": lines}


def restore_text(text: str, before: dict[str, Any]) -> str:
    """Return the text as it would be if nothing of it had ever been wanted."""
    if "content" in before:
        return str(before["content"])
    for name, lines in before["lines"].items():
        text = replace(text, name, before["separator"], lines)
    return text


def read(path: str) -> str | None:
    """Return the text of a file, None where there is none."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def write(module: AnsibleModule, path: str, text: str | None) -> None:
    """Put a text in place of a file whole, with the mode that the file has; None removes it."""
    if text is None:
        pathlib.Path(path).unlink(missing_ok=True)
        return
    temporary = pathlib.Path(f"{path}.slipway-new")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    temporary.chmod(0o600 if path == module.params["record"] else 0o644)
    module.atomic_move(str(temporary), path)


Conversation = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p
)


class PamConversation(ctypes.Structure):
    """What PAM calls when it asks for a password: nobody answers."""

    _fields_ = (("call", Conversation), ("data", ctypes.c_void_p))


def ask_pam(service: str, user: str, question: str) -> int:
    """Return what PAM's `question` (pam_authenticate, pam_acct_mgmt) answers for a user of a service."""
    pam = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
    conversation = PamConversation(Conversation(lambda *_: 19), None)  # 19: a conversation error
    handle = ctypes.c_void_p()
    code = pam.pam_start(service.encode(), user.encode(), ctypes.byref(conversation), ctypes.byref(handle))
    if code == 0:
        code = getattr(pam, question)(handle, 0x8000)  # silent
        pam.pam_end(handle, code)
    return int(code)


def in_a_process(call: Callable[[], int]) -> int:
    """Return what a call returns, from a process of its own: PAM keeps modules loaded."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            code = call()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def logins(users: list[str]) -> dict[str, int]:
    """Return PAM's answers: whether each user may log in, and whether asking for a password finds broken modules."""
    services = [name for name in SERVICES if os.path.exists(f"/etc/pam.d/{name}")]
    found = {
        f"{name}: account of {user}": in_a_process(lambda name=name, user=user: ask_pam(name, user, "pam_acct_mgmt"))
        for name in services
        for user in users
    }
    for name in services:
        code = in_a_process(lambda name=name: ask_pam(name, "slipway-no-such-user", "pam_authenticate"))
        # su lets root be anybody; what counts is whether the modules work.
        found[f"{name}: password"] = code if code in BROKEN or code < 0 or code == 255 else 0
    return found


def sums_of(paths: list[str], wanted: str) -> str:
    """Return the file that sha256sum compares with: the hash of what is wanted, and the sum of each file."""
    sums = [f"{hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    return f"# {wanted}\n" + "".join(sums)


def ending(line: str) -> str:
    """Return the end of a line of PAM, which pam-auth-update takes over as it stands."""
    return " ".join(line.split()[-2:])


def module_lines(profile: str) -> list[str]:
    """Return the lines of a profile that name modules, but for those of a profile that comes first."""
    found, first = [], False
    for line in profile.splitlines():
        if not line[:1].isspace():
            first = line.startswith(("Auth-Initial", "Account-Initial", "Session-Initial", "Password-Initial"))
        elif line.strip() and not first:
            found.append(line)
    return found


class Policy:
    """The files of before and what becomes of them."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read the record."""
        self.module = module
        self.params = module.params
        self.saved: dict[str, str | None] = {}
        self.record = json.loads(read(self.params["record"]) or "{}")
        self.changed: list[str] = []
        self.diff: list[dict[str, str]] = []

    def put(self, path: str, text: str | None) -> None:
        """Write a file, unless it is so already, and remember what it was."""
        before = read(path)
        if before == text:
            return
        self.changed.append(path)
        headers = {"before_header": path, "after_header": path}
        self.diff.append({"before": before or "", "after": text or "", **headers})
        if not self.module.check_mode:
            self.saved.setdefault(path, before)
            write(self.module, path, text)

    def restore(self) -> None:
        """Put back every file."""
        for path, text in self.saved.items():
            write(self.module, path, text)

    def set_files(self) -> dict[str, Any]:
        """Set and restore the files of packages; return their record."""
        entries = {entry["path"]: entry for entry in self.params["files"]}
        recorded = self.record.get("files", {})
        texts, kept = {}, {}
        for path, before in recorded.items():
            if path not in entries and (text := read(path)) is not None:
                texts[path] = restore_text(text, before)
        for path, entry in entries.items():
            # A dry run on a new host: the package that brings it is not installed yet.
            texts[path], kept[path] = change(read(path) or "", entry, recorded.get(path, {}))
        if not self.module.check_mode:
            # Before anything is changed: an interrupted run must not take what it has written for the original.
            pathlib.Path(self.params["record"]).parent.mkdir(mode=0o755, exist_ok=True)
            write(self.module, self.params["record"], json.dumps({"files": recorded | kept}))
        for path, text in texts.items():
            self.put(path, text)
        return kept

    def set_profiles(self) -> None:
        """Have PAM use the wanted profiles, and no other of ours."""
        wanted = {f"{PROFILES}/{name}": text for name, text in self.params["profiles"].items()}
        here = glob.glob(f"{glob.escape(PROFILES)}/{self.params['prefix']}*")
        unwanted = sorted(set(here) - set(wanted))
        if (
            all(read(path) == text for path, text in wanted.items())
            and not unwanted
            and self._are_used(wanted.values())
        ):
            return
        if self.module.check_mode:
            for path in unwanted:
                self.put(path, None)
            for path, text in wanted.items():
                self.put(path, text)
            return
        for path in PAM_FILES + glob.glob(f"{PAM_STATE}/*"):
            self.saved.setdefault(path, read(path))
        before = logins(self.params["users"])
        no_longer = [text for text in map(read, unwanted) if text is not None]
        if unwanted:
            self._update("--remove", *map(os.path.basename, unwanted))
        for path in unwanted:
            self.put(path, None)
        for path, text in wanted.items():
            self.put(path, text)
        if wanted:
            self._update("--enable", *self.params["profiles"])
        self.changed += [path for path in PAM_FILES if read(path) != self.saved[path]]
        if not self._are_used(wanted.values()) or any(self._are_used([text]) for text in no_longer):
            self.restore()
            self.module.fail_json(
                msg="pam-auth-update does not change /etc/pam.d/common-*, since somebody has edited them; all is as "
                "before. Move those lines into a profile in /usr/share/pam-configs and run pam-auth-update --force "
                "on the host, or set hardening_faillock and hardening_password_quality to false (docs/security.md)"
            )
        after = logins(self.params["users"])
        if after != before:
            self.restore()
            wrong = [f"{name} ({before[name]}, now {code})" for name, code in after.items() if code != before[name]]
            self.module.fail_json(
                msg="PAM answers a login differently, and the previous files were restored: " + "; ".join(wrong)
            )

    def _update(self, *arguments: str) -> None:
        command = ["pam-auth-update", "--package", *arguments]
        code, out, err = self.module.run_command(command, environ_update={"DEBIAN_FRONTEND": "noninteractive"})
        if code:
            self.restore()
            msg = f"{' '.join(command)} failed, and the previous files were restored"
            self.module.fail_json(msg=msg, output=out + err)

    def _are_used(self, profiles: Any) -> bool:
        """Tell whether the lines of all profiles are in PAM's files."""
        used = {ending(line) for path in PAM_FILES for line in (read(path) or "").splitlines()}
        return all(ending(line) in used for profile in profiles for line in module_lines(profile))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "separator": {"type": "str", "default": " "},
                    "settings": {"type": "dict"},
                    "content": {"type": "str"},
                },
            },
            "profiles": {"type": "dict", "default": {}},
            "prefix": {"type": "str", "default": "slipway-"},
            "users": {"type": "list", "elements": "str", "default": []},
            "wanted": {"type": "str", "required": True},
            "record": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    policy = Policy(module)
    files = policy.set_files()
    policy.set_profiles()
    if not module.check_mode:
        record, sums = module.params["record"], f"{module.params['record']}.sums"
        if files or module.params["profiles"]:
            write(module, record, json.dumps({"files": files}))
            profiles = [f"{PROFILES}/{name}" for name in module.params["profiles"]]
            write(module, sums, sums_of([*files, *profiles, *(PAM_FILES if profiles else [])], module.params["wanted"]))
        else:
            write(module, record, None)
            write(module, sums, None)
    module.exit_json(changed=bool(policy.changed), changed_paths=policy.changed, diff=policy.diff)


if __name__ == "__main__":
    main()
