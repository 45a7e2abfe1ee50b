"""Open files: a lack of them turns clients away and does nothing else, and what a configuration had ends with it."""

import os
import smtplib
import socket

from harness.machine import SUBMISSION, new_address
from harness.messages import message
from harness.sink import Sink
from harness.slimtad import LOGIN, PASSWORD, run_slimtad, send
from harness.wire import submission


def threads_and_files(slimtad):
    pid = slimtad.process.pid
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def greeting(slimtad, source=None):
    """A connection, and the code that it was greeted with."""
    client = socket.create_connection(
        (slimtad.address, SUBMISSION), timeout=10, source_address=(source, 0) if source else None)
    return client, client.recv(512)[:3]


def submit_from(source, slimtad, *messages):
    with smtplib.SMTP(slimtad.address, SUBMISSION, "client.test", timeout=20, source_address=(source, 0)) as client:
        client.starttls(context=slimtad.certificate.trusting_context())
        client.login(LOGIN, PASSWORD)
        for one in messages:
            send(client, one, ["someone@one.test"])


def test_idle_clients_do_not_take_the_files_of_others(make_slimtad, nameserver, sink):
    """300 of them, and 256 files: the first lookup after that ended the process."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, limits={"connections_per_address": 10000})
    slimtad.limits = ["--nofile=256:256"]
    slimtad.start()
    slimtad.wait_for_log("fewer connections than configured, few files may be open")
    clients = [greeting(slimtad) for _ in range(300)]
    greeted = [client for client, code in clients if code == b"220"]
    assert 0 < len(greeted) < 128 and {code for _, code in clients} == {b"220", b"421"}
    # From elsewhere, one of them with a file of its own; then the first lookup.
    submit_from(new_address(), slimtad, message("short"), message("long", body=("x" * 70 + "\r\n") * 6000))
    sink.wait_for(2)
    assert run_slimtad("status", "--config", slimtad.configuration).returncode == 0
    assert run_slimtad("reload", "--config", slimtad.configuration).returncode == 0
    submit_from(new_address(), slimtad, message("after the reload"))
    sink.wait_for(3)
    for client, _ in clients:
        client.close()


def test_commands_are_answered_with_64_files(make_slimtad):
    slimtad = make_slimtad()
    slimtad.limits = ["--nofile=64:64"]
    slimtad.start()
    clients = [socket.create_connection((slimtad.address, SUBMISSION), timeout=10) for _ in range(200)]
    for _ in range(3):
        assert run_slimtad("status", "--config", slimtad.configuration).returncode == 0
    for client in clients:
        client.close()


def test_too_few_files_to_start(make_slimtad):
    slimtad = make_slimtad()
    slimtad.limits = ["--nofile=32:32"]
    slimtad.add_user().start(wait=False)
    assert slimtad.wait() != 0
    assert "only 32 files may be open" in slimtad.log or "Too many open files" in slimtad.log


def test_reloads_leave_nothing_behind(make_slimtad, nameserver, place):
    """Thirty, each with a session and a delivery under way: threads and files are as many as before."""
    slow = Sink(place).start("-w", "2")  # thinks for two seconds before it says 354
    nameserver.add_mx("one.test", slow.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"connections_per_destination": 100}).start()

    def deliver():
        wire = submission(slimtad)
        assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
        assert wire.ask("RCPT TO:<someone@one.test>").startswith("250 ")
        assert wire.ask("DATA").startswith("354 ")
        assert wire.ask("Subject: x\r\n\r\n.").startswith("250 ")
        return wire

    def reload():
        assert run_slimtad("reload", "--config", slimtad.configuration).returncode == 0

    # Once for what is made when it is needed for the first time, and stays.
    first = deliver()
    reload()
    slow.wait_for(1)
    first.socket.close()
    slimtad.wait_until(lambda: session_count(slimtad) == 0, what="the end of the first session")
    before = settled(slimtad)
    sessions = []
    for _ in range(30):
        sessions.append(deliver())
        reload()
    slow.wait_for(31, timeout=60)
    for session in sessions:
        assert session.ask("NOOP").startswith("250 "), "a reload has cut a session"
        session.socket.close()
    slimtad.wait_until(
        lambda: all(now <= then + 2 for now, then in zip(threads_and_files(slimtad), before)), timeout=30,
        what=f"{before} threads and files (now {threads_and_files(slimtad)})")


def session_count(slimtad):
    import json
    status = json.loads(run_slimtad("status", "--json", "--config", slimtad.configuration).stdout)
    return sum(edge["sessions"] for edge in status["edges"])


def settled(slimtad):
    """Threads and files, once two looks in a row agree: connections to other hosts are closed after a second."""
    last = []

    def same():
        last.append(threads_and_files(slimtad))
        return len(last) > 60 and len(set(last[-50:])) == 1 and last[-1]

    return slimtad.wait_until(same, timeout=30, what="the same number of threads and files for a while")


def test_sessions_end_all_at_once(make_slimtad):
    """At the end of drain_timeout, however many peers do not read: not five seconds for each."""
    slimtad = make_slimtad(daemon={"drain_timeout": "1s"}).start()
    sessions = [submission(slimtad) for _ in range(8)]
    for session in sessions:
        assert session.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
    assert slimtad.term(timeout=20) == 0
    for session in sessions:
        session.socket.close()
