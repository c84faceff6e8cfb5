"""The strict profile on both releases: passwords are tested, wrong ones are counted, and no key is ever refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]
ACCOUNT = "strict-try"
PASSWORD = "Xk7#pq-Wv92!mLz4"
# Answers the questions of a program that wants a terminal, and prints what it says; ends as it ends.
TALK = """
import os, pty, re, sys
answers, command = sys.argv[1].split(","), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
said = asked = b""
while True:
    try:
        part = os.read(terminal, 1000)
    except OSError:
        break
    if not part:
        break
    said, asked = said + part, asked + part
    if re.search(rb"assword[^\\n]*:\\s*$", asked):
        if not answers:
            break
        os.write(terminal, answers.pop(0).encode() + b"\\n")
        asked = b""
os.close(terminal)
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def talk(host: Host, user: str, answers: list[str], command: str) -> tuple[bool, str]:
    """Return whether a command of a user succeeds that is given answers at a terminal, and what it says."""
    done = host.run("python3 -c %s %s runuser -u %s -- " + command, TALK, ",".join(answers), user)
    return done.succeeded, done.stdout


@pytest.fixture(scope="module")
def account(host: Host) -> Iterator[str]:
    """Return a user with a password and the key that opens the host, who may use sudo with the password."""
    host.check_output(
        f"useradd --create-home --shell /bin/bash {ACCOUNT}"
        f" && install -d -m 700 -o {ACCOUNT} /home/{ACCOUNT}/.ssh"
        f" && install -m 600 -o {ACCOUNT} /home/ops/.ssh/authorized_keys /home/{ACCOUNT}/.ssh/"
        f" && echo '{ACCOUNT} ALL=(ALL:ALL) ALL' >/etc/sudoers.d/{ACCOUNT}"
        f" && chmod 440 /etc/sudoers.d/{ACCOUNT} && visudo -c"
    )
    host.check_output("echo %s | chpasswd && chage -m 0 %s", f"{ACCOUNT}:{PASSWORD}", ACCOUNT)
    yield ACCOUNT
    host.run(f"faillock --user {ACCOUNT} --reset; pkill -KILL -u {ACCOUNT}")
    host.check_output(f"rm /etc/sudoers.d/{ACCOUNT} && userdel -rf {ACCOUNT} 2>&1")


@pytest.fixture(autouse=True)
def forget(host: Host, account: str) -> None:
    """Forget the wrong passwords of the tests before."""
    host.check_output("faillock --user %s --reset", account)


def login(host: Host, user: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    """Log in by key on a connection of its own."""
    variables = host.ansible.get_variables()
    key = str(Path(variables["ansible_ssh_private_key_file"]).expanduser())
    fixed = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlPath=none -o BatchMode=yes"
    return subprocess.run(
        ["ssh", *fixed.split(), "-o", "IdentitiesOnly=yes", "-i", key, f"{user}@{variables['ansible_host']}", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def failures(host: Host, user: str) -> int:
    """Return how many wrong passwords are counted."""
    return sum(line[:1].isdigit() for line in host.check_output("faillock --user %s", user).splitlines())


@pytest.mark.parametrize("weak", ["Short1!", "all-of-one-kind-of-letters", "Xk7#pq-Wvvvvvv92!mLz4"])
def test_weak_password_is_refused(host: Host, account: str, weak: str) -> None:
    before = host.check_output("getent shadow %s", account)
    done, said = talk(host, account, [PASSWORD, weak, weak, weak], "passwd")
    assert not done and "BAD PASSWORD" in said, said
    assert host.check_output("getent shadow %s", account) == before


def test_passwords_of_before_are_refused_and_a_good_one_is_taken(host: Host, account: str) -> None:
    another = "Zr4%hd-Qt81?nYb6"
    done, said = talk(host, account, [PASSWORD, another, another], "passwd")
    assert done, said
    done, said = talk(host, account, [another, PASSWORD, PASSWORD, PASSWORD], "passwd")
    assert not done and "already used" in said, said
    host.check_output("rm /etc/security/opasswd && install -m 600 /dev/null /etc/security/opasswd")
    host.check_output("echo %s | chpasswd", f"{account}:{PASSWORD}")


def test_sudo_takes_the_password(host: Host, account: str) -> None:
    done, said = talk(host, account, [PASSWORD], "sudo -k id -un")
    assert done and said.split()[-1] == "root", said
    assert login(host, "ops", "sudo -n id -un").stdout.strip() == "root"


def test_wrong_passwords_lock_the_password_and_no_key(host: Host, account: str) -> None:
    for count in (1, 2, 3):
        done, said = talk(host, account, ["wrong"], f"su {account} -c true")
        assert not done and failures(host, account) == count, said
    done, said = talk(host, account, [PASSWORD], f"su {account} -c true")
    assert not done and "locked" in said, said
    # root may be anybody, and who has a key comes in; that forgets the wrong passwords.
    assert host.check_output(f"su {account} -c 'id -un'") == account
    for _ in range(3):
        talk(host, account, ["wrong"], f"su {account} -c true")
    answer = login(host, account, "id -un")
    assert answer.stdout.strip() == account, answer.stderr
    done, said = talk(host, account, [PASSWORD], f"su {account} -c 'id -un'")
    assert done, said


def test_root_is_never_locked(host: Host, account: str) -> None:
    for _ in range(4):
        _, said = talk(host, account, ["wrong"], "su root -c true")
        assert "locked" not in said
    host.check_output("faillock --user root --reset")


def test_login_shows_the_banner_and_makes_private_files(host: Host, account: str) -> None:
    answer = login(host, account, "umask")
    assert "for authorized users only" in answer.stderr
    assert host.file("/etc/login.defs").contains("^UMASK 027$")
    # PAM of Debian 12 does not set it. A group of the user's own (USERGROUPS_ENAB) may write: 007.
    if host.file("/etc/pam.d/common-session").contains("pam_umask"):
        assert answer.stdout.strip() in {"0027", "0007"}, answer


def test_blocked_modules_are_not_loaded(host: Host) -> None:
    """As modprobe would do it; the kernel of a container is the machine's."""
    assert "/bin/false" in host.check_output("cat /etc/modprobe.d/60-slipway.conf")


def test_container_has_no_audit_of_its_own(host: Host) -> None:
    """There auditd would be a failed unit; on a machine it has the rules."""
    inside = host.run("systemd-detect-virt --quiet --container").succeeded
    assert inside != host.package("auditd").is_installed
    if not inside:
        assert "-k accounts" in host.check_output("auditctl -l")
