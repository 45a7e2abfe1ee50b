"""What refused clients cost the daemon: memory, and time of the processor.

    make bench-gate      # or: gate.py --slimtad BINARY [--sessions N] [--recipients N]

Refuses SESSIONS sessions at connect, one after the other and from many addresses: by a rule with a reply, after which the
client quits, and by one that closes. The same sessions where no rule is are what a connection costs by itself. Then one
session with RECIPIENTS refused recipients of one message, pipelined, and again with rules that let them through first.
Prints what each session and each recipient took, and the daemon's memory before and after. Nothing is asserted.
"""

import argparse
import itertools
import os
import pathlib
import socket
import sys
import time

# Some rules that look at much and do not match stand before the one that does: nobody's configuration has just one.
BEFORE = [
    {"name": "late", "at": "connect", "client": ["198.51.100.0/24", "2001:db8::/32"], "hours": "22:00-23:00",
     "action": "log"},
    {"name": "partners", "at": "connect", "client": ["203.0.113.0/24"], "action": "accept"},
]
REPLY = {"name": "strangers", "at": "connect", "client": ["127.0.0.0/8"], "reply": "554 5.7.1 {client} is not welcome here"}
CLOSE = {"name": "strangers", "at": "connect", "client": ["127.0.0.0/8"], "action": "close"}
CLOSED = [
    {"name": "partners", "at": "rcpt", "sender": "@partner.test", "recipient": "*@one.test", "action": "accept"},
    {"name": "old names", "at": "rcpt", "recipient": "/^(old|former)-[a-z0-9]+@/", "reply": "551 5.1.6 Moved"},
    {"name": "closed", "at": "rcpt", "recipient": "@closed.test", "reply": "554 5.7.1 {recipient} is closed"},
]


