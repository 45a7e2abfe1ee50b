"""SCRAM with programs and libraries that we did not write: GNU SASL and scramp; what is listed where; keys that are learned."""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import smtplib
import ssl
import subprocess

import pytest
import scramp

from harness.certificate import make_certificate
from harness.machine import SUBMISSION, SUBMISSIONS, give, must_exist, wait_until
from harness.slimtad import CONFIGURATION, LOGIN, NOT_PERMITTED, OK, PASSWORD, USAGE, run_slimtad

HASHES = ["SHA-256", "SHA-512", "SHA-1"]
SCRAM = [f"SCRAM-{hash}{plus}" for plus in ("-PLUS", "") for hash in HASHES]
ALL = [*SCRAM, "PLAIN", "LOGIN"]


@pytest.fixture
def slimtad(make_slimtad):
    return make_slimtad(auth={"mechanisms": ALL, "scram_iterations": 4096}).start()


def passwd(slimtad, *arguments, password=PASSWORD):
    return run_slimtad("passwd", "--config", slimtad.configuration, *arguments, stdin=password + "\n")


def client_of(slimtad, version=None):
    context = slimtad.certificate.trusting_context()
    if version:
        context.maximum_version = version
    client = smtplib.SMTP_SSL(slimtad.address, SUBMISSIONS, timeout=20, context=context)
    client.ehlo()
    return client


def listed(client):
    return client.esmtp_features.get("auth", "").split()


def encode(text):
    return base64.b64encode(text.encode()).decode()


def decode(text):
    return base64.b64decode(text).decode()


def gsasl(slimtad, mechanism, *options, login=LOGIN, password=PASSWORD):
    return subprocess.run(
        [must_exist("gsasl"), "--client", "--smtp", "--mechanism", mechanism, f"--authentication-id={login}",
         f"--password={password}", f"--x509-ca-file={slimtad.certificate.chain}", *options, slimtad.address,
         str(SUBMISSION)],
        input=b"", capture_output=True, timeout=30)


def scram(client, mechanism, login=LOGIN, password=PASSWORD, flag="n", data=b""):
    """An exchange by hand: the codes of the replies, and what the server said first."""
    name = mechanism.removesuffix("-PLUS").removeprefix("SCRAM-").replace("-", "").lower()
    nonce = base64.b64encode(os.urandom(18)).decode()
    header, bare = f"{flag},,", f"n={login},r={nonce}"
    code, text = client.docmd("AUTH", f"{mechanism} {encode(header + bare)}")
    if code != 334:
        return [code], {}
    first = decode(text)
    found = dict(part.split("=", 1) for part in first.split(","))
    salted = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(found["s"]), int(found["i"]))
    key = hmac.digest(salted, b"Client Key", name)
    final = f"c={base64.b64encode(header.encode() + data).decode()},r={found['r']}"
    signed = ",".join([bare, first, final]).encode()
    signature = hmac.digest(hashlib.new(name, key).digest(), signed, name)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    code, text = client.docmd(encode(f"{final},p={proof}"))
    if code != 334:
        return [334, code], found
    server = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
    assert decode(text) == "v=" + base64.b64encode(server).decode()
    return [334, 334, client.docmd("")[0]], found


@pytest.mark.parametrize("mechanism", [name for name in SCRAM if "512" not in name])
def test_gsasl(slimtad, mechanism):
    """Binds by tls-exporter on TLS 1.3. Without --no-cb it cannot do SCRAM without -PLUS at all."""
    options = [] if mechanism.endswith("-PLUS") else ["--no-cb"]
    result = gsasl(slimtad, mechanism, *options)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
    assert gsasl(slimtad, mechanism, *options, password="wrong").returncode != 0
    assert gsasl(slimtad, mechanism, *options, login="nobody").returncode != 0


