"""What commands say to a person: on a terminal of 80 columns, of what is misspelled, of what is not there any more."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios

import pytest

from harness.control import NOBODY_THERE, command, listed, submit_many
from harness.machine import MX_PORT, SLIMTAD
from harness.slimtad import CONFIGURATION, UNAVAILABLE, USAGE, run_slimtad


def shown(daemon, *arguments, columns=80):
    """The lines that a command shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [SLIMTAD, *arguments, "--config", daemon.configuration], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    octets = b""
    try:
        while part := os.read(ours, 65536):
            octets += part
    except OSError:  # the last one who had the terminal has closed it
        pass
    os.close(ours)
    process.wait(timeout=30)
    return octets.decode().replace("\r\n", "\n").splitlines()


@pytest.fixture
def deferring(make_slimtad):
    """A daemon that reaches nobody: what is submitted is deferred, with a reason."""
    return make_slimtad(queue={"retry": ["1h"]}, relay={"type": "mx", "port": MX_PORT}).start()


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
def test_list_has_a_line_for_each_message_and_a_total(deferring, columns):
    assert shown(deferring, "queue", "list", columns=columns) == ["the queue is empty"]
    long = f"a-recipient-with-a-very-long-local-part-indeed@[{NOBODY_THERE}]"
    submit_many(deferring, 2, recipient=long, sender="a-sender-with-a-very-long-local-part@origin.test")
    deferring.wait_for_attempts(2)
    lines = shown(deferring, "queue", "list", columns=columns)
    assert len(lines) == 4 and lines[0].startswith("ID") and lines[-1] == "2 messages"
    assert all(len(line) <= columns for line in lines)
    ids = listed(deferring)
    for id, line in zip(ids, lines[1:3]):
        assert line.startswith(id[:16]) and "deferred" in line and "cannot connect" in line
    assert shown(deferring, "queue", "list", "--limit", "1", columns=columns)[-1] == "the first 1 message"
    assert shown(deferring, "queue", "list", "--login", "nobody", columns=columns) == ["no queued message fits"]
    # For scripts nothing changes: a line each, and nothing else.
    assert [line.split("\t")[0] for line in command(deferring, "queue", "list").splitlines()] == ids


def test_the_beginning_of_an_id_is_enough(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).start()
    submit_many(daemon, 2)
    first, second = listed(daemon)
    common = os.path.commonprefix([first, second])

    def by_beginning():
        assert json.loads(command(daemon, "queue", "show", first[:20], "--json"))["id"] == first
        assert "Subject: 1" in command(daemon, "queue", "show", second[:20].upper(), "--content")
        assert command(daemon, "queue", "hold", first[:20], second) == "2 held\n"
        assert command(daemon, "queue", "release", "--all") == "2 released\n"
        said = command(daemon, "queue", "hold", common, status=USAGE)
        assert "several" in said and first in said and second in said
        assert "not queued" in command(daemon, "queue", "hold", "ffff", status=UNAVAILABLE)
        for wrong in ("019g", first + "0"):
            assert "not a queue id" in command(daemon, "queue", "show", wrong, status=USAGE)

    by_beginning()
    daemon.term()
    by_beginning()


def test_show_of_what_is_gone_points_to_the_journal(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).start()
    submit_many(daemon, 1)
    (id,) = listed(daemon)
    command(daemon, "queue", "remove", "--yes", id)
    for content in [(), ("--content",), ("--json",)]:
        assert f"journalctl SLIMTA_QUEUE_ID={id}" in command(daemon, "queue", "show", id, *content, status=UNAVAILABLE)
    assert f"journalctl -u slimtad -g {id[:9]}" in command(daemon, "queue", "show", id[:9], status=UNAVAILABLE)
    daemon.term()
    assert f"journalctl SLIMTA_QUEUE_ID={id}" in command(daemon, "queue", "show", id, status=UNAVAILABLE)


def test_one_message_is_one_message(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).start()
    submit_many(daemon, 1)
    assert "1 message:" in command(daemon, "status") and "1 session\n" not in command(daemon, "status")
    assert "read: 1 message," in command(daemon, "audit")
    submit_many(daemon, 1)
    assert "2 messages:" in command(daemon, "status")


def test_status_says_first_what_is_wrong(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).start()
    # Its certificate ends within two days.
    lines = command(daemon, "status").splitlines()
    kinds = [line.split(":")[0] for line in lines]
    count = kinds.count("warning")
    assert count and kinds[:count] == ["warning"] * count and kinds[count] == "slimtad"


@pytest.mark.parametrize("words, meant", [
    (["quue"], "queue"), (["statsu"], "status"), (["Check"], "check"), (["queue", "lst"], "list"),
    (["queue", "relaese"], "release"), (["status", "--jsn"], "--json"), (["queue", "list", "--sendr", "x"], "--sender"),
])
def test_a_misspelled_word_gets_the_right_one(words, meant):
    result = run_slimtad(*words)
    assert result.returncode == USAGE and "id you mean" in result.stderr and meant in result.stderr


def test_a_word_like_no_command_gets_all_of_them():
    result = run_slimtad("frobnicate")
    assert result.returncode == USAGE and "is no command" in result.stderr and "check, passwd, users, login" in result.stderr


@pytest.mark.parametrize("line, mark", [
    ('hostname = "a b"', '"a b"'), ("hostnam = 'x'", "hostnam"), ("\thostnam = 'x'", "hostnam"), ("hostname = ", None),
    ('daemon = { drain_timeout = "soon" }', '"soon"'),
])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mistake_is_shown_with_its_line_and_a_mark(place, line, mark, end):
    path = place.path / "slimta.conf"
    path.write_bytes(f"# first{end}{line}{end}# last{end}".encode())
    result = run_slimtad("check", "--config", path)
    assert result.returncode == CONFIGURATION
    said = [words.removeprefix("slimtad: ") for words in result.stderr.splitlines()]
    place = next(number for number, words in enumerate(said) if words.startswith(f"{path}:2:"))
    source, marks = said[place + 1], said[place + 2]
    assert source == f"     2 | {line}".replace("\t", " ").rstrip() or source == f"     2 | {line}".replace("\t", " ")
    if mark:
        column = source.index(mark)
        assert marks == " " * 7 + "| " + " " * (column - 9) + "^" * len(mark)
