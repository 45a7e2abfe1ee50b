"""What users of the machine can cost who may drop files into the pickup folder, or use the sendmail socket.

    make flood ONLY=local      # or: local.py --slimtad BINARY [--files N]

A folder with FILES of one user, empty ones, old ones or ones with the longest names; files that are made and removed without
end; FIFOs, links, a sparse file: each time another user drops a file, and it must arrive within LONGEST seconds. Then CONNECTIONS
of one user to the sendmail socket, which say nothing: others must be served, there and over TCP. Prints figures; exits 1 if one
of the bounds did not hold. As root, who can be several users.
"""

import itertools
import multiprocessing
import os
import socket
import sys
import time

import common
from descriptors import processor_time
from sessions import resident

FILES, CONNECTIONS, LONGEST, MEMORY = 100_000, 500, 20.0, 150_000_000
ATTACKER, WRITER = 64_001, 64_002
MESSAGE = b"From: a@one.test\nTo: b@one.test\nSubject: x\n\nhello\n"


def fill(folder, count, content, long_names=False, modified=1_000_000_000):
    for number in range(count):
        name = f"{number:06}" + ("n" * 249 if long_names else "")
        path = f"{folder}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        os.chown(path, ATTACKER, ATTACKER)
        os.utime(path, (modified, modified))


def churn(folder, until):
    """Makes and removes files as fast as it goes."""
    os.setgroups([])
    os.setgid(ATTACKER)
    os.setuid(ATTACKER)
    for number in itertools.count():
        if time.monotonic() > until:
            return
        path = f"{folder}/{number % 5000}"
        with open(path, "wb"):
            pass
        os.unlink(path)


def odd(folder):
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "dangling").symlink_to("/nowhere")
    (folder / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    server.close()
    for name, top in (("sparse", b""), ("sparse message", MESSAGE)):
        with open(folder / name, "wb") as file:
            file.write(top)
            file.truncate(1 << 40)


class Writer:
    """Drops one file after the other, and waits until its message is there."""

    def __init__(self, pickup):
        self.pickup = pickup
        self.count = 0

    def wait(self, timeout=60):
        """The seconds that it took; None: it did not arrive."""
        self.count += 1
        subject = f"writer {self.count}"
        self.pickup.drop(f"{subject}.eml", MESSAGE.replace(b": x", b": " + subject.encode()), owner=WRITER)
        began = time.monotonic()
        new = self.pickup.box / "new"
        seen = set()
        while time.monotonic() - began < timeout:
            for path in list(new.iterdir()) if new.exists() else ():
                if path.name not in seen:
                    seen.add(path.name)
                    if subject.encode() in path.read_bytes():
                        return time.monotonic() - began
            time.sleep(0.02)
        return None


def pickup_case(make, name, prepare, meanwhile=None):
    from harness.pickup import Pickup
    place, pickup = make(lambda place, slimtad: Pickup(place, slimtad, {"owner_login": False}))
    try:
        prepare(pickup.folder)
        pickup.start()
        pid = pickup.slimtad.process.pid
        before = resident(pid)
        other = None
        if meanwhile:
            other = multiprocessing.Process(target=meanwhile, args=(pickup.folder, time.monotonic() + 15))
            other.start()
        time.sleep(1)
        took, began, spent = [], time.monotonic(), processor_time(pid)
        for _ in range(3):
            took.append(Writer(pickup).wait())
        load = (processor_time(pid) - spent) / (time.monotonic() - began)
        grown = resident(pid) - before
        if other:
            other.terminate()
            other.join()
        times = ", ".join("NEVER" if one is None else f"{one:.2f} s" for one in took)
        print(f"{name}: another user's files took {times}; {grown / 1e6:.0f} MB more, processor {load:.0%}", flush=True)
        pickup.slimtad.kill()
        return all(one is not None and one <= LONGEST for one in took) and grown <= MEMORY
    finally:
        place.stop_all()
        place.remove()


def sendmail_case(make):
    from harness.http import HTTP, envelope, request
    place, daemon = make(lambda place, slimtad: slimtad(queue={"deliver": False}, limits={"connections": 400}))
    path = daemon.runtime / "sendmail"
    daemon.settings["edge"].append({"name": "sendmail", "type": "sendmail", "listen": [f"unix:{path}"]})
    daemon.change()
    try:
        daemon.start()
        before = resident(daemon.process.pid)

        def hold(ready, end):
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            found = []
            for _ in range(CONNECTIONS):
                one = socket.socket(socket.AF_UNIX)
                one.settimeout(5)
                try:
                    one.connect(str(path))
                    one.sendall(b"POST /sendmail HTTP/1.1\r\n")
                except OSError:
                    pass
                found.append(one)
            ready.set()
            end.wait()

        ready, end = multiprocessing.Event(), multiprocessing.Event()
        other = multiprocessing.Process(target=hold, args=(ready, end))
        other.start()
        ready.wait(60)
        time.sleep(3)
        began = time.monotonic()
        with HTTP(path, None) as client:
            answer = client.ask(request(MESSAGE, envelope(sender="root@mail.slimtad.test"), target="/sendmail"))
        status = answer.status if answer else None
        served = time.monotonic() - began
        began = time.monotonic()
        try:
            daemon.connect().quit()
            logged_in = time.monotonic() - began
        except OSError as error:
            logged_in = None
            print(f"    {error}")
        print(
            f"{CONNECTIONS} connections of a user to the sendmail socket: another user's message {status} in {served:.2f} s, a login "
            f"over TCP {'REFUSED' if logged_in is None else f'in {logged_in:.2f} s'}, "
            f"{(resident(daemon.process.pid) - before) / 1e6:.0f} MB more", flush=True)
        end.set()
        other.join()
        daemon.finish()
        return status == 200 and logged_in is not None
    finally:
        place.stop_all()
        place.remove()


def flood(_, arguments):
    from harness.machine import Place
    from harness.slimtad import Slimtad

    if os.geteuid() != 0:
        sys.exit("local: several users take root")

    def make(body):
        place = Place()
        return place, body(place, lambda **settings: Slimtad(place, **settings))

    count = arguments.files
    cases = {
        "empty": lambda: pickup_case(make, f"{count} empty files", lambda folder: fill(folder, count, b"")),
        "old": lambda: pickup_case(make, f"{count} old messages", lambda folder: fill(folder, count, MESSAGE)),
        "long": lambda: pickup_case(
            make, f"{count} empty files with the longest names", lambda folder: fill(folder, count, b"", True)),
        "churn": lambda: pickup_case(make, "files made and removed without end", lambda folder: None, churn),
        "odd": lambda: pickup_case(make, "FIFOs, links, sparse files", odd),
        "sendmail": lambda: sendmail_case(make),
    }
    return all([case() for name, case in cases.items() if not arguments.only or name in arguments.only.split(",")])


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood, files=FILES, only=""))
