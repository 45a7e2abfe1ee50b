"""slimtad behind HAProxy: who the client is, in every place where an address counts; health checks; and what is no header."""

import json
import re
import socket
import struct
import time

import pytest

from harness.haproxy import HAProxy
from harness.machine import SUBMISSION, SUBMISSIONS, VECTORS, new_address, wait_until
from harness.messages import message, prepended, received
from harness.python_mx import PythonMX
from harness.slimtad import fields_of, level_of, run_slimtad
from harness.wire import Wire

# What a server's line can have, and whether HAProxy looks with it whether we are there.
HEADERS = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,authority"]
CHECK = "check inter 100ms"
UNIQUE_ID = r"unique-id-format unique-%ci-%rt"


def edges(address, proxy, **more):
    """The harness's edges behind a proxy, and another one on which the test can see that slimtad is there."""
    behind = {"proxy_protocol": [proxy], **more}
    return [
        {"name": "ready", "type": "smtp", "listen": [f"{address}:3587"], "tls": "starttls", "auth": "required"},
        {"name": "submission", "type": "smtp", "listen": [f"{address}:{SUBMISSION}"], "tls": "starttls",
         "auth": "required"} | behind,
        {"name": "submissions", "type": "smtp", "listen": [f"{address}:{SUBMISSIONS}"], "tls": "immediate",
         "auth": "required"} | behind,
    ]


@pytest.fixture
def make_proxied(place, make_slimtad):
    """slimtad and the HAProxy that it takes headers from, the latter not started."""

    def make(nameserver=None, level="info", limits=None, **more):
        haproxy = HAProxy(place)
        slimtad = make_slimtad(nameserver, log={"level": level}, limits=limits or {})
        slimtad.change(edge=edges(slimtad.address, haproxy.address, **more))
        slimtad.start()
        return slimtad, haproxy

    return make


def through(haproxy, slimtad, port=SUBMISSION, source=None):
    return Wire(haproxy.address, port, slimtad.certificate, source)


@pytest.mark.parametrize("check", [False, True], ids=["nocheck", "check"])
@pytest.mark.parametrize("header", HEADERS, ids=["v1", "v2", "v2-options"])
def test_the_client_is_the_headers(place, nameserver, make_proxied, header, check):
    """In Received, in the queue, and in every line of the log; on both kinds of edges."""
    mx = PythonMX(place, size=0).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad, haproxy = make_proxied(nameserver, level="debug")
    options = f"{header} {CHECK if check else ''}"
    haproxy.listen("clear", SUBMISSION, f"{slimtad.address}:{SUBMISSION}", options, [UNIQUE_ID])
    haproxy.listen("tls", SUBMISSIONS, f"{slimtad.address}:{SUBMISSIONS}", options, [UNIQUE_ID])
    haproxy.start()
    for port in (SUBMISSION, SUBMISSIONS):
        source = new_address()
        mx.messages.clear()
        with through(haproxy, slimtad, port, source) as wire:
            if port == SUBMISSIONS:
                wire.tls()
            assert wire.reply()[-1].startswith("220 ")
            wire.ehlo()
            if port == SUBMISSION:
                assert wire.ask("STARTTLS").startswith("220 ")
                wire.tls()
                wire.ehlo()
            wire.login()
            assert wire.ask("FOO").startswith("500 ")
            assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
            assert wire.ask("RCPT TO:<someone@one.test>").startswith("250 ")
            assert wire.ask("DATA").startswith("354 ")
            sent = message()
            wire.send(sent)
            queue_id = wire.ask(b".").rpartition(" ")[2]
            assert wire.ask("QUIT").startswith("221 ")
        (arrived,) = mx.wait_for(1)
        ((_, value),) = prepended(arrived.content, sent)
        assert received(value)["address"] == source
        slimtad.wait_until(
            lambda: [event for event in slimtad.events(queue_id=queue_id, client=source) if "edge" in event],
            what="the message in the log")
        slimtad.wait_until(
            lambda: [line for line in slimtad.log.splitlines() if "disconnected" in line and f"client={source} " in line],
            what="the end of the session")
        session = next(event["session"] for event in slimtad.events(client=source) if "session" in event)
        lines = [event for event in slimtad.events(session=session) if "queue_id" not in event]
        assert len(lines) >= 4, lines
        for event in lines:
            assert (event["client"], event["proxy"]) == (source, haproxy.address), event
        if "unique-id" in header:
            assert [event["unique_id"] for event in lines if "unique_id" in event] != []
            assert all(event["unique_id"].startswith(f"unique-{source}-") for event in lines if "unique_id" in event)


