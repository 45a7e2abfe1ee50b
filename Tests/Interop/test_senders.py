"""Who may send as whom, on every kind of edge: MAIL FROM, From and Sender of what real programs send."""

import email
import email.policy
import json
import os
import pwd
import smtplib
import subprocess

import pytest
import requests

from harness.every_edge import delivered, every_edge
from harness.http import HTTP, basic, envelope, request
from harness.http import PORT as HTTP_PORT
from harness.machine import IS_ROOT, SLIMTAD, SUBMISSION, must_exist, wait_until
from harness.slimtad import HOSTNAME, LOGIN, OK, PASSWORD, USAGE, run_slimtad

CALLER = "daemon" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
TO = "someone@one.test"
# What the logins may use is in the users file but for what [[senders]] adds to tester's.
OWN, TEAM, BOSS = "tester@origin.test", "team@origin.test", "boss@origin.test"
REFUSED = f"is not a sender that login {LOGIN} may use"


def passwd(slimtad, *arguments):
    result = run_slimtad("passwd", "--config", slimtad.configuration, *arguments, stdin=PASSWORD + "\n")
    assert result.returncode == OK, result.stderr


@pytest.fixture(scope="module")
def slimtad(module_place):
    daemon = every_edge(
        module_place, http={"json": True}, queue={"policies": ["date", "message_id"]},
        sender_check={"from": True, "extension": "+", "add_sender": True, "allow_resent": True},
        senders=[{"logins": ["test*"], "mail_from": ["@bounces.origin.test"], "from": [TEAM]},
                 # Of users of this machine only those tables speak that say so.
                 {"logins": [CALLER], "from": [TEAM], "mail_from": [], "local": True},
                 {"logins": [CALLER], "mail_from": [BOSS]}])
    passwd(daemon, LOGIN, "--senders", f"{OWN},@own.test,@.own.test")
    passwd(daemon, "carol@origin.test")
    passwd(daemon, "free")
    return daemon.start()


def message(header, subject="x"):
    return f"{header}Subject: {subject}\r\nTo: {TO}\r\n\r\nbody\r\n".replace("\r\n", "\n").replace("\n", "\r\n").encode()


def arrived(slimtad, subject):
    return email.message_from_bytes(delivered(slimtad, subject), policy=email.policy.compat32)


@pytest.mark.parametrize("login, sender, reply", [
    (LOGIN, OWN, 250), (LOGIN, "Tester+list@ORIGIN.test", 250), (LOGIN, '"tester"@origin.test', 250),
    (LOGIN, "any@own.test", 250), (LOGIN, "any@a.b.own.test", 250), (LOGIN, "x@bounces.origin.test", 250),
    (LOGIN, "", 250), (LOGIN, TEAM, 553), (LOGIN, BOSS, 553), (LOGIN, "any@evilown.test", 553),
    (LOGIN, "x@y.bounces.origin.test", 553), (LOGIN, "tester-list@origin.test", 553),
    ("carol@origin.test", "carol@origin.test", 250), ("carol@origin.test", OWN, 553), ("free", BOSS, 250)])
def test_mail_from(slimtad, login, sender, reply):
    with slimtad.connect(login=login) as client:
        code, text = client.mail(sender)
        assert code == reply, text
        if reply == 553:
            assert text.decode() == f"5.7.1 <{sender}> is not a sender that login {login} may use"


# From and Sender, and what is said of them; what the header becomes, where it is taken.
HEADERS = [
    (f"From: {OWN}\n", None, {"From": OWN}), (f"From: Boss <{OWN}>\n", None, {"Sender": None}),
    (f"From: {TEAM}\n", None, {"From": TEAM}), (f"From: {BOSS}\n", f"550 5.7.1 <{BOSS}> in From {REFUSED}", {}),
    (f"From: x@bounces.origin.test\n", f"550 5.7.1 <x@bounces.origin.test> in From {REFUSED}", {}),
    (f"From: {OWN}\nSender: {BOSS}\n", f"550 5.7.1 <{BOSS}> in Sender {REFUSED}", {}),
    (f"From: {OWN}\nFrom: {BOSS}\n", "550 5.6.0 The header has two From fields", {}),
    (f"From: {OWN}\nFrom : {OWN}\n", "550 5.6.0 The header has two From fields", {}),
    (f"From: {BOSS}, {TEAM}\nSender: {OWN}\n", None, {"Sender": OWN}),
    (f"From: {TEAM}, {OWN}\n", None, {"Sender": OWN}), ("", None, {"From": OWN, "Sender": None}),
    ("From: undisclosed:;\n", "550 5.6.0 The From field has no address", {}), ("From: (me)\n", "550 5.6.0", {}), (f"Resent-From: {TEAM}\nFrom: {BOSS}\n", None, {"From": BOSS}),
    (f"Resent-From: {BOSS}\nFrom: {OWN}\n", f"550 5.7.1 <{BOSS}> in Resent-From {REFUSED}", {}),
    (f"From: {BOSS} <{OWN}>\n", "550 5.6.0 The From field has a name with an @ that needs quotes", {}),
    (f"From: <@{BOSS},@x:{OWN}>\n", "550 5.6.0 The From field has a route before an address", {}),
    (f"From: {OWN}\nReply-To: {BOSS}\n", None, {"Reply-To": BOSS}),
    # What HeaderCheck says comes first: it would be somebody else's field behind the line.
    (f"From: {OWN}\nno field\nFrom: {BOSS}\n", "554 5.6.0 Line 2 of the message is no header field", {}),
    (f"From x Sat Jan  1 00:00:00 2022\nFrom: {BOSS}\n", f"550 5.7.1 <{BOSS}> in From {REFUSED}", {}),
]


