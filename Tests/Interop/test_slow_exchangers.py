"""Slow exchangers leave places to others; an attempt has an end. In counts: how long, Tests/Flood/exchangers.py shows."""

import threading

import pytest

from harness.messages import message
from harness.slimtad import send
from harness.slow_mx import SlowMX

PLACES = 20


@pytest.fixture
def gate():
    """Slow exchangers say nothing before it is set."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_slow_exchangers_hold_half_of_the_places(place, nameserver, sink, make_slimtad, gate):
    """Four domains whose exchangers do not answer; mail for a fifth goes on, all of it."""
    slow = [SlowMX(place, gate.wait).start() for _ in range(4)]
    for number, exchanger in enumerate(slow):
        nameserver.add_mx(f"slow{number}.test", exchanger.address)
    nameserver.add_mx("well.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(
        nameserver, relay={"connections": PLACES, "connections_per_destination": PLACES}).start()
    with slimtad.connect() as client:
        for number in range(10):
            for domain in range(4):
                send(client, message(), [f"r{number}@slow{domain}.test"])
        slimtad.wait_until(lambda: sum(one.open for one in slow) >= 8, what="the slow exchangers' share")
        for number in range(30):
            send(client, message(), [f"r{number}@well.test"])
    sink.wait_for(30)
    assert sum(one.open for one in slow) <= PLACES // 2
    assert sum(one.most for one in slow) <= PLACES // 2
    assert all(one.open > 0 for one in slow)
    # They are slow, not lost.
    gate.set()
    for one in slow:
        one.wait_for(10)
