"""EXTERNAL: logins by certificate, with curl and with a client by hand; what is listed for whom."""

import base64
import datetime
import smtplib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from harness.certificate import Certificate, make_certificate
from harness.machine import SUBMISSION, SUBMISSIONS, give, must_exist, wait_until
from harness.slimtad import CONFIGURATION, NOT_PERMITTED, OK, USAGE, run_slimtad

USERS = ["maria@example.com", "team@example.com", "laptop.test", "jörg@example.com"]
MECHANISMS = ["PLAIN", "EXTERNAL"]


def issue(folder, name, names, authority=None, usage="clientAuth"):
    """A certificate for `names` (of openssl's subjectAltName; None: it has none); without an authority by itself."""
    own = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    issuer = ["-CA", authority.chain, "-CAkey", authority.key] if authority else []
    alternative = "".join(
        f"{kind}.{number}={value}\n" for number, (kind, value) in enumerate(one.split(":", 1) for one in names or []))
    settings = folder / f"{name}.conf"
    settings.write_text(
        f"[req]\ndistinguished_name=subject\nx509_extensions=extensions\n[subject]\n[extensions]\nextendedKeyUsage={usage}\n"
        + (f"subjectAltName=@names\n[names]\n{alternative}" if names else ""))
    subprocess.run(
        [must_exist("openssl"), "req", "-x509", *issuer, "-config", settings, "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", own.key, "-out", own.chain],
        check=True, capture_output=True)
    return own


@pytest.fixture
def authority(place):
    return make_certificate(place.folder("authority"), "authority.test")


@pytest.fixture
def make(make_slimtad, authority):
    def make(login=None, tls=True):
        daemon = make_slimtad(
            auth={"mechanisms": MECHANISMS} | ({"certificate_login": login} if login else {}), queue={"deliver": False},
            log={"level": "debug"})
        if tls:
            trusted = daemon.folder / "clients.pem"
            trusted.write_bytes(authority.chain.read_bytes())
            give(trusted)
            daemon.change(tls={"client_ca": str(trusted)})
        daemon.add_user(USERS[0])
        line = daemon.users.read_text().split(":")
        daemon.users.write_text("".join(f"{user}:{line[1].strip()}\n" for user in USERS))
        return daemon.start()
    return make


def session(daemon, own=None, port=SUBMISSIONS):
    context = daemon.certificate.trusting_context()
    if own:
        context.load_cert_chain(own.chain, own.key)
    if port == SUBMISSIONS:
        client = smtplib.SMTP_SSL(daemon.address, port, "client.test", timeout=30, context=context)
    else:
        client = smtplib.SMTP(daemon.address, port, "client.test", timeout=30)
        client.starttls(context=context)
    client.ehlo()
    return client


def is_listed(daemon, own=None, port=SUBMISSIONS):
    with session(daemon, own, port) as client:
        return "EXTERNAL" in client.esmtp_features["auth"].split()


def log_in(daemon, own, name=""):
    """The last reply; with an initial response."""
    with session(daemon, own) as client:
        return client.docmd("AUTH", "EXTERNAL " + (base64.b64encode(name.encode()).decode() or "="))


@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS], ids=["starttls", "implicit"])
def test_whom_it_is_listed_for(make, authority, place, port):
    daemon = make()
    folder = place.folder("clients")
    for name, names, issuer, usage, wanted in [
        ("good", ["email:maria@example.com"], authority, "clientAuth", True),
        ("international", ["otherName:1.3.6.1.5.5.7.8.9;FORMAT:UTF8,UTF8:jörg@example.com"], authority, "clientAuth", True),
        ("stranger", ["email:nobody@example.com"], authority, "clientAuth", False),
        ("impostor", ["email:maria@example.com"], None, "clientAuth", False),
        ("server", ["email:maria@example.com"], authority, "serverAuth", False),
        ("maria@example.com", None, authority, "clientAuth", False),
    ]:
        assert is_listed(daemon, issue(folder, name, names, issuer, usage), port) == wanted, name
    assert not is_listed(daemon, None, port)
    assert log_in(daemon, None)[0] == 504


