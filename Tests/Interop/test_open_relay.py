"""Who may send that has said nothing of himself, or lies: every kind of edge, and what stands beside edges, on a daemon.

Tests/SlimtaConfigurationTests/OpenRelayTests has the same of the configuration's values; here are sockets, proxies, TLS and the
way through the whole daemon.
"""

import base64
import contextlib
import itertools
import json
import os
import socket
import ssl

import pytest

from harness.certificate import make_client_certificate
from harness.http import HTTP, basic, envelope, request
from harness.machine import give
from harness.milter import ToldMilter, packet
from harness.signatures import Keys
from harness.slimtad import LOGIN, run_slimtad
from harness.wire import Wire, plain

TRUSTED, PROXIES = "127.100.0.0/16", "127.200.0.0/16"
FRIEND, STRANGER, PROXY = "127.100.0.9", "127.30.0.9", "127.200.0.9"
MAIL = "MAIL FROM:<sender@origin.test>"
JSON = {"from": "sender@origin.test", "to": "someone@one.test", "subject": "x", "text": "x"}
# What nobody is believed who only says it.
CLAIMS = {"X-Forwarded-For": FRIEND, "Forwarded": f"for={FRIEND}", "X-Real-IP": FRIEND, "X-Client": FRIEND,
          "X-Envelope-Login": LOGIN, "X-Ehlo": "localhost"}

# What a proxy can say of its client, and who that is; nobody, if it says nothing.
HEADERS = {
    f"PROXY TCP4 203.0.113.5 192.0.2.1 40000 25\r\n".encode(): "203.0.113.5",
    f"PROXY TCP4 {FRIEND} 192.0.2.1 40000 25\r\n".encode(): FRIEND,
    b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\n": "127.0.0.1",
    b"PROXY TCP6 ::1 ::1 40000 25\r\n": "::1",
    b"PROXY UNKNOWN\r\n": None,
    f"PROXY UNKNOWN {FRIEND} 192.0.2.1 40000 25\r\n".encode(): None,
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00": None,
    # A client of the proxy without an IP address, and LOCAL with one: what stands there is not read.
    b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd8" + bytes(216): None,
    b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0c" + bytes([127, 100, 0, 9, 192, 0, 2, 1, 1, 1, 0, 25]): None,
}


class Edge:
    """An edge, and who may send over it."""

    def __init__(self, number, kind, tls, auth, is_own, has_friends, has_proxies):
        self.kind, self.tls, self.auth = kind, tls, auth
        self.is_own, self.has_friends, self.has_proxies = is_own, has_friends, has_proxies
        self.number, self.port = number, None
        self.is_plain = tls == "none" and auth != "none"

    @property
    def has_only_own(self):
        return self.is_own and not self.has_proxies

    @property
    def has_names(self):
        """Whether it is asked what clients call it: in clear, of who need not log in."""
        return self.tls == "none" and (self.auth != "required" or self.has_friends)

    def is_configurable(self):
        """Others are refused by the configuration: passwords in clear, or an edge that nobody can send over."""
        return (self.has_only_own or not self.is_plain) and (self.auth == "required" or self.has_only_own or self.has_friends)

    def table(self, address):
        host = address if self.is_own else "0.0.0.0"
        table = {
            "name": f"e{self.number}", "type": self.kind, "listen": [f"{host}:{self.port}"], "tls": self.tls, "auth": self.auth,
            "trusted_networks": [TRUSTED] if self.has_friends else [],
            "proxy_protocol": [PROXIES] if self.has_proxies else [], "plaintext_auth": self.is_plain}
        # What concerns how it looks alone.
        if self.kind == "http":
            return table | {"json": True, "path": "/submit"} | ({"server_names": ["mail.test"]} if self.has_names else {})
        return table | {"banner": "220 {hostname} ESMTP Open Relay"}

    def may_send(self, client):
        """Without a login; `client` None: a proxy does not say who it is."""
        if client is None:
            return False
        is_own = client.startswith("127.") or client == "::1"
        is_friend = client.startswith("127.100.")
        return self.has_friends and is_friend or self.auth != "required" and self.has_only_own and is_own

    def __str__(self):
        return " ".join(f"{name}={value}" for name, value in vars(self).items())


