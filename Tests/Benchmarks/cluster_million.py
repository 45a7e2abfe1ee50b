"""A million deferred messages in PostgreSQL: starts and takeovers of nodes, operators' commands, a retry storm, and the tables.

    make bench-cluster-million   # or: cluster_million.py --slimtad BINARY --worker storage-worker [--messages N] [--folder DIR]

One server of its own with fsync and 300 octets of content a message, filled through the storage. Prints a line for each
figure as it is known. Nothing is asserted but that what is counted is all: compare lines of one run.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import cluster

OCTETS = 300
LEASE = 15


def say(what, text):
    print(f"{what:44} {text}", flush=True)


class Watch(threading.Thread):
    """The most that a process has of memory, and the oldest beat that the database has seen of any node that lives."""

    def __init__(self, process, sql):
        super().__init__(daemon=True)
        self.process, self.sql = process, sql
        self.peak = self.beat = 0.0
        self.start()

    def run(self):
        while self.process.poll() is None:
            self.peak = max(self.peak, memory(self.process))
            age = self.sql("select max(extract(epoch from clock_timestamp() - beat)) from slimtad.node where not is_gone")
            self.beat = max(self.beat, float(age or 0))
            time.sleep(0.5)


def memory(process):
    """Proportional set size, in MB."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3
    except (OSError, StopIteration):
        return 0.0


