"""Logins by PAM: a real libpam with a service file of our own, modules of Debian, and one that hangs, crashes and lies."""

import base64
import concurrent.futures
import json
import os
import pathlib
import signal
import smtplib
import socket
import struct
import subprocess
import time

import pytest

from harness.guessing import through_proxy
from harness.helper import Helper
from harness.http import HTTP, PORT, basic, edge, envelope, request
from harness.machine import IS_ROOT, SUBMISSIONS, USER, must_exist, wait_until
from harness.slimtad import CONFIGURATION, LOGIN, OK, PASSWORD, run_slimtad

SECRET = "open sesame"
RIGHT = (235, b"2.7.0 Authentication successful")
WRONG = (535, b"5.7.8 Authentication credentials invalid")
SOURCE = pathlib.Path(__file__).parent / "harness" / "pam_says.c"


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The module that does what its user's name says, where everybody can read it."""
    folder = tmp_path_factory.mktemp("pam")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and path != path.parent:
            path.chmod(path.stat().st_mode | 0o055)
    built = folder / "pam_says.so"
    subprocess.run([must_exist("gcc"), "-shared", "-fPIC", "-o", built, SOURCE, "-lpam"], check=True)
    return built


@pytest.fixture
def make(make_slimtad, place, module):
    """A daemon whose users are whom this service file knows."""
    folder = place.folder("pam.d")

    def make(service=None, backends=("pam",), start=True, **settings):
        text = service or f"auth required {module}\naccount required {module}\n"
        (folder / "slimtad").write_text(text)
        daemon = make_slimtad(
            auth={"backends": list(backends), "pam": {"directory": str(folder), "timeout": "2s"} | settings},
            queue={"deliver": False}, log={"level": "debug"})
        daemon.service = folder / "slimtad"
        return daemon.start() if start else daemon
    return make


def session(daemon):
    client = smtplib.SMTP_SSL(
        daemon.address, SUBMISSIONS, "client.test", timeout=30, context=daemon.certificate.trusting_context())
    client.ehlo()
    return client


def log_in(daemon, user, password=SECRET):
    with session(daemon) as client:
        return client.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())


def helper_of(daemon):
    (helper,) = wait_until(lambda: subprocess.run(
        ["pgrep", "-f", f"pam-helper --config {daemon.configuration}"], capture_output=True, text=True).stdout.split()[:1],
        what="the helper")
    return int(helper)


def children_of(process):
    return subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()


def test_what_pam_says(make):
    daemon = make()
    with session(daemon) as client:
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        client.user, client.password = "maria", SECRET
        assert client.auth("LOGIN", client.auth_login) == RIGHT
    assert log_in(daemon, "maria") == RIGHT
    for user, password in [("maria", "wrong"), ("nobody", SECRET), ("a/b", SECRET), ("maria", "x" * 600)]:
        assert log_in(daemon, user, password) == WRONG, user
    for user, reason in [("expired", b"expired"), ("old", b"password has expired"), ("closed", b"not allowed now")]:
        code, text = log_in(daemon, user)
        assert code == 535 and reason in text
        # Only who knows the password is told.
        assert log_in(daemon, user, "wrong") == WRONG
    # What is our own fault is no reason to ask for another password.
    for user, reason in [("broken", r"\(9\)"), ("system", r"\(4\)"), ("crash", "signal 6"), ("code", "more than a password")]:
        assert log_in(daemon, user)[0] == 454, user
        daemon.wait_for_log(reason)
    assert log_in(daemon, "host", "127.0.0.1") == RIGHT
    assert SECRET not in daemon.log


def test_who_may_send_as_whom(make):
    daemon = make(domain="example.com")
    for login in ("maria", "alias", "maria@Example.COM"):
        with session(daemon) as client:
            client.login(login, SECRET)
            assert client.mail("maria@mail.slimtad.test")[0] == 553
            assert client.mail("maria@example.com")[0] == 250
    daemon.wait_for_log("authenticated.*user=maria")