def edges():
    kinds = [("smtp", tls) for tls in ("starttls", "immediate", "none")] + [("http", tls) for tls in ("immediate", "none")]
    found = [
        Edge(number, kind, tls, auth, *more) for number, ((kind, tls), auth, more) in enumerate(itertools.product(
            kinds, ("required", "optional", "none"), itertools.product((True, False), repeat=3)))]
    found = [edge for edge in found if edge.is_configurable()]
    for edge, port in zip(found, free_ports_of_all()):
        edge.port = port
    return found


def free_ports_of_all():
    """Ports of all addresses, none of which the kernel gives to clients."""
    for port in range(10_000 + os.getpid() * 101 % 20_000, 32_768):
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            yield port


def visits(edge):
    """From where somebody comes, what is said first, and who that is."""
    found = [(STRANGER, b"", STRANGER), (FRIEND, b"", FRIEND)]
    if edge.has_proxies:
        found += [(PROXY, header, client) for header, client in HEADERS.items()]
    else:
        found.append((PROXY, b"", PROXY))
    return found


def over_smtp(edge, address, source, header, context, has_password):
    """The set of whether MAIL is taken, each time that it is tried."""
    with Wire(address, edge.port, source=source) as wire:
        wire.send(header)
        if edge.tls == "immediate":
            wire.socket = context.wrap_socket(wire.socket)
        assert wire.code() == 220
        wire.ehlo("localhost")
        found = [wire.ask(MAIL)]
        if found[0].startswith("250"):
            wire.ask("RSET")
        if edge.tls == "starttls":
            assert wire.ask("STARTTLS").startswith("220")
            wire.socket = context.wrap_socket(wire.socket)
            offered = wire.ehlo("[127.0.0.1]")
        else:
            offered = wire.ehlo("[127.0.0.1]")
        # What says who it is, and is not right or not known here.
        assert wire.ask(f"XCLIENT ADDR={FRIEND} LOGIN={LOGIN}").startswith("500")
        if "AUTH" in offered:
            if has_password:
                assert wire.ask("AUTH PLAIN " + plain(LOGIN, "wrong")).startswith("535")
            if "EXTERNAL" in offered["AUTH"]:
                assert not wire.ask("AUTH EXTERNAL " + base64.b64encode(LOGIN.encode()).decode()).startswith("235")
            assert wire.ask("AUTH LOGIN").startswith("334") and wire.ask("*").startswith("501")
        for mail in (MAIL, "MAIL FROM:<>", f"MAIL FROM:<{LOGIN}@mail.slimtad.test>"):
            found.append(wire.ask(mail))
            if found[-1].startswith("250"):
                wire.ask("RSET")
    refusal = "550 5.7.1" if edge.auth == "none" else "530 5.7.0"
    assert all(reply.startswith(("250 2.1.0", refusal)) for reply in found), found
    return {reply.startswith("250") for reply in found}


def over_http(edge, address, source, header, context, has_password):
    """The same of messages that are posted, raw and as JSON."""
    found = []
    with HTTP(address, edge.port, source=source) as client:
        client.send(header)
        if edge.tls == "immediate":
            client.socket = context.wrap_socket(client.socket)
        for host in ("localhost", "mail.test") if edge.has_names else ("localhost",):
            claims = {name.replace("-", "_"): value for name, value in CLAIMS.items()}
            answer = client.ask(request(b"Subject: x\r\n\r\nx\r\n", target="/submit", host=host, **claims))
            found.append(answer.status)
            answer = client.ask(request(
                json.dumps(JSON).encode(), [], target="/v1/messages", host=host, Content_Type="application/json", **claims))
            found.append(answer.status)
        if edge.auth != "none" and has_password:
            wrong = request(b"x\r\n", envelope(), target="/submit", Authorization=basic(LOGIN, "wrong"))
            assert client.ask(wrong).status == 401
    assert all(status in ((200, 202, 403) if edge.auth == "none" else (200, 202, 401)) for status in found), found
    return {status < 300 for status in found}