class Rig:
    def __init__(self, arguments, postgres):
        os.environ["SLIMTAD"] = str(pathlib.Path(arguments.slimtad).resolve())
        from harness.machine import MX_PORT, SUBMISSION, new_address
        from harness.slimtad import Slimtad, run_slimtad

        self.arguments, self.postgres, self.run_slimtad = arguments, postgres, run_slimtad
        self.side = cluster.Side(postgres, "queue", arguments.worker)
        self.sql = self.side.sql
        self.sink = (new_address(), MX_PORT)
        self.submission, self.new_address, self.make = SUBMISSION, new_address, Slimtad

    def node(self, name, delivers=False):
        address = self.new_address()
        edges = [{"name": "local", "type": "smtp", "listen": [f"{address}:{self.submission}"], "tls": "none", "auth": "none",
                  "trusted_networks": ["127.0.0.0/8"]}]
        host = f"{self.sink[0]}:{self.sink[1]}"
        daemon = self.make(
            self.postgres.place, edges=edges, name=name + ("-delivers" if delivers else ""),
            queue={"deliver": delivers, "retry": ["6h"], "warn": "never"}, log={"level": "notice"},
            relay={"type": "smtp", "host": host, "tls": "none", "connections": 100, "port": None, "connect_timeout": None,
                   "idle_timeout": None, "allow_networks": None})
        daemon.change(node={"name": name})
        daemon.put_queue_into(self.side.words, lease=f"{LEASE}s")
        return daemon.add_user()

    def until(self, condition, limit=3600):
        """Seconds until it holds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > limit:
                sys.exit("waited in vain; the nodes' logs are gone with them")
            time.sleep(0.1)
        return time.monotonic() - began

    def queued(self, daemon):
        """How many messages are the node's."""
        done = self.run_slimtad("status", "--json", "--config", daemon.configuration, timeout=120)
        return json.loads(done.stdout)["queue"]["total"]

    def start(self, daemon):
        """Seconds until it greets, which it does when it knows all of its part of the queue."""
        began = time.monotonic()
        daemon.start(wait=False)
        daemon.wait_until(daemon.is_ready, timeout=600, what="its greeting")
        return time.monotonic() - began

    def sizes(self, what):
        table, all_of_it, tuples, dead = self.sql(
            "select pg_table_size(relid), pg_total_relation_size(relid), n_live_tup, n_dead_tup"
            " from pg_stat_user_tables where relname = 'item'").split("|")
        contents = self.sql("select sum(pg_total_relation_size(relid)) from pg_stat_user_tables where relname like 'message%'")
        say(what, f"item {int(table) / 1e6:.0f} MB and {(int(all_of_it) - int(table)) / 1e6:.0f} MB of indexes, "
                  f"{dead} dead of {tuples} rows; contents {int(contents) / 1e6:.0f} MB")

    def updates(self):
        return [int(word) for word in self.sql(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'item'").split("|")]

    def log(self):
        """Octets of the server's log so far."""
        return float(self.sql("select pg_current_wal_lsn() - '0/0'"))

    def command(self, daemon, *words):
        began = time.monotonic()
        done = self.run_slimtad(*words, "--config", daemon.configuration, timeout=3600)
        lasted = time.monotonic() - began
        lines = done.stdout.splitlines()
        text = f"{len(lines)} lines" if len(lines) > 5 else "; ".join(lines + done.stderr.splitlines())
        say(f"slimtad {' '.join(words)}", f"{lasted:.2f} s (exit status {done.returncode}; {text[:100]})")

    # What is measured

    def fill(self):
        began = time.monotonic()
        before = self.log()
        subprocess.run(
            [self.arguments.worker, "cluster", self.side.words, "fill", str(self.arguments.messages), str(OCTETS), "0"],
            check=True)
        lasted = time.monotonic() - began
        log = (self.log() - before) / self.arguments.messages
        say("filled: accepted and deferred", f"{self.arguments.messages / lasted:.0f}/s, {log:.0f} octets of log each")
        self.sql("vacuum analyze", "checkpoint")
        self.sizes("tables")

    def nodes(self):
        one, two = self.node("one"), self.node("two")
        seconds = self.start(one)
        watch = Watch(one.process, self.sql)
        count = self.queued(one)
        if count != self.arguments.messages:
            sys.exit(f"{count} are queued")
        say("start of a node alone, until it greets", f"{seconds:.1f} s; {memory(one.process):.0f} MB, "
            f"{memory(one.process) * 1e6 / count:.0f} octets a message")
        for words in (["status"], ["queue", "count"], ["queue", "list", "--limit", "100"], ["queue", "list"],
                      ["queue", "list", "--domain", "d7.example.net"], ["database", "status"], ["audit"]):
            self.command(one, *words)
        say("a node's memory meanwhile, at most", f"{watch.peak:.0f} MB; its oldest beat {watch.beat:.1f} s")

        seconds = self.start(two)
        shared = seconds + self.until(
            lambda: abs(self.queued(two) - count / 2) < count / 20 and self.queued(one) + self.queued(two) == count)
        say("a second node, until it greets, has its half", f"{seconds:.1f} s, {shared:.1f} s")
        one.kill()
        taken = self.until(lambda: self.queued(two) == count)
        say("the first one is killed: the second has all", f"{taken:.1f} s, of which the lease is {LEASE} s")
        began = time.monotonic()
        two.term(120)
        say("stop of a node", f"{time.monotonic() - began:.1f} s")

    def storm(self):
        later = self.postgres.folder / "later"
        subprocess.run(["cc", "-O2", "-o", later, pathlib.Path(__file__).with_name("later.c")], check=True)
        sink = subprocess.Popen([later, self.sink[0], str(self.sink[1])])
        try:
            one = self.node("one", delivers=True)
            before = self.updates()
            spent = cluster.processor(self.postgres)
            log = self.log()
            began = time.monotonic()
            self.start(one)
            watch = Watch(one.process, self.sql)
            self.until(lambda: self.updates()[0] - before[0] >= self.arguments.messages)
            lasted = time.monotonic() - began
            after = self.updates()
            own = time.clock_gettime(~one.process.pid << 3 | 2)
            count = self.arguments.messages
            say("all are due, and deferred again by SMTP",
                f"{count / lasted:.0f}/s from the start on; "
                f"{100 * (after[1] - before[1]) / (after[0] - before[0]):.0f} % HOT; "
                f"{own * 1e6 / count:.0f} us of the node's processor each and "
                f"{(cluster.processor(self.postgres) - spent) * 1e6 / count:.0f} of the server's, "
                f"{(self.log() - log) / count:.0f} octets of log")
            say("a node's memory meanwhile, at most", f"{watch.peak:.0f} MB; its oldest beat {watch.beat:.1f} s")
            self.sizes("tables behind the storm")
            self.command(one, "queue", "count")
            one.term(120)
            self.complaints(one)
        finally:
            sink.kill()

    def complaints(self, daemon):
        for line in daemon.log.splitlines():
            if re.search(r"\b(warning|error|critical)\b", line):
                say(f"node {daemon.name} says", line[:200])

    def outcomes(self, number):
        """Outcomes alone, as fast as they are recorded."""
        before = self.updates()
        done = subprocess.run(
            [self.arguments.worker, "cluster", self.side.words, "defer", "21600"], check=True, capture_output=True, text=True)
        time.sleep(1)
        after = self.updates()
        say(f"all are deferred again by the storage alone, {number}",
            f"{float(done.stdout):.0f}/s; {100 * (after[1] - before[1]) / max(1, after[0] - before[0]):.0f} % HOT")
        self.sizes("tables behind it")

    def moved(self):
        """What the keepers do with content that is still needed when its table of the ring is to be emptied."""
        log = self.log()
        keeper = subprocess.Popen([self.arguments.worker, "cluster", self.side.words, "keep"])
        seconds = self.until(lambda: self.sql("select exists (select 1 from slimtad.item where part <> 24)") == "f")
        keeper.kill()
        keeper.wait()
        count = self.arguments.messages
        log = self.log() - log
        say("contents moved to where they stay", f"{count / seconds:.0f}/s, {log / count:.0f} octets of log each")
        self.sizes("tables behind it")

    def vacuumed(self):
        def dead():
            return int(self.sql("select n_dead_tup from pg_stat_user_tables where relname = 'item'"))

        seconds = self.until(lambda: dead() < self.arguments.messages / 40, 600)
        say("autovacuum has been there", f"after {seconds:.0f} s")
        self.sizes("tables behind it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slimtad", default=".build/release/slimtad")
    parser.add_argument("--worker", default=".build/release/storage-worker")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--folder", help="on a real disk", default="/var/tmp")
    arguments = parser.parse_args()
    # The harness's way to what is built is the environment's, when it is imported.
    os.environ["SLIMTAD"] = str(pathlib.Path(arguments.slimtad).resolve())
    with cluster.server(arguments.folder, autovacuum_naptime="10s") as postgres:
        rig = Rig(arguments, postgres)
        rig.fill()
        rig.nodes()
        rig.storm()
        rig.vacuumed()
        for number in (1, 2):
            rig.outcomes(number)
        rig.vacuumed()
        rig.moved()
    return 0


if __name__ == "__main__":
    sys.exit(main())
