"""A real Postfix as an MX: its own configuration, queue and addresses; delivers into maildirs.

Runs from the unpacked package (.ci/deps), never from the machine's own installation, and borrows two system users that
every Debian has for the two that Postfix needs. Postfix's master wants root: elsewhere sudo starts it.
"""

import os
import shutil
import signal
import subprocess

import pytest

from .machine import DEBIAN, IS_ROOT, MX_PORT, Program, new_address
from .sink import greets

HOME = DEBIAN / "postfix"
LIBRARIES = HOME / "usr/lib/postfix"
SERVICES = """\
{listen}  inet  n  -  n  -  -  smtpd
cleanup   unix  n  -  n  -  0  cleanup
qmgr      unix  n  -  n  300 1 qmgr
tlsmgr    unix  -  -  n  1000? 1 tlsmgr
rewrite   unix  -  -  n  -  -  trivial-rewrite
bounce    unix  -  -  n  -  0  bounce
defer     unix  -  -  n  -  0  bounce
trace     unix  -  -  n  -  0  bounce
verify    unix  -  -  n  -  1  verify
flush     unix  n  -  n  1000? 0 flush
proxymap  unix  -  -  n  -  -  proxymap
smtp      unix  -  -  n  -  -  smtp
showq     unix  n  -  n  -  -  showq
error     unix  -  -  n  -  -  error
retry     unix  -  -  n  -  -  error
discard   unix  -  -  n  -  -  discard
virtual   unix  -  n  n  -  -  virtual
anvil     unix  -  -  n  -  1  anvil
scache    unix  -  -  n  -  1  scache
postlog   unix-dgram n - n  -  1  postlogd
"""
SETTINGS = """\
compatibility_level = 3.6
queue_directory = {queue}
command_directory = {home}/usr/sbin
daemon_directory = {home}/usr/lib/postfix/sbin
shlib_directory = {home}/usr/lib/postfix
data_directory = {folder}/data
meta_directory = {folder}/etc
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
export_environment = MAIL_CONFIG LD_LIBRARY_PATH
mail_owner = news
setgid_group = uucp
default_privs = nobody
myhostname = {host}
mydestination =
local_recipient_maps =
alias_maps =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
smtpd_forbid_bare_newline = yes
smtputf8_enable = yes
smtpd_client_connection_count_limit = 0
message_size_limit = 52428800
virtual_mailbox_limit = 0
{extra}
"""


class PostfixMX(Program):
    """Postfix as the MX of `mailboxes`' domains; a recipient that is not among these addresses gets its 550 5.1.1."""

    def __init__(self, place, mailboxes, host="mx.postfix.test", certificate=None, extra=""):
        super().__init__(place, "postfix")
        self.address = new_address()
        self.folder = place.path / "postfix"
        self.mail = self.folder / "mail"
        self.configuration = self.folder / "etc"
        self._mailboxes = mailboxes
        self._host = host
        self._extra = extra
        if certificate:
            self._extra += (
                f"\nsmtpd_tls_security_level = may\nsmtpd_tls_received_header = yes\n"
                f"smtpd_tls_cert_file = {certificate.chain}\nsmtpd_tls_key_file = {certificate.key}\n"
            )

    @property
    def log(self):
        path = self.folder / "mail.log"
        return super().log + (path.read_text(errors="replace") if path.exists() else "")

    def start(self):
        if not IS_ROOT and subprocess.run(["sh", "-c", "sudo -n true"], capture_output=True).returncode != 0:
            pytest.skip("Postfix's master wants root, and there is no sudo without a password")
        self._make_folders()
        domains = sorted({address.split("@")[1] for address in self._mailboxes})
        mailboxes = ", ".join(f"{{ {address} = {address}/ }}" for address in self._mailboxes)
        (self.configuration / "main.cf").write_text(
            SETTINGS.format(
                queue=self.folder / "queue", home=HOME, folder=self.folder, host=self._host,
                domains=", ".join(domains), mailboxes=mailboxes, extra=self._extra,
            )
        )
        (self.configuration / "master.cf").write_text(SERVICES.format(listen=f"{self.address}:{MX_PORT}"))
        for name in ("dynamicmaps.cf", "postfix-files"):
            if (HOME / "etc/postfix" / name).exists():
                shutil.copy(HOME / "etc/postfix" / name, self.configuration)
        sudo = [] if IS_ROOT else ["sudo", "-n", "-E"]
        self.launch(
            [*sudo, LIBRARIES / "sbin/master", "-c", self.configuration, "-d"],
            env={"MAIL_CONFIG": str(self.configuration), "LD_LIBRARY_PATH": str(LIBRARIES)},
        )
        self.wait_until(lambda: greets(self.address, MX_PORT), what="Postfix's greeting")
        return self

    def kill(self):
        """Ends master and all its services; they are in the session that `launch` made."""
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait(5)
            except TimeoutError:
                pass
        super().kill()

    def maildir(self, address):
        """The messages of a mailbox, as delivered (with LF line ends: Postfix writes lines)."""
        folder = self.mail / address / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def wait_for(self, address, count=1, timeout=20.0):
        return self.wait_until(
            lambda: len(self.maildir(address)) >= count and self.maildir(address), timeout,
            f"{count} messages for {address}")

    def _make_folders(self):
        queue = self.folder / "queue"
        script = [
            f"mkdir -p {self.configuration} {self.mail} {self.folder}/data {queue}/pid",
            f"cd {queue}",
            "mkdir -p active bounce corrupt defer deferred flush hold incoming private saved trace maildrop public",
            "chown news active bounce corrupt defer deferred flush hold incoming private saved trace",
            "chown news:uucp maildrop public",
            "chmod 700 active bounce corrupt defer deferred flush hold incoming private saved trace",
            "chmod 730 maildrop", "chmod 710 public",
            f"chown news {self.folder}/data", f"chown 65534:65534 {self.mail}",
        ]
        if not IS_ROOT:
            script.append(f"chown {os.geteuid()} {self.configuration}")
        run_as_root(["sh", "-euc", "\n".join(script)])


def run_as_root(command):
    sudo = [] if IS_ROOT else ["sudo", "-n"]
    subprocess.run([*sudo, *command], check=True, capture_output=True)
