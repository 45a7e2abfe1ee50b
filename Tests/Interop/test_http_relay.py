"""Mail that leaves over HTTP: to another slimtad, to the ancestor's WsgiEdge, through nginx, and to servers that fail."""

import http.server
import socket
import threading
import time

import pytest

from harness.acceptor import Acceptor
from harness.certificate import make_certificate
from harness.haproxy import HAProxy
from harness.machine import MX_PORT, give, new_address
from harness.messages import message, prepended, received
from harness.python_mx import PythonMX
from harness.slimtad import LOGIN, OK, PASSWORD, run_slimtad
from harness.wsgi_edge import WsgiEdge

HTTP_PORT = 8025
LARGE = ("x" * 70 + "\r\n") * 60_000


def provider(place, make_slimtad, **edge):
    """A slimtad that takes messages over HTTP, and the MX that it gives them to."""
    mx = PythonMX(place, size=0).start()
    daemon = make_slimtad(name="provider", relay={
        "type": "smtp", "host": f"{mx.address}:{MX_PORT}", "port": None, "allow_networks": None})
    daemon.settings["edge"].append(
        {"name": "http", "type": "http", "listen": [f"{daemon.address}:{HTTP_PORT}"], "tls": "none", "auth": "none"} | edge)
    daemon.change()
    return daemon.start(), mx


def relaying(make_slimtad, url, **relay):
    """A slimtad that posts all mail to `url`."""
    daemon = make_slimtad()
    daemon.settings["relay"] = {"type": "http", "url": url, "connect_timeout": "5s", **relay}
    daemon.change()
    return daemon


def secret(daemon, name, text):
    file = daemon.folder / name
    file.write_text(text + "\n")
    file.chmod(0o600)
    give(file)
    return str(file)


def test_slimtad_to_slimtad(place, make_slimtad):
    """HTTPS with a login: one recipient, many, a large message, over one connection; the octets as they were."""
    far, mx = provider(place, make_slimtad, tls="immediate", auth="required")
    home = relaying(
        make_slimtad, f"https://{far.address}:{HTTP_PORT}/", username=LOGIN, trust_file=str(far.certificate.chain))
    home.change(relay={"password_file": secret(home, "password", PASSWORD)})
    checked = run_slimtad("check", "--config", home.add_user().configuration)
    assert checked.returncode == OK, checked.stderr
    home.start()
    many = [f"r{number}@x{number % 3}.test" for number in range(120)]
    for sent, recipients in [
        (message("one"), ["a@one.test"]), (message("many"), many), (message("large", LARGE), ["a@one.test"]),
    ]:
        before = len(mx.messages)
        home.submit(sent, recipients)
        home.wait_until(
            lambda: sorted(name for one in mx.messages[before:] for name in one.recipients) == sorted(recipients),
            timeout=30, what="all recipients")
        for one in mx.messages[before:]:
            above = prepended(one.content, sent)
            assert [name for name, _ in above] == ["received", "received"]
            assert received(above[0][1])["with"].startswith("HTTPS"), above
    assert {event["relay"] for event in home.attempts()} == {f"https://{far.address}:{HTTP_PORT}/"}
    assert all(event["status"] == "2.6.0" for event in home.attempts())


def test_a_lost_answer_costs_no_duplicate(place, make_slimtad):
    """The far side has the message, and its answer does not come back: the key makes the second request the first one."""
    far, mx = provider(place, make_slimtad)
    with Cutter((far.address, HTTP_PORT), times=2) as cutter:
        home = relaying(make_slimtad, f"http://{cutter.address}:{cutter.port}/").start()
        home.submit(message("once"), ["a@one.test", "b@one.test"])
        home.wait_for_attempts(2, status="2.6.0")
    assert cutter.cut == 2, "two answers were lost"
    mx.wait_for(1)
    time.sleep(1.5)
    assert [sorted(one.recipients) for one in mx.messages] == [["a@one.test", "b@one.test"]]


def test_the_wrong_password_is_the_operators_affair(place, make_slimtad):
    """Nothing bounces, the status says why, and mail leaves after a reload with the right one."""
    far, mx = provider(place, make_slimtad, tls="immediate", auth="required")
    home = relaying(
        make_slimtad, f"https://{far.address}:{HTTP_PORT}/", username=LOGIN, trust_file=str(far.certificate.chain))
    home.change(relay={"password_file": secret(home, "password", "wrong")})
    home.start()
    home.submit(message(), "a@one.test")
    home.wait_for_log("relay refuses our login, its mail waits")
    status = run_slimtad("status", "--config", home.configuration)
    assert "refuses our login" in status.stdout, status.stdout
    secret(home, "password", PASSWORD)
    home.reload()
    mx.wait_for(1)
    # And without a certificate that is trusted nothing is sent at all.
    home.change(relay={"trust_file": None})
    home.reload()
    home.submit(message(), "b@one.test")
    (event,) = home.wait_for_attempts(1, recipient="b@one.test")[:1]
    assert event["status"] == "4.7.5", event


