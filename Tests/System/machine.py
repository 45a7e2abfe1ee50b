"""A Debian machine with a real systemd (systemd-lab), the package installed in it, an MX and a name server beside it.

The tests are clients on the host, in the machine's network: it has only a loopback, so all ports are free in it.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import shlex
import smtplib
import socket
import ssl
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = os.environ.get("SYSTEMD_LAB_SCRIPT", str(ROOT.parent / "shared" / "systemd-lab" / "systemd-lab"))
CONFIGURATION = "/etc/slimta/slimta.conf"
MX_ADDRESS = "127.0.0.25"
LOGIN, PASSWORD = "tester", "open sesame, please"

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A command in the machine did not end with 0: the text holds what it said."""


def wait_until(condition, timeout=30.0, what="a condition"):
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.05)


class Machine:
    """One booted machine. `run` is a shell command in it, as root."""

    def __init__(self, *options):
        self.serial = 0
        self._boot(*options)

    def _boot(self, *options):
        self._lab("boot", *options)
        status = subprocess.run([LAB, "status"], capture_output=True, text=True).stdout
        self.leader = int(re.search(r"PID 1: (\d+)", status)[1])

    def stop(self):
        self._lab("stop")

    def boot_again(self, *options):
        """With the disk as it was left."""
        self._boot("--keep", *options)

    def destroy(self):
        self._lab("destroy")

    def _lab(self, *arguments):
        done = subprocess.run([LAB, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Failed(f"systemd-lab {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")

    # Commands and files

    def run(self, command, check=True, stdin="", timeout=120):
        """Standard output; what it says on standard error too if it fails, which is an error unless `check` is false."""
        done = self.execute(command, stdin, timeout)
        if check and done.returncode != 0:
            raise Failed(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def execute(self, command, stdin="", timeout=120):
        return subprocess.run(
            [LAB, "exec", "--", "sh", "-c", command], input=stdin, capture_output=True, text=True, timeout=timeout)

    def copy(self, source, target):
        self._lab("copy", source, target)

    def write(self, path, text):
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat >{shlex.quote(path)}", stdin=text)

    def read(self, path):
        return self.run(f"cat {shlex.quote(path)}")

    # The network

    @contextlib.contextmanager
    def network(self):
        """This thread's sockets are made in the machine's network."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        theirs = os.open(f"/proc/{self.leader}/ns/net", os.O_RDONLY)
        try:
            _enter(theirs)
            yield
        finally:
            _enter(own)
            os.close(own)
            os.close(theirs)

    def connect(self, port=587, login=LOGIN, password=PASSWORD, tls=True, address="127.0.0.1"):
        """A session of smtplib: TLS from the start on port 465, STARTTLS elsewhere unless `tls` is false."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.network():
            if port == 465:
                client = smtplib.SMTP_SSL(address, port, "client.test", context=context, timeout=60)
            else:
                client = smtplib.SMTP(address, port, "client.test", timeout=60)
                if tls:
                    client.starttls(context=context)
            if login and tls:
                client.login(login, password)
            return client

    def certificate(self, name=None, port=465):
        """The serial number of the certificate that a new client is shown that asks for `name`."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.network(), socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            with context.wrap_socket(plain, server_hostname=name) as session:
                shown = ssl.DER_cert_to_PEM_cert(session.getpeercert(binary_form=True))
        text = subprocess.run(
            ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, check=True).stdout
        return text.strip().removeprefix("serial=")

    # slimtad

    def pid(self):
        """Inside the machine; 0 if it does not run."""
        return int(self.run("systemctl show -p MainPID --value slimtad"))

    def host_pid(self):
        """The same process as the host sees it."""
        inside = self.pid()
        for path in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = path.read_text()
                found = re.search(r"^NSpid:\t(\d+)\t(?:\d+\t)*(\d+)$", text, re.M)
                if found and int(found[2]) == inside and text.startswith("Name:\tslimtad\n"):
                    if os.readlink(path.parent / "ns/net") == os.readlink(f"/proc/{self.leader}/ns/net"):
                        return int(found[1])
        raise Failed(f"process {inside} of the machine is not found on the host")

    def configure(self, table, **keys):
        """Says keys of slimta.conf that are there as comments, in the place where they are."""
        lines = self.read(CONFIGURATION).split("\n")
        start = lines.index(next(line for line in lines if line.split("#")[0].strip() == f"[{table}]"))
        for key, value in keys.items():
            for number in range(start + 1, len(lines)):
                assert number == start + 1 or not lines[number].startswith("["), f"no {key} in [{table}]"
                if re.match(rf"(# )?{key} = ", lines[number]):
                    lines[number] = f"{key} = {value}"
                    break
        self.write(CONFIGURATION, "\n".join(lines))

    def append(self, text):
        self.write(CONFIGURATION, self.read(CONFIGURATION) + "\n" + text)

    def add_user(self, name=LOGIN, password=PASSWORD):
        self.run(f"slimtad passwd {name}", stdin=password + "\n")

    def make_certificate(self, name, *names, days=90):
        """/etc/slimta/tls/NAME.pem and .key, as an installation has them; the serial number."""
        self.serial += 1
        alternatives = ",".join(f"DNS:{other}" for other in (names or ("localhost",)))
        base = f"/etc/slimta/tls/{name}"
        self.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN=test "
            f"-addext subjectAltName={alternatives} -keyout {base}.key.new -out {base}.pem.new 2>&1 && "
            f"chgrp slimtad {base}.key.new && chmod 640 {base}.key.new && "
            f"mv {base}.key.new {base}.key && mv {base}.pem.new {base}.pem")
        return self.run(f"openssl x509 -in {base}.pem -noout -serial").strip().removeprefix("serial=")

    def drop_in(self, text, name="test"):
        self.write(f"/run/systemd/system/slimtad.service.d/{name}.conf", text)
        self.run("systemctl daemon-reload")

    def remove_drop_ins(self):
        self.run("rm -rf /run/systemd/system/slimtad.service.d && systemctl daemon-reload")

    # The journal

    def journal(self, *matches, after=None):
        """MESSAGE of slimtad's entries."""
        cursor = f"--after-cursor={shlex.quote(after)}" if after else ""
        matches = " ".join(shlex.quote(match) for match in matches)
        unit = "" if matches else "-u slimtad"
        return self.run(f"journalctl --no-pager -q -o cat {unit} {cursor} {matches}").splitlines()

    def cursor(self):
        """The journal's end: for `after`."""
        return self.run("journalctl --no-pager -q -n 1 --show-cursor -o cat").rsplit("-- cursor: ", 1)[1].strip()

    def wait_for_journal(self, pattern, after, timeout=30.0):
        def found():
            return next((line for line in self.journal(after=after) if re.search(pattern, line)), None)

        try:
            return wait_until(found, timeout, f"{pattern!r} in the journal")
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n" + "\n".join(self.journal(after=after)[-60:])) from None

    # The MX

    def start_mx(self):
        """Postfix as the MX of example.test, which keeps everything in one maildir; unbound says that it is."""
        self.write("/root/unbound.conf", f"""server:
    interface: 127.0.0.1
    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "/root"
    pidfile: ""
    use-syslog: no
    module-config: "iterator"
    do-daemonize: no
    local-zone: "test." static
    local-zone: "." refuse
    local-data: "example.test. 60 IN MX 10 mx.example.test."
    local-data: "mx.example.test. 60 IN A {MX_ADDRESS}"
remote-control:
    control-enable: no
""")
        self.run("systemctl disable --now unbound; systemd-run --unit=test-dns unbound -d -c /root/unbound.conf", check=True)
        self.run(
            f"ip address add {MX_ADDRESS}/8 dev lo && "
            "mkdir -p /var/mail/vhosts && chown mail:mail /var/mail/vhosts && "
            "postconf -e mydestination= virtual_mailbox_domains=example.test virtual_mailbox_maps=static:all/ "
            "virtual_mailbox_base=/var/mail/vhosts virtual_uid_maps=static:8 virtual_gid_maps=static:8 virtual_minimum_uid=1 "
            f"inet_interfaces={MX_ADDRESS} inet_protocols=ipv4 disable_dns_lookups=yes alias_maps= "
            "compatibility_level=3.6 smtpd_client_connection_rate_limit=0 smtpd_client_message_rate_limit=0 && "
            "systemctl restart postfix")

        def greets():
            with self.network(), contextlib.suppress(OSError):
                with socket.create_connection((MX_ADDRESS, 25), timeout=5) as client:
                    return client.recv(100).startswith(b"220")

        wait_until(greets, what="the MX")

    def delivered(self):
        """The X-Test fields of what the MX has, with how often each is there."""
        found = {}
        for line in self.run("cat /var/mail/vhosts/all/new/* 2>/dev/null | grep -a '^X-Test: '", check=False).splitlines():
            mark = line.removeprefix("X-Test: ").strip()
            found[mark] = found.get(mark, 0) + 1
        return found


_numbers = itertools.count(1)


def message(mark):
    """Complete: nothing of it is mended."""
    fields = f"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{next(_numbers)}@origin.test>\r\n"
    return f"{fields}From: a@origin.test\r\nTo: b@example.test\r\nSubject: test\r\nX-Test: {mark}\r\n\r\nHello.\r\n"


def submit(client, mark, recipient="b@example.test"):
    """One message; the queue id that the 250 named."""
    # Not smtplib's own: where EHLO gets a 421 that says HELO, finds nobody and forgets why.
    code, reply = client.ehlo()
    assert code == 250, (code, reply)
    # With the reply: whoever judges what broke off reads it, and an assertion in this file says nothing by itself.
    for ask in (lambda: client.mail("a@origin.test"), lambda: client.rcpt(recipient), lambda: client.data(message(mark))):
        code, reply = ask()
        assert code == 250, (code, reply)
    return re.fullmatch(rb"2\.6\.0 Message queued as ([0-9a-f]{32})", reply)[1].decode()


class Load:
    """Clients that submit one message after the other, each over a connection of its own, until they are stopped.

    What broke off is tried again, as clients do; a connection that was refused is counted, and is what must not be.
    """

    _runs = itertools.count()

    def __init__(self, machine, clients=8, port=2587):
        self.machine, self.port = machine, port
        # No two loads send the same: what an earlier one delivered must not pass for this one's.
        self._name = f"load-{next(self._runs)}"
        self.acknowledged, self.broken, self.refused = [], [], []
        self._is_stopped = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_stopped.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"

    def _submit(self, number):
        count = 0
        with self.machine.network():
            while not self._is_stopped.is_set():
                count += 1
                mark = f"{self._name}-{number}-{count}"
                try:
                    with smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=60) as client:
                        submit(client, mark)
                        self.acknowledged.append(mark)
                except ConnectionRefusedError:
                    self.refused.append(mark)
                except (OSError, smtplib.SMTPException, AssertionError) as error:
                    self.broken.append((mark, repr(error)))

    def wait_for(self, more):
        """Until so many more messages were acknowledged than now."""
        enough = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= enough, 60, f"{more} more acknowledged messages")


def _enter(namespace):
    if _libc.setns(namespace, 0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")
