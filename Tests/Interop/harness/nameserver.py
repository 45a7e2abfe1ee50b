"""unbound as the name server of a test: answers from its own data and nothing else."""

import socket

from .machine import DEBIAN, DNS_PORT, IS_ROOT, USER, Program, new_address


class NameServer(Program):
    """Answers for the domains that it was told of; everything else below .test does not exist.

    The records can be changed: the next answers are the new ones.
    """

    def __init__(self, place):
        super().__init__(place, "unbound")
        self.address = new_address()
        self.folder = place.folder("unbound")
        self.records = []

    @property
    def server(self):
        """As slimta.conf wants it in [dns] servers."""
        return f"{self.address}:{DNS_PORT}"

    def add(self, record):
        """A record in zone file form: `one.test. 60 IN MX 10 mx.one.test.`"""
        self.records.append(record)

    def add_mx(self, domain, *addresses):
        """A domain with one MX per address, in this order of preference."""
        for number, address in enumerate(addresses):
            host = f"mx{number}.{domain}."
            self.add(f"{domain}. 1 IN MX {10 * (number + 1)} {host}")
            self.add(f"{host} 1 IN {'AAAA' if ':' in address else 'A'} {address}")

    def start(self):
        configuration = self.folder / "unbound.conf"
        data = "\n".join(f"    local-data: '{record}'" for record in self.records)
        configuration.write_text(
            f"""server:
    interface: {self.server.replace(':', '@')}
    access-control: 127.0.0.0/8 allow
    username: "{USER if IS_ROOT else ''}"
    chroot: ""
    directory: "{self.folder}"
    pidfile: ""
    use-syslog: no
    verbosity: 1
    num-threads: 1
    module-config: "iterator"
    do-daemonize: no
    local-zone: "test." static
    local-zone: "." refuse
{data}
remote-control:
    control-enable: no
"""
        )
        self.launch([DEBIAN / "unbound/usr/sbin/unbound", "-d", "-c", configuration])
        self.wait_until(self._answers, what="unbound's answer")
        return self

    def restart(self):
        """With the records that were added or taken away since."""
        self.kill()
        self.start()

    def _answers(self):
        # A query for the SOA of test., by hand: id 1, recursion desired, one question.
        query = bytes.fromhex("000101000001000000000000") + b"\x04test\x00" + bytes.fromhex("00060001")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.2)
            try:
                client.sendto(query, (self.address, DNS_PORT))
                return len(client.recv(512)) >= 12
            except OSError:
                return False
