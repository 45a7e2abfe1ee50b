"""Hosts that fail at any stage, and hosts that take little: backups, what is learned of a site, and what operators see of it."""

import json
import re
import socketserver
import threading

from harness.machine import MX_PORT, new_address
from harness.messages import message
from harness.python_mx import PythonMX
from harness.slimtad import run_slimtad, send

RATE = "450 4.7.1 rate limit exceeded"

# Where a session breaks off, and how: what is said in reply to the command of that name; None: the connection is closed,
# "": nothing is said any more.
STAGES = {
    "greeting-closed": ("connect", None), "greeting-refused": ("connect", "451 4.3.2 not now"), "greeting-silent": ("connect", ""),
    "ehlo-closed": ("EHLO", None), "ehlo-refused": ("EHLO", "421 4.3.2 going down"), "ehlo-silent": ("EHLO", ""),
    "mail-closed": ("MAIL", None), "mail-refused": ("MAIL", "452 4.3.1 full"), "rcpt-closed": ("RCPT", None),
    "rcpt-refused": ("RCPT", "451 4.3.0 not now"), "data-closed": ("DATA", None), "data-refused": ("DATA", "451 4.3.0 not now"),
}


class FailingMX:
    """Takes mail, up to one stage."""

    def __init__(self, place, stage, reply):
        self.address = new_address()
        self.sessions = 0
        mx, done = self, threading.Event()
        self._done = done

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                mx.sessions += 1
                verb = "connect"
                while True:
                    said = {"connect": "220 x", "DATA": "354 go on", "QUIT": "221 bye"}.get(verb, "250 x")
                    said = reply if verb == stage else said
                    if said == "":
                        done.wait(60)
                    if not said:
                        return
                    try:
                        self.wfile.write(said.encode() + b"\r\n")
                        line = self.rfile.readline()
                    except OSError:
                        return
                    if not line or verb == "QUIT":
                        return
                    verb = line.split()[0].decode().upper()

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        socketserver.ThreadingTCPServer.daemon_threads = True
        self._server = socketserver.ThreadingTCPServer((self.address, MX_PORT), Session)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        place.programs.append(self)

    def kill(self):
        self._done.set()
        self._server.shutdown()
        self._server.server_close()


def test_a_backup_delivers_whatever_the_primary_does(place, nameserver, sink, make_slimtad):
    """Within the first attempt, and once."""
    primaries = {name: FailingMX(place, *how) for name, how in STAGES.items()}
    for name, primary in primaries.items():
        nameserver.add_mx(f"{name}.test", primary.address, sink.address)
    nameserver.start()
    relay = {"greeting_timeout": "1s", "command_timeout": "2s"}
    slimtad = make_slimtad(nameserver, relay=relay, queue={"retry": ["1h"]}).start()
    with slimtad.connect() as client:
        for name in STAGES:
            send(client, message(name), [f"b@{name}.test"])
    sink.wait_for(len(STAGES))
    slimtad.wait_for_attempts(len(STAGES))
    for name, primary in primaries.items():
        (attempt,) = slimtad.attempts(recipient=f"b@{name}.test")
        assert attempt["status"].startswith("2.") and attempt["relay"].startswith(f"mx1.{name}.test"), attempt
        assert primary.sessions == 1, name
    assert sorted(found.recipients for found in sink.transactions()) == sorted([f"b@{name}.test"] for name in STAGES)


def kinds(slimtad):
    """What the log says of attempts, in their order."""
    return re.findall(r"\b(delivered|deferred|postponed) .*\brecipient=", slimtad.log)


def sites(slimtad, *words):
    found = run_slimtad("site", *words, "--json", "--config", slimtad.configuration)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)["sites"]


def test_what_is_learned_is_kept_shown_and_forgotten(place, nameserver, make_slimtad):
    """A site that refuses three recipients for the rate is left alone: their messages wait, and that was no attempt."""
    mx = PythonMX(place).start()
    mx.answers["RCPT"] = ["250 2.1.5 Ok"] * 5 + [RATE] * 3
    # One set of exchangers, two domains: it is one site.
    for domain in ("one.test", "two.test"):
        nameserver.add(f"{domain}. 60 IN MX 10 mx.hoster.test.")
    nameserver.add(f"mx.hoster.test. 60 IN A {mx.address}")
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"retry": ["1h"]}).start()
    recipients = [*(f"r{number}@one.test" for number in range(5)), "a@one.test", "b@two.test", "c@one.test", "d@two.test"]
    for number, recipient in enumerate(recipients):
        slimtad.submit(message(), recipient)
        slimtad.wait_for_attempts(number + 1)
    assert kinds(slimtad) == ["delivered"] * 5 + ["deferred", "deferred", "postponed", "postponed"]
    assert len(mx.messages) == 5
    slimtad.wait_for_log(r"site limits the rate .*site=mx\.hoster\.test:2525")
    (site,) = sites(slimtad, "list")
    assert site["hosts"] == ["mx.hoster.test"] and site["learned"]["rate"] == "4/m" and site["paused_until"]
    assert "slimtad site list" in run_slimtad("status", "--config", slimtad.configuration).stdout

    assert slimtad.term() == 0
    slimtad.start_again()
    (site,) = sites(slimtad, "show", "mx.hoster.test")
    assert site["learned"]["rate"] == "4/m" and not site["paused_until"]
    (site,) = sites(slimtad, "set", "--messages", "7", "--rate", "6000/m", "mx.hoster.test")
    assert site["set"] == {"connections": None, "rate": "6000/m", "messages": 7, "recipients": None}
    assert run_slimtad("queue", "flush", "--all", "--config", slimtad.configuration).returncode == 0
    mx.wait_for(9)
    assert sites(slimtad, "forget", "mx.hoster.test")[0]["learned"]["rate"] is None

    assert slimtad.term() == 0
    file = slimtad.state / "sites"
    file.write_text("slimtad sites 1\nnot a line of it\n")
    slimtad.expect_error("what is known of sites begins anew")
    slimtad.start_again()
    slimtad.wait_for_log("what is known of sites begins anew")
    assert list(slimtad.state.glob("sites.unusable-*")) and sites(slimtad, "list") == []


def test_limits_of_the_configuration(place, nameserver, make_slimtad):
    """[[site]]: no more recipients in a transaction, no more messages in a session."""
    mx = PythonMX(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    site = {"hosts": ["*.one.test"], "connections": 1, "messages_per_session": 2, "recipients_per_transaction": 2}
    slimtad = make_slimtad(nameserver, site=[site]).start()
    slimtad.submit(message(), [f"r{number}@one.test" for number in range(5)])
    found = mx.wait_for(3)
    assert sorted(len(one.recipients) for one in found) == [1, 2, 2]
    (seen,) = sites(slimtad, "list")
    assert seen["configured"] == {"connections": 1, "rate": None, "messages": 2, "recipients": 2}
