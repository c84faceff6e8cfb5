"""The virtual environment of a release: what it is made of, by which releases share it, and how it is installed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import SYSTEM_PATH
from ansible_collections.slipway.kit.plugins.module_utils.release.store import read_marker, write_marker

PYTHON = "/usr/bin/python3"


class BuildError(Exception):
    """A step that failed, in words for the operator."""


class Environment:
    """The virtual environment of one release."""

    def __init__(
        self, parameters: dict[str, Any], project: str, own_environment: dict[str, str], call: Callable[..., str]
    ) -> None:
        """Take the parameters of the module release_build, the project's directory, and what runs a command."""
        self.parameters = parameters
        self.settings: dict[str, Any] = parameters["settings"]
        self.folder: str = parameters["folder"]
        self.project = project
        self.own_environment = own_environment
        self.uv = os.path.join(parameters["uv"], "bin/uv")
        self.python: str = self.settings["python"] or PYTHON
        self.installation: dict[str, Any] = parameters["installation"]
        self.done = ""
        self._call = call

    def make(self) -> str:
        """Return the folder of the virtual environment, made now unless one of the same parts is there."""
        folder = os.path.join(self.folder, "venvs", self.key())
        if read_marker(folder) is not None:
            self.done = "virtual environment reused"
            return folder
        self.install_uv()
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
        self._call(
            "create the virtual environment",
            [self.uv, "venv", "--quiet", "--no-python-downloads", "--python", self.python, folder],
        )
        # What the source itself is installed with: it must not be made from what somebody else's build left there.
        if self.settings["install_command"]:
            self._call(
                "install with django_app_install_command",
                self.find_words(folder, self.settings["install_command"]),
                self.project,
                VIRTUAL_ENV=folder,
                PATH=f"{folder}/bin:{os.path.dirname(self.uv)}:{SYSTEM_PATH}",
                UV_PROJECT_ENVIRONMENT=folder,
                **self.scm_environment(for_all=True),
            )
        else:
            self.install(folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, ".lock"))  # uv leaves it open for all to write
        write_marker(folder, {"python": self.python_version()})
        self.done = "virtual environment made"
        return folder

    def python_version(self) -> str:
        """Return the version of the Python that the release runs with."""
        if self.python == PYTHON:
            return platform.python_version()
        question = [self.python, "-I", "-c", "import platform; print(platform.python_version())"]
        try:
            return subprocess.run(question, capture_output=True, check=True, text=True, timeout=60).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"django_app_python: {self.python} cannot be run: {error}") from error

    def scm_environment(self, for_all: bool = False) -> dict[str, str]:
        """Return what tells a build the version of the project, of which the source has no repository.

        `for_all` adds what would count for every package that is built, and so is for a command that builds no other.
        """
        version, name = self.parameters["scm"].get("version", ""), self.parameters["scm"].get("name", "")
        if not version:
            return {}
        own_name = re.sub(r"[-_.]+", "_", name).upper()
        variables = {f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{own_name}": version} if name else {}
        if for_all:
            names = (
                *("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION"),
                *("POETRY_DYNAMIC_VERSIONING_BYPASS", "UV_DYNAMIC_VERSIONING_BYPASS"),
            )
            variables |= dict.fromkeys(names, version)
        return variables

    def find_words(self, venv: str, words: list[str]) -> list[str]:
        """Return a command with its first word looked up as in the new environment."""
        path = f"{venv}/bin:{os.path.dirname(self.uv)}:{SYSTEM_PATH}"
        first = words[0]
        found = os.path.join(self.project, first) if "/" in first else shutil.which(first, path=path)
        if found is None or not os.path.exists(found):
            raise BuildError(f"django_app_install_command: there is no command {first} on the build host")
        return [found, *words[1:]]

    def key(self) -> str:
        """Return a name for the virtual environment by all that it is made of."""
        settings = self.settings
        parts: dict[str, Any] = {
            "uv": self.parameters["uv_lock"],
            "python": [self.python, self.python_version()],
            "requirements": settings["requirements"],
            "files": self.installation["files"],
            "extras": settings["extras"],
            "groups": settings["dependency_groups"],
            "packages": settings["python_packages"],
            "debian": [settings["packages"], settings["build_packages"]],
            "index": self.parameters["environment"].get("UV_DEFAULT_INDEX", ""),
            "environment": self.own_environment,
            "command": settings["install_command"],
            "project": settings["install_project"],
        }
        # An environment with the source in it may lead to the folder of the release; one that the static files are
        # collected into is no other release's.
        installs_source = settings["install_project"] or settings["install_command"] or self.installation["local"]
        if self.parameters["force"] or installs_source or settings["static_root"].startswith("venv/"):
            parts["release"] = self.parameters["id"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def install_uv(self) -> None:
        """Have uv on the host, held to its hash."""
        folder = self.parameters["uv"]
        if os.path.exists(os.path.join(folder, "complete")):
            return
        shutil.rmtree(folder, ignore_errors=True)
        self._call("install uv", ["/usr/bin/python3", "-m", "venv", folder])
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
            lock.write(self.parameters["uv_lock"])
            lock.flush()
            self._call(
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
            locked, others, pylocks, sources = [], [], [], []
            for name in settings["requirements"]:
                base = os.path.basename(name)
                if base == "uv.lock":
                    exported, unhashed = self.export_lock(name, temporary)
                    locked.append(exported)
                    sources.append((os.path.join(self.project, os.path.dirname(name)), unhashed))
                elif base.endswith(".toml") and base.startswith("pylock"):
                    pylocks.append(name)
                elif base.endswith(".toml"):
                    others += self.pyproject_options(name)
                elif os.path.normpath(name) in self.installation["locked"]:
                    locked.append(name)
                else:
                    others += ["-r", name]
            for name in pylocks:
                self._call(
                    f"install {name}", [self.uv, "pip", "install", *options, "--requirement", name], self.project
                )
            for name in locked:
                words = [self.uv, "pip", "install", *options, "--require-hashes", "--requirement", name]
                self._call(f"install {os.path.basename(name)}", words, self.project)
            # What a lock takes from the source or from git has no hash; what it needs is in the lock too.
            for folder, name in sources:
                if os.path.getsize(name):
                    words = [self.uv, "pip", "install", *options, "--no-deps", "--requirement", name]
                    self._call(f"install {os.path.basename(name)}", words, folder, **self.scm_environment(for_all=True))
            held = [word for name in locked for word in ("--constraint", name)]
            rest = [*others, *settings["python_packages"]]
            if settings["install_project"]:
                rest += self.install_project(options)
            if rest:
                words = [self.uv, "pip", "install", *options, *held, *rest]
                self._call("install packages", words, self.project, **self.scm_environment())

    def install_project(self, options: list[str]) -> list[str]:
        """Install the project itself where it must be apart, and return what is still to be installed of it."""
        extras = ",".join(self.settings["extras"])
        project = f"{self.project}[{extras}]" if extras else self.project
        alone = self.settings["require_hashes"]
        name = self.parameters["scm"].get("name", "")
        if not alone and not name:
            return [project]
        # Alone, as its packages must all have come from a lock, or as the version told is that of no other package.
        words = [self.uv, "pip", "install", *options, "--no-deps", self.project]
        self._call("install the project", words, self.project, **self.scm_environment(for_all=True))
        return [] if alone else [f"{name}[{extras}]" if extras else name]

    def pyproject_options(self, name: str) -> list[str]:
        """Return the words that make uv install the dependencies of a pyproject.toml with its extras and groups."""
        words = []
        if os.path.normpath(name) not in self.installation["no_project"]:
            words += ["-r", name]
            for extra in self.settings["extras"]:
                words += ["--extra", extra]
        for group in self.settings["dependency_groups"]:
            words += ["--group", f"{name}:{group}"]
        return words

    def export_lock(self, name: str, temporary: str) -> tuple[str, str]:
        """Return two lists of requirements made of a uv.lock, in files.

        The first has hashes, and the usual index can serve it. The second is of what comes from the source or from git,
        with paths from the folder of the lock.
        """
        folder = os.path.join(self.project, os.path.dirname(name))
        # Of a workspace that the project is a member of, what the project needs; the paths are from the lock's folder.
        if name.startswith("../") and os.path.exists(os.path.join(self.project, "pyproject.toml")):
            folder = self.project
        words = [self.uv, "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project", "--no-header"]
        # An editable one would lead to the source, which is another's when the environment is used again.
        words += ["--no-editable", "--no-annotate", "--no-python-downloads", "--python", self.python]
        for extra in self.settings["extras"]:
            words += ["--extra", extra]
        for group in self.settings["dependency_groups"]:
            words += ["--group", group]
        text = self._call(
            f"read {name}", [*words, "--format", "requirements-txt"], folder, **self.scm_environment(for_all=True)
        )
        entries = [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
        targets = os.path.join(temporary, "uv.lock.txt"), os.path.join(temporary, "uv.lock-sources.txt")
        for target, hashed in zip(targets, (True, False), strict=True):
            with open(target, "w") as file:
                file.writelines(f"{line}\n" for line in entries if (" --hash=" in line) is hashed)
        return targets