def test_a_module_that_hangs_hangs_nobody_else(make):
    daemon = make()
    helper = helper_of(daemon)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        hanging = [pool.submit(log_in, daemon, "hang") for _ in range(10)]
        wait_until(lambda: len(children_of(helper)) == 10, what="ten processes")
        assert log_in(daemon, "maria") == RIGHT
        assert not any(one.done() for one in hanging)
        hanging += [pool.submit(log_in, daemon, "hang") for _ in range(6)]
        wait_until(lambda: len(children_of(helper)) == 16, what="sixteen processes")
        assert log_in(daemon, "maria")[0] == 454
        daemon.wait_for_log("16 questions to PAM wait")
        assert {one.result()[0] for one in hanging} == {454}
    daemon.wait_for_log("PAM has not answered in time")
    assert not children_of(helper)
    assert log_in(daemon, "maria") == RIGHT


def behind_a_proxy(make, timeout):
    daemon = make(start=False, timeout=timeout)
    daemon.settings["edge"].append({
        "name": "behind", "type": "smtp", "listen": [f"{daemon.address}:2525"], "tls": "starttls", "auth": "required",
        "proxy_protocol": ["127.0.0.0/8"]})
    daemon.change()
    return daemon.start()


def ask(daemon, address, user, wire=None):
    wire = wire or through_proxy(daemon, address)[0]
    with wire:
        return int(wire.ask("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{SECRET}".encode()).decode())[:3])