@pytest.mark.parametrize("number", range(len(HEADERS)), ids=lambda number: repr(HEADERS[number][0])[:60])
def test_header(slimtad, number):
    header, refusal, fields = HEADERS[number]
    subject = f"header {number}"
    with slimtad.connect() as client:
        client.mail(OWN)
        client.rcpt(TO)
        code, text = client.data(message(header, subject))
    assert f"{code} {text.decode()}".startswith(refusal or "250 2.6.0")
    if refusal and "5.7.1" in refusal:
        wait_until(
            lambda: slimtad.events(login=LOGIN, allowed=f"{OWN},@own.test,@.own.test,{TEAM}"),
            what="what the login may use in the log")
    if not refusal:
        found = arrived(slimtad, subject)
        assert {name: found[name] for name in fields} == fields
        assert found.get_all("From") and len(found.get_all("From")) == 1


def run(*command, stdin=b"", status=None):
    result = subprocess.run(
        [must_exist(command[0]), *map(str, command[1:])], input=stdin, capture_output=True, timeout=60)
    said = (result.stdout + result.stderr).decode(errors="replace")
    assert (result.returncode == 0) == (status is None), said
    return said


@pytest.mark.parametrize("author, refusal", [(TEAM, None), (BOSS, f"<{BOSS}> in From {REFUSED}")])
def test_programs(slimtad, author, refusal):
    """msmtp and swaks show their user why a message was refused; curl says only that it was."""
    text = message(f"From: {author}\r\n")
    secret, file = slimtad.folder / "password", slimtad.folder / "message.eml"
    secret.write_text(PASSWORD)
    file.write_bytes(text)
    said = run(
        "msmtp", "--file=/dev/null", f"--host={slimtad.address}", f"--port={SUBMISSION}", "--tls=on",
        f"--tls-trust-file={slimtad.certificate.chain}", "--auth=plain", f"--user={LOGIN}",
        f"--passwordeval=cat {secret}", f"--from={OWN}", "--timeout=30", TO,
        stdin=text.replace(b"\r\n", b"\n"), status=refusal)
    assert not refusal or refusal in said
    said = run(
        "swaks", "--server", slimtad.address, "--port", SUBMISSION, "--tls", "--auth", "PLAIN", "--auth-user", LOGIN,
        "--auth-password", PASSWORD, "--from", OWN, "--to", TO, "--data", f"@{file}", "--timeout", "30s", status=refusal)
    assert not refusal or refusal in said
    said = run(
        "curl", "--silent", "--show-error", "--max-time", "30", "--url", f"smtp://{slimtad.address}:{SUBMISSION}",
        "--ssl-reqd", "--cacert", slimtad.certificate.chain, "--user", f"{LOGIN}:{PASSWORD}", "--mail-from", OWN,
        "--mail-rcpt", TO, "--mail-auth", BOSS, "--upload-file", file, status=refusal)
    assert not refusal or said.startswith("curl: (8)")
    # curl's AUTH= is logged and makes nobody of nobody.
    wait_until(lambda: slimtad.events(submitter=f"<{BOSS}>"), what="AUTH= in the log")


def test_http(slimtad):
    with HTTP(slimtad.address) as http:
        def answer(sender, author):
            said = http.ask(request(message(f"From: {author}\r\n"), envelope(sender=sender), Authorization=basic()))
            return said.status, said.reply[:4] + said.reply.partition('message="')[2][:5]

        assert answer(OWN, TEAM)[0] == 200
        assert answer(BOSS, OWN) == (403, "553;5.7.1")
        assert answer(OWN, BOSS) == (422, "550;5.7.1")


