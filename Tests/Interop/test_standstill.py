"""Mail that is accepted and does not leave, for a reason that an operator has to know: it is shown where they look."""

import contextlib
import json
import os
import socket

import pytest

from harness.machine import GROUP, IS_ROOT, USER
from harness.messages import message
from harness.slimtad import run_slimtad


def command(slimtad, *arguments):
    first, *rest = arguments
    return run_slimtad(first, *rest, "--config", slimtad.configuration)


@contextlib.contextmanager
def notify_socket(place):
    """What a daemon tells systemd: a function that gives the assignments that came."""
    path = str(place.path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        os.chmod(path, 0o777)
        server.setblocking(False)
        told = []

        def lines():
            with contextlib.suppress(BlockingIOError):
                while True:
                    told.extend(server.recv(65536).decode().splitlines())
            return told

        yield path, lines


def test_deliver_false_is_seen(make_slimtad, place):
    with notify_socket(place) as (path, told):
        slimtad = make_slimtad(queue={"deliver": False})
        slimtad.environment = {"NOTIFY_SOCKET": path}
        slimtad.start()
        queue_id = slimtad.submit(message(), "someone@one.test")
        status = command(slimtad, "status")
        assert "nothing is delivered: [queue] deliver = false" in status.stdout
        assert json.loads(command(slimtad, "status", "--json").stdout)["delivering"] is False
        slimtad.wait_until(
            lambda: any(line.startswith("STATUS=") and "nothing is delivered" in line for line in told()),
            what="the status line of systemd")
        for flush in (["--all"], [queue_id]):
            result = command(slimtad, "queue", "flush", *flush)
            assert result.returncode == 0 and "nothing is delivered" in result.stderr, result
        assert slimtad.term() == 0


def test_deliver_true_says_nothing_of_it(make_slimtad):
    slimtad = make_slimtad().start()
    assert "nothing is delivered" not in command(slimtad, "status").stdout
    assert "nothing is delivered" not in command(slimtad, "queue", "flush", "--all").stderr
    assert json.loads(command(slimtad, "status", "--json").stdout)["delivering"] is True


@pytest.fixture
def smarthost(make_slimtad):
    """Another slimtad that keeps what it gets, and one that has a login there."""
    host = make_slimtad(name="smarthost", queue={"deliver": False}).add_user("relay", "right").start()
    password = host.folder / "password"
    password.write_text("wrong\n")
    password.chmod(0o600)
    if IS_ROOT:
        import shutil
        shutil.chown(password, USER, GROUP)
    slimtad = make_slimtad(relay={
        "type": "smtp", "host": f"{host.address}:2587", "username": "relay", "password_file": str(password),
        "port": None, "allow_networks": None, "tls": "required"})
    # The certificate of a host with our login is verified.
    slimtad.environment = {"SSL_CERT_FILE": str(host.certificate.chain)}
    slimtad.start()
    return slimtad, host, password


def test_a_smarthost_that_refuses_our_password_is_seen(smarthost):
    slimtad, host, password = smarthost
    slimtad.submit(message(), "someone@one.test")
    slimtad.wait_for_log(r"warning.*relay refuses our login, its mail waits.*535")
    for _ in range(2):
        slimtad.submit(message(), "someone@one.test")
    slimtad.wait_for_attempts(3)
    assert len([line for line in slimtad.log.splitlines() if "refuses our login" in line]) == 1
    warnings = json.loads(command(slimtad, "status", "--json").stdout)["warnings"]
    assert any("refuses our login" in warning and "535" in warning for warning in warnings), warnings
    assert "right" not in slimtad.log and "wrong" not in slimtad.log.replace("wrong users", "")
    # Put right, it is gone.
    password.write_text("right\n")
    assert command(slimtad, "reload").returncode == 0
    slimtad.wait_for_attempts(3, status="2.6.0")
    assert "refuses our login" not in command(slimtad, "status").stdout
