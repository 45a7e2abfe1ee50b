"""The sendmail command: as programs of Debian call it, row for row where sendmails differ, and whoever may not.

Messages go to the daemon's sendmail edge and from there to one sink; each test has recipients of its own.
"""

import email
import email.policy
import itertools
import os
import pwd
import subprocess

import pytest

from harness.machine import GROUP, IS_ROOT, MX_PORT, SLIMTAD, fill, give, must_exist, wait_until
from harness.sink import Sink
from harness.slimtad import (
    CANNOT_CREATE, CONFIGURATION, HOSTNAME, NOT_PERMITTED, OK, TEMPORARY, UNAVAILABLE, USAGE, Slimtad, run_slimtad)

DATA, NO_INPUT, NO_USER, INPUT_OUTPUT = 65, 66, 67, 74
# Who calls, where it is to be nobody who may send as others; without root everybody is such a user.
CALLER = "games" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
OWN = f"{CALLER}@{HOSTNAME}"

_numbers = itertools.count(1)


def address(name="to"):
    """A recipient that no other test has."""
    return f"{name}{next(_numbers)}@example.test"


class Mail:
    """A daemon with a sendmail edge, a sink that gets everything, and the command in a folder as a system has it."""

    def __init__(self, place, sink, **settings):
        self.sink = sink
        self.folder = place.folder("bin")
        self.daemon = Slimtad(place, relay={
            "type": "smtp", "host": f"{self.sink.address}:{MX_PORT}", "tls": "none", "port": None, "allow_networks": None},
            **settings)
        place.slimtads.append(self.daemon)
        edges = self.daemon.settings["edge"]
        self.socket = self.daemon.runtime / "sendmail"
        edges.append({"name": "sendmail", "type": "sendmail", "listen": [f"unix:{self.socket}"]})
        self.daemon.change(edge=edges, rule=[
            {"name": "closed", "at": "rcpt", "recipient": "closed@example.test", "reply": "550 5.1.1 {recipient} is closed"},
            {"name": "later", "at": "rcpt", "recipient": "later@example.test", "reply": "450 4.2.0 Not now"},
            {"name": "wait", "at": "mail", "sender": f"{CALLER}+later@{HOSTNAME}", "reply": "451 4.7.1 Later"},
            {"name": "never", "at": "mail", "sender": f"{CALLER}+never@{HOSTNAME}", "reply": "550 5.7.1 Never"},
            {"name": "hold", "at": "mail", "sender": f"{CALLER}+hold@{HOSTNAME}", "action": "hold"}])
        # As /usr/sbin/sendmail is, but for the configuration, which a system has in its usual place.
        (self.folder / "real").mkdir()
        for name in ("sendmail", "mailq", "newaliases"):
            (self.folder / "real" / name).symlink_to(SLIMTAD)
            script = self.folder / name
            script.write_text(f'#!/bin/sh\nexec {self.folder}/real/{name} --config {self.daemon.configuration} "$@"\n')
            script.chmod(0o755)
        self.sendmail = str(self.folder / "sendmail")
        self.daemon.start()

    def run(self, *words, text="", name="sendmail", user=CALLER, **options):
        """The command with `text` as its input, as `user`."""
        return self.as_user([str(self.folder / name), *words], text, user, **options)

    def as_user(self, command, text="", user=CALLER, **options):
        become = ["setpriv", f"--reuid={user}", "--regid=65533", "--clear-groups", "--"] if IS_ROOT else []
        environment = {**os.environ, "HOME": str(self.folder), "USER": user, "LOGNAME": user, "EMAIL": OWN, "TMPDIR": "/tmp"}
        if isinstance(text, str):
            text = text.encode()
        options = {"input": text, "timeout": 30, "cwd": "/", "env": environment} | options
        if "stdin" in options:
            del options["input"]
        done = subprocess.run([*become, *command], capture_output=True, **options)
        done.errors, done.output = done.stderr.decode(), done.stdout.decode()
        return done

    def send(self, *words, text="", **options):
        """As `run`, and it must have been taken in silence."""
        done = self.run(*words, text=text, **options)
        assert (done.returncode, done.errors) == (OK, ""), (words, done.errors)
        return done

    def delivered(self, recipient):
        """The transaction that had `recipient`, and its message."""
        found = wait_until(
            lambda: [one for one in self.sink.transactions() if recipient in one.recipients], 20, f"mail to {recipient}")
        assert len(found) == 1
        return found[0], email.message_from_bytes(found[0].content, policy=email.policy.default)


