"""Dovecot says who a client is: slimtad asks its authentication service, with clients that we did not write."""

import base64
import hashlib
import hmac
import smtplib
import subprocess
import urllib.error
import urllib.request

import pytest

from harness.dovecot import AUTH_PORT, Dovecot
from harness.machine import SUBMISSION, must_exist
from harness.messages import message
from harness.slimtad import LOGIN, PASSWORD, run_slimtad

SECRET = "correct horse"
SENDER = "maria@example.com"


def scram_line(password):
    """What `doveadm pw -s SCRAM-SHA-256` makes of it."""
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client, server = (hmac.digest(salted, key, "sha256") for key in (b"Client Key", b"Server Key"))
    parts = (base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client).digest(), server))
    return "{SCRAM-SHA-256}4096," + ",".join(parts)


LOGINS = {
    "maria@example.com": f"{{PLAIN}}{SECRET}",
    "scram@example.com": scram_line(SECRET),
    "hash@example.com": "{SHA256.HEX}" + hashlib.sha256(SECRET.encode()).hexdigest(),
    "disabled@example.com": f"{{PLAIN}}{SECRET}::::::nologin=y reason=Closed",
    "bound@example.com": f"{{PLAIN}}{SECRET}::::::senders=bound@example.com,@list.example.com",
}
MECHANISMS = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"]


@pytest.fixture
def dovecot(place):
    return Dovecot(place, logins=LOGINS, mechanisms="plain login cram-md5 scram-sha-1 scram-sha-256").start()


def socket_of(dovecot):
    return f"unix:{dovecot.auth_socket}"


def slimtad_asking(make_slimtad, where, **settings):
    """slimtad with Dovecot as its only back end; the users file of the harness is for nobody then."""
    return make_slimtad(
        auth={"backends": ["dovecot"], "mechanisms": MECHANISMS, "dovecot": {"socket": where}},
        queue={"deliver": False}, **settings)


@pytest.fixture
def slimtad(make_slimtad, dovecot):
    daemon = slimtad_asking(make_slimtad, socket_of(dovecot))
    daemon.start()
    daemon.wait_for_log("connected to Dovecot")
    return daemon


def session(slimtad):
    client = smtplib.SMTP(slimtad.address, SUBMISSION, "client.test", timeout=40)
    client.starttls(context=slimtad.certificate.trusting_context())
    client.ehlo()
    return client


def log_in(slimtad, mechanism, user, password=SECRET):
    """The code and text of the last reply."""
    with session(slimtad) as client:
        client.user, client.password = user, password
        try:
            method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
            return client.auth(mechanism, method, initial_response_ok=mechanism == "PLAIN")
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code, error.smtp_error