def test_gsasl_chooses(slimtad):
    """Left alone it takes the first that it knows: SCRAM-SHA-256-PLUS."""
    slimtad.change(log={"level": "debug"})
    slimtad.reload()
    result = subprocess.run(
        [must_exist("gsasl"), "--client", "--smtp", f"--authentication-id={LOGIN}", f"--password={PASSWORD}",
         f"--x509-ca-file={slimtad.certificate.chain}", slimtad.address, str(SUBMISSION)],
        input=b"", capture_output=True, timeout=30)
    assert result.returncode == 0 and b"AUTH SCRAM-SHA-256-PLUS" in result.stdout + result.stderr


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_msmtp(make_slimtad, mechanism):
    """It has no -PLUS, and says that it binds to nothing."""
    slimtad = make_slimtad(auth={"mechanisms": ALL, "scram_iterations": 4096}, queue={"deliver": False}).start()

    def msmtp(password):
        return subprocess.run(
            [must_exist("msmtp"), "--file=/dev/null", f"--host={slimtad.address}", f"--port={SUBMISSION}", "--tls=on",
             f"--tls-trust-file={slimtad.certificate.chain}", f"--auth={mechanism.lower()}", f"--user={LOGIN}",
             f"--passwordeval=echo '{password}'", "--from=sender@origin.test", "--timeout=30", "someone@one.test"],
            input=b"Subject: by msmtp\n\nHi\n", capture_output=True, timeout=60)

    result = msmtp(PASSWORD)
    assert result.returncode == 0, result.stderr
    assert msmtp("wrong").returncode == NOT_PERMITTED


@pytest.mark.parametrize("mechanism", SCRAM)
def test_scramp_binds_to_the_certificate(slimtad, mechanism):
    """tls-server-end-point, which RFC 5929 takes from the certificate; without -PLUS nothing."""
    client = client_of(slimtad)
    plus = mechanism.endswith("-PLUS")
    exchange = scramp.ScramClient(
        [mechanism], LOGIN, PASSWORD, channel_binding=scramp.make_channel_binding("tls-server-end-point", client.sock) if plus else None)
    code, text = client.docmd("AUTH", f"{mechanism} {encode(exchange.get_client_first())}")
    assert code == 334, text
    exchange.set_server_first(decode(text))
    code, text = client.docmd(encode(exchange.get_client_final()))
    assert code == 334, text
    exchange.set_server_final(decode(text))
    assert client.docmd("")[0] == 235


def test_what_is_listed_where(slimtad):
    assert listed(client_of(slimtad)) == ALL
    assert listed(client_of(slimtad, ssl.TLSVersion.TLSv1_2)) == [name for name in ALL if not name.endswith("-PLUS")]
    clear = smtplib.SMTP(slimtad.address, SUBMISSION, timeout=20)
    text = clear.ehlo()[1].decode().splitlines()
    assert not any(line.startswith("AUTH") for line in text)
    assert text[-1] != "STARTTLS" and "STARTTLS" in text
    for binding, names in [("off", [name for name in ALL if not name.endswith("-PLUS")]), ("require", [*SCRAM[:3], "PLAIN", "LOGIN"])]:
        slimtad.change(auth={"channel_binding": binding})
        slimtad.reload()
        wait_until(lambda: listed(client_of(slimtad)) == names, what=f"the list of {binding}")


def test_downgrades_are_noticed(slimtad):
    """By what was listed in the last EHLO: who says it saw no -PLUS has seen a list that somebody changed."""
    assert scram(client_of(slimtad), "SCRAM-SHA-256")[0] == [334, 334, 235]
    assert scram(client_of(slimtad), "SCRAM-SHA-256", flag="y")[0] == [535]
    assert scram(client_of(slimtad), "SCRAM-SHA-256-PLUS", flag="n")[0] == [535]
    assert scram(client_of(slimtad), "SCRAM-SHA-256", flag="p=tls-exporter")[0] == [535]
    assert scram(client_of(slimtad), "SCRAM-SHA-256-PLUS", flag="p=tls-unique")[0] == [535]
    assert scram(client_of(slimtad), "SCRAM-SHA-256-PLUS", flag="p=tls-exporter", data=b"x" * 32)[0] == [334, 535]
    old = ssl.TLSVersion.TLSv1_2
    assert scram(client_of(slimtad, old), "SCRAM-SHA-256", flag="y")[0] == [334, 334, 235]
    assert scram(client_of(slimtad, old), "SCRAM-SHA-256-PLUS")[0] == [504]


