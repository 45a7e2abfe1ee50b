"""TLS reports (RFC 8460): sessions with real hosts, midnight by the clock's shim, and reports over HTTPS and by mail.

What a report has to be is also judged by the laboratory beside this repository (shared/rigs/relay-security), where it is.
"""

import email
import email.policy
import gzip
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import unittest.mock

import dkim
import pytest

from harness.certificate import Certificate, make_certificate
from harness.clock import Clock
from harness.machine import IS_ROOT, ROOT, new_address
from harness.messages import message
from harness.python_mx import PythonMX
from harness.signatures import Keys
from harness.slimtad import OK, TEMPORARY, UNAVAILABLE, run_slimtad

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="the web server's port is 443")

RIG = ROOT.parent / "shared" / "rigs" / "relay-security"
DAY, CONTACT = 86400, "tls@reports.test"
POLICY = "version: STSv1\r\nmode: testing\r\nmx: {mx}\r\nmax_age: 86400\r\n"


class WebServer:
    """HTTPS for policies and reports, by the name that is asked for; `refusing`: how often a report is answered with 503."""

    def __init__(self, place, certificate, policies):
        self.address, self.policies, self.reports, self.refusing = new_address(), policies, [], 0
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, body=b"", kind="text/plain"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                body = host.policies.get(self.headers["Host"].removeprefix("mta-sts."), "").encode()
                self.answer(200 if body else 404, body)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if host.refusing:
                    host.refusing -= 1
                    return self.answer(503)
                host.reports.append((self.headers["Host"], self.path, self.headers["Content-Type"], body))
                self.answer(201)

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer((self.address, 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        place.programs.append(self)

    def kill(self):
        self._server.shutdown()
        self._server.server_close()


def certificate_of(folder, name, *hosts):
    """One for several names: make_certificate has one."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts),
         "-keyout", made.key, "-out", made.chain], check=True, capture_output=True)
    return made


@pytest.fixture
def world(place, nameserver, make_slimtad):
    """Hosts, a web server, and slimtad under a clock: sts.test has a policy in mode testing that its host satisfies, bad.test one
    whose host has another certificate, plain.test none; broken.test has a policy host without a policy; quiet.test wants no
    reports. Reports of sts.test and bad.test go over HTTPS, those of plain.test by mail."""
    certificate = certificate_of(place.path, "web", "mta-sts.sts.test", "mta-sts.bad.test", "mta-sts.broken.test", "r.sts.test")
    web = WebServer(place, certificate, {
        "sts.test": POLICY.format(mx="*.sts.test"), "bad.test": POLICY.format(mx="mx9.bad.test")})
    right = make_certificate(place.path, "mx0.sts.test")
    hosts = {
        "sts.test": PythonMX(place, certificate=right), "bad.test": PythonMX(place, certificate=right),
        "plain.test": PythonMX(place, certificate=right), "broken.test": PythonMX(place, certificate=right),
        "quiet.test": PythonMX(place, certificate=right)}
    for domain, mx in hosts.items():
        mx.start()
        nameserver.add_mx(domain, mx.address)
        nameserver.add(f"mta-sts.{domain}. 60 IN A {web.address}")
    for domain in ("sts.test", "bad.test", "broken.test"):
        nameserver.add(f'_mta-sts.{domain}. 60 IN TXT "v=STSv1; id=1;"')
        nameserver.add(f'_smtp._tls.{domain}. 60 IN TXT "v=TLSRPTv1; rua=https://r.{domain}/v1/tlsrpt?x=1"')
        # r.bad.test is none of the certificate's names.
        nameserver.add(f"r.{domain}. 60 IN A {web.address}")
    nameserver.add('_smtp._tls.plain.test. 60 IN TXT "v=TLSRPTv1; rua=mailto:tls@plain.test"')
    nameserver.start()
    keys = Keys(place.folder("keys"), "reports.test")
    trusted = place.path / "trusted.pem"
    trusted.write_bytes(certificate.chain.read_bytes() + right.chain.read_bytes())
    clock = Clock(place)
    slimtad = make_slimtad(
        nameserver, queue={"retry": ["1h"]}, dkim=keys.tables(), tls_report={"contact": CONTACT})
    slimtad.environment = {**clock.environment, "SSL_CERT_FILE": str(trusted)}
    # The harness makes them for two days, and midnight may be as far away.
    slimtad.expect_error("certificate has expired")
    slimtad.start()
    return slimtad, web, hosts, clock, keys, nameserver


def tlsrpt(daemon, *words, status=OK):
    result = run_slimtad("tlsrpt", *words, "--config", daemon.configuration, timeout=90)
    assert result.returncode == status, (words, result.returncode, result.stdout, result.stderr)
    return result.stdout


def shown(daemon):
    return json.loads(tlsrpt(daemon, "show", "--json"))


def counted(daemon, *domains):
    """What is counted of these domains, once DNS has said that all of them want reports."""
    def find():
        found = {one["domain"]: one for one in shown(daemon)["counted"] if one["to"]}
        return found.keys() >= set(domains) and found
    return daemon.wait_until(find, what=f"counts of {domains}")


def to_midnight(clock):
    """Behind the day's end, and before the time at which reports leave by themselves."""
    clock.set(int(DAY - time.time() % DAY + 60))


def judged(place, clock, octets, mail=False, key=None):
    """What the laboratory says at that time; None where it is not there."""
    script = RIG / ("tlsrpt_mail.py" if mail else "web.py")
    if not script.exists():
        return None
    path = place.path / "judged"
    path.write_bytes(octets)
    arguments = ["check", path] if mail else ["--check", path]
    if key:
        (place.path / "key").write_bytes(key)
        arguments.append(place.path / "key")
    environment = {**os.environ, **clock.environment}
    ran = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=environment)
    return ran.stdout.strip() or ran.stderr


def test_a_day_and_its_reports(place, world):
    slimtad, web, hosts, clock, keys, _ = world
    for domain in hosts:
        slimtad.submit(message(), f"a@{domain}")
        attempt = slimtad.wait_for_attempts(1, recipient=f"a@{domain}")[0]
        assert attempt["status"].startswith("2."), attempt
    counts = counted(slimtad, "sts.test", "bad.test", "plain.test", "broken.test")
    assert "quiet.test" not in counts
    day = counts["sts.test"]["day"]
    assert [counts["sts.test"][name] for name in ("policy", "successful", "failed")] == ["sts", 1, 0]
    bad = {one["result"]: one["count"] for one in counts["bad.test"]["results"]}
    assert bad == {"validation-failure (mx-mismatch)": 1, "certificate-host-mismatch": 1}, bad
    assert (counts["plain.test"]["policy"], counts["plain.test"]["successful"]) == ("no-policy-found", 1)
    broken = [one for one in shown(slimtad)["counted"] if one["domain"] == "broken.test"]
    assert {one["policy"]: (one["successful"], one["failed"]) for one in broken} == {
        "sts": (0, 1), "no-policy-found": (1, 0)}, broken

    # It is known over a restart, and nothing is sent before its time.
    assert slimtad.term() == 0
    slimtad.start()
    assert counted(slimtad, "sts.test")["sts.test"]["successful"] == 1
    assert tlsrpt(slimtad, "send") == "" and not web.reports
    to_midnight(clock)
    sent = tlsrpt(slimtad, "send")
    assert [line.split("\t")[0] for line in sent.splitlines()] == ["sent"] * 4, sent

    # Over HTTPS, whatever the certificate of whoever wants it.
    assert {(host, path) for host, path, *_ in web.reports} == {
        (f"r.{domain}", "/v1/tlsrpt?x=1") for domain in ("sts.test", "bad.test", "broken.test")}
    for host, _, kind, body in web.reports:
        assert kind == "application/tlsrpt+gzip"
        report = json.loads(gzip.decompress(body))
        domain = host.removeprefix("r.")
        assert report["date-range"] == {
            "start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"}
        assert report["contact-info"] == CONTACT and report["report-id"] == f"{day}.{domain}@reports.test"
        assert judged(place, clock, body) in (None, "good"), judged(place, clock, body)
    (policy,) = next(json.loads(gzip.decompress(body)) for host, *_, body in web.reports if host == "r.bad.test")["policies"]
    assert policy["policy"] == {
        "policy-type": "sts", "policy-domain": "bad.test", "mx-host": ["mx9.bad.test"],
        "policy-string": ["version: STSv1", "mode: testing", "mx: mx9.bad.test", "max_age: 86400"]}
    details = {one["result-type"]: one for one in policy["failure-details"]}
    assert details["certificate-host-mismatch"]["receiving-ip"] == hosts["bad.test"].address
    assert details["validation-failure"]["receiving-mx-hostname"] == "mx0.bad.test"

    # By mail: signed, from who is asked about it, and its own session counts for nobody.
    mail = hosts["plain.test"].wait_for(2)[1]
    assert (mail.sender, mail.recipients) == (CONTACT, ["tls@plain.test"]) and mail.tls
    # dkimpy believes nothing that was signed ten hours from now.
    with unittest.mock.patch("time.time", return_value=time.time() + DAY):
        assert [holds for *_, holds in keys.verify(mail.content)] == [True, True]
        assert dkim.DKIM(mail.content, tlsrpt=True).verify(dnsfunc=keys.record)
    found = judged(place, clock, mail.content, mail=True, key=keys.records["r._domainkey.reports.test"])
    assert found in (None, "good"), found
    parsed = email.message_from_bytes(mail.content, policy=email.policy.SMTP)
    assert parsed["TLS-Report-Domain"] == "plain.test" and parsed["TLS-Required"] == "No"
    attached = list(parsed.iter_parts())[1]
    report = json.loads(gzip.decompress(attached.get_payload(decode=True)))
    assert report["policies"][0]["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 0}
    after = shown(slimtad)
    assert not after["counted"] and not after["waiting"], after
    assert {(one["domain"], one["to"]) for one in after["past"]} >= {("plain.test", "mailto:tls@plain.test")}
    # Nothing is sent twice.
    slimtad.kill()
    slimtad.start()
    assert tlsrpt(slimtad, "send") == "" and len(web.reports) == 3


def test_who_does_not_take_it(place, world):
    """It is tried again, and dropped after a day; a report in the queue ends after a day without a notice."""
    slimtad, web, hosts, clock, *_ = world
    for domain in ("sts.test", "plain.test"):
        slimtad.submit(message(), f"a@{domain}")
        slimtad.wait_for_attempts(1, recipient=f"a@{domain}")
    counted(slimtad, "sts.test", "plain.test")
    web.refusing = 1
    hosts["plain.test"].answers["RCPT"] += ["450 4.2.1 not now"] * 9
    to_midnight(clock)
    failed = tlsrpt(slimtad, "send", status=TEMPORARY)
    assert "failed" in failed and "503" in failed, failed
    (waiting,) = shown(slimtad)["waiting"]
    assert waiting["domain"] == "sts.test" and "503" in waiting["error"]
    assert "sent" in tlsrpt(slimtad, "send") and len(web.reports) == 1
    # The message: put off, and then given up.
    first = slimtad.wait_for_attempts(1, recipient="tls@plain.test")[0]
    assert first["status"] == "4.2.1", first
    clock.sleep(DAY + 60)
    slimtad.wait_for_log("expired.*recipient=tls@plain.test", timeout=30)

    def queued():
        return re.findall(r"\b[0-9a-f]{32}\b", run_slimtad("queue", "list", "--config", slimtad.configuration).stdout)
    slimtad.wait_until(lambda: not queued(), what="an empty queue: no notice")
    assert not slimtad.events(recipient=CONTACT)


def test_without_a_key_and_without_a_table(place, world):
    slimtad, web, hosts, clock, *_ = world
    del slimtad.settings["dkim"]
    slimtad.change()
    slimtad.reload()
    slimtad.wait_for_log("reloaded")
    slimtad.submit(message(), "a@plain.test")
    slimtad.wait_for_attempts(1, recipient="a@plain.test")
    counted(slimtad, "plain.test")
    assert "no key signs for reports.test" in tlsrpt(slimtad, "send", "--today", status=TEMPORARY)
    assert "no key signs" in tlsrpt(slimtad, "send", status=TEMPORARY)
    slimtad.wait_for_log("TLS reports do not go by mail without a key.*domain=reports.test")
    assert slimtad.log.count("TLS reports do not go by mail without a key") == 1
    slimtad.change(tls_report={"sign": False})
    slimtad.reload()
    slimtad.wait_until(lambda: slimtad.log.count("reloaded") == 2, what="the reload")
    assert "mailto:tls@plain.test" in tlsrpt(slimtad, "send")
    assert b"DKIM-Signature" not in hosts["plain.test"].wait_for(2)[1].content
    # No table: nothing is counted, nothing is sent.
    del slimtad.settings["tls_report"]
    slimtad.change()
    slimtad.reload()
    slimtad.wait_until(lambda: slimtad.log.count("reloaded") == 3, what="the reload")
    slimtad.submit(message(), "b@sts.test")
    slimtad.wait_for_attempts(1, recipient="b@sts.test")
    assert not shown(slimtad)["on"] and not shown(slimtad)["counted"]
    assert "no [tls_report]" in run_slimtad("tlsrpt", "send", "--config", slimtad.configuration).stderr
    tlsrpt(slimtad, "send", status=UNAVAILABLE)
