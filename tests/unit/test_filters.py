"""Filters: what PostgreSQL, systemd and a URL are given."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import shlex
import subprocess
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.kit.plugins.filter import slipway as filters
from ansible_collections.slipway.kit.plugins.filter import urls
from ansible_collections.slipway.kit.plugins.module_utils import probe

# Characters that mean something to a shell, to systemd, to a URL or to YAML.
AWKWARD = [
    "plain",
    " leading and trailing ",
    "#hash # in the middle",
    "$HOME ${HOME} $(id) `id`",
    "%i %% 100%",
    "'single' \"double\"",
    "back\\slash \\n \\\\ \\",
    "tab\there",
    "a=b;c&d|e<f>g*h?i[j]k{l}m~n!o",
    "grüße 日本語 🚀",
    "",
    '-----BEGIN PRIVATE KEY-----\nMIIE"$x`\\\n  A=b\n# no comment\n-----END PRIVATE KEY-----\n',
    "\n",
]


@pytest.mark.parametrize(
    ("password", "user", "verifier"),
    [
        # Each was set with ALTER ROLE on PostgreSQL 15, and psql logged in with the password.
        (
            "correct horse battery staple",
            "app",
            "SCRAM-SHA-256$4096:pcFoKTuSv1oOoLSYdim1dg==$"
            "wmbGzaefG6kTl4RwmzzC1Er3juTomHIkW3X8HvdU/B8=:VRbTWwuqZfUZ/MUWQY1xDeE58WDhe82GHKj09nmVM5A=",
        ),
        (
            'it\'s "q" $%#@\\/',
            "app",
            "SCRAM-SHA-256$4096:39ujZhqZ70VLzIeUwSjEtA==$"
            "RbGMzdfsinhSHKcgQJM6AUf7r13CiWPCrI7WrGoRWzA=:zQ1ED4wbWUK14tYXZyvxWhB9cPNVi/39wGNPnFKVunw=",
        ),
        (
            "\u2168 gr\xfc\xdfe\xa0\ufb01n",
            "app",
            "SCRAM-SHA-256$4096:3NV2feNxT6Y6xfWiWw0RWQ==$"
            "dan97k2Qs1uQ5bcpKaZ+dPhh/jTrf2ecRhmUL8rgmUs=:nT8FOgdKx7hn/FWY2XkbM6acGAjtmqPjP6+FlPVvVy0=",
        ),
        (
            "\u05d0\u05d1\u05d2",
            "app",
            "SCRAM-SHA-256$4096:yRog74MQ4PAR5vBI1262pQ==$"
            "j6KlbCbJOqlRy+SWDym4r2gLrBdnzS5htpvzbHokFBw=:ArTO7HBLEYr0QcgZfN2VNAmm/JBbfYUx6aztpStsy5Y=",
        ),
        (
            "\u2028 prohibited",
            "app",
            "SCRAM-SHA-256$4096:AqiohBeOfXjcO3KGVFY32Q==$"
            "FIPZ857xQ6HUb02dm5mBSjYEUrBYEnhcEWg49QEqdaM=:b+Y1xXwXysyFmsX76PzIEa/7KW3RGoBi6xPyH/vF8nE=",
        ),
    ],
)
def test_scram_verifier_is_one_that_postgresql_took(password: str, user: str, verifier: str) -> None:
    assert filters.scram_sha256(password, user) == verifier


def test_scram_verifier_is_that_of_the_rfc_for_its_salt() -> None:
    """RFC 7677, section 3, has no verifier, but a signature that follows from it."""
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    message = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = base64.b64encode(hmac.digest(server_key, message.encode(), "sha256"))
    assert signature == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

    ours = filters.scram_sha256("pencil", "user")
    match = re.fullmatch(r"SCRAM-SHA-256\$4096:([^$]+)\$([^:]+):(.+)", ours)
    assert match
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(match[1]), 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    assert base64.b64decode(match[2]) == hashlib.sha256(client_key).digest()
    assert base64.b64decode(match[3]) == hmac.digest(salted, b"Server Key", "sha256")


def test_scram_verifier_changes_with_password_and_user_alone() -> None:
    one = filters.scram_sha256("a password", "app")
    assert one == filters.scram_sha256("a password", "app")
    others = [filters.scram_sha256("another", "app"), filters.scram_sha256("a password", "other")]
    assert len({re.split(r"[:$]", verifier)[2] for verifier in [one, *others]}) == 3


@pytest.mark.parametrize("password", ["", "nul\0", None, 12])
def test_scram_refuses_what_is_no_password(password: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        filters.scram_sha256(password, "app")


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),  # the examples of RFC 4013, section 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),  # prohibited; PostgreSQL takes ASCII as it is
        ("\u0627\u0031", "\u0627\u0031"),  # fails the check of direction; PostgreSQL takes it as it is
        ("\u00a0é", " é"),
        ("\u00ad", "\u00ad"),  # nothing would be left
        ("é\u0221", "é\u0221"),  # not assigned in Unicode 3.2
        ("e\u0301", "é"),
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert filters.saslprep(password) == prepared


def read_as_systemd(text: str) -> dict[str, str]:
    """Read an EnvironmentFile as systemd's parse_env_file_internal() does for values in double quotes."""
    variables = {}
    # A value ends with its line, but for newlines within its quotes.
    lines = re.findall(r'^[A-Z_0-9]+="(?:[^"\\]|\\.)*"$', text, re.MULTILINE | re.DOTALL)
    assert "\n".join(lines) + "\n" == text
    for line in lines:
        name, _, rest = line.partition("=")
        assert rest[0] == rest[-1] == '"'
        value, characters = "", iter(rest[1:-1])
        for character in characters:
            if character == "\\":
                following = next(characters)
                character = following if following in '"\\`$' else f"\\{following}"
            else:
                assert character != '"'
            value += character
        variables[name] = value
    return variables


