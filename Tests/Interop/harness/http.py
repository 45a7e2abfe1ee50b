"""HTTP on raw octets: what no library would send, and every octet of what comes back."""

import base64
import socket

from .slimtad import LOGIN, PASSWORD

PATH = "/"
PORT = 8025


def edge(slimtad, **more):
    """An [[edge]] that speaks HTTP on the daemon's own address, where this machine needs no AUTH."""
    return {"name": "http", "type": "http", "listen": [f"{slimtad.address}:{PORT}"], "tls": "none", "auth": "none"} | more


def with_edge(slimtad, **more):
    """The daemon, which does not run yet, with such an edge."""
    slimtad.settings["edge"].append(edge(slimtad, **more))
    slimtad.change()
    return slimtad


def encoded(address):
    return base64.b64encode(address.encode()).decode()


def basic(login=LOGIN, password=PASSWORD):
    return "Basic " + encoded(f"{login}:{password}")


def envelope(recipients=("someone@one.test",), sender="sender@origin.test"):
    """The fields of an envelope."""
    return [("X-Envelope-Sender", encoded(sender)), *(("X-Envelope-Recipient", encoded(name)) for name in recipients)]


def request(content, fields=None, method="POST", target=PATH, host="mail.slimtad.test", **more):
    """A request as octets, with Content-Length unless the fields say how the body is framed."""
    fields = [("Host", host), *(envelope() if fields is None else fields), *((k.replace("_", "-"), v) for k, v in more.items())]
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in fields):
        fields.append(("Content-Length", str(len(content))))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content


class Answer:
    """One answer: `status`, `fields` with names in lower case, `body`, and `octets`, the whole."""

    def __init__(self, octets, head, body):
        self.octets = octets
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, _ = lines[0].split(" ", 2)
        self.status = int(status)
        self.fields = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            assert name.lower() not in self.fields, line
            self.fields[name.lower()] = value
        self.body = body

    @property
    def reply(self):
        return self.fields["x-smtp-reply"]


class HTTP:
    """A connection: TCP, or to a UNIX socket if `port` is None."""

    def __init__(self, address, port=PORT, context=None, source=None, timeout=15):
        if port is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(address))
        else:
            self.socket = socket.create_connection(
                (address, port), timeout, (source, 0) if source else None)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=address)
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, octets):
        self.socket.sendall(octets)
        return self

    def _more(self):
        octets = self.socket.recv(65536)
        self.unread += octets
        return bool(octets)

    def answer(self):
        """The next answer; None if the connection has ended before it."""
        while b"\r\n\r\n" not in self.unread:
            if not self._more():
                assert not self.unread, self.unread
                return None
        head, _, rest = self.unread.partition(b"\r\n\r\n")
        answer = Answer(head + b"\r\n\r\n", head, b"")
        length = int(answer.fields.get("content-length", "0"))
        while len(rest) < length:
            assert self._more(), "the answer was cut"
            rest = self.unread.partition(b"\r\n\r\n")[2]
        answer.body, self.unread = rest[:length], rest[length:]
        answer.octets += answer.body
        return answer

    def ask(self, octets):
        return self.send(octets).answer()

    def is_closed(self):
        """Whether the server ends the connection without another octet."""
        try:
            return not self.unread and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
