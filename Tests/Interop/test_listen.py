"""`listen` is changed while slimtad runs: whatever it becomes, a reload opens and closes what it should, and refuses nobody."""

import pathlib
import socket
import threading
import time

import pytest

from harness.control import command, curl
from harness.machine import IS_ROOT, SLIMTAD, SUBMISSION, new_address
from harness.slimtad import CANNOT_CREATE, CONFIGURATION, run_slimtad


def free_port():
    """Free on all addresses, a moment ago."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as found:
        return found.getsockname()[1]


def greeting(address, port):
    try:
        with socket.create_connection((address, port), timeout=10) as client:
            return client.recv(200)[:3]
    except ConnectionRefusedError:
        return None


def edge(name, *listen, **more):
    return {"name": name, "type": "smtp", "listen": list(listen), "tls": "starttls", "auth": "required"} | more


class Knocking:
    """Connects to an address without a pause, and counts who was refused."""

    def __init__(self, address, port):
        self.target, self.refused, self.greeted = (address, port), 0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join(60)

    def _run(self):
        while not self._end.is_set():
            try:
                with socket.create_connection(self.target, timeout=20) as client:
                    self.greeted += client.recv(200).startswith(b"220")
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:
                pass  # accepted by the kernel for a socket that was just closed: tried again, as clients do
            time.sleep(0.002)


def test_reload_to_every_overlapping_address(make_slimtad):
    """127.0.0.1 to [::] to 0.0.0.0 and back, on one port: 127.0.0.1 is among all of them, and is never refused."""
    port = free_port()
    slimtad = make_slimtad(edges=[edge("one", f"127.0.0.1:{port}")]).start()
    with Knocking("127.0.0.1", port) as knocking:
        for address in ["[::]", "0.0.0.0", "127.0.0.1", "0.0.0.0", "[::]", "127.0.0.1"]:
            slimtad.change(edge=[edge("one", f"{address}:{port}")])
            command(slimtad, "reload")
            assert greeting("127.0.0.1", port) == b"220"
            assert greeting("::1", port) == (b"220" if address == "[::]" else None)
            assert greeting("127.0.0.2", port) == (None if address == "127.0.0.1" else b"220")
    assert knocking.greeted > 6 and knocking.refused == 0


def test_reload_moves_an_address_to_another_edge(make_slimtad):
    """The port is the same one, and nobody who connects meanwhile is refused."""
    slimtad = make_slimtad()
    first, second, third = (f"{slimtad.address}:{SUBMISSION + number}" for number in range(3))
    slimtad.change(edge=[edge("one", first, second), edge("two", third)])
    slimtad.start()
    with Knocking(slimtad.address, SUBMISSION + 1) as knocking:
        for edges in [
                [edge("one", first), edge("two", third, second)], [edge("renamed", first, second), edge("two", third)],
                [edge("all", first, third, second)], [edge("one", first, second), edge("two", third)]]:
            slimtad.change(edge=edges)
            command(slimtad, "reload")
            for number in range(3):
                assert greeting(slimtad.address, SUBMISSION + number) == b"220", (edges, number)
            told = {item["name"]: item["listen"] for item in curl(slimtad, "/status")[1]["edges"]}
            assert told == {item["name"]: item["listen"] for item in edges}
    assert knocking.greeted > 4 and knocking.refused == 0


def test_reload_that_cannot_bind_keeps_all_of_the_old(make_slimtad):
    """One of two new ones is taken: neither is opened, the old one stays, and the text names it."""
    slimtad = make_slimtad()
    slimtad.expect_error("reload failed")
    slimtad.change(edge=[edge("one", f"{slimtad.address}:{SUBMISSION}")])
    slimtad.start()
    before = slimtad.configuration.read_text()
    with socket.create_server((slimtad.address, SUBMISSION + 2)):
        slimtad.change(edge=[edge("one", *(f"{slimtad.address}:{SUBMISSION + number}" for number in (1, 2)))])
        assert f"{slimtad.address}:{SUBMISSION + 2}" in command(slimtad, "reload", status=CONFIGURATION)
        assert greeting(slimtad.address, SUBMISSION) == b"220" and greeting(slimtad.address, SUBMISSION + 1) is None
    command(slimtad, "reload")
    assert [greeting(slimtad.address, SUBMISSION + number) for number in range(3)] == [None, b"220", b"220"]
    slimtad.configuration.write_text(before)
    command(slimtad, "reload")
    assert [greeting(slimtad.address, SUBMISSION + number) for number in range(3)] == [b"220", None, None]


@pytest.mark.skipif(not IS_ROOT, reason="low ports are root's")
@pytest.mark.parametrize("daemonize", [False, True], ids=["foreground", "daemonize"])
def test_reload_to_a_low_port_after_root_was_given_up(make_slimtad, daemonize):
    slimtad = make_slimtad()
    pid_file = slimtad.runtime / "pid"
    if daemonize:
        slimtad.add_user()
        result = run_slimtad("run", "--config", slimtad.configuration, "--daemonize", "--pid-file", pid_file)
        assert result.returncode == 0, result.stderr
    else:
        slimtad.start()
    try:
        address = new_address()
        for listen, port in [(f"{address}:587", 587), (f"{address}:465", 465), (f"{address}:2587", 2587)]:
            slimtad.change(edge=[edge("one", listen)])
            command(slimtad, "reload")
            assert greeting(address, port) == b"220"
        pid = int(pid_file.read_text()) if daemonize else slimtad.process.pid
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status and "CapAmb:\t0000000000000000" in status
    finally:
        if daemonize:
            command(slimtad, "drain")


def test_reload_to_a_unix_socket_and_away(make_slimtad):
    slimtad = make_slimtad()
    slimtad.expect_error("reload failed")
    path = slimtad.runtime / "submission"
    tcp = f"{slimtad.address}:{SUBMISSION}"
    slimtad.change(edge=[edge("one", tcp)])
    slimtad.start()
    slimtad.change(edge=[edge("one", tcp, f"unix:{path}")])
    command(slimtad, "reload")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert client.recv(200).startswith(b"220")
    slimtad.change(edge=[edge("one", tcp)])
    command(slimtad, "reload")
    assert not path.exists()
    if IS_ROOT:
        slimtad.change(edge=[edge("one", tcp, "unix:/root/slimtad-test")])
        said = command(slimtad, "reload", status=CONFIGURATION)
        assert "Permission denied" in said and "folder" in said and "ports" not in said


@pytest.mark.skipif(not IS_ROOT, reason="who is not root makes it its own anyway")
def test_a_unix_socket_made_by_root_is_the_users(make_slimtad):
    slimtad = make_slimtad()
    path = slimtad.runtime / "submission"
    slimtad.settings["edge"][0]["listen"].append(f"unix:{path}")
    slimtad.change()
    slimtad.start()
    assert path.stat().st_uid == 65534 and path.stat().st_mode & 0o777 == 0o660


@pytest.fixture
def passed(make_slimtad):
    """A daemon to which systemd passes a socket called sub, and the socket's port."""
    slimtad = make_slimtad().add_user()
    with socket.create_server((slimtad.address, 0)) as listener:
        descriptor = listener.fileno()

        def start(*listen):
            slimtad.change(edge=[edge("one", *listen)])
            # Descriptor 3, in a process whose id it is meant for.
            slimtad.launch([
                "bash", "-c", f"exec 3<&{descriptor}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=sub exec \"$@\"", "bash",
                SLIMTAD, "run", "--config", slimtad.configuration], pass_fds=[descriptor])
            return slimtad, listener.getsockname()[1]

        yield start


