"""A real HAProxy in front of slimtad, from the unpacked package (.ci/deps).

It connects from an address of its own, by which slimtad knows it.
"""

import csv
import io
import socket

from .machine import DEBIAN, Program, new_address

HAPROXY = DEBIAN / "haproxy/usr/sbin/haproxy"
CONFIGURATION = """\
global
    log stdout format raw daemon
    stats socket {folder}/stats.sock level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 2s
    log global
"""


class HAProxy(Program):
    """Ports by name, each of which goes to one server with the options of its `server` line.

    `listen(name, port, server, options, lines, bind)`: `server` is "address:port", `lines` are more lines of the section,
    `bind` what is behind the address, such as "ssl crt FILE".
    """

    def __init__(self, place, name="haproxy"):
        super().__init__(place, name)
        self.address = new_address()
        self.folder = place.folder(name)
        self.sections = []
        self.ports = []

    def listen(self, name, port, server, options="", lines=(), bind=""):
        self.ports.append(port)
        self.sections.append("\n".join([
            f"listen {name}",
            f"    bind {self.address}:{port} {bind}",
            *(f"    {line}" for line in lines),
            f"    server one {server} source {self.address} {options}",
            "",
        ]))

    def start(self):
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(folder=self.folder) + "\n".join(self.sections))
        self.launch([HAPROXY, "-db", "-f", configuration])
        self.wait_until(lambda: all(self.is_open(port) for port in self.ports), what="HAProxy's ports")
        return self

    def is_open(self, port):
        with socket.socket() as client:
            return client.connect_ex((self.address, port)) == 0

    def server(self, name):
        """What HAProxy knows of the server behind a port: status, check_status, and more."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.folder / "stats.sock"))
            client.sendall(b"show stat\n")
            text = b""
            while octets := client.recv(65536):
                text += octets
        for row in csv.DictReader(io.StringIO(text.decode().removeprefix("# "))):
            if row["pxname"] == name and row["svname"] == "one":
                return row
        raise KeyError(name)
