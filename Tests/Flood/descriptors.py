#!/usr/bin/env python3
"""Open files run short: the real daemon may have 256, and 300 clients connect and say nothing.

    .venv/bin/python Tests/Flood/descriptors.py --slimtad PATH

Before, the first lookup of a name after that ended the process: the thread that looks up found no file. What must hold
while the 300 are there: a client from elsewhere submits mail with a large message, a name is looked up for the first
time, the mail arrives; commands are answered; a reload works; a listener that can accept nothing costs no processor
time. Prints figures, and exits 0 only if all of it holds.
"""

import os
import pathlib
import socket
import sys
import time

import common

FILES = 256
IDLE = 300


def processor_time(pid):
    """Seconds, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def flood(place, _):
    from harness.machine import SUBMISSION, new_address
    from harness.messages import message
    from harness.nameserver import NameServer
    from harness.sink import Sink
    from harness.slimtad import Slimtad, run_slimtad, send

    sink = Sink(place).start()
    nameserver = NameServer(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = Slimtad(place, nameserver, limits={"connections_per_address": 10000})
    slimtad.limits = [f"--nofile={FILES}:{FILES}"]
    slimtad.start()
    pid = slimtad.process.pid
    print(f"open files: {open_files(pid)} of {FILES} after the start")

    clients = []
    for _ in range(IDLE):
        clients.append(socket.create_connection((slimtad.address, SUBMISSION), timeout=10))
    greeted = sum(client.recv(512).startswith(b"220 ") for client in clients)
    print(f"clients: {IDLE} from one address, {greeted} with a session, {IDLE - greeted} turned away with a reply")
    print(f"open files: {open_files(pid)}")

    before, start = processor_time(pid), time.monotonic()
    time.sleep(2)
    load = (processor_time(pid) - before) / (time.monotonic() - start)
    print(f"processor while they are there: {load:.1%}")

    # Somebody from elsewhere.
    begun = time.monotonic()
    import smtplib
    with smtplib.SMTP(
            slimtad.address, SUBMISSION, "client.test", timeout=20, source_address=(new_address(), 0)) as client:
        client.starttls(context=slimtad.certificate.trusting_context())
        from harness.slimtad import LOGIN, PASSWORD
        client.login(LOGIN, PASSWORD)
        for number in range(20):
            send(client, message(f"number {number}", body=("x" * 70 + "\r\n") * 6000 if number == 0 else "short\r\n"), ["a@one.test"])
    submitted = time.monotonic() - begun
    arrived = len(sink.wait_for(20, timeout=30))
    print(f"mail: 20 messages submitted in {submitted:.2f} s, {arrived} arrived")

    status = run_slimtad("status", "--config", slimtad.configuration).returncode
    reload = run_slimtad("reload", "--config", slimtad.configuration)
    print(f"commands: status {status}, reload {reload.returncode} {reload.stderr.strip()}")
    lives = slimtad.process.poll() is None
    for client in clients:
        client.close()
    slimtad.finish()
    results = [
        ("the process lives", lives), ("clients were turned away with a reply", 0 < greeted < IDLE),
        ("files are left", open_files_left(greeted)), ("all mail arrived", arrived == 20),
        ("status answers", status == 0), ("reload works", reload.returncode == 0),
        ("no processor time is spent on waiting", load < 0.2),
    ]
    for what, holds in results:
        if not holds:
            print(f"NOT: {what}")
    return all(holds for _, holds in results)


def open_files_left(greeted):
    """A session may need a second file: for a large message."""
    return greeted * 2 < FILES


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood))