def test_who_it_is(make, authority, place):
    daemon = make()
    folder = place.folder("clients")
    own = issue(folder, "maria", ["email:maria@example.com", "DNS:laptop.test"], authority)
    assert log_in(daemon, own)[0] == 235
    daemon.wait_for_log(r"authenticated.*login=maria@example\.com")
    assert log_in(daemon, own, "maria@example.com")[0] == 235
    # Others have users too, and the certificate is not theirs.
    for other in ("team@example.com", "laptop.test", "nobody"):
        assert log_in(daemon, own, other) == (535, b"5.7.8 Authentication credentials invalid"), other
    with session(daemon, own) as client:
        assert client.docmd("AUTH", "EXTERNAL") == (334, b"")
        assert client.docmd("")[0] == 235
    several = issue(folder, "several", ["email:maria@example.com", "email:team@example.com"], authority)
    code, text = log_in(daemon, several)
    assert code == 535 and b"several logins" in text
    assert log_in(daemon, several, "team@example.com")[0] == 235
    assert run_slimtad("passwd", "maria@example.com", "--disable", "--config", daemon.configuration).returncode == OK
    wait_until(lambda: b"disabled" in log_in(daemon, own)[1], what="the end of maria's logins")


@pytest.mark.parametrize("login, names, user", [
    ("host", ["DNS:laptop.test"], "laptop.test"), ("common_name", None, "maria@example.com"),
    ("common_name", ["URI:https://example.com"], None),
])
def test_other_names(make, authority, place, login, names, user):
    daemon = make(login)
    own = issue(place.folder("clients"), "maria@example.com", names, authority)
    assert is_listed(daemon, own) == bool(user)
    if user:
        assert log_in(daemon, own, user)[0] == 235


@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS], ids=["starttls", "implicit"])
def test_curl(make, authority, place, port):
    daemon = make()
    folder = place.folder("clients")
    file = daemon.folder / "message.eml"
    file.write_bytes(b"From: maria@example.com\r\nTo: someone@one.test\r\nSubject: certified\r\n\r\nHi\r\n")

    def curl(own, user):
        scheme = "smtps" if port == SUBMISSIONS else "smtp"
        return subprocess.run(
            [must_exist("curl"), "--silent", "--show-error", "--max-time", "30",
             "--url", f"{scheme}://{daemon.address}:{port}", "--ssl-reqd", "--cacert", daemon.certificate.chain,
             "--cert", own.chain, "--key", own.key, "--user", f"{user}:", "--login-options", "AUTH=EXTERNAL",
             "--mail-from", "maria@example.com", "--mail-rcpt", "someone@one.test", "--upload-file", file],
            capture_output=True, timeout=60)

    own = issue(folder, "maria", ["email:maria@example.com"], authority)
    result = curl(own, "maria@example.com")
    assert result.returncode == 0, result.stderr
    # 67: "Login denied".
    assert curl(own, "team@example.com").returncode == 67
    assert curl(issue(folder, "impostor", ["email:maria@example.com"]), "maria@example.com").returncode != 0


def test_msmtp(make, authority, place):
    daemon = make()
    own = issue(place.folder("clients"), "maria", ["email:maria@example.com"], authority)

    def msmtp(user):
        return subprocess.run(
            [must_exist("msmtp"), "--file=/dev/null", f"--host={daemon.address}", f"--port={SUBMISSION}", "--tls=on",
             f"--tls-trust-file={daemon.certificate.chain}", f"--tls-cert-file={own.chain}", f"--tls-key-file={own.key}",
             "--auth=external", f"--user={user}", "--from=maria@example.com", "--timeout=30", "someone@one.test"],
            input=b"Subject: by msmtp\n\nHi\n", capture_output=True, timeout=60)

    result = msmtp("maria@example.com")
    assert result.returncode == 0, result.stderr
    assert msmtp("team@example.com").returncode == NOT_PERMITTED


