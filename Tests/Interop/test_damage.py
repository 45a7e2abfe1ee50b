"""What a disk, or somebody with rm, did to the queue: the operator is told, the sender hears of it, and all else goes on."""

import json
import os
import pathlib
import shutil
import signal

import pytest

from harness.machine import IS_ROOT, fill
from harness.messages import message, parsed
from harness.slimtad import HOSTNAME, run_slimtad
from harness.sink import Sink
from harness.wire import submission

pytestmark = pytest.mark.disk


def command(slimtad, *arguments, status=0):
    result = run_slimtad(*arguments, "--config", slimtad.configuration)
    assert result.returncode == status, f"{arguments}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_missing_journal_segment(make_slimtad):
    """30 messages with their 250, a kill, and the first segment that has them is deleted."""
    slimtad = make_slimtad(queue={"deliver": False}).start()
    slimtad.expect_error("a file of the queue is missing")
    with slimtad.connect() as client:
        for number in range(30):
            client.sendmail("sender@origin.test", ["someone@one.test"], message(f"number {number}"))
    # The next one is made ready beside the mail, and is empty.
    slimtad.wait_until(lambda: len(list((slimtad.state / "journal").glob("*.wal"))) > 1, what="two segments")
    slimtad.signal(signal.SIGKILL)
    slimtad.process.wait()
    segments = sorted((slimtad.state / "journal").glob("*.wal"))
    segments[0].unlink()
    slimtad.start_again()
    (line,) = [line for line in slimtad.log.splitlines() if "a file of the queue is missing" in line]
    assert " error " in line and segments[0].name in line
    status = json.loads(command(slimtad, "status", "--json"))
    assert any(segments[0].name in loss for loss in status["storage"]["losses"])
    assert "mail may be lost" in command(slimtad, "status")
    assert segments[0].name in command(slimtad, "audit", status=1)
    # It goes on with what there is, and neither time nor a restart makes it forget.
    slimtad.submit(message("another one"), "someone@one.test")
    assert slimtad.term() == 0
    assert segments[0].name in command(slimtad, "audit", status=1)
    assert "mail may be lost" in command(slimtad, "status", status=69)
    slimtad.start_again()
    assert command(slimtad, "queue", "count") == "1\n"
    assert segments[0].name in command(slimtad, "audit", status=1)
    assert segments[0].name in command(slimtad, "audit", "--acknowledge")
    assert "balanced" in command(slimtad, "audit")
    assert "mail may be lost" not in command(slimtad, "status")
    assert command(slimtad, "audit", "--acknowledge") == "nothing was lost\n"
    slimtad.wait_for_events(command="audit --acknowledge")


def test_losses_are_acknowledged_without_a_daemon(make_slimtad):
    slimtad = make_slimtad(queue={"deliver": False}).start()
    slimtad.expect_error("a file of the queue is missing")
    slimtad.submit(message("one"), "someone@one.test")
    assert slimtad.term() == 0
    for segment in (slimtad.state / "journal").glob("*.wal"):
        segment.unlink()
    assert "all segments" in command(slimtad, "audit", status=1)
    assert "all segments" in command(slimtad, "audit", "--acknowledge")
    assert "balanced" in command(slimtad, "audit")
    slimtad.start_again()
    assert command(slimtad, "queue", "count") == "1\n"