def test_reload_away_from_systemds_socket_and_back(passed):
    slimtad, port = passed("systemd:sub")
    slimtad.wait_until(lambda: greeting(slimtad.address, port) == b"220", what="the greeting")
    other = f"{slimtad.address}:{SUBMISSION}"
    for _ in range(2):
        slimtad.change(edge=[edge("one", other)])
        command(slimtad, "reload")
        assert greeting(slimtad.address, SUBMISSION) == b"220"
        assert any("systemd:sub" in line for line in curl(slimtad, "/status")[1]["warnings"])
        slimtad.change(edge=[edge("one", "systemd:sub")])
        command(slimtad, "reload")
        assert greeting(slimtad.address, port) == b"220" and greeting(slimtad.address, SUBMISSION) is None


def test_who_was_accepted_at_a_stop_is_told(passed):
    """systemd keeps the socket: each connection is greeted, told that the service shuts down, or waits for the next one."""
    slimtad, port = passed("systemd:sub")
    slimtad.wait_until(lambda: greeting(slimtad.address, port) == b"220", what="the greeting")
    said, end = [], threading.Event()

    def knock():
        while not end.is_set():
            try:
                with socket.create_connection((slimtad.address, port), timeout=20) as client:
                    said.append(client.recv(200)[:3])
            except OSError as error:
                said.append(repr(error))

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            count = len(said)
            slimtad.wait_until(lambda: len(said) > count + 100, what="greetings")
            assert slimtad.term() == 0
            passed("systemd:sub")
    finally:
        slimtad.wait_until(lambda: greeting(slimtad.address, port) == b"220", what="the greeting")
        end.set()
        for thread in threads:
            thread.join(60)
    assert set(said) <= {b"220", b"421"}, {each: said.count(each) for each in set(said)}


@pytest.mark.skipif(not IS_ROOT, reason="sockets of one user may be bound beside each other, and systemd is another")
def test_a_port_that_systemd_has_for_us(passed):
    """The text says who has it, and what to write instead."""
    slimtad, port = passed("systemd:sub")
    slimtad.wait_until(lambda: greeting(slimtad.address, port) == b"220", what="the greeting")
    slimtad.expect_error("reload failed|listen")
    slimtad.change(edge=[edge("one", f"{slimtad.address}:{port}")])
    said = command(slimtad, "reload", status=CONFIGURATION)
    assert 'listen = ["systemd:sub"]' in said
    slimtad.change(edge=[edge("one", "systemd:nosuch")])
    said = command(slimtad, "reload", status=CONFIGURATION)
    assert "passed no socket" in said and "systemctl start slimtad.socket" in said
    assert slimtad.term() == 0
    slimtad, port = passed(f"{slimtad.address}:{port}")
    assert slimtad.wait() == CANNOT_CREATE
    assert 'listen = ["systemd:sub"]' in slimtad.log