def test_queue_shows_the_client(make_proxied):
    slimtad, haproxy = make_proxied()
    slimtad.change(queue={"deliver": False})
    slimtad.reload()
    haproxy.listen("tls", SUBMISSIONS, f"{slimtad.address}:{SUBMISSIONS}", "send-proxy")
    haproxy.start()
    source = new_address()
    with through(haproxy, slimtad, SUBMISSIONS, source) as wire:
        wire.tls()
        wire.reply()
        wire.ehlo()
        wire.login()
        wire.ask("MAIL FROM:<sender@origin.test>")
        wire.ask("RCPT TO:<someone@one.test>")
        wire.ask("DATA")
        queue_id = wire.ask(b"Subject: x\r\n\r\n.").rpartition(" ")[2]
    shown = run_slimtad("queue", "show", "--config", slimtad.configuration, queue_id)
    assert shown.returncode == 0 and source in shown.stdout and haproxy.address not in shown.stdout, shown.stdout


def test_tls_of_the_proxy(make_proxied, place):
    """TLS that ends at the proxy is told of in the log, and is none here: no AUTH in clear on the way to us."""
    slimtad, haproxy = make_proxied(level="debug")
    pem = haproxy.folder / "proxy.pem"
    pem.write_bytes(slimtad.certificate.chain.read_bytes() + slimtad.certificate.key.read_bytes())
    options = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c"
    haproxy.listen(
        "offload", SUBMISSIONS, f"{slimtad.address}:{SUBMISSION}", options,
        bind=f"ssl crt {pem} ca-file {slimtad.certificate.chain} verify optional")
    haproxy.start()
    context = slimtad.certificate.trusting_context()
    context.load_cert_chain(slimtad.certificate.chain, slimtad.certificate.key)
    with through(haproxy, slimtad, SUBMISSIONS) as wire:
        wire.socket = context.wrap_socket(wire.socket, server_hostname="mail.slimtad.test")
        version, cipher = wire.socket.version(), wire.socket.cipher()[0]
        assert wire.reply()[-1].startswith("220 ")
        assert "AUTH" not in wire.ehlo()
        assert wire.ask("AUTH PLAIN AHUAcA==").startswith("538 ")
    slimtad.wait_for_log("proxy_tls=")
    (event,) = [event for event in slimtad.events(proxy=haproxy.address) if "proxy_tls" in event]
    assert event["proxy_tls"] == f"{version} {cipher}"
    assert event["authority"] == event["proxy_certificate"] == "mail.slimtad.test"