def _accepting_rules():
    stages = ["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "message"]
    return [{"name": f"accept {stage}", "at": stage, "client": ["0.0.0.0/0", "::/0"], "action": "accept"} for stage in stages]


# What stands beside edges, each with the most that it can allow.
SETTINGS = {
    "as it comes": {},
    "rules that accept": {"rule": _accepting_rules(), "limits": {"lenient_paths": True}},
    "services and SPF that accept": {
        "policy_service": [{
            "at": ["connect", "ehlo", "mail", "rcpt", "data", "message"], "to": "127.0.0.1:1", "timeout": "1s",
            "on_failure": "accept"}],
        "milter": [{"to": "127.0.0.1:1", "on_failure": "accept"}],
        "spf": {"timeout": "1s"}, "forward": [{"recipient": "someone@one.test", "to": "other@two.test"}],
        "queue": {"policies": ["forward", "date", "message_id", "received"]}},
    "senders, quotas, signatures, repairs and a milter that accepts": {
        "sender_check": {"mail_from": False, "from": True, "add_sender": True, "allow_resent": True, "extension": "+",
                         "missing_from": "add"},
        "senders": [{"logins": ["*"], "mail_from": ["*"]}, {"logins": ["*"], "local": True, "mail_from": ["*"]}],
        "auth": {"fold_case": True, "learn_scram": True, "channel_binding": "off"},
        "quota": {"except": [{"logins": ["*"], "networks": ["0.0.0.0/0", "::/0"]}]},
        "signing": {"otherwise": "origin.test"}, "repair": {"duplicates": "first"},
        "queue": {"deliver": False, "policies": ["date", "message_id", "received"], "seven_bit": "always",
                  "qualify": "origin.test", "received": {"hide_client": True}}},
    "certificates": {"auth": {"mechanisms": ["PLAIN", "LOGIN", "EXTERNAL"], "certificate_login": "common_name"}},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_nobody_sends_who_may_not(make_slimtad, place, setting):
    daemon = make_slimtad(limits={"errors": 100, "connections_per_address": 1000}, **{"queue": {"deliver": False}})
    found = edges()
    assert len(found) > 60
    context = ssl.create_default_context(cafile=str(daemon.certificate.chain))
    context.check_hostname = False
    if setting == "certificates":
        # One of another authority: shown by every client, and good for nothing.
        for name in ("authority", "stranger"):
            place.folder(name)
        authority = make_client_certificate(place.path / "authority", "a@authority.test")
        give(authority.chain)
        daemon.change(tls={"client_ca": str(authority.chain)})
        own = make_client_certificate(place.path / "stranger", f"{LOGIN}@mail.slimtad.test")
        context.load_cert_chain(own.chain, own.key)
    # Nobody serves there.
    daemon.expect_error("policy service gives no answers")
    daemon.expect_error("milter")
    milter = None
    if "signing" in SETTINGS[setting]:
        daemon.change(dkim=Keys(place.folder("keys"), "origin.test").tables())
        # All that it can say for a client: it accepts the connection, and each of its messages.
        milter = ToldMilter(lambda number, letter, data: packet(b"a") if letter in b"CHM" else None)
        daemon.change(milter=[{"to": milter.to}])
    daemon.change(edge=[edge.table(daemon.address) for edge in found])
    for table, values in SETTINGS[setting].items():
        daemon.change(**{table: values})
    daemon.start()
    for edge in found:
        for source, header, client in visits(edge):
            over = over_smtp if edge.kind == "smtp" else over_http
            # A wrong password takes its time: it is tried where nothing else is.
            said = over(edge, daemon.address, source, header, context, setting == "as it comes")
            assert said == {edge.may_send(client)}, f"{edge} {source} {header!r}"
    if milter:
        milter.stop()
        assert any(letters.startswith("OC") for letters in milter.letters)
    counted = run_slimtad("queue", "count", "--config", daemon.configuration).stdout
    assert counted.strip().isdigit() and int(counted) > 0