@pytest.mark.parametrize("kind", ["changed", "truncated", "gone"])
def test_damage_in_the_spool(place, nameserver, make_slimtad, kind):
    """A large message whose file is not what was stored: its sender is told at once, by us and of us."""
    box = place.folder("bounces")
    mx = Sink(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(
        nameserver, routes=[{"domains": ["origin.test"], "type": "maildir", "path": str(box)}],
        queue={"deliver": False})
    slimtad.expect_error("stored mail is damaged and was moved aside|queued envelope could not be read")
    slimtad.start()
    large = message("a large one", "y" * 70 + "\r\n" + ("z" * 70 + "\r\n") * 8000)
    queue_id = slimtad.submit(large, "someone@one.test")
    assert slimtad.term() == 0
    (path,) = slimtad.state.glob("spool/??/*")
    content = path.read_bytes()
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:100_000] + b"?" + content[100_001:] if kind == "changed" else content[:-1])
    damaged = path.read_bytes() if kind != "gone" else None
    slimtad.change(queue={"deliver": True, "retry": ["1h"]})
    slimtad.start_again()
    (bounce,) = slimtad.wait_until(lambda: list((box / "new").glob("*")), 20, "the bounce")
    report = parsed(bounce.read_bytes())
    text, status, returned = report.iter_parts()
    status = status.as_string()
    assert f"Reporting-MTA: dns; {HOSTNAME}" in status and "Status: 5.3.0" in status
    assert "Action: failed" in status and "Remote-MTA" not in status and "x-slimtad" in status
    assert mx.address not in text.get_content() and "damaged in our storage" in text.get_content()
    assert "a large one" in returned.as_string()
    (event,) = [line for line in slimtad.log.splitlines() if "stored mail is damaged" in line]
    assert " error " in event and f"queue_id={queue_id}" in event and "someone@one.test" in event
    (outcome,) = slimtad.wait_until(lambda: slimtad.attempts(queue_id=queue_id), 10, "its end in the log")
    assert outcome["relay"] == "none" and outcome["status"] == "5.3.0"
    kept = [file for file in (slimtad.state / "quarantine").iterdir() if queue_id in file.name]
    assert [file.read_bytes() for file in kept] == ([] if damaged is None else [damaged])
    assert mx.transactions() == []
    slimtad.wait_until(lambda: command(slimtad, "queue", "count") == "0\n", 10, "an empty queue")
    assert "balanced" in command(slimtad, "audit")


def test_full_disk_at_the_start(place, nameserver, make_slimtad, tiny_disk):
    """It starts where not a block is left, takes nothing, delivers what is queued, says so, and takes mail again by
    itself when there is room."""
    mx = Sink(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"deliver": False, "minimum_free": "2MiB"}, state=tiny_disk / "state")
    state = slimtad.state
    slimtad.expect_error("disk is full, nothing is accepted")
    slimtad.start()
    for number in range(3):
        slimtad.submit(message(f"number {number}"), "someone@one.test")
    slimtad.wait_until(lambda: (state / "reserve").exists(), 10, "the reserve")
    assert slimtad.term() == 0
    # Others filled the disk, and spare segments were given back for that.
    slimtad.use_up_spare_room()
    filler = fill(tiny_disk)
    slimtad.change(queue={"deliver": True})
    slimtad.start_again()
    slimtad.wait_for_events(lacks="octets")
    assert json.loads(command(slimtad, "status", "--json"))["storage"]["full"]
    assert "FULL: nothing is accepted" in command(slimtad, "status")
    with submission(slimtad) as wire:
        assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("452 4.3.1 ")
    mx.wait_until(lambda: len(mx.transactions()) == 3, 20, what="three messages at the sink")
    slimtad.wait_until(lambda: command(slimtad, "queue", "count") == "0\n", 10, "an empty queue")
    filler.unlink()
    slimtad.wait_for_log("disk has room again")
    slimtad.submit(message("as before"), "someone@one.test")
    large = message("a large one", "y" * 70 + "\r\n" + ("z" * 70 + "\r\n") * 20000)
    slimtad.submit(large, "someone@one.test")
    mx.wait_until(lambda: len(mx.transactions()) == 5, 20, what="five messages at the sink")
    slimtad.wait_until(lambda: (state / "reserve").exists(), 20, "the reserve again")
    assert "balanced" in command(slimtad, "audit")
    assert slimtad.term() == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_root_gives_no_other_file_away(place, make_slimtad):
    """The state directory is the service user's: whatever is called lock in it, root gives nobody else's file away."""
    slimtad = make_slimtad()
    secret = place.path / "secret"
    secret.write_text("root's own\n")
    secret.chmod(0o644)
    shutil.chown(slimtad.state, *[slimtad.settings["daemon"][name] for name in ("user", "group")])
    os.link(secret, slimtad.state / "lock")
    slimtad.add_user()
    result = run_slimtad("run", "--config", slimtad.configuration)
    assert result.returncode == 77 and "2 names" in result.stderr
    info = pathlib.Path(secret).stat()
    assert info.st_uid == 0 and info.st_mode & 0o777 == 0o644 and secret.read_text() == "root's own\n"