CHECKS = {
    "v1": (f"send-proxy {CHECK}", []),
    "v1-check-send-proxy": (f"{CHECK} check-send-proxy", []),
    "v2": (f"send-proxy-v2 {CHECK}", []),
    "v2-options": (f"send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,authority {CHECK}", [UNIQUE_ID]),
    "smtpchk": (f"send-proxy {CHECK}", ["option smtpchk EHLO haproxy.test"]),
    "smtpchk-v2": (f"send-proxy-v2 {CHECK}", ["option smtpchk EHLO haproxy.test"]),
    "no-header": (CHECK, []),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_health_checks(make_proxied, kind):
    """HAProxy finds the server up, and the log has nothing of it at info; at debug one line for each that says nothing."""
    slimtad, haproxy = make_proxied(level="debug")
    options, lines = CHECKS[kind]
    haproxy.listen("checked", SUBMISSION, f"{slimtad.address}:{SUBMISSION}", options, lines)
    haproxy.start()

    def checks():
        """Those that were reset before we asked who it is have no address."""
        lines = slimtad.log.splitlines()
        return [line for line in lines if haproxy.address in line or fields_of(line).get("client") == "unknown"]

    if kind == "no-header":
        # This one ends before the system has shown us a connection; of the test's own one more line is there.
        wait_until(lambda: haproxy.server("checked")["check_status"] == "L4OK", 30, "a check")
        time.sleep(1)
    else:
        wait_until(lambda: len(checks()) >= 12, 30, "health checks in the log")
    assert haproxy.server("checked")["status"] == "UP", haproxy.log
    haproxy.term()
    slimtad.term()
    assert {level_of(line) for line in checks()} <= {"debug"}, "\n".join(checks())
    if "smtpchk" not in kind:
        lines = [line for line in checks() if "no PROXY header" not in line]
        assert len(checks()) - len(lines) <= (1 if "send-proxy" not in options.split(CHECK)[0] else 0), "\n".join(checks())
        assert all("disconnected" in line for line in lines), "\n".join(checks())
        assert len({fields_of(line)["session"] for line in lines}) == len(lines), "\n".join(checks())


def test_a_check_that_speaks_without_a_header(make_proxied):
    """HAProxy waits for a banner that does not come: the server is down for it, and nothing is told at info."""
    slimtad, haproxy = make_proxied(level="debug", limits={"handshake_timeout": "1s"})
    haproxy.listen("checked", SUBMISSION, f"{slimtad.address}:{SUBMISSION}", CHECK, ["option smtpchk EHLO haproxy.test"])
    haproxy.start()
    wait_until(lambda: haproxy.server("checked")["status"] == "DOWN", 30, "the server to be down")
    slimtad.wait_for_log("no PROXY header.*reason=late")
    assert {level_of(line) for line in slimtad.log.splitlines() if haproxy.address in line} <= {"debug"}


def test_rules_judge_the_client(place, nameserver, make_proxied):
    """Rules see the client's address, and what the proxy says of its TLS and of the connection."""
    mx = PythonMX(place, size=0).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    bad, good = new_address(), new_address()
    slimtad, haproxy = make_proxied(nameserver, trusted_networks=[good])
    slimtad.change(rule=[
        {"name": "bad client", "at": "connect", "client": [bad], "reply": "554 5.7.1 not from {client}"},
        {"name": "proxy's own", "at": "connect", "client": [haproxy.address], "reply": "554 5.7.1 nobody is the proxy"},
        {"name": "told", "at": "mail", "proxy_tls": "TLSv1*", "add_field": "X-Proxy-ID: {unique_id}"},
    ])
    slimtad.term()
    slimtad.start()
    pem = haproxy.folder / "proxy.pem"
    pem.write_bytes(slimtad.certificate.chain.read_bytes() + slimtad.certificate.key.read_bytes())
    options = "send-proxy-v2 proxy-v2-options ssl,unique-id"
    server = f"{slimtad.address}:{SUBMISSION}"
    haproxy.listen("clear", SUBMISSION, server, options, [UNIQUE_ID])
    haproxy.listen("offload", SUBMISSIONS, server, options, [UNIQUE_ID], bind=f"ssl crt {pem}")
    haproxy.start()
    with through(haproxy, slimtad, source=bad) as wire:
        assert wire.reply() == [f"554 5.7.1 not from {bad}"]
    for port in (SUBMISSION, SUBMISSIONS):
        mx.messages.clear()
        with through(haproxy, slimtad, port, good) as wire:
            if port == SUBMISSIONS:
                wire.tls()
            assert wire.reply()[-1].startswith("220 ")
            wire.ehlo()
            assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
            assert wire.ask("RCPT TO:<someone@one.test>").startswith("250 ")
            assert wire.ask("DATA").startswith("354 ")
            sent = message()
            wire.send(sent)
            assert wire.ask(b".").startswith("250 ")
        (arrived,) = mx.wait_for(1)
        told = [value for name, value in prepended(arrived.content, sent) if name == "x-proxy-id"]
        assert len(told) == (1 if port == SUBMISSIONS else 0), told
        assert all(value.strip().startswith(f"unique-{good}-") for value in told), told


def test_limits_and_trust_are_the_clients(make_proxied):
    """One address has its share of connections however many clients come through the proxy, and its own rights."""
    trusted, stranger = new_address(), new_address()
    slimtad, haproxy = make_proxied(limits={"connections_per_address": 1}, trusted_networks=[trusted])
    haproxy.listen("clear", SUBMISSION, f"{slimtad.address}:{SUBMISSION}", "send-proxy")
    haproxy.start()
    with through(haproxy, slimtad, source=trusted) as first, through(haproxy, slimtad, source=stranger) as second:
        for wire, code in ((first, "250 2.1.0 "), (second, "530 5.7.0 ")):
            assert wire.reply()[-1].startswith("220 ")
            wire.ehlo()
            assert wire.ask("MAIL FROM:<a@one.test>").startswith(code)
        with through(haproxy, slimtad, source=stranger) as third:
            assert third.reply()[-1].startswith("421 4.7.0 ")
    # The readiness of the test's own edge counts for another address.
    slimtad.wait_for_log(f"too many connections.*client={re.escape(stranger)} proxy={re.escape(haproxy.address)}")


def test_from_others_it_is_a_bad_command(make_proxied):
    """Whoever is no proxy cannot say that he is somebody else; and a proxy cannot do without saying it."""
    slimtad, haproxy = make_proxied()
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.reply()[-1].startswith("220 ")
        assert wire.ask("PROXY TCP4 192.0.2.7 192.0.2.8 56324 587").startswith("500 ")
    with Wire(slimtad.address, SUBMISSION, source=haproxy.address) as wire:
        assert wire.is_quiet()
        wire.send(b"EHLO client.test\r\n")
        assert wire.is_closed()
    slimtad.wait_for_log(f"no valid PROXY header.*proxy={re.escape(haproxy.address)}")


@pytest.mark.skipif(not VECTORS.exists(), reason="../shared/vectors is not there")
def test_vectors(make_proxied):
    """Each recorded header against the daemon: who is served, as whom, and who gets no word."""
    slimtad, haproxy = make_proxied(limits={"errors": 1000})
    vectors = json.loads((VECTORS / "proxy-protocol/vectors.json").read_text())
    assert len(vectors) == 41
    served = {"accept", "accept-unknown", "accept-first", "accept-unknown-or-reject"}
    for number, vector in enumerate(vectors):
        for cut in (False, True):
            with Wire(slimtad.address, SUBMISSION, source=haproxy.address) as wire:
                octets = bytes.fromhex(vector["hex"])
                try:
                    for part in [bytes([octet]) for octet in octets] if cut else [octets]:
                        wire.send(part)
                    if vector["expect"] not in served:
                        # Of one that is cut off, the end is the mistake.
                        wire.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    assert vector["expect"] not in served, vector["id"]
                if vector["expect"] not in served:
                    assert wire.is_closed(), vector["id"]
                    continue
                assert wire.reply()[-1].startswith("220 "), vector["id"]
                if vector["expect"] == "accept-first":
                    assert wire.reply()[-1].startswith("500 "), vector["id"]
                name = f"v{number}-{cut}.test"
                wire.ehlo(name)
                assert wire.ask(f"MAIL FROM:<{name}@one.test>").startswith("530 "), vector["id"]
                client = haproxy.address
                if "accept" in vector["expect"].split("-or-")[0] and "unknown" not in vector["expect"]:
                    client = vector["src"].rpartition(":")[0].strip("[]")
                slimtad.wait_until(
                    lambda: slimtad.events(address=f"<{name}@one.test>", client=client, proxy=haproxy.address),
                    what=f"{vector['id']} as {client}")


def test_a_reset_while_we_greet(make_proxied):
    """As HAProxy's checks end: nothing of it in the log."""
    slimtad, haproxy = make_proxied()
    for header in (b"PROXY TCP4 127.0.0.1 127.0.0.1 42440 27101\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
        for port in (SUBMISSION, SUBMISSIONS):
            for waits in (False, True):
                wire = Wire(slimtad.address, port, source=haproxy.address)
                wire.send(header)
                if waits and port == SUBMISSION:
                    wire.reply()
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wire.socket.close()
    with Wire(slimtad.address, 3587) as wire:
        wire.reply()
        wire.ask("QUIT")
    slimtad.term()
    assert [line for line in slimtad.log.splitlines() if haproxy.address in line] == []


def test_ipv6_clients(make_slimtad, place):
    """A proxy that has IPv6 clients on its side and IPv4 on ours."""
    haproxy = HAProxy(place)
    slimtad = make_slimtad(limits={"errors": 1000})
    slimtad.change(edge=edges(slimtad.address, haproxy.address))
    slimtad.start()
    for header in ("send-proxy", "send-proxy-v2"):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
        proxy = HAProxy(place, f"haproxy-{header}")
        proxy.address = haproxy.address
        proxy.listen("six", port, f"{slimtad.address}:{SUBMISSION}", header, [f"bind [::1]:{port}"])
        proxy.start()
        with Wire("::1", port) as wire:
            wire.reply()
            assert wire.ask("FOO").startswith("500 ")
        slimtad.wait_until(lambda: slimtad.events(client="::1", proxy=haproxy.address), what="the client in the log")
        proxy.term()
