"""aiosmtpd as an MX: keeps every octet of what it gets, and answers as a test wants it to.

For what smtp-sink and Postfix cannot do: line ends kept as they came, a reply that changes from one attempt to the
next, SMTPUTF8 switched on or off.
"""

import dataclasses
import ssl
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from .machine import MX_PORT, new_address, wait_until


@dataclasses.dataclass
class Received:
    """One message, as it was on the wire behind the undoing of dot-stuffing."""

    sender: str
    recipients: list
    mail_options: list
    content: bytes
    tls: str  # the protocol version, empty in clear


class PythonMX:
    """An MX in a thread of this process.

    `answers` are replies by verb ("MAIL", "RCPT", "DATA" for the end of the data): each is used once, in this order,
    then it is 250 again. A callable gets (server, envelope, address or None) and returns the reply.
    """

    def __init__(self, place, certificate=None, smtputf8=True, size=None):
        self.address = new_address()
        self.answers = {"MAIL": [], "RCPT": [], "DATA": []}
        self.messages = []
        self.commands = []
        self._lock = threading.Lock()
        self._controller = None
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.chain, certificate.key)
        self._smtputf8 = smtputf8
        self._size = size
        place.programs.append(self)

    def start(self):
        self._controller = _Controller(
            self, hostname=self.address, port=MX_PORT, enable_SMTPUTF8=self._smtputf8, tls_context=self._tls,
            data_size_limit=self._size, ident="MX", server_hostname="mx.test",
        )
        self._controller.start()
        return self

    def kill(self):
        if self._controller:
            self._controller.stop()
            self._controller = None

    def wait_for(self, count, timeout=20.0):
        """At least `count` messages."""
        return wait_until(
            lambda: len(self.messages) >= count and list(self.messages), timeout, f"{count} messages at aiosmtpd")

    # What aiosmtpd calls: the names are its own.

    async def handle_MAIL(self, server, session, envelope, address, options):
        reply = self._answer("MAIL", server, envelope, address)
        if reply.startswith("250"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return reply

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = self._answer("RCPT", server, envelope, address)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        reply = self._answer("DATA", server, envelope, None)
        if reply.startswith("250"):
            tls = session.ssl["ssl_object"].version() if session.ssl else ""
            message = Received(
                envelope.mail_from, list(envelope.rcpt_tos), list(envelope.mail_options), envelope.original_content, tls)
            with self._lock:
                self.messages.append(message)
        return reply

    def _answer(self, verb, server, envelope, address):
        with self._lock:
            self.commands.append((verb, address))
            answer = self.answers[verb].pop(0) if self.answers[verb] else "250 2.0.0 Ok"
        return answer(server, envelope, address) if callable(answer) else answer


class _Server(SMTP):
    # aiosmtpd's default refuses text lines above 1001 octets; what arrives is to be seen, not judged.
    line_length_limit = 1 << 20


class _Controller(Controller):
    def factory(self):
        return _Server(self.handler, **self.SMTP_kwargs)