@pytest.fixture(scope="module")
def mail(module_place):
    return Mail(module_place, Sink(module_place).start())


# Programs


def test_cron(mail):
    """Debian's cron: its words, and its header."""
    to = address("cron")
    mail.send(
        "-FCronDaemon", "-i", "-B8BITMIME", "-oem", to,
        text=f"From: {CALLER} (Cron Daemon)\nTo: {to}\nSubject: Cron <{CALLER}@host> true\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nX-Cron-Env: <SHELL=/bin/sh>\n\n"
        ".\nJ\u00f6rg\n")
    transaction, message = mail.delivered(to)
    assert transaction.sender == OWN
    assert f"\nFrom: {OWN} (Cron Daemon)\n".encode() in transaction.content
    assert message["Date"] and message["Message-ID"].endswith(f"@{HOSTNAME}>")
    assert message.get_content() == ".\nJ\u00f6rg\n"


def test_cronie_and_others(mail):
    """What was recorded of programs that are not here: the envelope."""
    header = "Subject: x\n"
    for words, sender in [
        (["-f", "<>", "-i"], ""), (["-FAnacron", "-odi"], OWN), ([], OWN), (["-i", "-f", f"{CALLER}+list@{HOSTNAME}", "--"],
         f"{CALLER}+list@{HOSTNAME}"), (["-oem", "-oi", "-N", "failure,delay", "-R", "hdrs", "--"], OWN),
    ]:
        to = address("other")
        mail.send(*words, to, text=f"{header}\nbody\n")
        assert mail.delivered(to)[0].sender == sender, words


def test_php(mail):
    """mail() with Bcc in the header, and its fifth argument."""
    to, hidden = address("php"), address("hidden")
    own = f"{CALLER}+php@{HOSTNAME}"
    code = (
        f"exit(mail('{to}', 'Hello', \"one\\ntwo\\n.\\nthree\", \"From: Shop <{own}>\\r\\nBcc: {hidden}\\r\\nX-A: b\", '-f{own}')"
        " ? 0 : 1);")
    done = mail.as_user([must_exist("php"), "-d", f"sendmail_path={mail.sendmail} -t -i", "-r", code])
    assert done.returncode == OK, done.errors
    transaction, message = mail.delivered(to)
    assert transaction.sender == own and sorted(transaction.recipients) == sorted([to, hidden])
    assert message["Subject"] == "Hello" and message["Bcc"] is None and message["X-A"] == "b"
    assert message.get_content().rstrip("\n") == "one\ntwo\n.\nthree"


def test_git_send_email(mail, place):
    to, copy = address("git"), address("cc")
    patch = place.path / "0001-x.patch"
    patch.write_text(
        f"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: Joe <{OWN}>\n"
        "Date: Mon, 2 Nov 2026 10:00:00 +0000\nSubject: [PATCH] x\n\n---\n.\n-- \n2.39\n")
    done = mail.as_user([
        must_exist("git"), "-c", "user.name=Joe", "-c", f"user.email={OWN}", "send-email",
        f"--sendmail-cmd={mail.sendmail}", f"--from={OWN}", f"--envelope-sender={OWN}", f"--to={to}", f"--cc={copy}", "--confirm=never", "--quiet", "--suppress-cc=all", str(patch)])
    assert done.returncode == OK, done.errors
    transaction, message = mail.delivered(to)
    assert transaction.sender == OWN and copy in transaction.recipients
    assert message["Subject"] == "[PATCH] x" and message["To"] == to
    assert "\n.\n" in message.get_content()


def test_mutt(mail):
    to, hidden = address("mutt"), address("bcc")
    done = mail.as_user(
        [must_exist("mutt"), "-n", "-F", "/dev/null", "-e", f'set sendmail="{mail.sendmail} -oem -oi"', "-e",
         f'set from="{OWN}" use_envelope_from=yes dsn_notify="failure,delay" dsn_return=hdrs record="" copy=no', "-s",
         "Gr\u00fc\u00dfe", "-b", hidden, "--", to], "one\n.\ntwo\n")
    assert done.returncode == OK, done.errors + done.output
    transaction, message = mail.delivered(to)
    assert transaction.sender == OWN and hidden in transaction.recipients
    assert message["Subject"] == "Gr\u00fc\u00dfe" and message["Bcc"] is None
    assert message.get_content() == "one\n.\ntwo\n"