def test_the_ancestors_edge(place, make_slimtad):
    """python-slimta 5.0.5: no chunks (W24), a refusal of one recipient refuses the request."""
    address = new_address()
    edge = WsgiEdge(place, address, HTTP_PORT).start()
    home = relaying(make_slimtad, f"http://{address}:{HTTP_PORT}/mail?queue=a")
    # Without domain_split: one request for recipients of two domains.
    home.change(queue={"policies": ["date", "message_id", "received"]})
    home.start()
    sent = message("to the ancestor")
    home.submit(sent, ["a@one.test", "b@two.test"])
    (got,) = edge.wait_for(1)
    assert (got["sender"], got["recipients"]) == ("sender@origin.test", ["a@one.test", "b@two.test"])
    assert got["name"] == "mail.slimtad.test"
    assert got["content"].endswith(sent.split(b"\r\n\r\n", 1)[1])
    large = message("large", LARGE)
    home.submit(large, "c@one.test")
    assert edge.wait_for(2)[1]["content"].endswith(LARGE.encode())
    home.submit(message("partly"), ["c@one.test", "unknown@one.test", "d@one.test"])
    assert sorted(one["recipients"][0] for one in edge.wait_for(4)[2:4]) == ["c@one.test", "d@one.test"]
    home.wait_for_attempts(1, recipient="unknown@one.test", status="5.1.1")


def test_behind_a_proxy(place, make_slimtad):
    """HAProxy speaks TLS before the far side, and answers for it while that is away: nothing is lost."""
    far, mx = provider(place, make_slimtad)
    proxy = HAProxy(place)
    certificate = make_certificate(proxy.folder, "proxy.test", proxy.address)
    whole = proxy.folder / "whole.pem"
    whole.write_text(certificate.chain.read_text() + certificate.key.read_text())
    proxy.listen("web", 8443, f"{far.address}:{HTTP_PORT}", lines=["mode http"], bind=f"ssl crt {whole}")
    proxy.start()
    home = relaying(make_slimtad, f"https://{proxy.address}:8443/", trust_file=str(certificate.chain)).start()
    for number in range(3):
        home.submit(message(f"number{number}"), "a@one.test")
    mx.wait_for(3)
    far.term()
    home.submit(message("patience"), "b@one.test")
    assert home.wait_for_attempts(1, recipient="b@one.test")[0]["status"] == "4.3.0"
    far.start_again()
    home.wait_for_attempts(1, recipient="b@one.test", status="2.6.0")
    assert len(mx.wait_for(4)) == 4


def test_retry_after_survives_a_restart(make_slimtad):
    """A due time as others are: the next attempt is not made before, whatever happens meanwhile."""
    with Server(lambda request: request.answer(503, "Retry-After: 6")) as server:
        home = relaying(make_slimtad, f"http://localhost:{server.port}/").start()
        home.submit(message(), "a@one.test")
        home.wait_for_attempts(1)
        begun = time.monotonic()
        home.term()
        home.start_again()
        server.wait_for(2, timeout=15)
    assert 5 < time.monotonic() - begun < 12
    assert len(server.requests) == 2
    assert len({request["idempotency-key"] for request in server.requests}) == 1


@pytest.mark.parametrize(
    "status, fields, wanted",
    [
        (204, "", "2.0.0"), (200, 'X-Smtp-Reply: 250;message="2.6.0 taken"', "2.6.0"),
        (200, 'X-Smtp-Reply: 550; message="5.7.1 no"; command="DATA"', "5.7.1"), (404, "", "5.0.0"),
        (302, "Location: http://localhost:1/", "4.3.5"), (500, "", "4.3.0"), (401, "", "4.7.0"),
        (200, "X-Smtp-Reply: " + "x" * 9000, "2.0.0"), (200, "X-Pad: " + "x" * 20000, "4.5.0"),
    ])
def test_what_servers_say(make_slimtad, status, fields, wanted):
    with Server(lambda request: request.answer(status, fields)) as server:
        home = relaying(make_slimtad, f"http://localhost:{server.port}/submit?x=y").start()
        home.submit(message(), "a@one.test")
        assert home.wait_for_attempts(1)[0]["status"] == wanted
    assert server.requests[0]["path"] == "/submit?x=y"


class Server:
    """Python's http.server, which answers as `handle` says."""

    def __init__(self, handle):
        requests = self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                requests.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
                handle(self)

            def answer(self, status, *fields):
                lines = [f"HTTP/1.1 {status} Said", *filter(None, fields), "Content-Length: 0", "", ""]
                if status == 204:
                    lines.remove("Content-Length: 0")
                self.wfile.write("\r\n".join(lines).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    def wait_for(self, count, timeout):
        end = time.monotonic() + timeout
        while len(self.requests) < count and time.monotonic() < end:
            time.sleep(0.05)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Cutter(Acceptor):
    """A TCP proxy that cuts the first `times` connections as soon as their answer begins: nothing of it passes."""

    def __init__(self, target, times):
        self.target, self.times, self.cut = target, times, 0
        listener = socket.create_server(("127.0.0.1", 0))
        self.address, self.port = listener.getsockname()
        super().__init__(listener)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def serve(self, number, near):
        with socket.create_connection(self.target) as far:
            there = threading.Thread(target=self._pass, args=(near, far, False), daemon=True)
            there.start()
            self._pass(far, near, True)
            there.join()

    def _pass(self, source, target, is_answer):
        try:
            while octets := source.recv(65536):
                if is_answer and self.cut < self.times:
                    self.cut += 1
                    break
                target.sendall(octets)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
