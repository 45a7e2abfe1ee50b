"""What strangers can cost at an HTTP edge: memory of a connection, requests of any octets, and how long others wait.

    make flood ONLY=http_edge      # or: http_edge.py --slimtad BINARY [--seconds N] [--seed N]

Opens 100 connections for each of STATES, which read nothing, and prints how much memory the daemon had more for each.
Then MUTATED connections send requests that were changed at random, whole, in single octets or in pieces, and end in one of
ENDS: each must be ended by the daemon, memory and descriptors must be what they were, and somebody who posts
messages meanwhile waits. Then 150 connections pipeline what leads to nothing. Exits 1 if one of the bounds did not hold.
"""

import itertools
import multiprocessing
import random
import socket
import statistics
import struct
import sys
import threading
import time

import common
from sessions import flood, memory_of_each, percentile, resident
from descriptors import open_files

# Of a message up to 256 KiB are in memory.
MEMORY, LATENCY, GROWTH = 350_000, 0.25, 20_000_000
CONNECTIONS, MUTATED, FLOODERS = 100, 3000, 150
# Of the daemon's limits here; and how long a connection may take that is at none of them, with two cores that are busy.
COMMAND, STALL, PATIENCE = 5, 5, 30
PORT = 8025

ENVELOPE = "X-Envelope-Sender: YUBvbmUudGVzdA==\r\nX-Envelope-Recipient: YkBvbmUudGVzdA==\r\n"
MESSAGE = "Subject: x\r\n\r\nhello\r\n"
JSON = '{"from": "a@one.test", "to": ["b@one.test"], "subject": "x", "text": "hello", "html": "<p>hello"}'
CHUNKED = "Transfer-Encoding: chunked\r\n"


def post(body=MESSAGE, more="", framing=None, target="/", envelope=ENVELOPE, kind="message/rfc822"):
    framing = f"Content-Length: {len(body)}\r\n" if framing is None else framing
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{envelope}{more}{framing}\r\n{body}"


CHUNKS = "c\r\nSubject: x\r\n\r\n9;a=b\r\n\r\nhello\r\n\r\n0\r\nT: t\r\n\r\n"
GET = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
SEEDS = [text.encode() for text in (
    post(), post(CHUNKS, framing=CHUNKED), post(more="Expect: 100-continue\r\n"), post() + GET + post(),
    post(JSON, target="/v1/messages", envelope="", kind="application/json"), post(more="Idempotency-Key: KEY\r\n") * 2,
    post(envelope="") + post(), "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", post("x\n" * 40_000),
    post(more="Connection: close\r\n"), "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")]
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b": ", b";", b" ", b"0\r\n\r\n", b"ffffffff\r\n", b"Content-Length: 5\r\n",
          CHUNKED.encode(), b"Host: y\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"\xff\xfe", b"x" * 5000]

# What is sent while nothing is read.
STATES = {
    "nothing": b"",
    "half a head": post()[:-40].encode(),
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    "requests that are refused, pipelined": GET.encode() * 20_000,
    "descriptions, pipelined": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000,
    "messages, pipelined": post().encode() * 2000,
    "half a message of 1 MB": post("x" * 70 + "\r\n", framing="Content-Length: 1000000\r\n").encode() + b"y" * 200_000,
    "chunks of one octet": post("", framing=CHUNKED).encode() + b"1\r\nx\r\n" * 30_000,
    "JSON of 1 MB": post(" " * 200_000, framing="Content-Length: 1000000\r\n", target="/v1/messages", kind="application/json",
                         envelope="").encode(),
}


def connect(address, source=None):
    return socket.create_connection((address, PORT), timeout=PATIENCE, source_address=(source, 0) if source else None)


def memory_of_a_connection(daemon, octets):
    with connect(daemon.address) as first:
        first.sendall(post().encode() + GET.encode())
        first.recv(1000)
    return memory_of_each(daemon, CONNECTIONS, connect, octets)


def mutated(choice):
    octets = bytearray(choice.choice(SEEDS).replace(b"KEY", str(choice.randrange(9)).encode()))
    for _ in range(choice.choice((0, 1, 1, 2, 4))):
        place = choice.randrange(len(octets) + 1)
        kind = choice.randrange(5)
        if kind == 0:
            octets[place:place] = choice.choice(PIECES)
        elif kind == 1:
            del octets[place:place + choice.randrange(1, 20)]
        elif kind == 2:
            octets[place:place + 1] = bytes([choice.randrange(256)])
        elif kind == 3:
            del octets[place:]
        else:
            octets[place:] = choice.choice(SEEDS)[choice.randrange(40):]
    return bytes(octets)


def send(found, octets, way):
    """In single octets for a while, in pieces, or whole."""
    if way == 0:
        for place in range(min(60, len(octets))):
            found.sendall(octets[place:place + 1])
        octets = octets[60:]
    elif way == 1:
        for place in range(0, len(octets), 1000):
            found.sendall(octets[place:place + 1000])
            time.sleep(0.001)
        return
    found.sendall(octets)


