"""Fixtures: a machine for each module, with the package installed as a fresh one, and slimtad set up to deliver to its MX.

`.ci/test-system` builds the package and the machine's image, and says where the package is in SLIMTAD_DEB.
"""

import os
import pathlib

import pytest

from machine import Machine


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    machine = item.funcargs.get("machine") or item.funcargs.get("bare")
    if report.when == "call" and report.failed and machine:
        tail = machine.run("journalctl -b --no-pager -o short-precise -u slimtad | tail -n 60", check=False)
        report.sections.append(("the machine's journal", tail))


FACTS = []


def pytest_terminal_summary(terminalreporter):
    for fact in FACTS:
        terminalreporter.write_line(fact)


@pytest.fixture
def fact():
    """What was measured: said at the end."""
    return FACTS.append


@pytest.fixture(scope="session")
def deb():
    return pathlib.Path(os.environ["SLIMTAD_DEB"])


@pytest.fixture(scope="module")
def bare():
    """A fresh machine without slimtad."""
    machine = Machine()
    yield machine
    machine.destroy()


def install(machine, deb):
    machine.copy(deb, "/root/slimtad.deb")
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/slimtad.deb </dev/null 2>&1")


@pytest.fixture(scope="module")
def installed(bare, deb):
    set_up(bare, deb)
    return bare


def set_up(machine, deb):
    """Slimtad installed, an MX that it delivers to, and one user."""
    machine.start_mx()
    install(machine, deb)
    machine.configure("dns", dnssec='"off"')
    machine.configure("relay", allow_networks='["127.0.0.0/8"]')
    machine.configure("queue", retry='["1s"]')
    # For load without the cost of TLS and passwords.
    machine.append(
        '[[edge]]\nname = "load"\ntype = "smtp"\nlisten = ["127.0.0.1:2587"]\ntls = "none"\nauth = "none"\n')
    machine.add_user()
    machine.configuration = machine.read("/etc/slimta/slimta.conf")


@pytest.fixture
def machine(installed):
    """The same, as it was at first, and slimtad started."""
    installed.remove_drop_ins()
    installed.write("/etc/slimta/slimta.conf", installed.configuration)
    installed.run("systemctl reset-failed; systemctl restart slimtad")
    installed.mark = installed.cursor()
    return installed
