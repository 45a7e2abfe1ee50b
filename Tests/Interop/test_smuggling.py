"""Octets that must not end the data (SMTP smuggling): one message in, never two out."""

import pytest

from harness.messages import message
from harness.nameserver import NameServer
from harness.python_mx import PythonMX
from harness.slimtad import Slimtad
from harness.wire import submission

# What two public checkers send: SEC Consult's SMTP smuggling scanner and Hanno Böck's smtpsmug.
SEQUENCES = {
    "lf.lf": b"\n.\n",
    "lf.cr": b"\n.\r",
    "cr.lf": b"\r.\n",
    "cr.cr": b"\r.\r",
    "lf.crlf": b"\n.\r\n",
    "cr.crlf": b"\r.\r\n",
    "crlf.crcrlf": b"\r\n.\r\r\n",
    "crcrlf.crcrlf": b"\r\r\n.\r\r\n",
    "crlf.lf": b"\r\n.\n",
    "crlf.cr": b"\r\n.\r",
    "crlf-nul.crlf": b"\r\n\x00.\r\n",
    "crlf.nul-crlf": b"\r\n.\x00\r\n",
}


@pytest.fixture(scope="module")
def relayed(module_place):
    """slimtad and the MX that it relays to."""
    mx = PythonMX(module_place).start()
    nameserver = NameServer(module_place)
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    daemon = Slimtad(module_place, nameserver)
    module_place.slimtads.append(daemon)
    return daemon.start(), mx


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_no_second_message(relayed, sequence):
    slimtad, mx = relayed
    mx.messages.clear()
    inner = (
        b"MAIL FROM:<smuggled@origin.test>\r\nRCPT TO:<victim@one.test>\r\nDATA\r\n"
        b"Subject: smuggled\r\n\r\nsmuggled\r\n"
    )
    with submission(slimtad) as wire:
        for command in ("MAIL FROM:<sender@origin.test>", "RCPT TO:<someone@one.test>"):
            assert wire.ask(command).startswith("250 ")
        assert wire.ask("DATA").startswith("354 ")
        wire.send(b"Subject: outer\r\n\r\ntext" + sequence + inner + b".\r\n")
        # Bare CR, bare LF and NUL are refused: slimtad passes on octet for octet, so it must not take them.
        assert wire.reply()[0].startswith("554 5.6.0 ")
        # Where others find an end is anybody's guess: nothing behind it is read.
        assert wire.reply()[0].startswith("421 4.7.0 ")
        assert wire.is_closed()
    # One that is in order arrives, and nothing before it has.
    slimtad.submit(message("control"), "someone@one.test")
    arrived = mx.wait_for(1)
    assert [found.sender for found in arrived] == ["sender@origin.test"] and b"control" in arrived[0].content
