"""Dovecot's LMTP server, with mailboxes: what a site has behind a relay that nobody here wrote. And its authentication
service, which knows the users of a site.

Runs from the unpacked packages (.ci/deps), as USER, with everything in one folder: over TCP and on a UNIX socket.
"""

import grp
import os
import pwd
import shutil
import signal
import socket

from .machine import DEBIAN, GROUP, IS_ROOT, USER, Program, give, must_exist, new_address

PORT, AUTH_PORT = 2424, 2425
CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = /dev/stderr
libexec_dir = {library}
mail_plugin_dir = {library}/modules
import_environment = TZ LD_LIBRARY_PATH
protocols = lmtp
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
hostname = dovecot.test
ssl = {ssl}
ssl_cert = <{certificate}
ssl_key = <{key}
mail_location = maildir:{folder}/mail/%u
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
auth_mechanisms = {mechanisms}
auth_failure_delay = {delay}
quota_full_tempfail = {tempfail}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
  default_fields = uid={uid} gid={gid} home={folder}/home/%u
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=100M
}}
protocol lmtp {{
  mail_plugins = quota
  postmaster_address = postmaster@dovecot.test
}}
service anvil {{
  chroot =
  # Without it there is no penalty for failures: clients here fail often, from one address.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service auth {{
  inet_listener auth {{
    address = {address}
    port = {auth_port}
  }}
  unix_listener {folder}/auth-client {{
    mode = 0666
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {port}
  }}
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
"""


class Dovecot(Program):
    """`users` have mailboxes; in those of `full` there is no room, which with `tempfail` may be over soon.

    `logins` are users who can log in, with their lines behind the name: "{PLAIN}secret::::::extra=fields". `delay`: how many
    seconds after a failure it says so; 2 is its default.
    """

    def __init__(self, place, users=(), full=(), tempfail=False, certificate=None, logins=None, mechanisms="plain",
                 delay=0):
        super().__init__(place, "dovecot")
        self.address = new_address()
        self.folder = place.folder("dovecot")
        self.users = users
        self.full = full
        self.tempfail = tempfail
        self.certificate = certificate
        self.logins = logins or {}
        self.mechanisms = mechanisms
        self.delay = delay

    @property
    def auth_socket(self):
        return self.folder / "auth-client"

    @property
    def socket(self):
        return self.folder / "lmtp"

    def start(self):
        for name in ("run", "mail", "home"):
            if not (self.folder / name).exists():
                self.place.folder(f"dovecot/{name}")
        lines = [f"{user}:{{PLAIN}}x::::::" for user in self.users]
        lines += [f"{user}:{{PLAIN}}x::::::userdb_quota_rule=*:bytes=1" for user in self.full]
        lines += [f"{user}:{line}" for user, line in self.logins.items()]
        (self.folder / "users").write_text("\n".join(lines) + "\n")
        library = self.library()
        configuration = self.folder / "dovecot.conf"
        configuration.write_text(CONFIGURATION.format(
            folder=self.folder, library=library, user=USER, group=GROUP, uid=pwd.getpwnam(USER).pw_uid,
            gid=grp.getgrnam(GROUP).gr_gid, address=self.address, port=PORT, auth_port=AUTH_PORT,
            mechanisms=self.mechanisms, delay=f"{self.delay} secs" if self.delay else 0,
            tempfail="yes" if self.tempfail else "no", ssl="yes" if self.certificate else "no",
            certificate=self.certificate.chain if self.certificate else "/dev/null",
            key=self.certificate.key if self.certificate else "/dev/null"))
        for path in (self.folder / "users", configuration):
            give(path)
        # Its master wants to be root or a user whose processes it can all have.
        become = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups"] if IS_ROOT else []
        self.launch(
            # What it would do itself, but by the path of an installation.
            [*become, must_exist(DEBIAN / "dovecot-core/usr/bin/doveconf"), "-f", "service=master", "-m", "master",
             "-c", configuration, "-e", DEBIAN / "dovecot-core/usr/sbin/dovecot", "-F", "-c", configuration],
            env={"LD_LIBRARY_PATH": f"{library}:{library}/modules/old-stats"})
        self.wait_until(self.answers, what="Dovecot's greeting")
        return self

    def library(self):
        """Dovecot's programs and modules, those of dovecot-lmtpd among them, where USER can reach them."""
        library = self.folder / "lib"
        if not library.exists():
            for package in ("dovecot-core", "dovecot-lmtpd"):
                shutil.copytree(DEBIAN / package / "usr/lib/dovecot", library, symlinks=True, dirs_exist_ok=True)
            # The one path that no setting changes; their working folder is base_dir.
            there = b"/usr/lib/dovecot/modules"
            here = b"../lib/modules".replace(b"lib/", b"lib".ljust(len(there) - len(b"../modules"), b"/"))
            for program in library.iterdir():
                if program.is_file() and not program.is_symlink() and there in (octets := program.read_bytes()):
                    program.write_bytes(octets.replace(there, here))
        return library

    def answers(self):
        try:
            with socket.create_connection((self.address, PORT), 5) as client:
                return client.recv(3) == b"220"
        except OSError:
            return False

    def messages(self, user):
        """What is in the mailbox of `user`, as it was delivered."""
        folder = self.folder / "mail" / user / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []

    def wait_for(self, user, count=1, timeout=20.0):
        return self.wait_until(
            lambda: len(self.messages(user)) >= count and self.messages(user), timeout, f"{count} messages of {user}")

    def kill(self):
        """Its processes end with their master, which has to have time for that."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except Exception:
                pass
        super().kill()
