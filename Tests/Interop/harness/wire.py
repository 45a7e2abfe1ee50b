"""SMTP by hand on a socket, for what well-behaved clients cannot say; and dialogs from files.

A dialog file is a list of lines:

    # comment
    edge submissions          connect to that edge (default: submission)
    tls                       the client's TLS handshake
    login                     AUTH PLAIN with the harness's user, which must succeed
    C: text                   a line of the client, sent with CRLF; \\r \\n \\t \\x00 \\\\ as in Python
    c: text                   the same without CRLF
    S: pattern                a line of the server; * stands for any text
    S? pattern                one whole reply, all lines of which must match
    has WORD...               the last S? reply, EHLO's, named these keywords; `hasnot WORD...`: none of these
    quiet                     the server must have nothing to say for a moment
    closed                    the server must close the connection, with nothing more to read

Lines of the client that follow each other are sent in one segment.
"""

import base64
import re
import select
import socket

from .machine import SUBMISSION, SUBMISSIONS
from .slimtad import LOGIN, PASSWORD

TIMEOUT = 15


class Wire:
    """One connection. Replies are read by line; nothing is ever read past them before a handshake."""

    def __init__(self, address, port, certificate=None, source=None):
        self.certificate = certificate
        own = (source, 0) if source else None
        self.socket = socket.create_connection((address, port), timeout=TIMEOUT, source_address=own)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.transcript = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def tls(self):
        assert not self.buffer, f"left over before TLS: {self.buffer!r}"
        self.socket = self.certificate.trusting_context().wrap_socket(self.socket)

    def send(self, octets):
        self.transcript.append(f"C: {octets[:300]!r}")
        self.socket.sendall(octets)

    def line(self):
        """The next line, without CRLF. An end of the connection or a bare LF is an error here."""
        while b"\r\n" not in self.buffer:
            octets = self.socket.recv(65536)
            if not octets:
                raise ConnectionError(f"closed after {self.buffer!r}\n{self}")
            self.buffer += octets
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        assert b"\n" not in line, line
        line = line.decode("utf-8")
        self.transcript.append(f"S: {line}")
        return line

    def reply(self):
        """The lines of one reply, which must be well-formed: same code, "-" on all but the last."""
        lines = [self.line()]
        while re.match(r"\d{3}-", lines[-1]):
            lines.append(self.line())
        codes = {line[:3] for line in lines}
        assert len(codes) == 1 and re.match(r"[2-5]\d\d( |$)", lines[-1]), lines
        return lines

    def code(self):
        return int(self.reply()[-1][:3])

    def ask(self, command):
        """Sends a line, and returns the last line of the reply."""
        self.send(command.encode() if isinstance(command, str) else command)
        self.send(b"\r\n")
        return self.reply()[-1]

    def ehlo(self, name="client.test"):
        """The keywords with their parameters."""
        self.send(f"EHLO {name}\r\n".encode())
        lines = self.reply()
        assert lines[0].startswith("250"), lines
        return {line[4:].split(" ")[0].upper(): line[4:].split(" ")[1:] for line in lines[1:]}

    def login(self, login=LOGIN, password=PASSWORD):
        reply = self.ask("AUTH PLAIN " + plain(login, password))
        assert reply.startswith("235 2.7.0 "), reply

    def is_quiet(self, seconds=0.3):
        pending = getattr(self.socket, "pending", lambda: 0)()
        return not self.buffer and not pending and not select.select([self.socket], [], [], seconds)[0]

    def is_closed(self):
        """Reads to the end of the connection, which must come, with nothing before it."""
        try:
            octets = self.buffer + self.socket.recv(65536)
        except ConnectionResetError:
            octets = self.buffer
        assert not octets, f"still talks: {octets!r}\n{self}"
        return True

    def __str__(self):
        return "\n".join(self.transcript)


def plain(login=LOGIN, password=PASSWORD):
    return base64.b64encode(f"\0{login}\0{password}".encode()).decode()


def submission(slimtad, login=True):
    """A connection after STARTTLS, EHLO and, unless told otherwise, AUTH."""
    wire = Wire(slimtad.address, SUBMISSION, slimtad.certificate)
    assert wire.code() == 220
    wire.ehlo()
    assert wire.ask("STARTTLS").startswith("220 ")
    wire.tls()
    wire.ehlo()
    if login:
        wire.login()
    return wire


def play(path, slimtad):
    """Plays a dialog file against slimtad; an AssertionError shows file, line and what was said so far."""
    lines = path.read_text(encoding="utf-8").splitlines()
    edge = next((line.split()[1] for line in lines if line.startswith("edge ")), "submission")
    port = {"submission": SUBMISSION, "submissions": SUBMISSIONS}[edge]
    with Wire(slimtad.address, port, slimtad.certificate) as wire:
        pending, keywords = b"", []
        for number, line in enumerate(lines, 1):
            if line.startswith(("C: ", "c: ")) or line == "C:":
                pending += unescape(line[3:]) + (b"\r\n" if line[0] == "C" else b"")
                continue
            if pending:
                wire.send(pending)
                pending = b""
            try:
                keywords = _step(wire, line, keywords)
            except (AssertionError, OSError) as error:
                raise AssertionError(f"{path.name}:{number}: {line}\n{error}\n\n{wire}") from None
        assert not pending, f"{path.name} ends with a line of the client: what is to be seen?"


def _step(wire, line, keywords):
    word, _, rest = line.partition(" ")
    match word:
        case "" | "#" | "edge":
            pass
        case "tls":
            wire.tls()
        case "login":
            wire.login()
        case "S:":
            said = wire.line()
            assert matches(said, rest), f"said: {said}"
        case "S?":
            keywords = wire.reply()
            for said in keywords:
                assert matches(said, rest), f"said: {said}"
        case "has" | "hasnot":
            offered = {said[4:].split(" ")[0].upper() for said in keywords[1:]}
            for keyword in rest.split():
                assert (keyword in offered) == (word == "has"), f"offered: {sorted(offered)}"
        case "quiet":
            assert wire.is_quiet(), f"said: {wire.line()}"
        case "closed":
            wire.is_closed()
        case _:
            raise AssertionError("no such step")
    return keywords


def matches(line, pattern):
    """fnmatch without its brackets: only * is special."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), line) is not None


def unescape(text):
    return re.sub(
        rb"\\(x[0-9a-fA-F]{2}|[rnt\\])",
        lambda found: {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}.get(found[1]) or bytes([int(found[1][1:], 16)]),
        text.encode("utf-8"),
    )