def gsasl(slimtad, mechanism, user, password=SECRET):
    """Whether GNU SASL's client is in, and what it says."""
    done = subprocess.run(
        [must_exist("gsasl"), "--client", "--smtp", "--no-cb", "-m", mechanism, f"--authentication-id={user}",
         f"--password={password}", f"--x509-ca-file={slimtad.certificate.chain}", slimtad.address, str(SUBMISSION)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40)
    return done.returncode == 0 and "\n235 " in done.stdout, done.stdout + done.stderr


def test_mechanisms_are_dovecots(slimtad):
    with session(slimtad) as client:
        assert client.esmtp_features["auth"].split() == MECHANISMS


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_smtplib(slimtad, mechanism):
    assert log_in(slimtad, mechanism, "maria@example.com") == (235, b"2.7.0 Authentication successful")
    assert log_in(slimtad, mechanism, "Maria@Example.COM")[0] == 235
    for user, password in [("maria@example.com", "wrong"), ("nobody@example.com", SECRET), (LOGIN, PASSWORD)]:
        assert log_in(slimtad, mechanism, user, password) == (535, b"5.7.8 Authentication credentials invalid")
    code, text = log_in(slimtad, mechanism, "disabled@example.com")
    assert code == 535 and b"Closed" in text


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"])
def test_gsasl(slimtad, mechanism):
    is_in, text = gsasl(slimtad, mechanism, "maria@example.com")
    assert is_in, text
    for user, password in [("maria@example.com", "wrong"), ("nobody@example.com", SECRET)]:
        is_in, text = gsasl(slimtad, mechanism, user, password)
        assert not is_in and ("535 5.7.8" in text or mechanism.startswith("SCRAM")), text


def swaks(slimtad, mechanism, user, password):
    return subprocess.run(
        [must_exist("swaks"), "--server", slimtad.address, "--port", str(SUBMISSION), "--tls", "--tls-verify", "--tls-ca-path",
         slimtad.certificate.chain, "--auth", mechanism, "--auth-user", user, "--auth-password", password,
         "--quit-after", "AUTH", "--timeout", "40s"], capture_output=True, text=True, timeout=60)


def msmtp(slimtad, mechanism, user, password):
    return subprocess.run(
        [must_exist("msmtp"), "--file=/dev/null", f"--host={slimtad.address}", f"--port={SUBMISSION}", "--tls=on",
         f"--tls-trust-file={slimtad.certificate.chain}", f"--auth={mechanism.lower()}", f"--user={user}",
         f"--passwordeval=echo '{password}'", f"--from={SENDER}", "--timeout=40", "someone@one.test"],
        input="Subject: by msmtp\n\nHi\n", capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("client, mechanism", [
    (swaks, "CRAM-MD5"), (msmtp, "CRAM-MD5"), (msmtp, "SCRAM-SHA-256"), (msmtp, "SCRAM-SHA-1")],
    ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_other_clients(slimtad, client, mechanism):
    done = client(slimtad, mechanism, "maria@example.com", SECRET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert client(slimtad, mechanism, "maria@example.com", "wrong").returncode != 0


def test_scram_keys(slimtad):
    is_in, text = gsasl(slimtad, "SCRAM-SHA-256", "scram@example.com")
    assert is_in, text
    assert log_in(slimtad, "PLAIN", "scram@example.com")[0] == 235


def server_first(slimtad, user):
    """What the first step of SCRAM says for a name, and what the second says without a proof."""
    with session(slimtad) as client:
        nonce = "rOprNGfwEbeRWgbNEkqO"
        first = base64.b64encode(f"n,,n={user},r={nonce}".encode()).decode()
        code, text = client.docmd("AUTH", f"SCRAM-SHA-256 {first}")
        assert code == 334, (code, text)
        fields = dict(field.split("=", 1) for field in base64.b64decode(text).decode().split(","))
        assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce) + 8
        last = f"c=biws,r={fields['r']},p=" + base64.b64encode(bytes(32)).decode()
        return fields, client.docmd(base64.b64encode(last.encode()).decode())


def test_who_is_there_does_not_show(slimtad):
    """Dovecot says no at once for a name that does not exist, or has only a hash; the client is told at the proof."""
    known, refusal = server_first(slimtad, "maria@example.com")
    assert refusal[0] == 535
    for user in ["nobody@example.com", "hash@example.com", "disabled@example.com"]:
        fields, answer = server_first(slimtad, user)
        assert answer == refusal
        assert fields.keys() == known.keys()
        # Nor by how it looks.
        assert len(fields["r"]) == len(known["r"]) and fields["i"] == known["i"] and len(fields["s"]) == len(known["s"])
        if user != "disabled@example.com":
            assert server_first(slimtad, user)[0]["s"] == fields["s"], "asked twice, it has another salt"


def test_senders(slimtad):
    with session(slimtad) as client:
        client.login("bound@example.com", SECRET)
        assert client.mail("other@example.com")[0] in (550, 553)
        assert client.mail("any@list.example.com")[0] == 250
    # Dovecot says nothing of this one: it is itself, and not anybody.
    with session(slimtad) as client:
        client.login("maria@example.com", SECRET)
        assert client.mail("other@example.com")[0] == 553
        assert client.mail("maria@example.com")[0] == 250


def test_the_login_is_dovecots(slimtad):
    """Whatever the client writes: Dovecot folds it."""
    with session(slimtad) as client:
        client.login("Maria@Example.COM", SECRET)
        assert client.sendmail(SENDER, ["someone@one.test"], message("asked Dovecot")) == {}
    slimtad.wait_until(lambda: slimtad.events(login="maria@example.com"), what="the login in the log")


def test_stopped_and_started_again(slimtad, dovecot):
    assert log_in(slimtad, "PLAIN", "maria@example.com")[0] == 235
    dovecot.kill()
    slimtad.wait_for_log("no connection to Dovecot")
    for mechanism in ["PLAIN", "CRAM-MD5"]:
        assert log_in(slimtad, mechanism, "maria@example.com")[0] == 454
    is_in, text = gsasl(slimtad, "SCRAM-SHA-256", "maria@example.com")
    assert not is_in and "454" in text
    dovecot.start()
    slimtad.wait_until(lambda: log_in(slimtad, "PLAIN", "maria@example.com")[0] == 235, what="Dovecot's return")
    assert slimtad.log.count("warning no connection to Dovecot") == 1, "told once"


def test_a_stop_of_ours_is_no_loss(slimtad):
    """Nothing that an operator would look for at Dovecot."""
    assert log_in(slimtad, "PLAIN", SENDER)[0] == 235
    assert slimtad.term() == 0
    assert "no connection to Dovecot" not in slimtad.log


def test_not_there_at_the_start(place, make_slimtad):
    """A client is told to come again, and not that there is no AUTH."""
    dovecot = Dovecot(place, logins=LOGINS, mechanisms="plain login")
    slimtad = slimtad_asking(make_slimtad, socket_of(dovecot))
    slimtad.start()
    with session(slimtad) as client:
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    assert log_in(slimtad, "PLAIN", "maria@example.com")[0] == 454
    dovecot.start()
    slimtad.wait_until(lambda: log_in(slimtad, "PLAIN", "maria@example.com")[0] == 235, what="Dovecot")


def test_http_basic_over_tcp(make_slimtad, dovecot):
    edge = {"name": "http", "type": "http", "tls": "none", "auth": "required", "plaintext_auth": True}
    slimtad = make_slimtad(queue={"deliver": False})
    edge["listen"] = [f"{slimtad.address}:8025"]
    slimtad.change(edge=slimtad.settings["edge"] + [edge], auth={
        "backends": ["dovecot"], "dovecot": {"socket": f"{dovecot.address}:{AUTH_PORT}"}})
    slimtad.start()
    slimtad.wait_for_log("connected to Dovecot")

    def post(user, password):
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{slimtad.address}:8025/", data=message("by HTTP"), headers={
                "Authorization": f"Basic {secret}", "Content-Type": "message/rfc822",
                "X-Envelope-Sender": base64.b64encode(SENDER.encode()).decode(),
                "X-Envelope-Recipient": base64.b64encode(b"someone@one.test").decode()})
        try:
            return urllib.request.urlopen(request, timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code

    assert post("maria@example.com", SECRET) == 200
    assert post("disabled@example.com", SECRET) in (401, 403)
    assert post("maria@example.com", "wrong") == 401


def test_check(make_slimtad, dovecot, place):
    slimtad = slimtad_asking(make_slimtad, socket_of(dovecot))
    found = run_slimtad("check", "--config", slimtad.configuration)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"Dovecot at unix:{dovecot.auth_socket}: CRAM-MD5 LOGIN PLAIN SCRAM-SHA-1 SCRAM-SHA-256" in found.stdout
    dovecot.kill()
    found = run_slimtad("check", "--config", slimtad.configuration)
    assert found.returncode == 0
    assert f"auth.dovecot.socket: unix:{dovecot.auth_socket} cannot be asked: cannot connect: " in found.stderr
    # Somebody who is no Dovecot.
    slimtad.change(auth={"dovecot": {"socket": f"{slimtad.address}:{SUBMISSION}"}})
    other = make_slimtad(name="other")
    other.start()
    slimtad.change(auth={"dovecot": {"socket": f"{other.address}:{SUBMISSION}"}})
    found = run_slimtad("check", "--config", slimtad.configuration)
    assert "cannot be asked: " in found.stderr
