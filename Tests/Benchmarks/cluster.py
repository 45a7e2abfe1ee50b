"""How fast the queue's storage in PostgreSQL is beside a plain C loop that inserts and commits the same octets.

    make bench-cluster       # or: cluster.py --worker storage-worker [--seconds N] [--rounds N] [--flight N ...]

One server of its own with fsync, by a UNIX socket, 4 KB messages. Both sides by turns, in the same tables of two databases;
ratios are medians of those of neighbours, for a machine's pace is not the same for minutes. The plain loop (plain.c) keeps
none of the storage's promises. `thread`: the next message comes from another thread, as from an edge's event loop. Prints
what a message takes of the processor on both sides and of the log. Exits 1 if a ratio is below BOUND with 32 and 100 in
flight.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys

BOUND, BOUND_FROM = 0.7, 32
OCTETS = 4096
CASES = [(flight, what, how) for what, how in (("keep", "completion"), ("keep", "thread"), ("remove", "completion"))
         for flight in (1, 8, 32, 100)]
SETTINGS = {"shared_buffers": "512MB", "max_connections": 60, "max_wal_size": "8GB", "wal_level": "replica"}


@contextlib.contextmanager
def server(folder, **settings):
    """A PostgreSQL in a folder of its own, as servers are: what it confirms is on the disk."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    from harness.machine import Place
    from harness.postgres import Postgres

    place = Place(folder)
    try:
        yield Postgres(place, **{**SETTINGS, **settings}).start()
    finally:
        place.stop_all()
        place.remove()


def processor(postgres):
    """Seconds of the processor that all processes of a server have had, those that have ended too."""
    total = 0
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(entry.name) == postgres.process.pid:
                total += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postgres.process.pid:
                total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


class Side:
    """One of the two, with a database of its own."""

    def __init__(self, postgres, name, worker):
        self.postgres, self.worker = postgres, worker
        self.name = name
        self.words = postgres.add_database(name, name)
        subprocess.run([worker, "cluster", self.words, "init"], check=True)

    def sql(self, *statements):
        """What psql prints, each in a transaction of its own, however long they take."""
        from harness.postgres import SUPERUSER, binary

        command = [binary("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.postgres.words(self.name, SUPERUSER)]
        commands = [word for statement in statements for word in ("-c", statement)]
        return subprocess.run([*command, *commands], check=True, capture_output=True, text=True).stdout.strip()

    def clear(self):
        self.sql("truncate slimtad.message_00, slimtad.item, slimtad.ledger_step", "checkpoint")

    def measure(self, command):
        """Messages a second, the median and the 99th percentile of a commit in ms, and, a message, microseconds of the processor
        here and there, octets of the log and transactions."""
        self.clear()
        state = "select pg_current_wal_lsn() - '0/0', pg_current_xact_id(), (select sum(accepted) from slimtad.ledger_step)"
        log, number, _ = self.sql(state).split("|")
        before = processor(self.postgres)
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"cluster: {command}: {done.stdout}{done.stderr}")
        rate, median, late, cost = map(float, done.stdout.split())
        spent = processor(self.postgres) - before
        log_after, number_after, recipients = self.sql(state).split("|")
        # Each message has two recipients.
        count = float(recipients) / 2
        return {
            "rate": rate, "median": median / 1e3, "late": late / 1e3, "cost": cost, "server": spent * 1e6 / count,
            "log": (float(log_after) - float(log)) / count, "transactions": (float(number_after) - float(number)) / count}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", default=".build/release/storage-worker")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flight", type=int, nargs="+", help="only with so many in flight")
    parser.add_argument("--folder", help="on a real disk", default="/var/tmp")
    arguments = parser.parse_args()
    bad = []
    with server(arguments.folder) as postgres:
        plain = postgres.folder / "plain"
        subprocess.run(
            ["cc", "-O2", "-I/usr/include/postgresql", "-o", plain, pathlib.Path(__file__).with_name("plain.c"), "-lpq"],
            check=True)
        ours = Side(postgres, "ours", arguments.worker)
        theirs = Side(postgres, "theirs", arguments.worker)
        ours.measure([arguments.worker, "cluster", ours.words, "load", 32, 1, "keep", "completion"])
        envelope = ours.sql("select max(octet_length(envelope)) from slimtad.item")
        print(f"{OCTETS} octets a message, {envelope} of envelope; medians of {arguments.rounds}. us: of the processor, a message,\n"
              "in the client and in the server; log: octets a message; tx: transactions a message\n")
        print("in flight                    storage/s   plain/s  ratio  p50 ms  p99 ms   us client  us server      log     tx"
              "   plain us client  us server      log")
        for flight, what, how in CASES:
            if arguments.flight and flight not in arguments.flight:
                continue
            mine = [arguments.worker, "cluster", ours.words, "load", flight, arguments.seconds, what, how]
            plainly = [plain, theirs.words, flight, arguments.seconds, OCTETS, envelope, what]
            rounds = [(ours.measure(mine), theirs.measure(plainly)) for _ in range(arguments.rounds)]
            ratio = statistics.median(a["rate"] / b["rate"] for a, b in rounds)
            a, b = ({key: statistics.median(round[side][key] for round in rounds) for key in rounds[0][side]}
                    for side in (0, 1))
            print(f"{flight:9} {what:7}{how:11}{a['rate']:10.0f}{b['rate']:10.0f}{ratio:7.2f}{a['median']:8.2f}{a['late']:8.2f}"
                  f"{a['cost']:12.1f}{a['server']:11.1f}{a['log']:9.0f}{a['transactions']:7.3f}"
                  f"{b['cost']:18.1f}{b['server']:11.1f}{b['log']:9.0f}", flush=True)
            if ratio < BOUND and flight >= BOUND_FROM and what == "keep":
                bad.append(f"{flight} in flight, {what}, {how}: {ratio:.2f}")
    for line in bad:
        print(f"below {BOUND}: {line}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
