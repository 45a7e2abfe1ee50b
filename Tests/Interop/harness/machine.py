"""What every program of the harness stands on: where things are, folders and addresses of a test, child processes.

Used by all other modules here; knows nothing of mail.
"""

import grp
import itertools
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEBIAN = ROOT / ".venv" / "debian"
VECTORS = ROOT.parent / "shared" / "vectors"
BUILT = ROOT / ".build" / "debug"
SLIMTAD = pathlib.Path(os.environ.get("SLIMTAD", BUILT / "slimtad"))

IS_ROOT = os.geteuid() == 0

# Who programs become that do not stay root, and who owns what they write: nobody where we are root, else ourselves.
USER = "nobody" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
GROUP = "nogroup" if IS_ROOT else grp.getgrgid(os.getegid()).gr_name

# All on loopback addresses of their own, so the ports can be the same for all.
SUBMISSION, SUBMISSIONS, MX_PORT, DNS_PORT = 2587, 2465, 2525, 5353


class NotReady(Exception):
    """A program did not start, or ended before it should: the text holds its log."""


def wait_until(condition, timeout=15.0, what="a condition"):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.02)


_addresses = itertools.count(1)


def new_address():
    """A loopback address that nothing else of this test run uses: the second octet is this worker's."""
    number = next(_addresses)
    return f"127.{64 + os.getpid() % 128}.{number // 250}.{number % 250 + 1}"


def free_ports(count):
    """Ports that nobody listens on now, for a program that takes no address of its own: below those that the kernel gives to
    connections, which would be in the way just as well."""
    found = []
    while len(found) < count:
        port = random.randrange(23_000, 32_000)
        try:
            socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True).close()
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


# Where folders of tests are: so that paths of sockets stay short, and other users can pass through.
DISK, MEMORY = "/tmp", "/dev/shm"


def in_memory():
    """MEMORY if it has room for the queues of all workers and programs may be run from there, else DISK: the journal and
    the reserve of a daemon are 143 MB that a disk writes for each test."""
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return DISK
    return DISK if room.f_bavail * room.f_frsize < 8 << 30 or room.f_flag & os.ST_NOEXEC else MEMORY


class Place:
    """A folder for what a test starts, and these programs."""

    def __init__(self, folder=DISK):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="slimtad-test-", dir=folder))
        self.path.chmod(0o755)
        self.programs = []

    def folder(self, name):
        """A new folder that belongs to USER."""
        folder = self.path / name
        folder.mkdir(parents=True)
        give(folder)
        return folder

    def stop_all(self):
        """Stops what was started here, the last first."""
        for program in reversed(self.programs):
            program.kill()

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


def give(path):
    """Makes `path` the property of USER."""
    if IS_ROOT:
        shutil.chown(path, USER, GROUP)


def fill(folder):
    """Writes a file until not a block is left on that file system, and returns its path."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
    free = os.statvfs(folder)
    assert free.f_bavail * free.f_frsize < 65536
    return path


def must_exist(program):
    """The path of a program that .ci/deps put in place, or a failure that says so: never a skip."""
    path = shutil.which(str(program))
    if path is None:
        raise NotReady(f"{program} is not here: run `.ci/deps test`, and `make build` for slimtad")
    return path


class Program:
    """A child process in the foreground, with its output in a file."""

    def __init__(self, place, name):
        self.place = place
        self.name = name
        self.log_path = place.path / f"{name}.log"
        self.process = None
        place.programs.append(self)

    def launch(self, command, env=None, cwd=None, pass_fds=()):
        command = [str(word) for word in command]
        must_exist(command[0])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                env={**os.environ, **(env or {})}, start_new_session=True, pass_fds=pass_fds,
            )

    @property
    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_until(self, condition, timeout=15.0, what="a condition"):
        """As the function, but over at once with the log when the program ends."""

        def checked():
            result = condition()
            if not result and self.process and self.process.poll() is not None:
                raise NotReady(f"{self.name} ended with {self.process.returncode}:\n{self.log[-6000:]}")
            return result

        try:
            return wait_until(checked, timeout, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; log of {self.name}:\n{self.log[-6000:]}") from None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=20.0):
        """The exit status, once it has ended."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not end within {timeout} s:\n{self.log[-6000:]}") from None

    def term(self, timeout=20.0):
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL to it and to all that it started; no complaint if it has ended already."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
