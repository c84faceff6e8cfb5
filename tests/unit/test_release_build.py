"""What builds, hands over and removes releases: ids, commands, links; what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from ansible_collections.slipway.kit.plugins.module_utils.release import app_command as command
from ansible_collections.slipway.kit.plugins.module_utils.release import static_union as union
from ansible_collections.slipway.kit.plugins.module_utils.release import store as store
from ansible_collections.slipway.kit.plugins.module_utils.release.migration_plan import MARKER
from ansible_collections.slipway.kit.plugins.modules import release_build as build
from ansible_collections.slipway.kit.plugins.modules import release_ship as ship

ROLE = ROOT / "roles/django_app"


# Commands of the application


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a release with a python in its virtual environment, by way of a link to it."""
    folder = tmp_path / "releases/r1"
    (folder / "src/site").mkdir(parents=True)
    (folder / "project").symlink_to("src/site")
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/python").write_text("#!/bin/sh\n")
    (folder / "venv/bin/python").chmod(0o755)
    (tmp_path / "candidate").symlink_to(folder)
    return tmp_path / "candidate"


def test_command_runs_as_the_application_with_its_environment(release: Path) -> None:
    words = command.AppCommand("shop", str(release), ["python", "manage.py", "x $HOME", "a b"], timeout=7).argv()
    real = release.resolve()
    files = [word.partition("EnvironmentFile=")[2] for word in words if "EnvironmentFile" in word]
    assert files == ["/etc/shop/app.env", "-/etc/shop/manage.env", f"{real}/release.env"], "a later one wins"
    assert {"--uid=shop", "--gid=shop", "--property=StateDirectory=shop", "--property=RuntimeMaxSec=7"} <= set(words)
    assert f"--working-directory={real}/src/site" in words
    assert words[words.index("--") + 1 :] == [f"{real}/venv/bin/python", "manage.py", "x $$HOME", "a b"]


def test_command_of_another_user_leaves_the_state_of_the_application(release: Path) -> None:
    words = command.AppCommand(
        "shop", str(release), ["sh"], user="root", directory="a", properties=["BindReadOnlyPaths=/a:/b"]
    ).argv()
    assert "--uid=root" in words and not [word for word in words if "StateDirectory" in word or "--gid" in word]
    assert f"--working-directory={release.resolve()}/src/a" in words
    assert "--property=BindReadOnlyPaths=/a:/b" in words


