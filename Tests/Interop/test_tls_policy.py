"""What is demanded of TLS with hosts: certificates that are verified, and a host that was encrypted and is not any more."""

import json
import shutil
import time

from harness.certificate import make_certificate
from harness.machine import GROUP, IS_ROOT, USER
from harness.messages import message
from harness.postfix import PostfixMX
from harness.python_mx import PythonMX
from harness.slimtad import OK, UNAVAILABLE, run_slimtad


def tls(slimtad, *arguments):
    return run_slimtad("tls", *arguments, "--config", slimtad.configuration)


def test_what_the_operator_demands(place, nameserver, make_slimtad):
    """Three domains with one Postfix, whose certificate has the name of the first one's exchanger."""
    certificate = make_certificate(place.path, "mx0.one.test")
    domains = ["one.test", "two.test", "three.test"]
    postfix = PostfixMX(place, [f"a@{domain}" for domain in domains], certificate=certificate).start()
    for domain in domains:
        nameserver.add_mx(domain, postfix.address)
    nameserver.start()
    slimtad = make_slimtad(
        nameserver, relay={"tls": "verify"}, queue={"retry": ["1h"]},
        tls_policy=[{"domains": ["three.test"], "tls": "verify", "names": ["mx0.one.test"]}])
    slimtad.environment["SSL_CERT_FILE"] = str(certificate.chain)
    slimtad.start()
    for domain in domains:
        slimtad.submit(message(), f"a@{domain}")
    for domain in ("one.test", "three.test"):
        postfix.wait_for(f"a@{domain}")
        (attempt,) = slimtad.wait_for_attempts(1, recipient=f"a@{domain}")
        assert attempt["tls_policy"] == "verified (tls = verify): PKIX", attempt
    (attempt,) = slimtad.wait_for_attempts(1, recipient="a@two.test")
    assert attempt["status"] == "4.7.5" and "certificate of mx0.two.test is not accepted" in attempt["reply"], attempt
    explained = tls(slimtad, "explain", "three.test").stdout
    assert "certificate for mx0.one.test that the system trusts (tls = verify)" in explained, explained
    # What was encrypted is remembered, and kept.
    assert tls(slimtad, "list", "one.test").stdout.split("\t")[:3] == ["one.test", "mx0.one.test", "1"]
    slimtad.term()
    kept = (slimtad.state / "tls-memory").read_text()
    assert [line.split()[:3] for line in kept.splitlines()] == [
        ["one.test", "mx0.one.test", "days=1"], ["three.test", "mx0.three.test", "days=1"]]


def test_a_host_that_was_encrypted(place, nameserver, make_slimtad):
    """Mail for it waits, the reply says why, and the operator can have it forgotten."""
    mx = PythonMX(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver)
    memory, today = slimtad.state / "tls-memory", int(time.time() // 86400)
    memory.write_text(f"one.test mx0.one.test days=41 first={today - 60} last={today - 1}\n")
    if IS_ROOT:
        shutil.chown(memory, USER, GROUP)
    slimtad.start()
    slimtad.submit(message(), "a@one.test")
    attempt = slimtad.wait_for_attempts(1)[0]
    assert attempt["status"] == "4.7.5" and attempt["reply"].endswith("slimtad tls forget one.test"), attempt
    assert "was encrypted on 41 days" in attempt["reply"], attempt
    (known,) = json.loads(tls(slimtad, "list", "--json").stdout)
    assert known["days"] == 41 and known["in_force"], known
    host = json.loads(tls(slimtad, "explain", "one.test", "--json").stdout)["hosts"][0]
    assert host["plan"] == "encrypted" and host["reasons"][0].startswith("encrypted on 41 days, last "), host
    assert not mx.messages

    forgotten = tls(slimtad, "forget", "ONE.test")
    assert (forgotten.returncode, forgotten.stdout) == (OK, "forgotten: 1 host\n"), forgotten
    assert memory.read_text() == ""
    assert tls(slimtad, "forget", "one.test").returncode == UNAVAILABLE
    mx.wait_for(1)