ENDS = ("closes its side", "waits", "is reset", "closes")


def one(address, octets, way, end):
    """One connection; None if all is well, else what is not."""
    with connect(address) as found:
        try:
            send(found, octets, way)
            if end == "is reset":
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end == "closes its side":
                found.shutdown(socket.SHUT_WR)
            if end in ("closes its side", "waits"):
                while found.recv(65536):
                    pass
        except TimeoutError:
            return f"not ended: {octets[:2000]!r}, way {way}, {end}"
        except OSError:
            pass
    return None


def storm(address, seed, faults):
    choices = [random.Random(f"{seed} {number}") for number in range(MUTATED)]
    numbers = itertools.count()

    def work():
        for number in numbers:
            if number >= MUTATED:
                return
            choice = choices[number]
            # A client that waits takes as long as the limit.
            end = choice.choices(ENDS, (60, 6, 20, 14))[0]
            try:
                fault = one(address, mutated(choice), choice.randrange(4), end)
            except OSError as error:
                fault = f"no connection: {error}"
            if fault:
                faults.append(f"{number}: {fault}")

    workers = [threading.Thread(target=work) for _ in range(32)]
    for worker in workers:
        worker.start()
    return workers


def honest(daemon, goes_on):
    """The seconds that each message of somebody took who connects for each, as long as `goes_on`; and how many failed."""
    times, failed = [], 0
    while goes_on():
        began = time.monotonic()
        try:
            with connect(daemon.address, "127.0.8.1") as found:
                found.sendall(post(more="Connection: close\r\n").encode())
                answer = found.recv(1000)
        except OSError as error:
            answer = str(error).encode()
        if not answer.startswith(b"HTTP/1.1 200 "):
            print(f"    {answer}")
            failed += 1
        times.append(time.monotonic() - began)
        time.sleep(0.02)
    return times, failed


def tell(name, times, failed):
    print(f"{name}: {len(times)} messages, median {statistics.median(times) * 1000:.0f} ms, "
          f"p99 {percentile(times, 0.99) * 1000:.0f} ms, most {max(times) * 1000:.0f} ms, {failed} failed", flush=True)


def run(make, seconds, seed):
    good = True
    for name, octets in STATES.items():
        daemon = make()
        each = memory_of_a_connection(daemon, octets)
        daemon.finish()
        good &= each <= MEMORY
        print(f"memory of a connection, {name}: {each / 1000:.1f} KB", flush=True)

    daemon = make()
    pid = daemon.process.pid
    until = time.monotonic() + min(seconds, 5)
    tell("alone", *honest(daemon, lambda: time.monotonic() < until))
    faults = []
    # What is taken once is not given back: the second storm is compared with the first.
    for number in range(2):
        files, memory, began = open_files(pid), resident(pid), time.monotonic()
        workers = storm(daemon.address, f"{seed} {number}", faults)
        times, failed = honest(daemon, lambda: any(worker.is_alive() for worker in workers))
        tell(f"in a storm of {MUTATED} connections with requests of any octets", times, failed)
        time.sleep(COMMAND + 1)
        growth = resident(pid) - memory
        print(f"    {time.monotonic() - began:.1f} s, {open_files(pid) - files} descriptors and {growth / 1000:.0f} KB more, "
              f"{len(faults)} faults", flush=True)
        good &= not failed and open_files(pid) <= files and (number == 0 or growth <= GROWTH)
    for fault in faults[:5]:
        print(f"    {fault}")

    until = time.monotonic() + seconds
    requests = [GET.encode() * 2000, post(envelope="").encode() * 500]
    other = multiprocessing.Process(target=flood, args=(daemon.address, PORT, FLOODERS, until, requests))
    other.start()
    times, failed = honest(daemon, lambda: time.monotonic() < until)
    other.join()
    tell(f"in the flood of {FLOODERS} connections", times, failed)
    print(f"log: {daemon.log_path.stat().st_size / 1000:.0f} KB in all")
    daemon.finish()
    return good and not faults and not failed and percentile(times, 0.99) <= LATENCY


def run_on(place, arguments):
    from harness.http import edge
    from harness.slimtad import Slimtad

    numbers = itertools.count(1)

    def make():
        daemon = Slimtad(
            place, name=f"slimtad{next(numbers)}", queue={"deliver": False},
            limits={"connections_per_address": 200, "command_timeout": f"{COMMAND}s", "stall_timeout": f"{STALL}s"})
        daemon.settings["edge"].append(edge(daemon, json=True))
        daemon.change()
        return daemon.start()

    return run(make, arguments.seconds, arguments.seed)


if __name__ == "__main__":
    sys.exit(common.main(__doc__, run_on, seconds=15.0, seed="1"))
