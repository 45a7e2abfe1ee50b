"""Sessions that slimtad ends while the client still sends: the client reads why, for the connection is not reset on it."""

import signal
import threading

import pytest

from harness.machine import SUBMISSION
from harness.wire import Wire, submission

# More than slimtad reads before it ends the session, and less than the kernel keeps for it.
AHEAD = 200_000


def ahead(command):
    return command * (AHEAD // len(command))


ENDINGS = {
    "too many errors": (ahead(b"XYZZY\r\n"), "421 4.7.0 "),
    "too many commands": (ahead(b"NOOP\r\n"), "421 4.7.0 "),
    "wrong line end": (b"NOOP\n" + ahead(b"NOOP\r\n"), "421 4.7.0 "),
    "refused by a rule": (b"EHLO unwanted.test\r\n" + ahead(b"NOOP\r\n"), "421 "),
}


def last_reply(wire):
    """What was said last before the end of the connection, which is an orderly one."""
    octets = wire.buffer
    while more := wire.socket.recv(65536):
        octets += more
    return octets.decode().splitlines()[-1]


@pytest.fixture
def ending(make_slimtad):
    return make_slimtad(
        limits={"errors": 5, "commands": 20}, queue={"deliver": False},
        rule=[{"name": "go away", "at": "ehlo", "ehlo": ["unwanted.test"], "action": "close"}]).start()


@pytest.mark.parametrize("why", ENDINGS)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
def test_who_sends_on_reads_why(ending, why, tls):
    octets, reply = ENDINGS[why]
    with submission(ending, login=False) if tls else Wire(ending.address, SUBMISSION) as wire:
        if not tls:
            assert wire.code() == 220
        wire.send(octets)
        assert last_reply(wire).startswith(reply)


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
def test_who_sends_on_at_a_stop_reads_why(make_slimtad, tls):
    slimtad = make_slimtad(limits={"commands": 1_000_000}, queue={"deliver": False}).start()
    with submission(slimtad) if tls else Wire(slimtad.address, SUBMISSION) as wire:
        if not tls:
            assert wire.code() == 220
        wire.send(ahead(b"NOOP\r\n"))
        assert wire.code() == 250
        slimtad.signal(signal.SIGTERM)
        assert last_reply(wire).startswith("421 4.3.2 ")
    assert slimtad.wait() == 0
