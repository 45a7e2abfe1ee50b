"""The package: a fresh installation, what is in it, upgrade, removal, purge."""

import json
import os
import re
import shutil
import smtplib
import subprocess

import pytest

from conftest import install
from machine import CONFIGURATION, LAB, ROOT, Load, message


@pytest.fixture(scope="module")
def fresh(bare, deb):
    """Installed by apt, and nothing else done."""
    bare.before = files(bare)
    install(bare, deb)
    return bare


def files(machine):
    """All files, without those that any package operation changes, and what is mounted."""
    found = machine.run(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache "
        "-o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /root -o -path /var/lib/systemd -o -path /var/backups "
        "-o -path /var/spool/postfix -o -path /var/lib/postfix \\) -prune -o -print")
    return set(found.splitlines())


def test_fresh_installation_runs_at_once_and_is_safe(fresh):
    assert fresh.run("systemctl is-active slimtad").strip() == "active"
    assert fresh.run("systemctl is-enabled slimtad").strip() == "enabled"
    listening = fresh.run("ss -Hltnp | grep slimtad | awk '{print $4}'").split()
    assert sorted(listening) == ["127.0.0.1:465", "127.0.0.1:587"]
    for port in (587, 465):
        with fresh.connect(port, login=None) as client:
            client.ehlo()
            code, reply = client.mail("a@origin.test")
            assert code == 530, reply
    with pytest.raises(smtplib.SMTPAuthenticationError):
        fresh.connect(587, login="root", password="root")
    assert fresh.run("stat -c '%U:%G %a' /etc/slimta/tls/key.pem /etc/slimta/users /var/lib/slimtad").split("\n")[:3] == [
        "root:slimtad 640", "root:slimtad 640", "slimtad:slimtad 700"]
    assert fresh.run("slimtad check")


def test_key_is_the_machines_own(fresh):
    names = fresh.run("openssl x509 -in /etc/slimta/tls/fullchain.pem -noout -ext subjectAltName")
    assert "DNS:localhost" in names and "IP Address:127.0.0.1" in names


def test_depends_on_debian_libraries_only(fresh):
    libraries = fresh.run("ldd /usr/sbin/slimtad /usr/libexec/slimtad/swift-backtrace")
    assert "not found" not in libraries and "swift" not in libraries.replace("swift-backtrace", "")


def test_manual_pages_and_completions(fresh, deb):
    listed = fresh.run("dpkg -L slimtad")
    for name in (
            "man8/slimtad.8.gz", "man5/slimta.conf.5.gz", "man8/slimtad-queue.8.gz", "man8/slimtad-sendmail.8.gz",
            "completions/slimtad",
            "vendor-completions/_slimtad", "vendor_completions.d/slimtad.fish", "catalog/slimtad.catalog",
            "systemd/system/slimtad.socket", "sysusers.d/slimtad.conf", "tmpfiles.d/slimtad.conf"):
        assert name in listed
    # The image leaves documentation out when it unpacks packages: read it from the package.
    page = subprocess.run(
        f"dpkg-deb --fsys-tarfile {deb} | tar -xO ./usr/share/man/man5/slimta.conf.5.gz | gzip -dc",
        shell=True, check=True, capture_output=True, text=True).stdout
    assert "connections_per_destination" in page and "@KEYS@" not in page
    assert fresh.run("bash -n /usr/share/bash-completion/completions/slimtad") == ""


def test_units_are_right_and_hardened(fresh, fact):
    verified = fresh.execute("systemd-analyze verify --man=no slimtad.service slimtad.socket slimtad-submissions.socket slimtad-pipe.socket slimtad-pipe.service slimtad-pam.socket slimtad-pam.service")
    assert verified.stdout + verified.stderr == ""
    figure = fresh.run("systemd-analyze security --no-pager slimtad | tail -n 1")
    fact(figure.strip())
    assert float(re.search(r"([0-9.]+) OK", figure)[1]) <= 1.5


def test_limits_of_the_unit(fresh):
    """What systemd makes of the unit's limits; and that a failure is tried again for as long as it takes."""
    shown = fresh.run(
        "systemctl show slimtad -p MemoryHigh -p MemoryMax -p TasksMax -p OOMPolicy -p NoExecPaths "
        "-p StartLimitIntervalUSec -p Restart -p SocketBindDeny")
    shown = dict(line.split("=", 1) for line in shown.splitlines())
    assert 0 < int(shown["MemoryHigh"]) < int(shown["MemoryMax"]) and shown["TasksMax"] == "1024"
    assert (shown["OOMPolicy"], shown["StartLimitIntervalUSec"], shown["Restart"]) == ("continue", "0", "on-failure")
    assert shown["NoExecPaths"] == "/" and shown["SocketBindDeny"] == "1-1023"
    # Nothing but itself can be run in there, not even as a library.
    inside = f"nsenter -t {fresh.pid()} -m"
    assert fresh.execute(f"{inside} /usr/sbin/slimtad --version").returncode == 0
    assert fresh.execute(f"{inside} /bin/true").returncode != 0


