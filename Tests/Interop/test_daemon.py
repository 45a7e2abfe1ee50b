"""slimtad as a process: start, readiness, signals, privileges, what it refuses to share."""

import os
import pathlib
import signal
import smtplib
import socket
import subprocess
import time

import pytest

from harness.certificate import make_certificate
from harness.machine import IS_ROOT, SLIMTAD, SUBMISSION, new_address, wait_until
from harness.messages import message
from harness.slimtad import (
    CANNOT_CREATE, CONFIGURATION, LOGIN, NOT_PERMITTED, PASSWORD, TEMPORARY, run_slimtad)


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def can_log_in(slimtad, login=LOGIN, password=PASSWORD):
    try:
        slimtad.connect(login=login, password=password).quit()
        return True
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPConnectError):
        return False


def serial_shown(slimtad):
    """The serial number of the certificate that a new session gets."""
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"{slimtad.address}:{SUBMISSION}", "-starttls", "smtp"],
        input="QUIT\r\n", capture_output=True, text=True, timeout=20).stdout
    return subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, check=True,
    ).stdout.strip().removeprefix("serial=")


# SIGHUP


def test_reload_takes_a_new_certificate(make_slimtad, place):
    slimtad = make_slimtad().start()
    before = slimtad.connect()
    assert serial_shown(slimtad) == slimtad.certificate.serial
    new = make_certificate(slimtad.folder, "new.slimtad.test", slimtad.address)
    slimtad.change(tls={"certificate": str(new.chain), "key": str(new.key)})
    slimtad.reload()
    slimtad.wait_until(lambda: serial_shown(slimtad) == new.serial, what="the new certificate")
    assert before.noop()[0] == 250, "a session did not outlive the reload"
    before.quit()


def test_reload_takes_a_certificate_replaced_in_place(make_slimtad):
    """As certbot does: same names, new content."""
    slimtad = make_slimtad().start()
    old = slimtad.certificate.serial
    slimtad.certificate = make_certificate(slimtad.folder, "mail.slimtad.test", slimtad.address)
    assert slimtad.certificate.serial != old
    assert serial_shown(slimtad) == old
    slimtad.reload()
    slimtad.wait_until(lambda: serial_shown(slimtad) == slimtad.certificate.serial, what="the new certificate")