def vanish(wire):
    """Lost, and not only silent: who says no more may still wait for the answer."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


def failures(daemon, address):
    """How many are held against an address; None: nothing is, or it is turned away."""
    found = json.loads(run_slimtad("guess", "list", "--json", "--config", daemon.configuration).stdout)
    counts = {one["name"]: one["failures"] for one in found if not one["until"]}
    assert set(counts) <= {address} and not any(one["until"] for one in found), found
    return counts.get(address)


def test_who_makes_pam_hang_waits(make):
    """A time-out is no wrong password, and has nobody turned away; but who causes them, or goes away before them, waits."""
    daemon = behind_a_proxy(make, "1s")
    address = "203.0.113.5"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        wires = [through_proxy(daemon, address)[0] for _ in range(8)]
        assert list(pool.map(lambda wire: ask(daemon, address, "hang", wire), wires)) == [454] * 8
    # All were under way when the first one was over.
    assert failures(daemon, address) == 8 and "authentication failed" not in daemon.log
    assert ask(daemon, "198.51.100.1", "maria") == 235
    assert run_slimtad("guess", "release", address, "--config", daemon.configuration).returncode == OK
    helper = helper_of(daemon)
    daemon.change(auth={"pam": daemon.settings["auth"]["pam"] | {"timeout": "60s"}})
    daemon.reload()
    wires = [through_proxy(daemon, address)[0] for _ in range(6)]
    for number, wire in enumerate(wires):
        wire.send(b"AUTH PLAIN " + base64.b64encode(f"\0hang\0{SECRET}".encode()) + b"\r\n")
        wait_until(lambda: len(children_of(helper)) == number + 1, what="the process")
    for wire in wires:
        vanish(wire)
    wait_until(lambda: failures(daemon, address) == 6, what="six that count")
    assert not children_of(helper)


def test_what_hangs_from_many_addresses_leaves_room(make):
    """Who has made it hang before has half of the processes with all others who have: a stranger has his answer at once."""
    daemon = behind_a_proxy(make, "5s")
    helper = helper_of(daemon)
    addresses = [f"203.0.{number}.5" for number in range(113, 121)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert list(pool.map(lambda address: ask(daemon, address, "hang"), addresses)) == [454] * 8
        wires = [through_proxy(daemon, address)[0] for address in addresses * 3]
        hanging = [pool.submit(ask, daemon, None, "hang", wire) for wire in wires]
        wait_until(lambda: len(children_of(helper)) == 8, what="eight processes")
        wait_until(lambda: sum(one.done() for one in hanging) >= 16, what="answers to the others")
        assert ask(daemon, "198.51.100.1", "maria") == 235
        assert {one.result() for one in hanging} == {454}


def test_who_has_gone_leaves_no_process(make):
    daemon = make(timeout="60s")
    helper = helper_of(daemon)
    client = session(daemon)
    client.putcmd("AUTH", "PLAIN " + base64.b64encode(f"\0hang\0{SECRET}".encode()).decode())
    wait_until(lambda: children_of(helper), what="the process")
    # Lost, and not only silent: who says no more may still wait for the answer.
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_until(lambda: not children_of(helper), what="its end")
    client = session(daemon)
    client.putcmd("AUTH", "PLAIN " + base64.b64encode(f"\0hang\0{SECRET}".encode()).decode())
    wait_until(lambda: children_of(helper), what="the process")
    (process,) = children_of(helper)
    # Nothing of other clients is in there, and none of the daemon's sockets.
    assert len(os.listdir(f"/proc/{process}/fd")) == 4
    assert int(open(f"/proc/{process}/stat").read().rsplit(")")[1].split()[3]) == int(process)
    daemon.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{helper}") and not os.path.exists(f"/proc/{process}"), what="all ends")


def test_unknown_names_take_as_long_as_wrong_passwords(make):
    """The module knows them at once: no answer leaves before one to a right password would."""
    daemon = make()

    def took(user, password):
        start = time.monotonic()
        log_in(daemon, user, password)
        return time.monotonic() - start

    assert took("nobody", "x") > 0.1
    assert took("slow", SECRET) > 1
    assert took("nobody", "x") > 1 and took("maria", "x") > 1


@pytest.mark.parametrize("password, wanted", [("correct horse", 235), ("wrong", 535)])
def test_pam_exec(make, place, password, wanted):
    """It says PAM_SYSTEM_ERR for a program that says no: that is a no where slimta.conf says so."""
    script = place.path / "check.sh"
    script.write_text('#!/bin/sh\np=$(tr -d "\\000"); [ "$PAM_USER" = maria ] && [ "$p" = "correct horse" ]\n')
    script.chmod(0o755)
    service = f"auth required pam_exec.so quiet expose_authtok {script}\naccount required pam_permit.so\n"
    daemon = make(service, system_error="refuse")
    assert log_in(daemon, "maria", password)[0] == wanted
    daemon.change(auth={"pam": daemon.settings["auth"]["pam"] | {"system_error": "unavailable"}})
    daemon.reload()
    assert log_in(daemon, "maria", password)[0] == (wanted if wanted == 235 else 454)


def test_modules_of_debian(make):
    daemon = make("auth required pam_permit.so\naccount required pam_deny.so\n")
    code, text = log_in(daemon, "maria")
    assert code == 535 and b"not allowed now" in text
    # The file is read for each question.
    daemon.service.write_text("auth required pam_deny.so\naccount required pam_permit.so\n")
    assert log_in(daemon, "maria") == WRONG
    daemon.service.write_text("auth required pam_no_such_module.so\n")
    assert log_in(daemon, "maria")[0] in (454, 535)
    daemon.service.unlink()
    assert log_in(daemon, "maria")[0] == 454
    daemon.wait_for_log(r"PAM: .*\(26\)")
    if IS_ROOT:
        daemon.service.write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
        for user in ("root", "no-such-user"):
            assert log_in(daemon, user, "certainly not") == WRONG


def test_behind_the_users_file_and_over_http(make):
    daemon = make(backends=["file", "pam"], start=False)
    daemon.settings["edge"].append(edge(daemon, auth="required", plaintext_auth=True))
    daemon.change()
    daemon.add_user().start()

    def post(user, password, sender):
        with HTTP(daemon.address, PORT) as client:
            return client.ask(request(
                b"Subject: by PAM\r\n\r\nHi\r\n", envelope(sender=sender), Authorization=basic(user, password))).status

    assert post("maria", SECRET, "maria@mail.slimtad.test") == 200
    assert post(LOGIN, PASSWORD, "maria@mail.slimtad.test") == 200
    assert post("maria", "wrong", "maria@mail.slimtad.test") == 401
    assert post("broken", "wrong", "maria@mail.slimtad.test") // 100 == 5
    assert log_in(daemon, "maria") == log_in(daemon, LOGIN, PASSWORD) == RIGHT


def test_who_is_disabled_is_in_by_no_other_spelling(make):
    daemon = make(backends=["file", "pam"], start=False, domain="example.com")
    daemon.change(auth={"fold_case": True})
    daemon.add_user("maria@example.com")
    daemon.start()
    spellings = ["maria", "alias", "maria@example.com", "Maria@Example.COM"]
    for login in spellings:
        assert log_in(daemon, login) == RIGHT, login
    assert run_slimtad("passwd", "--config", daemon.configuration, "maria@example.com", "--disable").returncode == OK
    daemon.reload()
    for login in spellings:
        assert log_in(daemon, login) == WRONG, login


def test_the_helper_is_gone_and_comes_back(make):
    daemon = make()
    daemon.expect_error("helper has ended")
    os.kill(helper_of(daemon), signal.SIGKILL)
    wait_until(lambda: log_in(daemon, "maria")[0] == 454, what="its end")
    daemon.wait_for_log("start slimtad again")
    daemon.wait_for_log("helper has ended.*command=pam-helper")
    assert "slimtad pam-helper has ended" in run_slimtad("status", "--config", daemon.configuration).stdout
    checked = run_slimtad("check", "--config", daemon.configuration).stderr
    assert "PAM's helper at" in checked and "start slimtad again" in checked
    assert daemon.term() == 0
    daemon.start_again()
    assert log_in(daemon, "maria") == RIGHT
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert checked.returncode == OK and "PAM's helper" not in checked.stderr
    assert f"PAM: {daemon.service}" in checked.stdout


def test_a_helper_that_has_started_over_a_broken_file_takes_the_mended_one(make):
    daemon = make()
    daemon.expect_error("helper has ended")
    os.kill(helper_of(daemon), signal.SIGKILL)
    text = daemon.configuration.read_text()
    daemon.configuration.write_text("not mended yet")
    another = Helper(daemon, "pam")
    assert log_in(daemon, "maria")[0] == 454
    daemon.configuration.write_text(text)
    assert log_in(daemon, "maria") == RIGHT
    another.kill()


def test_check(make):
    daemon = make()

    def check():
        return run_slimtad("check", "--config", daemon.configuration)

    daemon.service.unlink()
    text = check().stderr
    assert f"auth.pam.service: {daemon.service} does not exist, and PAM lets nobody in" in text, text
    daemon.service.with_name("other").write_text("auth required pam_deny.so\n")
    assert f"{daemon.service.with_name('other')} decides" in check().stderr
    daemon.service.write_text("auth required pam_unix.so\nauth required pam_oath.so\n")
    assert "pam_oath, which asks for more than a password" in check().stderr
    for pam, words in [({"service": "../x"}, "auth.pam.service"), ({"timeout": "1h"}, "from 1s to 2m"),
                       ({"domain": "a b"}, "auth.pam.domain"), ({"system_error": "no"}, "auth.pam.system_error")]:
        daemon.change(auth={"pam": pam})
        result = check()
        assert result.returncode == CONFIGURATION and words in result.stderr, result.stderr
    daemon.change(auth={"backends": ["file"], "pam": {"service": "x"}})
    assert 'found without "pam" in backends' in check().stderr


@pytest.mark.skipif(not IS_ROOT, reason="only root can judge as another user")
def test_check_says_who_may_not_ask(make):
    daemon = make()
    path = daemon.runtime / "pam"
    os.chown(path, 0, 0)
    path.chmod(0o600)
    found = run_slimtad("check", "--config", daemon.configuration).stderr
    assert f"{USER} may not speak to PAM's helper at {path}: Permission denied" in found, found


def test_the_helper_is_not_started_by_hand():
    result = run_slimtad("pam-helper")
    assert result.returncode != OK and "slimtad-pam.socket" in result.stderr