def test_make_install_and_uninstall(fresh, tmp_path):
    """For those without dpkg: the same files elsewhere, and all but the configuration are taken away again."""
    built = "BUILT=" + str(tmp_path / "slimtad")
    shutil.copy(ROOT / ".build/release/slimtad", tmp_path / "slimtad")
    where = ["make", "-C", ROOT, "PREFIX=/opt/mail", f"DESTDIR={tmp_path}/root", built]
    subprocess.run([*where, "install-files"], check=True, capture_output=True)
    root = tmp_path / "root"
    assert os.access(root / "opt/mail/sbin/slimtad", os.X_OK)
    unit = (root / "lib/systemd/system/slimtad.service").read_text()
    assert "ExecStart=/opt/mail/sbin/slimtad" in unit and "/usr/sbin/slimtad" not in unit
    installed = {str(path.relative_to(root)).replace("opt/mail", "usr") for path in root.rglob("*") if path.is_file()}
    packaged = {
        line.removeprefix("/").removesuffix(".gz").replace("vendor-completions", "site-functions")
        for line in fresh.run("dpkg -L slimtad").splitlines()}
    assert installed - packaged == set()
    subprocess.run([*where, "uninstall"], check=True, capture_output=True)
    assert [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()] == ["etc/slimta/slimta.conf"]


def test_journal_explains(fresh):
    assert "slimtad accepts mail" in fresh.run("journalctl -x -u slimtad --no-pager")


def test_nothing_unexplained_is_said(fresh):
    """All that it says is said by its log handler: nothing of the runtime's."""
    fresh.run("systemctl restart slimtad")
    entries = map(json.loads, fresh.run("journalctl --no-pager -q -o json _COMM=slimtad").splitlines())
    strange = [entry["MESSAGE"] for entry in entries if "MESSAGE_ID" not in entry]
    assert strange == []


def test_conffile_is_the_configuration(fresh):
    assert fresh.run("dpkg-query -W -f '${Conffiles}' slimtad").split()[::2] == [
        "/etc/fail2ban/filter.d/slimtad.conf", CONFIGURATION]


def test_sendmail_is_a_package_of_its_own(fresh, deb):
    """slimtad offers nothing by force; slimtad-mta is what programs call, at once, as any user."""
    assert "slimtad" not in fresh.run("dpkg -S /usr/sbin/sendmail 2>&1; readlink -f /usr/sbin/sendmail; true")
    mta = sorted(deb.parent.glob("slimtad-mta_*_all.deb"))[-1]
    fresh.copy(mta, "/root/slimtad-mta.deb")
    fresh.run("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/slimtad-mta.deb </dev/null 2>&1")
    for name in ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases"):
        assert fresh.run(f"readlink -f {name}").strip() == "/usr/sbin/slimtad"
    fresh.configure("queue", deliver="false")
    fresh.run("systemctl reload slimtad")
    fresh.run("printf 'Subject: x\\n\\nb\\n' | setpriv --reuid=games --regid=games --clear-groups sendmail a@b.test")
    assert "a@b.test" in fresh.run("setpriv --reuid=games --regid=games --clear-groups mailq")
    assert "a@b.test" in fresh.run("mailq") and fresh.run("newaliases")
    fresh.run("slimtad queue remove --all --yes && apt-get purge -y slimtad-mta </dev/null 2>&1")