def test_reload_keeps_the_old_certificate_if_the_new_one_is_bad(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.expect_error("reload|certificate|configuration")
    old = slimtad.certificate.serial
    slimtad.certificate.chain.write_text("no certificate\n")
    lines = len(slimtad.log.splitlines())
    slimtad.reload()
    slimtad.wait_until(
        lambda: any(str(slimtad.certificate.chain) in line for line in slimtad.log.splitlines()[lines:]),
        what="a complaint that names the file")
    assert serial_shown(slimtad) == old


def test_reload_takes_a_new_user(make_slimtad):
    """Added by `slimtad passwd` as the operator, read by the daemon after it has dropped its privileges."""
    slimtad = make_slimtad().start()
    assert not can_log_in(slimtad, "late", "comer")
    slimtad.add_user("late", "comer")
    slimtad.reload()
    slimtad.wait_until(lambda: can_log_in(slimtad, "late", "comer"), what="the new user's login")
    assert can_log_in(slimtad)


def test_reload_forgets_a_deleted_user(make_slimtad):
    slimtad = make_slimtad().add_user("leaver", "bye").start()
    assert can_log_in(slimtad, "leaver", "bye")
    assert run_slimtad("passwd", "--config", slimtad.configuration, "leaver", "--delete").returncode == 0
    slimtad.reload()
    slimtad.wait_until(lambda: not can_log_in(slimtad, "leaver", "bye"), what="the end of the login")


def test_reload_takes_new_settings(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.change(limits={"message_size": 12345})
    slimtad.reload()

    def offered():
        with slimtad.connect() as client:
            client.ehlo()
            return client.esmtp_features["size"]

    slimtad.wait_until(lambda: offered() == "12345", what="the new size limit")


def test_reload_keeps_the_old_configuration_if_the_new_one_is_broken(make_slimtad, sink, nameserver):
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.expect_error("reload|configuration")
    slimtad.configuration.write_text(slimtad.configuration.read_text() + "\n[limits\nbroken\n")
    slimtad.reload()
    slimtad.wait_for_log(str(slimtad.configuration) + r":\d+")
    slimtad.submit(message(), "someone@one.test")
    sink.wait_for(1)


def test_reload_again_and_again_under_load(make_slimtad, sink, nameserver):
    """Nothing that was accepted is lost, no session is cut."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    for number in range(10):
        slimtad.reload()
        slimtad.submit(message(f"number {number}"), "someone@one.test")
    sink.wait_for(10)


# Stop


def test_sigint_stops_like_sigterm(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.signal(signal.SIGINT)
    assert slimtad.wait() == 0


def test_sigterm_twice(make_slimtad):
    slimtad = make_slimtad().start()
    client = slimtad.connect()
    slimtad.signal(signal.SIGTERM)
    slimtad.signal(signal.SIGTERM)
    assert slimtad.wait() == 0
    client.close()


def test_sigpipe_is_not_the_end(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.signal(signal.SIGPIPE)
    assert can_log_in(slimtad)


# Start


def test_second_daemon_on_the_same_queue(make_slimtad):
    """Exit status 75, and the first one goes on."""
    first = make_slimtad().start()
    second = make_slimtad(name="second", daemon={
        "state_directory": str(first.state), "runtime_directory": str(first.runtime)})
    second.expect_error(".")
    second.add_user().start(wait=False)
    assert second.wait() == TEMPORARY, second.log
    assert str(first.process.pid) in second.log
    assert can_log_in(first)


def test_port_in_use(make_slimtad):
    slimtad = make_slimtad()
    slimtad.expect_error(".")
    with socket.create_server((slimtad.address, SUBMISSION)):
        slimtad.start(wait=False)
        assert slimtad.wait() == CANNOT_CREATE, slimtad.log
    assert f"{slimtad.address}:{SUBMISSION}" in slimtad.log


def test_address_that_is_not_here(make_slimtad):
    slimtad = make_slimtad(edges=[
        {"name": "elsewhere", "type": "smtp", "listen": ["192.0.2.99:2587"], "tls": "starttls", "auth": "required"}])
    slimtad.expect_error(".")
    slimtad.start(wait=False)
    assert slimtad.wait() == CANNOT_CREATE, slimtad.log
    assert "192.0.2.99:2587" in slimtad.log


def test_state_directory_that_cannot_be_written(make_slimtad, place):
    slimtad = make_slimtad(daemon={"state_directory": "/proc/slimtad"})
    slimtad.expect_error(".")
    slimtad.add_user().start(wait=False)
    assert slimtad.wait() in (CANNOT_CREATE, NOT_PERMITTED, CONFIGURATION), slimtad.log
    assert "/proc/slimtad" in slimtad.log


def test_state_directory_is_made(make_slimtad, place):
    parent = place.folder("var")
    slimtad = make_slimtad(daemon={"state_directory": str(parent / "lib"), "runtime_directory": str(parent / "run")})
    slimtad.start()
    assert (parent / "lib").stat().st_mode & 0o077 == 0, "others can look into the queue"


def test_ready_is_told_to_the_service_manager(make_slimtad, place):
    """READY=1 when, and not before, it accepts; STOPPING=1 when it stops."""
    path = place.path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.chmod(0o777)
        manager.settimeout(20)
        slimtad = make_slimtad()
        slimtad.environment["NOTIFY_SOCKET"] = str(path)
        slimtad.start(wait=False)
        said = b""
        while b"READY=1" not in said:
            said = manager.recv(4096)
        assert slimtad.is_ready()
        slimtad.signal(signal.SIGHUP)
        said = b""
        while b"RELOADING=1" not in said:
            said = manager.recv(4096)
        while b"READY=1" not in said:
            said = manager.recv(4096)
        slimtad.signal(signal.SIGTERM)
        while b"STOPPING=1" not in said:
            said = manager.recv(4096)
        assert slimtad.wait() == 0


def test_no_descriptor_of_the_starter_is_used_up(make_slimtad):
    """Started with stdin, stdout and stderr closed, it must not take a socket or the queue for stderr."""
    slimtad = make_slimtad().add_user()
    slimtad.launch(["/bin/sh", "-c", f'exec "{SLIMTAD}" run --config "{slimtad.configuration}" <&- >&- 2>&-'])
    slimtad.wait_until(slimtad.is_ready, what="slimtad's greeting")
    links = [os.readlink(f"/proc/{slimtad.process.pid}/fd/{number}") for number in (0, 1, 2)]
    assert links == ["/dev/null"] * 3


def test_few_file_descriptors(make_slimtad):
    """With a hard limit of 64 files, 120 connections: it says so, keeps serving, and recovers."""
    slimtad = make_slimtad(limits={"connections_per_address": 1000})
    slimtad.expect_error("file|descriptor|connection")
    slimtad.add_user()
    slimtad.launch(["/bin/sh", "-c", f'ulimit -n 64; exec "{SLIMTAD}" run --config "{slimtad.configuration}"'])
    slimtad.wait_until(slimtad.is_ready, what="slimtad's greeting")
    clients = []
    for _ in range(120):
        client = socket.socket()
        client.settimeout(2)
        client.connect((slimtad.address, SUBMISSION))
        clients.append(client)
    time.sleep(0.5)
    for client in clients:
        client.close()
    # Until the last of them is gone there may be too many.
    slimtad.wait_until(lambda: slimtad.is_ready() and can_log_in(slimtad), what="a login after the flood")


# Privileges


def test_drops_root(make_slimtad):
    """Started as root it becomes [daemon] user, for good: uid, gid, no supplementary group, no capability; but one
    thread has the one to bind low ports, out of effect, for a reload."""
    if not IS_ROOT:
        pytest.skip("started by an ordinary user: there is nothing to drop; CI runs this as root")
    slimtad = make_slimtad(edges=None)
    slimtad.settings["edge"][0]["listen"].append(f"{new_address()}:587")
    slimtad.change()
    slimtad.start()
    for task in pathlib.Path(f"/proc/{slimtad.process.pid}/task").iterdir():
        status = status_of(f"{slimtad.process.pid}/task/{task.name}")
        assert status["Uid"].split() == ["65534"] * 4
        assert status["Gid"].split() == ["65534"] * 4
        assert status["Groups"].split() in ([], ["65534"])
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            if name != "CapPrm" or status["Name"] != "binder":
                assert int(status[name], 16) == 0, name
        assert int(status["CapPrm"], 16) in (0, 1 << 10)
    assert can_log_in(slimtad)


def test_root_is_no_user_to_run_as(make_slimtad):
    if not IS_ROOT:
        pytest.skip("started by an ordinary user: there is nothing to drop; CI runs this as root")
    slimtad = make_slimtad().add_user()
    slimtad.change(daemon={"user": "root", "group": "root"})
    slimtad.expect_error(".")
    slimtad.start(wait=False)
    assert slimtad.wait() in (NOT_PERMITTED, CONFIGURATION), slimtad.log


def test_unknown_user(make_slimtad):
    if not IS_ROOT:
        pytest.skip("started by an ordinary user: there is nothing to drop; CI runs this as root")
    slimtad = make_slimtad().add_user()
    slimtad.change(daemon={"user": "no-such-user"})
    slimtad.expect_error(".")
    slimtad.start(wait=False)
    assert slimtad.wait() in (NOT_PERMITTED, CONFIGURATION), slimtad.log
    assert "no-such-user" in slimtad.log


def test_started_by_an_ordinary_user(make_slimtad, place):
    """No root anywhere: ports above 1023, and it just runs."""
    if not IS_ROOT:
        pytest.skip("that is how all the other tests start it here")
    slimtad = make_slimtad(daemon={"user": None, "group": None})
    binary = place.path / "copy-of-slimtad"
    binary.write_bytes(SLIMTAD.read_bytes())
    binary.chmod(0o755)
    slimtad.users.touch(mode=0o600)
    os.chown(slimtad.users, 65534, 65534)
    slimtad.add_user()
    slimtad.launch(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, "run", "--config",
                    slimtad.configuration])
    slimtad.wait_until(slimtad.is_ready, what="slimtad's greeting")
    assert can_log_in(slimtad)


# --daemonize


def daemonize(slimtad):
    pid_file = slimtad.runtime / "slimtad.pid"
    result = run_slimtad("run", "--config", slimtad.configuration, "--daemonize", "--pid-file", pid_file)
    return result, pid_file


def test_daemonize(make_slimtad):
    """The parent ends when, and not before, the daemon accepts: 0. The daemon has no terminal, its own session, and a
    pid file that is gone after SIGTERM."""
    slimtad = make_slimtad().add_user()
    result, pid_file = daemonize(slimtad)
    assert result.returncode == 0, result.stderr
    pid = int(pid_file.read_text())
    try:
        assert slimtad.is_ready()
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        session, terminal = int(stat[3]), int(stat[4])
        assert session != os.getsid(0) and session != pid, "not the leader of its session, and not of ours"
        assert terminal == 0
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)] == ["/dev/null"] * 3
        if IS_ROOT:
            assert status_of(pid)["Uid"].split() == ["65534"] * 4
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), what="the daemon's end")
    assert not pid_file.exists()


def test_daemonize_tells_why_it_could_not(make_slimtad):
    """The parent ends with the daemon's status and message."""
    slimtad = make_slimtad().add_user()
    with socket.create_server((slimtad.address, SUBMISSION)):
        result, pid_file = daemonize(slimtad)
    assert result.returncode == CANNOT_CREATE
    assert f"{slimtad.address}:{SUBMISSION}" in result.stderr
    assert not pid_file.exists()


def test_daemonize_with_a_broken_configuration(make_slimtad):
    slimtad = make_slimtad().add_user()
    slimtad.configuration.write_text("hostname = 5\n")
    result, _ = daemonize(slimtad)
    assert result.returncode == CONFIGURATION
    assert f"{slimtad.configuration}:1" in result.stderr
