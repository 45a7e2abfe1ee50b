"""Clients without a login that send and never stop, by counts: the short form of Tests/Flood/sessions.py."""

import socket
import threading

from harness.machine import SUBMISSION
from harness.messages import message
from harness.slimtad import send

CONNECTIONS = 60


def _flood(address, command, replies):
    """One connection that sends `command` 1000 times at once and then reads to the end; how often it was answered."""
    with socket.create_connection((address, SUBMISSION), timeout=30) as found:
        octets = b""
        try:
            found.sendall(command * 1000)
            while more := found.recv(65536):
                octets += more
        except ConnectionError:
            pass  # closed with much of it unread
    replies.append(octets.count(b"250 "))


def test_sessions_that_lead_nowhere_end_and_leave_room_for_others(make_slimtad):
    slimtad = make_slimtad(queue={"deliver": False}).start()
    replies = []
    flood = [
        threading.Thread(target=_flood, args=(slimtad.address, command, replies))
        for command in [b"RSET\r\n", b"EHLO a\r\n", b"NOOP\r\n"] * (CONNECTIONS // 3)
    ]
    for each in flood:
        each.start()
    with slimtad.connect() as client:
        send(client, message(), ["someone@one.test"])
    for each in flood:
        each.join()
    assert len(replies) == CONNECTIONS and max(replies) <= 100
    ended = slimtad.wait_for_events(reason="tooManyCommands")
    assert len(ended) <= 20, "each is told, up to twenty a minute"


def test_a_client_that_reads_nothing_is_not_answered_without_end(make_slimtad):
    """What it may have unread is bounded by commands, and by what waits to be written: memory, not only time."""
    slimtad = make_slimtad(queue={"deliver": False}, limits={"commands": 100_000, "errors": 1000}).start()

    def resident():
        status = open(f"/proc/{slimtad.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    before, found = resident(), []
    for _ in range(50):
        wire = socket.create_connection((slimtad.address, SUBMISSION), timeout=15)
        wire.setblocking(False)
        found.append(wire)
    for _ in range(40):
        for wire in found:
            try:
                # A line that was cut is one error more: of those there may be many here.
                wire.send((b"EHLO " + b"a" * 1990 + b"\r\n") * 30)
            except BlockingIOError:
                pass
    with slimtad.connect() as client:
        send(client, message(), ["someone@one.test"])
    # 4.9 MB each it was. What the one honest session costs is in it.
    assert resident() - before < 50 * 100_000
    for wire in found:
        wire.close()


def test_a_stranger_does_not_fill_the_log(make_slimtad):
    slimtad = make_slimtad(queue={"deliver": False}).start()
    for _ in range(30):
        with socket.create_connection((slimtad.address, SUBMISSION), timeout=15) as wire:
            wire.sendall(b"XYZZY\r\nMAIL FROM:<a@b.test>\r\n" * 5)
            while wire.recv(65536):
                pass
    refused = slimtad.wait_for_events(reply="500 5.5.2 Syntax error, command unrecognized")
    assert len(refused) <= 20, slimtad.log
    assert all("command" in event and "client" in event for event in refused)
    assert len(slimtad.log.splitlines()) < 80
