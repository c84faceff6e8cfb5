"""What our modules ask of systemd: the state of a unit, its files, its last words."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "MainPID"),
    # What tells of a unit that systemd starts again and again: how often since it was started, and how it last ended.
    *("NRestarts", "Result"),
)
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")
UP = ("active", "reloading", "activating")
JOURNAL_LINES = 40


def files_digest(paths: Iterable[str], salt: str = "", renamed: Mapping[str, str] | None = None) -> str:
    """Return the SHA-256 (hex) of the names and contents of `paths`, directories taken with all that is in them.

    A path that is missing counts as such: when it appears, the digest changes. Paths in the contents that were
    `renamed`, new to old, count by their old name.
    """
    digest = hashlib.sha256(salt.encode())
    for path in sorted(set(paths)):
        if os.path.isdir(path):
            files = sorted(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
        else:
            files = [path]
        for file in files:
            digest.update(b"\0" + file.encode())
            if os.path.isfile(file):
                with open(file, "rb") as opened:
                    content = opened.read()
                for new, old in (renamed or {}).items():
                    content = content.replace(new.encode(), old.encode())
                digest.update(b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def unit_files(unit: str) -> list[str]:
    """Return the files that are there for `unit`: its own, its template's, and drop-ins (systemd.unit(5)).

    They are looked for on the disk. systemd 252 does not notice a folder of drop-ins that came after it read the unit.
    """
    name, kind = unit.rsplit(".", 1)
    template = name.split("@")[0] + "@" if "@" in name else name
    words = template.rstrip("@").split("-")
    prefixes = ["-".join(words[:count]) + "-" for count in range(1, len(words))]
    own = [f"{stem}.{kind}" for stem in (name, template)]
    patterns = [*own, *(f"{stem}.{kind}.d/*.conf" for stem in (name, template, *prefixes))]
    return sorted(
        {path for folder in UNIT_FOLDERS for pattern in patterns for path in glob.glob(f"{folder}/{pattern}")}
    )


def write_atomically(path: str, content: bytes, mode: int = 0o644, group: int = 0, owner: int = 0) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one; `group` is a gid, `owner` a uid."""
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)


def is_restart_pending(state: Mapping[str, str]) -> bool:
    """Tell whether a unit with these properties has died and systemd will start it again.

    Its SubState is auto-restart, and from systemd 254 on auto-restart-queued once the job to start it is queued.
    """
    return state.get("SubState", "").startswith("auto-restart")


class Systemd:
    """systemctl and journalctl by the module's own runner; errors end the module with the unit's journal."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.systemctl = module.get_bin_path("systemctl", required=True)

    def show(self, unit: str) -> dict[str, str]:
        """Return the PROPERTIES of `unit`; a unit that does not exist has LoadState `not-found`."""
        _, out, _ = self.module.run_command(
            [self.systemctl, "show", f"--property={','.join(PROPERTIES)}", unit], check_rc=True
        )
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def value(self, unit: str, name: str) -> str:
        """Return one property of `unit` as systemctl shows it, empty where it has none."""
        _, out, _ = self.module.run_command([self.systemctl, "show", "--value", f"--property={name}", unit])
        return out.strip()

    def is_up(self, unit: str) -> bool:
        """Tell whether `unit` runs or is on its way there."""
        return self.show(unit)["ActiveState"] in UP

    def runs(self, unit: str) -> bool:
        """Tell whether `unit` is active or has done its work; false while systemd waits to start it again."""
        state = self.show(unit)
        return state["ActiveState"] != "failed" and not is_restart_pending(state)

    def try_run(self, *arguments: str) -> tuple[bool, str]:
        """Run systemctl with `arguments`; return whether it succeeded, and the first line of what it said."""
        code, out, err = self.module.run_command([self.systemctl, *arguments])
        return code == 0, (err or out).strip().partition("\n")[0]

    def run(self, *arguments: str) -> None:
        """Run systemctl with `arguments`, the last of which is the unit, or end the module with the unit's journal."""
        done, said = self.try_run(*arguments)
        if not done:
            self.module.fail_json(
                msg=f"systemctl {' '.join(arguments)} failed: {said}", journal=self.journal(arguments[-1])
            )

    def journal(self, unit: str, since: float = 0) -> list[str]:
        """Return the last lines of `unit` and of systemd about it, not before `since` (seconds of the epoch)."""
        self.module.run_command(["journalctl", "--sync"])
        # With --since, --lines would count from there on.
        limit = [f"--since=@{since:.6f}"] if since else [f"--lines={JOURNAL_LINES}"]
        _, out, _ = self.module.run_command(["journalctl", "--unit", unit, "--no-pager", "--output", "cat", *limit])
        return out.splitlines()[-JOURNAL_LINES:]
