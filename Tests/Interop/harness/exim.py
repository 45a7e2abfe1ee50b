"""A real Exim as an MX: the second opinion beside Postfix, with GnuTLS where all others here have OpenSSL.

Runs from the unpacked package (.ci/deps). Debian's Exim insists on a user that only its installation makes:
nss_wrapper shows it one.
"""

import ctypes.util
import pathlib
import pwd

from .machine import DEBIAN, MX_PORT, USER, Program, new_address
from .sink import greets

CONFIGURATION = """\
exim_user = {user}
exim_group = {group}
exim_path = {exim}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
primary_hostname = mx.exim.test
local_interfaces = {address}
daemon_smtp_ports = {port}
domainlist ours = {domains}
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
message_size_limit = 50M
deliver_drop_privilege = true
tls_certificate = {certificate}
tls_privatekey = {key}
tls_advertise_hosts = *
{clients}acl_smtp_rcpt = acl_rcpt
acl_smtp_data = accept
keep_environment =
never_users = root
begin acl
acl_rcpt:
{verified}  deny !domains = +ours
       message = relay not permitted
  deny local_parts = refused
       message = mailbox unavailable
  defer local_parts = later
       message = try again
  accept
begin routers
ours:
  driver = accept
  domains = +ours
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  envelope_to_add
  user = {user}
  group = {group}
begin retry
* * F,4d,5m
"""


class EximMX(Program):
    """Exim as the MX of `domains`: any recipient is welcome but refused@ (550) and later@ (451)."""

    def __init__(self, place, certificate, *domains):
        super().__init__(place, "exim")
        self.address = new_address()
        self.folder = place.folder("exim")
        self.certificate = certificate
        self.domains = domains
        # The certificates (PEM) that clients have to have one of, or one issued by; None: they need none.
        self.client_ca = None

    def start(self):
        for name in ("spool", "log", "mail"):
            self.place.folder(f"exim/{name}")
        account = pwd.getpwnam(USER)
        program = DEBIAN / "exim4-daemon-light/usr/sbin/exim4"
        configuration = self.folder / "exim.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user=account.pw_uid, group=account.pw_gid, exim=program, folder=self.folder, address=self.address,
                port=MX_PORT, domains=" : ".join(self.domains), certificate=self.certificate.chain,
                key=self.certificate.key,
                clients=self.client_ca and f"tls_try_verify_hosts = *\ntls_verify_certificates = {self.client_ca}\n" or "",
                verified=self.client_ca and "  deny !verify = certificate\n       message = 5.7.1 no certificate\n" or "",
            )
        )
        passwd, group = self.folder / "passwd", self.folder / "group"
        line = f"Debian-exim:x:{account.pw_uid}:{account.pw_gid}::/nonexistent:/usr/sbin/nologin\n"
        passwd.write_text(pathlib.Path("/etc/passwd").read_text() + line)
        group.write_text(pathlib.Path("/etc/group").read_text() + f"Debian-exim:x:{account.pw_gid}:\n")
        self.launch(
            [program, "-C", configuration, "-bdf"],
            env={
                "LD_PRELOAD": ctypes.util.find_library("nss_wrapper") or "libnss_wrapper.so",
                "NSS_WRAPPER_PASSWD": str(passwd), "NSS_WRAPPER_GROUP": str(group),
            },
        )
        self.wait_until(lambda: greets(self.address, MX_PORT), what="Exim's greeting")
        return self

    @property
    def log(self):
        logs = sorted((self.folder / "log").glob("*log"))
        return super().log + "".join(path.read_text(errors="replace") for path in logs)

    def maildir(self):
        """All messages, as delivered (with LF line ends); Envelope-To tells whose each is."""
        folder = self.folder / "mail" / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def wait_for(self, count=1, timeout=20.0):
        return self.wait_until(
            lambda: len(self.maildir()) >= count and self.maildir(), timeout, f"{count} messages")