def test_environment_of_a_command_is_in_a_closed_file(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def run(words: list[str], **_: Any) -> SimpleNamespace:
        file = Path([word.partition("=")[2] for word in words if "EnvironmentFile" in word][-1].partition("=")[2])
        seen.update(words=words, file=file, text=file.read_text(), mode=file.stat().st_mode & 0o777)
        return SimpleNamespace(returncode=3, stdout="one\n\ntwo\n", stderr=None)

    monkeypatch.setattr(command, "RUNTIME_FOLDER", str(tmp_path))
    monkeypatch.setattr(command.subprocess, "run", run)
    result = command.AppCommand("shop", str(release), ["python", "x"], environment={"KEY": 'MARKER "$x"'}).run()
    assert (seen["text"], seen["mode"]) == ('KEY="MARKER \\"\\$x\\""\n', 0o600)
    assert "MARKER" not in " ".join(seen["words"]) and not seen["file"].exists()
    assert result.explain("step") == "step: python x ended with code 3. Its last lines:\none\ntwo"


def test_command_that_is_not_there(release: Path) -> None:
    result = command.AppCommand("shop", str(release), ["nosuchcommand"]).run()
    assert not result.succeeded and "there is no command nosuchcommand" in result.explain("hook")


@pytest.mark.parametrize("variables", [{"a-b": "x"}, {"A": "x\ry"}])
def test_environment_that_no_file_can_hold(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be the name|holds a NUL"):
        command.environment_lines(variables)


# The id


@pytest.fixture
def id_for(variables_for: Callable[..., dict[str, Any]], templar_for: Callable[..., Any]) -> Callable[..., str]:
    """Return a function that gives the id of a release for variables of the role."""

    def give(**changed: Any) -> str:
        source = {"digest": "d", "run": "r", "description": "x", "scm": {}, "environment": ""} | changed.pop(
            "source", {}
        )
        variables = {f"django_app_{name}": value for name, value in changed.items()}
        # The lock of uv is read by a lookup from the role's folder, which there is none of here.
        lock = {"__django_app_uv_lock": (ROLE / "files/uv.txt").read_text()}
        known = variables_for(ROLE, "12", __django_app_source=source, **lock, **variables)
        return templar_for(known).template(known["__django_app_release_id"])

    return give


def test_same_input_is_the_same_release(id_for: Callable[..., str]) -> None:
    first = id_for()
    assert len(first) == 12 and int(first, 16) >= 0
    same = id_for(source={"description": "elsewhere", "run": "another"}, environment={"A": "b"}, migrate=False)
    assert id_for(build_credentials=[{"host": "a", "user": "b", "password": "c"}], build_git_key="x") == first
    assert id_for(build_nice=0, build_timeout=60) == first
    assert same == first, "what a release is not made of is in its id"
    after = [{"name": "x", "when": "after_switch", "command": ["true"]}]
    assert id_for(hooks=after, files=[{"path": "/etc/x", "content": "x"}]) == first


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"digest": "e"}},
        {"directory": "a"},
        {"requirements": ["a.txt"]},
        {"extras": ["a"]},
        {"dependency_groups": ["a"]},
        {"install_project": True},
        {"python_packages": ["a"]},
        {"install_command": ["a"]},
        {"packages": ["a"]},
        {"build_packages_by_release": {"bookworm": ["a"]}},
        {"manage": ["a"]},
        {"check_command": []},
        {"collectstatic": False},
        {"collectstatic_command": ["a"]},
        {"static_root": "a"},
        {"static_root_variable": ""},
        {"index_url": "https://a"},
        {"python_version": "3.11.9"},
        {"python": "/opt/python3.14/bin/python3"},
        {"require_hashes": True},
        {"source": {"environment": "e"}},
        {"source": {"scm": {"version": "1.2", "name": "shop"}}},
        {"files": [{"path": "a", "content": "x"}]},
        {"hooks": [{"name": "x", "when": "before_collectstatic", "command": ["true"]}]},
        {"force": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_input_is_another_release(id_for: Callable[..., str], change: dict[str, Any]) -> None:
    assert id_for(**change) != id_for()


def test_packages_of_the_other_debian_do_not_count(id_for: Callable[..., str]) -> None:
    assert id_for(packages_by_release={"trixie": ["a"]}) == id_for()
    assert id_for(packages_by_release={"bookworm": ["a"]}) != id_for()


def test_what_is_forced_is_never_the_same(id_for: Callable[..., str]) -> None:
    assert id_for(force=True, source={"run": "1"}) != id_for(force=True, source={"run": "2"})


# The virtual environment


SETTINGS: dict[str, Any] = {
    "directory": "",
    "requirements": ["r.txt"],
    "extras": [],
    "dependency_groups": [],
    "install_project": False,
    "require_hashes": False,
    "python": "",
    "python_packages": [],
    "install_command": [],
    "packages": [],
    "build_packages": [],
    "manage": ["python", "manage.py"],
    "check_command": [],
    "static_root": "static",
    "static_root_variable": "STATIC_ROOT",
    "files": [],
    "hooks": [],
}


INSTALLATION: dict[str, Any] = {"files": {"r.txt": "0"}, "locked": [], "local": False, "no_project": []}


def make(folder: Path, digest: str = "d", force: bool = False, name: str = "r1", **settings: Any) -> Any:
    """Return a build of a source with r.txt in it; some of its settings are parameters of the module."""
    own = {
        part: settings.pop(part) for part in ("build_environment", "credentials", "git_key", "scm") if part in settings
    }
    installation = INSTALLATION | settings.pop("installation", {})
    timeout = settings.pop("timeout", 60)
    made = build.Build(
        SimpleNamespace(
            params={
                "app": "shop",
                "folder": str(folder),
                "id": name,
                "digest": digest,
                "source": "x",
                "by": "me",
                "force": force,
                "uv": "/opt/uv",
                "uv_lock": "uv",
                "environment": {},
                "build_environment": {},
                "credentials": [],
                "git_key": "",
                "nice": 0,
                "timeout": timeout,
                "installation": installation,
                "scm": {},
                "settings": SETTINGS | settings,
                "archive": None,
                **own,
            }
        )
    )
    os.makedirs(made.project, exist_ok=True)
    (Path(made.project) / "r.txt").write_text("django==5.2\n")
    return made


def test_environment_is_reused_for_other_code(tmp_path: Path) -> None:
    key = make(tmp_path).venv.key()
    assert make(tmp_path, digest="e", name="r2").venv.key() == key
    for change in (
        {"installation": {"files": {"r.txt": "1"}}},
        {"build_environment": {"CFLAGS": "-O3"}},
        {"python_packages": ["a"]},
        {"extras": ["a"]},
        {"build_packages": ["a"]},
        {"force": True},
    ):
        assert make(tmp_path, **change).venv.key() != key, change
    with_credentials = make(tmp_path, credentials=[{"host": "a", "user": "b", "password": "c"}], git_key="x")
    assert with_credentials.venv.key() == key


@pytest.mark.parametrize(
    "settings", [{"install_project": True}, {"install_command": ["x"]}, {"installation": {"local": True}}]
)
def test_environment_with_the_source_in_it_is_of_one_release(tmp_path: Path, settings: dict[str, Any]) -> None:
    """An editable one leads to the folder of the release, which is removed some day."""
    keys = {make(tmp_path, name=name, **settings).venv.key() for name in ("r1", "r2")}
    assert len(keys) == 2


def test_environment_with_static_files_in_it_is_of_one_release(tmp_path: Path) -> None:
    root = {"static_root": "venv/lib/python3*/site-packages/a"}
    assert make(tmp_path, name="r1", **root).venv.key() != make(tmp_path, name="r2", **root).venv.key()


def calls_of(made: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Return a list that takes the commands of a build with what each adds to the environment."""
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        made.venv, "_call", lambda step, words, *_, **environment: calls.append((words, environment)) or made.said
    )
    made.said = ""
    return calls


def test_locked_lists_come_first_and_hold_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(
        tmp_path,
        requirements=["locked.txt", "r.txt", "pyproject.toml"],
        python_packages=["gunicorn"],
        extras=["pg"],
        dependency_groups=["prod"],
        installation={"locked": ["locked.txt"]},
    )
    calls = calls_of(made, monkeypatch)
    made.venv.install("/v")
    (first, _), (second, _) = calls
    assert first[-3:] == ["--require-hashes", "--requirement", "locked.txt"]
    assert second[second.index("--constraint") :] == [
        *("--constraint", "locked.txt", "-r", "r.txt", "-r", "pyproject.toml"),
        *("--extra", "pg", "--group", "pyproject.toml:prod", "gunicorn"),
    ]


def test_groups_are_installed_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = {"no_project": ["pyproject.toml"]}
    made = make(tmp_path, requirements=["pyproject.toml"], dependency_groups=["prod"], installation=installation)
    calls = calls_of(made, monkeypatch)
    made.venv.install("/v")
    assert calls[0][0][-2:] == ["--group", "pyproject.toml:prod"] and "-r" not in calls[0][0]


def test_lock_of_uv_is_split_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, requirements=["uv.lock"])
    calls = calls_of(made, monkeypatch)
    sources_text = "./lib ; sys_platform == 'linux'\ng @ git+https://x/g@0a\n"
    made.said = f"{sources_text}six==1 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n"
    hashed, sources = map(Path, made.venv.export_lock("uv.lock", str(tmp_path)))
    assert hashed.read_text() == "six==1 --hash=sha256:0 --hash=sha256:1\n"
    assert sources.read_text() == sources_text
    assert {"--no-editable", "--frozen"} <= set(calls[0][0])
    made.venv.install("/v")
    assert ["--require-hashes" in words for words, _ in calls[2:]] == [True, False]
    assert "--no-deps" in calls[3][0]


def test_version_from_git_is_told_to_the_project_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, install_project=True, extras=["pg"], scm={"version": "1.2", "name": "my.shop-x"})
    calls = calls_of(made, monkeypatch)
    made.venv.install("/v")
    (project, alone), (rest, others) = calls
    assert project[-2:] == ["--no-deps", made.project]
    assert alone["SETUPTOOLS_SCM_PRETEND_VERSION"] == alone["PBR_VERSION"] == "1.2"
    assert rest[-1] == "my.shop-x[pg]"
    assert others == {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MY_SHOP_X": "1.2"}


def test_project_under_require_hashes_brings_no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, install_project=True, require_hashes=True, installation={"locked": ["r.txt"]})
    calls = calls_of(made, monkeypatch)
    made.venv.install("/v")
    assert [("--require-hashes" in words, "--no-deps" in words) for words, _ in calls] == [(True, False), (False, True)]


def test_compression_ends_at_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = tmp_path / "bin/brotli"
    fill.parent.mkdir()
    fill.write_text("#!/bin/sh\nexec sleep 300\n")
    fill.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fill.parent}:{os.environ['PATH']}")
    (tmp_path / "static").mkdir()
    (tmp_path / "static/site.css").write_text("a{}" * 1000)
    with pytest.raises(subprocess.TimeoutExpired):
        build.precompress(str(tmp_path / "static"), str(tmp_path), time.monotonic())


# Secrets of a build


def test_secrets_reach_the_commands_and_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "RUNTIME_FOLDER", str(tmp_path))
    made = make(
        tmp_path / "srv",
        build_environment={"TOKEN": "MARKER-1", "INDEX": "https://user:MARKER-2@index.example.com", "CFLAGS": "-O2"},
        credentials=[{"host": "git.example.com:8443", "user": "oauth2", "password": "MARKER/3"}],
        git_key="-----BEGIN\nMARKER-4\n-----END",
        hooks=[{"name": "x", "when": "after_collectstatic", "environment": {"A": "MARKER-5"}}],
    )
    script = (
        "echo $TOKEN MARKER-2 MARKER-5 MARKER%2F3 MARKER/3; stat -c %a $NETRC; cat $NETRC; "
        "git config --get credential.helper; key=${GIT_SSH_COMMAND#*\\'}; stat -c %a ${key%%\\'*}; "
        "printf 'protocol=https\\nhost=git.example.com:8443\\n' | git credential fill; exit 9"
    )
    with made.credentials(), pytest.raises(build.BuildError) as error:
        made.call("step", ["sh", "-c", script.replace("MARKER", "MAR''KER")])
    said = str(error.value)
    assert "MARKER" not in said, said
    assert "*** *** *** *** ***\n600\nmachine git.example.com login oauth2 password ***\nstore --file=" in said
    assert said.endswith("600\nprotocol=https\nhost=git.example.com:8443\nusername=oauth2\npassword=***"), said
    assert "NETRC" not in made.environment and not list(tmp_path.glob("shop-build-*")), "the files are still there"


def test_time_limit_ends_what_a_step_has_started(tmp_path: Path) -> None:
    made = make(tmp_path, timeout=0)
    with pytest.raises(build.BuildError) as error:
        made.call("install packages", ["sh", "-c", f"echo began; sleep 300 & echo $! >{tmp_path}/pid; wait"])
    assert "time limit of 0 s: raise django_app_build_timeout" in str(error.value)
    assert "install packages: sh -c" in str(error.value)


# A build


def archive_of(tmp_path: Path) -> str:
    """Return an archive of a source with one file."""
    (tmp_path / "manage.py").write_text("x")
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "manage.py", "site/manage.py")
    return str(tmp_path / "source.tar.gz")


def test_source_is_unpacked_with_the_files_of_the_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "chown", lambda *_: None)
    files = [{"path": "conf/a.py", "content": "secret", "mode": "0640"}, {"path": "manage.py", "content": "y"}]
    made = make(tmp_path / "srv", directory="site", files=files)
    made.module.params["archive"] = archive_of(tmp_path)
    made.clear()
    made.unpack()
    project = tmp_path / "srv/releases/r1/project"
    assert project.is_symlink() and os.readlink(project) == "src/site"
    assert (project / "conf/a.py").read_text() == "secret"
    assert (project / "conf/a.py").stat().st_mode & 0o777 == 0o640
    assert (project / "manage.py").read_text() == "y", "the inventory's file wins"


def in_archive(path: Path, *members: tarfile.TarInfo) -> str:
    """Write a tar file of empty members."""
    with tarfile.open(path, "w:gz") as tar:
        for entry in members:
            tar.addfile(entry)
    return str(path)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """Return a member of a tar file."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, mode
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("../x")],
        [member("a/../../x")],
        [member("/etc/x")],
        [member("a", tarfile.SYMTYPE, "/tmp"), member("a/x")],
        [member("a", tarfile.SYMTYPE, "b"), member("a")],
        [member("a"), member("b", tarfile.LNKTYPE, "a")],
        [member("a", tarfile.LNKTYPE, "/etc/passwd")],
        [member("a", tarfile.CHRTYPE)],
        [member("a", tarfile.FIFOTYPE)],
    ],
)
@pytest.mark.parametrize("has_filter", [True, False])
def test_archive_is_checked_on_the_host_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[tarfile.TarInfo], has_filter: bool
) -> None:
    if not has_filter:
        monkeypatch.delattr(build.tarfile, "data_filter")
    (tmp_path / "into").mkdir()
    with pytest.raises(build.BuildError, match="has a member that cannot be unpacked"):
        build.extract(in_archive(tmp_path / "a.tar.gz", *members), str(tmp_path / "into"))
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.parametrize("has_filter", [True, False])
def test_archive_of_a_source_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_filter: bool) -> None:
    if not has_filter:
        monkeypatch.delattr(build.tarfile, "data_filter")
    members = [member("a/b.py"), member("c", mode=0o755), member("d", tarfile.SYMTYPE, "/data/elsewhere")]
    build.extract(in_archive(tmp_path / "a.tar.gz", *members), str(tmp_path / "into"))
    assert (tmp_path / "into/c").stat().st_mode & 0o777 == 0o755
    assert os.readlink(tmp_path / "into/d") == "/data/elsewhere" and (tmp_path / "into/a/b.py").exists()


