"""SlimtaMilter against real milters over real sockets: libmilter by way of pymilter (which does as the mail says), OpenDKIM,
and purepythonmilter, which shares no code with libmilter. Tests/MilterWorker asks them. The milters of the laboratory are in
shared/rigs/content; what is not installed is skipped by name.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from harness.machine import BUILT, ROOT, free_ports, must_exist

WORKER = pathlib.Path(os.environ.get("MILTER_WORKER", BUILT / "milter-worker"))
RIG = ROOT.parent / "shared" / "rigs" / "content"
HEAD = (
    b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: t\r\n"
    b"Date: Sat, 28 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n")


def laboratory():
    """Where the milters are; skips where it is not there."""
    return RIG if RIG.exists() else pytest.skip("the laboratory (shared/rigs/content) is not there")


@pytest.fixture
def start(tmp_path):
    """Starts a milter and waits until it listens."""
    running = []

    def begin(address, *command):
        running.append(
            subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(200):
            try:
                if isinstance(address, int):
                    socket.create_connection(("127.0.0.1", address), 1).close()
                    return f"127.0.0.1:{address}"
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(address))
                return str(address)
            except OSError:
                assert running[-1].poll() is None, f"{command[0]} has ended"
                time.sleep(0.05)
        raise AssertionError(f"{command[0]} does not listen")

    yield begin
    for process in running:
        process.kill()
        process.wait()


class Worker:
    """One session with a milter."""

    def __init__(self, address, place, *options):
        self.place = place
        self.process = subprocess.Popen(
            [WORKER, address, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.ask("connect") == "proceed"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n").rstrip()

    def begin(self, sender="alice@example.com", recipients=("bob@example.net",)):
        assert self.ask(f"mail <{sender}>") == "proceed"
        for recipient in recipients:
            assert self.ask(f"rcpt <{recipient}>") == "proceed"
        assert self.ask("data") == "proceed"

    def send(self, content):
        """The answer to the message, and what has become of it."""
        source, target = self.place / "in.eml", self.place / "out.eml"
        source.write_bytes(content)
        target.unlink(missing_ok=True)
        answer = self.ask(f"message {source} {target}")
        return answer, target.read_bytes() if target.exists() else None


def do(*operations, header=b"", body=b"hello\r\n"):
    lines = b"".join(b"X-Do: " + json.dumps(operation).encode() + b"\r\n" for operation in operations)
    return HEAD + header + lines + b"\r\n" + body


@pytest.mark.parametrize("options", ["", "noreply", "leadspc", "noreply leadspc", "symbols"])
def test_libmilter(start, tmp_path, options):
    # python3-milter is Debian's, for its own Python.
    python, rig = must_exist("/usr/bin/python3"), laboratory()
    path = tmp_path / "whim.sock"
    address = start(path, python, rig / "whimmilter.py", f"unix:{path}", *options.split())
    # The blank behind the colon is the milter's, or ours.
    blank = b"" if "leadspc" in options else b" "
    with Worker(address, tmp_path) as worker:
        assert worker.ask("hello client.example.net") == "proceed"
        worker.begin()
        operations = (
            ["insert", 0, "X-0", "v"], ["insert", 1, "X-1", "v"], ["add", "X-End", "a\n\tb"], ["change", 2, "X-A", "TWO"],
            ["change", 1, "X-B", ""], ["addrcpt", "<carol@example.org>"])
        answer, out = worker.send(do(*operations, header=b"X-A: one\r\nX-B: b\r\nX-A: two\r\n"))
        assert answer == "finished <alice@example.com> <bob@example.net> <carol@example.org>"
        expected = do(*operations, header=b"X-A: one\r\nX-A:" + blank + b"TWO\r\n")
        assert out == (
            b"X-0:" + blank + b"v\r\nX-1:" + blank + b"v\r\nReceived: by worker\r\n"
            + expected.replace(b"\r\n\r\n", b"\r\nX-End:" + blank + b"a\r\n\tb\r\n\r\n"))
        # The next message of the session.
        worker.begin()
        assert worker.send(do(["quarantine", "looks odd"]))[0].endswith("held: looks odd")
        worker.begin()
        assert worker.send(do(["add", "X-New", "v"], ["verdict", "code"])) == ("refused 554 5.7.9 whim says 100% no", None)
        worker.begin()
        assert worker.send(do(["verdict", "discard"])) == ("discarded", None)
        worker.begin()
        assert worker.ask("reset") == "ok"
        large = b"a line of the body, again and again\r\n" * 20_000
        worker.begin()
        answer, out = worker.send(do(["body", "new\nbody\r\n", 7000], body=large))
        assert answer.startswith("finished") and out.partition(b"\r\n\r\n")[2] == b"new\r\nbody\r\n" * 7000
        worker.begin()
        answer, out = worker.send(do(["progress"], ["add", "X-Late", "v"], body=large))
        assert b"\r\nX-Late:" in out and out.endswith(large)
        # Another session on the same connection: behind a message that went on, and in the middle of one.
        for _ in range(2):
            assert worker.ask("reuse") == "ok"
            assert worker.ask("connect") == "proceed" and worker.ask("hello c") == "proceed"
            worker.begin(sender="other@example.com")
            assert worker.send(do())[0].startswith("finished <other@example.com>")
            worker.begin()
        # Not behind one that did not.
        assert worker.send(do(["verdict", "reject"]))[0].startswith("refused 550")
        assert worker.ask("reuse") == "not now"
        assert worker.ask("quit") == "ok"


def test_recipients(start, tmp_path):
    # python3-milter is Debian's, for its own Python.
    python, rig = must_exist("/usr/bin/python3"), laboratory()
    (port,) = free_ports(1)
    with Worker(start(port, python, rig / "whimmilter.py", f"inet:{port}@127.0.0.1"), tmp_path) as worker:
        assert worker.ask("hello client.example.net") == "proceed"
        assert worker.ask("mail <from-multi@example.com>") == "refused 451 4.7.9 first line second line"
        assert worker.ask("reset") == "ok"
        assert worker.ask("mail <a@example.com>") == "proceed"
        assert worker.ask("rcpt <reject@example.net>") == "refused 550 5.7.1 Command rejected"
        assert worker.ask("rcpt <bob@example.net>") == "proceed"
        assert worker.ask("rcpt <temp@example.net>").startswith("refused 451 4.7.1 ")
        assert worker.ask("data") == "proceed"
        assert worker.send(do())[0] == "finished <a@example.com> <bob@example.net>"
        assert worker.ask("mail <from-accept@example.com>") == "accepted"
        assert worker.ask("rcpt <reject@example.net>") == "accepted"
        assert worker.ask("reset") == "ok"
        worker.begin()
        assert worker.send(do(["verdict", "reject"], header=b"X-Do-At-EOH: accept\r\n"))[0].startswith("finished")
        worker.begin()
        assert worker.send(do(header=b"X-Do-At-Body: skip\r\n", body=b"x\r\n" * 90_000))[0].startswith("finished")


@pytest.mark.parametrize("policy, answer", [
    ("tempfail", "refused 451 4.7.1 Service unavailable - try again later"), ("reject", "refused 550 5.7.1 Command rejected"),
    ("accept", "finished <alice@example.com> <bob@example.net>"),
    ("quarantine", "finished <alice@example.com> <bob@example.net> held: milter worker closed the connection at a field"),
])
def test_dies(start, tmp_path, policy, answer):
    """A milter that is gone in the middle of a message."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        worker = Worker(f"127.0.0.1:{server.getsockname()[1]}", tmp_path, policy)
        milter, _ = server.accept()
        reader = milter.makefile("rb")

        def packet():
            return reader.read(int.from_bytes(reader.read(4), "big"))

        def expect(*letters):
            for letter in letters:
                assert packet()[:1] == letter

        worker.process.stdin.write("connect\nmail <alice@example.com>\nrcpt <bob@example.net>\ndata\n")
        worker.process.stdin.flush()
        expect(b"O")
        milter.sendall(bytes.fromhex("0000000d4f 00000006 000001ff 00000400"))
        for letter in (b"C", b"M", b"R", b"T"):
            expect(b"D", letter)
            milter.sendall(b"\0\0\0\1c")
            assert worker.process.stdout.readline() == "proceed\n"
        (tmp_path / "in.eml").write_bytes(do())
        worker.process.stdin.write(f"message {tmp_path}/in.eml {tmp_path}/out.eml\n")
        worker.process.stdin.flush()
        expect(b"D", b"L")
        reader.close()
        milter.close()
        assert worker.process.stdout.readline().strip() == answer
        worker.__exit__()


