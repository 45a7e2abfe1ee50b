"""A thousand failing logins a second from 200 addresses: an honest client beside them must be served, and memory stay flat.

    make flood ONLY=failing_logins      # or: failing_logins.py --slimtad BINARY [--seconds N] [--rate N]

The attackers' addresses are of 127.0.0.0/8, and so make them wait, but are never turned away: the worst case. Each try is a connection with one AUTH, PLAIN
for most and SCRAM for some, for logins that are there and others that are not, each with another password. A client with an
address of its own logs in and sends a message, again and again. Prints what became of both, and the daemon's memory and
processor time by the second. Exits 1 if an honest try failed or took longer than LONGEST, if the attackers came to less than
nine tenths of the rate, or memory grew by more than MEMORY from the end of the first third on.
"""

import asyncio
import base64
import collections
import itertools
import multiprocessing
import sys
import threading
import time

import common
from descriptors import processor_time
from sessions import resident

ADDRESSES, RATE, SECONDS = 200, 1000, 30
LONGEST, MEMORY = 3.0, 16_000_000
PORT = 2525
# Tries that may wait for their answer at a time: as many as clients would have connections for.
OPEN = 4000


async def reply(reader):
    while True:
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if line[3:4] != b"-":
            return line


def source(number):
    return f"127.100.{number}.1"


async def attempt(address, number, found):
    """One connection and one failing login; what became of it is counted."""
    writer = None
    try:
        reader, writer = await asyncio.open_connection(address, PORT, local_addr=(source(number % ADDRESSES), 0))
        if not (first := await reply(reader)).startswith(b"220 "):
            return found.update([f"connect {int(first[:3])}"])
        login = f"honest{number % 50}" if number // 2 % 2 else f"nobody{number % 997}"
        if number // 2 % 10:
            said = b"AUTH PLAIN " + base64.b64encode(f"\0{login}\0guess {number}".encode())
        else:
            said = b"AUTH SCRAM-SHA-256 " + base64.b64encode(f"n,,n={login},r=abcdefgh".encode())
        writer.write(b"EHLO guess.test\r\n")
        await reply(reader)
        writer.write(said + b"\r\n")
        answer = await reply(reader)
        if answer.startswith(b"334 "):
            nonce = base64.b64decode(answer[4:]).split(b",")[0]
            proof = b"c=biws," + nonce + b",p=" + base64.b64encode(bytes(32))
            writer.write(base64.b64encode(proof) + b"\r\n")
            answer = await reply(reader)
        found.update([f"AUTH {int(answer[:3])}"])
    except (OSError, EOFError, ValueError) as error:
        found.update([type(error).__name__])
    finally:
        if writer:
            writer.close()


async def attack(address, first, rate, seconds, found):
    began, tasks = time.monotonic(), set()
    for number in itertools.count():
        due = began + number / rate
        if due > began + seconds:
            break
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if len(tasks) >= OPEN:
            found.update(["not made"])
            continue
        task = asyncio.ensure_future(attempt(address, first + 2 * number, found))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    found.update({"under way at the end": len(tasks)})
    for task in tasks:
        task.cancel()


def attackers(address, first, rate, seconds, results):
    found = collections.Counter()
    asyncio.run(attack(address, first, rate, seconds, found))
    results.put(found)


def honest(slimtad, until, waits, failures):
    """Logs in and sends a message, again and again."""
    from harness.messages import message
    from harness.slimtad import LOGIN, PASSWORD
    from harness.wire import Wire, plain

    while time.monotonic() < until:
        began = time.monotonic()
        try:
            with Wire(slimtad.address, PORT, source="127.101.0.1") as wire:
                assert wire.code() == 220
                wire.ehlo()
                said = [wire.ask(f"AUTH PLAIN {plain(LOGIN, PASSWORD)}"), wire.ask("MAIL FROM:<a@origin.test>"),
                        wire.ask("RCPT TO:<b@target.test>"), wire.ask("DATA"),
                        wire.ask(message().decode() + ".")]
            assert [line[:3] for line in said] == ["235", "250", "250", "354", "250"], said
        except (OSError, AssertionError) as error:
            failures.append(repr(error))
        waits.append(time.monotonic() - began)
        time.sleep(0.1)


def flood(place, arguments):
    from harness.slimtad import Slimtad

    rate, seconds = arguments.rate, arguments.seconds

    slimtad = Slimtad(place)
    edge = {"type": "smtp", "tls": "none", "auth": "required", "plaintext_auth": True}
    slimtad.change(
        log={"level": "notice"}, auth={"mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"]}, queue={"deliver": False}, edge=[
            {"name": "clear", "listen": [f"{slimtad.address}:{PORT}"], **edge}])
    slimtad.add_user()
    rest = slimtad.users.read_text().splitlines()[0].partition(":")[2]
    with slimtad.users.open("a") as users:
        users.writelines(f"honest{number}:{rest}\n" for number in range(50))
    slimtad.start()
    pid = slimtad.process.pid
    results = multiprocessing.Queue()
    attacking = [multiprocessing.Process(target=attackers, args=(slimtad.address, half, rate / 2, seconds, results))
                 for half in (0, 1)]
    waits, failures, memory, spent = [], [], [], processor_time(pid)
    began = time.monotonic()
    client = threading.Thread(target=honest, args=(slimtad, began + seconds, waits, failures))
    for one in [*attacking, client]:
        one.start()
    while time.monotonic() < began + seconds:
        time.sleep(1)
        memory.append(resident(pid))
    load = (processor_time(pid) - spent) / (time.monotonic() - began)
    found = results.get(timeout=60) + results.get(timeout=60)
    client.join()
    slimtad.kill()

    waits.sort()
    tried = sum(count for name, count in found.items() if name not in ("not made", "under way at the end"))
    growth = max(memory[len(memory) // 3:]) - memory[len(memory) // 3]
    print(f"failing logins: {tried / seconds:.0f} a second from {ADDRESSES} addresses: "
          + ", ".join(f"{count} {name}" for name, count in found.most_common()))
    print(f"honest: {len(waits)} logins with a message, {len(failures)} failed, median {waits[len(waits) // 2] * 1000:.0f} ms, "
          f"most {waits[-1] * 1000:.0f} ms {failures[:2]}")
    print(f"memory: {memory[0] / 1e6:.1f} MB in the first second, {memory[len(memory) // 3] / 1e6:.1f} MB after a third, "
          f"{memory[-1] / 1e6:.1f} MB at the end, {growth / 1e6:.1f} MB more at most; processor {load:.0%}")
    return not failures and waits[-1] <= LONGEST and growth <= MEMORY and tried >= 0.9 * rate * seconds


if __name__ == "__main__":
    sys.exit(common.main(__doc__, flood, seconds=SECONDS, rate=RATE))