def test_folder_that_the_source_lacks_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "srv", directory="nowhere")
    made.module.params["archive"] = archive_of(tmp_path)
    made.clear()
    with pytest.raises(build.BuildError, match="django_app_directory: the source has no folder nowhere"):
        made.unpack()


def test_release_that_serves_is_not_built_anew(tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "candidate").symlink_to("releases/r1")
    made.clear()
    (tmp_path / "slots/web/a").mkdir(parents=True)
    (tmp_path / "slots/web/a/release").symlink_to(made.release)
    with pytest.raises(build.BuildError, match="is in use and is not complete any more.*django_app_force"):
        made.clear()


def test_release_that_serves_and_was_removed_is_built_again(tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "slots/web/a").mkdir(parents=True)
    (tmp_path / "slots/web/a/release").symlink_to(made.release)
    shutil.rmtree(made.release)
    made.clear()
    assert Path(made.release).is_dir()


def test_release_without_gunicorn_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path)
    (Path(made.release) / "venv/bin").mkdir(parents=True)
    python = Path(made.release) / "venv/bin/python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(build.BuildError, match="add gunicorn to django_app_python_packages"):
        made.check_gunicorn()
    python.write_text("#!/bin/sh\nexit 0\n")
    made.check_gunicorn()


def test_failed_step_says_which_command_and_its_last_words(tmp_path: Path) -> None:
    made = make(tmp_path)
    with pytest.raises(build.BuildError) as error:
        made.call("install packages", ["sh", "-c", "for i in $(seq 99); do echo line $i; done; exit 7"])
    assert str(error.value).startswith("install packages: sh -c ")
    assert "ended with code 7" in str(error.value)
    assert str(error.value).endswith("line 99") and "line 60" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("error sending request for url (http://127.0.0.1:9/simple/six/)", "did not answer"),
        ("HTTP status client error (401 Unauthorized) for url (https://x)", "django_app_build_credentials"),
        ("fatal: Authentication failed for 'https://git.example.com/x.git/'", "django_app_build_credentials"),
        ("git@git.example.com: Permission denied (publickey).", "django_app_build_git_key"),
        ("No solution found when resolving dependencies", "step: "),
    ],
)
def test_server_that_gives_no_package_is_named_with_the_way_out(tmp_path: Path, said: str, hint: str) -> None:
    with pytest.raises(build.BuildError) as error:
        make(tmp_path).call("step", ["sh", "-c", 'echo "$0"; exit 2', said])
    assert hint in str(error.value).split("step: ")[0] + "step: "[: 6 if hint == "step: " else 0]