def test_by_digest(make, place):
    """No authority is needed; the key alone is enough, and what is deleted is worth nothing."""
    daemon = make("fingerprint", tls=False)
    folder = place.folder("clients")
    own, other = issue(folder, "own", None), issue(folder, "other", None)

    def passwd(*arguments):
        return run_slimtad("passwd", "maria@example.com", *arguments, "--config", daemon.configuration)

    assert not is_listed(daemon, own)
    assert "nobody has a certificate" in run_slimtad("check", "--config", daemon.configuration).stderr
    assert passwd("--certificate", own.chain).returncode == OK
    wait_until(lambda: log_in(daemon, own)[0] == 235, what="the first certificate")
    key = subprocess.run(
        f"openssl x509 -in {other.chain} -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256",
        shell=True, check=True, capture_output=True, text=True).stdout.split()[-1]
    assert not is_listed(daemon, other)
    assert passwd("--certificate", f"sha256:{key}").returncode == OK
    wait_until(lambda: is_listed(daemon, other), what="the second")
    assert log_in(daemon, other, "maria@example.com")[0] == 235
    assert log_in(daemon, other, "team@example.com")[0] == 535
    assert passwd("--certificate", own.chain).returncode == CONFIGURATION
    assert passwd("--certificate", own.chain, "--delete").returncode == OK
    wait_until(lambda: not is_listed(daemon, own), what="its end")
    assert key in run_slimtad("users", "--json", "--config", daemon.configuration).stdout
    assert passwd("--certificate", "sha256:abc").returncode == USAGE
    assert "no certificate" in passwd("--certificate", own.key).stderr.lower()


def revocations(authority, *revoked, days=1):
    """A list of the revoked certificates of an authority, as PEM, that ends then."""
    now = datetime.datetime.now(datetime.timezone.utc)
    start = now - datetime.timedelta(days=10)
    list = x509.CertificateRevocationListBuilder(
        x509.load_pem_x509_certificate(authority.chain.read_bytes()).subject, start, now + datetime.timedelta(days=days))
    for one in revoked:
        serial = x509.load_pem_x509_certificate(one.chain.read_bytes()).serial_number
        list = list.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build())
    key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    return list.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_revoked(make, authority, place):
    """Lists stand in the file of the authorities; one that has ended says nothing any more, and nothing is good."""
    daemon = make()
    folder = place.folder("clients")
    own, lost = (issue(folder, name, ["email:maria@example.com"], authority) for name in ("own", "lost"))
    trusted = daemon.folder / "clients.pem"
    assert is_listed(daemon, own) and is_listed(daemon, lost)
    trusted.write_bytes(authority.chain.read_bytes() + revocations(authority, lost))
    daemon.reload()
    wait_until(lambda: not is_listed(daemon, lost), what="the list")
    assert is_listed(daemon, own) and log_in(daemon, lost)[0] == 504
    assert "revocation list" not in run_slimtad("check", "--config", daemon.configuration).stderr
    trusted.write_bytes(authority.chain.read_bytes() + revocations(authority, days=-1))
    daemon.expect_error("revocation list has ended")
    daemon.reload()
    wait_until(lambda: not is_listed(daemon, own), what="its end")
    daemon.wait_for_log("revocation list has ended.*clients.pem")
    assert f"revocation list in {trusted} has ended" in run_slimtad("check", "--config", daemon.configuration).stderr


def test_check(make_slimtad):
    daemon = make_slimtad(auth={"mechanisms": MECHANISMS}).add_user()
    warnings = run_slimtad("check", "--config", daemon.configuration).stderr
    assert "auth.mechanisms: EXTERNAL is offered to nobody" in warnings and "client_ca" in warnings
    daemon.change(auth={"mechanisms": ["PLAIN"], "certificate_login": "host"})
    result = run_slimtad("check", "--config", daemon.configuration)
    assert result.returncode == CONFIGURATION and "found without EXTERNAL in mechanisms" in result.stderr