def test_json(slimtad):
    """From is the sender of the envelope too: it has to be both."""
    def status(author, **more):
        return requests.post(
            f"http://{slimtad.address}:{HTTP_PORT}/v1/messages", auth=(LOGIN, PASSWORD), timeout=30,
            json={"from": author, "to": TO, "subject": "x", "text": "x\n"} | more)

    assert status(f"Boss <{OWN}>").status_code == 202
    refused = status(BOSS)
    assert refused.status_code == 403 and REFUSED in refused.text
    # Of the envelope it may be, of the header it may not.
    refused = status("x@bounces.origin.test")
    assert refused.status_code == 422 and f"in From {REFUSED}" in refused.text


def test_sendmail(slimtad):
    """Users of this machine: themselves with any extension, and what [[senders]] adds."""
    def send(header):
        become = ["setpriv", f"--reuid={CALLER}", "--regid=65533", "--clear-groups", "--"] if IS_ROOT else []
        return subprocess.run(
            [*become, SLIMTAD, "sendmail", "--config", str(slimtad.configuration), "-i", TO], capture_output=True,
            input=f"{header}Subject: x\n\nb\n".encode(), timeout=30, cwd="/", env={**os.environ, "USER": CALLER})

    for author in (f"{CALLER}+list@{HOSTNAME}", TEAM):
        done = send(f"From: {author}\n")
        assert done.returncode == OK, done.stderr
    assert send("").returncode == OK
    refused = send(f"From: root@{HOSTNAME}\n")
    assert refused.returncode != OK
    assert f"<root@{HOSTNAME}> in From is not a sender that login {CALLER} may use" in refused.stderr.decode()


@pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")
def test_files(slimtad):
    def drop(name, header):
        path = slimtad.folder_of_files / f".{name}"
        path.write_bytes(message(header, name))
        path.chmod(0o644)
        os.chown(path, 1, 1)
        path.rename(slimtad.folder_of_files / name)

    drop("own", f"X-Sender: daemon@{HOSTNAME}\r\nX-Receiver: {TO}\r\nFrom: {TEAM}\r\n")
    assert arrived(slimtad, "own")["From"] == TEAM
    drop("forged", f"X-Sender: daemon@{HOSTNAME}\r\nX-Receiver: {TO}\r\nFrom: {BOSS}\r\n")
    reason = slimtad.folder_of_files / "failed" / "forged.reason"
    wait_until(reason.exists, what="a reason")
    assert f"550 5.7.1 <{BOSS}> in From is not a sender that login daemon may use" in reason.read_text()


def test_what_is_not_checked(make_slimtad):
    """Without [sender_check] the header is nobody's business, as before; with mail_from = false nor is the envelope."""
    daemon = make_slimtad(queue={"deliver": False})
    passwd(daemon, LOGIN, "--senders", OWN)
    daemon.start()

    def told(sender, header):
        with daemon.connect() as client:
            code, text = client.mail(sender)
            if code != 250:
                return code
            client.rcpt(TO)
            return client.data(message(header))[0]

    assert (told(OWN, f"From: {BOSS}\n"), told(OWN, ""), told(BOSS, "")) == (250, 250, 553)
    daemon.change(sender_check={"mail_from": False, "from": True, "missing_from": "refuse"})
    daemon.reload()
    wait_until(lambda: told(BOSS, f"From: {OWN}\n") == 250, what="the reload")
    assert (told(BOSS, f"From: {BOSS}\n"), told(BOSS, "")) == (550, 550)


def test_commands(slimtad):
    """What an operator is told: who may send as anybody, whom a login may be, why a session is refused."""
    check = run_slimtad("check", "--config", slimtad.configuration)
    assert check.returncode == OK, check.stderr
    assert "users: 3 in " in check.stdout and "says as whom: free\n" in check.stdout
    assert "senders: of a login checked is MAIL FROM, From, Sender" in check.stdout
    listed = json.loads(run_slimtad("users", "list", "--json", "--config", slimtad.configuration).stdout)
    senders = {user["name"]: user["senders"] for user in listed}
    assert senders["carol@origin.test"] == ["carol@origin.test"] and senders["free"] == []
    tried = run_slimtad("users", "test", LOGIN, "--config", slimtad.configuration, stdin=PASSWORD + "\n")
    assert f"may send as {OWN},@own.test,@.own.test,@bounces.origin.test" in tried.stdout
    for sender, status in ((OWN, 0), (BOSS, 1), ("<>", 0)):
        said = run_slimtad(
            "explain-session", "--config", slimtad.configuration, "--client", "192.0.2.1", "--tls", "--login", LOGIN,
            "--mail", sender, "--rcpt", TO)
        assert said.returncode == status, said.stdout
        assert (f"553 5.7.1 <{BOSS}> {REFUSED}" in said.stdout) == bool(status)
    wrong = run_slimtad("passwd", "--config", slimtad.configuration, LOGIN, "--senders", "@", stdin=PASSWORD + "\n")
    assert wrong.returncode == USAGE and "@.domain for all below it, or *" in wrong.stderr
