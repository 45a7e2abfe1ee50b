"""Postfix's smtp-sink as an MX: takes everything, and writes down each transaction."""

import dataclasses
import os
import pathlib
import signal
import socket

from .machine import DEBIAN, IS_ROOT, MX_PORT, USER, Program, new_address, wait_until

LIBRARIES = {"LD_LIBRARY_PATH": str(DEBIAN / "postfix/usr/lib/postfix")}


@dataclasses.dataclass
class Transaction:
    """What one MAIL ... DATA brought."""

    protocol: str
    helo: str
    mail: str
    rcpt: list
    content: bytes  # with LF line ends: smtp-sink writes text lines

    @property
    def sender(self):
        return self.mail.split(">")[0].lstrip("<")

    @property
    def recipients(self):
        return [argument.split(">")[0].lstrip("<") for argument in self.rcpt]


class Sink(Program):
    """smtp-sink with options of its own, such as "-r", "RCPT" (450) or "-q", "." (hangs up before the reply)."""

    def __init__(self, place, *options, address=None):
        self.address = address or new_address()
        name = f"smtp-sink-{self.address}"
        super().__init__(place, name)
        self.folder = place.path / name
        if not self.folder.exists():
            self.folder = place.folder(name)
        self.options = options

    def start(self, *options):
        """Options, if any, replace the earlier ones."""
        self.options = options or self.options
        user = ["-u", USER] if IS_ROOT else []
        self.launch(
            [DEBIAN / "postfix/usr/sbin/smtp-sink", *user, *self.options, "-d", f"{self.folder}/m.",
             f"{self.address}:{MX_PORT}", "100"],
            env=LIBRARIES,
        )
        # With "-q CONNECT" there is no greeting; smtp-sink is ready for connections as soon as it has become USER.
        ready = is_open if "CONNECT" in self.options else greets
        self.wait_until(lambda: ready(self.address, MX_PORT), what="smtp-sink's port")
        return self

    def transactions(self):
        """Those that came to their end, in no order. What smtp-sink still writes at it has open; what was broken off
        it deletes."""
        paths = sorted(self.folder.iterdir())  # before asking what is open: one that is finished meanwhile is whole
        unfinished = self._open_files()
        dumps = {path: path.read_bytes() for path in paths if path not in unfinished and path.exists()}
        # One that was broken off and begun anew, under the same name, between the two looks is not whole either.
        unfinished = self._open_files()
        return [
            parse_dump(dump) for path, dump in dumps.items()
            if path not in unfinished and path.exists() and path.stat().st_size == len(dump)]

    def kill(self):
        """SIGKILL; an unfinished dump goes as if the transaction had been broken off."""
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGSTOP)
            for path in self._open_files():
                path.unlink(missing_ok=True)
        super().kill()

    def _open_files(self):
        """Dumps that smtp-sink has open."""
        if self.process is None or self.process.poll() is not None:
            return set()
        found = set()
        for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                target = pathlib.Path(os.readlink(link))
            except FileNotFoundError:
                continue  # closed meanwhile
            if target.parent == self.folder:
                found.add(target)
        return found

    def wait_for(self, count, timeout=20.0):
        """At least `count` transactions."""
        return wait_until(
            lambda: len(found := self.transactions()) >= count and found, timeout,
            f"{count} messages at {self.name}")


def parse_dump(dump):
    """What a dump file of smtp-sink says: X- fields, smtp-sink's own Received of three lines, the content, an empty
    line."""
    head, _, rest = dump.partition(b"Received: ")
    fields = [line.split(": ", 1) for line in head.decode(errors="surrogateescape").splitlines()]
    values = dict(fields)
    content = rest.split(b"\n", 3)[3]
    assert content.endswith(b"\n"), dump
    return Transaction(
        values["X-Client-Proto"], values["X-Helo-Args"], values["X-Mail-Args"],
        [value for name, value in fields if name == "X-Rcpt-Args"], content[:-1],
    )


def is_open(address, port):
    """Whether something accepts connections there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        return client.connect_ex((address, port)) == 0


def greets(address, port):
    """Whether an SMTP server says 220 there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect((address, port))
            return client.recv(512).startswith(b"220")
        except OSError:
            return False