def test_s_nail(mail):
    """Without -r it writes neither From nor Message-ID."""
    to = address("nail")
    done = mail.as_user(
        [must_exist("s-nail"), "-:/", "-S", f"mta={mail.sendmail}", "-S", "sendwait", "-s", "x", to], "body\n.\nmore\n")
    assert done.returncode == OK, done.errors
    transaction, message = mail.delivered(to)
    assert transaction.sender == OWN
    assert OWN in message["From"] and message["Message-ID"] and "body" in message.get_content()


# Where sendmails differ


def test_recipients_of_header_and_command_line(mail):
    """-t adds to what is named, each once; names, comments and groups are read; bare names are of this host."""
    one, two, three, four = address(), address(), address(), address()
    mail.send(
        "-t", one, f"{two}, Some One <{three}>",
        text=f"To: {one}, Group: {four};\nBcc: {three}\nSubject: x\n\nbody\n")
    transaction, message = mail.delivered(one)
    assert sorted(transaction.recipients) == sorted([one, two, three, four])
    assert message["Bcc"] is None
    mail.send("bare+x", text="To: bare (Comment)\nCc: x <root>\n\nbody\n")
    transaction, message = mail.delivered(f"bare+x@{HOSTNAME}")
    assert f"To: bare@{HOSTNAME} (Comment)\nCc: x <root@{HOSTNAME}>\n".encode() in transaction.content


def test_bcc_is_never_seen(mail):
    for words in (["-t"], []):
        to, hidden = address(), address("hidden")
        mail.send(*words, to, text=f"To: {to}\nBcc: {hidden},\n {hidden}\nResent-Bcc: {hidden}\nSubject: x\n\nb\n")
        transaction, message = mail.delivered(to)
        assert hidden.encode() not in transaction.content
        assert "Bcc" not in message and "Resent-Bcc" not in message


def test_resent(mail):
    """The newest block alone, which is the topmost; the other recipients stay to be read."""
    new, old, older = address("new"), address("old"), address("older")
    mail.send(
        "-t", text=f"Resent-From: {OWN}\nResent-To: {new}\nResent-From: x@y.test\nResent-To: {old}\nFrom: x@y.test\n"
        f"To: {older}\nSubject: x\n\nbody\n")
    transaction, message = mail.delivered(new)
    assert transaction.recipients == [new]
    assert message["To"] == older


def test_dot(mail):
    """Without -i it ends the message, and nobody who goes on writing is killed; with -i it is a line."""
    to, other = address(), address()
    rest = "more\n" * 100_000
    mail.send(to, text=f"Subject: x\n\nbody\n.\n{rest}")
    assert mail.delivered(to)[1].get_content() == "body\n"
    mail.send("-i", other, text="Subject: x\n\nbody\n.\n..\nmore\n")
    assert mail.delivered(other)[1].get_content() == "body\n.\n..\nmore\n"
    third = address()
    shell = f"set -o pipefail; (printf 'Subject: x\\n\\nbody\\n.\\n'; seq 300000) | {mail.sendmail} {third}"
    assert mail.as_user(["bash", "-c", shell]).returncode == OK


def test_senders(mail):
    """The null one, the caller's own, and never From's."""
    for words, sender in [(["-f", ""], ""), (["-f", "<>"], ""), (["-f<>"], ""), ([], OWN), (["-r", CALLER], OWN)]:
        to = address()
        mail.send(*words, to, text=f"From: Somebody <else@example.test>\nSubject: x\n\nb\n")
        transaction, message = mail.delivered(to)
        assert transaction.sender == sender, words
        assert message["From"] == "Somebody <else@example.test>"


