"""slimtad itself: its configuration written from a dictionary, started, stopped, killed, and its log read.

A daemon that crashes, or logs an error that the test did not announce, fails the test (`finish`).
"""

import json
import os
import re
import signal
import smtplib
import socket
import subprocess

from .certificate import make_certificate
from .machine import GROUP, IS_ROOT, SLIMTAD, SUBMISSION, SUBMISSIONS, USER, Program, must_exist, new_address
from .sink import greets

HOSTNAME = "mail.slimtad.test"
LOGIN, PASSWORD = "tester", "open sesame, please"

# Exit statuses (sysexits.h), as DESIGN.md section 7 names them.
OK, USAGE, UNAVAILABLE, CANNOT_CREATE, TEMPORARY, NOT_PERMITTED, CONFIGURATION = 0, 64, 69, 73, 75, 77, 78


# Users files with LOGIN alone, by the rest of [auth]: their octets, and their facts.
_usual_users = {}


def run_slimtad(*arguments, stdin="", timeout=30, env=None):
    """slimtad to its end; what `subprocess.run` returns, with text output."""
    command = [must_exist(SLIMTAD), *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})


def toml(table, name=""):
    """A dictionary as TOML: scalars first, then sub-tables, then lists of dictionaries as arrays of tables."""
    lines = []
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_array_of_tables(value):
            lines.append(f"{key} = {_value(value)}")
    for key, value in table.items():
        path = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            lines += ["", f"[{path}]", toml(value, path)]
        elif _is_array_of_tables(value):
            for item in value:
                lines += ["", f"[[{path}]]", toml(item, path)]
    return "\n".join(lines)


def _is_array_of_tables(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, str)):
        return json.dumps(value, ensure_ascii=False)
    return "[" + ", ".join(_value(item) for item in value) + "]"


