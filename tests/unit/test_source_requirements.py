"""plugin_utils/source/requirements.py: one reader of requirement files, for preflight and the build."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.slipway.kit.plugins.plugin_utils.source import requirements as reader


def read(files: dict[str, str], *requirements: str, **selection: Any) -> Any:
    """Read requirement files of a source with these files."""
    return reader.read_requirements(reader.Selection(list(requirements), **selection), files.get)


HASHED = (
    "a==1 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n# x\nb==2 ; python_version < '4' --hash=sha256:2  # via a\n"
)


@pytest.mark.parametrize(
    ("files", "unlocked"),
    [
        ({"r.txt": HASHED}, []),
        ({"r.txt": f"--index-url https://index.example.com\n{HASHED}"}, []),
        ({"r.txt": "-r base.txt\n-c base.txt\n", "base.txt": HASHED}, []),
        ({"r.txt": f"{HASHED}c==3\n"}, ["c==3 (r.txt)"]),
        ({"r.txt": f"{HASHED}-r base.txt\n", "base.txt": "c\n"}, ["c (base.txt)"]),
        ({"r.txt": f"{HASHED}-rbase.txt\n", "base.txt": "c\n"}, ["c (base.txt)"]),
        ({"r.txt": f"{HASHED}--requirement=sub/a.txt", "sub/a.txt": "-r b.txt", "sub/b.txt": "c"}, ["c (sub/b.txt)"]),
        ({"r.txt": f"{HASHED}-c base.txt\n", "base.txt": "c\n"}, ["c (base.txt)"]),
        ({"r.txt": f"{HASHED}--constraint base.txt\n", "base.txt": "c\n"}, ["c (base.txt)"]),
        ({"r.txt": f"{HASHED}-e .\n"}, ["-e . (r.txt)"]),
        ({"r.txt": f"{HASHED}--editable=./lib\n"}, ["-e ./lib (r.txt)"]),
        ({"r.txt": f"{HASHED}-r https://example.com/r.txt\n"}, ["what https://example.com/r.txt names (r.txt)"]),
        (
            {"r.txt": f"{HASHED}g @ git+https://git.example.com/g@v1\n"},
            ["g @ git+https://git.example.com/g@v1 (r.txt)"],
        ),
        ({"r.txt": "-r r.txt\nc\n"}, ["c (r.txt)"]),
    ],
)
def test_each_requirement_without_a_hash_is_found(files: dict[str, str], unlocked: list[str]) -> None:
    found = read(files, "r.txt")
    assert found.unlocked == unlocked
    assert found.locked == ([] if unlocked else ["r.txt"])
    assert not found.missing and not found.faults


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("-e .", True),
        (".", True),
        ("./vendor/x", True),
        ("vendor/x", True),
        ("vendor/x[extra]; python_version > '3'", True),
        ("x @ file:///a", True),
        ("file:x", True),
        ("x @ ./x", True),
        ("wheels/x-1-py3-none-any.whl --hash=sha256:0", True),
        ("x-1-py3-none-any.whl", True),
        ("-r more.txt", True),
        ("django==5.2", False),
        ("django[argon2]>=5.2 ; platform_machine != 'a/b'", False),
        ("x @ https://example.com/x.whl", False),
        ("-e git+https://git.example.com/x.git#egg=x", False),
        ("--find-links ./wheels", False),
    ],
)
def test_what_is_installed_from_the_source_is_known(text: str, local: bool) -> None:
    found = read({"r.txt": f"a==1\n{text}\n", "more.txt": "--editable ./x\n"}, "r.txt")
    assert found.local is local
    assert "r.txt" in found.files and ("more.txt" in found.files) is ("more" in text)


def test_included_file_that_is_missing_is_told() -> None:
    found = read({"requirements/prod.txt": "-r base.txt\n"}, "requirements/prod.txt")
    assert (found.missing, found.locked) == (["requirements/base.txt"], [])
    assert read({}, "r.txt").missing == [], "that the selected file is missing is told elsewhere"


@pytest.mark.parametrize("user", ["oauth2:secret", "${TOKEN}", "x-access-token:${TOKEN}"])
def test_credentials_in_a_git_url_are_refused(user: str) -> None:
    for line in (f"x @ git+https://{user}@git.example.com/x.git", f"-e git+https://{user}@git.example.com/x.git#egg=x"):
        ((variable, why),) = read({"r.txt": line}, "r.txt").faults
        assert variable == "requirements" and "git+https://***@git.example.com/x.git" in why
        assert "django_app_build_credentials" in why and user not in why


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://deploy:s3cr:et@files.example.com/x.whl", "https://***@files.example.com/x.whl"),
        ("https://s3cret@files.example.com/x-1.tar.gz#sha256=0", "https://***@files.example.com/x-1.tar.gz#sha256=0"),
        ("HTTP://deploy:s3cret@files.example.com:8080/x.whl", "HTTP://***@files.example.com:8080/x.whl"),
        ("git+https://deploy:s3@cret@git.example.com/x.git@v1", "git+https://***@git.example.com/x.git@v1"),
        ("git+https://${s3cret}@git.example.com/x.git", "git+https://***@git.example.com/x.git"),
        ("git+ssh://git:s3cret@git.example.com/x.git", "git+ssh://***@git.example.com/x.git"),
        ("ssh://git:s3cret@git.example.com/x.git", "ssh://***@git.example.com/x.git"),
        ("hg+http://s3cret@hg.example.com/x", "hg+http://***@hg.example.com/x"),
        ("svn+https://deploy:s3cret@svn.example.com/x", "svn+https://***@svn.example.com/x"),
        ("ftp://deploy:s3cret@files.example.com/x.zip", "ftp://***@files.example.com/x.zip"),
    ],
)
def test_credentials_in_any_url_are_refused_and_never_shown(url: str, shown: str) -> None:
    for line in (url, f"x @ {url}", f"-e {url}", f"--editable={url}", f"-r {url}", f"--constraint {url}"):
        found = read({"r.txt": f"{HASHED}{line}\n"}, "r.txt")
        ((variable, why),) = found.faults
        assert variable == "requirements" and shown in why, line
        (unlocked,) = found.unlocked
        assert shown in unlocked, line
        assert not [word for word in ("s3", "3cr", "deploy") if word in why.partition("which")[0] + unlocked], line
    found = read({}, packages=[f"x @ {url}"])
    assert found.unlocked == [f"x @ {shown}"] and [variable for variable, _ in found.faults] == ["python_packages"]


@pytest.mark.parametrize(
    "url",
    [
        "git+ssh://git@git.example.com/x.git@v1",
        "ssh://git@git.example.com:2222/x.git",
        "git+https://git.example.com/x.git@v1#egg=x",
        "https://files.example.com/@scope/x.whl?by=a@b",
        "git+https://git.example.com:8443/x.git@main",
    ],
)
def test_url_without_credentials_is_shown_as_it_is(url: str) -> None:
    found = read({"r.txt": f"x @ {url}\n"}, "r.txt")
    assert found.unlocked == [f"x @ {url} (r.txt)"] and not found.faults


def test_credentials_in_other_places_are_refused_too() -> None:
    address = "https://oauth2:secret@git.example.com/x.git"
    texts = (
        f'[project]\nname = "x"\ndependencies = ["x @ git+{address}"]\n',
        f'[project]\nname = "x"\n[tool.uv.sources]\nx = {{git = "{address}"}}\n',
    )
    for text in texts:
        found = read({"pyproject.toml": text}, "pyproject.toml")
        assert [variable for variable, _ in found.faults] == ["requirements"], text
        assert "secret" not in str(found.faults)
    ((variable, why),) = read({}, packages=[f"x @ git+{address}", "https://index.example.com/x.whl"]).faults
    assert variable == "python_packages" and "secret" not in why


PYPROJECT = """
[project]
name = "shop"
dependencies = ["django"]
optional-dependencies = {pg-pool = ["psycopg"]}
[dependency-groups]
prod = ["gunicorn"]
"""
GROUPS = '[dependency-groups]\nprod = ["gunicorn"]\ntest = ["pytest"]\n'


@pytest.mark.parametrize(
    ("text", "selection", "faults"),
    [
        (PYPROJECT, {"extras": ["PG_pool"], "groups": ["prod"]}, []),
        (PYPROJECT, {"extras": ["pg"]}, [("extras", "not in pyproject.toml: pg; it has pg-pool")]),
        (PYPROJECT, {"groups": ["a", "b"]}, [("dependency_groups", "not in pyproject.toml: a, b; it has prod")]),
        ('[project]\nname = "x"\ndynamic = ["optional-dependencies"]', {"extras": ["pg"]}, []),
        (GROUPS, {"groups": ["prod"]}, []),
        (GROUPS, {}, [("requirements", "has no [project], and so no dependencies: name some .* (prod, test)")]),
        ("[tool.poetry]\n", {}, [("requirements", "install from an exported requirements file")]),
        ("[project\n", {}, [("requirements", "pyproject.toml is not valid TOML")]),
        (GROUPS, {"groups": ["prod"], "install_project": True}, [("install_project", "has no project to install")]),
    ],
)
def test_selection_is_held_to_pyproject(text: str, selection: dict[str, Any], faults: list[tuple[str, str]]) -> None:
    found = read({"pyproject.toml": text}, "pyproject.toml", **selection)
    assert [variable for variable, _ in found.faults] == [variable for variable, _ in faults]
    for (_, why), (_, words) in zip(found.faults, faults, strict=True):
        assert all(part in why for part in words.split(" .* ")), why
    assert found.no_project == (["pyproject.toml"] if text in (GROUPS, "[tool.poetry]\n") else [])


@pytest.mark.parametrize(
    ("sources", "local", "git"),
    [
        ("lib = {workspace = true}", True, False),
        ('lib = {path = "lib", editable = true}', True, False),
        ('lib = {git = "https://git.example.com/lib"}', False, True),
        ('lib = {index = "private"}', False, False),
    ],
)
def test_sources_of_uv_are_known(sources: str, local: bool, git: bool) -> None:
    found = read({"pyproject.toml": f"{PYPROJECT}[tool.uv.sources]\n{sources}\n"}, "pyproject.toml")
    assert (found.local, found.git) == (local, git)


LOCK = """
version = 1
requires-python = ">=3.11"
[[package]]
name = "shop"
source = {{ virtual = "." }}
[[package]]
name = "six"
source = {{ registry = "https://index.example.com/simple" }}
wheels = [{{ url = "https://index.example.com/six.whl", hash = "sha256:0" }}]
[[package]]
name = "other"
source = {{ {source} }}
{archive}
"""


@pytest.mark.parametrize(
    ("source", "archive", "local", "unlocked"),
    [
        ('editable = "members/other"', "", True, []),
        ('directory = "other"', "", True, []),
        ('path = "other.whl"', 'wheels = [{ filename = "other.whl", hash = "sha256:1" }]', True, []),
        ('git = "https://git.example.com/other?rev=main#0a0b"', "", False, []),
        (
            'registry = "https://flat.example.com"',
            'sdist = { url = "https://x/other.tar.gz" }',
            False,
            ["other (uv.lock)"],
        ),
    ],
)
def test_lock_of_uv(source: str, archive: str, local: bool, unlocked: list[str]) -> None:
    files = {"uv.lock": LOCK.format(source=source, archive=archive), "pyproject.toml": PYPROJECT}
    found = read(files, "uv.lock", groups=["prod"])
    assert (found.local, found.unlocked, found.faults, found.git) == (local, unlocked, [], "git =" in source)
    assert found.files.keys() == {"uv.lock", "pyproject.toml"} and found.pythons == {"uv.lock": ">=3.11"}
    assert [variable for variable, _ in read(files, "uv.lock", extras=["none"]).faults] == ["extras"]


def test_lock_of_a_workspace_is_above_its_member() -> None:
    files = {
        "../uv.lock": LOCK.format(source='editable = "libs/core"', archive=""),
        "../pyproject.toml": '[tool.uv.workspace]\nmembers = ["backend", "libs/*"]\n',
        "pyproject.toml": PYPROJECT,
    }
    found = read(files, "../uv.lock", extras=["pg-pool"], groups=["prod"])
    assert (found.faults, found.local) == ([], True) and found.files.keys() == files.keys()


def test_lock_of_uv_needs_its_project() -> None:
    ((variable, why),) = read({"back/uv.lock": "version = 1\n"}, "back/uv.lock").faults
    assert (variable, why) == ("requirements", "back/uv.lock needs the pyproject.toml beside it, which is missing")


def test_pylock() -> None:
    text = """
