"""What the files of a pickup folder say and how they come: envelopes, line ends, writers in place, disks that are full."""

import os
import time

import pytest

from harness.control import command
from harness.machine import fill, give, wait_until
from harness.pickup import NAME, Pickup, mail


@pytest.fixture
def pickup(place, make_slimtad):
    return Pickup(place, make_slimtad, {"owner_login": False}).start()


def taken(pickup, text):
    """Drops a file; the sender, the recipients and the message's octets that became of it."""
    slimtad, box = pickup.slimtad, pickup.box / "new"
    known, old = len(slimtad.events(edge=NAME)), set(box.iterdir()) if box.exists() else set()
    done = len(slimtad.attempts(status="2.0.0"))
    pickup.drop("a", text)

    def accepted():
        found = slimtad.events(edge=NAME)[known:]
        recipients = sorted(name for event in found for name in event["recipient"].split(","))
        return found and not pickup.left() and len(slimtad.attempts(status="2.0.0")) - done == len(recipients) and (found, recipients)

    found, recipients = slimtad.wait_until(accepted, what="the message in the log")
    contents = [path.read_bytes() for path in set(box.iterdir()) - old]
    assert len({content.partition(b"\nMessage-ID")[2] for content in contents}) == 1  # a copy for each domain
    return found[0]["sender"].strip("<>"), recipients, contents[0]


BODY = "From: a@origin.test\nTo: header@one.test\nCc: copy@one.test\nBcc: hidden@one.test\nSubject: s\n\nx\n"

ENVELOPES = [
    ("X-Envelope-Sender: env@origin.test\nX-Envelope-Recipient: <a@one.test>, B <b@two.test>\n"
     "X-Envelope-Recipient: c@two.test\n", "env@origin.test", ["a@one.test", "b@two.test", "c@two.test"]),
    ("x-envelope-recipient: a@one.test\nX-ENVELOPE-SENDER: <>\n", "", ["a@one.test"]),
    ("X-Sender: <env@origin.test> BODY=8bitmime RET=FULL ENVID=x\nX-Receiver: <b@two.test>\n"
     "X-Receiver: <a@one.test> NOTIFY=FAILURE ORcpt=rfc822;a@one.test\n", "env@origin.test", ["a@one.test", "b@two.test"]),
    ("x-sender: env@origin.test\r\nx-receiver: a@one.test\r\n", "env@origin.test", ["a@one.test"]),
    ("X-Sender:\nX-Receiver: a@one.test\n", "", ["a@one.test"]),
    ("", "a@origin.test", ["copy@one.test", "header@one.test", "hidden@one.test"]),
]


def test_envelopes(pickup):
    """Lines that stand first are the envelope, and then the header's addresses are nobody's; else these are, as with
    sendmail -t. Neither those lines nor Bcc are seen by anybody.
    """
    for top, sender, recipients in ENVELOPES:
        said = taken(pickup, top + BODY)
        assert said[:2] == (sender, recipients), top
        header = said[2].partition(b"\r\n\r\n")[0].lower()
        # The maildir is everybody's here, and says for whom a message is.
        header = b"\r\n".join(line for line in header.split(b"\r\n") if not line.startswith(b"delivered-to: "))
        for name in (b"x-envelope", b"x-sender", b"x-receiver", b"\nbcc", b"hidden"):
            assert name not in header, header
        assert b"to: header@one.test" in header and b"subject: s" in header


def test_envelopes_that_are_not_understood(pickup):
    """Both kinds, two senders, none that receives, what is no address: set aside, with the line that is wrong."""
    pickup.slimtad.expect_error("file refused")
    cases = {
        "both": ("X-Sender: a@b.test\nX-Envelope-Recipient: c@one.test\n", "X-Sender or X-Receiver beside"),
        "two": ("X-Envelope-Sender: a@b.test\nX-Envelope-Sender: b@b.test\nX-Envelope-Recipient: c@one.test\n", "2 senders"),
        "nobody": ("X-Envelope-Sender: a@b.test\n", "X-Envelope-Recipient is missing"),
        "no address": ("X-Envelope-Recipient: c@@one.test\n", "X-Envelope-Recipient"),
        "no domain": ("X-Receiver: c\n", "X-Receiver"),
        "notify": ("X-Receiver: <c@one.test> NOTIFY=PERHAPS\n", "malformed NOTIFY"),
        "several": ("X-Envelope-Sender: a@b.test, c@b.test\nX-Envelope-Recipient: c@one.test\n", "2 addresses"),
    }
    for name, (top, _) in cases.items():
        pickup.drop(name, top + BODY)
    for name, (top, reason) in cases.items():
        assert reason in pickup.failed(name), name
        assert (pickup.folder / "failed" / name).read_text() == top + BODY
    assert not pickup.slimtad.attempts()


