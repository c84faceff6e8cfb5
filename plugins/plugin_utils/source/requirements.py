"""Read what a source says about its installation: requirement files, pyproject.toml, uv.lock and pylock.toml.

    found = read_requirements(Selection(requirements=["requirements.txt"]), read)

`read` returns the text of a file by its path from the project's directory, None where the source has none. This is the
only reader of such files: preflight refuses by it, and the build installs by it.
"""

from __future__ import annotations

import ast
import configparser
import hashlib
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Reader = Callable[[str], str | None]

OPTION = re.compile(r"(?:-([rce])\s*=?\s*|--(requirement|constraint|editable)(?:\s*=\s*|\s+))(.*)")
OPTIONS = {"r": "requirement", "c": "constraint", "e": "editable"}
COMMENT = re.compile(r"(^|\s+)#.*$")
HASH = re.compile(r"\s--hash[=\s]")
ARCHIVE = re.compile(r"\.(whl|zip|tar\.(gz|bz2|xz)|tgz)$")
# What stands before the host in a URL. By ssh a user alone is no secret: the key is.
CREDENTIALS = re.compile(
    r"\b((?:[a-z][a-z0-9+.-]*\+)?ssh://)[^/\s?#:'\"]*:[^/\s?#'\"]+@"
    r"|\b((?!(?:[a-z][a-z0-9+.-]*\+)?ssh:)[a-z][a-z0-9+.-]*://)[^/\s?#'\"]+@",
    re.IGNORECASE,
)
PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
# Tools that take the version of a project from git.
SCM_TOOL = re.compile(
    r"setuptools[-_]scm|hatch-vcs|vcs-versioning|\bpbr\b|dynamic-versioning|versioningit|source\s*=\s*[\"'](?:vcs|scm)\b"
)


@dataclass(frozen=True)
class Selection:
    """What the variables of the role select for installation."""

    requirements: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    install_project: bool = False


@dataclass
class Requirements:
    """What the requirement files say.

    files      SHA-256 of each file that was read, by its path from the project's directory
    locked     those of the selected files in which each requirement has a hash, in included files too
    unlocked   the requirements without a hash, each with its file
    git        whether something is fetched from a git repository
    local      whether something is installed from the source itself
    missing    included files that the source does not have
    no_project the selected pyproject.toml files without a [project] table
    faults     what cannot be installed, as (variable without prefix, reason)
    pythons    the versions of Python that the source admits, by file
    name       the name of the project, empty if unknown
    scm        whether a tool takes the version of the project from git
    """

    files: dict[str, str] = field(default_factory=dict)
    locked: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)
    git: bool = False
    local: bool = False
    missing: list[str] = field(default_factory=list)
    no_project: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    pythons: dict[str, str] = field(default_factory=dict)
    name: str = ""
    scm: bool = False


class Document:
    """A TOML file that may be absent, broken or of another shape than expected."""

    def __init__(self, content: dict[str, Any]) -> None:
        """Take the parsed file."""
        self.content = content

    def table(self, *names: str) -> dict[str, Any]:
        """Return a table by its path, empty if there is none."""
        found: Any = self.content
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def tables(self, name: str) -> list[dict[str, Any]]:
        """Return an array of tables, empty if there is none."""
        found = self.content.get(name)
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def logical_lines(text: str) -> list[str]:
    """Return the lines of a requirements file without continuations, comments and blank lines."""
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    return [line for line in (COMMENT.sub("", line).strip() for line in lines) if line]


def mask_credentials(text: str) -> str:
    """Return a text without the users, passwords and tokens in its URLs."""
    return CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***@", text)


def is_local(requirement: str) -> bool:
    """Tell whether a requirement is a path in the source."""
    text = re.split(r"\s--hash|\s;|\s+--", requirement.partition(" @ ")[2] or requirement)[0].strip()
    if re.match(r"(?:\w+\s*@\s*)?file:", text):
        return True
    if "://" in text:
        return False
    path = text.partition("[")[0].partition(";")[0].strip()
    return path.startswith((".", "/")) or "/" in path or bool(ARCHIVE.search(path))


