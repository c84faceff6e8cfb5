#!/usr/bin/python
"""Build a release from the archive of its source: the part of the action of this name that runs on the host."""

from __future__ import annotations

import contextlib
import datetime
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.app_command import SYSTEM_PATH, AppCommand, Result, environment_lines
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.precompress import precompress
from ansible.module_utils.release_store import (
    LockedError,
    deploy_lock,
    is_complete,
    leads_to,
    point,
    read_marker,
    releases_in_use,
    write_marker,
)
from ansible.module_utils.static_union import unite

DOCUMENTATION = r"""
module: release_build
short_description: Build a release from the archive of its source
description:
  - Unpacks the source, makes or reuses the virtual environment, collects the static files, and writes the marker last.
    What is not complete is built anew by the next run. Nothing that serves is touched.
  - Without an archive it only says whether the release is complete. When it is, the link C(candidate) is made to lead
    to it, and the folder of static files made to have those of all kept releases.
options:
  app: {description: The application's name., type: str, required: true}
  folder: {description: The folder that has C(releases) and C(venvs)., type: path, required: true}
  id: {description: The release., type: str, required: true}
  archive: {description: "The source, a .tar.gz on this host.", type: path}
  digest: {description: Digest of the source., type: str, required: true}
  source: {description: "Where the source came from, in words.", type: str, required: true}
  by: {description: Who builds., type: str, required: true}
  force: {description: Whether nothing built before may be used again., type: bool, default: false}
  uv: {description: The folder of uv., type: path, required: true}
  uv_lock: {description: The lock to install uv from., type: str, required: true}
  environment: {description: Environment of what installs packages., type: dict, required: true}
  settings: {description: What the release is built from beside the source., type: dict, required: true}
author: Slipway contributors
"""

LOCAL_REQUIREMENT = re.compile(r"^\s*(-e\b|--editable\b|\.|/|file:)|@\s*file:|^[^#]*@\s*\.")
INCLUDE = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")


class BuildError(Exception):
    """A step that failed, in words for the operator."""


