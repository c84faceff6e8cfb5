"""Hardening: who gets in by ssh and how, what sudo says, what upgrades leave alone, who can read secrets."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import APP, main_pid, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]
# All hosts are hardened by the same tasks: what takes a run of them is seen on one host of each site.
on_one_host = pytest.mark.runs_on("database", first=True)


@pytest.fixture(scope="module")
def ssh(inventory: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that logs in to the host on a connection of its own and runs a command there."""

    def connect(*options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
        fixed = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        fixed += ["-o", "ControlPath=none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
        address = f"{inventory['ansible_user']}@{inventory['ansible_host']}"
        return subprocess.run(
            ["ssh", *fixed, *options, address, command], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    return connect


@pytest.fixture(scope="module")
def key(inventory: dict[str, str]) -> list[str]:
    """Return ssh's options for the key that the host knows."""
    return ["-o", "IdentitiesOnly=yes", "-i", str(Path(inventory["ansible_ssh_private_key_file"]).expanduser())]


def test_a_key_opens_a_fresh_connection(ssh: Callable, key: list[str]) -> None:
    answer = ssh(*key, command="id -un && sudo -n id -un")
    assert answer.stdout.split() == ["ops", "root"], answer.stderr


def test_sshd_offers_keys_alone(ssh: Callable, host: Host) -> None:
    """What it tells a client that has none: a password would not even be asked for."""
    # Asked without a key at all, which counts as no failed login.
    answer = ssh("-o", "PreferredAuthentications=none", "-o", "LogLevel=ERROR")
    assert answer.returncode == 255
    assert re.search(r"Permission denied \(publickey\)", answer.stderr), answer.stderr
    settings = host.check_output("sshd -T").splitlines()
    assert {"permitrootlogin without-password", "passwordauthentication no", "kbdinteractiveauthentication no"} <= set(
        settings
    )


@pytest.mark.parametrize(
    "weak",
    [
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "KexAlgorithms=ecdh-sha2-nistp256",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
        "MACs=hmac-sha1",
        "MACs=hmac-sha2-256",
        "MACs=umac-64-etm@openssh.com",
        "Ciphers=aes128-cbc",
    ],
)
def test_weak_algorithms_are_refused(host: Host, weak: str) -> None:
    # From the host itself, so that it is not this machine's address that sshd makes wait. A cipher that brings its own
    # message authentication would leave none to agree on.
    plain = "-o Ciphers=aes128-ctr" if weak.startswith("MACs") else ""
    options = f"-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o {weak} {plain}"
    # ssh ends with 255, which testinfra would take for its own connection's.
    answer = host.run(f"ssh {options} nobody@127.0.0.1 true || true")
    assert "no matching" in answer.stderr, answer.stderr


@pytest.mark.parametrize(
    "modern",
    [
        "KexAlgorithms=curve25519-sha256",
        "KexAlgorithms=sntrup761x25519-sha512@openssh.com",
        "HostKeyAlgorithms=ssh-ed25519",
        "HostKeyAlgorithms=rsa-sha2-512",
        "Ciphers=chacha20-poly1305@openssh.com",
        "Ciphers=aes256-gcm@openssh.com",
        "MACs=hmac-sha2-256-etm@openssh.com",
    ],
)
def test_modern_algorithms_are_taken(ssh: Callable, key: list[str], modern: str) -> None:
    with_mac = ["-o", "Ciphers=aes128-ctr"] if modern.startswith("MACs") else []
    answer = ssh(*key, "-o", modern, *with_mac)
    assert answer.returncode == 0, answer.stderr


@on_one_host
def test_broken_setting_of_sshd_is_taken_back(host: Host, playbook: Callable, ssh: Callable, key: list[str]) -> None:
    name = host.ansible.get_variables()["inventory_hostname"]
    before = host.file("/etc/ssh/sshd_config.d/00-slipway.conf").content_string
    wrong = '{"hardening_ssh_settings": {"Ciphers": "rot13"}}'
    result = playbook("base.yml", "--limit", name, "--extra-vars", wrong)
    assert result.returncode != 0 and "rot13" in result.stdout, result.stdout[-3000:]
    assert host.file("/etc/ssh/sshd_config.d/00-slipway.conf").content_string == before
    assert ssh(*key).returncode == 0


@on_one_host
def test_who_has_no_key_is_not_locked_out(host: Host, playbook: Callable) -> None:
    """The play is refused before anything is changed, with what to do."""
    name = host.ansible.get_variables()["inventory_hostname"]
    # The connection is there already; only the file is away.
    host.check_output("mv /home/ops/.ssh/authorized_keys /home/ops/.ssh/keys-away")
    try:
        result = playbook("preflight.yml", "--limit", name)
    finally:
        host.check_output("mv /home/ops/.ssh/keys-away /home/ops/.ssh/authorized_keys")
    said = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert "would lock out ops, who has no key in authorized_keys" in said and "ssh-copy-id" in said, said[-2000:]


def test_sudo_is_sound_and_logged(host: Host) -> None:
    assert host.check_output("visudo -c -q && echo sound") == "sound"
    assert host.file("/etc/sudoers.d/slipway").mode == 0o440
    said = host.check_output("sudo -V | sed -n '/^Sudoers/,$p'; sudo -l -U ops")
    assert "use_pty" in said and "ignore_dot" in said
    marker = "/bin/true slipway-sudo-is-logged"
    host.check_output(f"runuser -u ops -- sudo -n {marker}")
    wait_until(lambda: marker in host.check_output("journalctl -t sudo --no-pager -n 200 -o cat"), "sudo logs nothing")


@on_one_host
def test_upgrades_are_of_security_alone(host: Host) -> None:
    """What unattended-upgrades itself makes of all files."""
    said = host.run("unattended-upgrade --dry-run --debug 2>&1").stdout
    origins = re.search(r"^Allowed origins are: (.*)$", said, flags=re.MULTILINE)
    assert origins, said[:2000]
    release = host.check_output(". /etc/os-release && echo $VERSION_CODENAME")
    assert origins[1] == f"origin=Debian,codename={release}-security,label=Debian-Security"
    periodic = host.check_output("apt-config dump APT::Periodic::Unattended-Upgrade")
    assert periodic == 'APT::Periodic::Unattended-Upgrade "1";'


def services(host: Host) -> dict[str, int]:
    """Return the services that upgrades leave alone and their main processes."""
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --type=service --state=running "
        "'%s-*' 'redis-server@*' nginx.service 'postgresql@*'",
        APP,
    )
    return {unit: main_pid(host, unit) for unit in (line.split()[0] for line in listed.splitlines())}


@pytest.mark.disruptive
def test_upgrade_of_a_library_restarts_no_service_of_ours(host: Host) -> None:
    """They are told of; a service that nobody counts on is restarted."""
    host.check_output(
        "printf '[Service]\nExecStart=/usr/bin/python3 -c \"import ssl, time; time.sleep(1e6)\"\n' "
        ">/run/systemd/system/upgrade-try.service && systemctl daemon-reload && systemctl start upgrade-try"
    )
    before, other = services(host), main_pid(host, "upgrade-try.service")
    assert before and other
    try:
        # As an upgrade does it, noninteractive; the hook of needrestart comes after it.
        package = host.check_output("dpkg-query --show --showformat '${Package}\n' 'libssl3*' | head -n 1")
        host.check_output(
            "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --reinstall %s", package
        )
        assert services(host) == before
        assert main_pid(host, "upgrade-try.service") != other, "needrestart restarts nothing at all"
        waiting = host.check_output("needrestart -b -r l")
    finally:
        host.check_output("systemctl stop upgrade-try && rm /run/systemd/system/upgrade-try.service")
    using = [
        unit
        for unit, pid in before.items()
        if host.run("grep -q 'libssl.*(deleted)' /proc/%s/maps", str(pid)).succeeded
    ]
    assert using
    assert not [unit for unit in using if f"NEEDRESTART-SVC: {unit}" not in waiting], waiting


@pytest.mark.disruptive
def test_database_packages_wait_for_somebody(host: Host) -> None:
    """unattended-upgrades is asked of each by its own rules."""
    ask = (
        "import importlib.util, importlib.machinery, apt_pkg\n"
        "loader = importlib.machinery.SourceFileLoader('upgrade', '/usr/bin/unattended-upgrade')\n"
        "upgrade = importlib.util.module_from_spec(importlib.util.spec_from_loader('upgrade', loader))\n"
        "loader.exec_module(upgrade)\n"
        "apt_pkg.init_config()\n"
        "black = apt_pkg.config.value_list('Unattended-Upgrade::Package-Blacklist')\n"
        "import re, sys\n"
        "print(*[name for name in sys.argv[1:] if any(re.match(rule, name) for rule in black)])\n"
    )
    names = "postgresql-15 postgresql-17 postgresql-common redis-server redis-tools libssl3 nginx openssh-server"
    said = host.check_output("python3 -c %s " + names, ask)
    assert said.split() == ["postgresql-15", "postgresql-17", "postgresql-common", "redis-server", "redis-tools"]


def test_logins_leave_no_memory_behind(host: Host) -> None:
    assert host.check_output("runuser -l ops -c 'ulimit -Hc'") == "0"


@on_one_host
def test_audit_names_what_everybody_can_read(host: Host, inventory: dict[str, str], playbook: Callable) -> None:
    name, planted, private_key = inventory["inventory_hostname"], "/usr/local/share/secret-try", "/etc/ssl/try.pem"
    assert playbook("audit_secrets.yml", "--limit", name).returncode == 0
    # Encoded, for sudo writes command lines into the journal.
    secret = base64.b64encode(inventory["vault_django_secret_key"].encode()).decode()
    host.check_output(
        f"mkdir {planted} && echo %s | base64 -d >{planted}/note && chmod 644 {planted}/note"
        f" && openssl genpkey -algorithm ed25519 -out {private_key} && chmod 644 {private_key}",
        secret,
    )
    try:
        result = playbook("audit_secrets.yml", "--limit", name)
        said = " ".join(result.stdout.split())
        assert result.returncode != 0
        assert f"{planted}/note: a secret of the inventory" in said and f"{private_key}: a private key" in said, said
        assert inventory["vault_django_secret_key"] not in said
        # A folder that nobody enters closes what is in it.
        host.check_output(f"chmod 700 {planted} && chmod 600 {private_key}")
        assert playbook("audit_secrets.yml", "--limit", name).returncode == 0
    finally:
        host.check_output(f"rm -r {planted} {private_key}")


@pytest.mark.disruptive
def test_one_address_cannot_fill_the_door(host: Host, ssh: Callable, key: list[str]) -> None:
    """Connections that do not log in: ten wait, further ones are turned away, and who comes from elsewhere gets in."""
    hold = (
        "import socket, time\n"
        "held, banners = [], 0\n"
        "for _ in range(14):\n"
        "    held.append(socket.create_connection(('127.0.0.1', 22), timeout=10))\n"
        "    try:\n"
        "        banners += held[-1].recv(4) == b'SSH-'\n"
        "    except OSError:\n"
        "        pass\n"
        "print(banners, flush=True)\n"
        "open('/run/held', 'w').write(str(banners))\n"
        "time.sleep(12)\n"
    )
    host.check_output("rm -f /run/held; systemd-run --quiet --collect --unit door-try python3 -c %s", hold)
    wait_until(lambda: host.file("/run/held").exists, "the connections")
    assert host.check_output("cat /run/held") == "10"
    assert ssh(*key).returncode == 0
    host.check_output("systemctl stop door-try; rm /run/held")


@pytest.mark.disruptive
def test_who_fails_to_log_in_has_to_wait(host: Host) -> None:
    """OpenSSH 9.8 and newer; the older one of Debian 12 only bounds connections."""
    version = host.check_output("ssh -V 2>&1")
    host.check_output("rm -f /run/stranger*; ssh-keygen -q -t ed25519 -N '' -f /run/stranger")
    options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -i /run/stranger"
    said = host.run(f"for i in 1 2 3 4 5 6; do ssh {options} ops@127.0.0.1 true; done; rm /run/stranger*").stderr
    refused = said.count("Permission denied (publickey)")
    assert refused >= 1
    assert (refused < 6) == ("OpenSSH_9.2" not in version), said


@on_one_host
def test_reload_that_sshd_cannot_do_fails(host: Host) -> None:
    """A port that another process holds: sshd listens on the others, and says it in its log alone."""
    extra = "/etc/ssh/sshd_config.d/zz-test.conf"
    held = "import socket, time; server = socket.create_server(('', 2222)); time.sleep(600)"
    host.check_output("systemd-run --quiet --unit=slipway-test-ssh python3 -c %s", held)
    wait_until(lambda: host.run("ss -ltn | grep -q :2222").succeeded, "the port is held")
    try:
        host.check_output("printf 'Port 22\\nPort 2222\\n' >%s && sshd -t", extra)
        assert host.run("systemctl reload ssh").failed
        said = host.check_output("journalctl --sync; journalctl --unit ssh --lines 20 --output cat")
        assert "reload failed: error: Bind to port 2222" in said
    finally:
        host.check_output("rm %s; systemctl stop slipway-test-ssh", extra)
    assert host.run("systemctl reload ssh").succeeded
    assert host.check_output("systemctl is-active ssh") == "active"
