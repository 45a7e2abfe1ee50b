"""Keys that mail is signed with, as a test sees them: commands, states, and a daemon whose hours pass by harness/clock.py."""

import http.client
import json
import socket
import time

from .clock import Clock
from .slimtad import OK, run_slimtad

MINUTE, HOUR, DAY = 60, 3600, 86400
DOMAIN = "origin.test"


def dkim(daemon, *words, status=OK):
    """A command, to its end; what it printed."""
    result = run_slimtad("dkim", *words, "--config", daemon.configuration, timeout=90)
    assert result.returncode == status, (words, result.returncode, result.stdout, result.stderr)
    return result.stdout


class Control(http.client.HTTPConnection):
    """The control socket itself: a command for each look would take longer than all the rest."""

    def __init__(self, daemon):
        super().__init__("slimtad")
        self.path = daemon.runtime / "control"

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def keys(daemon):
    if daemon.process is None or daemon.process.poll() is not None:
        shown = json.loads(dkim(daemon, "show", "--json"))
    else:
        control = Control(daemon)
        control.request("GET", "/dkim")
        shown = json.loads(control.getresponse().read())
        control.close()
    return {key["selector"]: key for key in shown["keys"]}


def states(daemon):
    return {selector: key["state"] for selector, key in keys(daemon).items()}


def reach(daemon, wanted):
    """Returns once the keys are in these states: their questions are settled before they have changed."""
    daemon.wait_until(lambda: states(daemon) == wanted, what=f"{wanted}, {states(daemon)}")


class Life:
    """A daemon, its clock and its zone."""

    def __init__(self, place, daemon, zone):
        self.daemon, self.zone, self.clock = daemon, zone, Clock(place)
        daemon.environment = self.clock.environment
        # The harness makes one for two days.
        daemon.expect_error("certificate has expired")
        self.offset = 0
        # Whether the zone's server says nothing at all.
        self.is_silent = False

    def now(self):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + self.offset))

    def publish(self, selector, *texts):
        """Nothing: the right record."""
        key = keys(self.daemon)[selector]
        self.zone.texts[key["record_name"]] = list(texts) or [key["record"]]

    def withdraw(self, selector):
        self.zone.texts.pop(f"{selector}._domainkey.{DOMAIN}", None)

    def settle(self):
        """Returns when there is no question that is due."""
        self.daemon.wait_until(
            lambda: all(key["dns_next"] > self.now() for key in keys(self.daemon).values()), timeout=60,
            what="answers to all questions")

    def live(self, seconds, step=10 * MINUTE):
        """Time passes; whatever is due meanwhile is asked and answered."""
        while seconds > 0:
            self.offset += min(step, seconds)
            self.clock.set(min(step, seconds))
            seconds -= step
            self.settle()

    def restart(self):
        """What it asks when it starts is answered by the records of now, not by those that a test makes next."""
        assert self.daemon.term() == 0
        self.daemon.start_again()
        if not self.is_silent:
            self.daemon.wait_until(
                lambda: all(key["dns"] for key in keys(self.daemon).values()), what="answers to the first questions")
        self.settle()

    def come(self, wanted):
        """To these states, and through a restart."""
        reach(self.daemon, wanted)
        signing = {selector for selector, key in keys(self.daemon).items() if key["signs"]}
        self.restart()
        assert states(self.daemon) == wanted
        assert signing == {selector for selector, key in keys(self.daemon).items() if key["signs"]}


def selectors(daemon):
    return sorted(keys(daemon))
