"""spamd of SpamAssassin from the unpacked packages (.ci/deps), without network; and one that does as it is told.

Each has `to`, as `[spamassassin] to` takes it.
"""

import shutil
import socket

from .acceptor import Acceptor
from .machine import DEBIAN, GROUP, USER, Program, give, new_address

PORT = 7830
SETTINGS = """\
use_bayes 0
skip_rbl_checks 1
use_razor2 0
use_pyzor 0
required_score 5
dns_available no
"""


class Spamd(Program):
    """The real one, on TCP, or with `is_local` on a UNIX socket."""

    def __init__(self, place, is_local=False):
        super().__init__(place, "spamd")
        self.folder = place.folder("spamd")
        self.address = new_address()
        self.path = self.folder / "socket"
        self.is_local = is_local
        self.to = f"unix:{self.path}" if is_local else f"{self.address}:{PORT}"
        self.site = self.folder / "site"
        self.site.mkdir()
        for file in (DEBIAN / "spamassassin/etc/spamassassin").glob("*.pre"):
            shutil.copy(file, self.site)
        (self.site / "local.cf").write_text(SETTINGS)
        (self.folder / "home").mkdir()
        for path in [self.site, self.folder / "home", *self.site.iterdir()]:
            give(path)

    def start(self):
        listen = [f"--socketpath={self.path}", "--socketmode=0666"] if self.is_local else [
            f"--listen={self.address}:{PORT}"]
        self.launch([
            "/usr/bin/perl", "-T", f"-I{DEBIAN}/spamassassin/usr/share/perl5", DEBIAN / "spamd/usr/sbin/spamd", "--local",
            "--nouser-config", f"--configpath={DEBIAN}/spamassassin/usr/share/spamassassin",
            f"--siteconfigpath={self.site}", f"--helper-home-dir={self.folder}/home", "--max-children=1",
            "--min-children=1", f"--username={USER}", f"--groupname={GROUP}", f"--pidfile={self.folder}/pid",
            "--syslog=stderr", *listen])
        self.wait_until(lambda: "server started" in self.log, timeout=60, what="spamd")
        return self


class FakeSpamd(Acceptor):
    """Gives each connection to `told`, in a thread of its own."""

    def __init__(self, told):
        self.address = new_address()
        self.to = f"{self.address}:{PORT}"
        self.told = told
        super().__init__(socket.create_server((self.address, PORT)))

    def serve(self, number, connection):
        self.told(connection)


def read_all(connection):
    """What comes until the other side has no more to say."""
    octets = b""
    while part := connection.recv(65536):
        octets += part
    return octets

