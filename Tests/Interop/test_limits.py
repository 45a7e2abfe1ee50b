"""Every key of [limits], each with a daemon of its own that has it small."""

import socket

import pytest

from harness.machine import SUBMISSION, SUBMISSIONS, new_address
from harness.messages import message
from harness.slimtad import send
from harness.wire import Wire, submission


@pytest.fixture
def limited(make_slimtad):
    """slimtad that keeps what it gets, with these limits."""

    def make(**limits):
        return make_slimtad(limits=limits, queue={"deliver": False}).start()

    return make


def begin(wire, *recipients):
    assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
    for recipient in recipients or ["someone@one.test"]:
        assert wire.ask(f"RCPT TO:<{recipient}>").startswith("250 ")


def test_recipients(limited):
    slimtad = limited(recipients=3)
    with submission(slimtad) as wire:
        begin(wire, "a@one.test", "b@one.test", "c@one.test")
        assert wire.ask("RCPT TO:<d@one.test>").startswith("452 4.5.3 ")
        assert wire.ask("DATA").startswith("354 ")
        assert wire.ask(b"Subject: x\r\n\r\n.").startswith("250 2.6.0 ")


def test_paths_without_brackets(limited):
    with submission(limited()) as wire:
        assert wire.ask("MAIL FROM:sender@origin.test").startswith("501 5.1.7 ")
        begin(wire)
        assert wire.ask("RCPT TO:someone@one.test").startswith("501 5.1.3 ")


def test_lenient_paths(limited):
    """MAIL and RCPT of printers, without brackets: taken if asked for. And a long local part, whatever is asked for."""
    with submission(limited(lenient_paths=True)) as wire:
        assert wire.ask("MAIL FROM:sender@origin.test SIZE=100") == "250 2.1.0 <sender@origin.test> Ok"
        assert wire.ask("RCPT TO:someone@one.test") == "250 2.1.5 <someone@one.test> Ok"
        assert wire.ask("RCPT TO:<" + "x" * 100 + "@one.test>").startswith("250 2.1.5 ")
        assert wire.ask("RCPT TO:someone@one.test>").startswith("501 5.1.3 ")
        assert wire.ask("DATA").startswith("354 ")
        assert wire.ask(b"Subject: x\r\n\r\n.").startswith("250 2.6.0 ")


def test_recipients_of_one_message_do_not_count_for_the_next(limited):
    slimtad = limited(recipients=2)
    with slimtad.connect() as client:
        for _ in range(3):
            send(client, message(), ["a@one.test", "b@one.test"])


def test_errors(limited):
    slimtad = limited(errors=3)
    with submission(slimtad) as wire:
        assert wire.ask("XYZZY").startswith("500 5.5.2 ")
        assert wire.ask("XYZZY").startswith("500 5.5.2 ")
        assert wire.ask("XYZZY").startswith("500 5.5.2 ")
        assert wire.reply()[0].startswith("421 4.7.0 ")
        wire.is_closed()


def two_sessions(slimtad):
    """Two that have their 220, and no others: what the harness itself had open has ended."""

    def opened():
        wires = [Wire(slimtad.address, SUBMISSION), Wire(slimtad.address, SUBMISSION)]
        if [wire.code() for wire in wires] == [220, 220]:
            return wires
        for wire in wires:
            wire.socket.close()
        return None

    return slimtad.wait_until(opened, timeout=5, what="two sessions")


def test_connections(limited):
    slimtad = limited(connections=2)
    first, second = two_sessions(slimtad)
    with Wire(slimtad.address, SUBMISSION) as third:
        assert third.reply()[0].startswith("421 4.7.0 ")
        third.is_closed()
    assert first.ask("QUIT").startswith("221 ")
    first.is_closed()
    _accepts_again(slimtad)
    second.socket.close()


def test_connections_per_address(limited):
    slimtad = limited(connections_per_address=2)
    first, second = two_sessions(slimtad)
    with Wire(slimtad.address, SUBMISSION) as third:
        assert third.reply()[0].startswith("421 4.7.0 ")
        third.is_closed()
    other = socket.create_connection((slimtad.address, SUBMISSION), timeout=10, source_address=(new_address(), 0))
    assert other.recv(512).startswith(b"220 ")
    other.close()
    first.socket.close()
    _accepts_again(slimtad)
    second.socket.close()