def test_environment_file_gives_systemd_each_value_as_written() -> None:
    wanted = {f"VALUE_{number}": value for number, value in enumerate(AWKWARD)}
    assert read_as_systemd(filters.environment_file(wanted)) == wanted


@pytest.mark.parametrize("value", AWKWARD)
def test_environment_file_gives_a_shell_each_value_as_written(value: str) -> None:
    script = f'{filters.environment_file({"VALUE": value})}printf %s "$VALUE"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


def test_environment_file_takes_numbers_and_booleans() -> None:
    assert filters.environment_file({"A": 1, "B": True, "C": False}) == 'A="1"\nB="true"\nC="false"\n'


@pytest.mark.parametrize(
    "variables",
    [
        *({name: "x"} for name in ("", "A B", "1A", "A-B", "Ä", "A\n", "A=B")),
        *({"A": value} for value in ("a\r\nb", "a\rb", "nul\0", "bell\a", None, ["list"], {"a": 1})),
        ["A=1"],
    ],
)
def test_environment_file_refuses(variables: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        filters.environment_file(variables)


def test_environment_file_does_not_tell_the_value_that_it_refuses() -> None:
    with pytest.raises(AnsibleFilterError) as raised:
        filters.environment_file({"A": "hidden\rvalue"})
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("password", [*AWKWARD, "/:@?#[]%"])
def test_url_quote_carries_a_password_through_a_url(password: str) -> None:
    url = urlsplit(f"redis://user:{filters.url_quote(password)}@host:6379/0")
    assert unquote(url.password or "") == password
    assert (url.hostname, url.port, url.path) == ("host", 6379, "/0")


WORDS = [
    "./run",
    "two words",
    "\"double\" and 'single'",
    "back\\slash\\",
    "100%",
    "$HOME ${A}",
    "%i",
    ";",
    "",
    "ä",
    "\\1",
]


def test_exec_words_gives_a_program_each_word_as_written() -> None:
    """Read back as systemd.service(5) says: quotes as a shell has them, then specifiers and variables."""
    line = filters.exec_words(WORDS)
    # No $ or % stands alone.
    assert not re.search(r"(?<!\$)\$(\$\$)*(?!\$)|(?<!%)%(%%)*(?!%)", line)
    assert [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)] == WORDS


