"""What a 250 promises: on disk before it is said, whole after a stop, and nothing accepted that could not be kept."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from harness.machine import SLIMTAD, SUBMISSION, must_exist, new_address
from harness.messages import message
from harness.slimtad import send
from harness.wire import Wire, submission

pytestmark = pytest.mark.disk


def clear_edge(address):
    """An edge without TLS, so that strace sees the replies."""
    return [{"name": "local", "type": "smtp", "listen": [f"{address}:{SUBMISSION}"], "tls": "none", "auth": "none",
             "trusted_networks": ["127.0.0.0/8"]}]


def deliver(wire, content):
    for command in ("MAIL FROM:<sender@origin.test>", "RCPT TO:<someone@one.test>"):
        assert wire.ask(command).startswith("250 ")
    assert wire.ask("DATA").startswith("354 ")
    wire.send(content + b".\r\n")
    return wire.reply()[0]


def test_synced_before_the_reply(make_slimtad, place):
    """Threat 27: in the order of the system calls, between 354 and 250 lies a write of the content and then a sync
    that succeeded. For a small message, and for one that goes through the spool (with the sync of its directory)."""
    address = new_address()
    slimtad = make_slimtad(edges=clear_edge(address), queue={"deliver": False})
    slimtad.add_user()
    trace = place.path / "trace"
    slimtad.launch(
        [must_exist("strace"), "-f", "-s", "200", "-o", trace, "-e",
         "trace=write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,linkat",
         SLIMTAD, "run", "--config", slimtad.configuration])
    slimtad.address = address
    slimtad.wait_until(slimtad.is_ready, timeout=40, what="slimtad's greeting")
    with Wire(address, SUBMISSION) as wire:
        assert wire.code() == 220
        wire.ehlo()
        for size in (0, 600_000):
            body = b"Subject: synced\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (size // 72)
            assert deliver(wire, body).startswith("250 2.6.0 ")
    # strace lets no signal through to itself while it traces; slimtad is its child.
    (pid,) = pathlib.Path(f"/proc/{slimtad.process.pid}/task/{slimtad.process.pid}/children").read_text().split()
    os.kill(int(pid), signal.SIGTERM)
    assert slimtad.wait() == 0
    lines = trace.read_text().splitlines()
    begins = [number for number, line in enumerate(lines) if '"354 Start' in line]
    ends = [number for number, line in enumerate(lines) if '"250 2.6.0 ' in line]
    assert len(begins) == len(ends) == 2, "strace did not see the replies"
    for begin, end in zip(begins, ends):
        between = lines[begin:end]
        syncs = [line for line in between if re.search(r"f(data)?sync", line)]
        assert any(line.rstrip().endswith("= 0") for line in syncs), "250 before a sync:\n" + "\n".join(between[-30:])
        assert any("pwrite64(" in line or "write(" in line for line in between)
    assert any(re.search(r"\bfsync\(", line) for line in lines[begins[1]:ends[1]]), "a spool file's name is not synced"


def test_queue_at_rest_is_in_gdbm(make_slimtad):
    """After a stop the whole queue is in files that gdbmtool reads: nobody needs slimtad to get at the mail."""
    slimtad = make_slimtad(queue={"deliver": False}).start()
    with slimtad.connect() as client:
        ids = [send(client, message(f"number {number}"), ["someone@one.test"]) for number in range(3)]
    assert slimtad.term() == 0
    stores = sorted((slimtad.state / "queue").glob("*.gdbm"))
    assert stores
    counts = {}
    for store in stores:
        result = subprocess.run(
            [must_exist("gdbmtool"), "-r", "-N", store, "count"], capture_output=True, text=True, timeout=20)
        assert result.returncode == 0, result.stderr
        counts[store.name] = int(re.search(r"\d+", result.stdout)[0])
    assert any(name.startswith("env-") and count >= 3 for name, count in counts.items()), counts
    content = b"".join(store.read_bytes() for store in stores)
    assert all(f"number {number}".encode() in content for number in range(3))
    assert len(set(ids)) == 3


def test_little_free_disk(make_slimtad):
    """[queue] minimum_free: 452 4.3.1 at MAIL, before the client sends anything; the session goes on."""
    slimtad = make_slimtad(queue={"minimum_free": "16384GiB"})
    slimtad.expect_error("free|full|room|disk")
    slimtad.start()
    with submission(slimtad) as wire:
        assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("452 4.3.1 ")
        assert wire.ask("NOOP") == "250 2.0.0 Ok"
        assert wire.ask("QUIT") == "221 2.0.0 Bye"


def test_files_are_private(make_slimtad):
    """Nobody but slimtad's user reads the queue."""
    slimtad = make_slimtad(queue={"deliver": False}).start()
    slimtad.submit(message("x" * 20, "y" * 70 + "\r\n" + ("z" * 70 + "\r\n") * 8000), "someone@one.test")
    for path in [slimtad.state, *slimtad.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_log_cannot_be_forged(make_slimtad):
    """Threat 37: whatever a client says, it is a value of one field of one line."""
    slimtad = make_slimtad(queue={"deliver": False}).start()
    with submission(slimtad) as wire:
        wire.ehlo("status=9.9.9")
        assert wire.ask('MAIL FROM:<"a status=9.9.9 queue_id=forged "@origin.test>').startswith("250 ")
        assert wire.ask('RCPT TO:<"b\\" status=9.9.9"@one.test>').startswith("250 ")
        assert wire.ask("DATA").startswith("354 ")
        assert wire.ask(b"Subject: x\r\n\r\n.").startswith("250 2.6.0 ")
    assert slimtad.events(status="9.9.9") == []
    assert slimtad.events(queue_id="forged") == []


def test_open_state_directory_is_closed(make_slimtad):
    """One that somebody made with mkdir and the usual umask."""
    slimtad = make_slimtad()
    slimtad.state.chmod(0o755)
    slimtad.start()
    assert slimtad.state.stat().st_mode & 0o777 == 0o700
