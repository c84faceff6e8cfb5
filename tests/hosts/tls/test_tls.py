"""TLS on the two edge hosts of a site: what visitors are offered, and how certificates come, or do not come."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import PROJECT, Playbooks, journal, recap, wait_until
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from testinfra import get_host
from testinfra.host import Host
from tls_hosts import ADDRESSES, FOLDER, NAME, SECOND, Crowd, Issuer, Responder, Visitor, write_pair

each_edge = pytest.mark.parametrize("edge", ADDRESSES)
BOTH_NAMES = ["--extra-vars", json.dumps({"nginx_server_names": [NAME, SECOND]})]


@pytest.fixture(scope="module")
def edges(playbook: Playbooks) -> dict[str, Host]:
    """Return the edge hosts."""
    return {name: get_host(f"ansible://{name}?ansible_inventory={playbook.inventory}") for name in ADDRESSES}


@pytest.fixture(scope="module")
def authority(playbook: Playbooks) -> Host:
    """Return the host of the authority."""
    return get_host(f"ansible://authority?ansible_inventory={playbook.inventory}")


@pytest.fixture(scope="module")
def trust(authority: Host, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with the certificate of the authority, as visitors have those of the real ones."""
    file = tmp_path_factory.mktemp("trust") / "root.pem"
    file.write_text(authority.check_output("curl --silent --insecure https://127.0.0.1:15000/roots/0") + "\n")
    return str(file)


@pytest.fixture(scope="module")
def sslyze() -> str:
    """Return the path of sslyze, in an environment of its own: it holds cryptography at an old version."""
    environment = PROJECT / ".cache/sslyze-venv"
    python = ["--python", str(environment / "bin/python")]
    lock = str(PROJECT / "molecule/tls/sslyze.txt")
    subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
    subprocess.run(["uv", "pip", "sync", "--quiet", *python, "--require-hashes", lock], check=True)
    return str(environment / "bin/sslyze")


@pytest.fixture
def run(playbook: Playbooks) -> Callable[..., str]:
    """Return a function that runs the playbook of the edge and returns what Ansible said; it must succeed, or not."""

    def edge_playbook(*arguments: str, succeeds: bool = True) -> str:
        result = playbook("edge.yml", *arguments)
        assert (result.returncode == 0) is succeeds, result.stdout[-6000:]
        return result.stdout

    return edge_playbook


def serials() -> dict[str, int]:
    """Return the serial numbers of the certificates that visitors get."""
    return {edge: Visitor(address).certificate().serial_number for edge, address in ADDRESSES.items()}


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names that a certificate is for."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(found.value.get_values_for_type(x509.DNSName))


