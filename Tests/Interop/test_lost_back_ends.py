"""Who is asked and gives no answer: `slimtad status` says so for as long as it is so."""

import socket

from harness.acceptor import Acceptor
from harness.machine import free_ports, wait_until
from harness.policy import ToldPolicy
from harness.slimtad import run_slimtad
from harness.wire import submission


def warnings(slimtad):
    found = run_slimtad("status", "--config", slimtad.configuration)
    assert found.returncode == 0, found.stderr
    return [line for line in found.stdout.splitlines() if line.startswith("warning:")]


def about(slimtad, word):
    return [line for line in warnings(slimtad) if word in line]


class Dovecot(Acceptor):
    """One that shakes hands, and knows nobody."""

    def __init__(self, path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        super().__init__(listener)

    def serve(self, number, connection):
        connection.sendall(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nDONE\n")
        while connection.recv(65536):
            pass


def test_who_knows_users(place, make_slimtad):
    path, (port,) = place.path / "dovecot", free_ports(1)
    slimtad = make_slimtad(auth={
        "backends": ["file", "dovecot", "oauth"], "mechanisms": ["PLAIN", "OAUTHBEARER"],
        "dovecot": {"socket": f"unix:{path}"},
        "oauth": {"issuer": "http://localhost", "audience": "slimtad", "jwks_url": f"http://localhost:{port}/keys"}})
    slimtad.start()
    slimtad.wait_for_log("no connection to Dovecot")
    slimtad.wait_for_log("keys of the OAuth issuer cannot be had")
    assert about(slimtad, "auth.dovecot: no connection to Dovecot: cannot connect")
    assert about(slimtad, "auth.oauth: the issuer says nothing of tokens: no connection")
    Dovecot(path)
    slimtad.wait_for_log("connected to Dovecot")
    assert not about(slimtad, "auth.dovecot")
    slimtad.change(auth={"backends": ["file"], "mechanisms": ["PLAIN"], "dovecot": None, "oauth": None})
    slimtad.reload()
    wait_until(lambda: not about(slimtad, "auth.oauth"), what="only what is asked is told of")


def test_who_says_who_may_send(place, nameserver, make_slimtad):
    told = ToldPolicy(place, ToldPolicy.CLOSE).start()
    nameserver.start()
    slimtad = make_slimtad(nameserver)
    slimtad.change(
        policy_service=[{"name": "quota", "at": ["mail"], "to": told.to}],
        dnsbl=[{"name": "ended", "zone": "ended.test"}],
        rule=[{"name": "listed", "at": "connect", "dnsbl": "ended", "action": "log"}])
    slimtad.expect_error("policy service gives no answers")
    slimtad.start()
    slimtad.wait_for_log("block list is out of order")
    assert about(slimtad, "dnsbl ended: it is out of order, and not asked: its test entry is missing")
    for _ in range(3):
        with submission(slimtad) as wire:
            assert wire.ask("MAIL FROM:<a@one.test>").startswith("451 4.3.5")
    assert about(slimtad, 'policy_service quota: it gives no answers: ') and about(slimtad, '"tempfail" counts')
