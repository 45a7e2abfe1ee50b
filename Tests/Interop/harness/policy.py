"""Policy servers for slimtad to ask: real ones from the unpacked packages (.ci/deps), and one that does as it is told.

Each has `to`, as `[[policy_service]] to` takes it.
"""

import os
import pathlib
import signal
import socket
import socketserver
import threading

from .machine import DEBIAN, DNS_PORT, GROUP, USER, Program, new_address, wait_until

PORT = 10040


def is_open(place):
    """Whether somebody listens at (address, port), or at a path."""
    kind = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(kind) as client:
        return client.connect_ex(place) == 0


class Postfwd(Program):
    """postfwd1 with `rules`, each a line of its own language."""

    def __init__(self, place, *rules):
        super().__init__(place, "postfwd")
        self.address = new_address()
        self.to = f"{self.address}:{PORT}"
        self.rules = place.folder("postfwd") / "rules"
        self.rules.write_text("\n".join(rules) + "\n")
        self.pidfile = self.rules.with_name("pid")
        self.pid = None

    def start(self):
        """It goes into the background by itself: `process` is only what starts it."""
        self.launch([
            "perl", "-T", DEBIAN / "postfwd/usr/sbin/postfwd1", "--daemon", "--nodns", "--file", self.rules,
            "--interface", self.address, "--port", PORT, "--pidfile", self.pidfile, "--user", USER, "--group", GROUP])
        assert self.wait() == 0, self.log
        wait_until(lambda: is_open((self.address, PORT)), what="postfwd's port")
        self.pid = int(self.pidfile.read_text())
        return self

    def kill(self):
        super().kill()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = None


class RateLimit(Program):
    """policyd-rate-limit on a UNIX socket: `count` recipients a minute for each login."""

    def __init__(self, place, count):
        super().__init__(place, "policyd-rate-limit")
        self.folder = place.folder("policyd-rate-limit")
        self.socket = str(self.folder / "policy.sock")
        self.to = f"unix:{self.socket}"
        self.configuration = self.folder / "policyd-rate-limit.yaml"
        self.configuration.write_text(f"""\
debug: True
user: "{USER}"
group: "{GROUP}"
pidfile: "{self.folder}/pid"
sqlite_config:
    database: "{self.folder}/db.sqlite3"
backend: 0
SOCKET: "{self.socket}"
socket_permission: 0666
limits:
    - [{count}, 60]
limits_by_id: {{}}
limit_by_sasl: True
limit_by_sender: False
limit_by_ip: False
limited_networks: []
success_action: "dunno"
fail_action: "defer_if_permit Rate limit reach, retry later"
db_error_action: "dunno"
report: False
delay_to_close: 300
""")

    def start(self):
        package = DEBIAN / "policyd-rate-limit/usr"
        self.launch(
            ["/usr/bin/python3", package / "bin/policyd-rate-limit", "--file", self.configuration],
            env={"PYTHONPATH": str(package / "lib/python3/dist-packages")})
        self.wait_until(lambda: is_open(self.socket), what="policyd-rate-limit's socket")
        return self


# The program itself, asking the harness's name server instead of the machine's.
SPF_PROGRAM = """\
import sys
import DNS
DNS.defaults.update(server=[{nameserver!r}], port={port})
sys.argv = ["policyd-spf", {configuration!r}]
from spf_engine.policyd_spf import main
main()
"""


class SPFPolicy(Program):
    """policyd-spf, which speaks on its standard input: socat starts one for each connection to a UNIX socket."""

    def __init__(self, place, nameserver):
        super().__init__(place, "policyd-spf")
        folder = place.folder("policyd-spf")
        self.socket = str(folder / "spf.sock")
        self.to = f"unix:{self.socket}"
        configuration = folder / "policyd-spf.conf"
        configuration.write_text(
            "debugLevel = 1\nTestOnly = 1\nHELO_reject = False\nMail_From_reject = Fail\nPermError_reject = False\n"
            "TempError_Defer = True\nskip_addresses = 192.0.2.0/24\n")
        self.program = folder / "policyd-spf.py"
        self.program.write_text(SPF_PROGRAM.format(
            nameserver=nameserver.address, port=DNS_PORT, configuration=str(configuration)))

    def start(self):
        self.launch([
            "socat", f"UNIX-LISTEN:{self.socket},fork,mode=666", f"EXEC:/usr/bin/python3 {self.program}"])
        self.wait_until(lambda: pathlib.Path(self.socket).exists(), what="socat's socket")
        return self


class ToldPolicy:
    """A policy server that keeps what it is asked, and does with each request what `deed(request)` says.

    A request is a dictionary. A deed is an action ("DUNNO"), octets that are sent as they are, or one of HANG, CLOSE and
    ENDLESS.
    """

    HANG, CLOSE, ENDLESS = "(hang)", "(close)", "(endless)"

    def __init__(self, place, deed="DUNNO"):
        self.address = new_address()
        self.to = f"{self.address}:{PORT}"
        self.deed = deed if callable(deed) else lambda _: deed
        self.requests, self.connections = [], 0
        self.server = None
        place.programs.append(self)

    def start(self):
        told = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                told.connections += 1
                while request := self.read():
                    told.requests.append(request)
                    deed = told.deed(request)
                    if deed == told.CLOSE:
                        return
                    if deed == told.HANG:
                        self.rfile.read()
                        return
                    try:
                        while deed == told.ENDLESS:
                            self.wfile.write(b"x" * 65536)
                        self.wfile.write(deed if isinstance(deed, bytes) else f"action={deed}\n\n".encode())
                    except OSError:
                        return

            def read(self):
                request = {}
                try:
                    for line in self.rfile:
                        if line == b"\n":
                            return request
                        name, _, value = line.decode().rstrip("\n").partition("=")
                        request[name] = value
                except OSError:
                    pass
                return None

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server((self.address, PORT), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def kill(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
