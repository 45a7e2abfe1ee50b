"""README and the manual pages, word for word: a stranger installs slimtad and types what is written there, in its order.

`Typist.type` refuses what is not written; the last test, that something written was not typed. Where a page has a
placeholder (ID), the test says what is typed for it.
"""

import re
import shlex
import smtplib
import socket

import pytest

import manual
from machine import CONFIGURATION, PASSWORD, Failed, submit, wait_until


class Typist:
    def __init__(self, machine):
        self.machine = machine
        self.written = manual.commands()
        self.typed, self.words = set(), set()

    def type(self, command, actual=None, status=0, stdin="", terminal=False, user=None, editor="false"):
        """Types a command that is written down (`actual`: with its placeholders filled in, or with further options that
        are); what it printed, on both streams."""
        assert command in self.written, f"nobody is told to type {command!r}"
        self.typed.add(command)
        line = actual or command
        self.words |= set(line.split())
        if terminal:
            line = f"script -qec {shlex.quote(line)} /dev/null"
        if user:
            line = f"runuser -u {user} -- {line}"
        editor = shlex.quote(editor)
        line = f"export SYSTEMD_EDITOR={editor} EDITOR={editor} SYSTEMD_PAGER=cat; cd /root; {line} 2>&1"
        done = self.machine.execute(line, stdin)
        if done.returncode != status:
            journal = self.machine.run("journalctl -b --no-pager -u slimtad -n 30 -o cat", check=False)
            raise Failed(f"{line}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return done.stdout

    def edit_unit(self, text):
        """`systemctl edit slimtad`, where this is written into the editor."""
        self.machine.write("/root/drop-in", text)
        self.type("systemctl edit slimtad", terminal=True, editor="cp /root/drop-in")


@pytest.fixture(scope="module")
def typist(bare, deb):
    bare.start_mx()
    # Where README has it: beside the one who types.
    bare.copy(deb, f"/root/{deb.name}")
    bare.run(f"mkdir -p /root/.build/deb && mv /root/{deb.name} /root/.build/deb/")
    return Typist(bare)


def edit(machine, *changes):
    """Changes of slimta.conf, each of them possible once or more."""
    text = machine.read(CONFIGURATION)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    machine.write(CONFIGURATION, text)


def logs_in(machine, address, login, password=PASSWORD, port=587):
    try:
        machine.connect(port, login, password, address=address).quit()
        return True
    except (ConnectionRefusedError, smtplib.SMTPException):
        return False


def listening(machine):
    return sorted(machine.run("ss -Hltn 'sport = :587 or sport = :465' | awk '{print $4}'").split())


# README, Install


def test_install(typist):
    typist.type("apt install ./.build/deb/slimtad_*.deb", stdin="y\n")
    assert typist.machine.run("systemctl is-active slimtad").strip() == "active"
    assert listening(typist.machine) == ["127.0.0.1:465", "127.0.0.1:587"]


def test_edit_users_check_reload(typist):
    """The recipe: host name, certificate and edges in the editor, a user, check, reload. Other machines can send."""
    machine = typist.machine
    serial = machine.make_certificate("mine")
    machine.write("/root/edits", "\n".join([
        's|^# hostname = .*|hostname = "mail.origin.test"|',
        's|^certificate = "/etc/slimta/tls/fullchain.pem"|certificate = "/etc/slimta/tls/mine.pem"|',
        's|^key = "/etc/slimta/tls/key.pem"|key = "/etc/slimta/tls/mine.key"|',
        r's|^listen = \["127.0.0.1:\([0-9]*\)"\]|listen = ["[::]:\1"]|',
        # Its MX and its name server are the machine itself.
        's|^# allow_networks = .*|allow_networks = ["127.0.0.0/8"]|', 's|^# dnssec = "auto"|dnssec = "off"|',
        's|^# retry = .*|retry = ["1s"]|', ""]))
    typist.type("$EDITOR /etc/slimta/slimta.conf", editor="sed -i -f /root/edits")
    typist.type("slimtad passwd alice", stdin=PASSWORD + "\n")
    said = typist.type("slimtad check")
    assert "[::]:587" in said
    assert "[::]:587" in typist.type("slimtad check", "slimtad check --dns")
    typist.type("systemctl reload slimtad")
    assert listening(machine) == ["*:465", "*:587"]
    assert logs_in(machine, "::1", "alice") and logs_in(machine, "127.0.0.7", "alice")
    assert "alice" in typist.type("slimtad passwd alice", "slimtad users list")
    typist.type("slimtad passwd alice", "slimtad users test alice", stdin=PASSWORD + "\n")
    assert machine.certificate() == serial
    with machine.connect(587, "alice", address="127.0.0.7") as client:
        submit(client, "by the recipe")
    wait_until(lambda: "by the recipe" in machine.delivered(), what="the message at the MX")


def test_who_guesses(typist):
    assert typist.type("slimtad guess list") == ""
    assert "nothing is held against 192.0.2.1" in typist.type("slimtad guess release 192.0.2.1", status=69)


def test_sites(typist):
    """The MX of this machine is known by the messages that it was sent before."""
    name = shlex.quote(typist.type("slimtad site list").splitlines()[0].split("\t")[0])
    assert "\t" in typist.type("slimtad site list", "slimtad site list --here")
    host = "mx.example.net"
    assert f"nothing is known of a site {host}" in typist.type(f"slimtad site show {host}", status=69)
    limits = "--connections 15 --rate 6000/m --messages 90 --recipients 80"
    typist.type(f"slimtad site set --rate 60/m {host}", f"slimtad site set {limits} {name}")
    shown = typist.type(f"slimtad site show {host}", f"slimtad site show {name}")
    assert "15 (set by command)" in shown and "6000/m (set by command)" in shown
    assert "forgotten" in typist.type(f"slimtad site forget {host}", f"slimtad site forget {name}")


def test_database(typist):
    """The queue of this machine is in its files; with one in PostgreSQL the commands are the interop tests'."""
    for command in ("slimtad database init", "slimtad database status", "slimtad database upgrade"):
        actual = f"{command} --buckets 16" if command.endswith("init") else command
        assert 'storage = "postgresql"' in typist.type(command, actual, status=78)
    for command in ("slimtad queue move --to postgresql", "slimtad queue move --to local"):
        assert 'storage = "postgresql"' in typist.type(command, status=78)


def test_nodes(typist):
    """As with the database."""
    alone = "this queue is one machine's alone"
    assert alone in typist.type("slimtad node drain mx2", status=69)
    assert alone in typist.type("slimtad node drain mx2", "slimtad node drain --force --no-wait mx2", status=69)
    assert alone in typist.type("slimtad node forget mx2", status=69)
    assert "queue" in typist.type("slimtad status --all")


def test_install_elsewhere(typist):
    """What follows `make install`, here where it changes nothing."""
    typist.machine.run("systemd-sysusers")
    typist.type("systemctl enable --now slimtad")
    assert typist.machine.run("systemctl is-enabled slimtad").strip() == "enabled"


# Every change of listen


def warnings(typist):
    """What `status` warns of, but for the certificate, which is self-signed, for fewer files than the unit asks for,
    which is the host's, and for deliver = false, which is these tests'."""
    expected = r"certificate|only \d+ files|nothing is delivered: \[queue\] deliver = false"
    found = re.findall(r"^warning: +(.*)", typist.type("slimtad status"), re.M)
    return [warning for warning in found if not re.match(expected, warning)]


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_every_change_of_listen(typist, how):
    """One that overlaps, one that does not, and back: by reload and by restart."""
    machine = typist.machine
    for address, shown in [
            ("127.0.0.1", "127.0.0.1"), ("[::]", "*"), ("0.0.0.0", "0.0.0.0"), ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"), ("[::]", "*")]:
        machine.run(f"sed -i 's|^listen = .*:587\"\\]|listen = [\"{address}:587\"]|' {CONFIGURATION}")
        typist.type("slimtad check")
        typist.type(f"systemctl {how} slimtad")
        assert listening(machine) == sorted(["*:465", f"{shown}:587"])
        assert logs_in(machine, "::1" if ":" in address else "127.0.0.1", "alice")
        assert not warnings(typist)


def test_listen_that_cannot_be(typist):
    """A reload keeps the old and fails; a restart is tried again until it works, however long that takes."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    with machine.network(), socket.create_server(("127.0.0.9", 2600)):
        machine.run(f"sed -i 's|^listen = .*:587\"\\]|listen = [\"127.0.0.9:2600\"]|' {CONFIGURATION}")
        mark = machine.cursor()
        assert "failed" in typist.type("systemctl reload slimtad", status=1)
        machine.wait_for_journal("reload failed.*127.0.0.9:2600", mark)
        assert "127.0.0.9:2600" in typist.type("slimtad reload", status=78)
        assert "the last reload failed" in typist.type("systemctl status slimtad")
        assert "has been changed and is not in use" in typist.type("slimtad status")
        assert listening(machine) == ["*:465", "*:587"] and logs_in(machine, "::1", "alice")
        typist.type("systemctl restart slimtad", status=1)
        wait_until(lambda: int(machine.run("systemctl show -p NRestarts --value slimtad")) >= 3, 60, "three restarts")
    wait_until(lambda: machine.run("systemctl is-active slimtad; true").strip() == "active", 60, "the start")
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")
    assert listening(machine) == ["*:465", "*:587"]


# Reloads that fail


def test_failed_reload_says_why(typist):
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.append("message_sizes = 1\n")
    typist.type("systemctl reload slimtad", status=1)
    assert "message_sizes" in typist.type("slimtad reload", status=78)
    typist.type("slimtad check", status=78)
    assert logs_in(machine, "127.0.0.1", "alice")
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")
    assert "reload" not in typist.type("systemctl status slimtad").split("Status:")[1].split("\n")[0]


def test_certificate_that_is_refused(typist):
    """The reload takes the rest, and fails; the journal, the status line and `status` name the file."""
    machine = typist.machine
    good = machine.read("/etc/slimta/tls/mine.pem")
    serial = machine.certificate()
    machine.write("/etc/slimta/tls/mine.pem", "no certificate\n")
    typist.type("slimtad passwd alice", "slimtad passwd --senders '@origin.test' bob", stdin=PASSWORD + "\n")
    typist.type("systemctl reload slimtad", status=1)
    said = typist.type("slimtad reload", status=78)
    assert "/etc/slimta/tls/mine.pem" in said and "everything else is in use" in said
    assert "/etc/slimta/tls/mine.pem" in typist.type("systemctl status slimtad")
    assert "/etc/slimta/tls/mine.pem" in typist.type("slimtad status")
    assert machine.certificate() == serial and logs_in(machine, "127.0.0.1", "bob")
    machine.write("/etc/slimta/tls/mine.pem", good)
    typist.type("systemctl reload slimtad")
    typist.type("slimtad passwd alice", "slimtad passwd --delete bob")
    typist.type("systemctl reload slimtad")
    assert not logs_in(machine, "127.0.0.1", "bob")


def test_changes_of_a_user(typist):
    """Disabled and back, for a time, a password for one application, a certificate: without a reload."""
    machine, passwd = typist.machine, "slimtad passwd alice"

    def change(words, may, password=PASSWORD, **options):
        printed = typist.type(passwd, f"slimtad passwd {words} carol", **options)
        wait_until(lambda: logs_in(machine, "127.0.0.1", "carol", password) == may, what=f"logins after {words!r}")
        return printed

    change("", True, stdin=PASSWORD + "\n")
    change("--disable", False)
    change("--enable", True)
    change("--expires 2001-01-31", False)
    change("--expires never", True)
    for_phone = typist.type(passwd, "slimtad passwd --app phone --networks 127.0.0.0/8,::1/128 carol").splitlines()[0]
    wait_until(lambda: logs_in(machine, "127.0.0.1", "carol", for_phone), what="a login with the password of the phone")
    assert "phone" in typist.type(passwd, "slimtad passwd --list")
    change("--app phone --delete", False, for_phone)
    assert "certificate" in change("--certificate /etc/slimta/tls/mine.pem", True)
    change("--certificate /etc/slimta/tls/mine.pem --delete", True)
    change("--delete", False)


# Rules


RULES = """
[[rule]]
name = "closed"
at = "rcpt"
recipient_file = "/etc/slimta/closed.gdbm"
reply = "550 5.1.1 {recipient} is closed"

[[rule]]
name = "strangers"
at = "mail"
not = { sender = ["@origin.test"] }
action = "log"
"""


def refused(machine, recipient):
    """What the edge says to a recipient; None: it is taken."""
    with machine.connect(587, "alice", address="127.0.0.7") as client:
        client.mail("a@origin.test")
        code, text = client.rcpt(recipient)
        return text.decode() if code != 250 else None


def test_rules_with_a_list(typist):
    """A list is made, the rule is checked, explained and reloaded; what is wrong with it is told and changes nothing."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.write("/etc/slimta/closed", "# nobody is to write there\nclosed@example.test\n@shut.test\n")
    machine.run("chgrp slimtad /etc/slimta/closed && chmod 640 /etc/slimta/closed")
    assert "2 entries" in typist.type("slimtad map /etc/slimta/closed")
    assert machine.run("stat -c '%U:%G %a' /etc/slimta/closed.gdbm").strip() == "root:slimtad 640"
    machine.append(RULES)
    typist.type("slimtad check")
    typist.type("systemctl reload slimtad")
    assert "closed@example.test is closed" in refused(machine, "closed@example.test")
    assert "is closed" in refused(machine, "any@shut.test") and refused(machine, "open@example.test") is None

    # A list with a mistake: no map is made of it, and as text it keeps the old rules.
    machine.write("/etc/slimta/closed", "closed@example.test\nall*@example.test\n")
    assert "/etc/slimta/closed:2: " in typist.type("slimtad map /etc/slimta/closed", status=78)
    edit(machine, ("closed.gdbm", "closed"))
    for command, status in (("slimtad check", 78), ("slimtad reload", 78), ("systemctl reload slimtad", 1)):
        said = typist.type(command, status=status)
        assert status == 1 or "recipient_file: /etc/slimta/closed:2: " in said
    assert "is closed" in refused(machine, "any@shut.test")

    # Mended, and another output.
    machine.write("/etc/slimta/closed", "open@example.test\n")
    typist.type("slimtad map /etc/slimta/closed", "slimtad map /etc/slimta/closed --output /etc/slimta/other.gdbm")
    edit(machine, ("/etc/slimta/closed", "/etc/slimta/other.gdbm"))
    typist.type("slimtad reload")
    assert "is closed" in refused(machine, "open@example.test") and refused(machine, "any@shut.test") is None

    # By whom was it? The rule that only logs has met bob.
    typist.type("slimtad passwd alice", "slimtad passwd bob", stdin=PASSWORD + "\n")
    typist.type("systemctl reload slimtad")
    with machine.connect(587, "bob", address="127.0.0.7") as client:
        client.mail("b@elsewhere.test")
    wait_until(lambda: "strangers" in typist.type(
        "journalctl SLIMTA_RULE=...", "journalctl SLIMTA_RULE=strangers -o json"), what="the rule's line")

    said = typist.type("slimtad explain-session --client 192.0.2.1 --ehlo x --mail a@b.c", status=1)
    assert "530 5.7.0" in said
    everything = (
        "slimtad explain-session --client 192.0.2.1 --edge submission --early-talker --ehlo x --tls "
        "--cipher TLS_AES_128_GCM_SHA256 --certificate x.example --proxy-tls --login alice --mechanism PLAIN --backend file "
        "--mail a@example.com --size 100 "
        "--rcpt open@example.test --rcpt b@example.test --message /root/message --at 'mon 09:30' "
        "--rate 'login 120/hour' --ptr none --spf pass --no-lookups")
    machine.write("/root/message", "Subject: x\n\nx\n")
    said = typist.type("slimtad explain-session", everything)
    assert "the client is told: 550 5.1.1 open@example.test is closed" in said and "strangers: matches; log" in said
    assert '"outcome"' in typist.type("slimtad explain-session", everything + " --json")
    machine.append('[[dnsbl]]\nname = "bad"\nzone = "bad.test"\n[[rule]]\nname = "listed"\nat = "connect"\n'
                   'dnsbl = "bad"\nreply = "554 5.7.1 {reason}"\n')
    for option, status in (("--listed bad", 1), ("--not-listed bad", 0), ("--no-lookups", 69)):
        typist.type("slimtad explain-session", f"slimtad explain-session --client 192.0.2.1 {option}", status=status)
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


# README, Operate, and slimtad-queue(8)


@pytest.fixture
def queued(typist):
    """Two messages that wait, one of alice's and one of bob's; their queue ids."""
    machine = typist.machine
    machine.run(f"sed -i 's|^# deliver = true|deliver = false|' {CONFIGURATION}")
    typist.type("slimtad passwd alice", "slimtad passwd bob", stdin=PASSWORD + "\n")
    typist.type("systemctl reload slimtad")
    ids = []
    for login in ("alice", "bob"):
        with machine.connect(465, login) as client:
            ids.append(submit(client, f"of {login}"))
    return ids


def test_looking_at_the_queue(typist, queued):
    machine = typist.machine
    everything = typist.type("slimtad queue list")
    assert all(queue_id in everything for queue_id in queued)
    assert typist.type("slimtad queue") == everything
    for option in ("--sender a@origin.test", "--recipient @example.test", "--domain example.test", "--age 0s",
                   "--state due", "--limit 10"):
        assert queued[0] in typist.type("slimtad queue list", f"slimtad queue list {option}"), option
    assert queued[0] in typist.type("slimtad queue list", "slimtad queue list --json")
    assert queued[1] not in typist.type("slimtad queue list --login alice")
    typist.type("slimtad queue list", "slimtad queue list --reason greylisted")
    typist.type("slimtad queue list --domain example.com --state deferred")
    assert "b@example.test" in typist.type("slimtad queue show ID", f"slimtad queue show {queued[0]}")
    shown = typist.type("slimtad queue show ID", f"slimtad queue show {queued[0]} --content")
    assert "X-Test: of alice" in shown
    assert "2" in typist.type("slimtad queue list", "slimtad queue count")
    assert queued[0] in typist.type("journalctl SLIMTA_QUEUE_ID=...", f"journalctl SLIMTA_QUEUE_ID={queued[0]}")
    wait_until(lambda: "2 queued" in typist.type("systemctl status slimtad"), what="the status line")
    assert "balanced" in typist.type("slimtad audit")
    typist.type("slimtad audit --acknowledge")


def test_changing_the_queue(typist, queued):
    typist.type("slimtad queue hold --login alice")
    typist.type("slimtad queue remove --login alice", "slimtad queue remove --login alice --yes")
    written = "slimtad queue flush|hold|release|remove|bounce"
    for action in ("hold", "release", "flush"):
        typist.type(written, f"slimtad queue {action} {queued[1]}")
    typist.type(written, f"slimtad queue bounce {queued[1]} --yes")
    typist.type(written, "slimtad queue remove --all --yes")
    assert typist.type("slimtad queue list", "slimtad queue count").strip() == "0"


def test_holding_a_login(typist, queued):
    written = "slimtad login hold|release|bounce"
    assert "alice is held, and 1 message" in typist.type(written, "slimtad login hold alice")
    assert "alice" in typist.type("slimtad login list", "slimtad login list --held")
    assert "alice" in typist.type("slimtad login list", "slimtad login list --limit 1")
    assert "wants it so" in typist.type("slimtad login show alice")
    assert "1 removed" in typist.type("slimtad queue remove --login alice --reason breaker --yes")
    assert "alice is released" in typist.type("slimtad login release alice")
    assert "bob is held, and 1 message" in typist.type(written, "slimtad login hold bob")
    assert "1 message of bob bounced" in typist.type(written, "slimtad login bounce --yes bob")
    typist.type(written, "slimtad login release bob")
    typist.type("slimtad queue remove --login alice", "slimtad queue remove --all --yes")


def test_curl(typist, queued):
    for command in [command for command in typist.written if command.startswith("curl --unix-socket")]:
        assert '"error"' not in typist.type(command)


def test_curl_to_an_edge(typist):
    """What README posts: over HTTPS with a password, which is asked for; and as JSON to an edge on this machine."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.append(
        '[[edge]]\nname = "web"\ntype = "http"\nlisten = ["127.0.0.1:8025"]\ntls = "none"\nauth = "none"\njson = true\n')
    machine.run("systemctl reload slimtad")
    machine.write("/root/message", "Subject: x\n\nHello\n")
    for command in [command for command in typist.written if command.startswith("curl") and "--unix" not in command]:
        address = re.search(r"https?://[^/ ]+", command)[0]
        actual = command.replace("-u alice ", "").replace(address, "http://127.0.0.1:8025") + " -w '%{http_code}'"
        assert re.search(r"20[02]$", typist.type(command, actual=actual).strip())
    machine.write(CONFIGURATION, before)
    machine.run("systemctl reload slimtad")


def test_member_of_the_group(typist, queued):
    """Who is in slimtad-admin steers it without being root; who is not is told so."""
    machine = typist.machine
    machine.run("useradd -m -G slimtad-admin opal && useradd -m stranger")
    assert "slimtad:" in typist.type("slimtad status", user="opal")
    typist.type("slimtad reload", user="opal")
    assert queued[0] in typist.type("slimtad queue list", user="opal")
    assert "slimtad-admin" in typist.type("slimtad status", user="stranger", status=77)
    assert machine.run("stat -c '%U:%G %a' /run/slimtad/control").strip() == "slimtad:slimtad-admin 660"
    # And so it is after a start as root.
    machine.drop_in(manual.block("slimtad.8", "User=root"))
    machine.run("systemctl restart slimtad")
    assert "slimtad:" in typist.type("slimtad status", user="opal")
    machine.remove_drop_ins()
    machine.run("systemctl restart slimtad")


# slimtad(8)


def test_under_systemd(typist):
    machine = typist.machine
    typist.type("systemctl stop slimtad")
    assert listening(machine) == []
    typist.type("systemctl start slimtad")
    # Returns when mail is accepted: nothing is waited for.
    assert logs_in(machine, "127.0.0.1", "alice")
    assert "slimtad accepts mail" in typist.type("journalctl -x -u slimtad")


def test_sockets_of_systemd(typist):
    """The three commands of slimtad(8), and back; every change by reload that is possible."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    text = manual.block("slimtad.8", "systemd:submission")
    lines = [line for line in text.splitlines() if line.startswith("listen")]
    edit(machine, ('listen = ["[::]:587"]', lines[0]), ('listen = ["[::]:465"]', lines[1]))
    commands = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# systemctl")]
    assert len(commands) == 3
    # Not without them, and then nothing is changed.
    assert "slimtad.socket" in typist.type("slimtad reload", status=78)
    assert logs_in(machine, "::1", "alice")
    for command in commands:
        typist.type(command)
    for port in (587, 465):
        assert logs_in(machine, "127.0.0.1", "alice", port=port)
    assert not warnings(typist)
    typist.type("systemctl restart slimtad")
    assert logs_in(machine, "127.0.0.1", "alice")
    # The first connection starts it.
    machine.run("systemctl stop slimtad 2>/dev/null")
    assert logs_in(machine, "127.0.0.1", "alice") and machine.pid() != 0
    # Back: what systemd has, slimtad cannot open, and says so.
    machine.write(CONFIGURATION, before)
    assert 'listen = ["systemd:submission"]' in typist.type("slimtad reload", status=78)
    typist.type("systemctl stop slimtad")
    typist.type("systemctl disable --now slimtad.socket slimtad-submissions.socket")
    typist.type("systemctl start slimtad")
    assert logs_in(machine, "::1", "alice")


def test_sockets_without_the_configuration(typist):
    """They are enabled and slimta.conf was forgotten: the text says who has the port; without them it comes back."""
    machine = typist.machine
    typist.type("systemctl stop slimtad")
    typist.type("systemctl enable --now slimtad.socket")
    mark = machine.cursor()
    typist.type("systemctl start slimtad", status=1)
    machine.wait_for_journal(r'cannot run.*listen = .*systemd:submission', mark)
    typist.type("systemctl disable --now slimtad.socket slimtad-submissions.socket")
    wait_until(lambda: logs_in(machine, "::1", "alice"), 60, "a login")


def test_started_as_root(typist):
    """The drop-in of slimtad(8), in the editor of `systemctl edit`; every change of listen works there too."""
    machine = typist.machine
    typist.edit_unit(manual.block("slimtad.8", "User=root"))
    typist.type("systemctl stop slimtad")
    machine.run("systemd-tmpfiles --create slimtad.conf")
    typist.type("systemctl start slimtad")
    assert machine.run(f"ps -o user= -p {machine.pid()}").strip() == "slimtad"
    for address, shown in [("127.0.0.1", "127.0.0.1"), ("[::]", "*")]:
        for how in ("reload", "restart"):
            machine.run(f"sed -i 's|^listen = .*:587\"\\]|listen = [\"127.0.0.8:587\"]|' {CONFIGURATION}")
            typist.type("systemctl reload slimtad")
            machine.run(f"sed -i 's|^listen = .*:587\"\\]|listen = [\"{address}:587\"]|' {CONFIGURATION}")
            typist.type(f"systemctl {how} slimtad")
            assert f"{shown}:587" in listening(machine)
    machine.run("systemctl revert slimtad")
    typist.type("systemctl restart slimtad")
    assert logs_in(machine, "::1", "alice")


def test_key_as_a_credential(typist):
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    text = manual.block("slimtad.8", "LoadCredential=")
    unit, configuration = text.split("# slimta.conf")
    machine.run("mkdir -p /etc/letsencrypt/live/mail && cd /etc/letsencrypt/live/mail && "
                "cp /etc/slimta/tls/mine.key privkey.pem && chmod 600 privkey.pem")
    typist.edit_unit(unit)
    key = next(line for line in configuration.splitlines() if line.startswith("key"))
    edit(machine, ('key = "/etc/slimta/tls/mine.key"', key))
    typist.type("systemctl restart slimtad")
    assert logs_in(machine, "127.0.0.1", "alice")
    typist.type("systemctl reload slimtad")
    machine.write(CONFIGURATION, before)
    machine.run("systemctl revert slimtad")
    typist.type("systemctl restart slimtad")


def test_without_systemd(typist):
    machine = typist.machine
    typist.type("systemctl stop slimtad")
    machine.run("systemd-tmpfiles --create slimtad.conf")
    typist.type("slimtad run --daemonize --pid-file /run/slimtad/pid")
    pid = machine.run("cat /run/slimtad/pid").strip()
    assert logs_in(machine, "::1", "alice")
    for address in ("127.0.0.1", "[::]", "0.0.0.0", "[::]"):
        machine.run(f"sed -i 's|^listen = .*:587\"\\]|listen = [\"{address}:587\"]|' {CONFIGURATION}")
        typist.type("slimtad reload")
        assert logs_in(machine, "::1" if "::" in address else "127.0.0.1", "alice")
    machine.run(f"kill -HUP {pid}")
    # DRAIN, which waits until it has ended.
    typist.type("slimtad reload", "slimtad drain")
    assert machine.execute(f"test -e /proc/{pid}").returncode != 0
    typist.type("slimtad run --daemonize --pid-file /run/slimtad/pid",
                f"slimtad run --daemonize --pid-file /run/slimtad/pid --config {CONFIGURATION}")
    typist.type("slimtad reload", "slimtad drain --no-wait")
    wait_until(lambda: "slimtad" not in machine.run("ps -eo comm"), what="the daemon's end")
    typist.type("slimtad status", status=69)
    typist.type("systemctl start slimtad")


def test_keys_that_sign(typist):
    """The first one before the reload that needs it, and the next one, which waits for DNS."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.write(CONFIGURATION, before + '\n[[dkim]]\ndomains = ["keys.test"]\n')
    assert "slimtad dkim generate" in typist.type("slimtad check", status=78)
    assert "._domainkey.keys.test. IN TXT" in typist.type("slimtad dkim generate")
    typist.type("systemctl reload slimtad")
    assert "the record is not there" in typist.type("slimtad dkim check", status=1)
    assert ", made since " in typist.type("slimtad dkim show")
    assert ", made since " in typist.type("slimtad dkim show example.com", "slimtad dkim show keys.test")
    assert "waits for DNS" in typist.type(
        "slimtad dkim rotate example.com", "slimtad dkim rotate keys.test --algorithm rsa-sha256 --selector s2", status=1)
    assert machine.run("stat -c '%U %a' /var/lib/slimtad/dkim/keys/keys.test/*").strip() == "slimtad 600"
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


def test_how_securely_mail_leaves(typist):
    assert "mx.example.test: encrypted where that is offered" in typist.type(
        "slimtad tls explain DOMAIN", "slimtad tls explain example.test")
    typist.type("slimtad tls list")


def test_reports_of_tls(typist):
    """Nothing is counted without [tls_report], and nothing sent."""
    machine = typist.machine
    typist.type("slimtad tlsrpt show")
    typist.type("slimtad tlsrpt send --today", status=69)
    before = machine.read(CONFIGURATION)
    machine.write(CONFIGURATION, before + '\n[tls_report]\ncontact = "tls@example.com"\n')
    typist.type("slimtad check")
    typist.type("systemctl reload slimtad")
    typist.type("slimtad tlsrpt send --today")
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


def test_files(typist):
    """Owner and mode as FILES says."""
    machine = typist.machine
    page = manual.page("slimtad.8").split(".Sh FILES")[1].split(".Sh ")[0]
    for path in re.findall(r"^\.It Pa (\S+)", page, re.M):
        assert machine.execute(f"test -e {path}").returncode == 0, path
    assert "root's, group slimtad, mode 0640" in page
    assert machine.run("stat -c '%U:%G %a' /etc/slimta/users").strip() == "root:slimtad 640"


# slimta.conf(5)


def test_addresses_of_every_kind(typist):
    """"host:port", "[v6]:port", "unix:/path", as slimta.conf(5) and the sample have them; "systemd:NAME" is above."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    edit(machine, ('listen = ["[::]:587"]',
                   'listen = ["localhost:587", "[::1]:2587", "127.0.0.7:587", "unix:/run/slimtad/submission"]'))
    for command in ("slimtad check", "systemctl reload slimtad", "systemctl restart slimtad"):
        typist.type(command)
    assert logs_in(machine, "127.0.0.1", "alice") and logs_in(machine, "127.0.0.7", "alice")
    assert logs_in(machine, "::1", "alice", port=2587)
    assert machine.run("stat -c '%U:%G %a %F' /run/slimtad/submission").strip() == "slimtad:slimtad 660 socket"
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")
    assert listening(machine) == ["*:465", "*:587"]


