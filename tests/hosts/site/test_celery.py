"""Celery: tasks that a visitor's action starts are done."""

from __future__ import annotations

from conftest import APP, Servers, Site, journal, live_unit, mail_to, main_pid, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://worker"]


def test_registration_sends_one_welcome_mail(host: Host, servers: Servers, site: Site) -> None:
    address = site.register()
    try:
        wait_until(lambda: mail_to(servers, address) > 0, f"a mail to {address}")
    except BaseException:
        print(journal(host, live_unit(host, "celery-default")))
        raise
    assert mail_to(servers, address) == 1


def test_registration_twice_is_refused(site: Site) -> None:
    address = site.register()
    name = address.split("@")[0]
    fields = {"username": name, "email": address, "password1": "a-pass-phrase-9", "password2": "a-pass-phrase-9"}
    answer = site.post_form("/accounts/register/", fields)
    assert not answer.history and "already" in answer.text


def test_beat_runs_once(servers: Servers) -> None:
    units = "systemctl list-units --plain --no-legend --state=active '%s-celery-beat@*'"
    running = [unit for name in servers.all for unit in servers.host(name).check_output(units, APP).splitlines()]
    assert len(running) == 1


def test_worker_is_ready_when_systemd_says_so(host: Host) -> None:
    unit = live_unit(host, "celery-default")
    assert host.check_output("systemctl show -P Type %s", unit) == "notify"
    assert "ready." in journal(host, unit, 200)


def test_stop_time_covers_the_longest_task(host: Host) -> None:
    unit = live_unit(host, "celery-default")
    assert host.check_output("systemctl show -P TimeoutStopUSec %s", unit) == "5min 15s"


def test_worker_steps_back_behind_pages(host: Host) -> None:
    unit = live_unit(host, "celery-default")
    pid = main_pid(host, unit)
    levels = host.check_output("ps -o ni= -p %s --ppid %s", str(pid), str(pid)).split()
    assert len(levels) > 1 and set(levels) == {"10"}
    # The weight of nice 10 against nice 0, in percent.
    assert host.check_output("systemctl show -P CPUWeight %s", unit) == "11"
