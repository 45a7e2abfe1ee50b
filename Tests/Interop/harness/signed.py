"""A signed root zone on unbound, a resolver that validates it, and programs that see both: for DANE.

slimtad believes the keys of /usr/share/dns/root.key, posttls-finger the resolver of /etc/resolv.conf. Both see others there, in
a mount namespace of their own: for root alone.
"""

import hashlib
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .machine import DEBIAN, DNS_PORT, IS_ROOT, USER, Program, must_exist, new_address

ANCHOR = "/usr/share/dns/root.key"

CONFIGURATION = """server:
    interface: {address}@{port}
    access-control: 127.0.0.0/8 allow
    username: "{user}"
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    verbosity: 1
    num-threads: 1
    do-daemonize: no
    do-not-query-localhost: no
    do-ip6: no
{more}
remote-control:
    control-enable: no
"""


def tlsa(certificate, usage=3):
    """The record's data that names this certificate's key."""
    loaded = x509.load_pem_x509_certificate(certificate.chain.read_bytes())
    key = loaded.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"{usage} 1 1 {hashlib.sha256(key).hexdigest()}"


class SignedZones(Program):
    """The root, with everything that `add` was told of in it, and below it `unsigned.`, which is not signed."""

    def __init__(self, place, name="signed"):
        if not IS_ROOT:
            pytest.skip("another trust anchor takes a mount namespace, and that takes root")
        super().__init__(place, name)
        self.place, self.folder = place, place.folder(name)
        self.address, self.anchor = new_address(), self.folder / "root.key"
        self.records, self.unsigned = [], []

    @property
    def server(self):
        """As slimta.conf wants it in [dns] servers."""
        return f"{self.address}:{DNS_PORT}"

    def add(self, record):
        zone = self.unsigned if record.split()[0].endswith("unsigned.") else self.records
        zone.append(record)

    def add_mx(self, domain, host, address, *records, port):
        """A domain with one exchanger, and the TLSA records of that."""
        self.add(f"{domain}. 60 IN MX 10 {host}.")
        self.add(f"{host}. 60 IN A {address}")
        for record in records:
            self.add(f"_{port}._tcp.{host}. 60 IN TLSA {record}")

    def start(self):
        head = ["{name} 60 IN SOA ns. root. 1 3600 900 86400 60", "{name} 60 IN NS ns."]
        root = [line.format(name=".") for line in head] + ["ns. 60 IN A 127.0.0.1", "unsigned. 60 IN NS ns."]
        (self.folder / "root").write_text("\n".join(root + list(dict.fromkeys(self.records))) + "\n")
        below = [line.format(name="unsigned.") for line in head]
        (self.folder / "unsigned").write_text("\n".join(below + self.unsigned) + "\n")
        self._sign()
        zones = "".join(
            f'auth-zone:\n    name: "{name}"\n    zonefile: "{self.folder / file}"\n    for-downstream: yes\n'
            "    for-upstream: no\n    fallback-enabled: no\n"
            for name, file in ((".", "root.signed"), ("unsigned.", "unsigned")))
        self._launch_unbound("unbound.conf", self.address, DNS_PORT, '    module-config: "iterator"\n' + zones)
        self.wait_until(lambda: self._asks(self.address, DNS_PORT), what="unbound's answer")
        return self

    def _sign(self):
        def run(*command):
            return subprocess.run(
                [must_exist(command[0]), *map(str, command[1:])], cwd=self.folder, check=True, capture_output=True,
                text=True).stdout.strip()

        key = run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", ".")
        run("ldns-signzone", "-f", "root.signed", "root", key)
        shutil.copy(self.folder / f"{key}.key", self.anchor)
        self.anchor.chmod(0o644)

    def _launch_unbound(self, file, address, port, more):
        configuration = self.folder / file
        configuration.write_text(
            CONFIGURATION.format(address=address, port=port, user=USER, folder=self.folder, more=more))
        self.launch([DEBIAN / "unbound/usr/sbin/unbound", "-d", "-c", configuration])

    def _asks(self, address, port):
        answer = subprocess.run(
            ["drill", "-p", str(port), f"@{address}", ".", "SOA"], capture_output=True, text=True, timeout=10)
        return "rcode: NOERROR" in answer.stdout

    def seen_by(self, slimtad):
        """Has a daemon, which is not started yet, validate from our keys on."""
        slimtad.prefix = ["unshare", "--mount", "sh", "-ec", f'mount --bind "$0" {ANCHOR}; exec "$@"', self.anchor]
        slimtad.change(dns={"dnssec": "required", "servers": [self.server]})
        return slimtad


class Validator(SignedZones):
    """A resolver on port 53 that validates what other SignedZones serve."""

    def __init__(self, place, zones):
        super().__init__(place, "validator")
        self.zones = zones

    def start(self):
        more = (
            f'    trust-anchor-file: "{self.zones.anchor}"\n    module-config: "validator iterator"\n'
            f'forward-zone:\n    name: "."\n    forward-addr: {self.zones.server.replace(":", "@")}\n')
        self._launch_unbound("validator.conf", self.address, 53, more)
        self.wait_until(lambda: self._asks(self.address, 53), what="the validating unbound's answer")
        return self

    def finger(self, domain, port):
        """What posttls-finger says of a domain: the lines of its log."""
        home = DEBIAN / "postfix"
        resolv, settings = self.folder / "resolv.conf", self.folder / "finger"
        resolv.write_text(f"nameserver {self.address}\noptions edns0 trust-ad timeout:5 attempts:2\n")
        settings.mkdir(exist_ok=True)
        (settings / "main.cf").write_text("smtp_dns_support_level = dnssec\nmail_owner = news\nsetgid_group = uucp\n")
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/resolv.conf; exec "$@"', resolv,
             home / "usr/sbin/posttls-finger", "-c", "-t", "5", "-l", "dane", "-L", "summary", f"{domain}:{port}"],
            env={"MAIL_CONFIG": str(settings), "LD_LIBRARY_PATH": str(home / "usr/lib/postfix"), "PATH": "/usr/bin:/bin:/usr/sbin"},
            capture_output=True, text=True, timeout=60)
        return result.stdout + result.stderr
