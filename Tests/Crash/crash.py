#!/usr/bin/env python3
"""Breaks what slimtad stands on, and sees whether it keeps its promises: `make crash ROUNDS=N` runs this.

    crash.py [--rounds N] [--seed N] [--short] [--only RIG,...] [--mutants]

A line at the end of each rig, and one a minute while it runs. --rounds is the number of SIGKILLs and, in proportion, of the
other rigs' rounds: 300 makes 500 power cuts on each file system and 100 shutdowns. --short is for `make test`: about a minute
in all. --mutants runs the rigs on a disk that lies, or servers that do: each has to find it. What cannot run here is skipped,
with the reason. Exit status 1 if a promise was broken.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback

import faults
import keyed
import kill
import nodes
import powercut
import shutdown
from ledger import Lost, Rig
from plan import ROOT


def simulated(rounds):
    """The simulated disk of the storage's own tests, with more cuts than `swift test` makes."""
    done = subprocess.run(
        ["swift", "test", "--skip-build", "--filter", "PowerCut|Flip|Damage"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "CRASH_ROUNDS": str(rounds)})
    lines = (done.stdout + done.stderr).splitlines()
    counts = [line for line in lines if re.match(r"\d+ (power cuts|flipped bits)", line)]
    if done.returncode != 0 or not counts:
        raise Lost(f"{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return ", ".join(counts)


def root_only():
    return None if os.geteuid() == 0 else "needs root"


def rigs(rounds, seed, short):
    """(name, why it cannot run here or None, what to run)."""
    if short:
        return [
            ("powercut-ext4", powercut.obstacle("ext4"), lambda: powercut.run(6, seed, "ext4", seconds=1)),
            ("shutdown", shutdown.obstacle(), lambda: shutdown.run(1, seed)),
            ("kill", None, lambda: kill.run(4, seed)),
            ("keyed", None, lambda: keyed.run(120, 2, seed)),
            ("faults", None, lambda: faults.run(4, seed)),
            ("full", root_only(), faults.run_full),
            ("nodes", nodes.obstacle(), lambda: nodes.run(4, seed)),
        ]
    cuts = max(1, rounds * 5 // 3)
    return [
        ("simulated", None, lambda: simulated(rounds)),
        ("powercut-ext4", powercut.obstacle("ext4"), lambda: powercut.run(cuts, seed, "ext4")),
        ("powercut-xfs", powercut.obstacle("xfs"), lambda: powercut.run(cuts, seed, "xfs")),
        ("shutdown", shutdown.obstacle(), lambda: shutdown.run(max(1, rounds // 3), seed)),
        ("kill", None, lambda: kill.run(rounds, seed)),
        ("keyed", None, lambda: keyed.run(max(1000, rounds * 10), max(5, rounds // 10), seed)),
        ("faults", None, lambda: faults.run(max(1, rounds // 2), seed)),
        ("unrecorded", None, faults.run_unrecorded),
        ("full", root_only(), faults.run_full),
        ("nodes", nodes.obstacle(), lambda: nodes.run(rounds, seed)),
    ]


@contextlib.contextmanager
def telling(name, interval):
    """Says every `interval` seconds that a rig goes on, and how far it is."""
    end = threading.Event()

    def tell():
        begun = time.monotonic()
        print(f"{name}: begins at {time.strftime('%H:%M:%S')}", flush=True)
        while not end.wait(interval):
            far = f", {Rig.latest.progress}" if Rig.latest else ""
            print(f"{name}: {time.monotonic() - begun:.0f} s{far}", flush=True)

    Rig.latest = None
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        end.set()
        teller.join()


def mutants(seed):
    return [
        ("powercut-ext4", powercut.obstacle("ext4"), lambda: powercut.run(20, seed, "ext4", mutant="fdatasync")),
        ("powercut-xfs", powercut.obstacle("xfs"), lambda: powercut.run(20, seed, "xfs", mutant="fsync")),
        ("shutdown", shutdown.obstacle(), lambda: shutdown.run(5, seed, mutant=True)),
        ("kill", None, lambda: kill.run(60, seed, mutant=True)),
        ("nodes", nodes.obstacle(), lambda: nodes.run(40, seed, mutant=True)),
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 20))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--mutants", action="store_true")
    options = parser.parse_args()
    # Mounts are this process's own, and end with it.
    if os.geteuid() == 0 and shutil.which("unshare") and "CRASH_UNSHARED" not in os.environ:
        os.execvpe("unshare", ["unshare", "-m", sys.executable, *sys.argv], {**os.environ, "CRASH_UNSHARED": "1"})
    chosen = mutants(options.seed) if options.mutants else rigs(options.rounds, options.seed, options.short)
    broken = 0
    for name, obstacle, run in chosen:
        if options.only and name not in options.only.split(","):
            continue
        if obstacle:
            print(f"{name}: skipped, {obstacle}", flush=True)
            continue
        begun = time.monotonic()
        try:
            with telling(name, 10 if options.short else 60):
                result, is_kept = run(), True
        except Lost as failure:
            result, is_kept = str(failure), False
        except Exception:
            result, is_kept = traceback.format_exc(), False
        if options.mutants:
            # Only a broken promise counts as found: a rig that falls over has seen nothing.
            is_found = not is_kept and not result.startswith("Traceback")
            result = f"{'found' if is_found else 'NOT FOUND'}: {result.splitlines()[0] if is_found else result}"
            is_kept = is_found
        broken += not is_kept
        print(f"{name}: {'ok' if is_kept else 'FAILED'}, {result} ({time.monotonic() - begun:.0f} s, seed {options.seed})",
              flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
