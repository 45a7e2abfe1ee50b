"""Octets that must not end the data (../shared/vectors/smtp-smuggling): one message in, never two out."""

import json

import pytest

from harness.machine import VECTORS
from harness.messages import message
from harness.nameserver import NameServer
from harness.python_mx import PythonMX
from harness.slimtad import Slimtad
from harness.wire import submission

SEQUENCES = json.loads((VECTORS / "smtp-smuggling/sequences.json").read_text())["sequences"]


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


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence["id"])
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
        wire.send(b"Subject: outer\r\n\r\ntext" + bytes.fromhex(sequence["hex"]) + inner + b".\r\n")
        # Bare CR, bare LF and NUL are refused: slimtad passes on octet for octet, so it must not take them.
        assert wire.reply()[0].startswith("554 5.6.0 ")
        assert wire.is_quiet(), "a second reply: the two ends disagree about where the message ended"
        assert wire.ask("NOOP") == "250 2.0.0 Ok"
    # One that is in order arrives, and nothing before it has.
    slimtad.submit(message("control"), "someone@one.test")
    arrived = mx.wait_for(1)
    assert [found.sender for found in arrived] == ["sender@origin.test"] and b"control" in arrived[0].content
