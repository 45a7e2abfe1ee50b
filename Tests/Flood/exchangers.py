"""Slow exchangers: four domains that answer each command after five seconds, and mail for one that is well.

    .venv/bin/python Tests/Flood/exchangers.py --slimtad PATH [--seconds 90]

Prints how many of the 20 places the slow ones held, and how long mail for the other took; exits 0 only if they never
held more than three quarters (half, and a quarter more of first attempts), and that mail did not wait for them.
"""

import sys
import threading
import time

import common

PLACES, DOMAINS, EACH, DELAY = 20, 4, 60, 5.0
# What a message for a host that is well may take, in seconds: far less than one slow command.
LONGEST = 2.0


def flood(place, arguments):
    from harness.machine import wait_until
    from harness.messages import message
    from harness.nameserver import NameServer
    from harness.sink import Sink
    from harness.slimtad import Slimtad, send
    from harness.slow_mx import SlowMX

    names = NameServer(place)
    exchangers = [SlowMX(place, lambda: time.sleep(DELAY)).start() for _ in range(DOMAINS)]
    for number, exchanger in enumerate(exchangers):
        names.add_mx(f"slow{number}.test", exchanger.address)
    well = Sink(place).start()
    names.add_mx("well.test", well.address)
    names.start()
    slimtad = Slimtad(
        place, names, relay={"connections": PLACES, "connections_per_destination": PLACES}).start()
    held = []
    ended = threading.Event()

    def watch():
        while not ended.wait(0.05):
            held.append(sum(exchanger.open for exchanger in exchangers))

    watcher = threading.Thread(target=watch)
    watcher.start()
    waits = []
    with slimtad.connect() as client:
        for number in range(EACH):
            for domain in range(DOMAINS):
                send(client, message(), [f"r{number}@slow{domain}.test"])
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            began = time.monotonic()
            send(client, message(), [f"r{len(waits)}@well.test"])
            count = len(waits) + 1
            wait_until(lambda: len(well.transactions()) >= count, 60, "a message at the host that is well")
            waits.append(time.monotonic() - began)
            time.sleep(0.5)
    ended.set()
    watcher.join()
    waits.sort()
    taken = sum(len(exchanger.taken) for exchanger in exchangers)
    median, worst = waits[len(waits) // 2], waits[-1]
    print(f"places held by slow exchangers: at most {max(held)}, on average {sum(held) / len(held):.1f} of {PLACES}")
    print(f"mail for a host that is well: {len(waits)} messages, median {median:.2f} s, longest {worst:.2f} s")
    print(f"taken by the slow exchangers meanwhile: {taken} messages")
    bounds = [
        (max(held) <= PLACES * 3 // 4, f"slow exchangers held {max(held)} places, more than three quarters"),
        (worst <= LONGEST, f"a message waited {worst:.2f} s for exchangers that are not its own"),
        (taken > 0, "the slow exchangers got nothing"),
    ]
    for holds, what in bounds:
        if not holds:
            print(f"FAILED: {what}")
    return all(holds for holds, _ in bounds)


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood, seconds=90.0))
