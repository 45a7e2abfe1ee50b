"""A synchronous pair of PostgreSQL servers for nodes.py: killed, stopped, promoted, and cut off from each other and from the
nodes. All ways to a server lead through links; only the rig itself looks past them.
"""

import os
import pathlib
import shutil
import signal
import time

from ledger import Lost, NotReady, give, new_address
from harness.link import Links
from harness.machine import free_ports
from harness.postgres import Postgres

SETTINGS = {
    "max_connections": "150", "hot_standby": "on", "wal_receiver_timeout": "3s",
    "wal_sender_timeout": "5s",
}
PASSWORD = "of nodes and servers"


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
        for _ in range(100):
            try:
                return self.start()
            except NotReady:
                time.sleep(0.1)
        raise Lost(f"server {self.name} does not start again: {self.log[-2000:]}")

    def promote(self):
        self._run("pg_ctl", "promote", "-D", self.data, "-w", "-t", "150")


class Pair:
    """Who is primary and who follows, and the links: from each of `nodes` to each server, from the standby to its primary.
    With `waits` False the primary confirms what the standby does not have yet."""

    def __init__(self, place, nodes, waits=True):
        self.nodes = nodes
        self.links = Links(place).start()
        settings = {**SETTINGS, "synchronous_standby_names": "*" if waits else ""}
        self.primary, self.standby = (Server(place, name, address=new_address(), **settings) for name in ("a", "b"))
        self._ways = {}
        for server in (self.primary, self.standby):
            other = self.standby if server is self.primary else self.primary
            for source in (*nodes, other.name):
                way = new_address(), free_ports(1)[0]
                self._ways[f"{source}-{server.name}"] = way
                self.links.add(f"{source}-{server.name}", way, (server.address, server.port))
        self.primary.start()
        self.primary.sql(f"set synchronous_commit = local; create role follower login replication password '{PASSWORD}'")
        self._join(self.standby)
        self.primary.add_database("queue", "mail", password=PASSWORD)

    def words(self, node):
        """How a node finds its database."""
        hosts, ports = zip(*(self._ways[f"{node}-{name}"] for name in ("a", "b")))
        return f"host={','.join(hosts)} port={','.join(map(str, ports))} dbname=queue user=mail"

    def write_password(self, folder):
        path = folder / "database-password"
        path.write_text(PASSWORD + "\n")
        path.chmod(0o600)
        give(path)
        return str(path)

    def ways(self, *nodes):
        """The names of the links of these nodes to both servers."""
        return [f"{node}-{name}" for node in nodes for name in ("a", "b")]

    @property
    def wal(self):
        """The link by which the standby follows."""
        return f"{self.standby.name}-{self.primary.name}"

    @property
    def to_primary(self):
        """The links of all nodes to the primary."""
        return [f"{node}-{self.primary.name}" for node in self.nodes]

    def _join(self, standby):
        host, port = self._ways[self.wal]
        standby.follow(
            self.primary, f"host={host} port={port} user=follower password='{PASSWORD}' connect_timeout=3")
        standby.start()

    def promote(self):
        """The standby is the primary from now on; what the old one is, the caller knows."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def renew(self):
        """What was primary before becomes a new standby, whatever it was."""
        self.standby.kill()
        shutil.rmtree(self.standby.data)
        self._join(self.standby)

    def ask(self, text):
        """The rows that the primary answers with, as the rig itself sees them; None if it does not answer."""
        try:
            return self.primary.sql(text, "queue").splitlines()
        except NotReady:
            return None
