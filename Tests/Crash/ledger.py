"""SMTP load with a ledger: what got its 250, and what came to the sink, recipient by recipient. Used by the rigs that
run the real daemon.

A message follows from its number, octet for octet, so that what arrives can be compared.
"""

import collections
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "Interop"))

from harness.machine import MX_PORT, SUBMISSION, NotReady, Place, give, new_address, wait_until  # noqa: E402, F401
from harness.sink import Sink, parse_dump  # noqa: E402
from harness.slimtad import Slimtad, run_slimtad  # noqa: E402

# How many attempts slimtad makes at once: each may be repeated after a kill, and nothing else.
CONNECTIONS = 8
# The domain whose mail stays in the queue until the end.
HELD = "held.test"


class Lost(Exception):
    """The promise was broken: the text says how."""


def content(number):
    """Header and body, with CRLF. One message in 150 is so large that most of it goes through the spool, past the cache."""
    generator = random.Random(number)
    size = 800_000 if generator.random() < 1 / 150 else generator.randrange(20, 8000)
    lines = "".join(f"{generator.getrandbits(256):064x}\r\n" for _ in range(size // 66 + 1))
    return f"Subject: n{number}\r\nFrom: <s@origin.test>\r\n\r\n{lines}".encode()


def recipients(number):
    """One, or two of different domains: slimtad makes an envelope of each."""
    generator = random.Random(-number)
    if generator.random() < 0.02:
        return [f"r{number}@{HELD}"]
    return [f"r{number}@one.test", f"r{number}@two.test"][: 2 if generator.random() < 0.2 else 1]


class Clients:
    """Threads that submit as fast as they are answered, and connect again when they are hung up on."""

    def __init__(self, address, count=6):
        self.address = address
        self.count = count
        self.accepted = set()  # (number, recipient) with a 250 at the end of the data
        self.put_off = {}  # those with another reply there, and when
        self.tried = set()
        self.refusals = collections.Counter()  # other replies
        self.answers = 0
        self._next = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = []

    def start(self):
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(300)
            if thread.is_alive():
                raise Lost("a client is not answered")

    def _work(self):
        while not self._stop.is_set():
            try:
                with socket.create_connection((self.address, SUBMISSION), timeout=30) as connection:
                    self._session(connection, connection.makefile("rb"))
            except (ConnectionError, TimeoutError):
                time.sleep(0.02)

    def _session(self, connection, replies):
        def reply():
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("hung up")
            return line.decode().strip()

        def ask(octets):
            connection.sendall(octets)
            return reply()

        if not reply().startswith("220") or not ask(b"EHLO client.test\r\n").startswith("250"):
            raise ConnectionError("not greeted")
        while not self._stop.is_set():
            with self._lock:
                self._next += 1
                number = self._next
                keys = {(number, recipient) for recipient in recipients(number)}
                self.tried |= keys
            commands = [b"MAIL FROM:<s@origin.test>"] + [f"RCPT TO:<{to}>".encode() for to in recipients(number)]
            answers = [ask(command + b"\r\n") for command in commands]
            if all(answer.startswith("250") for answer in answers):
                answers.append(ask(b"DATA\r\n"))
                if answers[-1].startswith("354"):
                    answers.append(ask(content(number) + b".\r\n"))
            with self._lock:
                self.answers += 1
                if answers[-1].startswith("250 2.6.0"):
                    self.accepted |= keys
                else:
                    refusal = next(answer for answer in answers if answer[:3] not in ("250", "354"))
                    self.refusals[" ".join(refusal.split()[:2])] += 1
                    if len(answers) == len(commands) + 2:
                        self.put_off |= dict.fromkeys(keys, time.time())
            if not answers[-1].startswith("250 2.6.0"):
                if ask(b"RSET\r\n")[:1] != "2":
                    raise ConnectionError("not reset")
                time.sleep(0.01)


def collect(sink, tried, delivered, strange, note=None):
    """Takes what the sink has written down: counts it in `delivered`, and tells in `strange` what nobody has sent so. `note` is
    called with each delivery: recipient, our name as the sink was told it, and when it was written."""
    for path in sorted(sink.folder.iterdir()):
        if path in sink._open_files():
            continue
        try:
            found, time_written = parse_dump(path.read_bytes()), path.stat().st_mtime
        except FileNotFoundError:
            continue  # broken off meanwhile
        path.unlink()
        subject = next(line for line in found.content.split(b"\n") if line.startswith(b"Subject: n"))
        number = int(subject[len(b"Subject: n"):])
        if not found.content.endswith(content(number).replace(b"\r\n", b"\n")):
            strange.append(f"message {number} is not as it was sent")
        for recipient in found.recipients:
            delivered[number, recipient] += 1
            if note:
                note((number, recipient), found.helo, time_written)
            if (number, recipient) not in tried:
                strange.append(f"{number}, {recipient} was never sent")


class Rig:
    """A slimtad that relays to a sink, clients, and what came of it all."""

    # The one that was made last: for who tells how far it is.
    latest = None

    def __init__(self, place, state=None, connections=CONNECTIONS, **queue):
        self.place = place
        self.sink = Sink(place).start()
        address = new_address()
        edges = [{"name": "local", "type": "smtp", "listen": [f"{address}:{SUBMISSION}"], "tls": "none",
                  "auth": "none", "trusted_networks": ["127.0.0.0/8"]}]
        self.daemon = Slimtad(
            place, edges=edges, routes=self.routes(isHeld=True),
            queue={"retry": ["3s"], "policies": ["date", "message_id", "received", "domain_split"], **queue},
            relay={"type": "blackhole", "port": None, "connect_timeout": None, "idle_timeout": None,
                   "allow_networks": None, "connections": connections},
            limits={"connections": 200, "connections_per_address": 200})
        if state is not None:
            self.daemon.change(daemon={"state_directory": str(state)})
        self.daemon.add_user()
        self.clients = Clients(address)
        self.delivered = collections.Counter()
        self.strange = []
        # Ends of the daemon that may have cut recording short.
        self.kills = 0
        Rig.latest = self

    def routes(self, isHeld):
        way = {"type": "smtp", "host": f"{self.sink.address}:{MX_PORT}"}
        nowhere = {"type": "smtp", "host": f"{self.sink.address}:{MX_PORT + 1}"}
        return [{"domains": [HELD], **(nowhere if isHeld else way)}, {"domains": ["*"], **way}]

    def kill(self):
        self.daemon.kill()
        self.kills += 1

    def wait_for_accepted(self, count, timeout=30):
        wanted = len(self.clients.accepted) + count
        self.daemon.wait_until(lambda: len(self.clients.accepted) >= wanted, timeout, "accepted messages")

    def collect(self):
        collect(self.sink, self.clients.tried, self.delivered, self.strange)

    def missing(self):
        """Accepted, for a domain that is not held, and not delivered."""
        self.collect()
        return {key for key in self.clients.accepted - self.delivered.keys() if not key[1].endswith(HELD)}

    def check(self, timeout=60):
        """Waits until all that was accepted has come. To be called with the clients stopped and the daemon running."""
        try:
            self.daemon.wait_until(lambda: not self.missing(), timeout, "deliveries")
        except TimeoutError:
            raise Lost(f"{len(self.missing())} of {len(self.clients.accepted)} accepted are not delivered, such as "
                       f"{sorted(self.missing())[:3]}") from None
        self.judge()

    def judge(self):
        if self.strange:
            raise Lost("; ".join(self.strange[:3]))
        if self.copies > self.kills * CONNECTIONS:
            raise Lost(f"{self.copies} second copies after {self.kills} kills")

    @property
    def copies(self):
        """Deliveries beyond one for each recipient: at most one for each attempt that a kill cut short."""
        return sum(count - 1 for count in self.delivered.values())

    def finish(self):
        """Lets go what was held: in the end every accepted recipient was delivered, and the queue is empty."""
        if self.daemon.process.poll() is None:
            self.daemon.term(40)
        self.daemon.change(route=self.routes(isHeld=False))
        self.daemon.start()

        def held():
            self.collect()
            return self.clients.accepted - self.delivered.keys()

        try:
            self.daemon.wait_until(lambda: not held(), 60, "deliveries")
        except TimeoutError:
            raise Lost(f"{len(held())} of {len(self.clients.accepted)} accepted are neither delivered nor queued, such as "
                       f"{sorted(held())[:3]}") from None

        def queued():
            return run_slimtad("queue", "count", "--config", self.daemon.configuration).stdout.split()[:1] == ["0"]

        wait_until(queued, 30, "an empty queue")
        self.collect()
        self.judge()
        if self.daemon.term(40) != 0:
            raise Lost("it did not end well")

    @property
    def progress(self):
        """How far it is; what is lost is known at the end."""
        return f"{self.kills} kills, {len(self.clients.accepted)} recipients accepted"

    @property
    def figures(self):
        return (f"{len(self.clients.accepted)} recipients accepted, 0 lost, {self.copies} second copies in "
                f"{self.kills} kills")