@pytest.mark.parametrize(
    ("root", "found"),
    [
        ("static", "static"),
        ("src/a/static", "src/a/static"),
        ("venv/lib/python3*/site-packages/a/static", "venv/lib/python3.11/site-packages/a/static"),
        ("venv/lib/python3*/static", None),
        ("venv/lib/*/site-packages/*", None),
        ("out", None),
    ],
)
def test_folder_of_static_files(tmp_path: Path, root: str, found: str | None) -> None:
    made = make(tmp_path, static_root=root)
    for name in ("a", "b"):
        (Path(made.release) / "venv/lib/python3.11/site-packages" / name).mkdir(parents=True)
    (Path(made.release) / "venv/lib/python3.12").mkdir()
    (Path(made.release) / "out").symlink_to("/")
    if found:
        assert made.find_static() == f"{made.release}/{found}"
        return
    with pytest.raises(build.BuildError, match="django_app_static_root: .* (must be one|leads out of the release)"):
        made.find_static()


def test_environment_of_the_release(tmp_path: Path) -> None:
    made = make(tmp_path, static_root="src/public")
    made.write_environment(made.find_static())
    lines = (Path(made.release) / "release.env").read_text().splitlines()
    assert f'STATIC_ROOT="{made.release}/src/public"' in lines
    assert [line for line in lines if line.startswith(f'PATH="{made.release}/venv/bin:/usr/local/sbin:')]
    assert os.readlink(Path(made.release) / "static") == "src/public"