def is_locked(text: str) -> bool:
    """Tell whether each requirement in the text of a requirements file comes with a hash."""
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    requirements = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]
    return bool(requirements) and all("--hash=" in line for line in requirements)


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
        self.uv = os.path.join(parameters["uv"], "bin/uv")
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "VIRTUAL_ENV"))
            },
            **parameters["environment"],
        }
        self.done: list[str] = []
        self.hooks: list[dict[str, Any]] = []

    # Commands

    def call(self, step: str, argv: list[str], directory: str = "/", **environment: str) -> str:
        """Run a command of the build as root, after everything else on the host, and return what it wrote."""
        done = subprocess.run(
            ["nice", "-n", "19", "ionice", "-c", "3", *argv],
            cwd=directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise BuildError(Result(argv, done.returncode, done.stdout, "", 0).explain(step))
        return done.stdout

    def run(self, step: str, command: list[str], **options: Any) -> Result:
        """Run a command of the application."""
        words = AppCommand(app=self.app, release=self.release, command=command, low_priority=True, **options)
        result = words.run()
        if not result.succeeded:
            raise BuildError(result.explain(step))
        return result

    # Steps

    def build(self) -> None:
        """Do all of it."""
        self.clear()
        self.unpack()
        venv = self.make_venv()
        os.symlink(os.path.relpath(venv, self.release), os.path.join(self.release, "venv"))
        self.check_gunicorn()
        self.compile_source()
        static = self.find_static()
        self.write_environment(static)
        checks = [*self.settings["manage"], *self.settings["check_command"]] if self.settings["check_command"] else []
        collects = self.settings["collectstatic"]
        if any(hook["when"] == "before_collectstatic" for hook in self.settings["hooks"]):
            # What the operator wants to be run is run for a release that can be loaded.
            if checks:
                self.run("check", checks)
            self.run_hooks("before_collectstatic")
            checks = []
        # Each takes about as long as loading the application does: both at once.
        with ThreadPoolExecutor() as pool:
            steps = [pool.submit(self.run, "check", checks)] if checks else []
            steps += [pool.submit(self.collect_static, static)] if collects else []
        for step in steps:
            step.result()
        self.run_hooks("after_collectstatic")
        precompress(static, os.path.join(self.folder, "current/static"))
        write_marker(
            self.release,
            {
                "id": self.module.params["id"],
                "digest": self.module.params["digest"],
                "source": self.module.params["source"],
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "by": self.module.params["by"],
                "python": platform.python_version(),
                "venv": os.path.basename(venv),
                "directory": self.settings["directory"],
            },
        )

    def clear(self) -> None:
        """Remove what an unfinished build left."""
        if os.path.realpath(self.release) in releases_in_use(self.folder, candidate=False):
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
        with tarfile.open(self.module.params["archive"]) as tar:
            # The archive is our own: names in it were checked where it was made. Set as an attribute, as Debian 12's
            # Python may not know the argument.
            tar.extraction_filter = staticmethod(lambda member, path: member)
            tar.extractall(self.source)  # noqa: S202 (as said above)
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
            shutil.chown(path, file.get("owner") or "root", file.get("group") or "root")
            os.chmod(path, int(file.get("mode") or "0644", 8))
        os.symlink(os.path.relpath(self.project, self.release), os.path.join(self.release, "project"))

    def make_venv(self) -> str:
        """Return the folder of the virtual environment, made now unless one of the same parts is there."""
        folder = os.path.join(self.folder, "venvs", self.venv_key())
        if read_marker(folder) is not None:
            self.done.append("virtual environment reused")
            return folder
        self.install_uv()
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
        self.call(
            "create the virtual environment",
            [self.uv, "venv", "--quiet", "--no-python-downloads", "--python", "/usr/bin/python3", folder],
        )
        # What the source itself is installed with: it must not be made from what somebody else's build left there.
        if self.settings["install_command"]:
            self.call(
                "install with django_app_install_command",
                self.find_words(folder, self.settings["install_command"]),
                self.project,
                VIRTUAL_ENV=folder,
                PATH=f"{folder}/bin:{os.path.dirname(self.uv)}:{SYSTEM_PATH}",
                UV_PROJECT_ENVIRONMENT=folder,
            )
        else:
            self.install(folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, ".lock"))  # uv leaves it open for all to write
        write_marker(folder, {"python": platform.python_version()})
        self.done.append("virtual environment made")
        return folder

    def find_words(self, venv: str, words: list[str]) -> list[str]:
        """Return a command with its first word looked up as in the new environment."""
        path = f"{venv}/bin:{os.path.dirname(self.uv)}:{SYSTEM_PATH}"
        first = words[0]
        found = os.path.join(self.project, first) if "/" in first else shutil.which(first, path=path)
        if found is None or not os.path.exists(found):
            raise BuildError(f"django_app_install_command: there is no command {first} on the build host")
        return [found, *words[1:]]

    def venv_key(self) -> str:
        """Return a name for the virtual environment by all that it is made of."""
        settings = self.settings
        files, local = self.requirement_files()
        parts: dict[str, Any] = {
            "uv": self.module.params["uv_lock"],
            "python": platform.python_version(),
            "requirements": settings["requirements"],
            "files": files,
            "extras": settings["extras"],
            "groups": settings["dependency_groups"],
            "packages": settings["python_packages"],
            "debian": [settings["packages"], settings["build_packages"]],
            "index": self.environment.get("UV_DEFAULT_INDEX", ""),
            "command": settings["install_command"],
            "project": settings["install_project"],
        }
        if settings["install_project"] or settings["install_command"] or local:
            parts["source"] = [self.module.params["digest"], settings["files"], settings["directory"]]
        # An environment that the static files are collected into is no other release's.
        if self.module.params["force"] or settings["static_root"].startswith("venv/"):
            parts["release"] = self.module.params["id"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def requirement_files(self) -> tuple[dict[str, str], bool]:
        """Return what is in the requirement files and in those that they name, and whether they install the source."""
        if self.settings["install_command"]:
            return {}, True
        contents: dict[str, str] = {}
        local = any(LOCAL_REQUIREMENT.search(text) for text in self.settings["python_packages"])
        waiting = [os.path.normpath(name) for name in self.settings["requirements"]]
        while waiting:
            name = waiting.pop()
            if name in contents:
                continue
            try:
                with open(os.path.join(self.project, name), errors="replace") as file:
                    contents[name] = file.read()
            except OSError as error:
                raise BuildError(f"django_app_requirements: {name} cannot be read: {error.strerror}") from error
            if name.endswith(".toml") or name.endswith(".lock"):
                text = contents[name]
                local = local or bool(
                    re.search(r"\bpath\s*=|\beditable\s*=|\bdirectory\s*=|^dynamic\b", text, re.MULTILINE)
                )
                local = local or "file:" in text
                beside = os.path.join(os.path.dirname(name), "pyproject.toml")
                if name.endswith("uv.lock") and os.path.exists(os.path.join(self.project, beside)):
                    waiting.append(beside)
                continue
            for line in contents[name].splitlines():
                if included := INCLUDE.match(line):
                    waiting.append(os.path.normpath(os.path.join(os.path.dirname(name), included[1])))
                local = local or bool(LOCAL_REQUIREMENT.search(line))
        return contents, local

    def install_uv(self) -> None:
        """Have uv on the host, held to its hash."""
        folder = self.module.params["uv"]
        if os.path.exists(os.path.join(folder, "complete")):
            return
        shutil.rmtree(folder, ignore_errors=True)
        self.call("install uv", ["/usr/bin/python3", "-m", "venv", folder])
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
            lock.write(self.module.params["uv_lock"])
            lock.flush()
            self.call(
                "install uv",
                [f"{folder}/bin/pip", "install", "--quiet", "--require-hashes", "--requirement", lock.name],
            )
        with open(os.path.join(folder, "complete"), "w"):
            pass

    def install(self, venv: str) -> None:
        """Install what the settings name: what is held to hashes, and then the rest, which changes nothing of that."""
        settings = self.settings
        options = ["--quiet", "--compile-bytecode", "--python", f"{venv}/bin/python"]
        if settings["static_root"].startswith("venv/"):
            options.append("--link-mode=copy")  # the application writes there for a while, and not into uv's cache
        with tempfile.TemporaryDirectory() as temporary:
            locked, others, pylocks = [], [], []
            for name in settings["requirements"]:
                base = os.path.basename(name)
                if base == "uv.lock":
                    locked.append(self.export_lock(name, temporary))
                elif base.endswith(".toml") and base.startswith("pylock"):
                    pylocks.append(name)
                elif base.endswith(".toml"):
                    others += self.pyproject_options(name)
                else:
                    with open(os.path.join(self.project, name), errors="replace") as file:
                        text = file.read()
                    (locked if is_locked(text) else others).append(name)
            for name in pylocks:
                self.call(f"install {name}", [self.uv, "pip", "install", *options, "--requirement", name], self.project)
            for name in locked:
                words = [self.uv, "pip", "install", *options, "--require-hashes", "--requirement", name]
                self.call(f"install {os.path.basename(name)}", words, self.project)
            rest: list[str] = []
            for name in others:
                rest += (
                    [name] if name.startswith("--") or (rest and rest[-1] in ("--extra", "--group")) else ["-r", name]
                )
            rest += settings["python_packages"]
            if settings["install_project"]:
                extras = ",".join(settings["extras"])
                rest.append(f"{self.project}[{extras}]" if extras else self.project)
            if rest:
                held = [word for name in locked for word in ("--constraint", name)]
                self.call("install packages", [self.uv, "pip", "install", *options, *held, *rest], self.project)

    def pyproject_options(self, name: str) -> list[str]:
        """Return the words that make uv install the dependencies of a pyproject.toml with its extras and groups."""
        words = [name]
        for extra in self.settings["extras"]:
            words += ["--extra", extra]
        for group in self.settings["dependency_groups"]:
            words += ["--group", f"{name}:{group}"]
        return words

    def export_lock(self, name: str, temporary: str) -> str:
        """Return a list of requirements with hashes made of a uv.lock, which the usual index can serve."""
        target = os.path.join(temporary, "uv.lock.txt")
        words = [self.uv, "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project", "--no-header"]
        words += ["--no-python-downloads", "--python", "/usr/bin/python3", "--format", "requirements-txt"]
        for extra in self.settings["extras"]:
            words += ["--extra", extra]
        for group in self.settings["dependency_groups"]:
            words += ["--group", group]
        folder = os.path.join(self.project, os.path.dirname(name))
        self.call(f"read {name}", [*words, "--output-file", target], folder)
        return target

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
    def writable(self, folder: str) -> Iterator[None]:
        """Give a folder with all that is in it to the application, and then back to root."""
        give(folder, self.app)
        try:
            yield
        finally:
            give(folder, "root")

    def run_hooks(self, when: str) -> None:
        """Run the hooks of this moment."""
        for hook in self.settings["hooks"]:
            if hook["when"] == when:
                result = self.run(
                    f"hook {hook['name']} ({when})",
                    hook["command"],
                    directory=hook.get("directory") or None,
                    user=hook.get("user") or None,
                    environment=hook.get("environment") or {},
                    timeout=hook.get("timeout") or 3600,
                    umask="0022",
                )
                self.hooks.append({"name": hook["name"], "seconds": round(result.seconds, 1)})


def give(folder: str, owner: str) -> None:
    """Make `owner` the owner of a folder and of all that is in it; links are not followed."""
    shutil.chown(folder, owner, owner)
    for top, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(top, name)
            if os.path.islink(path):
                continue
            shutil.chown(path, owner, owner)
            if owner == "root":
                os.chmod(path, 0o755 if name in folders else 0o644)


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
            "settings": {"type": "dict", "required": True},
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
        module.exit_json(changed=not current or bool(static), complete=complete, marker=read_marker(build.release))
    try:
        with deploy_lock(build.folder):
            if not is_complete(build.release):  # by now another run may have built it
                build.build()
            unite(build.folder, build.release)
            point(link, build.release)
    except (BuildError, LockedError) as error:
        module.fail_json(msg=f"The release {module.params['id']} was not built; what serves goes on. {error}")
    module.exit_json(
        changed=True, complete=True, marker=read_marker(build.release), actions=build.done, hooks=build.hooks
    )


if __name__ == "__main__":
    main()
