"""A PostgreSQL server in a folder of the test, as an unprivileged user: roles, databases, settings, and a standby of its own.

`words` are what `connection` of [[queue.postgresql]] says.
"""

import pathlib
import signal
import subprocess

from .machine import DEBIAN, GROUP, IS_ROOT, USER, NotReady, Program, free_ports

SUPERUSER = "boss"
# What tests need not wait for; all that mail depends on is as it is usually.
SETTINGS = {
    "listen_addresses": "", "shared_buffers": "16MB", "max_connections": "30", "lc_messages": "C", "wal_level": "replica",
    "jit": "off", "wal_retrieve_retry_interval": "100ms",
}
# What stands before initdb's lines in pg_hba.conf.
ACCESS = """local all guarded scram-sha-256
host all all 127.0.0.0/8 scram-sha-256
host replication all 127.0.0.0/8 scram-sha-256
"""


def binary(name):
    """A program of the newest PostgreSQL of this machine, or of what is unpacked: Debian has them outside of PATH."""
    installed = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = installed or sorted(DEBIAN.glob(f"postgresql-*/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise NotReady(f"{name} of PostgreSQL is not here: run `.ci/deps test`")
    return found[-1]


def as_user(command):
    """PostgreSQL does not run as root."""
    if not IS_ROOT:
        return command
    return ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", *command]


class Postgres(Program):
    """`settings` are those of postgresql.conf; None leaves a usual one out. With an `address` it listens there too."""

    def __init__(self, place, name="postgres", address=None, **settings):
        super().__init__(place, name)
        self.folder = place.folder(name)
        self.data = self.folder / "data"
        self.port = free_ports(1)[0]
        self.address = address
        self.settings = {
            **SETTINGS, "unix_socket_directories": str(self.folder), "port": self.port,
            **({"listen_addresses": address} if address else {}), **settings}

    def words(self, database, role):
        return f"host={self.folder} port={self.port} dbname={database} user={role}"

    def _run(self, program, *arguments):
        done = subprocess.run(
            as_user([str(binary(program)), *map(str, arguments)]), capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise NotReady(f"{program}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def make(self):
        """A new, empty one; who comes by its socket is believed, but for role "guarded", which needs its password, as does who
        comes by TCP."""
        self._run(
            "initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        access = self.data / "pg_hba.conf"
        access.write_text(ACCESS + access.read_text())
        return self

    def follow(self, primary, words=None):
        """A standby of `primary`, which knows it by its name; `words` say how it gets there, as `primary_conninfo` has them."""
        self._run(
            "pg_basebackup", "-D", self.data, "-d", primary.words("postgres", SUPERUSER), "--checkpoint=fast", "--no-sync")
        (self.data / "standby.signal").touch()
        words = f"{words or primary.words('postgres', SUPERUSER)} application_name={self.name}".replace("'", "''")
        self.settings["primary_conninfo"] = words
        return self

    def start(self):
        if not self.data.exists():
            self.make()
        text = "".join(f"{name} = '{value}'\n" for name, value in self.settings.items() if value is not None)
        (self.data / "postgresql.auto.conf").write_text(text)
        self.launch(as_user([str(binary("postgres")), "-D", str(self.data)]))
        self.wait_until(lambda: self._answers(), timeout=120, what="PostgreSQL")
        return self

    def _answers(self):
        done = subprocess.run(
            [str(binary("pg_isready")), "-q", "-h", str(self.folder), "-p", str(self.port)], timeout=10)
        return done.returncode == 0

    def stop(self):
        """At once, with a word to the clients."""
        self.signal(signal.SIGINT)
        assert self.wait() == 0, self.log

    def sql(self, text, database="postgres", role=SUPERUSER):
        """What psql prints, without a frame: rows as lines, columns with | between them."""
        return self._run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.words(database, role), "-c", text).strip()

    def add_database(self, name="slimtad", role="mail", password=None):
        """A role that is nobody special, and its database."""
        self.sql(f"create role \"{role}\" login" + (f" password '{password}'" if password else ""))
        self.sql(f'create database "{name}" owner "{role}"')
        return self.words(name, role)
