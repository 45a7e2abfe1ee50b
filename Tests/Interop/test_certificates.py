"""Certificates of clients: rules about one by its name and by its digest, in real handshakes, on both kinds of edges."""

import subprocess

import pytest

from harness.certificate import make_certificate
from harness.machine import SUBMISSION, SUBMISSIONS, give
from harness.slimtad import OK, run_slimtad
from harness.wire import Wire

RULES = [
    {"name": "laptop", "client_certificate": "laptop.test", "reply": "550 5.7.1 known by name"},
    {"name": "pinned", "reply": "550 5.7.1 known by digest"},
    {"name": "good", "client_certificate": True, "reply": "550 5.7.1 known by issuer"},
]


class Client:
    """Trusts the server's certificate, and shows one of its own if it is asked."""

    def __init__(self, server, own=None):
        self.server, self.own = server, own

    def trusting_context(self):
        context = self.server.trusting_context()
        if self.own:
            context.load_cert_chain(self.own.chain, self.own.key)
        return context


def issued(folder, authority, name):
    """A certificate for `name` by an authority."""
    own = make_certificate(folder, name)
    request = subprocess.run(
        ["openssl", "x509", "-x509toreq", "-in", own.chain, "-signkey", own.key, "-copy_extensions", "copy"],
        check=True, capture_output=True).stdout
    own.chain.write_bytes(subprocess.run(
        ["openssl", "x509", "-req", "-CA", authority.chain, "-CAkey", authority.key, "-CAcreateserial", "-days", "2",
         "-copy_extensions", "copy"], input=request, check=True, capture_output=True).stdout)
    return own


def digest(certificate):
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate.chain, "-noout", "-fingerprint", "-sha256"],
        check=True, capture_output=True, text=True).stdout
    return "sha256:" + shown.strip().split("=")[1]


@pytest.fixture
def certificates(place):
    authority = make_certificate(place.folder("authority"), "authority.test")
    own, foreign = place.folder("own"), place.folder("foreign")
    return {
        "authority": authority,
        "laptop": issued(own, authority, "laptop.test"),
        "phone": issued(own, authority, "phone.test"),
        # They say so themselves.
        "impostor": make_certificate(foreign, "laptop.test"),
        "pinned": make_certificate(foreign, "pinned.test"),
        "none": None,
    }


@pytest.fixture
def slimtad(make_slimtad, certificates):
    daemon = make_slimtad()
    trusted = daemon.folder / "clients.pem"
    trusted.write_bytes(certificates["authority"].chain.read_bytes())
    give(trusted)
    pin = {"client_certificate": digest(certificates["pinned"])}
    rules = [{"at": "mail"} | rule | (pin if rule["name"] == "pinned" else {}) for rule in RULES]
    first = {"at": "connect", "edge": "submissions", "client_certificate": "phone.test", "reply": "554 5.7.1 no phones"}
    daemon.change(tls={"client_ca": str(trusted)}, rule=[{"name": "phones"} | first, *rules])
    return daemon.add_user()


def answer(daemon, own, port):
    """The reply to MAIL of a client that shows this certificate and logs in, or the first that is none of success."""
    with Wire(daemon.address, port, Client(daemon.certificate, own)) as wire:
        if port == SUBMISSION:
            assert wire.code() == 220
            wire.ehlo()
            assert wire.ask("STARTTLS").startswith("220 ")
            wire.tls()
        else:
            wire.tls()
            greeting = wire.reply()[-1]
            if not greeting.startswith("220 "):
                return greeting
        wire.ehlo()
        wire.login()
        return wire.ask("MAIL FROM:<sender@origin.test>")


@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS])
def test_by_name_and_by_digest(slimtad, certificates, port):
    slimtad.start()
    phone = "550 5.7.1 known by issuer" if port == SUBMISSION else "554 5.7.1 no phones"
    wanted = {
        "laptop": "550 5.7.1 known by name", "phone": phone, "pinned": "550 5.7.1 known by digest",
        # A name is worth something only if client_ca issued the certificate; one that is not good keeps nobody out.
        "impostor": "250", "none": "250",
    }
    answers = {name: answer(slimtad, certificates[name], port) for name in wanted}
    assert {name: reply[:len(wanted[name])] for name, reply in answers.items()} == wanted, answers
    assert all(slimtad.wait_for_events(rule=name) for name in ("laptop", "good" if port == SUBMISSION else "phones", "pinned"))


def test_openssl(slimtad, certificates):
    """The same with another client, in whose place no code of Python's speaks."""
    slimtad.start()
    own = certificates["phone"]
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"{slimtad.address}:{SUBMISSIONS}", "-cert", own.chain, "-key", own.key,
         "-CAfile", slimtad.certificate.chain, "-quiet", "-verify_return_error"],
        input="QUIT\r\n", capture_output=True, text=True, timeout=30).stdout
    assert shown.startswith("554 5.7.1 no phones"), shown


def test_without_client_ca_check_says_that_nobody_is_asked(slimtad):
    def check():
        return run_slimtad("check", "--config", slimtad.configuration)

    assert "client_certificate" not in check().stderr
    slimtad.change(tls={"client_ca": None})
    result = check()
    assert result.returncode == OK, result.stderr
    for number in range(4):
        assert f"rule[{number}].client_certificate: " in result.stderr, result.stderr
    assert "only with client_ca in [tls]" in result.stderr