lock-version = "1.0"
requires-python = ">=3.12"
[[packages]]
name = "six"
wheels = [{url = "https://x/six.whl", hashes = {sha256 = "0"}}]
[[packages]]
name = "other"
sdist = {url = "https://x/other.tar.gz"}
[[packages]]
name = "lib"
directory = {path = "lib"}
[[packages]]
name = "g"
vcs = {type = "git", url = "https://x/g", commit-id = "0a"}
"""
    found = read({"pylock.prod.toml": text}, "pylock.prod.toml")
    assert (found.unlocked, found.local, found.git) == (["other (pylock.prod.toml)"], True, True)
    assert found.pythons == {"pylock.prod.toml": ">=3.12"}


@pytest.mark.parametrize(
    ("description", "version"),
    [
        ("v1.2.3-0-gabc", "1.2.3"),
        ("1.2-0-gabc", "1.2"),
        ("shop-2.0rc1-0-gabc", "2.0rc1"),
        ("v1.2.3-4-gabc", "1.2.4.dev4+gabc"),
        ("release/1.2-1-gabc", "1.3.dev1+gabc"),
        ("v2.0rc1-5-gabc", "2.0rc2.dev5+gabc"),
        ("stable-3-gabc", ""),
        ("", ""),
    ],
)
def test_version_that_a_description_of_git_stands_for(description: str, version: str) -> None:
    assert reader.version_of(description) == version
