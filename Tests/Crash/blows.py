"""What happens to the nodes and servers of nodes.py. Each blow is a generator: what is done before its `yield` is undone after
it, so that another one may fall in between.
"""

import signal
import time

from ledger import Lost


class Blows:
    """Of a cluster: it has `nodes`, the `pair`, `random`, `events`, `accepted`, `deliveries` and `wait_until`."""

    # Nodes

    def kill_node(self):
        node = self.random.choice(self.nodes)
        node.kill()
        yield
        time.sleep(self.random.random() * self.random.choice([0.2, 1.5 * self.lease]))
        node.start()

    def stop_node(self):
        """Longer than its lease, or shorter."""
        node = self.random.choice(self.nodes)
        node.signal(signal.SIGSTOP)
        yield
        time.sleep(self.random.choice([0.5, 2.5 * self.lease]))
        node.signal(signal.SIGCONT)

    def end_node(self):
        node = self.random.choice(self.nodes)
        node.end()
        yield
        node.start()

    def cut_node(self):
        """Off from both servers, for less than its lease."""
        ways = self.pair.ways(self.random.choice(self.nodes).name)
        self._break(ways)
        yield
        time.sleep(self.random.random() * self.lease / 2)
        self.pair.links.heal(*ways)

    def isolate_node(self):
        """The same until the others have all that it had: it says 451, and begins no attempt when its lease is over."""
        node = self.random.choice(self.nodes)
        ways = self.pair.ways(node.name)
        self._break(ways)
        cut, before, refused = time.time(), set(node.clients.accepted), node.clients.refusals["451 4.3.0"]
        yield
        self.wait_until(
            lambda: node.clients.refusals["451 4.3.0"] > refused + 10,
            f"{node.name} is cut off from the database, and refuses no mail")
        # It may have just begun, and own nothing yet.
        text = ("select is_gone and not exists (select from slimtad.bucket where owner is null or owner = name) "
                f"from slimtad.node where name = '{node.name}'")
        self.wait_until(
            lambda: self.pair.ask(text) == ["t"], f"the other nodes do not take what {node.name} had, which is cut off")
        self._demand_nothing(node.clients.accepted - before, [node], f"{node.name} was cut off from the database")
        self.silences.append((node.name, cut + self.lease, time.time()))
        joined = node.log.count(" joined the nodes of the queue")
        self.pair.links.heal(*ways)
        self.wait_until(
            lambda: node.log.count(" joined the nodes of the queue") > joined, f"{node.name} does not come back to the others")

    # Servers

    def kill_primary(self):
        self.pair.primary.kill()
        yield
        time.sleep(self.random.random() * 2)
        self.pair.primary.boot()

    def stop_primary(self):
        self.pair.primary.signal_all(signal.SIGSTOP)
        yield
        time.sleep(self.random.choice([0.5, 6]))
        self.pair.primary.signal_all(signal.SIGCONT)

    def kill_standby(self):
        """Nothing is confirmed without it."""
        self.pair.standby.kill()
        before = self.accepted
        yield
        time.sleep(self.random.random() * 4)
        self._demand_nothing(self.accepted - before, self.nodes, "there was no standby")
        self.pair.standby.boot()

    def cut_standby(self):
        """Nor without the way to it."""
        way = self.pair.wal
        self._break([way])
        before = self.accepted
        yield
        time.sleep(self.random.choice([1, 6]))
        self._demand_nothing(self.accepted - before, self.nodes, "the standby was cut off")
        self.pair.links.heal(way)

    def stop_link(self):
        """One of them says nothing for a while."""
        way = self.random.choice([*self.pair.ways(*(node.name for node in self.nodes)), self.pair.wal])
        self.pair.links.stop(way)
        yield
        time.sleep(self.random.choice([0.5, 2, 6]))
        self.pair.links.heal(way)

    def fail_over(self):
        """The primary dies, the standby takes its place, and the dead one becomes its standby."""
        self.pair.primary.kill()
        self.pair.promote()
        yield
        self.pair.renew()

    def cut_primary(self):
        """It is cut off from all, the standby takes its place, and then it is there again and thinks that it is the primary: of
        what it is told it may acknowledge nothing. Nor may the new one, which has no standby yet."""
        ways = [*self.pair.to_primary, self.pair.wal]
        self._break(ways)
        before = self.accepted
        time.sleep(self.random.choice([0, 2, 6]))
        self.pair.promote()
        time.sleep(self.random.choice([0, 4]))
        self.pair.links.heal(*ways)
        yield
        time.sleep(self.random.choice([1, 6]))
        self._demand_nothing(self.accepted - before, self.nodes, "there was a primary that had been promoted away from")
        self.pair.renew()

    # Which, and when

    LEASE_KEPT = ["kill_node", "kill_node", "stop_node", "end_node"]
    CUTS = ["cut_node", "isolate_node"]
    SERVERS = ["kill_primary", "stop_primary", "kill_standby", "cut_standby", "fail_over"]
    WAYS = ["stop_link", "cut_primary"]

    def round(self):
        """One blow, or one that falls on a server within one that falls on a node, or the other way round."""
        wanted = len(self.accepted) + self.random.randrange(1, 80)
        self.wait_until(lambda: len(self.accepted) >= wanted, "nothing is accepted any more")
        kind = self.random.randrange(8)
        if kind < 3:
            names = [self.random.choice(self.LEASE_KEPT + self.CUTS)]
        elif kind < 6:
            names = [self.random.choice(self.SERVERS + self.WAYS)]
        elif kind < 7:
            # Both would stop and heal the same links, or wait for what the other one keeps from happening.
            names = [self.random.choice(self.CUTS), self.random.choice(self.SERVERS)]
        else:
            names = [self.random.choice(self.LEASE_KEPT), self.random.choice(self.SERVERS + self.WAYS)]
            self.random.shuffle(names)
        self.events[" with ".join(names)] += 1
        blows = [getattr(self, name)() for name in names]
        for blow in blows:
            next(blow)
        for blow in reversed(blows):
            next(blow, None)

    def _break(self, ways):
        """By silence, or by resets."""
        self.random.choice([self.pair.links.stop, self.pair.links.cut])(*ways)

    def _demand_nothing(self, accepted, nodes, why):
        """Each client may still get the answer to what it had sent before."""
        numbers = {number for number, _ in accepted}
        clients = sum(node.clients.count for node in nodes)
        if len(numbers) > clients:
            raise Lost(f"{len(numbers)} messages of {clients} clients were accepted while {why}\n{self.tell()}")

    def check_silences(self):
        """A node whose lease is over ends what it has begun, and begins nothing."""
        for name, begun, ended in self.silences:
            found = [when for found in self.deliveries.found.values() for node, when in found
                     if node == name and begun <= when <= ended]
            if len(found) > self.connections:
                raise Lost(f"{name} has made {len(found)} deliveries after its lease, while it was cut off")
        self.silences = []
