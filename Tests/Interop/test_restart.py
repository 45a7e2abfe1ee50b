"""slimtad stops and dies with mail in the queue, and amid sessions: nothing that it accepted is lost or sent twice."""

import random
import signal
import threading
import time

import pytest

from harness.machine import wait_until
from harness.messages import message, parsed
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import send

pytestmark = pytest.mark.disk

SENDER = "sender@origin.test"


def subjects(transactions):
    return sorted(parsed(found.content)["subject"] for found in transactions)


def fill(slimtad, count, size=0):
    """Submits `count` messages on one session; their subjects."""
    with slimtad.connect() as client:
        for number in range(count):
            send(client, message(f"number {number}", "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * (size // 72)),
                 ["someone@one.test"])
    return sorted(f"number {number}" for number in range(count))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("size", [0, 400_000], ids=["small", "spooled"])
def test_stopped_with_mail_in_the_queue(nameserver, place, make_slimtad, how, size):
    """All of it is delivered after the next start, each message once."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    wanted = fill(slimtad, 20 if not size else 4, size)
    slimtad.wait_for_attempts(4)
    if how == "SIGTERM":
        assert slimtad.term() == 0
    else:
        slimtad.signal(signal.SIGKILL)
        slimtad.wait()
    sink.start()
    slimtad.start_again()
    assert subjects(sink.wait_for(len(wanted))) == wanted
    time.sleep(1.5)
    assert subjects(sink.transactions()) == wanted


def test_restarted_again_and_again(nameserver, place, make_slimtad):
    """Three starts without an MX, alternately stopped and killed; then everything arrives, once."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    wanted = fill(slimtad, 5)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        slimtad.signal(number)
        slimtad.wait()
        slimtad.start_again()
        slimtad.submit(message(f"round {number}"), "someone@one.test")
        wanted.append(f"round {number}")
    sink.start()
    assert subjects(sink.wait_for(len(wanted))) == sorted(wanted)


def test_killed_amid_acceptance_and_delivery(nameserver, place, make_slimtad):
    """Six times SIGKILL while sessions submit and the MX takes: what got its 250 arrives. A second copy only where
    the MX's 250 and the kill crossed: at most one for each connection that was open then."""
    mx = PythonMX(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"connections_per_destination": 4}).start()
    accepted, stop, lock = [], threading.Event(), threading.Lock()

    def submit(worker):
        number = 0
        while not stop.is_set():
            try:
                with slimtad.connect() as client:
                    while not stop.is_set():
                        subject = f"{worker}-{number}"
                        number += 1
                        send(client, message(subject), ["someone@one.test"])
                        with lock:
                            accepted.append(subject)
            except Exception:
                time.sleep(0.05)  # it was killed: the message in progress got no 250

    threads = [threading.Thread(target=submit, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    try:
        generator = random.Random(2)
        for _ in range(6):
            before = len(accepted)
            wait_until(lambda: len(accepted) > before + 20, what="accepted messages")
            time.sleep(generator.random() * 0.3)
            slimtad.signal(signal.SIGKILL)
            slimtad.wait()
            slimtad.start_again()
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    def missing():
        arrived = {parsed(found.content)["subject"] for found in list(mx.messages)}
        return set(accepted) - arrived

    slimtad.wait_until(lambda: not missing(), timeout=60, what="everything that was accepted")
    copies = [parsed(found.content)["subject"] for found in mx.messages]
    assert len(copies) - len(set(copies)) <= 6 * 4, "more second copies than attempts were in flight"


def test_sigterm_lets_a_session_finish(one_mx, sink):
    """Draining: a client amid its message gets its 250; new connections are not taken; exit status 0; nothing lost."""
    slimtad = one_mx
    client = slimtad.connect()
    assert client.mail(SENDER)[0] == 250
    assert client.rcpt("someone@one.test")[0] == 250
    client.putcmd("DATA")
    assert client.getreply()[0] == 354
    client.send(b"Subject: amid\r\n\r\n")
    slimtad.signal(signal.SIGTERM)
    slimtad.wait_until(lambda: not slimtad.is_ready(), what="closed listeners")
    client.send(b"text\r\n.\r\n")
    code, _ = client.getreply()
    assert code == 250
    assert slimtad.wait() == 0
    if not sink.transactions():
        slimtad.start_again()
    sink.wait_for(1)
    time.sleep(1)
    assert subjects(sink.transactions()) == ["amid"]


def test_sigterm_does_not_wait_for_idle_sessions(one_mx):
    """drain_timeout is 5 s; sessions between two commands are told to go, with 421."""
    with one_mx.connect() as client:
        begun = time.monotonic()
        one_mx.signal(signal.SIGTERM)
        client.sock.settimeout(10)
        assert client.getreply()[0] == 421
        assert one_mx.wait() == 0
        assert time.monotonic() - begun < 4
        client.close()


def test_sigterm_ends_within_the_drain_timeout(one_mx):
    """A client that never finishes its message cannot keep the daemon."""
    client = one_mx.connect()
    client.mail(SENDER)
    client.rcpt("someone@one.test")
    client.putcmd("DATA")
    client.getreply()
    begun = time.monotonic()
    assert one_mx.term(timeout=15) == 0
    assert 3 < time.monotonic() - begun < 12
    client.close()


def test_queue_survives_a_change_of_route(nameserver, place, make_slimtad):
    """What is queued goes where the configuration of the moment says."""
    sink = Sink(place).start()
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"deliver": False}).start()
    slimtad.submit(message("waiting"), "someone@one.test")
    assert slimtad.attempts() == []
    assert slimtad.term() == 0
    slimtad.change(
        queue={"deliver": True}, route=[{"domains": ["*"], "type": "smtp", "host": f"{sink.address}:2525"}])
    slimtad.start_again()
    assert subjects(sink.wait_for(1)) == ["waiting"]
