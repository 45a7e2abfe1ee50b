"""Submission by programs that people use: swaks, curl, msmtp, Python's smtplib; over STARTTLS and implicit TLS."""

import os
import smtplib
import subprocess

import pytest

from harness.machine import DEBIAN, SUBMISSION, SUBMISSIONS, must_exist, new_address
from harness.messages import fields, header_of, lf, message, prepended, received
from harness.sink import LIBRARIES
from harness.slimtad import LOGIN, PASSWORD

SENDER, RECIPIENT = "sender@origin.test", "someone@one.test"


def run(*command, stdin=None, **options):
    result = subprocess.run(
        [must_exist(command[0]), *map(str, command[1:])], input=stdin, capture_output=True, timeout=60, **options)
    assert result.returncode == 0, (result.stdout + result.stderr).decode(errors="replace")
    return result.stdout.decode()


def curl(slimtad, sent, port, mechanism):
    file = slimtad.folder / "message.eml"
    file.write_bytes(sent)
    scheme = "smtps" if port == SUBMISSIONS else "smtp"
    run(
        "curl", "--silent", "--show-error", "--max-time", "30", "--url", f"{scheme}://{slimtad.address}:{port}",
        "--ssl-reqd", "--cacert", slimtad.certificate.chain, "--user", f"{LOGIN}:{PASSWORD}",
        "--login-options", f"AUTH={mechanism}", "--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", file)


def swaks(slimtad, sent, port, mechanism):
    # Left alone, swaks puts an empty line at the end; told not to, it leaves dots and the end of the data to us.
    file = slimtad.folder / "message.eml"
    file.write_bytes(sent.replace(b"\r\n.", b"\r\n..") + b".")
    transcript = run(
        "swaks", "--server", slimtad.address, "--port", port, "--tls-on-connect" if port == SUBMISSIONS else "--tls",
        "--tls-verify", "--tls-ca-path", slimtad.certificate.chain, "--auth", mechanism, "--auth-user", LOGIN,
        "--auth-password", PASSWORD, "--from", SENDER, "--to", RECIPIENT, "--data", f"@{file}", "--no-data-fixup", "--timeout", "30s")
    assert "221 2.0.0 Bye" in transcript


def msmtp(slimtad, sent, port, mechanism):
    secret = slimtad.folder / "password"
    secret.write_text(PASSWORD)
    run(
        "msmtp", "--file=/dev/null", f"--host={slimtad.address}", f"--port={port}", "--tls=on",
        f"--tls-starttls={'off' if port == SUBMISSIONS else 'on'}", f"--tls-trust-file={slimtad.certificate.chain}",
        f"--auth={mechanism.lower()}", f"--user={LOGIN}", f"--passwordeval=cat {secret}", f"--from={SENDER}",
        "--timeout=30", RECIPIENT, stdin=lf(sent))


def python(slimtad, sent, port, mechanism):
    context = slimtad.certificate.trusting_context()
    if port == SUBMISSIONS:
        client = smtplib.SMTP_SSL(slimtad.address, port, timeout=30, context=context)
    else:
        client = smtplib.SMTP(slimtad.address, port, timeout=30)
        client.starttls(context=context)
    with client:
        client.ehlo()
        client.user, client.password = LOGIN, PASSWORD
        client.auth(mechanism, getattr(client, "auth_" + mechanism.lower()))
        assert client.sendmail(SENDER, [RECIPIENT], sent) == {}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS], ids=["starttls", "implicit"])
@pytest.mark.parametrize("client", [swaks, curl, msmtp, python], ids=lambda client: client.__name__)
def test_submits(one_mx, sink, client, port, mechanism):
    sent = message("from a client", ".a dot at the beginning\r\n..\r\n.\r\nand no empty line at the end\r\n")
    client(one_mx, sent, port, mechanism)
    (arrived,) = sink.wait_for(1)
    assert (arrived.sender, arrived.recipients) == (SENDER, [RECIPIENT])
    above = prepended(arrived.content, lf(sent))
    assert [name for name, _ in above] == ["received"]
    assert received(above[0][1])["with"] == "ESMTPSA"


def test_curl_hears_a_refusal(one_mx):
    """What the client shows of a wrong password: exit status 67."""
    result = subprocess.run(
        ["curl", "--silent", "--url", f"smtps://{one_mx.address}:{SUBMISSIONS}", "--cacert", one_mx.certificate.chain,
         "--user", f"{LOGIN}:wrong", "--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", "-"],
        input=b"x\r\n", timeout=60)
    assert result.returncode == 67


def test_swaks_in_clear_is_refused(one_mx, sink):
    result = subprocess.run(
        ["swaks", "--server", one_mx.address, "--port", str(SUBMISSION), "--auth", "PLAIN", "--auth-user", LOGIN,
         "--auth-password", PASSWORD, "--from", SENDER, "--to", RECIPIENT, "--timeout", "10s"],
        capture_output=True, timeout=60)
    assert result.returncode != 0
    assert PASSWORD not in one_mx.log
    assert sink.transactions() == []


def test_smtp_source(sink, nameserver, make_slimtad):
    """Postfix's load generator: 200 messages over 10 sessions in clear, from a trusted network."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    address = new_address()
    slimtad = make_slimtad(
        nameserver, name="open",
        edges=[{"name": "local", "type": "smtp", "listen": [f"{address}:2525"], "tls": "none", "auth": "none",
                "trusted_networks": ["127.0.0.0/8"]}],
    ).start()
    subprocess.run(
        [DEBIAN / "postfix/usr/sbin/smtp-source", "-s", "10", "-m", "200", "-l", "2000", "-f", SENDER, "-t", RECIPIENT,
         f"{address}:2525"],
        check=True, timeout=60, env={**os.environ, **LIBRARIES}, capture_output=True)
    arrived = sink.wait_for(200, timeout=40)
    assert len(arrived) == 200
    assert all(fields(header_of(found.content))[0][0] == "received" for found in arrived)
    assert slimtad.process.poll() is None