def test_names_that_do_not_exist(slimtad):
    """The same salt whenever one asks, also after a restart, and 535 at the proof, as for a user."""
    def asked(login, **options):
        return scram(client_of(slimtad), "SCRAM-SHA-256", login=login, password="wrong", **options)
    (codes, known), (others, unknown) = asked(LOGIN), asked("nobody")
    assert codes == others == [334, 535]
    assert known["i"] == unknown["i"] and len(known["s"]) == len(unknown["s"])
    assert asked("nobody")[1]["s"] == unknown["s"] != asked("nobody2")[1]["s"]
    secret = slimtad.state / "scram-secret"
    assert secret.stat().st_mode & 0o777 == 0o600 and len(secret.read_bytes()) == 32
    slimtad.term()
    # Without anybody who has keys SCRAM is not offered.
    slimtad.add_user("other").start_again()
    assert asked("nobody")[1]["s"] == unknown["s"]
    # Who is disabled, or has no keys, is nobody either.
    assert passwd(slimtad, LOGIN, "--disable").returncode == OK
    wait_until(lambda: asked(LOGIN)[1]["s"] != known["s"], what="the salt of nobody")


def test_five_failures_end_a_session(slimtad):
    client = client_of(slimtad)
    codes = [client.docmd("AUTH", "PLAIN " + encode(f"\0{LOGIN}\0wrong{number}"))[0] for number in range(5)]
    assert codes == [535] * 5
    assert client.getreply()[0] == 421
    # An exchange that is broken off behind the salt is a failed try, or guessing were free.
    client = client_of(slimtad)
    for _ in range(5):
        assert client.docmd("AUTH", "SCRAM-SHA-256 " + encode("n,,n=x,r=abc"))[0] == 334
        assert client.docmd("*")[0] == 501
    assert client.getreply()[0] == 421


def test_a_bound_exchange_that_is_cancelled_names_the_switch(slimtad):
    """As mail programs with GNU SASL do that have no channel binding (mutt, neomutt)."""
    client = client_of(slimtad)
    assert client.docmd("AUTH", "SCRAM-SHA-256-PLUS") == (334, b"")
    assert client.docmd("*")[0] == 501
    slimtad.wait_for_log("authentication cancelled.*channel_binding")


def test_keys_are_learned(make_slimtad):
    """Who logs in with the password gets keys, and then logs in without showing it. Nobody waits for who edits the file."""
    slimtad = make_slimtad(auth={"mechanisms": ["PLAIN"]})
    slimtad.add_user()
    slimtad.add_user("other")
    slimtad.change(auth={"mechanisms": ALL, "learn_scram": True, "scram_iterations": 4096})
    for path in (slimtad.users, slimtad.users.parent):
        give(path)
    slimtad.start()
    assert "SCRAM" not in slimtad.users.read_text()
    client = client_of(slimtad)
    assert listed(client) == ["PLAIN", "LOGIN"]
    with slimtad.users.open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        client_of(slimtad).login("other", PASSWORD)
        assert "SCRAM" not in slimtad.users.read_text()
    client.login(LOGIN, PASSWORD)
    slimtad.wait_for_log("SCRAM keys learned")
    slimtad.wait_for_log("users file was read again")
    client = client_of(slimtad)
    assert listed(client) == ALL
    assert scram(client, "SCRAM-SHA-512")[0] == [334, 334, 235]


