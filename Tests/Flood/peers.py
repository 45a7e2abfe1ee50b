"""What lying next hops can cost: LMTP servers, HTTP servers and spamd that answer without end, in octets, or never.

    make flood ONLY=peers      # or: peers.py --slimtad BINARY

Every domain of LIES has a next hop of its own that does one of them, and several messages wait for it. Meanwhile mail to an
honest host must arrive within LONGEST seconds, memory must stay within MEMORY, and all other messages must still be queued. Prints figures; exits 1 if one of the bounds did not hold.
"""

import collections
import json
import multiprocessing
import socket
import sys
import threading
import time

import common
from descriptors import open_files, processor_time
from sessions import resident

MESSAGES, LONGEST, MEMORY = 5, 5.0, 60_000_000


def read(connection, until=b"\r\n\r\n"):
    octets = b""
    while until not in octets and (more := connection.recv(65536)):
        octets += more
    return octets


def forever(connection, octets, pause=0.0):
    while True:
        connection.sendall(octets)
        if pause:
            time.sleep(pause)


def http(begin, more, pause=0.0):
    def lie(connection):
        read(connection)
        connection.sendall(begin)
        forever(connection, more, pause)
    return lie


def lmtp(*replies):
    """Says a line to each command; the last one without end."""
    def lie(connection):
        for reply in replies[:-1]:
            connection.sendall(reply)
            if reply.startswith((b"220", b"250", b"354")):
                read(connection, b"\r\n.\r\n" if reply.startswith(b"354") else b"\r\n")
        forever(connection, replies[-1])
    return lie


def silence(connection):
    while connection.recv(65536):
        pass


def deaf(connection):
    time.sleep(3600)


OK = b"HTTP/1.1 200 OK\r\n"
LIES = {
    "http": {
        "a header without end": http(OK, b"X: " + b"y" * 10_000 + b"\r\n"),
        "a field without end": http(OK + b"X: ", b"y" * 10_000),
        "a body without end": http(OK + b"\r\n", b"y" * 10_000),
        "a body longer than all": http(OK + b"Content-Length: 99999999999\r\n\r\n", b"y" * 10_000),
        "chunks of one octet": http(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
        "1xx without end": http(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
        "a line without end": http(b"HTTP/1.1 200 ", b"O" * 10_000),
        "a redirect": http(b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", b"", 1),
        "an octet a second": http(OK, b"X", 1),
        "silence": silence,
        "who reads nothing": deaf,
    },
    "lmtp": {
        "a greeting without end": lmtp(b"220-x" + b"y" * 400 + b"\r\n"),
        "a line without end": lmtp(b"y" * 10_000),
        "LHLO without end": lmtp(b"220 x\r\n", b"250-SIZE " + b"9" * 400 + b"\r\n"),
        "replies that nobody has asked for": lmtp(b"220 x\r\n", b"250 x\r\n" * 1000),
        "silence": silence,
    },
}


class Liar:
    """A server whose every connection does one thing. Counts them."""

    def __init__(self, lie):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.count = multiprocessing.Value("i", 0)
        self.lie = lie

    @property
    def connections(self):
        return self.count.value

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            self.count.value += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                self.lie(connection)
            except OSError:
                pass


def tell_lies(liars):
    """In a process of their own: what they waste is not the time of who measures."""
    threads = [threading.Thread(target=liar.accept) for liar in liars]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def flood(place, arguments):
    from harness.machine import MX_PORT, wait_until
    from harness.messages import message
    from harness.sink import Sink
    from harness.slimtad import Slimtad, run_slimtad, send

    sink = Sink(place).start()
    names, routes = {}, []
    for kind, lies in LIES.items():
        for lie, body in lies.items():
            domain = f"{kind}{len(names)}.test"
            names[domain] = (f"{kind}: {lie}", liar := Liar(body))
            where = {"url": f"http://127.0.0.1:{liar.port}/"} if kind == "http" else {"host": f"127.0.0.1:{liar.port}"}
            routes.append({"domains": [domain], "type": kind, **where})
    routes.append({"domains": ["*"], "type": "smtp", "host": f"{sink.address}:{MX_PORT}"})
    spamd = Liar(lambda connection: forever(connection, b"SPAMD/1.1 0 EX_OK\r\nX: " + b"y" * 10_000))
    slimtad = Slimtad(place, routes=routes, queue={
        "retry": ["5s"], "policies": ["date", "message_id", "spamassassin", "received", "domain_split"]})
    slimtad.change(spamassassin={"to": f"127.0.0.1:{spamd.port}", "timeout": "5s"})
    for liars in ([liar for _, liar in names.values()], [spamd]):
        multiprocessing.Process(target=tell_lies, args=(liars,), daemon=True).start()
    slimtad.start()
    pid = slimtad.process.pid
    before, spent, files = resident(pid), processor_time(pid), open_files(pid)
    began = time.monotonic()
    waits, most = [], 0
    with slimtad.connect() as client:
        for number in range(MESSAGES):
            for domain in names:
                # One that is larger than what a socket takes unread.
                send(client, message("x", ("x" * 70 + "\r\n") * (1 if number else 5000)), [f"r{number}@{domain}"])
        until = time.monotonic() + arguments.seconds
        while time.monotonic() < until:
            start = time.monotonic()
            send(client, message(), [f"r{len(waits)}@well.test"])
            count = len(waits) + 1
            wait_until(lambda: len(sink.transactions()) >= count, 60, "a message at the honest host")
            waits.append(time.monotonic() - start)
            most = max(most, resident(pid) - before)
            time.sleep(0.3)
    load = (processor_time(pid) - spent) / (time.monotonic() - began)
    listed = json.loads(run_slimtad("queue", "list", "--json", "--config", slimtad.configuration).stdout)
    left = collections.Counter(name.rpartition("@")[2] for item in listed for name in item["recipients"])
    for domain, (name, liar) in names.items():
        reasons = {event.get("reply") for event in slimtad.events() if domain in event.get("recipient", "")}
        print(f"{name}: {liar.connections} connections, {left[domain]} of {MESSAGES} left; {sorted(filter(None, reasons))[:2]}")
    print(f"spamd: {spamd.connections} connections")
    waits.sort()
    print(f"honest mail: {len(waits)}, median {waits[len(waits) // 2]:.2f} s, most {waits[-1]:.2f} s; "
          f"{most / 1e6:.0f} MB more, {open_files(pid) - files} descriptors more, processor {load:.0%}")
    slimtad.kill()
    return waits[-1] <= LONGEST and most <= MEMORY and all(left[domain] == MESSAGES for domain in names)


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood, seconds=30.0))