def memory(pid):
    """The memory that a process has now, in octets."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def processor(pid):
    """The seconds that a process has had, in all of its threads, those that have ended too."""
    # Its clock, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime(~pid << 3 | 2)


def settled(pid):
    """Memory, when what was closed has gone."""
    time.sleep(0.5)
    return memory(pid)


def read_lines(found, count, buffer=b""):
    """Reads until there are `count` lines; the last one."""
    while buffer.count(b"\r\n") < count:
        octets = found.recv(65536)
        if not octets:
            break
        buffer += octets
    return buffer


def sessions(daemon, count, expected, quits):
    """The seconds of the processor for each of `count` sessions, whose first reply begins with `expected`."""
    pid, port = daemon.process.pid, daemon.bench_port
    sources = itertools.cycle(f"127.0.{a}.{b}" for a in range(20, 30) for b in range(1, 250))
    before, lasted = processor(pid), time.monotonic()
    for _ in range(count):
        with socket.create_connection((daemon.address, port), timeout=15, source_address=(next(sources), 0)) as found:
            said = read_lines(found, 1)
            assert said.startswith(expected), said
            if quits:
                found.sendall(b"QUIT\r\n")
                assert read_lines(found, 1).startswith(b"221 ")
            assert found.recv(512) == b"", "it was not closed"
    return (processor(pid) - before) / count, (time.monotonic() - lasted) / count


def recipients(daemon, count, domain, expected):
    """The seconds of the processor for each of `count` recipients of one message."""
    pid = daemon.process.pid
    with socket.create_connection((daemon.address, daemon.bench_port), timeout=60) as found:
        found.sendall(b"EHLO client.test\r\nMAIL FROM:<sender@origin.test>\r\n")
        buffer = b""
        while b"<sender@origin.test> Ok\r\n" not in buffer:
            buffer += found.recv(65536)
        time.sleep(0.5)
        before, most = processor(pid), memory(pid)
        left, sent, got, pending = count, 0, 0, b""
        while got < count:
            # As a client that pipelines: it reads while it writes.
            while left and sent - got < 500:
                part = min(left, 100)
                found.sendall(b"".join(b"RCPT TO:<someone%d@%s>\r\n" % (sent + n, domain) for n in range(part)))
                left, sent = left - part, sent + part
            octets = found.recv(65536)
            assert octets, f"closed after {got} replies, {pending!r}"
            *lines, pending = (pending + octets).split(b"\r\n")
            for line in lines:
                assert line.startswith(expected), line
            got += len(lines)
            most = max(most, memory(pid))
        return (processor(pid) - before) / count, most


def run(make, session_count, recipient_count):
    plain = None
    for name, rules, expected, quits in [
        ("greeted, no rule anywhere", [], b"220 ", True),
        ("refused at connect by a reply", [*BEFORE, REPLY], b"554 5.7.1 ", True),
        ("refused at connect by close", [*BEFORE, CLOSE], b"421 ", False),
    ]:
        daemon = make(rules)
        sessions(daemon, 100, expected, quits)
        before = settled(daemon.process.pid)
        cost, lasted = sessions(daemon, session_count, expected, quits)
        after = settled(daemon.process.pid)
        more = "" if plain is None else f" ({(cost - plain) * 1e3:+.3f} ms to the one that is greeted)"
        plain = plain if plain is not None else cost
        print(f"{session_count} sessions {name}: {cost * 1e3:.3f} ms of the processor each{more}, {lasted * 1e3:.2f} ms "
              f"each to the client; memory {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB", flush=True)
        daemon.finish()
    for name, rules, domain, expected in [
        ("accepted, no rule anywhere", [], b"one.test", b"250 "),
        ("accepted, behind three rules", CLOSED, b"one.test", b"250 "),
        ("refused by the last of three rules", CLOSED, b"closed.test", b"554 5.7.1 "),
    ]:
        daemon = make(rules)
        # Recipients that are accepted are kept, up to the limit.
        count = min(recipient_count, 10_000)
        recipients(daemon, 100, domain, expected)
        before = settled(daemon.process.pid)
        cost, most = recipients(daemon, count, domain, expected)
        after = settled(daemon.process.pid)
        print(f"{count} recipients {name}: {cost * 1e6:.1f} us of the processor each; memory {before / 1e6:.1f} MB, at the "
              f"most {most / 1e6:.1f} MB, then {after / 1e6:.1f} MB; log {daemon.log_path.stat().st_size / 1e3:.1f} KB",
              flush=True)
        daemon.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--recipients", type=int, default=10_000)
    arguments = parser.parse_args()
    # The harness asks for it when it is imported.
    os.environ["SLIMTAD"] = str(pathlib.Path(arguments.slimtad).resolve())
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    from harness.machine import SUBMISSION, Place
    from harness.slimtad import Slimtad

    place = Place()
    numbers = itertools.count(1)

    def make(rules):
        daemon = Slimtad(
            place, name=f"slimtad{next(numbers)}", queue={"deliver": False},
            limits={"connections_per_address": 2000, "errors": 1_000_000, "commands": 1_000_000, "recipients": 10_000})
        edge = {"name": "gate", "type": "smtp", "listen": [f"{daemon.address}:{SUBMISSION}"], "tls": "none",
                "auth": "none", "trusted_networks": ["127.0.0.0/8"]}
        daemon.change(edge=[edge], **({"rule": rules} if rules else {}))
        daemon.bench_port = SUBMISSION
        return daemon.start(wait=False) if rules and rules[-1]["at"] == "connect" else daemon.start()

    try:
        run(lambda rules: wait_for(make(rules)), arguments.sessions, arguments.recipients)
    finally:
        place.stop_all()
        place.remove()
    return 0


def wait_for(daemon):
    """One that greets nobody listens when it can be connected to."""
    daemon.wait_until(
        lambda: socket.socket().connect_ex((daemon.address, daemon.bench_port)) == 0, timeout=20, what="a connection")
    return daemon


if __name__ == "__main__":
    sys.exit(main())
