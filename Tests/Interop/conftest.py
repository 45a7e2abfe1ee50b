"""Fixtures of the interop tests: a folder with its programs for each test, and slimtad in it.

What was started is stopped after the test whatever happened; the folder stays if the test failed, and its path is told.
"""

import re
import subprocess

import pytest

from harness.machine import DISK, IS_ROOT, SLIMTAD, Place, in_memory
from harness.nameserver import NameServer
from harness.postgres import Postgres
from harness.schedule import LongestFirst
from harness.sink import Sink
from harness.slimtad import Slimtad, run_slimtad


def pytest_configure(config):
    """No daemon, no test: nothing here may pass without one."""
    if not SLIMTAD.exists():
        pytest.exit(f"no daemon at {SLIMTAD}: run `make build` first", returncode=1)
    version = run_slimtad("--version")
    if version.returncode != 0 or not re.match(r"slimtad \d+\.\d+", version.stdout):
        pytest.exit(f"{SLIMTAD} --version: {version.returncode} {version.stdout}{version.stderr}", returncode=1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())


def _place(request):
    place = Place(DISK if request.node.get_closest_marker("disk") else in_memory())
    daemons = []

    def finish():
        try:
            for daemon in daemons:
                daemon.finish()
        finally:
            place.stop_all()

    place.slimtads = daemons
    return place, finish


@pytest.fixture
def place(request):
    """A folder for this test; every program in it ends with the test."""
    place, finish = _place(request)
    yield place
    finish()
    call = getattr(request.node, "report_call", None)
    if call is not None and call.passed:
        place.remove()
    else:
        print(f"kept: {place.path}")


@pytest.fixture
def make_slimtad(place):
    """Makes daemons that are watched for crashes and errors; see Slimtad for the arguments."""

    def make(*arguments, **settings):
        daemon = Slimtad(place, *arguments, **settings)
        place.slimtads.append(daemon)
        return daemon

    return make


@pytest.fixture
def sink(place):
    """smtp-sink, started."""
    return Sink(place).start()


@pytest.fixture
def nameserver(place):
    """unbound, not started: tests add their records first."""
    return NameServer(place)


@pytest.fixture
def one_mx(nameserver, sink, make_slimtad):
    """slimtad, started, and one.test whose MX is `sink`."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    return make_slimtad(nameserver).start()


@pytest.fixture(scope="module")
def module_place(request):
    """A folder for all tests of a module."""
    place, finish = _place(request)
    failed = request.session.testsfailed
    yield place
    finish()
    if request.session.testsfailed == failed:
        place.remove()
    else:
        print(f"kept: {place.path}")


@pytest.fixture
def tiny_disk(place):
    """A file system of 200 MiB in memory."""
    path = place.folder("disk")
    if not IS_ROOT or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200m,mode=0755", "none", path], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="module")
def server(module_place):
    """A PostgreSQL for the nodes of several queues."""
    return Postgres(module_place, max_connections=120).start()


@pytest.fixture
def words(server, request):
    """A database of it for one test, as `put_queue_into` takes it."""
    name = re.sub(r"\W", "_", request.node.name)[:50]
    return server.add_database(name, f"r_{name}")