def test_the_users_line(slimtad):
    """Keys in Dovecot's form; RFC 5803's is read as well. What is not known is refused, and who has it not let in."""
    name, hash, senders, *keys = slimtad.users.read_text().strip().split(":")
    assert (name, senders) == (LOGIN, "") and [key.partition("=")[0] for key in keys] == [
        "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    iterations, salt, stored, server = keys[1].partition("=")[2].split(",")
    assert iterations == "4096" and len(base64.b64decode(salt)) == 16
    slimtad.users.write_text(f"{name}:{hash}::SCRAM-SHA-256${iterations}:{salt}${stored}:{server}\n")
    slimtad.wait_for_log("users file was read again")
    assert scram(client_of(slimtad), "SCRAM-SHA-256")[0] == [334, 334, 235]
    slimtad.users.write_text(f"{name}:{hash}::{keys[0]}:until=noon\n")
    slimtad.wait_for_log("line of the users file is ignored.*not known to this version")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        client_of(slimtad).login(LOGIN, PASSWORD)


def test_check_says_who_lacks_what(make_slimtad):
    slimtad = make_slimtad(auth={"mechanisms": ["PLAIN"]})
    slimtad.add_user("old").add_user("OLD")
    slimtad.change(auth={"mechanisms": ["SCRAM-SHA-256", "PLAIN"]})
    slimtad.add_user("new")
    slimtad.change(auth={"mechanisms": [*ALL, "CRAM-MD5"], "scram_iterations": 5000})
    warnings = run_slimtad("check", "--config", slimtad.configuration).stderr
    assert "OLD, old have no SCRAM keys" in warnings
    assert "new has no keys for SCRAM-SHA-512" in warnings
    assert "OLD, old differ by case only" in warnings
    assert "1 SCRAM keys have other iterations" in warnings
    assert "none of auth.backends serves CRAM-MD5" in warnings


def test_disabled_and_expired(slimtad):
    def attempt(password=PASSWORD):
        client = client_of(slimtad)
        return client.docmd("AUTH", "PLAIN " + encode(f"\0{LOGIN}\0{password}"))
    for arguments, text in [(["--disable"], b"disabled"), (["--enable"], None), (["--expires", "2020-02-29"], b"expired"),
                            (["--expires", "never"], None)]:
        assert passwd(slimtad, LOGIN, *arguments).returncode == OK
        code = 535 if text else 235
        wait_until(lambda: attempt()[0] == code, what=f"{arguments}")
        # Only who knows the password is told.
        assert (text or b"successful") in attempt()[1] and b"invalid" in attempt("wrong")[1]
    assert passwd(slimtad, LOGIN, "--expires", "2020-02-30").returncode == USAGE
    assert passwd(slimtad, "nobody", "--disable").returncode == CONFIGURATION
    assert run_slimtad("passwd", "--config", slimtad.configuration, LOGIN, "--disable", "--enable").returncode != OK
    passwd(slimtad, LOGIN, "--disable")
    assert "disabled" in run_slimtad("passwd", "--config", slimtad.configuration, "--list").stdout
    result = run_slimtad("users", "test", LOGIN, "--config", slimtad.configuration, stdin=PASSWORD + "\n")
    assert result.returncode == NOT_PERMITTED and "disabled" in result.stderr


def test_passwords_of_applications(slimtad):
    """Each has its own, the log says which it was, and it can be taken away alone."""
    made = {}
    for name, options in [("printer", []), ("phone", ["--networks", "192.0.2.0/24,2001:db8::/32"])]:
        result = passwd(slimtad, LOGIN, "--app", name, *options)
        assert result.returncode == OK, result.stderr
        made[name] = result.stdout.splitlines()[0]
        assert len(made[name]) == 24
    assert not any(password in slimtad.users.read_text() for password in made.values())

    def attempt(password):
        return client_of(slimtad).docmd("AUTH", "PLAIN " + encode(f"\0{LOGIN}\0{password}"))
    wait_until(lambda: attempt(made["printer"])[0] == 235, what="the printer's password")
    slimtad.wait_for_log("authenticated.*app=printer")
    assert attempt(PASSWORD)[0] == 235
    assert b"network" in attempt(made["phone"])[1]
    def shown():
        text = run_slimtad("users", "--config", slimtad.configuration, "--json").stdout
        return {app["name"]: app for app in json.loads(text)[0]["applications"]}
    wait_until(lambda: shown()["printer"]["used"], what="the last use")
    assert shown()["phone"] == {"name": "phone", "networks": ["192.0.2.0/24", "2001:db8::/32"], "used": None}
    assert passwd(slimtad, LOGIN, "--app", "printer", "--delete").returncode == OK
    wait_until(lambda: attempt(made["printer"])[0] == 535, what="its end")
    assert attempt(PASSWORD)[0] == 235
    assert passwd(slimtad, LOGIN, "--app", "printer", "--delete").returncode == CONFIGURATION
    assert passwd(slimtad, LOGIN, "--app", "a:b").returncode == USAGE
