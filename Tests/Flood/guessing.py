"""Guessing must not shut honest users out: 560 connections of 6 addresses, each with an AUTH under way all the time, while
users that nobody has seen yet log in from an address of their own.

    .venv/bin/python Tests/Flood/guessing.py --slimtad PATH [--seconds N]

Prints what honest logins waited, what was refused, and how many guesses a second were checked. Exits 0 only if no honest
login was refused, none took longer than HONEST seconds, and each address had no more guesses checked than it may have in
hand at first and one for each pause after that. That is a count: how long the first ones take depends on the machine.
"""

import socket
import statistics
import sys
import time

import common

HONEST = 3.0
ADDRESSES = 6
# Checks of an address that begin before its failures make it wait, those for which the five that cost nothing make room, and
# those that were delayed meanwhile.
FIRST = 32 + 5 + 8
PAUSE = 30  # seconds between the others


def honest_login(address, port, source, name, password):
    """Seconds from AUTH to its reply, and the code."""
    import base64
    with socket.create_connection((address, port), timeout=60, source_address=(source, 0)) as client:
        stream = client.makefile("rb")
        stream.readline()
        client.sendall(b"EHLO honest.test\r\n")
        while stream.readline()[3:4] == b"-":
            pass
        began = time.monotonic()
        client.sendall(b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n")
        code = int(stream.readline()[:3])
        return time.monotonic() - began, code


def flood(place, arguments):
    from harness.guessing import Guessers
    from harness.slimtad import PASSWORD, Slimtad

    daemon = Slimtad(place)
    daemon.change(
        log={"level": "notice"},
        edge=[{"name": "flood", "type": "smtp", "listen": [f"{daemon.address}:2525"], "tls": "none",
               "auth": "required", "plaintext_auth": True}])
    daemon.add_user()
    # Many users with one password: each one's first login is hashed.
    line = daemon.users.read_text().splitlines()[0]
    hashed = line.partition(":")[2]
    names = [f"honest{number}" for number in range(1000)]
    with daemon.users.open("a") as users:
        users.writelines(f"{name}:{hashed}\n" for name in names)
    daemon.start()
    waits, refused = [], 0
    with Guessers(daemon.address, 2525, [f"127.0.0.{number}" for number in range(101, 101 + ADDRESSES)], 560, "victim") as guessers:
        end = time.monotonic() + arguments.seconds
        for name in names:
            if time.monotonic() >= end:
                break
            wait, code = honest_login(daemon.address, 2525, "127.0.0.200", name, PASSWORD)
            waits.append(wait)
            refused += code != 235
            time.sleep(0.2)
        checked = guessers.count(535)
        late = guessers.count(535, since=arguments.seconds * 2 // 3) / (arguments.seconds - arguments.seconds * 2 // 3)
        turned_away = guessers.count(454)
    daemon.finish()
    waits.sort()
    print(f"honest logins: {len(waits)}, refused {refused}, waited {statistics.median(waits) * 1000:.0f} ms in the median, "
          f"{waits[-1] * 1000:.0f} ms at most")
    allowed = ADDRESSES * (FIRST + -(-arguments.seconds // PAUSE))
    print(f"guesses: {checked} checked in {arguments.seconds} s of {allowed} allowed, {late:.2f} a second in the last third; "
          f"{turned_away} turned away with 454")
    return refused == 0 and waits[-1] <= HONEST and checked <= allowed


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood, seconds=30))