TEXTS = [
    "From: a@origin.test\nTo: b@one.test\n\none\n\nFrom two\n.three",
    "From: a@origin.test\r\nTo: b@one.test\r\n\r\none\r\n\r\nFrom two\r\n.three\r\n",
    "From: a@origin.test\r\nTo: b@one.test\n\r\none\n\nFrom two\r\n.three\r\n",
    "From a@origin.test Mon Nov  2 10:00:00 2026\nFrom: a@origin.test\nTo: b@one.test\n\none\n\nFrom two\n.three\n",
    ">From x Mon Nov  2 10:00:00 2026\nFrom: a@origin.test\nTo: b@one.test\n\none\n\nFrom two\n.three\n",
    "From x\nX-Envelope-Recipient: b@one.test\nFrom: a@origin.test\nTo: c@one.test\n\none\n\nFrom two\n.three\n",
]


def test_ends_of_lines(pickup):
    """Every end of a line becomes CRLF, and there is one at the end; a mailbox file's line is dropped where it is the first."""
    for text in TEXTS:
        sender, recipients, content = taken(pickup, text)
        content = content.replace(b"\r\n", b"\n")
        assert (sender, recipients) == ("a@origin.test", ["b@one.test"]) and b"\r" not in content, text
        header, _, body = content.partition(b"\n\n")
        assert body == b"one\n\nFrom two\n.three\n", text
        assert not [line for line in header.split(b"\n") if line.startswith((b"From ", b">From "))], header


def test_settle(place, make_slimtad):
    """A writer in place: not while it has the file open, not before it is still for so long; then once, and whole."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False, "settle": "1s"}).start()
    first, _, last = mail("in place", body="one\ntwo\n").partition("one\n")
    path = pickup.folder / "slow"
    with open(path, "w", buffering=1) as file:
        file.write(first)
        path.chmod(0o644)
        time.sleep(1.7)
        assert pickup.left() == ["slow"]
        file.write("one\n")
    # Opened again, as programs do that log to it, before it was still for long enough.
    time.sleep(0.2)
    with open(path, "a") as file:
        file.write(last)
    message, = pickup.delivered(1)
    assert message.get_content().replace("\r\n", "\n") == "one\ntwo\n"
    # What is moved is whole: nobody waits for it.
    pickup.change(settle="1h")
    pickup.slimtad.reload()
    pickup.drop("moved", mail("moved"))
    assert len(pickup.delivered(2)) == 2
    pickup.wait_until_empty()


def test_no_room_for_messages(place, make_slimtad, tiny_disk):
    """A disk without a block left: what is dropped stays where it is and is said to; with room it is a message, once."""
    pickup = Pickup(
        place, make_slimtad, {"owner_login": False}, queue={"minimum_free": "2MiB"}, state=tiny_disk / "state")
    pickup.slimtad.expect_error("disk is full")
    pickup.start()
    pickup.drop("before", mail("before"))
    assert pickup.delivered(1)[0]["subject"] == "before"
    pickup.wait_until_empty()
    assert pickup.slimtad.term() == 0
    pickup.slimtad.use_up_spare_room()
    filler = fill(tiny_disk)
    pickup.slimtad.start_again()
    for number in range(3):
        pickup.drop(f"full{number}", mail("full"))
    pickup.slimtad.wait_for_log('no files are taken.*"452 4.3.1 ')
    assert pickup.left() == ["full0", "full1", "full2"]
    assert "takes no files: 452 4.3.1 " in command(pickup.slimtad, "status")
    assert pickup.slimtad.term() == 0
    filler.unlink()
    pickup.slimtad.start_again()
    assert len(pickup.delivered(4)) == 4
    pickup.wait_until_empty()
    assert "takes no files" not in command(pickup.slimtad, "status")
    assert pickup.slimtad.term() == 0


def test_no_room_for_reasons(place, make_slimtad, tiny_disk):
    """A pickup folder on a full disk: messages go on; what is refused stays in `taken` until there is room for the reason."""
    folder = tiny_disk / "pickup"
    folder.mkdir()
    folder.chmod(0o3730)
    give(folder)
    pickup = Pickup(place, make_slimtad, {"owner_login": False, "path": str(folder)})
    pickup.folder = folder
    pickup.slimtad.expect_error("file refused|refused file cannot be set aside")
    good, bad = pickup.write("good", mail("good"), tiny_disk), pickup.write("bad", mail("x", to="nobody:;"), tiny_disk)
    pickup.start()
    filler = fill(tiny_disk)
    # The good one later: when it is gone, there is a block for the reason.
    os.rename(bad, folder / bad.name)
    pickup.slimtad.wait_for_log("refused file cannot be set aside.*No space left on device")
    assert [name[33:] for name in pickup.left()] == ["bad"]
    os.rename(good, folder / good.name)
    assert pickup.delivered(1)[0]["subject"] == "good"
    filler.unlink()
    assert pickup.slimtad.term() == 0
    pickup.slimtad.start_again()
    assert "No recipients" in pickup.failed("bad")
    wait_until(lambda: len(list((folder / "failed").iterdir())) == 2, what="the file and its reason alone")
    assert len(pickup.delivered(1)) == 1
    assert pickup.slimtad.term() == 0