# What hooks may write to


def test_source_is_the_applications_while_hooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, int] = {}
    monkeypatch.setattr(
        build.os,
        "chown",
        lambda path, user, group, follow_symlinks: owners.update({os.path.relpath(path, tmp_path): user}),
    )
    monkeypatch.setattr(build.shutil, "chown", lambda *_: None)
    monkeypatch.setattr(build.pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=7, pw_gid=7))
    file = {"path": "conf/secret.py", "content": "", "mode": "0640"}
    made = make(
        tmp_path,
        files=[file],
        hooks=[{"name": "npm", "when": "before_collectstatic", "command": ["npm"], "timeout": 9}],
    )
    source, static = Path(made.source), Path(made.release) / "static"
    (source / "conf").mkdir()
    (source / "conf/secret.py").touch(mode=0o640)
    (source / "link").symlink_to("/etc/passwd")
    static.mkdir()

    def run(step: str, command: list[str], **options: Any) -> SimpleNamespace:
        assert {owners[f"releases/r1/{name}"] for name in ("src", "src/conf", "src/link", "static")} == {7}
        assert "releases/r1/src/conf/secret.py" not in owners, "a file of the inventory stays whose it is"
        assert options["timeout"] == 9
        (source / "dist").mkdir(mode=0o700)
        (source / "dist/tool").touch(mode=0o700)
        (source / "dist/tool").chmod(0o4777)
        (source / "dist/site.css").touch(mode=0o600)
        return SimpleNamespace(seconds=1.0)

    monkeypatch.setattr(made, "run", run)
    made.run_hooks("before_collectstatic", str(static))
    assert set(owners.values()) == {0}
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (source / "dist", *(source / "dist").iterdir())}
    assert modes == {"dist": 0o755, "tool": 0o755, "site.css": 0o644}
    assert (source / "conf/secret.py").stat().st_mode & 0o777 == 0o640
    owners.clear()
    made.run_hooks("after_collectstatic", str(static))
    assert not owners, "without a hook nothing is given away"


