"""Three nodes and a synchronous pair of PostgreSQL servers: nodes are killed, stopped and ended, servers killed, stopped and
promoted away from, under load.

What got its 250 is delivered. A second copy may come only of an attempt that was under way at a node which an event has cut
off from the database, or from its own memory.
"""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import time

from ledger import Clients, Lost, Place, Rig, collect, run_slimtad
from harness.machine import MX_PORT, SUBMISSION, NotReady, new_address
from harness.postgres import Postgres, binary
from harness.sink import Sink
from harness.slimtad import OK, Slimtad

NODES = ("one", "two", "three")
LEASE = 5
CONNECTIONS = 4
SYNCHRONOUS = {"synchronous_standby_names": "*", "max_connections": "150", "wal_receiver_timeout": "3s", "hot_standby": "on"}


def obstacle():
    try:
        binary("initdb")
    except NotReady as missing:
        return str(missing)
    return None


class Server(Postgres):
    """A server that is killed with all of its processes, each of which is the first of a session of its own."""

    def family(self):
        pids = [self.process.pid]
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == self.process.pid:
                pids.append(int(entry.name))
        return pids

    def signal_all(self, number):
        for pid in self.family():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.signal_all(signal.SIGKILL)
            self.process.wait()

    def boot(self):
        """Starts it again where processes of its last life may still be ending."""
        for _ in range(50):
            try:
                return self.start()
            except NotReady:
                time.sleep(0.1)
        raise Lost(f"{self.name} does not start again: {self.log[-2000:]}")

    def promote(self):
        self._run("pg_ctl", "promote", "-D", self.data, "-w")

    def renew(self, primary):
        """A new standby of `primary` in place of what it was."""
        shutil.rmtree(self.data)
        self.follow(primary)
        return self.start()