def test_lines(mail):
    """The line of a mailbox file is dropped; every end of a line becomes CRLF; what is none is refused."""
    to = address()
    mail.send("-i", to, text=b"From joe Mon Nov  2 10:00:00 2026\nSubject: x\r\nX-A: b\n\r\none\r\ntwo\nthree")
    transaction, message = mail.delivered(to)
    assert b"From joe" not in transaction.content and message["X-A"] == "b"
    assert transaction.content.endswith(b"\none\ntwo\nthree\n") and b"\r" not in transaction.content
    for text in (b"Subject: x\n\na\rb\n", b"Subject: x\n\na\0b\n", b"Subject: x\nno field\nTo: a@b\n\nb\n"):
        done = mail.run("-i", address("never"), text=text)
        assert done.returncode == DATA and done.errors.count("\n") == 1, (text[:30], done.errors)


def test_long_lines(mail):
    """Jobs of cron write lines of any length: they are taken as over SMTP."""
    to = address()
    mail.send("-i", to, text=b"Subject: x\n\n" + b"x" * 150_000 + b"\n")
    assert mail.delivered(to)[0].content.endswith(b"\n\n" + b"x" * 150_000 + b"\n")


def test_missing_header(mail):
    to, empty, named = address(), address(), address()
    mail.send(to, text="Hello\nSubject: not\n")
    _, message = mail.delivered(to)
    assert message.get_content() == "Hello\nSubject: not\n"
    assert OWN in message["From"] and message["Date"] and message["Message-ID"] and message["Subject"] is None
    mail.send(empty)
    assert mail.delivered(empty)[1].get_content().strip() == ""
    mail.send("-F", "J\u00f6rg \"Q\" M\u00fcller", named, text="Subject: x\n\n")
    display = mail.delivered(named)[1]["From"].addresses[0]
    assert (display.display_name, display.addr_spec) == ("J\u00f6rg \"Q\" M\u00fcller", OWN)


def test_options(mail):
    """Those of no effect, those that are DSN's, options behind addresses, and what is none."""
    to = address()
    mail.send(
        to, "-G", "-U", "-m", "-n", "-h", "3", "-Lx", "-A", "c", "-X", "/dev/null", "-d0.1", "-O", "Timeout=1h", "-p", "SMTP:x",
        "-N", "success", "-Rfull", "-V", "id", "-B", "7BIT", "-odb", "-om", text="Subject: x\n\nb\n")
    mail.delivered(to)
    for words, named in [(["-Z"], "-Z"), (["-C", "/x"], "-C"), (["-be"], "-be"), (["-D", "x"], "-D"), (["-f"], "-f")]:
        done = mail.run(to, *words)
        assert done.returncode == USAGE and named in done.errors and done.errors.count("\n") == 1
    for words, text in [([], "x"), (["-t"], "Subject: x\n\nb\n"), (["-t"], "To: nobody:;\n\nb\n"), ([","], "x"), (["a b"], "x")]:
        done = mail.run(*words, text=text)
        assert done.returncode == USAGE and done.errors.count("\n") == 1, (words, done.errors)
    assert mail.run("-t", text="To: (\n\nb\n").returncode == DATA


def test_verbose(mail):
    to = address()
    done = mail.send("-v", to, text="Subject: x\n\nb\n")
    reply, identifier = done.output.splitlines()
    assert reply.startswith("250 2.") and identifier.startswith("id ")
    transaction, _ = mail.delivered(to)
    assert identifier[3:].encode() in transaction.content


def test_large_message(mail):
    """In little memory: three megabytes of the message, and as much again, are far below what it would be whole."""
    to = address()
    line = "x" * 70 + "\n"
    mail.send("-i", to, text="Subject: x\n\n" + line * 300_000)
    transaction, _ = mail.delivered(to)
    assert transaction.content.endswith(f"\n\n{line * 300_000}".encode())


# The queue