def test_file_changed_by_hand_in_a_release_is_found(tmp_path: Path) -> None:
    release = complete(tmp_path, "r1")
    fill = ("src/app/views.py", "src/app/__pycache__/views.pyc", "src/manage.py")
    for name in fill:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text("x")
    store.write_marker(str(release), {})
    assert build.changed_since_built(str(release)) == []
    (release / "src/app/__pycache__/views.pyc").write_text("y")
    while not build.changed_since_built(str(release)):  # until the clock of the filesystem has moved on
        (release / "src/app/views.py").write_text("y")
    assert build.changed_since_built(str(release)) == ["app/views.py"]


# Hand over


def complete(folder: Path, name: str, venv: str | None = None, age: int = 0, **static: str) -> Path:
    """Make a complete release, with a virtual environment and static files."""
    path = folder / "releases" / name
    (path / "static").mkdir(parents=True)
    for file, text in static.items():
        (path / "static" / f"{file}.css").write_text(text)
    if venv:
        (folder / "venvs" / venv).mkdir(parents=True, exist_ok=True)
        (folder / "venvs" / venv / ".complete").write_text("{}")
        (path / "venv").symlink_to(f"../../venvs/{venv}")
    (path / ".complete").write_text(json.dumps({"id": name, "venv": venv or ""}))
    os.utime(path / ".complete", (1e9 - age, 1e9 - age))
    return path


def test_release_is_complete_with_its_environment(tmp_path: Path) -> None:
    release = complete(tmp_path, "r1", "v1")
    assert store.is_complete(str(release))
    (tmp_path / "venvs/v1/.complete").unlink()
    assert not store.is_complete(str(release)) and store.is_complete(str(release), static_only=True)
    assert not store.is_complete(str(tmp_path / "releases/none"), static_only=True)


