"""What clients without a login can cost: memory of a session, and how long honest users wait meanwhile.

    make flood ONLY=sessions      # or: sessions.py --slimtad BINARY [--seconds N]

Opens 100 sessions for each of STATES, and prints how much memory the daemon had more for each at its most. Then 150
connections, each made again as soon as it is closed, pipeline RSET and EHLO for some seconds while an honest client
connects, begins TLS, logs in and quits, again and again: prints its times. Exits 1 if a session took more than MEMORY
octets, or the honest client's p99 was over LATENCY.
"""

import itertools
import multiprocessing
import random
import select
import socket
import statistics
import sys
import time

import common

MEMORY, LATENCY = 30_000, 0.1
SESSIONS, CONNECTIONS = 100, 150
PORT = 2587

LONG = b"EHLO " + b"a" * 1990 + b"\r\n"

# What is sent and how, while nothing is read. TLS costs what OpenSSL needs, so it has lines of its own without a bound.
STATES = {
    "nothing": b"",
    "EHLO, pipelined": b"EHLO a\r\n" * 10_000,
    "EHLO with long names, pipelined": LONG * 500,
    "HELP, pipelined": b"HELP\r\n" * 10_000,
    "half a line": b"N" * 1000,
    "half a line behind 64 KiB": b"NOOP\r\n" * 90 + b"x" * 65_000,
    "half a line of AUTH": b"EHLO a\r\n" + b"AUTH PLAIN " + b"A" * 12_000,
    "commands at the limit, then nothing": b"NOOP\r\n" * 100,
}


def resident(pid):
    """The memory that a process has now, in octets."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


def connect(address, source=None):
    """A connection that was greeted, not blocking from then on."""
    found = socket.create_connection((address, PORT), timeout=15, source_address=(source, 0) if source else None)
    assert found.recv(512).startswith(b"220 "), "no greeting"
    found.setblocking(False)
    return found


def pour(found, octets, offset):
    """Sends what goes; how much of `octets` was sent in all, or None if the connection has ended."""
    try:
        while offset < len(octets):
            offset += found.send(octets[offset:offset + 65536])
    except BlockingIOError:
        pass
    except OSError:
        return None
    return offset


def memory_of_each(daemon, count, connect, octets, seconds=1.5):
    """Octets of memory for each of `count` connections that send `octets` and read nothing, at the most."""
    before, most = resident(daemon.process.pid), 0
    found = [connect(daemon.address) for _ in range(count)]
    for each in found:
        each.setblocking(False)
    sent = [0] * count
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for index, each in enumerate(found):
            if sent[index] is not None:
                sent[index] = pour(each, octets, sent[index])
        most = max(most, resident(daemon.process.pid) - before)
        time.sleep(0.02)
    for each in found:
        each.close()
    return most / count


def memory_of_a_session(daemon, octets):
    for _ in range(3):
        connect(daemon.address).close()
    return memory_of_each(daemon, SESSIONS, connect, octets)


def flood(address, port, connections, until, commands):
    """Keeps `connections` busy, each with one of `commands`, which lead to nothing; reads what comes, and begins anew when
    closed. Returns how many were begun."""
    poll, found, begun = select.epoll(), {}, 0

    def begin():
        nonlocal begun
        new = socket.socket()
        new.bind(("127.0.9.1", 0))
        new.setblocking(False)
        new.connect_ex((address, port))
        found[new.fileno()] = (new, random.choice(commands))
        poll.register(new, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        begun += 1

    for _ in range(connections):
        begin()
    while time.monotonic() < until:
        for number, event in poll.poll(0.2):
            each, octets = found[number]
            try:
                if event & select.EPOLLOUT:
                    pour(each, octets, 0)
                while event & select.EPOLLIN:
                    if not each.recv(65536):
                        raise ConnectionResetError
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(each)
                del found[number]
                each.close()
                begin()
    return begun


def flooder(queue, *arguments):
    queue.put(flood(*arguments))


def honest(daemon, until):
    """The seconds that each session of an honest client took, from connecting to the reply to AUTH."""
    times = []
    while time.monotonic() < until:
        began = time.monotonic()
        client = daemon.connect()
        times.append(time.monotonic() - began)
        client.quit()
        time.sleep(0.02)
    return times


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def tell(name, times):
    print(f"{name}: {len(times)} logins, median {statistics.median(times) * 1000:.0f} ms, "
          f"p99 {percentile(times, 0.99) * 1000:.0f} ms, most {max(times) * 1000:.0f} ms", flush=True)


def run(make, seconds):
    """`make` starts a daemon: one for each figure, since memory that was used once hides what is used later."""
    good = True
    for name, octets in STATES.items():
        daemon = make()
        octets_each = memory_of_a_session(daemon, octets)
        daemon.finish()
        good &= octets_each <= MEMORY
        print(f"memory of a session, {name}: {octets_each / 1000:.1f} KB", flush=True)

    daemon = make()
    tell("alone", honest(daemon, time.monotonic() + min(seconds, 5)))
    until = time.monotonic() + seconds
    counts = multiprocessing.Queue()
    commands = [b"RSET\r\n" * 2000, b"EHLO a\r\n" * 2000]
    other = multiprocessing.Process(
        target=flooder, args=(counts, daemon.address, PORT, CONNECTIONS, until, commands))
    other.start()
    times = honest(daemon, until)
    begun = counts.get(timeout=20)
    other.join()
    tell(f"in the flood of {CONNECTIONS} connections", times)
    print(f"the flood was cut off {begun - CONNECTIONS} times; log: {daemon.log_path.stat().st_size / seconds / 1000:.1f} KB/s")
    daemon.finish()
    return good and percentile(times, 0.99) <= LATENCY


def run_on(place, arguments):
    from harness.slimtad import Slimtad

    numbers = itertools.count(1)
    return run(
        lambda: Slimtad(
            place, name=f"slimtad{next(numbers)}", queue={"deliver": False},
            limits={"connections_per_address": 200}).start(),
        arguments.seconds)


if __name__ == "__main__":
    sys.exit(common.main(__doc__, run_on, seconds=15.0))