def _accepts_again(slimtad):
    def accepted():
        with Wire(slimtad.address, SUBMISSION) as wire:
            return wire.code() == 220

    slimtad.wait_until(accepted, timeout=5, what="a free place")


def test_command_timeout(limited):
    """Silence, and an octet now and then, end alike: the time is for the whole command."""
    slimtad = limited(command_timeout="1s")
    with Wire(slimtad.address, SUBMISSION) as silent:
        assert silent.code() == 220
        assert silent.reply()[0].startswith("421 4.4.2 ")
        silent.is_closed()
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.code() == 220
        _drip(wire, b"N")
        assert wire.reply()[0].startswith("421 4.4.2 ")


def test_command_timeout_within_auth(limited):
    """W7: the exchange is not outside the timeouts."""
    slimtad = limited(command_timeout="1s")
    with submission(slimtad, login=False) as wire:
        assert wire.ask("AUTH LOGIN").startswith("334 ")
        _drip(wire, b"d")
        assert wire.reply()[0].startswith("421 4.4.2 ")


def test_commands_without_progress(limited):
    """Each of them is answered; one more than the limit ends the session, whether it was logged in or not."""
    slimtad = limited(commands=10)
    for login in (False, True):
        with submission(slimtad, login=login) as wire:
            # EHLO, STARTTLS and EHLO were three; AUTH is progress.
            for command in ["NOOP", "RSET", "HELP", "VRFY x", "EHLO c", "NOOP", "NOOP", *(["NOOP"] * 3 if login else [])]:
                wire.send(command.encode() + b"\r\n")
                assert wire.code() < 300
            assert wire.ask("NOOP").startswith("421 4.7.0 ")
            wire.is_closed()


def test_messages_are_progress(limited):
    slimtad = limited(commands=10, errors=3)
    with submission(slimtad) as wire:
        for _ in range(6):
            assert wire.ask("XYZZY").startswith("500 ")
            assert wire.ask("XYZZY").startswith("500 ")
            begin(wire)
            assert wire.ask("DATA").startswith("354 ")
            assert wire.ask(b"Subject: x\r\n\r\n.").startswith("250 2.6.0 ")


def test_stall_timeout(limited):
    """Silence ends a message, dripping too; lines that come fast enough go on, however long it takes."""
    slimtad = limited(stall_timeout="2s", least_rate="1KiB", command_timeout="1s")
    for octets in (b"", b"line\r\n"):
        with submission(slimtad) as wire:
            begin(wire)
            assert wire.ask("DATA").startswith("354 ")
            _drip(wire, octets)
            assert wire.reply()[0].startswith("421 4.4.2 ")
            wire.is_closed()
    with submission(slimtad) as wire:
        begin(wire)
        assert wire.ask("DATA").startswith("354 ")
        for _ in range(25):
            wire.send(b"x" * 510 + b"\r\n")
            assert wire.is_quiet(0.2), "ended although it is steady"
        assert wire.ask(b".").startswith("250 2.6.0 ")


def test_data_timeout(limited):
    """For the whole message: dripping lines does not extend it. The command timeout does not count meanwhile."""
    slimtad = limited(data_timeout="2s", command_timeout="1s")
    with submission(slimtad) as wire:
        begin(wire)
        assert wire.ask("DATA").startswith("354 ")
        _drip(wire, b"line\r\n", seconds=1.5)
        assert wire.is_quiet(0), "gave up before data_timeout"
        _drip(wire, b"line\r\n")
        assert wire.reply()[0].startswith("421 4.4.2 ")
        wire.is_closed()


def _drip(wire, octets, seconds=10):
    """Sends `octets` five times a second until the server says something."""
    for _ in range(int(seconds * 5)):
        if not wire.is_quiet(0.2):
            return
        wire.socket.sendall(octets)
    assert seconds < 10, f"nothing was said for {seconds} s"


