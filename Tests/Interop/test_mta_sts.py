"""MTA-STS: a web server with policies, exchangers with and without the certificate that they demand, and what is kept."""

import http.server
import shutil
import ssl
import subprocess
import threading

import pytest

from harness.certificate import make_certificate
from harness.machine import IS_ROOT, new_address
from harness.messages import message
from harness.python_mx import PythonMX

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="the web server's port is 443")

POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"


class PolicyHost:
    """HTTPS for all policies, by the name that is asked for; notes who was."""

    def __init__(self, place, certificate, policies):
        self.address, self.policies, self.asked = new_address(), policies, []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.headers["Host"]
                host.asked.append((name, self.path))
                body = host.policies.get(name.removeprefix("mta-sts."), "").encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer((self.address, 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        place.programs.append(self)

    def kill(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def test_policies(place, nameserver, make_slimtad):
    domains = ["good.test", "other.test", "unproved.test", "testing.test", "none.test"]
    hosts = [f"mta-sts.{domain}" for domain in domains]
    web_certificate = make_certificate(place.path, hosts[0])
    # openssl req has one name for make_certificate: all policy hosts are wanted.
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=web", "-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts),
         "-keyout", web_certificate.key, "-out", web_certificate.chain], check=True, capture_output=True)
    mx_certificate = make_certificate(place.path, "mx0.good.test")
    web = PolicyHost(place, web_certificate, {
        "good.test": POLICY.format(mode="enforce", mx="mx0.good.test"),
        "other.test": POLICY.format(mode="enforce", mx="mx9.other.test"),
        "unproved.test": POLICY.format(mode="enforce", mx="*.unproved.test"),
        "testing.test": POLICY.format(mode="testing", mx="mx9.testing.test"),
    })
    mx = PythonMX(place, certificate=mx_certificate).start()
    for domain in domains:
        nameserver.add_mx(domain, mx.address)
        nameserver.add(f"mta-sts.{domain}. 60 IN A {web.address}")
        nameserver.add(f'_mta-sts.{domain}. 60 IN TXT "v=STSv1; id=1;"')
    # A domain whose policy is said to be where we ourselves have something to lose.
    nameserver.add_mx("inside.test", mx.address)
    nameserver.add("mta-sts.inside.test. 60 IN A 169.254.169.254")
    nameserver.add('_mta-sts.inside.test. 60 IN TXT "v=STSv1; id=1;"')
    nameserver.start()
    trusted = place.path / "trusted.pem"
    trusted.write_bytes(web_certificate.chain.read_bytes() + mx_certificate.chain.read_bytes())
    slimtad = make_slimtad(nameserver, queue={"retry": ["1h"]})
    slimtad.environment["SSL_CERT_FILE"] = str(trusted)
    slimtad.start()
    for domain in [*domains, "inside.test"]:
        slimtad.submit(message(), f"a@{domain}")

    def attempt(domain):
        return slimtad.wait_for_attempts(1, recipient=f"a@{domain}")[0]

    good = attempt("good.test")
    assert good["status"].startswith("2.") and good["tls_policy"] == "MTA-STS (MTA-STS enforce): PKIX", good
    for domain, words in (
            ("other.test", "no mail exchanger of other.test is in its MTA-STS policy"),
            ("unproved.test", "the certificate of mx0.unproved.test is not accepted")):
        deferred = attempt(domain)
        assert deferred["status"] == "4.7.5" and words in deferred["reply"], deferred
    testing = attempt("testing.test")
    assert testing["status"].startswith("2.") and "which is a test" in testing["tls_policy"], testing
    # No policy: told, and mail goes on.
    assert attempt("none.test")["status"].startswith("2.")
    slimtad.wait_for_log("MTA-STS policy cannot be had.*domain=none.test.*result=sts-policy-fetch-error")
    # Nor is a stranger's domain followed to where no mail would go.
    assert attempt("inside.test")["status"].startswith("2.")
    slimtad.wait_for_log("MTA-STS policy cannot be had.*domain=inside.test.*169.254.169.254, where nothing is asked for")
    assert sorted(web.asked) == sorted((host, "/.well-known/mta-sts.txt") for host in hosts)
    kept = sorted(path.name for path in (slimtad.state / "sts").glob("??/*"))
    assert kept == ["good.test", "other.test", "testing.test", "unproved.test"]

    # The policies hold on without their server, and over a restart.
    slimtad.term()
    web.kill()
    slimtad.start()
    slimtad.submit(message(), "b@unproved.test")
    again = slimtad.wait_for_attempts(1, recipient="b@unproved.test")[0]
    assert again["status"] == "4.7.5", again