@pytest.mark.parametrize("words", [["a\nb"], ["a\0b"], ["a\tb"], [1], "a b"])
def test_exec_words_refuses(words: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        filters.exec_words(words)


@pytest.mark.parametrize("text", ["plain", "a:b", "a\\b", "\\", ":", "a\\:b::"])
def test_pgpass_field_is_read_back_as_written(text: str) -> None:
    fields = re.findall(r"((?:\\.|[^:\\])*)(?::|$)", f"*:{filters.pgpass_field(text)}")
    assert [re.sub(r"\\(.)", r"\1", field) for field in fields[:2]] == ["*", text]


def test_unit_settings_are_lines_as_systemd_takes_them() -> None:
    said = filters.unit_settings(
        {"ProtectSystem": "strict", "PrivateTmp": True, "PrivateUsers": False, "CapabilityBoundingSet": [], "Nice": 5}
    )
    assert said == "ProtectSystem=strict\nPrivateTmp=yes\nPrivateUsers=no\nCapabilityBoundingSet=\nNice=5\n"
    # What a package's own unit says of a setting that takes several values would be added to.
    assert filters.unit_settings({"SystemCallFilter": ["@a", "~@b"]}) == (
        "SystemCallFilter=\nSystemCallFilter=@a\nSystemCallFilter=~@b\n"
    )
    assert filters.unit_settings({}) == ""


@pytest.mark.parametrize(
    "settings",
    [{"Protect System": True}, {"[Service]": "x"}, {"ExecStart": "a\nUser=root"}, {"User": "root\\"}, "User=root"],
    ids=str,
)
def test_unit_settings_refuses_what_would_be_another_setting(settings: Any) -> None:
    with pytest.raises(AnsibleFilterError):
        filters.unit_settings(settings)


@pytest.mark.parametrize(
    ("written", "asked", "compared"),
    [
        ("/healthz", "/healthz", "/healthz"),
        ("/café/", "/caf%C3%A9/", "/café/"),
        ("/caf%C3%A9/", "/caf%C3%A9/", "/café/"),
        ("/a b/?q=grün x&y=1", "/a%20b/?q=gr%C3%BCn%20x&y=1", "/a b/"),
        ("/100%/", "/100%25/", "/100%/"),
        ("/100%25/", "/100%25/", "/100%/"),
        ("/%zz", "/%25zz", "/%zz"),
        ("/日本/#x", "/%E6%97%A5%E6%9C%AC/%23x", "/日本/"),
        ('/a"b\\c', "/a%22b%5Cc", '/a"b\\c'),
        ("/%FF/", "/%FF/", "/%FF/"),
    ],
)
def test_path_is_asked_for_and_compared_as_it_is_meant(written: str, asked: str, compared: str) -> None:
    assert urls.url_ascii(written) == probe.encoded(written) == asked
    assert urls.url_path(written) == compared
    assert urls.url_ascii(asked) == asked


@pytest.mark.parametrize(
    ("size", "count"), [("16k", 16384), ("1M", 2**20), (4096, 4096), ("1g", 2**30), ("0", 0)], ids=str
)
def test_size_is_counted_in_bytes(size: str | int, count: int) -> None:
    assert urls.size_bytes(size) == count


@pytest.mark.parametrize("size", ["16 k", "1t", "", "k", "-1"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(AnsibleFilterError):
        urls.size_bytes(size)


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("/static/", ["/static/site.css (below /static/)"]),
        ("/café/", ["/caf%C3%A9/x (below /café/)"]),
        ("/old", ["/old?a=1", "/older (below /old)"]),
        ("= /old", ["/old?a=1"]),
        ("= /", ["/"]),
        ("= /static/", []),
        ("= /caf%C3%A9/x", ["/caf%C3%A9/x"]),
        ("= /café/x", ["/caf%C3%A9/x"]),
    ],
)
def test_paths_that_a_location_takes_are_found(place: str, found: list[str]) -> None:
    paths = ["/static/site.css", "/caf%C3%A9/x", "/", "/old?a=1", "/older"]
    assert urls.paths_below(paths, [place]) == found


def test_address_has_brackets_before_a_port_once() -> None:
    assert urls.host_port("fd00::1", 80) == urls.host_port("[fd00::1]", 80) == "[fd00::1]:80"
    assert urls.host_port("10.0.0.1", 80) == "10.0.0.1:80"


def test_soft_limit_that_never_comes_is_found() -> None:
    workers = [
        {"name": "good", "soft_time_limit": 60},
        {"name": "none"},
        {"name": "equal", "soft_time_limit": 300},
        {"name": "own", "soft_time_limit": 50, "time_limit": 40},
    ]
    assert filters.soft_limit_faults(workers, 300) == ["equal (300 s)", "own (50 s)"]