def test_handshake_timeout(limited):
    """W7: on both kinds of edge, whether the client is silent or drips."""
    slimtad = limited(handshake_timeout="1s")
    with Wire(slimtad.address, SUBMISSIONS) as silent:
        silent.is_closed()
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.code() == 220
        wire.ehlo()
        assert wire.ask("STARTTLS").startswith("220 ")
        _drip(wire, b"\x16")
        try:
            octets = wire.socket.recv(512)
        except ConnectionResetError:
            octets = b""  # the last drip met a connection that was closed already
        assert not octets.startswith(b"4")


def size_body(total):
    """A message of exactly `total` octets."""
    head = b"Subject: x\r\n\r\n"
    lines, rest = divmod(total - len(head), 100)
    return head + (b"x" * 98 + b"\r\n") * (lines - 1) + b"x" * (98 + rest) + b"\r\n"


@pytest.mark.parametrize("greeting", ["EHLO client.test", "HELO client.test"])
def test_message_size(limited, greeting):
    """The limit is the last size that is taken; W4: HELO does not lift it."""
    slimtad = limited(message_size=20_000)
    with submission(slimtad) as wire:
        assert wire.ask(greeting).startswith("250")
        for size, expected in [(20_000, "250 2.6.0 "), (20_001, "552 5.3.4 "), (19_999, "250 2.6.0 ")]:
            begin(wire)
            assert wire.ask("DATA").startswith("354 ")
            assert len(size_body(size)) == size
            wire.send(size_body(size) + b".\r\n")
            assert wire.reply()[0].startswith(expected), size


def test_dots_that_were_doubled_do_not_count(limited):
    slimtad = limited(message_size=20_000)
    with submission(slimtad) as wire:
        begin(wire)
        assert wire.ask("DATA").startswith("354 ")
        body = b"Subject: x\r\n\r\n" + b"..\r\n" * ((20_000 - 14) // 3)
        wire.send(body + b".\r\n")
        assert wire.reply()[0].startswith("250 2.6.0 ")


def test_message_size_with_everything_in_one_segment(limited):
    """W4: what is pipelined behind DATA counts; W3: nothing behind the limit is taken for a command."""
    slimtad = limited(message_size=20_000)
    smuggled = b"RSET\r\nMAIL FROM:<smuggled@origin.test>\r\nRCPT TO:<victim@one.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"
    with submission(slimtad) as wire:
        begin(wire)
        wire.send(b"DATA\r\n" + size_body(20_000) + smuggled * 100 + b".\r\nNOOP\r\n")
        assert wire.reply()[0].startswith("354 ")
        assert wire.reply()[0].startswith("552 5.3.4 ")
        assert wire.reply() == ["250 2.0.0 Ok"]
        assert wire.is_quiet()
        begin(wire)
    assert "smuggled" not in slimtad.log and "victim" not in slimtad.log


def test_a_large_refused_message_is_drained(limited):
    """Ten times the limit: the client can send all of it, and hears why not; the next one is taken."""
    slimtad = limited(message_size="1MB")
    with slimtad.connect() as client:
        client.mail("sender@origin.test")
        client.rcpt("someone@one.test")
        code, text = client.data(size_body(10_000_000))
        assert (code, text[:5]) == (552, b"5.3.4")
        send(client, message(), ["someone@one.test"])


def test_received_hops(limited):
    """W31: a message that has been passed on too often is in a loop."""
    slimtad = limited(received_hops=5)
    hop = b"Received: from a.test ([192.0.2.1]) by b.test with ESMTP id 1;\r\n\tSat, 21 Nov 2026 10:00:00 +0000\r\n"
    with slimtad.connect() as client:
        for count, code in [(5, 250), (6, 554), (0, 250)]:
            client.mail("sender@origin.test")
            client.rcpt("someone@one.test")
            reply = client.data(hop * count + b"Subject: loop\r\n\r\nReceived: not a field\r\n")
            assert reply[0] == code, (count, reply)
            assert code != 554 or reply[1].startswith(b"5.4.6 ")