def test_session(mail):
    """-bs: SMTP on standard input and output, one reply for all recipients."""
    to, other = address(), address()
    own = f"{CALLER}+bs@{HOSTNAME}"
    script = (
        f"EHLO x\r\nMAIL FROM:<{own}>\r\nRCPT TO:<{to}>\r\nRCPT TO:<{other}>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"
        f"MAIL FROM:<{own}>\r\nRCPT TO:<{to}>\r\nRCPT TO:<closed@example.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
        f"MAIL FROM:<root@{HOSTNAME}>\r\nRCPT TO:<{to}>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
    done = mail.run("-bs", "-odb", "-oem", text=script)
    assert done.returncode == OK, done.errors
    codes = [line[:9] for line in done.output.split("\r\n") if line and line[3] == " "]
    assert codes[0][:3] == "220" and codes[-1][:3] == "221"
    ends = [code for code in codes if code[:5] in ("250 2", "550 5", "553 5")]
    assert "550 5.1.1" in ends and ends[-1] == "553 5.7.1", done.output
    transaction, message = mail.delivered(to)
    assert transaction.sender == own and sorted(transaction.recipients) == sorted([to, other])
    assert message.get_content() == ".dot\n"
    # Whom nobody can answer is not served.
    assert mail.as_user(["sh", "-c", f"{mail.sendmail} -bs >/dev/full"], "QUIT\r\n").returncode == INPUT_OUTPUT


def test_queue(mail):
    """mailq shows the caller's own messages, -q has those tried; newaliases has nothing to do."""
    own, others = address("held"), address("theirs")
    mail.send("-f", f"{CALLER}+hold@{HOSTNAME}", own, text="Subject: x\n\nb\n")
    for words, name in [((), "mailq"), (("-bp",), "sendmail")]:
        done = mail.run(*words, name=name)
        assert done.returncode == OK and own in done.output and "held" in done.output, done.errors
    assert mail.run("-q").returncode == OK
    assert mail.run("-q15m", "-v").output == "0 messages to be tried now\n"  # what is held stays held
    assert mail.run(name="mailq").output.count("\n") == 1
    done = mail.run(name="newaliases")
    assert done.returncode == OK and "no aliases" in done.output
    assert mail.run("-bi").returncode == OK
    if IS_ROOT:
        assert mail.run(name="mailq", user="mail").output == ""
        assert own in mail.run(name="mailq", user="root").output
        mail.send("-f", f"{CALLER}+hold@{HOSTNAME}", others, text="Subject: x\n\nb\n", user="root")
        assert others not in mail.run(name="mailq").output


# Who may not, and what else goes wrong


@pytest.mark.skipif(not IS_ROOT, reason="needs root, to be several users")
def test_who_may_send_as_whom(mail):
    """root as anybody, others as themselves, who is nobody not at all."""
    to = address()
    mail.send("-f", "anybody@example.test", to, text="Subject: x\n\nb\n", user="root")
    assert mail.delivered(to)[0].sender == "anybody@example.test"
    for sender in (f"root@{HOSTNAME}", "anybody@example.test", f"{CALLER}@example.test"):
        done = mail.run("-f", sender, address("never"), text="Subject: x\n\nb\n")
        assert done.returncode == NOT_PERMITTED and sender in done.errors and done.errors.count("\n") == 1
    for user in ("65534", "54321"):
        done = mail.run(address("never"), text="Subject: x\n\nb\n", user=user)
        assert done.returncode == NOT_PERMITTED, done.errors
    raw = (
        f"curl -sS --unix-socket {mail.socket} -H 'Content-Type: message/rfc822' -H 'X-Envelope-Sender;' -H "
        f"'X-Envelope-Recipient: YUBiLnRlc3Q=' --data-binary 'x' http://x/sendmail -w '%{{http_code}}'")
    assert mail.as_user(["sh", "-c", raw], user="65534").output.endswith("403")
    assert os.stat(mail.socket).st_mode & 0o777 == 0o666
    assert os.stat(mail.daemon.runtime / "control").st_mode & 0o777 == 0o660


def test_refusals(mail):
    for words, status in [
        (["closed@example.test"], NO_USER), (["later@example.test"], TEMPORARY),
        (["closed@example.test", "later@example.test"], TEMPORARY),
        (["-f", f"{CALLER}+later@{HOSTNAME}", address("never")], TEMPORARY),
        (["-f", f"{CALLER}+never@{HOSTNAME}", address("never")], UNAVAILABLE),
    ]:
        done = mail.run(*words, text="Subject: x\n\nb\n")
        assert done.returncode == status, (words, done.errors)
    done = mail.run("closed@example.test", text="Subject: x\n\nb\n")
    assert done.errors.strip().endswith("<closed@example.test>: 550 5.1.1 closed@example.test is closed")


def test_refusals_are_mailed(mail):
    """With -oem the caller gets what was refused; with a part of the recipients the others get the message."""
    mail.run("-oem", "closed@example.test", text="Subject: first\n\nJ\u00f6rg\n.x\n")
    to = address()
    done = mail.run("-i", "-oem", to, "closed@example.test", text="Subject: second\n\nb\n")
    assert done.returncode == OK and "closed@example.test" in done.errors
    assert mail.delivered(to)[0].recipients == [to]
    notices = wait_until(
        lambda: len(found := [one for one in mail.sink.transactions() if one.recipients == [OWN]]) == 2 and found, 20, "notices")
    for notice, text in zip(sorted(notices, key=lambda one: b"second" in one.content), ("J\u00f6rg\n.x", "second")):
        message = email.message_from_bytes(notice.content, policy=email.policy.default)
        assert notice.sender == "" and message["Auto-Submitted"] == "auto-replied"
        assert "550 5.1.1" in message.get_content() and text in message.get_content()


def test_what_is_no_message_is_mailed(mail):
    """With -oem, cron's way: its report is lost otherwise."""
    texts = {
        "bar": b"Subject: bar\n\nJ\xc3\xb6rg\n10%\r20%\n.end\n", "nul": b"Subject: nul\n\nl\n.end\n\0\n",
        "late": b"Subject: late\n\n" + b"line\n" * 50_000 + b"here\r.end",
    }
    for text in texts.values():
        assert mail.run("-FCronDaemon", "-i", "-B8BITMIME", "-oem", OWN, text=text).returncode == DATA

    def about(name):
        return [one for one in mail.sink.transactions() if one.recipients == [OWN] and f"Subject: {name}".encode() in one.content]

    for name, words in {"bar": ["J\u00f6rg\n10%", "20%\n.end"], "nul": ["l\n.end"], "late": ["line\n" * 100, "here"]}.items():
        notice = wait_until(lambda: about(name), 20, f"the notice about {name}")[0]
        message = email.message_from_bytes(notice.content, policy=email.policy.default)
        content = message.get_content().replace("\r\n", "\n")
        assert notice.sender == "" and "the message is refused: Line " in content and "how it began" in content
        assert all(word in content for word in words), content[:2000]


def test_without_input(mail):
    script = f"{mail.sendmail} {address('never')} <&-"
    assert mail.as_user(["sh", "-c", script]).returncode == NO_INPUT
    folder = os.open("/tmp", os.O_RDONLY)
    try:
        done = mail.run(address("never"), stdin=folder)
    finally:
        os.close(folder)
    assert done.returncode == NO_INPUT and done.errors.count("\n") == 1


def test_without_daemon(place, make_slimtad):
    """75, and where no edge is configured 78."""
    daemon = make_slimtad()
    edges = daemon.settings["edge"]
    command = [SLIMTAD, "sendmail", "--config", daemon.configuration, "-i", "a@b.test"]

    def run():
        return subprocess.run(list(map(str, command)), input="Subject: x\n\nb\n", capture_output=True, text=True, timeout=30)

    assert run().returncode == CONFIGURATION
    daemon.change(edge=[*edges, {"name": "s", "type": "sendmail", "listen": [f"unix:{daemon.runtime}/sendmail"]}])
    done = run()
    assert done.returncode == TEMPORARY and "does not run" in done.stderr and done.stderr.count("\n") == 1
    done = subprocess.run(
        list(map(str, [SLIMTAD, "sendmail", "--config", daemon.configuration, "-bp"])), capture_output=True, text=True,
        timeout=30)
    assert done.returncode == TEMPORARY and "does not run" in done.stderr


class Fallback:
    """A daemon that does not run yet, with a sendmail edge and a folder that members of its group may put files into."""

    def __init__(self, place, make_slimtad, sink, folder=None):
        self.daemon = make_slimtad(relay={
            "type": "smtp", "host": f"{sink.address}:{MX_PORT}", "tls": "none", "port": None, "allow_networks": None})
        self.folder = folder or place.folder("pickup")
        give(self.folder)
        self.folder.chmod(0o3730)
        self.daemon.change(edge=[
            *self.daemon.settings["edge"],
            {"name": "sendmail", "type": "sendmail", "listen": [f"unix:{self.daemon.runtime}/sendmail"]},
            {"name": "pickup", "type": "directory", "path": str(self.folder)}])

    def run(self, *words, text="Subject: x\n\nb\n", group=GROUP):
        become = ["setpriv", f"--reuid={CALLER}", f"--regid={group}", "--clear-groups", "--"]
        command = [*become, SLIMTAD, "sendmail", "--config", self.daemon.configuration, *words]
        return subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=30, cwd="/")

    def left(self):
        return [path.name for path in self.folder.iterdir() if path.is_file()]


@pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")
def test_fallback(place, make_slimtad, sink):
    """Without a daemon mail waits in the folder of the directory edge, and that is said; who may send as whom is judged when it
    runs, as is what is forged: nothing is lost, and nothing is sent as somebody else.
    """
    fallback = Fallback(place, make_slimtad, sink)
    for words, text in [
        (["-t", "-i"], "To: a@example.test\nBcc: b@example.test\nSubject: header\n\n.\nb\n"),
        (["-f", "", "c@example.test"], "Subject: null\n\nb\n"),
        # Fields of the message that would be an envelope.
        (["f@example.test"], "X-Envelope-Recipient: never@example.test\nX-Sender: x@y.test\nSubject: own\n\nb\n"),
        (["-f", "root@example.test", "d@example.test"], "Subject: forged\n\nb\n"),
    ]:
        done = fallback.run(*words, text=text)
        assert (done.returncode, done.stdout) == (OK, ""), done.stderr
        assert done.stderr == f"slimtad: slimtad does not run; the message waits in {fallback.folder} until it does\n"
    script = (
        f"EHLO x\r\nMAIL FROM:<{OWN}>\r\nRCPT TO:<e@example.test>\r\nDATA\r\nSubject: session\r\n\r\nb\r\n.\r\nQUIT\r\n")
    done = fallback.run("-bs", text=script)
    assert done.returncode == OK and "250 2.0.0 slimtad does not run" in done.stdout, done.stdout + done.stderr
    assert len(fallback.left()) == 5
    assert {(fallback.folder / name).stat().st_mode & 0o777 for name in fallback.left()} == {0o640}
    fallback.daemon.start()
    sink.wait_until(lambda: len(sink.transactions()) == 4, 20, what="four messages at the sink")
    forged, = fallback.daemon.wait_until(lambda: list((fallback.folder / "failed").glob("*.reason")), what="the forged one")
    assert "553 5.7.1" in forged.read_text() and "root@example.test" in forged.read_text()
    fallback.daemon.wait_until(lambda: not fallback.left(), what="an empty folder")
    told = {(one.sender, *sorted(one.recipients)) for one in sink.transactions()}
    assert told == {(OWN, "a@example.test", "b@example.test"), ("", "c@example.test"), (OWN, "e@example.test"), (OWN, "f@example.test")}
    for one in sink.transactions():
        assert (b"X-Envelope" in one.content) == (b"Subject: own" in one.content) and b"b@example.test" not in one.content
    # The socket is what counts as soon as somebody is there.
    assert fallback.run("-f", "root@example.test", "d@example.test").returncode == NOT_PERMITTED


@pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")
def test_a_recipient_for_later(place, make_slimtad, sink):
    """Others have got the message: it waits for the one that a reply of 4xx was for, and goes to nobody twice."""
    fallback = Fallback(place, make_slimtad, sink)
    later = {"name": "later", "at": "rcpt", "recipient": "later@example.test", "reply": "450 4.2.0 Not now"}
    closed = {"name": "closed", "at": "rcpt", "recipient": "closed@example.test", "reply": "550 5.1.1 No"}
    fallback.daemon.change(rule=[later, closed])
    fallback.daemon.start()
    done = fallback.run("ok@example.test", "later@example.test", "closed@example.test")
    assert done.returncode == OK and "<closed@example.test>: 550" in done.stderr
    assert f"the message waits in {fallback.folder} for <later@example.test>: 450 4.2.0 Not now" in done.stderr
    # Alone, or where nobody has got it, it is the caller's to try again.
    assert fallback.run("later@example.test").returncode == TEMPORARY
    sink.wait_for(1)
    assert fallback.daemon.term() == 0
    fallback.daemon.change(rule=[closed])
    fallback.daemon.start_again()
    told = sorted(one.recipients for one in sink.wait_for(2))
    assert told == [["later@example.test"], ["ok@example.test"]]
    fallback.daemon.wait_until(lambda: not fallback.left(), what="an empty folder")


@pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")
def test_fallback_that_is_none(place, make_slimtad, sink, tiny_disk):
    """73 and 74, and what is to be done; nothing is left that could become a message later."""
    folder = tiny_disk / "pickup"
    folder.mkdir()
    fallback = Fallback(place, make_slimtad, sink, folder)
    done = fallback.run("a@example.test", group=65533)
    assert done.returncode == CANNOT_CREATE and done.stderr.count("\n") == 1
    assert f"no mail can be left in {folder} until it does: Permission denied; members of its group may" in done.stderr
    filler = fill(tiny_disk)
    done = fallback.run("a@example.test", text="Subject: x\n\n" + "x" * 70 + "\n" * 100_000)
    assert done.returncode in (CANNOT_CREATE, INPUT_OUTPUT) and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr and list(folder.iterdir()) == []
    filler.unlink()
    folder.rmdir()
    done = fallback.run("a@example.test")
    assert done.returncode == CANNOT_CREATE and "slimtad check says how to make it" in done.stderr
    checked = run_slimtad("check", "--config", fallback.daemon.configuration)
    assert "install -d -m 3730" in checked.stdout + checked.stderr


def test_a_message_that_was_deferred(place, make_slimtad):
    """-q has it tried again now: by who sent it, and by nobody else."""
    sink = Sink(place)
    mail = Mail(place, sink, queue={"retry": ["1h"]})
    to = address("deferred")
    mail.send(to, text="Subject: x\n\nb\n")
    mail.daemon.wait_for_attempts(1, recipient=to)
    sink.start()
    if IS_ROOT:
        done = mail.run("-q", "-v", user="mail")
        assert (done.returncode, done.output) == (OK, "0 messages to be tried now\n")
    done = mail.run("-q", "-v")
    assert (done.returncode, done.output) == (OK, "1 message to be tried now\n"), done.errors
    assert mail.delivered(to)[0].sender == OWN
    wait_until(lambda: to not in mail.run(name="mailq").output, 20, "an empty queue")


def test_a_socket_that_is_moved(make_slimtad):
    """The file of a UNIX socket is open to whom its edge is for, whatever edge it was before, and after a reload at once."""
    daemon = make_slimtad()
    path = daemon.runtime / "shared"
    usual = daemon.settings["edge"]
    kinds = {
        "http": {"name": "http", "type": "http", "listen": [f"unix:{path}"], "tls": "none", "auth": "none"},
        "sendmail": {"name": "sendmail", "type": "sendmail", "listen": [f"unix:{path}"]},
    }
    daemon.change(edge=[*usual, kinds["http"]])
    daemon.start()
    daemon.wait_for_log(" ready ")
    assert os.stat(path).st_mode & 0o777 == 0o660
    for kind, mode in [("sendmail", 0o666), ("http", 0o660), ("sendmail", 0o666)]:
        inode = os.stat(path).st_ino
        daemon.change(edge=[*usual, kinds[kind]])
        daemon.reload()
        assert os.stat(path).st_mode & 0o777 == mode and os.stat(path).st_ino == inode
    to = address("moved")
    done = subprocess.run(
        [str(SLIMTAD), "sendmail", "--config", str(daemon.configuration), to], input="Subject: x\n\nb\n", text=True,
        capture_output=True, timeout=30)
    assert done.returncode == OK, done.stderr


def test_check(make_slimtad):
    """What would keep users from the socket is found beforehand."""
    daemon = make_slimtad()
    daemon.runtime.chmod(0o750)
    daemon.change(edge=[*daemon.settings["edge"], {
        "name": "s", "type": "sendmail", "listen": [f"unix:{daemon.runtime}/sendmail"], "trusted_users": ["root", "no-such"]}])
    daemon.add_user()
    done = run_slimtad("check", "--config", daemon.configuration)
    said = done.stdout + done.stderr
    assert f"users cannot enter {daemon.runtime}" in said and "there is no user no-such" in said
    assert f"edge s: sendmail on unix:{daemon.runtime}/sendmail, users as themselves, root as anybody" in said