class Slimtad(Program):
    """The daemon with two edges, submission (STARTTLS) and submissions (implicit TLS), and one user.

    `settings` are tables of slimta.conf, such as queue={"retry": ["1s"]}, merged over the harness's; `edges` replaces
    the edges, `routes` are [[route]]s, `state` is a state directory that it is to make itself.
    """

    def __init__(self, place, nameserver=None, edges=None, routes=(), name="slimtad", state=None, **settings):
        super().__init__(place, name)
        self.address = new_address()
        self.folder = place.folder(name)
        self.state = state or place.folder(f"{name}/state")
        if state is None:
            self.state.chmod(0o700)
        self.runtime = place.folder(f"{name}/run")
        self.users = self.folder / "users"
        self.certificate = make_certificate(self.folder, HOSTNAME, self.address)
        self.configuration = self.folder / "slimta.conf"
        self.expected_errors = []
        self.environment = {}
        self.prefix = []  # a command that becomes the daemon in the end
        self.limits = []  # of the process, as prlimit(1) takes them: "--nofile=256"
        self.settings = {
            "hostname": HOSTNAME,
            "daemon": {
                "state_directory": str(self.state), "runtime_directory": str(self.runtime), "drain_timeout": "5s",
            },
            "log": {"target": "stderr", "level": "info"},
            "tls": {"certificate": str(self.certificate.chain), "key": str(self.certificate.key)},
            "limits": {},
            "auth": {"users": str(self.users), "mechanisms": ["PLAIN", "LOGIN"]},
            "queue": {"retry": ["1s"], "minimum_free": "1MiB"},
            "relay": {
                "type": "mx", "port": 2525, "connect_timeout": "5s", "idle_timeout": "1s",
                "allow_networks": ["127.0.0.0/8", "::1"],
            },
            "dns": {"dnssec": "off"},
            "edge": edges if edges is not None else [
                {"name": "submission", "type": "smtp", "listen": [f"{self.address}:{SUBMISSION}"], "tls": "starttls",
                 "auth": "required"},
                {"name": "submissions", "type": "smtp", "listen": [f"{self.address}:{SUBMISSIONS}"],
                 "tls": "immediate", "auth": "required"},
            ],
        }
        if IS_ROOT:
            self.settings["daemon"] |= {"user": USER, "group": GROUP}
        if nameserver:
            self.settings["dns"]["servers"] = [nameserver.server]
        if routes:
            self.settings["route"] = list(routes)
        self.change(**settings)

    # Configuration and users

    def change(self, **settings):
        """Merges tables into the configuration; None removes a key. Takes effect at the next start or reload."""
        for table, values in settings.items():
            if isinstance(values, dict):
                merged = self.settings.setdefault(table, {}) | values
                self.settings[table] = {key: value for key, value in merged.items() if value is not None}
            else:
                self.settings[table] = values
        self.configuration.write_text(toml(self.settings) + "\n")

    def put_queue_into(self, words, **settings):
        """Has its queue in the database that libpq finds by these words, and makes the tables there. `settings` are those of
        [[queue.postgresql]]."""
        self.change(queue={
            "storage": "postgresql", "postgresql": [{"connection": words, "synchronous": "optional", **settings}]})
        made = run_slimtad("database", "init", "--config", self.configuration)
        assert made.returncode == 0, f"slimtad database init: {made.returncode}\n{made.stdout}{made.stderr}"

    def add_user(self, name=LOGIN, password=PASSWORD, *options):
        result = run_slimtad("passwd", "--config", self.configuration, name, *options, stdin=password + "\n")
        assert result.returncode == 0, f"slimtad passwd: {result.returncode}\n{result.stdout}{result.stderr}"
        return self

    def add_usual_user(self):
        """As add_user(), but asks slimtad once for all daemons with the same [auth]: what it writes is the same."""
        auth = dict(self.settings["auth"])
        is_here = auth.pop("users", None) == str(self.users)
        terms = toml(auth)
        if not is_here or terms not in _usual_users:
            self.add_user()
            if is_here:
                _usual_users[terms] = self.users.read_bytes(), self.users.stat()
            return
        octets, facts = _usual_users[terms]
        self.users.write_bytes(octets)
        self.users.chmod(facts.st_mode & 0o7777)
        if IS_ROOT:
            os.chown(self.users, facts.st_uid, facts.st_gid)

    # Life

    def start(self, *arguments, wait=True):
        """Starts it in the foreground, and waits until it greets on its first edge."""
        if not self.users.exists():
            self.add_usual_user()
        limits = ["prlimit", *self.limits, "--"] if self.limits else []
        self.launch([*limits, *self.prefix, SLIMTAD, "run", "--config", self.configuration, *arguments], env=self.environment)
        if wait:
            self.wait_until(self.is_ready, timeout=20, what="slimtad's greeting")
        return self

    def start_again(self):
        assert self.process.poll() is not None, "it still runs"
        return self.start()

    def is_ready(self):
        edge = self.settings["edge"][0]
        address, _, port = edge["listen"][0].rpartition(":")
        address, port = address.strip("[]"), int(port)
        if edge.get("tls", "starttls") == "immediate":
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
                return client.connect_ex((address, port)) == 0
        return greets(address, port)

    def reload(self):
        """Has it read its configuration again, and waits until it has done so or said why not."""
        before = self._reloads()
        self.signal(signal.SIGHUP)
        self.wait_until(lambda: self._reloads() > before, what="the reload")

    def _reloads(self):
        return len(re.findall(r" (?:reloaded|reload failed)", self.log))

    def expect_error(self, pattern):
        """Announces a line logged at error level or above: `finish` does not complain about those that match."""
        self.expected_errors.append(pattern)

    def finish(self):
        """Stops it if it runs. Complains of a crash, of an exit status other than 0, of errors in the log."""
        status = None
        if self.process and self.process.poll() is None:
            status = self.term()
        for line in self.log.splitlines():
            level = level_of(line)
            crash = "Fatal error" in line or "Program crashed" in line
            expected = any(re.search(pattern, line) for pattern in self.expected_errors)
            if (crash or level in ("error", "critical")) and not expected:
                raise AssertionError(f"slimtad logged: {line}\n{self.log[-6000:]}")
        assert status in (None, 0), f"slimtad ended with {status} on SIGTERM:\n{self.log[-6000:]}"

    def use_up_spare_room(self):
        """While it does not run: as it is when a full disk has had it give back what of the journal holds nothing."""
        segments = sorted((self.state / "journal").glob("*.wal"))[1:]
        for path in [*segments, *(self.state / "journal").glob("*.free")]:
            path.unlink()

    # Submission

    def connect(self, implicit=False, login=LOGIN, password=PASSWORD, helo="client.test", source=None):
        """A session of Python's smtplib, encrypted and logged in, from an address of this machine."""
        source = source and (source, 0)
        context = self.certificate.trusting_context()
        if implicit:
            client = smtplib.SMTP_SSL(self.address, SUBMISSIONS, helo, context=context, timeout=20, source_address=source)
        else:
            client = smtplib.SMTP(self.address, SUBMISSION, helo, timeout=20, source_address=source)
            client.starttls(context=context)
        client.login(login, password)
        return client

    def submit(self, message, recipients, sender="sender@origin.test", **options):
        """Submits one message, all recipients accepted, and returns its queue id."""
        recipients = [recipients] if isinstance(recipients, str) else recipients
        with self.connect() as client:
            return send(client, message, recipients, sender, **options)

    # Log

    def events(self, **wanted):
        """The log's lines as dictionaries, those with all of the wanted fields."""
        found = [fields_of(line) for line in self.log.splitlines()]
        return [event for event in found if all(event.get(name) == value for name, value in wanted.items())]

    def wait_for_events(self, count=1, **wanted):
        """All events, once there are as many: lines are written by a thread of their own, later than the reply they tell of."""
        return self.wait_until(
            lambda: len(found := self.events(**wanted)) >= count and found, what=f"{count} lines in the log with {wanted}")

    def attempts(self, **wanted):
        """The lines that tell of a delivery attempt for one recipient."""
        return [event for event in self.events(**wanted) if {"queue_id", "recipient", "status", "delay"} <= event.keys()]

    def wait_for_attempts(self, count=1, timeout=20.0, **wanted):
        return self.wait_until(
            lambda: len(self.attempts(**wanted)) >= count and self.attempts(**wanted), timeout,
            f"{count} attempts in the log with {wanted}")

    def wait_for_log(self, pattern, timeout=15.0):
        return self.wait_until(lambda: re.search(pattern, self.log), timeout, f"{pattern!r} in the log")


def send(client, message, recipients, sender="sender@origin.test", mail_options=(), rcpt_options=()):
    """One transaction on a session of smtplib; the queue id that the 250 named."""
    code, reply = client.mail(sender, list(mail_options))
    assert code == 250, (code, reply)
    for recipient in recipients:
        code, reply = client.rcpt(recipient, list(rcpt_options))
        assert code == 250, (code, reply)
    code, reply = client.data(message)
    assert code == 250, (code, reply)
    found = re.fullmatch(rb"2\.6\.0 Message queued as ([0-9a-f]{32})", reply)
    assert found, reply
    return found[1].decode()


_FIELD = re.compile(r'(?:^|\s)([A-Za-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')


def fields_of(line):
    """key=value pairs of a log line; a quoted value without its quotes."""
    found = {}
    for name, value in _FIELD.findall(line):
        if value.startswith('"') and value.endswith('"') and len(value) > 1:
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found[name] = value
    return found


def level_of(line):
    """The log level that a line names among its first words, None if it names none."""
    for word in re.findall(r"[A-Za-z]+", " ".join(line.split()[:4])):
        if word.lower() in ("trace", "debug", "info", "notice", "warning", "error", "critical"):
            return word.lower()
    return None
