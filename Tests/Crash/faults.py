"""Calls of the real daemon that fail, by disk_shim.c, and a full disk.

In each: clients get 451 4.3.0 or 452 4.3.1, nothing acknowledged is lost, and the daemon goes on by itself or says what is
wrong. And no delivery begins while its outcome could not be recorded.
"""

import errno
import os
import random
import signal
import subprocess
import time

from ledger import CONNECTIONS, Lost, NotReady, Place, Rig, give
from plan import ALWAYS, CALLS, FAIL, NOTHING, Plan

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


def combinations(seed):
    """(call, error, n, count): the n-th call from now on fails, and so do those after it; endless, in random order."""
    generator = random.Random(seed)
    kinds = [(call, error) for call in CALLS for error in ERRORS]
    while True:
        generator.shuffle(kinds)
        for call, error in kinds:
            yield call, error, generator.choice([1, 2, 3, generator.randrange(4, 40)]), generator.choice([1, 2, ALWAYS])


def run(rounds, seed):
    """`rounds` faults, each in one start, life and stop of the daemon; the text of the result. Raises Lost."""
    place = Place()
    try:
        rig = Rig(place)
        plan = Plan(place.path / "plan", str(rig.daemon.state))
        rig.daemon.environment = plan.environment
        rig.daemon.start()
        hits = starts = 0
        for (call, error, first, count), number in zip(combinations(seed), range(rounds)):
            what = f"{call} {error} n={first} count={count}"
            try:
                # One in two begins while the daemon starts, the others when it runs; all hit its stop once more.
                if number % 2:
                    rig.daemon.term(60)
                    plan.set(FAIL, call, ERRORS[error], first, count)
                    if not comes_up(rig):
                        starts += 1
                        hits += plan.failed > 0
                        plan.set(NOTHING)
                        rig.daemon.start()
                    rig.clients.start()
                else:
                    rig.clients.start()
                    rig.wait_for_accepted(20)
                    plan.set(FAIL, call, ERRORS[error], first, count)
                time.sleep(0.4)
                hits += plan.failed > 0
                plan.set(NOTHING)
                rig.wait_for_accepted(20)
                rig.clients.stop()
                plan.set(FAIL, call, ERRORS[error], first, count)
                rig.daemon.signal(signal.SIGTERM)
                rig.daemon.wait(60)
                hits += plan.failed > 0
                # What was delivered and could not be recorded before the end is delivered again.
                rig.kills += 1
                plan.set(NOTHING)
                rig.daemon.start()
            except (TimeoutError, NotReady, Lost) as failure:
                raise Lost(f"{what}: {failure}") from None
            if number % 8 == 7:
                rig.check()
        strange = [reply for reply in rig.clients.refusals if reply not in ("451 4.3.0", "452 4.3.1")]
        if strange:
            raise Lost(f"replies: {strange}")
        if rounds > 20 and hits < rounds:
            raise Lost(f"only {hits} faults hit anything")
        check_log(rig)
        rig.check()
        plan.set(NOTHING)
        rig.finish()
        replies = ", ".join(f"{count} x {reply}" for reply, count in sorted(rig.clients.refusals.items()))
        return f"{rounds} rounds, {hits} hit, {starts} refused starts; {rig.figures}; {replies}"
    finally:
        place.stop_all()
        place.remove()


def comes_up(rig):
    """Starts the daemon; False if it ended with a reason."""
    rig.daemon.start(wait=False)
    deadline = time.monotonic() + 30
    while rig.daemon.process.poll() is None:
        if rig.daemon.is_ready():
            return True
        if time.monotonic() > deadline:
            raise Lost("neither ready nor ended")
        time.sleep(0.02)
    status = rig.daemon.process.returncode
    if status <= 0 or "queue: " not in rig.daemon.log[-500:]:
        raise Lost(f"ended with {status} without a reason:\n{rig.daemon.log[-2000:]}")
    return False


def check_log(rig):
    """No crash, and an operator finds the failures in the log."""
    for word in ("Fatal error", "Program crashed", "stored mail is damaged"):
        if word in rig.daemon.log:
            raise Lost(f"logged: {rig.daemon.log[max(0, rig.daemon.log.index(word) - 500):][:2000]}")


def run_unrecorded():
    """While the journal fails, no more is delivered than was in flight; then everything comes, once."""
    place = Place()
    try:
        rig = Rig(place, deliver=False)
        plan = Plan(place.path / "plan", str(rig.daemon.state))
        rig.daemon.environment = plan.environment
        rig.daemon.start()
        rig.clients.start()
        rig.wait_for_accepted(150)
        rig.clients.stop()
        rig.daemon.term(40)
        rig.daemon.change(queue={"deliver": True})
        # Recovery, and the segment that the journal goes on with, are over when it greets.
        plan.set(NOTHING)
        rig.sink.signal(signal.SIGSTOP)
        rig.daemon.start()
        time.sleep(1)
        plan.set(FAIL, "fdatasync", errno.EIO, 1, ALWAYS)
        rig.sink.signal(signal.SIGCONT)
        time.sleep(3)
        rig.collect()
        before = sum(rig.delivered.values())
        time.sleep(7)  # longer than the journal waits before it tries again
        rig.collect()
        after = sum(rig.delivered.values())
        if after != before or after > 2 * CONNECTIONS:
            raise Lost(f"{before}, then {after} deliveries while none could be recorded")
        if "cannot be recorded" not in rig.daemon.log:
            raise Lost("the log does not say so")
        plan.set(NOTHING)
        rig.check()
        if rig.copies:
            raise Lost(f"{rig.copies} second copies")
        rig.finish()
        return f"{after} deliveries in flight while none could be recorded, none begun; then {len(rig.clients.accepted)}"
    finally:
        place.stop_all()
        place.remove()


def run_full():
    """A state directory on a tmpfs that fills up, and drains. Needs root."""
    if os.geteuid() != 0:
        return None
    place = Place()
    folder = place.path / "tmpfs"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=280m,mode=755", "tmpfs", folder], check=True)
        state = folder / "state"
        state.mkdir(mode=0o700)
        give(state)
        rig = Rig(place, state=state, deliver=False)
        rig.daemon.start()
        filler = folder / "filler"
        filler.touch()
        rig.clients.start()
        rig.wait_for_accepted(100)
        # What others write fills the disk, to the last octet.
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        rig.daemon.wait_until(lambda: rig.clients.refusals["452 4.3.1"] > 20, 60, "452 4.3.1")
        rig.daemon.change(queue={"deliver": True})
        rig.daemon.reload()
        # It drains while the disk is full, and takes mail again when there is room.
        rig.daemon.wait_until(lambda: len(rig.missing()) == 0, 60, "a drained queue")
        filler.unlink()
        rig.wait_for_accepted(50, 60)
        rig.clients.stop()
        if set(rig.clients.refusals) - {"452 4.3.1", "451 4.3.0"}:
            raise Lost(f"replies: {dict(rig.clients.refusals)}")
        check_log(rig)
        rig.check()
        rig.finish()
        return f"{rig.figures}; {rig.clients.refusals['452 4.3.1']} x 452 4.3.1"
    finally:
        place.stop_all()
        if os.path.ismount(folder):
            subprocess.run(["umount", folder])
        place.remove()