def stapled(address: str) -> bool:
    """Tell whether Nginx says of its certificate that it is not revoked."""
    command = ["openssl", "s_client", "-connect", f"{address}:443", "-servername", NAME, "-status"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    return "Cert Status: good" in done.stdout


def orders(authority: Host) -> int:
    """Return how many certificates the authority was asked for."""
    return int(authority.check_output("journalctl -u pebble -o cat | grep -c 'POST /order-plz' || true"))


def changes(output: str) -> int:
    """Return how much a run has changed on all hosts."""
    return sum(counts["changed"] for counts in recap(output).values())


@contextmanager
def unreachable(*edges: Host) -> Iterator[None]:
    """Keep hosts from reaching the authority."""
    for edge in edges:
        edge.check_output("ip route add unreachable 10.89.16.10")
    try:
        yield
    finally:
        for edge in edges:
            edge.check_output("ip route del unreachable 10.89.16.10")


# What visitors are offered


@each_edge
def test_site_is_trusted_by_its_name(edge: str, trust: str) -> None:
    assert Visitor(ADDRESSES[edge], trust=trust).get("/posts/").status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        Visitor(ADDRESSES[edge], trust=str(PROJECT / ".cache/tls/authority.pem")).connect()


@each_edge
def test_http2_is_spoken(edge: str) -> None:
    visitor = Visitor(ADDRESSES[edge])
    visitor.context.set_alpn_protocols(["h2", "http/1.1"])
    with visitor.connect() as connection:
        assert connection.selected_alpn_protocol() == "h2"  # type: ignore[union-attr]


@each_edge
def test_http3_is_spoken_where_the_package_has_it(edge: str, authority: Host) -> None:
    """By Debian 13's curl, on the authority's host."""
    said = authority.run(
        "curl --silent --insecure --http3-only --max-time 10 --resolve %s:443:%s --output /dev/null "
        "--write-out '%%{http_version} %%{http_code}' https://%s/posts/",
        NAME, ADDRESSES[edge], NAME,
    )  # fmt: skip
    offered = Visitor(ADDRESSES[edge]).get("/posts/").getheader("Alt-Svc")
    if edge == "web13":
        assert (said.stdout, offered) == ("3 200", 'h3=":443"; ma=86400')
    else:
        assert said.failed
        assert offered is None


@each_edge
def test_http_leads_to_https(edge: str) -> None:
    answer = Visitor(ADDRESSES[edge], tls=False).get("/posts/?page=2")
    assert (answer.status, answer.getheader("Location")) == (301, f"https://{NAME}/posts/?page=2")
    assert answer.getheader("Strict-Transport-Security") is None


@each_edge
@pytest.mark.parametrize("name", ["evil.example", ""])
def test_unknown_host_is_shown_no_certificate(edge: str, name: str) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        Visitor(ADDRESSES[edge]).connect(name)
    with pytest.raises(ConnectionResetError):
        Visitor(ADDRESSES[edge], tls=False).get(host=name or "-")


@each_edge
def test_known_certificate_does_not_open_another_host(edge: str) -> None:
    assert Visitor(ADDRESSES[edge]).get(host="evil.example").status == 421


@each_edge
@pytest.mark.parametrize("path", ["/", "/static/none", "/healthz", "/media/none"])
def test_https_is_kept_to_for_a_short_time(edge: str, path: str) -> None:
    """The application would say a year: it is hidden, and nothing is said twice."""
    assert Visitor(ADDRESSES[edge]).get(path).headers.get_all("Strict-Transport-Security") == ["max-age=300"]


@each_edge
def test_application_knows_of_https(edge: str) -> None:
    """Its cookies are for HTTPS alone, and it sends nobody on."""
    answer = Visitor(ADDRESSES[edge]).get("/accounts/login/")
    assert answer.status == 200
    assert re.search(r"csrftoken=.*; Secure", " ".join(answer.headers.get_all("Set-Cookie") or []))


@each_edge
def test_mozilla_finds_nothing(edge: str, trust: str, sslyze: str) -> None:
    command = [sslyze, "--certinfo_ca_file", trust, "--sni", NAME, ADDRESSES[edge]]
    done = subprocess.run([*command, "--mozilla_config=intermediate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    # It does look: TLS 1.2 is not modern.
    done = subprocess.run([*command, "--mozilla_config=modern"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "TLSv1.2" in done.stdout


@each_edge
def test_gixy_finds_nothing(edge: str, edges: dict[str, Host]) -> None:
    configuration = edges[edge].check_output("nginx -T 2>/dev/null")
    done = subprocess.run(["gixy", "-"], input=configuration, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    worse = configuration.replace("Host $slipway_host", "Host $http_host")
    assert worse != configuration
    assert subprocess.run(["gixy", "-"], input=worse, capture_output=True, text=True, check=False).returncode == 1


@each_edge
def test_session_is_resumed_from_the_cache(edge: str) -> None:
    """Not from a ticket, whose key would open what was said before."""
    visitor = Visitor(ADDRESSES[edge])
    visitor.context.maximum_version = ssl.TLSVersion.TLSv1_2

    def is_resumed() -> bool:
        with visitor.connect() as connection:
            session = connection.session  # type: ignore[union-attr]
        assert not session.has_ticket
        with visitor.connect(session=session) as connection:
            return connection.session_reused  # type: ignore[union-attr]

    # While a reload or a renewal of the test before is under way, the second connection may meet another certificate.
    wait_until(is_resumed, "a session from the cache")


@each_edge
def test_nginx_warns_of_nothing(edge: str, edges: dict[str, Host]) -> None:
    said = edges[edge].run("nginx -t")
    assert said.succeeded
    assert "[" not in said.stderr, said.stderr


@each_edge
def test_key_is_for_root_alone(edge: str, edges: dict[str, Host]) -> None:
    assert edges[edge].run("runuser -u www-data -- cat %s/live/privkey.pem", FOLDER).failed
    assert edges[edge].check_output("stat -L -c '%%U %%a' %s/live/privkey.pem", FOLDER) == "root 600"
    assert edges[edge].check_output("stat -L -c '%%U %%a' %s/live/fullchain.pem", FOLDER) == "root 644"


# How certificates come


@pytest.mark.disruptive
def test_renewal_under_load(edges: dict[str, Host], trust: str) -> None:
    """By certbot's own unit, made to renew though nothing is due."""
    before = serials()
    force = "[Service]\\nExecStart=\\nExecStart=/usr/bin/certbot -q renew --force-renewal --no-random-sleep-on-renew\\n"
    seen = set()
    edges["web12"].check_output("mkdir -p /run/systemd/system/certbot.service.d")
    edges["web12"].check_output(f"printf '{force}' >/run/systemd/system/certbot.service.d/zz-force.conf")
    edges["web12"].check_output("systemctl daemon-reload")
    try:
        with Crowd(ADDRESSES["web12"], trust) as crowd:
            for _ in range(2):
                last = serials()["web12"]
                edges["web12"].check_output("systemctl start certbot.service")
                # Nginx reads it at once, and takes a moment to.
                wait_until(lambda last=last: serials()["web12"] != last, "another certificate")
                seen.add(serials()["web12"])
    finally:
        edges["web12"].check_output("rm -r /run/systemd/system/certbot.service.d && systemctl daemon-reload")
    print(Counter(crowd.answers))
    assert len(seen) == 2 and before["web12"] not in seen
    assert serials()["web13"] == before["web13"]
    assert len(crowd.answers) > 50
    assert set(crowd.answers) == {"200"}, Counter(crowd.answers)
    assert edges["web12"].run("systemctl is-enabled certbot.timer").stdout.strip() == "enabled"


@pytest.mark.disruptive
def test_renewed_certificate_that_nginx_refuses(edges: dict[str, Host]) -> None:
    """It is not taken, the unit fails, and its next run takes it."""
    web12, before = edges["web12"], serials()["web12"]
    pair = web12.check_output("readlink %s/live", FOLDER)
    renew = f"set -a; . {FOLDER}/certbot.env; certbot -q renew --force-renewal --no-random-sleep-on-renew"
    web12.check_output("echo 'server {' >/etc/nginx/conf.d/zz-broken.conf")
    try:
        web12.run(renew)
        assert serials()["web12"] == before
        assert web12.run("systemctl start certbot.service").failed
        assert "nginx -t" in journal(web12, "certbot")
        # What a restart of the host would come up with.
        assert web12.check_output("readlink %s/live", FOLDER) == pair
        assert Visitor(ADDRESSES["web12"]).get("/posts/").status == 200
    finally:
        web12.check_output("rm /etc/nginx/conf.d/zz-broken.conf")
    web12.check_output("systemctl start certbot.service")
    wait_until(lambda: serials()["web12"] != before, "the renewed certificate")


@pytest.mark.disruptive
def test_run_with_nothing_to_do_needs_no_authority(edges: dict[str, Host], run: Callable[..., str]) -> None:
    with unreachable(*edges.values()):
        assert changes(run()) == 0


@pytest.mark.disruptive
def test_authority_is_down(edges: dict[str, Host], run: Callable[..., str]) -> None:
    before = serials()
    with unreachable(*edges.values()):
        said = run(*BOTH_NAMES, succeeds=False)
        assert "the authority does not answer at https://authority:14000/dir" in said
        assert re.search(r"Nginx goes on with the certificate until 2\d\d\d-\d\d-\d\d", said)
        assert serials() == before
        renew = f"set -a; . {FOLDER}/certbot.env; certbot renew --force-renewal --no-random-sleep-on-renew"
        assert edges["web13"].run(renew).failed
        assert serials() == before
        assert Visitor(ADDRESSES["web13"]).get("/posts/").status == 200


@pytest.mark.disruptive
def test_name_is_added(run: Callable[..., str], trust: str) -> None:
    run(*BOTH_NAMES)
    for address in ADDRESSES.values():
        assert names_of(Visitor(address).certificate()) == [SECOND, NAME]
        # The application does not know the second name; TLS and Nginx do.
        assert Visitor(address, SECOND, trust).get("/").status == 400
        assert Visitor(address, NAME, trust).get("/posts/").status == 200


@pytest.mark.disruptive
def test_name_that_leads_elsewhere(authority: Host, run: Callable[..., str]) -> None:
    """It is told before the authority counts a try."""
    before, asked = serials(), orders(authority)
    names = [NAME, "stray.example.test", "none.example.test"]
    said = run("--extra-vars", json.dumps({"nginx_server_names": names}), succeeds=False)
    assert "the authority was not asked" in said
    assert "stray.example.test at 10.89.16.10 does not answer on port 80" in said
    assert "none.example.test has no address" in said
    assert f"- {NAME}" not in said
    assert asked > 0 and orders(authority) == asked
    assert serials() == before


@pytest.mark.disruptive
def test_wildcard_by_dns(run: Callable[..., str], trust: str) -> None:
    settings = {
        "tls_names": [NAME, f"*.{NAME}"],
        "tls_acme_challenge": "dns",
        "tls_acme_dns_auth_hook": str(PROJECT / "molecule/tls/dns-auth"),
        "tls_acme_dns_environment": {"DNS_SERVER": "10.89.16.10:8055", "DNS_TOKEN": 'a "token" of $5'},
    }
    said = run("--limit", "web13", "--extra-vars", json.dumps(settings))
    assert 'a "token"' not in said
    assert names_of(Visitor(ADDRESSES["web13"], trust=trust).certificate()) == [f"*.{NAME}", NAME]


@pytest.mark.disruptive
def test_first_certificate_while_the_authority_is_down(
    edges: dict[str, Host], run: Callable[..., str], trust: str
) -> None:
    """Nginx starts all the same, the run says what is missing, the watch fails, and the next run has it."""
    web13 = edges["web13"]
    web13.check_output("systemctl stop nginx certbot.timer")
    web13.check_output("rm -r /etc/letsencrypt/* %s", FOLDER)
    with unreachable(web13):
        said = run("--limit", "web13", succeeds=False)
        assert "the authority does not answer" in said
        assert "Nginx goes on with a certificate that nobody trusts" in said
        temporary = Visitor(ADDRESSES["web13"]).certificate()
        assert temporary.issuer == temporary.subject
        assert web13.run("systemctl start slipway-tls-check").failed
        assert "in 1.0 days; 14 should be left" in journal(web13, "slipway-tls-check")
    run("--limit", "web13")
    assert Visitor(ADDRESSES["web13"], trust=trust).get("/posts/").status == 200
    web13.check_output("systemctl start slipway-tls-check")


@pytest.mark.disruptive
def test_own_authority(run: Callable[..., str], edges: dict[str, Host], tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    words = ["--extra-vars", "tls_mode=selfsigned", "--extra-vars", f"tls_authority_file={file}"]
    run(*words)
    for address in ADDRESSES.values():
        assert Visitor(address, trust=str(file)).get("/posts/").status == 200
    assert len(set(serials().values())) == 1
    assert changes(run(*words)) == 0
    assert edges["web12"].check_output("stat -c '%%U %%a' %s/authority/ca.key", FOLDER) == "root 600"
    assert not edges["web13"].file(f"{FOLDER}/authority").exists


@pytest.fixture
def responder() -> Iterator[Responder]:
    """Return who knows whether certificates of an authority of the test's own are revoked."""
    found = Responder(Issuer("Intermediate", Issuer("Root")))
    yield found
    found.close()


@pytest.mark.disruptive
def test_provided_files(run: Callable[..., str], edges: dict[str, Host], responder: Responder, tmp_path: Path) -> None:
    intermediate = responder.issuer
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = intermediate.sign(NAME, key, days=10, names=[NAME], responder=responder.url)
    words = write_pair(tmp_path, [leaf, intermediate.certificate], key)
    run(*words)
    (tmp_path / "root.pem").write_bytes(intermediate.parent.certificate.public_bytes(Encoding.PEM))
    for edge, address in ADDRESSES.items():
        assert Visitor(address, trust=str(tmp_path / "root.pem")).certificate() == leaf
        # Ten days are too few, and that is told on every host.
        assert edges[edge].run("systemctl start slipway-tls-check").failed
        end = leaf.not_valid_after_utc
        left = (end - datetime.now(UTC)).total_seconds() / 86400
        assert f"ends on {end:%Y-%m-%d}, in {left:.1f} days" in journal(edges[edge], "slipway-tls-check")
        # The certificate names who knows whether it was revoked, and so Nginx says it.
        wait_until(lambda address=address: stapled(address), "a stapled answer")
        said = edges[edge].run("nginx -t").stderr
        assert "[" not in said, said
    # What certbot still keeps and renews is not what is wanted now.
    edges["web12"].check_output("systemctl start certbot.service")
    assert Visitor(ADDRESSES["web12"]).certificate() == leaf
    assert changes(run(*words)) == 0


@pytest.mark.disruptive
def test_provided_files_that_cannot_work_are_refused(playbook: Playbooks, tmp_path: Path) -> None:
    """All that is wrong with them at once, before any host is touched."""
    before = serials()
    key, issuer = ec.generate_private_key(ec.SECP256R1()), Issuer("Somebody")
    leaf = issuer.sign("old", key, days=-1, age=30, names=["old.example.test"])
    words = write_pair(tmp_path, [leaf], ec.generate_private_key(ec.SECP256R1()), mode=0o644)
    result = playbook("site.yml", *words)
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    for fault in (
        f"site.pem: the certificate has ended on {leaf.not_valid_after_utc:%Y-%m-%d}",
        f"site.pem: is for old.example.test and does not cover {NAME}",
        "site.pem: the intermediate certificate is missing: the only one here was signed by CN=Somebody",
        "site.key: is not the key of the certificate",
        "site.key: anybody can read it (mode 0644)",
    ):
        assert fault in said, fault
    assert "Nothing was changed on any host" in said
    assert serials() == before


@pytest.mark.disruptive
def test_back_to_the_authority(run: Callable[..., str], trust: str, edges: dict[str, Host]) -> None:
    run()
    for edge, address in ADDRESSES.items():
        certificate = Visitor(address, trust=trust).certificate()
        assert names_of(certificate) == [NAME]
        edges[edge].check_output("systemctl start slipway-tls-check")
