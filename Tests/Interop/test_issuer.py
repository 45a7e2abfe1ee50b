"""An issuer of OAuth tokens that is hard to reach, and easily lost: name servers, addresses and connections that fail."""

import json
import socket
import ssl
import struct
import threading
import time

import pytest

from harness.acceptor import Acceptor
from harness.certificate import make_certificate
from harness.issuer import initial
from harness.machine import DNS_PORT, give, new_address, wait_until
from harness.wire import submission

HOST = "issuer.test"
A, AAAA = 1, 28


class Names(threading.Thread):
    """A name server that knows one host's addresses, by type; and never answers who asks for a type in `silent`."""

    def __init__(self, answers, silent=()):
        super().__init__(daemon=True)
        self.answers, self.silent = answers, silent
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((new_address(), DNS_PORT))
        self.server = ":".join(map(str, self.socket.getsockname()))
        self.start()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            kind, = struct.unpack(">H", query[end - 4:end - 2])
            is_host = query[12:end - 4].lower() == b"".join(
                bytes([len(label)]) + label.encode() for label in HOST.split(".")) + b"\0"
            if is_host and kind in self.silent:
                continue
            found = self.answers.get(kind, []) if is_host else []
            records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for data in found)
            self.socket.sendto(
                query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0) + query[12:end] + records, client)


class Issuer(Acceptor):
    """Answers each request by what `answer` gives, over TLS if it has a certificate; None: it closes the connection."""

    def __init__(self, answer, certificate=None):
        self.answer, self.count = answer, 0
        self.context = certificate and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate:
            self.context.load_cert_chain(certificate.chain, certificate.key)
        server = socket.create_server(("127.0.0.1", 0))
        self.port = server.getsockname()[1]
        super().__init__(server)

    def serve(self, number, connection):
        with self.context.wrap_socket(connection, server_side=True) if self.context else connection as connection:
            octets, number = b"", 0
            while True:
                while b"\r\n\r\n" not in octets:
                    octets += (part := connection.recv(65536))
                    if not part:
                        return
                head, _, octets = octets.partition(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                while len(octets) < int(fields.get(b"content-length", 0)):
                    octets += connection.recv(65536)
                octets, number, self.count = b"", number + 1, self.count + 1
                body = self.answer(number)
                if body is None:
                    return
                text = json.dumps(body).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def key_set(_):
    """A key as the Ed25519 of RFC 8037 appendix A.2."""
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}


@pytest.fixture
def make(place, make_slimtad):
    """slimtad whose issuer is HOST, with these name servers; it is not started."""

    def make(names):
        certificate = make_certificate(place.folder("issuer-tls"), HOST)
        issuer = Issuer(key_set, certificate)
        slimtad = make_slimtad(
            dns={"servers": [names.server]},
            auth={"backends": ["oauth"], "mechanisms": ["OAUTHBEARER"], "oauth": {
                "issuer": f"https://{HOST}", "audience": "slimtad", "jwks_url": f"https://{HOST}:{issuer.port}/keys",
                "trust_file": str(certificate.chain)}})
        return slimtad, issuer
    return make


def has_keys(slimtad, issuer):
    wait_until(lambda: issuer.count or "cannot be had" in slimtad.log, 20, "the first fetch")
    return "cannot be had" not in slimtad.log


def test_name_servers_that_never_answer_for_ipv6(make):
    slimtad, issuer = make(Names({A: [bytes([127, 0, 0, 1])]}, silent=[AAAA]))
    slimtad.start()
    assert has_keys(slimtad, issuer), slimtad.log


def test_name_servers_that_never_answer(make):
    slimtad, issuer = make(Names({}, silent=[A, AAAA]))
    slimtad.start()
    slimtad.wait_for_log(f"cannot be had.*name servers do not say in time where {HOST} is")


def test_an_address_that_swallows_what_is_sent(make):
    """IPv6 that leads nowhere, which is tried first: IPv4 is, too."""
    slimtad, issuer = make(Names({A: [bytes([127, 0, 0, 1])], AAAA: [bytes(15) + b"\1"]}))
    with socket.socket(socket.AF_INET6) as deaf:
        deaf.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        deaf.bind(("::1", issuer.port))
        deaf.listen(0)
        # Nobody accepts: when its queue is full the kernel answers no more.
        waiting = [socket.socket(socket.AF_INET6) for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("::1", issuer.port))
        slimtad.start()
        assert has_keys(slimtad, issuer), slimtad.log


def test_a_kept_connection_that_ends_as_it_is_used(place, make_slimtad):
    """The issuer closes connections when the second question comes: that is asked again, and nobody notices."""
    def answer(number):
        return None if number > 1 else {
            "active": True, "iss": "http://localhost", "aud": "slimtad", "exp": int(time.time()) + 600,
            "email": "maria@example.com", "email_verified": True}

    issuer = Issuer(answer)
    slimtad = make_slimtad()
    secret = slimtad.folder / "client-secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    give(secret)
    slimtad.change(auth={"backends": ["oauth"], "mechanisms": ["XOAUTH2"], "oauth": {
        "issuer": "http://localhost", "audience": "slimtad", "client_id": "slimtad", "client_secret_file": str(secret),
        "introspection_url": f"http://localhost:{issuer.port}/introspect"}})
    slimtad.start()
    for number in range(6):
        with submission(slimtad, login=False) as wire:
            said = wire.ask("AUTH XOAUTH2 " + initial("XOAUTH2", f"token{number}", "maria@example.com"))
            assert said.startswith("235 "), (number, said)
    assert issuer.count == 11
    assert "says nothing" not in slimtad.log
