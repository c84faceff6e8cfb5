"""roles/django_app/tasks/preflight.yml: what cannot be built is refused, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT
from test_preflight import inspect_role, root_of

ROLE = ROOT / "roles/django_app"
HOOK = {"name": "x", "when": "after_switch", "command": ["true"]}
SOUND_SOURCE: dict[str, Any] = {
    **{"digest": "d", "description": "there", "error": "", "variable": "", "run": "r", "scm": {}, "environment": ""},
    **{"missing": [], "unlocked": [], "faults": []},
    "installation": {"files": {}, "locked": [], "local": False, "no_project": [], "git": False},
}


@pytest.fixture
def faults_of(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., list[Any]]:
    """Return a function that gives the faults of the shipped example with variables of the role changed."""

    def faults(**changed: Any) -> list[Any]:
        source = SOUND_SOURCE | changed.pop("found", {})
        variables = {f"django_app_{name}": value for name, value in changed.items()}
        return inspect_role(ROLE, variables_for(ROLE, "12", __django_app_source=source, **variables))

    return faults


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"source_type": "git", "source": "git@git.example.com:a/b.git", "git_key": "-----BEGIN X\nx\n-----END X\n"},
        {"source_type": "archive", "source": "https://example.com/a.zip", "archive_checksum": "sha256:" + "0a" * 32},
        {"source_type": "package", "source": "", "python_packages": ["ara[server]==1.8.0", "gunicorn"]},
        {"requirements": ["../uv.lock"], "directory": "backend"},
        {"requirements": ["pyproject.toml", "requirements/base.txt"], "extras": ["a"], "dependency_groups": ["b"]},
        {"files": [{"path": "/etc/x/y.conf", "content": "x", "mode": "0640"}, {"path": "local.py", "content": "x"}]},
        {"hooks": [HOOK | {"every_host": True, "environment": {"A": "b"}}, HOOK | {"name": "y"}]},
        {"static_root": "venv/lib/python3*/site-packages/a/static", "static_root_variable": ""},
        {"check_command": [], "migrate": False, "migrate_command": []},
        {"packages_by_release": {"bookworm": ["libfoo1"], "trixie": ["libfoo2"]}},
        {"build_platform": "bookworm x86_64"},
        {"media": "local", "media_hosts": ["www"]},
        {"media": "shared", "media_hosts": ["app1", "app2"]},
        {"media": "elsewhere", "media_hosts": ["app1", "app2"]},
        {"static_only": True, "build_platform": "trixie x86_64"},
        {"include_ignored": ["frontend/dist", "a.css"]},
        {"python": "/opt/python3.14/bin/python3"},
        {"build_environment": {"CFLAGS": "-O2", "KEY": "a\nb", "EMPTY": ""}, "build_nice": 0, "build_timeout": 60},
        {"build_credentials": [{"host": "git.example.com:8443", "user": "oauth2", "password": "x:/@"}]},
        {"build_git_key": "-----BEGIN X\nx\n-----END X\n", "require_hashes": True},
    ],
    ids=lambda variables: ",".join(variables) or "the example",
)
def test_what_can_be_built_passes(faults_of: Callable[..., list[Any]], variables: dict[str, Any]) -> None:
    assert faults_of(**variables) == []


@pytest.mark.parametrize(
    ("variable", "variables", "why"),
    [
        ("django_app_source", {"source": ""}, "is empty; write the folder on the control node"),
        ("django_app_source", {"source_type": "git", "source": ""}, "write the URL of the repository"),
        ("django_app_source", {"source_type": "package", "python_packages": ["a"]}, "must be empty with"),
        ("django_app_source", {"found": {"variable": "django_app_source", "error": "is away"}}, "is away"),
        ("django_app_version", {"found": {"variable": "django_app_version", "error": "no tag"}}, "no tag"),
        ("django_app_source_type", {"found": {"variable": "django_app_source_type", "error": "no git"}}, "no git"),
        (
            "django_app_archive_checksum",
            {"found": {"variable": "django_app_archive_checksum", "error": "is not that"}},
            "is not that",
        ),
        ("django_app_archive_checksum", {"archive_checksum": "md5:x"}, "must be sha256:"),
        ("", {"git_key": "ssh-ed25519 AAAA"}, "django_app_git_key must be a private key"),
        ("", {"git_key": None}, "django_app_git_key must be a private key"),
        ("django_app_directory", {"directory": "../x"}, "without .."),
        ("django_app_directory", {"directory": "a", "found": {"missing": ["a", "manage.py"]}}, "is no folder of there"),
        ("django_app_manage", {"manage": []}, "must have 1 or more elements"),
        ("django_app_manage", {"found": {"missing": ["manage.py"]}}, "there has no manage.py"),
        ("django_app_requirements", {"found": {"missing": ["requirements.txt"]}}, "requirements.txt: not in there"),
        ("django_app_requirements", {"found": {"missing": ["sub/base.txt"]}}, "sub/base.txt: not in there"),
        ("django_app_requirements", {"requirements": ["poetry.lock"]}, "that end in .txt"),
        ("django_app_requirements", {"requirements": ["../r.txt"]}, "must be without .., but for the uv.lock"),
        ("django_app_requirements", {"requirements": ["a/../../uv.lock"]}, "must be without .., but for the uv.lock"),
        ("django_app_python_packages", {"source_type": "package", "source": ""}, "name the package of the application"),
        ("django_app_python_packages", {"python_packages": ["a"], "install_command": ["b"]}, "is not installed where"),
        (
            "django_app_install_project",
            {"source_type": "package", "source": "", "python_packages": ["a"], "install_project": True},
            "there is no project to install",
        ),
        ("django_app_extras", {"extras": ["a"]}, "needs pyproject.toml or uv.lock"),
        ("django_app_dependency_groups", {"dependency_groups": ["a"]}, "needs pyproject.toml or uv.lock"),
        ("django_app_static_root", {"static_root": "/srv/static"}, "must be a folder in the release"),
        ("django_app_static_root", {"static_root": "src"}, "must be a folder below"),
        ("django_app_static_root", {"static_root": "a/../../b"}, "must be without .."),
        ("django_app_manage_environment", {"manage_environment": {"A": "b\r\nc"}}, "without NUL, carriage returns"),
        ("django_app_files", {"files": [{"path": "a/../b", "content": ""}]}, "has a path with .."),
        ("", {"files": [{"path": "a", "content": {"b": 1}}]}, "must be text"),
        ("django_app_static_root_variable", {"static_root_variable": None}, "must be the name of an environment"),
        ("", {"files": [{"path": "a", "content": ""}] * 2}, "two files of one path"),
        ("django_app_files", {"files": [{"path": "a", "content": "", "mode": "u=rw"}]}, "three or four octal digits"),
        ("", {"hooks": [HOOK, HOOK]}, "each needs a name of its own: x, x"),
        ("", {"hooks": [HOOK | {"when": "before_collectstatic", "every_host": True}]}, "take every_host out"),
        ("", {"hooks": [HOOK | {"when": "after_collectstatic", "once_per_site": True}]}, "take once_per_site out"),
        ("", {"hooks": [HOOK | {"environment": {"A-B": "x"}}]}, "environment needs names that a shell takes"),
        ("", {"packages_by_release": {"sid": ["libfoo1"]}}, "for each of bookworm and trixie"),
        ("django_app_migrate_command", {"migrate_command": []}, "set django_app_migrate: false"),
        ("django_app_migrate_statement_timeout", {"migrate_statement_timeout": -1}, "must be from 0 to"),
        ("django_app_media", {"media_hosts": ["app1", "edge1"]}, "on one of app1, edge1 and be missing on the others"),
        ("django_app_build_platform", {"build_platform": "trixie x86_64"}, "a release is built once"),
        ("django_app_include_ignored", {"include_ignored": ["../x"]}, "must be without .."),
        ("django_app_include_ignored", {"include_ignored": ["."]}, "and not all of it"),
        (
            "django_app_include_ignored",
            {"source_type": "git", "source": "git@git.example.com:a/b.git", "include_ignored": ["dist"]},
            "build it in a hook before_collectstatic",
        ),
        (
            "django_app_include_ignored",
            {"include_ignored": ["x"], "found": {"variable": "django_app_include_ignored", "error": "x is not in"}},
            "x is not in",
        ),
        *(
            (f"django_app_{name}", {"found": {"faults": [{"variable": f"django_app_{name}", "why": "a"}] * 2}}, "a; a")
            for name in ("requirements", "extras", "dependency_groups", "install_project", "python")
        ),
        ("django_app_python", {"python": "python3.14"}, "must be the absolute path"),
        ("django_app_python", {"python": "/opt/my python/bin/python3"}, "must be the absolute path"),
        ("django_app_python", {"python": "/home/ops/.local/bin/python3"}, "services cannot see"),
        ("django_app_build_nice", {"build_nice": 20}, "must be from 0 to 19"),
        ("django_app_build_nice", {"build_nice": -1}, "must be from 0 to 19"),
        ("django_app_build_timeout", {"build_timeout": 0}, "must be from 60 to"),
        ("", {"build_environment": {"A-B": "x"}}, "django_app_build_environment needs names"),
        ("", {"build_environment": {"A": 1}}, "django_app_build_environment needs names"),
        ("django_app_build_environment", {"build_environment": {"A": "b\rc"}}, "text without NUL, carriage returns"),
        (
            "django_app_build_credentials",
            {"build_credentials": [{"host": "https://x.example.com", "user": "a", "password": "b"}]},
            "must be the name of a server",
        ),
        (
            "django_app_build_credentials",
            {"build_credentials": [{"host": "x.example.com", "user": "a", "password": "b c"}]},
            "must be a password or token without spaces",
        ),
        ("", {"build_git_key": "ssh-ed25519 AAAA"}, "django_app_build_git_key must be a private key"),
        (
            "django_app_require_hashes",
            {"require_hashes": True, "found": {"unlocked": ["a (base.txt)", "-e . (r.txt)"]}},
            "refuses what comes without a hash: a (base.txt), -e . (r.txt)",
        ),
        (
            "django_app_require_hashes",
            {"require_hashes": True, "install_command": ["make"]},
            "cannot hold what django_app_install_command installs",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    faults_of: Callable[..., list[Any]], variable: str, variables: dict[str, Any], why: str
) -> None:
    faults = faults_of(**variables)
    assert [(root_of(fault), why in fault.why) for fault in faults] == [(variable, True)], faults


def test_password_of_a_url_is_not_shown(faults_of: Callable[..., list[Any]]) -> None:
    found = {"variable": "django_app_source", "error": "cannot be fetched"}
    faults = faults_of(source_type="git", source="https://user:MARKER@example.com/a.git", found=found)
    assert [fault.why for fault in faults] == ["django_app_source cannot be fetched"]
    assert "MARKER" not in str(faults)


def test_python_that_cannot_be_run_on_a_host_is_refused(
    faults_of: Callable[..., list[Any]], variables_for: Callable[..., dict[str, Any]]
) -> None:
    path = "/opt/python3.14/bin/python3"
    known = variables_for(ROLE, "12", __django_app_source=SOUND_SOURCE, django_app_python=path)
    for version, why in (("", "cannot be run on this host"), ("3.14.1", "")):
        facts = known["ansible_facts"] | {"preflight_reached": True, "preflight_python": {path: version}}
        faults = inspect_role(ROLE, known | {"ansible_facts": facts})
        assert [(fault.variable, why in fault.why) for fault in faults] == [("django_app_python", True)] * bool(why)


def test_secrets_of_the_build_are_not_shown(faults_of: Callable[..., list[Any]]) -> None:
    faults = faults_of(
        build_environment={"A": ["MARKER"], "B-C": "MARKER"},
        build_credentials=[{"host": "a b", "user": "MARKER", "password": "MARKER"}],
        build_git_key="MARKER",
    )
    assert len(faults) == 3 and "MARKER" not in str(faults)
