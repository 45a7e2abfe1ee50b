"""Milters: the laboratory's over libmilter, which does as the mail says; and one that does as it is told, packet by packet.

Each has `to`, as `[[milter]] to` takes it.
"""

import json
import socket
import struct
import sys
import threading

import pytest

from .acceptor import Acceptor
from .machine import ROOT, Program, must_exist, new_address

PORT = 7001
RIG = ROOT.parent / "shared" / "rigs" / "content"
HEAD = (
    b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: t\r\n"
    b"Date: Sat, 28 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n")


def do(*operations, header=b"", body=b"hello\r\n"):
    """A message with what whimmilter is to do."""
    lines = b"".join(b"X-Do: " + json.dumps(operation).encode() + b"\r\n" for operation in operations)
    return HEAD + header + lines + b"\r\n" + body


class Whim(Program):
    """whimmilter.py of the laboratory, on TCP or on a UNIX socket; skips where the laboratory is not."""

    def __init__(self, place, *options, is_local=False, name="whim"):
        super().__init__(place, name)
        self.options = options
        self.address = new_address()
        self.path = place.folder(name) / "socket" if is_local else None
        self.to = f"unix:{self.path}" if is_local else f"{self.address}:{PORT}"

    def start(self):
        if not RIG.exists():
            pytest.skip("the laboratory (shared/rigs/content) is not there")
        # python3-milter is Debian's, for its own Python.
        where = f"unix:{self.path}" if self.path else f"inet:{PORT}@{self.address}"
        self.launch([must_exist("/usr/bin/python3"), RIG / "whimmilter.py", where, *self.options])
        self.wait_until(self.listens, what="whimmilter")
        if self.path:
            self.path.chmod(0o666)
        return self

    def listens(self):
        try:
            if self.path:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(self.path))
            else:
                socket.create_connection((self.address, PORT), 1).close()
        except OSError:
            return False
        return True


class Pure(Program):
    """puremilter.py of the laboratory, which shares no code with libmilter."""

    def __init__(self, place):
        super().__init__(place, "pure")
        self.to = f"127.0.0.1:{PORT}"

    def start(self):
        if not RIG.exists():
            pytest.skip("the laboratory (shared/rigs/content) is not there")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.to = f"127.0.0.1:{port}"
        self.launch([sys.executable, RIG / "puremilter.py", port])
        self.wait_until(lambda: is_open(port), what="puremilter")
        return self


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def packet(letter, data=b""):
    return struct.pack("!I", len(data) + 1) + letter + data


class ToldMilter(Acceptor):
    """Asks `script` what to send for each packet: it gets the number of the connection, the letter and the data, and returns
    octets, None for what is usual, or raises ConnectionError to close. `letters` has what came on each connection, but for
    macros."""

    def __init__(self, script=lambda number, letter, data: None, bits=0):
        self.address = new_address()
        self.to = f"{self.address}:{PORT}"
        self.script, self.bits = script, bits
        self.letters, self.macros = [], []
        super().__init__(socket.create_server((self.address, PORT)))

    def accepted(self, number):
        self.letters.append("")

    def serve(self, number, connection):
        with connection.makefile("rb") as reader:
            while head := reader.read(4):
                octets = reader.read(int.from_bytes(head, "big"))
                letter, data = octets[:1], octets[1:]
                if letter == b"D":
                    texts = data[1:].split(b"\0")[:-1]
                    self.macros.append((data[:1], dict(zip(texts[::2], texts[1::2]))))
                else:
                    self.letters[number - 1] += letter.decode()
                said = self.script(number, letter, data)
                if said is None:
                    said = {b"O": packet(b"O", struct.pack("!III", 6, 0x1FF, self.bits)), b"D": b"", b"A": b"", b"Q": b"",
                            b"K": b""}.get(letter, packet(b"c"))
                connection.sendall(said)


class Tap(Acceptor):
    """Stands between slimtad and a milter, and keeps what slimtad says: for each connection (letter, data)."""

    def __init__(self, milter):
        self.upstream, port = milter.to.rsplit(":", 1)
        self.port = int(port)
        self.address = new_address()
        self.to = f"{self.address}:{PORT}"
        self.sessions = []
        super().__init__(socket.create_server((self.address, PORT)))

    def accepted(self, number):
        self.sessions.append([])

    def serve(self, number, client):
        with socket.create_connection((self.upstream, self.port)) as milter:
            back = threading.Thread(target=self._pump, args=(milter, client, None), daemon=True)
            back.start()
            self._pump(client, milter, self.sessions[number - 1])
            back.join()

    @staticmethod
    def _pump(source, target, kept):
        buffer = b""
        try:
            while octets := source.recv(65536):
                buffer += octets if kept is not None else b""
                while len(buffer) >= 4 and len(buffer) >= 4 + (length := int.from_bytes(buffer[:4], "big")):
                    kept.append((buffer[4:5].decode(), buffer[5:4 + length]))
                    buffer = buffer[4 + length:]
                target.sendall(octets)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if kept is not None:
            kept.append(("closed", b""))
