#!/usr/bin/python
"""Build a release from the archive of its source: the part of the action of this name that runs on the host."""

from __future__ import annotations

import contextlib
import datetime
import glob
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import (
    RUNTIME_FOLDER,
    SYSTEM_PATH,
    AppCommand,
    Result,
    environment_lines,
)
from ansible_collections.slipway.kit.plugins.module_utils.release.environment import BuildError, Environment
from ansible_collections.slipway.kit.plugins.module_utils.release.migration_question import (
    conflict_refusal,
    destructive_refusal,
    entry,
    find_answer,
    shell_words,
)
from ansible_collections.slipway.kit.plugins.module_utils.release.precompress import precompress
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
module: release_build
short_description: Build a release from its source
description:
  - Unpacks the source, creates or reuses the virtual environment, collects the static files, and writes the marker
    last. A release without its marker is built again by the next run. What serves is not touched.
  - A complete release becomes the candidate, and its static files are added to those of all releases that are kept.
  - Reads the role variables C(django_app_hooks), C(django_app_files), C(django_app_index_url),
    C(django_app_build_environment), C(django_app_build_credentials) and C(django_app_build_git_key). No call names
    them, since they may hold secrets; so a build that fails can show its output.
options:
  app: {description: The application's name., type: str, required: true}
  id: {description: The release., type: str, required: true}
  source: {description: What M(slipway.kit.release_source) returned., type: dict, required: true}
  force: {description: Whether nothing built before may be used again., type: bool, default: false}
  uv: {description: The directory of uv., type: path, required: true}
  uv_lock: {description: The lock to install uv from., type: str, required: true}
  environment: {description: The environment of what installs packages., type: dict, required: true}
  nice: {description: The niceness of the build., type: int, required: true}
  timeout: {description: Seconds that the build may take., type: int, required: true}
  settings: {description: "What the release is built from, besides the source.", type: dict, required: true}
  migrations:
    description: >-
      How the release is asked for its migrations before the long part of the build, as C(command), C(apply),
      C(destructive) and C(conflicts); see M(slipway.kit.release_migrate). Without a command it is not asked.
    type: dict
    default: {}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Build the release
  slipway.kit.release_build:
    app: shop
    id: "{{ release_id }}"
    source: "{{ source }}"
    uv: /opt/slipway/uv-0123456789ab
    uv_lock: "{{ lookup('ansible.builtin.file', 'uv.txt') }}"
    environment: {}
    nice: 10
    timeout: 3600
    settings: {directory: ""}
"""

RETURN = r"""
complete: {description: Whether the release is complete., returned: always, type: bool}
marker: {description: The content of the release's marker., returned: when there is one, type: dict}
"""

# What uv, pip and git say of a server, and what the operator can do about it.
HINTS = (
    (
        r"40[13] (Unauthorized|Forbidden)|Authentication failed|could not read Username|Permission denied \(publickey",
        "A server refused to hand out a package: django_app_build_credentials has users and passwords, "
        "django_app_build_git_key a key for ssh",
    ),
    (
        r"error sending request|NewConnectionError|ConnectTimeoutError|Could not resolve host|Connection timed out",
        "A server of packages did not answer: run the deploy again when it does, or name another index in "
        "django_app_index_url",
    ),
    (r"Git executable not found", "Name git in django_app_build_packages"),
)
LEAST_MASKED = 4  # characters below which a value is no secret
# Every file of the source may be read by the application, and nothing of it may be more than that to others.
READABLE = 0o444
EXECUTABLE = 0o111
HARMFUL = 0o7022
SHOWN_CHANGES = 3


# How the drivers of PostgreSQL, SQLite and MySQL say that a table or a column is missing.
LACKS_TABLE = re.compile(
    r"UndefinedTable|UndefinedColumn|(relation|column) \S+ does not exist|no such (table|column)"
    r"|Table '\S+' doesn't exist|Unknown column"
)


class Build:
    """One release that is being built."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        parameters = module.params
        self.app: str = parameters["app"]
        self.folder: str = parameters["folder"]
        self.settings: dict[str, Any] = parameters["settings"]
        self.release = os.path.join(self.folder, "releases", parameters["id"])
        self.source = os.path.join(self.release, "src")
        self.project = os.path.normpath(os.path.join(self.source, self.settings["directory"]))
        self.own_environment: dict[str, str] = parameters["build_environment"]
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "VIRTUAL_ENV"))
            },
            **parameters["environment"],
            **self.own_environment,
        }
        self.deadline = time.monotonic() + parameters["timeout"]
        self.done: list[str] = []
        self.venv = Environment(parameters, self.project, self.own_environment, self.call)
        self.hooks: list[dict[str, Any]] = []
        # What the release answered of its migrations, and the check that waits for them.
        self.plan: dict[str, Any] | None = None
        self.deferred_check: list[str] = []

    # Commands

    def call(self, step: str, argv: list[str], directory: str = "/", **environment: str) -> str:
        """Run a command of the build as root, and return what it wrote."""
        # The module may run with a niceness of its own, to which nice adds.
        niceness = self.module.params["nice"] - os.getpriority(os.PRIO_PROCESS, 0)
        with subprocess.Popen(
            ["nice", "-n", str(niceness), "ionice", "-c", "2", "-n", "7", *argv],
            cwd=directory,
            # What the operator sets wins.
            env={**self.environment, **environment, **self.own_environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=max(self.deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                raise BuildError(self.explain_timeout(step, argv, output)) from None
        if process.returncode:
            hint = next((f"{words}. " for pattern, words in HINTS if re.search(pattern, output)), "")
            raise BuildError(hint + self.mask(Result(argv, process.returncode, output, "", 0).explain(step)))
        return output

    def time_left(self) -> int:
        """Return the seconds that are left of the build's time limit, at least one."""
        return max(int(self.deadline - time.monotonic()), 1)

    def start(self, command: list[str], timeout: int = 0, **options: Any) -> Result:
        """Run a command of the application with the build's niceness and time limit, and return how it ended."""
        left = self.time_left()
        return AppCommand(
            app=self.app,
            release=self.release,
            command=command,
            nice=self.module.params["nice"],
            timeout=min(timeout or left, left),
            **options,
        ).run()

    def run(self, step: str, command: list[str], timeout: int = 0, **options: Any) -> Result:
        """Run a command of the application; one that fails ends the build."""
        left = self.time_left()
        result = self.start(command, timeout, **options)
        if result.timed_out and (not timeout or timeout > left):
            raise BuildError(self.explain_timeout(step, command, result.output))
        if not result.succeeded:
            raise BuildError(self.mask(result.explain(step)))
        return result

    def explain_timeout(self, step: str, argv: list[str], output: str) -> str:
        """Say which step the time limit of the build has ended, and what to change."""
        limit = self.module.params["timeout"]
        said = self.mask(Result(argv, 1, output, "", 0, limit, timed_out=True).explain(step))
        return (
            f"The build has reached its time limit of {limit} s: raise django_app_build_timeout, or let the build have "
            f"more of the processor with a lower django_app_build_nice. {said}"
        )

    def mask(self, text: str) -> str:
        """Return a text without the secrets that the build works with."""
        hooks = [value for hook in self.settings["hooks"] for value in (hook.get("environment") or {}).values()]
        passwords = [str(entry["password"]) for entry in self.module.params["credentials"]]
        secrets = {*map(str, self.own_environment.values()), *map(str, hooks), *passwords}
        for value in [*secrets, *self.module.params["environment"].values()]:
            with contextlib.suppress(ValueError):
                found = urlsplit(value)
                secrets |= {word for word in (found.password or found.username,) if word}
        secrets |= {quote(secret, safe="") for secret in secrets}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= LEAST_MASKED:
                text = text.replace(secret, "***")
        return text

    @contextlib.contextmanager
    def credentials(self) -> Iterator[None]:
        """Have the credentials and the key in files of root's alone, and name these in the environment."""
        entries, key = self.module.params["credentials"], self.module.params["git_key"].strip()
        if not entries and not key:
            yield
            return
        with tempfile.TemporaryDirectory(dir=RUNTIME_FOLDER, prefix=f"{self.app}-build-") as folder:
            added: dict[str, str] = {}
            if entries:
                hosts = [(str(entry["host"]), str(entry["user"]), str(entry["password"])) for entry in entries]
                added["NETRC"] = write_secret(
                    f"{folder}/netrc",
                    "".join(
                        f"machine {host.partition(':')[0]} login {user} password {word}\n" for host, user, word in hosts
                    ),
                )
                store = write_secret(
                    f"{folder}/git-credentials",
                    "".join(
                        f"{scheme}://{quote(user, safe='')}:{quote(word, safe='')}@{host}\n"
                        for host, user, word in hosts
                        for scheme in ("https", "http")
                    ),
                )
                count = int(self.environment.get("GIT_CONFIG_COUNT", "0"))
                added |= {
                    "GIT_CONFIG_COUNT": str(count + 1),
                    f"GIT_CONFIG_KEY_{count}": "credential.helper",
                    f"GIT_CONFIG_VALUE_{count}": f"store --file={store}",
                }
            if key:
                file = write_secret(f"{folder}/key", f"{key}\n")
                added["GIT_SSH_COMMAND"] = (
                    f"ssh -i '{file}' -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
                )
            before, self.environment = self.environment, self.environment | added
            try:
                yield
            finally:
                self.environment = before

    # Steps

    def build(self) -> None:
        """Do all of it."""
        self.clear()
        self.unpack()
        with self.credentials():
            venv = self.venv.make()
        self.done.append(self.venv.done)
        os.symlink(os.path.relpath(venv, self.release), os.path.join(self.release, "venv"))
        self.check_gunicorn()
        self.compile_source()
        static = self.find_static()
        self.write_environment(static)
        # Before all that takes long, and is in vain for a release that is refused.
        self.judge_migrations()
        checks = [*self.settings["manage"], *self.settings["check_command"]] if self.settings["check_command"] else []
        collects = self.settings["collectstatic"]
        if any(hook["when"] == "before_collectstatic" for hook in self.settings["hooks"]):
            # What the operator wants to be run is run for a release that can be loaded.
            if checks:
                self.check(checks)
            self.run_hooks("before_collectstatic", static)
            checks = []
        # Each takes about as long as loading the application does: both at once.
        with ThreadPoolExecutor() as pool:
            steps = [pool.submit(self.check, checks)] if checks else []
            steps += [pool.submit(self.collect_static, static)] if collects else []
        for step in steps:
            step.result()
        self.run_hooks("after_collectstatic", static)
        try:
            precompress(static, os.path.join(self.folder, "current/static"), self.deadline)
        except subprocess.TimeoutExpired as error:
            raise BuildError(self.explain_timeout("compress the static files", error.cmd, "")) from error
        write_marker(
            self.release,
            {
                "id": self.module.params["id"],
                "digest": self.module.params["digest"],
                "source": self.module.params["source"],
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "by": self.module.params["by"],
                "python": self.venv.python_version(),
                "venv": os.path.basename(venv),
                "directory": self.settings["directory"],
                "manage": self.settings["manage"],
                **({"check": self.deferred_check} if self.deferred_check else {}),
            },
        )

    def judge_migrations(self) -> None:
        """Refuse a release whose migrations, or whose difference from the schema, would be refused after the build."""
        settings = self.module.params["migrations"]
        if not settings["command"]:
            return
        serving = os.path.exists(os.path.join(self.folder, "current"))
        applies = settings["apply"]
        question = {"ask": "plan", "command": settings["command"], "serving": serving and applies, "applies": applies}
        words = [*self.settings["manage"], *shell_words(question)]
        result = self.start(words)
        if result.timed_out:
            raise BuildError(self.explain_timeout("ask the release for its migrations", self.settings["manage"], ""))
        self.plan = find_answer(result.output)
        # A release that cannot be asked does not pass the check either, which says why.
        if self.plan is None:
            return
        if self.plan["conflicts"] and not settings["conflicts"]:
            raise BuildError(conflict_refusal(self.plan, applies))
        if self.plan["destructive"] and not settings["destructive"]:
            raise BuildError(destructive_refusal([entry(item) for item in self.plan["destructive"]]))

    def check(self, words: list[str]) -> None:
        """Run the check; one that reads tables which pending migrations are to make is run again after these."""
        try:
            self.run("check", words)
        except BuildError as error:
            if not (self.plan and self.plan["pending"] and LACKS_TABLE.search(str(error))):
                raise
            self.deferred_check = words
            self.done.append("check is run again after the migrations: it reads tables or columns that they make")

    def clear(self) -> None:
        """Remove what an unfinished build left."""
        # One whose folder somebody has removed breaks nothing more when it is built in its place.
        if os.path.isdir(self.release) and os.path.realpath(self.release) in releases_in_use(
            self.folder, candidate=False
        ):
            raise BuildError(
                f"{self.release} is in use and is not complete any more: its marker or its virtual environment was "
                "removed. Building it anew would break what serves: deploy with django_app_force for one beside it"
            )
        if os.path.isdir(self.release):
            shutil.rmtree(self.release)
        os.makedirs(self.release, mode=0o755)

    def unpack(self) -> None:
        """Write the source and the files of the inventory."""
        os.mkdir(self.source, 0o755)
        extract(self.module.params["archive"], self.source)
        if not os.path.isdir(self.project):
            if self.settings["directory"] and not self.settings["files"]:
                raise BuildError(f"django_app_directory: the source has no folder {self.settings['directory']}")
            os.makedirs(self.project, mode=0o755)
        for file in self.settings["files"]:
            path = os.path.join(self.project, file["path"])
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            if os.path.lexists(path):
                os.unlink(path)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as target:
                target.write(file["content"])
            own(path, file)
        os.symlink(os.path.relpath(self.project, self.release), os.path.join(self.release, "project"))

    def check_gunicorn(self) -> None:
        """Refuse a release that no web server can run."""
        done = subprocess.run(
            [
                os.path.join(self.release, "venv/bin/python"),
                *("-I", "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('gunicorn') is None)"),
            ],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            way_out = (
                "let django_app_install_command install it too"
                if self.settings["install_command"]
                else "add gunicorn to django_app_python_packages"
            )
            raise BuildError(f"the release cannot be served, as gunicorn is not among its packages: {way_out}")

    def compile_source(self) -> None:
        """Compile the source, as the services cannot write beside it; what this Python cannot read stays as it is."""
        with contextlib.suppress(BuildError):
            python = os.path.join(self.release, "venv/bin/python")
            self.call("compile the source", [python, "-m", "compileall", "-q", self.source])

    def find_static(self) -> str:
        """Return the folder that takes the static files."""
        pattern = os.path.join(glob.escape(self.release), self.settings["static_root"])
        if not glob.has_magic(self.settings["static_root"]):
            found = [os.path.join(self.release, self.settings["static_root"])]
        else:
            found = [path for path in glob.glob(pattern) if os.path.isdir(path)]
            if not found and not glob.has_magic(os.path.basename(pattern)):
                found = [os.path.join(path, os.path.basename(pattern)) for path in glob.glob(os.path.dirname(pattern))]
        if len(found) != 1:
            raise BuildError(
                f"django_app_static_root: {self.settings['static_root']} is {len(found)} folders of it, must be one"
            )
        if not os.path.realpath(found[0]).startswith((self.release + os.sep, f"{self.folder}/venvs/")):
            raise BuildError(f"django_app_static_root: {self.settings['static_root']} leads out of the release")
        return found[0]

    def write_environment(self, static: str) -> None:
        """Write what the release adds to the environment of its processes, and make the folder of its static files."""
        venv = os.path.join(self.release, "venv")
        variables = {"VIRTUAL_ENV": venv, "PATH": f"{venv}/bin:{SYSTEM_PATH}"}
        if self.settings["static_root_variable"]:
            variables[self.settings["static_root_variable"]] = static
        with open(os.path.join(self.release, "release.env"), "w") as file:
            file.write(environment_lines(variables))
        os.makedirs(static, mode=0o755, exist_ok=True)
        usual = os.path.join(self.release, "static")
        if not os.path.lexists(usual):
            os.symlink(os.path.relpath(static, self.release), usual)

    def collect_static(self, static: str) -> None:
        """Collect the static files as the application's user, who may write there only as long as that takes."""
        with self.writable(static):
            command = [*self.settings["manage"], *self.settings["collectstatic_command"]]
            self.run("collectstatic", command, umask="0022")

    @contextlib.contextmanager
    def writable(self, *folders: str) -> Iterator[None]:
        """Give folders with all that is in them to the application, and then back to root.

        The files of the inventory stay whose they are.
        """
        kept = {os.path.join(self.project, file["path"]): file for file in self.settings["files"]}
        for folder in folders:
            give(folder, self.app, kept)
        try:
            yield
        finally:
            for folder in folders:
                take(folder)
            for path, file in kept.items():
                if os.path.isfile(path) and not os.path.islink(path):
                    own(path, file)

    def run_hooks(self, when: str, static: str) -> None:
        """Run the hooks of this moment, which may write into the source and the folder of static files."""
        hooks = [hook for hook in self.settings["hooks"] if hook["when"] == when]
        if not hooks:
            return
        with self.writable(self.source, static):
            for hook in hooks:
                result = self.run(
                    f"hook {hook['name']} ({when})",
                    hook["command"],
                    directory=hook.get("directory") or None,
                    user=hook.get("user") or None,
                    environment=self.own_environment | (hook.get("environment") or {}),
                    timeout=hook.get("timeout") or 3600,
                    umask="0022",
                )
                self.hooks.append({"name": hook["name"], "seconds": round(result.seconds, 1)})


def extract(archive: str, folder: str) -> None:
    """Unpack the archive of a source, files and links alone and nothing outside of the folder.

    Links may lead elsewhere, as they may in the source; nothing is written through one.
    """
    links: set[str] = set()
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                name, parts = os.path.normpath(member.name), member.name.split("/")
                parents = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
                if os.path.isabs(name) or ".." in parts or parents & links or not (member.isreg() or member.issym()):
                    raise BuildError(f"the archive of the source has a member that cannot be unpacked: {member.name}")
                if member.issym():
                    links.add(name)
            # Debian 12's Python may not have the filter.
            checked = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extraction_filter = staticmethod(
                lambda member, path: member if member.issym() else checked(member, path)
            )
            tar.extractall(folder, members)  # noqa: S202 (each member is checked above)
    except tarfile.TarError as error:
        raise BuildError(f"the archive of the source cannot be unpacked: {error}") from error


def own(path: str, file: dict[str, Any]) -> None:
    """Give a file of the inventory its owner, group and mode."""
    shutil.chown(path, file.get("owner") or "root", file.get("group") or "root")
    os.chmod(path, int(file.get("mode") or "0644", 8))


def write_secret(path: str, content: str) -> str:
    """Write a new file that only its owner can read, and return its path."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    return path


def give(folder: str, owner: str, kept: Collection[str] = ()) -> None:
    """Make `owner` the owner of a folder and of all that is in it but `kept`; links are not followed."""
    user = pwd.getpwnam(owner)
    # From the bottom, each folder after what is in it: nobody can put a link in the way yet.
    for top, folders, files in os.walk(folder, topdown=False):
        for path in (os.path.join(top, name) for name in folders + files):
            if path not in kept:
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.chown(folder, user.pw_uid, user.pw_gid, follow_symlinks=False)


def take(folder: str) -> None:
    """Make root the owner of a folder and of all that is in it, for all to read and for root alone to write.

    From the top, each folder before what is in it is looked at: nobody can put a link in the way any more.
    """
    os.chown(folder, 0, 0, follow_symlinks=False)
    os.chmod(folder, READABLE | EXECUTABLE | stat.S_IWUSR)
    for top, folders, files in os.walk(folder):
        for path in (os.path.join(top, name) for name in folders + files):
            os.chown(path, 0, 0, follow_symlinks=False)
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                continue
            executable = EXECUTABLE if stat.S_ISDIR(found.st_mode) or found.st_mode & EXECUTABLE else 0
            wanted = (stat.S_IMODE(found.st_mode) | READABLE | executable) & ~HARMFUL
            if wanted != stat.S_IMODE(found.st_mode):
                os.chmod(path, wanted)


def changed_since_built(release: str) -> list[str]:
    """Return the files of a complete release's source that have been changed since, by the time of their change."""
    try:
        completed = os.stat(os.path.join(release, MARKER)).st_ctime
    except FileNotFoundError:
        return []
    source, static = os.path.join(release, "src"), os.path.realpath(os.path.join(release, "static"))
    changed = []
    for top, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name != "__pycache__" and os.path.join(top, name) != static]
        paths = (os.path.join(top, name) for name in files)
        changed += [os.path.relpath(path, source) for path in paths if os.lstat(path).st_ctime > completed]
    return sorted(changed)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "id": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "digest": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "by": {"type": "str", "required": True},
            "force": {"type": "bool", "default": False},
            "uv": {"type": "path", "required": True},
            "uv_lock": {"type": "str", "required": True},
            "environment": {"type": "dict", "required": True},
            "build_environment": {"type": "dict", "default": {}},
            "credentials": {"type": "list", "elements": "dict", "default": []},
            "git_key": {"type": "str", "default": "", "no_log": False},
            "nice": {"type": "int", "default": 10},
            "timeout": {"type": "int", "default": 3600},
            "installation": {"type": "dict", "required": True},
            "scm": {"type": "dict", "default": {}},
            "settings": {"type": "dict", "required": True},
            "migrations": {
                "type": "dict",
                "default": {"command": []},
                "options": {
                    "command": {"type": "list", "elements": "str", "default": []},
                    "apply": {"type": "bool", "default": True},
                    "destructive": {"type": "bool", "default": False},
                    "conflicts": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    build = Build(module)
    link = os.path.join(build.folder, "candidate")
    complete = is_complete(build.release)
    current = complete and leads_to(link, build.release)
    if current or module.check_mode or (not complete and not module.params["archive"]):
        static = unite(build.folder, build.release, dry=module.check_mode) if current else []
        if edited := changed_since_built(build.release) if complete else []:
            shown = ", ".join(edited[:SHOWN_CHANGES]) + (", ..." if len(edited) > SHOWN_CHANGES else "")
            module.warn(
                f"{len(edited)} files of the release {module.params['id']} were changed on the host after it was "
                f"built: {shown}. Deploy once with django_app_force: true for a release without these changes"
            )
        module.exit_json(changed=not current or bool(static), complete=complete, marker=read_marker(build.release))
    try:
        with deploy_lock(build.folder):
            if not is_complete(build.release):  # by now another run may have built it
                build.build()
            unite(build.folder, build.release)
            point(link, build.release)
    except (BuildError, LockedError) as error:
        module.fail_json(
            msg=f"The release {module.params['id']} was not built; the active release is unchanged. {error}"
        )
    module.exit_json(
        changed=True,
        complete=True,
        marker=read_marker(build.release),
        actions=build.done,
        hooks=build.hooks,
        compared=bool(build.plan) and not (build.plan["pending"] or build.plan["unknown"] or build.plan["conflicts"]),
    )


if __name__ == "__main__":
    main()