class Cluster:
    """The nodes, their clients, one sink, and what came of it all."""

    def __init__(self, place, seed):
        self.random = random.Random(seed)
        self.place = place
        self.sink = Sink(place).start()
        self.primary = Server(place, "a", **SYNCHRONOUS).start()
        self.standby = Server(place, "b", **SYNCHRONOUS).follow(self.primary).start()
        self.primary.add_database("queue", "mail")
        folders = f"{self.primary.folder},{self.standby.folder}"
        words = f"host={folders} port={self.primary.port},{self.standby.port} dbname=queue user=mail"
        self.nodes = [self.make(name, words, number) for number, name in enumerate(NODES)]
        self.delivered = collections.Counter()
        self.strange = []
        self.events = collections.Counter()
        # Attempts that events may have cut off.
        self.allowed = 0
        Rig.latest = self

    def make(self, name, words, number):
        address = new_address()
        edges = [{"name": "local", "type": "smtp", "listen": [f"{address}:{SUBMISSION}"], "tls": "none", "auth": "none",
                  "trusted_networks": ["127.0.0.0/8"]}]
        daemon = Slimtad(
            self.place, edges=edges, name=name,
            routes=[{"domains": ["*"], "type": "smtp", "host": f"{self.sink.address}:{MX_PORT}"}],
            queue={"retry": ["2s"], "policies": ["date", "message_id", "received", "domain_split"]},
            relay={"type": "blackhole", "port": None, "connect_timeout": None, "idle_timeout": None, "allow_networks": None,
                   "connections": CONNECTIONS},
            limits={"connections": 200, "connections_per_address": 200})
        daemon.change(node={"name": name})
        daemon.put_queue_into(words, lease=f"{LEASE}s", commit_timeout="3s", synchronous="required")
        daemon.add_user()
        daemon.clients = Clients(address, count=3)
        # Numbers tell whose a message is.
        daemon.clients._next = number * 100_000_000
        return daemon

    # What happens

    def kill_node(self):
        node = self.random.choice(self.nodes)
        node.kill()
        self.allowed += CONNECTIONS
        time.sleep(self.random.random() * self.random.choice([0.2, 1.5 * LEASE]))
        node.start()

    def stop_node(self):
        """Longer than its lease, or shorter."""
        node = self.random.choice(self.nodes)
        node.signal(signal.SIGSTOP)
        self.allowed += CONNECTIONS
        time.sleep(self.random.choice([0.5, 2.5 * LEASE]))
        node.signal(signal.SIGCONT)

    def end_node(self):
        node = self.random.choice(self.nodes)
        if node.term(40) != 0:
            raise Lost(f"{node.name} did not end well: {node.log[-3000:]}")
        node.start()

    def _without_database(self):
        self.allowed += CONNECTIONS * len(self.nodes)

    def kill_primary(self):
        self.primary.kill()
        self._without_database()
        time.sleep(self.random.random() * 2)
        self.primary.boot()

    def stop_primary(self):
        self.primary.signal_all(signal.SIGSTOP)
        self._without_database()
        time.sleep(self.random.choice([0.5, 6]))
        self.primary.signal_all(signal.SIGCONT)

    def kill_standby(self):
        """Nothing is confirmed without it."""
        self.standby.kill()
        self._without_database()
        time.sleep(self.random.random() * 4)
        self.standby.boot()

    def fail_over(self):
        """The primary dies, the standby takes its place, and the dead one becomes its standby."""
        self.primary.kill()
        self._without_database()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.standby.renew(self.primary)

    EVENTS = ["kill_node", "kill_node", "stop_node", "end_node", "kill_primary", "stop_primary", "kill_standby", "fail_over"]

    def round(self):
        wanted = len(self.accepted) + self.random.randrange(1, 80)
        deadline = time.monotonic() + 60
        while len(self.accepted) < wanted:
            if time.monotonic() > deadline:
                raise Lost(f"nothing is accepted any more: {self.tell()}")
            time.sleep(0.02)
        event = self.random.choice(self.EVENTS)
        self.events[event] += 1
        getattr(self, event)()

    # What came of it

    @property
    def accepted(self):
        return set().union(*(node.clients.accepted for node in self.nodes))

    def start(self):
        for node in self.nodes:
            if node.process is None:
                node.start()
            node.clients.start()

    def stop(self):
        for node in self.nodes:
            node.clients.stop()

    def collect(self):
        tried = set().union(*(node.clients.tried for node in self.nodes))
        collect(self.sink, tried, self.delivered, self.strange)

    def check(self):
        """All that was accepted has come, nothing is queued any more, and the ledger says so."""
        self.stop()
        deadline = time.monotonic() + 120
        missing = self.accepted
        while missing or not self.is_empty():
            if time.monotonic() > deadline:
                raise Lost(f"{len(missing)} of {len(self.accepted)} accepted are not delivered, such as "
                           f"{sorted(missing)[:3]}: {self.tell()}")
            time.sleep(0.2)
            self.collect()
            missing = self.accepted - self.delivered.keys()
        if self.strange:
            raise Lost("; ".join(self.strange[:3]))
        if self.copies > self.allowed:
            raise Lost(f"{self.copies} second copies, where {self.allowed} attempts may have been cut off")
        audit = self.ask("audit")
        if not audit["clean"] or not audit["ledger"]["balanced"]:
            raise Lost(f"the audit says {audit}")

    def ask(self, *words):
        done = run_slimtad(*words, "--json", "--config", self.nodes[0].configuration)
        return json.loads(done.stdout) if done.returncode == OK else {"clean": False, "text": done.stderr}

    def is_empty(self):
        done = run_slimtad("queue", "count", "--config", self.nodes[0].configuration)
        return done.stdout.split()[:1] == ["0"]

    def tell(self):
        status = run_slimtad("database", "status", "--config", self.nodes[0].configuration)
        return status.stdout + status.stderr + "".join(node.log[-1500:] for node in self.nodes)

    def finish(self):
        for node in self.nodes:
            if node.term(40) != 0:
                raise Lost(f"{node.name} did not end well: {node.log[-3000:]}")
            if "Fatal error" in node.log or "Program crashed" in node.log:
                raise Lost(f"{node.name} has crashed: {node.log[-3000:]}")

    @property
    def copies(self):
        """Deliveries beyond one for each recipient."""
        return sum(count - 1 for count in self.delivered.values())

    @property
    def progress(self):
        return f"{sum(self.events.values())} events, {len(self.accepted)} recipients accepted"

    @property
    def figures(self):
        events = ", ".join(f"{count} {name}" for name, count in sorted(self.events.items()))
        return (f"{len(self.accepted)} recipients accepted, 0 lost, {self.copies} second copies of {self.allowed} possible; "
                f"{events}")


def run(rounds, seed):
    """`rounds` events; the text of the result. Raises Lost."""
    place = Place()
    try:
        cluster = Cluster(place, seed)
        cluster.start()
        for number in range(1, rounds + 1):
            cluster.round()
            if number % 10 == 0 and number < rounds:
                cluster.check()
                cluster.start()
        cluster.check()
        cluster.finish()
        return cluster.figures
    finally:
        place.stop_all()
        place.remove()
