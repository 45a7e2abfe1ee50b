"""Self-signed certificates, made by openssl."""

import dataclasses
import pathlib
import shutil
import ssl
import subprocess

from .machine import GROUP, IS_ROOT, must_exist


@dataclasses.dataclass
class Certificate:
    chain: pathlib.Path
    key: pathlib.Path

    def trusting_context(self, check_hostname=False):
        """A client's context that trusts this certificate and no other."""
        context = ssl.create_default_context(cafile=str(self.chain))
        context.check_hostname = check_hostname
        return context

    @property
    def serial(self):
        return subprocess.run(
            ["openssl", "x509", "-in", self.chain, "-noout", "-serial"], check=True, capture_output=True, text=True,
        ).stdout.strip().removeprefix("serial=")


def make_certificate(folder, name, *addresses):
    """A new key and certificate for `name` (a host name) and addresses, as NAME.pem and NAME.key in `folder`."""
    certificate = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    names = ",".join([f"DNS:{name}", *(f"IP:{address}" for address in addresses)])
    subprocess.run(
        [must_exist("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}",
         "-keyout", certificate.key, "-out", certificate.chain],
        check=True, capture_output=True,
    )
    # As an installation has it: root's, and readable for the group that slimtad's user is in.
    certificate.key.chmod(0o640)
    if IS_ROOT:
        shutil.chown(certificate.key, group=GROUP)
    return certificate


def make_client_certificate(folder, email):
    """A new key and certificate for the client with this address, which is its own authority."""
    certificate = Certificate(folder / f"{email}.pem", folder / f"{email}.key")
    subprocess.run(
        [must_exist("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=client", "-addext", f"subjectAltName=email:{email}", "-addext",
         "extendedKeyUsage=clientAuth", "-keyout", certificate.key, "-out", certificate.chain],
        check=True, capture_output=True,
    )
    return certificate