@pytest.fixture
def root_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be written by whoever runs the tests."""
    monkeypatch.setattr(os, "fchown", lambda *_: None)


def hand_over(source: Path, target: Path, static_only: bool = False) -> list[str]:
    """Hand r1 over from one folder to another, and return what was missing."""
    marker = json.loads((source / "releases/r1/.complete").read_text())
    there = ship.Release(str(source), "r1", marker, False)
    here = ship.Release(str(target), "r1", marker, static_only)
    lacks = here.lacks()
    for part in lacks:
        archive = target.parent / f"{part}-{len(list(target.parent.iterdir()))}.tar.gz"
        there.pack(part, str(archive))
        here.receive(part, str(archive))
    return lacks


@pytest.mark.usefixtures("root_less")
def test_other_host_gets_the_same_bits_once(tmp_path: Path) -> None:
    source, target = tmp_path / "a/srv", tmp_path / "b/srv"
    target.mkdir(parents=True)
    release = complete(source, "r1", "v1", site="x")
    (source / "venvs/v1/lib").write_text("lib")
    (release / "src").mkdir()
    assert hand_over(source, target) == ["venv", "release"]
    assert (target / "releases/r1/venv/lib").read_text() == "lib"
    assert (target / "releases/r1/static/site.css").read_text() == "x"
    assert json.loads((target / "releases/r1/.complete").read_text())["id"] == "r1"
    assert hand_over(source, target) == []
    (target / "releases/r1/.complete").unlink()
    assert hand_over(source, target) == ["release"], "the environment is there already"


@pytest.mark.usefixtures("root_less")
def test_only_what_was_asked_for_is_received(tmp_path: Path) -> None:
    """An archive that has another release in it writes into that one not."""
    (tmp_path / "archive/r1").mkdir(parents=True)
    (tmp_path / "archive/r2").mkdir()
    for name in ("r1", "r2"):
        (tmp_path / "archive" / name / "x").write_text("evil" if name == "r2" else "x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "archive", ".")
        for name in ("r1", "r2"):
            tar.add(tmp_path / "archive" / name, name)
    complete(tmp_path / "srv", "r2")
    here = ship.Release(str(tmp_path / "srv"), "r1", {"id": "r1"}, False)
    here.receive("release", str(tmp_path / "a.tar.gz"))
    assert (tmp_path / "srv/releases/r1/x").exists() and not (tmp_path / "srv/releases/r2/x").exists()


@pytest.mark.usefixtures("root_less")
def test_edge_host_gets_the_static_files_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a/srv", tmp_path / "b/srv"
    target.mkdir(parents=True)
    complete(source, "r1", "v1", site="x")
    assert hand_over(source, target, static_only=True) == ["static"]
    assert sorted(path.name for path in (target / "releases/r1").iterdir()) == [".complete", "static"]
    assert not (target / "venvs").exists()
    # When it is to run the application later, that is not enough.
    assert hand_over(source, target) == ["venv", "release"]


# What is kept


def test_what_is_in_use_is_kept(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "second", "current", "slot", "old", "candidate", "previous", "canary")):
        complete(tmp_path, name, f"v-{name}", age=age)
    (tmp_path / "releases/unfinished").mkdir()
    (tmp_path / "venvs/unfinished").mkdir()
    for link in ("current", "candidate", "previous"):
        (tmp_path / link).symlink_to(tmp_path / "releases" / link)
    for slot, name in (("a", "slot"), ("canary", "canary")):
        (tmp_path / "slots/web" / slot).mkdir(parents=True)
        (tmp_path / "slots/web" / slot / "release").symlink_to(tmp_path / "releases" / name)
    unwanted = {os.path.relpath(path, tmp_path) for path in store.find_unwanted(str(tmp_path), 2)}
    assert unwanted == {"releases/old", "venvs/v-old", "releases/unfinished", "venvs/unfinished"}


def test_environment_of_two_releases_stays_for_one(tmp_path: Path) -> None:
    complete(tmp_path, "new", "v")
    complete(tmp_path, "old", "v", age=9)
    assert [os.path.basename(path) for path in store.find_unwanted(str(tmp_path), 1)] == ["old"]


def unite(folder: Path, name: str, dry: bool = False) -> list[str]:
    """Unite the static files of all releases, those of one winning, and return what that changed."""
    return union.unite(str(folder), str(folder / "releases" / name), dry)


def test_static_files_of_all_releases_are_there_and_the_candidates_win(tmp_path: Path) -> None:
    complete(tmp_path, "old", age=9, site="old", gone="gone")
    complete(tmp_path, "newer", site="newer")
    (tmp_path / "releases/unfinished/static").mkdir(parents=True)
    (tmp_path / "releases/unfinished/static/half.css").write_text("half")
    assert sorted(unite(tmp_path, "old", dry=True)) == ["gone.css", "site.css"] and not (tmp_path / "static").exists()
    assert sorted(unite(tmp_path, "old")) == ["gone.css", "site.css"]
    read = {path.name: path.read_text() for path in (tmp_path / "static").iterdir()}
    assert read == {"site.css": "old", "gone.css": "gone"}
    assert not unite(tmp_path, "old")
    assert unite(tmp_path, "newer") == ["site.css"]
    assert (tmp_path / "static/site.css").read_text() == "newer"


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    release = complete(tmp_path, "r1")
    (release / "static/x").write_text("file")
    unite(tmp_path, "r1")
    (release / "static/x").unlink()
    (release / "static/x").mkdir()
    (release / "static/x/y").write_text("deeper")
    unite(tmp_path, "r1")
    assert (tmp_path / "static/x/y").read_text() == "deeper"
    assert not unite(tmp_path, "r1")


def test_second_run_waits_for_the_lock_and_says_who_has_it(tmp_path: Path) -> None:
    with store.deploy_lock(str(tmp_path)):
        assert (tmp_path / "deploy.lock").stat().st_mode & 0o077 == 0, "whoever can open it can lock it"
        with (
            pytest.raises(store.LockedError, match="another run has been at work in .* for 0 s"),
            store.deploy_lock(str(tmp_path), timeout=0),
        ):
            pass
    with store.deploy_lock(str(tmp_path), timeout=0):
        pass


def test_links_are_changed_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "x.new").symlink_to("left by a run that was killed")
    store.point(str(tmp_path / "x"), "a")
    store.point(str(tmp_path / "x"), "b")
    assert os.readlink(tmp_path / "x") == "b" and len(list(tmp_path.iterdir())) == 1


PLAN: dict[str, Any] = {"pending": [], "destructive": [], "warnings": [], "limits": {}, "unknown": [], "conflicts": []}
PENDING = [{"database": "default", "migration": "shop.0001_initial", "atomic": True}]
MISSING = 'django.db.utils.ProgrammingError: relation "shop_product" does not exist\nLINE 1: SELECT'


class Answer:
    """A command that writes a plan and ends well."""

    plan: dict[str, Any] | None = None
    last: Any = None
    timed_out = False

    def __init__(self, **options: Any) -> None:
        self.options = options
        type(self).last = self

    def run(self) -> Any:
        """Write the plan."""
        text = f"{MARKER}{json.dumps(self.plan)}\n" if self.plan is not None else "Traceback"
        return SimpleNamespace(output=text, timed_out=self.timed_out)


def judged(folder: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any] | None, **allowed: bool) -> Any:
    """Return a build whose release answers with `plan`."""
    made = make(folder)
    settings = {"command": ["migrate"], "apply": True, "destructive": False, "conflicts": False}
    made.module.params["migrations"] = settings | allowed
    monkeypatch.setattr(build, "AppCommand", Answer)
    monkeypatch.setattr(Answer, "plan", None if plan is None else PLAN | plan)
    made.judge_migrations()
    return made


@pytest.mark.parametrize(
    ("kind", "said"),
    [("destructive", "django_app_migrate_destructive"), ("conflicts", "django_app_allow_schema_conflicts")],
)
def test_release_that_would_be_refused_is_not_built_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    found = {kind: [{"database": "default", "migration": "shop.0002_x", "text": "removes column shop_product.name"}]}
    with pytest.raises(build.BuildError, match=f"(?s)removes column shop_product.name.*{said}"):
        judged(tmp_path, monkeypatch, found)
    assert judged(tmp_path, monkeypatch, found, **{kind: True}).plan[kind]
    # It does not pass the check either, which says why.
    assert judged(tmp_path, monkeypatch, None).plan is None


def test_question_of_migrations_has_the_limits_of_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = judged(tmp_path, monkeypatch, {})
    options = Answer.last.options
    assert options["nice"] == made.module.params["nice"]
    assert 1 <= options["timeout"] <= made.module.params["timeout"]
    monkeypatch.setattr(Answer, "timed_out", True)
    with pytest.raises(build.BuildError, match="(?s)time limit of 60 s.*ask the release for its migrations"):
        judged(tmp_path, monkeypatch, None)


@pytest.mark.parametrize(
    ("pending", "output", "deferred"),
    [
        (PENDING, MISSING, True),
        (PENDING, "sqlite3.OperationalError: no such table: shop_product", True),
        (PENDING, "psycopg.errors.UndefinedColumn: column shop_product.name does not exist", True),
        ([], MISSING, False),
        (PENDING, "SystemCheckError: (security.W004)", False),
    ],
)
def test_check_that_reads_tables_waits_for_the_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pending: list[dict[str, Any]], output: str, deferred: bool
) -> None:
    made = judged(tmp_path, monkeypatch, {"pending": pending})

    def fail(step: str, command: list[str], **_: Any) -> None:
        raise build.BuildError(output)

    monkeypatch.setattr(made, "run", fail)
    if deferred:
        made.check(["python", "manage.py", "check"])
        assert made.deferred_check == ["python", "manage.py", "check"]
    else:
        with pytest.raises(build.BuildError):
            made.check(["python", "manage.py", "check"])
