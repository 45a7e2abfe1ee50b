"""A name server whose records a test changes while it answers, and that fails where it is told to."""

import threading
import time

from dnslib import MX, QTYPE, RCODE, RR, SOA, TXT, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from .machine import DNS_PORT, new_address

SERVFAIL, TIMEOUT = "SERVFAIL", "TIMEOUT"


class Zone(BaseResolver):
    """Answers for everything below `test.`, which is one zone: what it has not been told of does not exist.

    `texts[name]` is a list of texts, or SERVFAIL or TIMEOUT; `hosts[domain]` the address of its MX.
    """

    # Nothing is to be remembered: neither what is there nor, for longer than that, what is not.
    TTL = 1

    def __init__(self, place, negative=60):
        self.address = new_address()
        self.texts, self.hosts, self.asked = {}, {}, []
        self.negative = negative
        self._stopped = threading.Event()
        quiet = DNSLogger(log="-request,-reply,-truncated,-error,-recv,-send,-data", prefix=False)
        self._servers = [
            DNSServer(self, address=self.address, port=DNS_PORT, tcp=tcp, logger=quiet) for tcp in (False, True)]
        for server in self._servers:
            server.start_thread()
        place.programs.append(self)

    @property
    def server(self):
        """As slimta.conf wants it in [dns] servers."""
        return f"{self.address}:{DNS_PORT}"

    def kill(self):
        """As programs of a Place end."""
        self._stopped.set()
        for server in self._servers:
            server.stop()

    def resolve(self, request, handler):
        name, kind = str(request.q.qname).rstrip(".").lower(), QTYPE[request.q.qtype]
        self.asked.append((name, kind))
        reply = request.reply()
        reply.header.aa = 1
        texts = self.texts.get(name, [])
        if texts == SERVFAIL:
            reply.header.rcode = RCODE.SERVFAIL
            return reply
        if texts == TIMEOUT:
            # Nobody waits for it when it comes.
            self._stopped.wait(60)
            return reply
        if kind == "TXT":
            for text in texts:
                pieces = [text[place:place + 255].encode() for place in range(0, len(text), 255)]
                reply.add_answer(RR(request.q.qname, QTYPE.TXT, rdata=TXT(pieces), ttl=self.TTL))
        elif kind == "MX" and name in self.hosts:
            reply.add_answer(RR(request.q.qname, QTYPE.MX, rdata=MX(f"mx.{name}.", 10), ttl=self.TTL))
        elif kind == "A" and name.startswith("mx.") and name[3:] in self.hosts:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(self.hosts[name[3:]]), ttl=self.TTL))
        soa = RR("test.", QTYPE.SOA, ttl=self.negative, rdata=SOA(
            "ns.test.", "postmaster.test.", (int(time.time()), 3600, 600, 86400, self.negative)))
        if kind == "SOA" and name == "test":
            reply.add_answer(soa)
        if not reply.rr:
            known = texts or name == "test" or any(
                name in (domain, f"mx.{domain}") or domain.endswith(f".{name}") for domain in self.hosts) or any(
                known.endswith(f".{name}") and found for known, found in self.texts.items())
            if not known:
                reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(soa)
        return reply
