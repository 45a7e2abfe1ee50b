"""Three nodes and a synchronous pair of PostgreSQL servers: nodes are killed, stopped, ended and cut off, servers killed,
stopped, cut off and promoted away from, under load (blows.py).

What got its 250 is delivered. Each second copy is of an attempt whose outcome could not be recorded, and the logs say why
(copies.py).
"""

import collections
import json
import random
import subprocess
import time

from blows import Blows
from copies import Deliveries, Life
from ledger import Clients, Lost, Place, Rig, collect, run_slimtad
from pair import Pair
from harness.machine import MX_PORT, SUBMISSION, NotReady, new_address
from harness.postgres import binary
from harness.sink import Sink
from harness.slimtad import OK, Slimtad

NODES = ("one", "two", "three")
LEASE = 5
CONNECTIONS = 4
CLIENTS = 3
# How long anything may take that goes on by itself: nothing is lost by waiting, and the machine may be busy.
PATIENCE = 300


def obstacle():
    try:
        binary("initdb")
    except NotReady as missing:
        return str(missing)
    return None


class Member(Slimtad):
    """A node, which remembers when its processes lived."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.lives = []

    def start(self, wait=True):
        self.lives.append(Life(time.time()))
        super().start(wait=False)
        if wait:
            self.wait_until(self.is_ready, PATIENCE, "slimtad's greeting")
        return self

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            super().kill()
            self.lives[-1].ended, self.lives[-1].is_killed = time.time(), True

    def end(self):
        status = self.term(PATIENCE)
        self.lives[-1].ended = time.time()
        if status != 0:
            raise Lost(f"{self.name} ended with {status}: {self.log[-3000:]}")

    def was_killed(self, when):
        """Whether the process that worked then was killed in the end."""
        return any(life.is_killed for life in self.lives if life.begun <= when <= life.ended)


class Cluster(Blows):
    """The nodes, their clients, one sink, and what came of it all."""

    lease, connections = LEASE, CONNECTIONS

    def __init__(self, place, seed, mutant=False):
        self.random = random.Random(seed)
        self.place = place
        self.synchronous = "optional" if mutant else "required"
        self.sink = Sink(place).start()
        self.pair = Pair(place, NODES, waits=not mutant)
        self.nodes = [self.make(name, number) for number, name in enumerate(NODES)]
        self.delivered = collections.Counter()
        self.deliveries = Deliveries(self.nodes)
        self.unwanted = collections.Counter()
        self.strange = []
        # Nodes that were cut off: from when on their lease was over, and until when.
        self.silences = []
        self.events = collections.Counter()
        Rig.latest = self

    def make(self, name, number):
        address = new_address()
        edges = [{"name": "local", "type": "smtp", "listen": [f"{address}:{SUBMISSION}"], "tls": "none", "auth": "none",
                  "trusted_networks": ["127.0.0.0/8"]}]
        node = Member(
            self.place, edges=edges, name=name,
            routes=[{"domains": ["*"], "type": "smtp", "host": f"{self.sink.address}:{MX_PORT}"}],
            queue={"retry": ["2s"], "policies": ["date", "message_id", "received", "domain_split"]},
            relay={"type": "blackhole", "port": None, "connect_timeout": None, "idle_timeout": None, "allow_networks": None,
                   "connections": CONNECTIONS},
            limits={"connections": 200, "connections_per_address": 200}, log={"level": "debug"})
        # By its name in EHLO the sink tells whose delivery it was.
        node.change(hostname=f"{name}.slimtad.test", node={"name": name})
        node.put_queue_into(
            self.pair.words(name), password_file=self.pair.write_password(node.folder), lease=f"{LEASE}s",
            commit_timeout="3s", synchronous=self.synchronous)
        node.add_user()
        node.clients = Clients(address, count=CLIENTS)
        # Numbers tell whose a message is.
        node.clients._next = number * 100_000_000
        return node

    # What came of it

    @property
    def accepted(self):
        return set().union(*(node.clients.accepted for node in self.nodes))

    def wait_until(self, condition, what, timeout=PATIENCE):
        """Raises Lost with what is known, its first line being what was waited for in vain."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            if time.monotonic() > deadline:
                raise Lost(f"{what}, in {timeout} s\n{self.tell()}")
            time.sleep(0.05)
        return result

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
        collect(self.sink, tried, self.delivered, self.strange, self.deliveries.note)

    def check(self):
        """All that was accepted has come, nothing is queued any more, copies are explained, and the ledger balances."""
        self.stop()
        self._wait_for_deliveries()
        if self.strange:
            raise Lost("; ".join(self.strange[:3]))
        self._wait_for_reasons("second copies without a reason", self.deliveries.faults)
        self._wait_for_reasons("messages that a client was to send again were delivered", self._unwanted)
        self.check_silences()
        audit = self.ask("audit")
        if not audit["clean"] or not audit["ledger"]["balanced"]:
            raise Lost(f"the audit is not clean, or the ledger not balanced: {audit}")

    def _wait_for_reasons(self, what, faults):
        """Lines of the log are written somewhat later than what they tell of happens."""
        deadline = time.monotonic() + PATIENCE / 5
        while texts := faults():
            if time.monotonic() > deadline:
                raise Lost(f"{len(texts)} {what}, such as " + "\n".join(texts[:3]))
            time.sleep(0.2)

    def _unwanted(self):
        self.unwanted, texts = collections.Counter(), []
        for node in self.nodes:
            reasons, faults = self.deliveries.unwanted(node.clients.put_off, node)
            self.unwanted += reasons
            texts += faults
        return texts

    def _wait_for_deliveries(self):
        """As long as any come."""
        deadline, before = time.monotonic() + PATIENCE, None
        while True:
            self.collect()
            missing = self.accepted - self.delivered.keys()
            queued = self.pair.ask("select count(*) from slimtad.item")
            if not missing and queued == ["0"]:
                return
            if before != (before := (len(missing), queued)):
                deadline = time.monotonic() + PATIENCE
            if time.monotonic() > deadline:
                raise Lost(self._stuck(missing, queued) + "\n" + self.tell())
            time.sleep(0.2)

    def _stuck(self, missing, queued):
        """What is wrong, in one line."""
        if queued is None:
            return "the database does not answer the rig"
        if missing:
            return (f"{len(missing)} of {len(self.accepted)} accepted are not delivered, such as {sorted(missing)[:3]}, and "
                    f"{queued[0]} messages are queued")
        kept = self.pair.ask("select bucket, id, attempts, flags, to_timestamp(due / 1000) from slimtad.item limit 3")
        return (f"all {len(self.accepted)} accepted are delivered, and {queued[0]} messages stay queued (bucket, id, attempts, "
                f"flags, due): {kept}")

    def ask(self, *words):
        done = run_slimtad(*words, "--json", "--config", self.nodes[0].configuration, timeout=PATIENCE)
        return json.loads(done.stdout) if done.returncode == OK else {"clean": False, "text": done.stderr}

    def tell(self):
        """The state of all, for who looks for a fault: nothing here may fail."""
        told = []
        for query in ("select name, incarnation, is_gone, clock_timestamp() - beat from slimtad.node",
                      "select owner, wanted, count(*) from slimtad.bucket group by 1, 2",
                      "select bucket % 256, count(*) from slimtad.item group by 1 limit 20",
                      "select pid, state, wait_event, now() - query_start, left(query, 60) from pg_stat_activity "
                      "where usename = 'mail' and state <> 'idle'",
                      "select application_name, state, sync_state from pg_stat_replication"):
            try:
                told.append(f"{query}:\n  " + "\n  ".join(self.pair.ask(query) or ["no answer"]))
            except subprocess.TimeoutExpired:
                told.append(f"{query}: no answer in time")
        for node in self.nodes:
            lines = [line for line in node.log.splitlines() if " debug " not in line and " info " not in line]
            told += [f"{node.name}:", *lines[-12:], f"{node.name}'s replies: {dict(node.clients.refusals)}"]
        return "\n".join(told)

    def finish(self):
        for node in self.nodes:
            node.end()
            if "Fatal error" in node.log or "Program crashed" in node.log:
                raise Lost(f"{node.name} has crashed: {node.log[-3000:]}")

    @property
    def progress(self):
        return (f"{sum(self.events.values())} rounds, {len(self.accepted)} recipients accepted, "
                f"{self.deliveries.copies} second copies")

    @property
    def figures(self):
        def tell(counts):
            return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))

        return (f"{len(self.accepted)} recipients accepted, 0 lost, {self.deliveries.copies} second copies "
                f"({tell(self.deliveries.explained) or 'none to explain'}), {self.unwanted.total()} delivered though the client "
                f"was to come again ({tell(self.unwanted) or 'none to explain'}); {tell(self.events)}")


def run(rounds, seed, mutant=False):
    """`rounds` blows; the text of the result. Raises Lost, and has to with the mutant, a pair that is not synchronous."""
    place = Place()
    try:
        cluster = Cluster(place, seed, mutant)
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