def test_a_command_for_each_recipient(typist):
    """slimtad(8): the unit that runs commands as others, which slimtad.service itself never could."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.write("/usr/local/bin/deliver", '#!/bin/sh\n{ id -un; grep -E "CapEff|NoNewPrivs" /proc/self/status; cat; } '
                                            '>"/var/mail/$1"\n')
    machine.run("chmod 755 /usr/local/bin/deliver; chmod 1777 /var/mail")
    machine.append(
        '[[route]]\ndomains = ["pipe.test"]\ntype = "pipe"\ncommand = ["/usr/local/bin/deliver", "{user}"]\n'
        'user = "mail"\n')
    machine.configure("queue", deliver="true")
    assert "slimtad-pipe.socket" in typist.type("slimtad check")
    typist.type("systemctl enable --now slimtad-pipe.socket")
    assert "slimtad-pipe.socket" not in typist.type("slimtad check")
    typist.type("systemctl reload slimtad")
    with machine.connect(587, "alice") as client:
        client.sendmail("a@origin.test", ["piped@pipe.test"], b"Subject: piped\r\n\r\nHello\r\n")
    wait_until(lambda: "Hello" in machine.run("cat /var/mail/piped 2>/dev/null; true"), 30, "the command")
    text = machine.read("/var/mail/piped")
    assert text.startswith("mail\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nReturn-Path: <a@origin.test>\n")
    assert machine.run("stat -c %U /var/mail/piped").strip() == "mail"
    helper = int(machine.run("systemctl show -p MainPID --value slimtad-pipe"))
    # CAP_KILL, CAP_SETGID, CAP_SETUID.
    assert machine.run(f"awk '/CapBnd/ {{print $2}}' /proc/{helper}/status").strip() == "00000000000000e0"
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


def test_pam(typist):
    """slimtad(8): pam_unix, for users of the machine, with the unit's sandbox as it is."""
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    machine.run("useradd -M -s /usr/sbin/nologin maria; echo 'maria:correct horse' | chpasswd")
    machine.configure("auth", backends='["file", "pam"]')
    told = typist.type("slimtad check")
    assert "/etc/pam.d/slimtad does not exist" in told and "slimtad-pam.socket" in told
    # The file as it is printed there, under the comment that names it.
    heading, service = manual.block("slimtad.8", "pam_unix.so").split("\n\n")[0].split("\n", 1)
    assert heading == "# in /etc/pam.d/slimtad" and "account" in service, (heading, service)
    machine.write("/etc/pam.d/slimtad", service + "\n")
    typist.type("systemctl enable --now slimtad-pam.socket")
    told = typist.type("slimtad check")
    assert "PAM: /etc/pam.d/slimtad" in told and "slimtad-pam.socket" not in told
    typist.type("systemctl reload slimtad")

    def code(user, password):
        try:
            with machine.connect(587, user, password):
                return 235
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code, error.smtp_error

    assert code("maria", "correct horse") == 235 and logs_in(machine, "127.0.0.1", "alice")
    for user, password in [("maria", "wrong"), ("root", "wrong"), ("no-such-user", "wrong")]:
        assert code(user, password) == (535, b"5.7.8 Authentication credentials invalid")
    for change, reason in [("chage -E 0 maria", b"login has expired"), ("chage -E -1 -d 0 maria", b"password has expired")]:
        machine.run(change)
        assert code("maria", "correct horse")[0] == 535 and reason in code("maria", "correct horse")[1]
    machine.run("chage -d 2026-01-01 maria")
    # Whoever may not read the file is asked by nobody else: mode 0000, as other systems have it.
    machine.run("chmod 0 /etc/shadow")
    assert code("maria", "correct horse") == 235
    machine.run("chmod 640 /etc/shadow; usermod -L maria")
    assert code("maria", "correct horse")[0] == 535
    assert machine.run("stat -c '%U:%G %a' /run/slimtad-pam").strip() == "slimtad:slimtad 600"
    helper = int(machine.run("systemctl show -p MainPID --value slimtad-pam"))
    # CAP_DAC_READ_SEARCH, CAP_AUDIT_WRITE.
    assert machine.run(f"awk '/CapBnd/ {{print $2}}' /proc/{helper}/status").strip() == "0000000020000004"
    machine.run("systemctl stop slimtad-pam.socket slimtad-pam.service")
    assert code("maria", "correct horse")[0] == 454
    machine.run("userdel maria; rm /etc/pam.d/slimtad; systemctl disable slimtad-pam.socket")
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


def test_daemon_table_is_read_at_start(typist):
    machine = typist.machine
    before = machine.read(CONFIGURATION)
    edit(machine, ('# drain_timeout = "30s"', 'drain_timeout = "20s"'))
    mark = machine.cursor()
    typist.type("systemctl reload slimtad")
    machine.wait_for_journal(r"changes of \[daemon\] take effect at the next start", mark)
    machine.write(CONFIGURATION, before)
    typist.type("systemctl reload slimtad")


def test_all_that_is_written_was_typed(typist):
    """But what other tests have: rebuild is the interop tests'."""
    assert typist.written.keys() - typist.typed == set()
    options = set()
    for name in ("slimtad.8", "slimtad-queue.8"):
        options |= {f"--{option}" for option in re.findall(r"\bFl -([a-z-]+)", manual.page(name))}
    assert len(options) > 10 and options - typist.words == set()


def test_nothing_is_lost_by_all_this(typist):
    assert "balanced" in typist.type("slimtad audit")
    assert typist.machine.run("systemctl --failed --no-legend --plain | grep -c slimtad; true").strip() == "0"