def test_opendkim(start, tmp_path):
    program = must_exist(ROOT / ".venv/debian/opendkim/usr/sbin/opendkim")
    subprocess.run(["openssl", "genrsa", "-out", tmp_path / "key", "2048"], check=True, capture_output=True)
    (port,) = free_ports(1)
    # Others may write to /tmp.
    (tmp_path / "conf").write_text(
        f"Socket inet:{port}@127.0.0.1\nMode s\nDomain example.com\nSelector r1\nKeyFile {tmp_path}/key\n"
        "RequireSafeKeys no\nCanonicalization relaxed/simple\nOversignHeaders From\nSyslog no\nInternalHosts 192.0.2.1\n"
        "Background no\n")
    with Worker(start(port, program, "-f", "-x", tmp_path / "conf"), tmp_path) as worker:
        assert worker.ask("hello client.example.net") == "proceed"
        for body in (b"hello\r\n", b"", b"x\r\n" * 100_000):
            worker.begin()
            answer, out = worker.send(HEAD + b"\r\n" + body)
            assert answer == "finished <alice@example.com> <bob@example.net>"
            # Signed because of {auth_authen}: the client's network is nobody's.
            signature, behind, rest = out.partition(b"Received: by worker\r\n")
            assert signature.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;") and behind
            assert rest == HEAD + b"\r\n" + body
        assert worker.ask("quit") == "ok"


def test_purepythonmilter(start, tmp_path):
    python, rig = sys.executable, laboratory()
    (port,) = free_ports(1)
    with Worker(start(port, python, rig / "puremilter.py", str(port)), tmp_path) as worker:
        assert worker.ask("hello client.example.net") == "proceed"
        worker.begin()
        answer, out = worker.send(HEAD + b"X-A: one\r\nX-A: two\r\n\r\nhello\r\n")
        assert answer == "finished <alice@example.com> <bob@example.net> <carol@example.org>"
        assert out == (
            b"X-Pure-0: v\r\nReceived: by worker\r\n" + HEAD
            + b"X-A: one\r\nX-A: TWO\r\nX-Pure: appended\r\n\r\nhello\r\n")
