"""Run a command as the application's user, with a release and its environment, by systemd-run.

    command = AppCommand(app="shop", release="/srv/shop/candidate", command=["python", "manage.py", "check"])
    result = command.run()
    if not result.succeeded:
        fail(result.explain("check"))

The command runs as the services do: systemd reads the environment files, so no secret is an argument, and gives the
user, the state directory and the limits. Nothing is handed to a shell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where the file of a command's extra environment lies while it runs: memory, root's.
RUNTIME_FOLDER = "/run"
LAST_LINES = 25


def environment_lines(variables: Mapping[str, str]) -> str:
    """Return the lines of a file for EnvironmentFile=, each value as given (see the filter environment_file)."""
    lines = []
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
            raise ValueError(f"the value of {name} holds a NUL, a carriage return or another control character")
        escaped = re.sub(r'(["\\$`])', r"\\\1", value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def last_lines(text: str, count: int = LAST_LINES) -> list[str]:
    """Return the last lines of a command's output that say anything."""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code, what it wrote, the seconds it took, and whether it ran into its limit."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str
    seconds: float
    limit: int = 0
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the command did what it should."""
        return self.code == 0

    @property
    def output(self) -> str:
        """All that the command wrote; of both kinds in their order where they were not kept apart."""
        return self.stdout + self.stderr

    def explain(self, step: str) -> str:
        """Say in one message which step failed, with which command, how, and its last words."""
        how = f"did not end within {self.limit} s" if self.timed_out else f"ended with code {self.code}"
        said = "\n".join(last_lines(self.output)) or "(it wrote nothing)"
        return f"{step}: {' '.join(self.argv)} {how}. Its last lines:\n{said}"


@dataclass(frozen=True)
class AppCommand:
    """A command of the application.

    app               the application's name: its user, its folders
    release           the release's folder, or a link to it, which is followed
    command           words; the first is looked up in the release's venv/bin, then where the system has its commands.
                      One with a slash is a path, from the directory
    directory         where it runs; relative ones start at the release's source. None: the project's directory
    user              who runs it; None: the application's user
    environment       variables on top of all others; they are in no argument and in no file that others can read
    environment_files files of variables over app.env and below the release's own. None: /etc/<app>/manage.env, the
                      overrides for management commands
    timeout           seconds after which systemd ends it, 0 for none
    umask             of the files that it makes
    nice              niceness, with the lowest priority of its class on disks; None: that of services
    properties        further properties of the unit, as "BindReadOnlyPaths=/a:/b"
    """

    app: str
    release: str
    command: Sequence[str]
    directory: str | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: Sequence[str] | None = None
    timeout: int = 0
    umask: str = "0027"
    nice: int | None = None
    properties: Sequence[str] = ()

    @property
    def folder(self) -> str:
        """The release's real folder: a link may point elsewhere before the command has ended."""
        return os.path.realpath(self.release)

    @property
    def working_directory(self) -> str:
        """Where the command runs."""
        if self.directory is None:
            return os.path.realpath(os.path.join(self.folder, "project"))
        return os.path.normpath(os.path.join(self.folder, "src", self.directory))

    def find_program(self) -> str:
        """Return the full path of the command's first word, or raise FileNotFoundError."""
        word = self.command[0]
        if "/" in word:
            return os.path.normpath(os.path.join(self.working_directory, word))
        found = shutil.which(word, path=f"{self.folder}/venv/bin:{SYSTEM_PATH}")
        if found is None:
            raise FileNotFoundError(f"there is no command {word}, neither in {self.folder}/venv/bin nor on the host")
        return found

    def argv(self, environment_file: str | None = None) -> list[str]:
        """Return the words of systemd-run that run the command."""
        user = self.user or self.app
        overrides = [f"-/etc/{self.app}/manage.env"] if self.environment_files is None else list(self.environment_files)
        files = [f"/etc/{self.app}/app.env", *overrides, f"{self.folder}/release.env"]
        if environment_file:
            files.append(environment_file)
        properties = [f"EnvironmentFile={file}" for file in files]
        properties.append(f"UMask={self.umask}")
        if user == self.app:
            # Of another user, systemd would give the folder with all that is in it to that one.
            properties.append(f"StateDirectory={self.app}")
        if self.timeout:
            properties += [f"RuntimeMaxSec={self.timeout}", "TimeoutStopSec=10"]
        if self.nice is not None:
            properties += [f"Nice={self.nice}", "IOSchedulingClass=best-effort", "IOSchedulingPriority=7"]
        return [
            *("systemd-run", "--quiet", "--collect", "--wait", "--pipe"),
            f"--uid={user}",
            *([f"--gid={self.app}"] if user == self.app else []),
            "--setenv=LANG=C.UTF-8",
            *(f"--property={text}" for text in [*properties, *self.properties]),
            f"--working-directory={self.working_directory}",
            "--",
            self.find_program(),
            # systemd would take $ in an argument for a variable of its own.
            *(word.replace("$", "$$") for word in self.command[1:]),
        ]

    def run(self, merge: bool = True) -> Result:
        """Run the command to its end; `merge` keeps what it writes to both outputs in one, in its order."""
        started = time.monotonic()
        try:
            with self._environment_file() as file:
                done = subprocess.run(
                    self.argv(file),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                    check=False,
                    text=True,
                    errors="replace",
                )
        except FileNotFoundError as error:
            return Result(list(self.command), 127, "", str(error), time.monotonic() - started)
        seconds = time.monotonic() - started
        timed_out = bool(self.timeout) and done.returncode != 0 and seconds >= self.timeout
        return Result(
            list(self.command), done.returncode, done.stdout, done.stderr or "", seconds, self.timeout, timed_out
        )

    @contextmanager
    def _environment_file(self) -> Iterator[str | None]:
        """Have the extra environment in a file of root's alone while the command runs."""
        if not self.environment:
            yield None
            return
        content = environment_lines(self.environment)
        with tempfile.NamedTemporaryFile("w", dir=RUNTIME_FOLDER, prefix=f"{self.app}-", suffix=".env") as file:
            file.write(content)
            file.flush()
            yield file.name