@pytest.fixture(scope="module")
def older(deb):
    """The package SLIMTAD_PREVIOUS_DEB, or this one, as one that dpkg takes for older, and whose sample was another: so
    dpkg has a question about an slimta.conf that somebody has edited."""
    older = deb.parent / "older.deb"
    folder = deb.parent / "older"
    subprocess.run(["rm", "-rf", folder], check=True)
    subprocess.run(["dpkg-deb", "--raw-extract", os.environ.get("SLIMTAD_PREVIOUS_DEB", deb), folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 0.0.1-1", control.read_text()))
    sample = folder / CONFIGURATION.removeprefix("/")
    sample.write_text(sample.read_text() + "# as it was\n")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", folder, older], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)
    return older


def begin_with(machine, older):
    """A fresh installation of the older package, which delivers nothing, with an edge for load and a user."""
    machine.run("apt-get purge -y slimtad </dev/null 2>&1")
    install(machine, older)
    assert machine.run("dpkg-query -W -f '${Version}' slimtad") == "0.0.1-1"
    machine.configure("queue", deliver="false")
    machine.append('[[edge]]\nname = "load"\ntype = "smtp"\nlisten = ["127.0.0.1:2587"]\ntls = "none"\nauth = "none"\n')
    machine.append("# mine\n")
    machine.add_user()
    machine.run("slimtad reload")


def upgrade(machine, deb):
    """With nobody there to answer: without --force-confold dpkg ends at its question, which is dpkg's."""
    machine.copy(deb, "/root/newer.deb")
    said = machine.run(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -o Dpkg::Options::=--force-confold /root/newer.deb </dev/null 2>&1")
    assert machine.run("dpkg-query -W -f '${Version}' slimtad") != "0.0.1-1"
    assert "Using current old file as you requested" in said
    assert machine.run("systemctl is-active slimtad").strip() == "active"
    assert machine.read(CONFIGURATION).endswith("# mine\n")


def test_upgrade_keeps_queue_and_configuration(fresh, deb, older):
    """While mail comes in and commands run: no connection is refused, and each message is queued once."""
    begin_with(fresh, older)
    with fresh.connect() as client:
        client.sendmail("a@origin.test", ["b@example.test"], message("kept"))
    fresh.run("slimtad queue hold --all")
    certificate = fresh.certificate()
    with Load(fresh, clients=4) as load:
        load.wait_for(50)
        # What one says that the end of the old slimtad meets is not judged; none of them changes anything, or goes on for ever.
        commands = subprocess.Popen(
            [LAB, "exec", "--", "sh", "-c", "while [ ! -e /root/enough ]; do slimtad queue list --limit 1; done"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        upgrade(fresh, deb)
        load.wait_for(50)
        fresh.run("touch /root/enough")
        commands.wait(60)
    assert load.refused == []
    surprising = [why for _, why in load.broken if "Service shutting down" not in why]
    assert surprising == []
    assert fresh.certificate() == certificate
    assert fresh.run("slimtad queue count").strip() == str(1 + len(load.acknowledged))
    assert fresh.run("slimtad queue count --state held").strip() == "1"
    assert "balanced" in fresh.run("slimtad audit")
    fresh.connect().quit()


def test_upgrade_leaves_sockets_open(fresh, deb, older):
    """Those of the ports, of pipes and of PAM; the helper behind one is of the new version."""
    begin_with(fresh, older)
    text = fresh.read(CONFIGURATION)
    for name, port in (("submission", 587), ("submissions", 465)):
        text = text.replace(f'listen = ["127.0.0.1:{port}"]', f'listen = ["systemd:{name}"]')
    fresh.write(CONFIGURATION, text)
    fresh.configure("auth", backends='["file", "pam"]')
    fresh.write("/etc/pam.d/slimtad", "auth required pam_unix.so\naccount required pam_unix.so\n")
    fresh.run("useradd -rM maria; echo 'maria:correct horse' | chpasswd")
    sockets = "slimtad.socket slimtad-submissions.socket slimtad-pipe.socket slimtad-pam.socket"
    fresh.run("systemctl stop slimtad; systemctl enable --now slimtad.socket slimtad-pipe.socket slimtad-pam.socket; "
              "systemctl start slimtad")

    def helper():
        return int(fresh.run("systemctl show -p MainPID --value slimtad-pam"))

    fresh.connect(587, "maria", "correct horse").quit()
    before = helper()
    upgrade(fresh, deb)
    assert fresh.run(f"systemctl is-active {sockets}").split() == ["active"] * 4
    for port in (587, 465):
        fresh.connect(port, "maria", "correct horse").quit()
    assert before and helper() not in (0, before)
    fresh.run("rm /etc/pam.d/slimtad; userdel maria; rm -f /etc/subuid- /etc/subgid-")


def test_removal_keeps_purge_leaves_nothing(fresh):
    # With the sockets of the test before, if it has run.
    fresh.run("apt-get remove -y slimtad </dev/null 2>&1")
    assert "slimtad" not in fresh.run("systemctl list-units --no-legend --plain --state=active 'slimtad*'")
    assert fresh.run("ls /etc/slimta/slimta.conf /var/lib/slimtad/super")
    assert "slimtad" not in fresh.run("ps -eo comm")
    # What the administrator wrote for the unit is not ours.
    theirs = "/etc/systemd/system/slimtad.service.d"
    fresh.write(f"{theirs}/override.conf", "[Service]\nLimitNOFILE=4096\n")
    # Nothing is asked: there is nobody to answer.
    fresh.run("apt-get purge -y slimtad </dev/null 2>&1")
    assert files(fresh) - fresh.before == {theirs, f"{theirs}/override.conf"}
    fresh.run(f"rm -r {theirs}; systemctl daemon-reload")
    assert fresh.run("getent passwd slimtad; getent group slimtad slimtad-admin; true") == ""
    assert fresh.run("ls -d /run/slimtad /run/systemd/system/slimtad* 2>/dev/null; true") == ""
    assert "slimtad" not in fresh.run("systemctl list-unit-files --no-pager; systemctl --failed --no-pager")
