"""The ways to run: the unit's own, root that drops its rights, sockets of systemd, and without systemd."""

import re

import pytest

from machine import ROOT, submit, wait_until


def status_of(machine, pid):
    lines = machine.read(f"/proc/{pid}/status").splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def has_no_rights(machine, pid):
    """It is slimtad through and through: no id of root, no capability, no way to get one. One thread has that to bind low
    ports, out of effect, for reloads."""
    status = status_of(machine, pid)
    user, group = machine.run("id -u slimtad; id -g slimtad").split()
    assert status["Uid"] == [user] * 4 and status["Gid"] == [group] * 4
    assert "0" not in status["Groups"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind][0], 16) == 0
    rights = machine.run(f"grep -h -E '^(Name|Cap(Prm|Eff)):' /proc/{pid}/task/*/status").split("\n")
    for name, permitted, effective in zip(rights[::3], rights[1::3], rights[2::3]):
        assert int(effective.split()[1], 16) == 0
        assert int(permitted.split()[1], 16) in ((0, 1 << 10) if name.split()[1] == "binder" else (0,))
    assert status["NoNewPrivs"] == ["1"]


def accepts(machine, mark):
    with machine.connect(465) as client:
        submit(client, mark)
    with machine.connect(587) as client:
        submit(client, mark + " too")
    wait_until(lambda: {mark, mark + " too"} <= machine.delivered().keys(), what="the messages at the MX")


def test_as_the_unit_has_it(machine):
    has_no_rights(machine, machine.pid())
    accepts(machine, "unit")


def test_started_as_root(machine):
    """As slimtad(8) says."""
    page = (ROOT / "etc" / "man" / "slimtad.8").read_text()
    text = re.search(r"started as root.*?^\.Bd [^\n]*\n(.*?)^\.Ed", page, re.S | re.M)[1]
    assert "User=root" in text
    machine.run("systemctl stop slimtad")
    machine.drop_in(text)
    machine.run("systemd-tmpfiles --create slimtad.conf; systemctl start slimtad")
    has_no_rights(machine, machine.pid())
    accepts(machine, "root")
    # What it needs at a reload it can still read.
    machine.add_user("after", "drop")
    machine.run("systemctl reload slimtad")

    def logs_in():
        try:
            machine.connect(login="after", password="drop").quit()
            return True
        except OSError:
            return False

    wait_until(logs_in, what="the new user's login")


def test_sockets_of_systemd(machine):
    """Without any right; the first connection starts it."""
    machine.run("systemctl stop slimtad")
    machine.drop_in("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n")
    text = machine.configuration.replace("127.0.0.1:587", "systemd:submission")
    machine.write("/etc/slimta/slimta.conf", text.replace("127.0.0.1:465", "systemd:submissions"))
    machine.run("systemctl start slimtad.socket slimtad-submissions.socket")
    try:
        assert machine.run("systemctl is-active slimtad; true").strip() == "inactive"
        accepts(machine, "socket")
        has_no_rights(machine, machine.pid())
        assert machine.run(f"awk '/CapBnd/ {{print $2}}' /proc/{machine.pid()}/status").strip() == "0" * 16
        machine.run("systemctl restart slimtad")
        accepts(machine, "socket again")
    finally:
        machine.run("systemctl stop slimtad.socket slimtad-submissions.socket slimtad")


@pytest.fixture
def without_systemd(machine):
    machine.run("systemctl stop slimtad; systemd-tmpfiles --create slimtad.conf")
    yield machine
    machine.run("kill $(cat /run/slimtad/pid) 2>/dev/null; true")
    wait_until(lambda: "slimtad" not in machine.run("ps -eo comm"), what="the daemon's end")


def test_daemonised(without_systemd):
    machine = without_systemd
    start = "slimtad run --daemonize --pid-file /run/slimtad/pid"
    machine.run(start)
    # Ready when that returned: nothing is waited for.
    machine.connect().quit()
    pid = machine.run("cat /run/slimtad/pid").strip()
    has_no_rights(machine, pid)
    assert machine.run(f"readlink /proc/{pid}/fd/0 /proc/{pid}/fd/1 /proc/{pid}/fd/2").split() == ["/dev/null"] * 3
    assert machine.run(f"readlink /proc/{pid}/cwd").strip() == "/"
    session, leader, terminal = machine.run(f"ps -o sid=,pid=,tty= -p {pid}").split()
    assert session != leader and terminal == "?"
    assert status_of(machine, pid)["Umask"] == ["0077"]
    # A second one is told so, and the parent's status says it.
    second = machine.execute(start)
    assert second.returncode == 75 and "already running" in second.stderr
    # Its log is in the journal, with its fields.
    assert machine.run(f"journalctl -q --no-pager -o cat _PID={pid} SLIMTA_HOSTNAME=$(hostname -f)")
    accepts(machine, "daemon")
    machine.run(f"kill {pid}")
    wait_until(lambda: machine.execute("test -e /run/slimtad/pid").returncode != 0, what="the pid file's end")


def test_daemonised_with_a_mistake(without_systemd):
    without_systemd.append('[[edge]]\nname = "wrong"\nmessage_sizes = 1\n')
    failed = without_systemd.execute("slimtad run --daemonize --pid-file /run/slimtad/pid")
    assert failed.returncode == 78 and re.search(r"message_sizes", failed.stderr)
    without_systemd.write("/etc/slimta/slimta.conf", without_systemd.configuration)
    without_systemd.run("chown root:root /etc/slimta/tls/key.pem; rm -f /etc/slimta/tls/key.pem.away")
    without_systemd.run("mv /etc/slimta/tls/key.pem /etc/slimta/tls/key.pem.away")
    try:
        failed = without_systemd.execute("slimtad run --daemonize --pid-file /run/slimtad/pid")
        assert failed.returncode == 78 and "key.pem" in failed.stderr
    finally:
        without_systemd.run("mv /etc/slimta/tls/key.pem.away /etc/slimta/tls/key.pem; chgrp slimtad /etc/slimta/tls/key.pem")