class Files:
    """The requirement files of one source, while they are read."""

    def __init__(self, selection: Selection, read: Reader) -> None:
        """Take what is selected, and how a file is read."""
        self._selection = selection
        self._read = read
        self.found = Requirements()

    def read_all(self) -> Requirements:
        """Read all selected files and the metadata of the project."""
        found = self.found
        for name in map(os.path.normpath, self._selection.requirements):
            base = os.path.basename(name)
            if base == "uv.lock":
                self._read_uv_lock(name)
            elif base.startswith("pylock") and base.endswith(".toml"):
                self._read_pylock(name)
            elif base.endswith(".toml"):
                self._read_pyproject(name)
            elif self._read_list(name, set()):
                found.locked.append(name)
        for package in self._selection.packages:
            found.unlocked.append(package)
            found.local |= is_local(package)
            found.git |= "git+" in package
            self._refuse_credentials("django_app_python_packages", package, "python_packages")
        self._read_project()
        found.local |= self._selection.install_project
        found.unlocked = list(dict.fromkeys(map(mask_credentials, found.unlocked)))
        found.missing = list(dict.fromkeys(found.missing))
        return found

    def _text(self, name: str) -> str | None:
        """Return the text of a file and note what it is."""
        text = self._read(name)
        if text is not None:
            self.found.files[name] = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        return text

    def _document(self, name: str) -> Document | None:
        """Return a TOML file, None where there is none."""
        text = self._text(name)
        if text is None:
            return None
        try:
            return Document(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            self.found.faults.append(("requirements", f"{name} is not valid TOML: {error}"))
            return None

    def _read_list(self, name: str, seen: set[str]) -> bool:
        """Read a requirements file with those that it includes; return whether each requirement has a hash."""
        if name in seen:
            return True
        seen.add(name)
        text = self._text(name)
        if text is None:
            if len(seen) > 1:
                self.found.missing.append(name)
            return False
        requirements, locked = 0, True
        self.found.git |= "git+" in text
        for line in logical_lines(text):
            option = OPTION.fullmatch(line)
            kind = OPTIONS.get(option[1] or "", option[2]) if option else ""
            if not option:
                if line.startswith("-"):
                    continue  # an index, a format, ...
                requirements += 1
                self.found.local |= is_local(line)
                self._refuse_credentials(name, line)
                if not HASH.search(line):
                    locked = False
                    self.found.unlocked.append(f"{line} ({name})")
            elif kind == "editable":
                locked = False
                self.found.local |= "://" not in option[3] or option[3].startswith("file:")
                self._refuse_credentials(name, line)
                self.found.unlocked.append(f"-e {option[3]} ({name})")
            elif "://" in option[3] or "$" in option[3]:
                locked = False
                self._refuse_credentials(name, line)
                self.found.unlocked.append(f"what {option[3]} names ({name})")
            else:
                included = os.path.normpath(os.path.join(os.path.dirname(name), option[3].strip("\"'")))
                requirements += 1
                locked &= self._read_list(included, seen)
        return locked and requirements > 0

    def _refuse_credentials(self, name: str, line: str, variable: str = "requirements") -> None:
        if CREDENTIALS.search(line):
            self.found.faults.append(
                (
                    variable,
                    f"{name} has credentials in a URL ({mask_credentials(line)}), which logs and process lists "
                    "show: take them out of the URL and name them in django_app_build_credentials",
                )
            )

    def _read_pylock(self, name: str) -> None:
        """Read a pylock.toml (PEP 751)."""
        document = self._document(name)
        if document is None:
            return
        self._note_python(name, document.content.get("requires-python"))
        for package in document.tables("packages"):
            self.found.git |= "vcs" in package
            self.found.local |= "directory" in package or "path" in str(package.get("archive", ""))
            archives = [*package.get("wheels", []), package.get("sdist"), package.get("archive")]
            if any(isinstance(archive, dict) and not archive.get("hashes") for archive in archives):
                self.found.unlocked.append(f"{package.get('name')} ({name})")

    def _read_uv_lock(self, name: str) -> None:
        """Read a uv.lock and the pyproject.toml beside it."""
        document = self._document(name)
        if document is None:
            return
        self._note_python(name, document.content.get("requires-python"))
        # A lock above the project is that of a workspace, of which the project is a member.
        beside = os.path.join(os.path.dirname(name), "pyproject.toml")
        member = name.startswith("../") and self._read("pyproject.toml") is not None
        if member:
            self._text(beside)
            beside = "pyproject.toml"
        project = self._document(beside)
        if project is None:
            self.found.faults.append(("requirements", f"{name} needs the pyproject.toml beside it, which is missing"))
        else:
            self._check_selection(beside, project)
        for package in document.tables("package"):
            source = package.get("source")
            kinds = source.keys() if isinstance(source, dict) else set()
            self.found.git |= "git" in kinds
            self.found.local |= bool(kinds & {"editable", "directory", "path"})
            archives = [*package.get("wheels", []), package.get("sdist")]
            if any(isinstance(archive, dict) and not archive.get("hash") for archive in archives):
                self.found.unlocked.append(f"{package.get('name')} ({name})")

    def _read_pyproject(self, name: str) -> None:
        """Read the dependencies of a pyproject.toml."""
        document = self._document(name)
        if document is None:
            return
        self.found.unlocked.append(f"what {name} names")
        project = document.table("project")
        if not project:
            self.found.no_project.append(name)
        if not project and not self._selection.groups:
            groups = ", ".join(document.table("dependency-groups"))
            way_out = (
                f"name some of its dependency groups in django_app_dependency_groups ({groups})"
                if groups
                else "install from an exported requirements file, or with django_app_install_command"
            )
            self.found.faults.append(("requirements", f"{name} has no [project], and so no dependencies: {way_out}"))
        self._check_selection(name, document)
        lists = [project.get("dependencies"), *document.table("project", "optional-dependencies").values()]
        lists += document.table("dependency-groups").values()
        texts = [text for entries in lists if isinstance(entries, list) for text in entries if isinstance(text, str)]
        sources = str(document.table("tool", "uv", "sources").values())
        for text in texts:
            self._refuse_credentials(name, text)
        self._refuse_credentials(name, sources)
        self.found.git |= "'git':" in sources or any("git+" in text for text in texts)
        self.found.local |= (
            any(is_local(text) for text in texts)
            or bool(re.search(r"'(path|workspace|editable)':", sources))
            or bool({"dependencies", "optional-dependencies"} & set(project.get("dynamic", [])))
        )

    def _check_selection(self, name: str, document: Document) -> None:
        """Refuse extras and dependency groups that a pyproject.toml does not have."""
        there = document.table("project", "optional-dependencies")
        if "optional-dependencies" not in document.table("project").get("dynamic", []):
            self._check_names("extras", name, self._selection.extras, list(there))
        self._check_names("dependency_groups", name, self._selection.groups, list(document.table("dependency-groups")))

    def _check_names(self, variable: str, file: str, wanted: list[str], there: list[str]) -> None:
        known = set(map(canonicalize_name, there))
        unknown = [name for name in wanted if canonicalize_name(name) not in known]
        if unknown:
            has = ", ".join(there) or "none"
            self.found.faults.append((variable, f"not in {file}: {', '.join(unknown)}; it has {has}"))

    def _note_python(self, name: str, specifier: Any) -> None:
        if isinstance(specifier, str) and specifier.strip():
            self.found.pythons[name] = specifier.strip()

    def _read_project(self) -> None:
        """Read the metadata of the project itself: its name, the Python that it requires, where its version is from."""
        texts = {name: self._read(name) for name in PROJECT_FILES}
        there = {name: text for name, text in texts.items() if text is not None}
        buildable = bool({"setup.cfg", "setup.py"} & there.keys())
        if "pyproject.toml" in there:
            try:
                document = Document(tomllib.loads(there["pyproject.toml"]))
            except tomllib.TOMLDecodeError:
                document = Document({})
            self._note_python("pyproject.toml", document.table("project").get("requires-python"))
            poetry = document.table("tool", "poetry")
            if not document.table("project").get("requires-python"):
                self._note_python("pyproject.toml", poetry_specifier(document.table("tool", "poetry", "dependencies")))
            self.found.name = str(document.table("project").get("name") or poetry.get("name") or "")
            buildable |= bool(document.table("project") or poetry or document.table("tool", "flit"))
        if "setup.cfg" in there:
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            try:
                parser.read_string(there["setup.cfg"])
            except configparser.Error:
                pass
            else:
                self._note_python("setup.cfg", parser.get("options", "python_requires", fallback=""))
                self.found.name = self.found.name or parser.get("metadata", "name", fallback="")
        if "setup.py" in there:
            keywords = setup_keywords(there["setup.py"])
            self._note_python("setup.py", keywords.get("python_requires", ""))
            self.found.name = self.found.name or keywords.get("name", "")
        self.found.scm = any(SCM_TOOL.search(text) for text in there.values())
        if self._selection.install_project and not buildable:
            self.found.faults.append(
                (
                    "install_project",
                    "the source has no project to install: neither pyproject.toml with [project] nor setup.py",
                )
            )


def setup_keywords(text: str) -> dict[str, str]:
    """Return the keyword arguments of setup() in a setup.py whose values are plain text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        keyword.arg: keyword.value.value
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) == "setup"
        for keyword in call.keywords
        if keyword.arg and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }


def poetry_specifier(dependencies: dict[str, Any]) -> str:
    """Return Poetry's constraint on Python as a specifier of PEP 440, empty where it cannot be told."""
    text = dependencies.get("python")
    if not isinstance(text, str) or "||" in text:
        return ""
    parts = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if match := re.fullmatch(r"\^\s*(\d+)(\.[\d.]+)?", part):
            parts.append(f">={match[1]}{match[2] or ''},<{int(match[1]) + 1}")
        elif match := re.fullmatch(r"~\s*(\d+)\.(\d+)(\.\d+)?", part):
            parts.append(f">={part.lstrip('~ ')},<{match[1]}.{int(match[2]) + 1}")
        else:
            parts.append(part)
    return ",".join(parts)


def refused_pythons(pythons: dict[str, str], version: str) -> list[str]:
    """Return the files that do not admit a version of Python, each with what it requires."""
    refused = []
    for name, specifier in pythons.items():
        try:
            admitted = SpecifierSet(specifier).contains(Version(version), prereleases=True)
        except (InvalidSpecifier, InvalidVersion):
            continue
        if not admitted:
            refused.append(f"{name} requires Python {specifier}")
    return refused


def version_of(description: str) -> str:
    """Return the version that `git describe --long` stands for, as setuptools-scm counts: the next one after a tag.

    `v1.2.3-0-gabc` is 1.2.3, `v1.2.3-4-gabc` is 1.2.4.dev4+gabc; what is no version gives an empty text.
    """
    tag, distance, commit = ([*description.rsplit("-", 2), "", ""])[:3]
    version = tagged_version(tag)
    if version is None or not distance.isdigit():
        return ""
    if distance == "0":
        return str(version)
    suffix = f".dev{distance}+{commit}"
    if version.pre:
        return f"{version.base_version}{version.pre[0]}{version.pre[1] + 1}{suffix}"
    *first, last = version.release
    return ".".join(map(str, [*first, last + 1])) + suffix


def tagged_version(tag: str) -> Version | None:
    """Return the version in the name of a tag or a directory, as v1.2.3, shop-1.2.3 or release/1.2.3."""
    match = re.search(r"(?:^|[-_/])[vV]?(\d.*)$", tag)
    try:
        return Version(match[1]) if match else None
    except InvalidVersion:
        return None


def read_requirements(selection: Selection, read: Reader) -> Requirements:
    """Read the requirement files and the metadata of a source."""
    return Files(selection, read).read_all()
