"""Who may send without AUTH, on the wire: nobody whom the configuration does not name, whatever `auth` says."""

import socket

import pytest

from harness.machine import free_ports, give
from harness.wire import Wire

MAIL = "MAIL FROM:<sender@origin.test>"


def reply_to_mail(daemon, address, port, secure=False):
    """What MAIL gets before AUTH, in clear or after STARTTLS."""
    with Wire(address, port, daemon.certificate) as wire:
        assert wire.code() == 220
        wire.ehlo()
        if secure:
            assert wire.ask("STARTTLS").startswith("220 ")
            wire.tls()
            wire.ehlo()
        return wire.ask(MAIL)[:9]


@pytest.mark.parametrize("auth, refusal", [("optional", "530 5.7.0"), ("none", "550 5.7.1"), ("required", "530 5.7.0")])
def test_an_edge_that_others_can_reach_is_no_open_relay(make_slimtad, auth, refusal):
    """On [::], where an IPv4 client has an IPv4-mapped address: with networks that it is not in, and with those that it
    is in."""
    daemon = make_slimtad()
    shut, v4, v6 = free_ports(3)
    daemon.change(edge=[
        {"name": name, "type": "smtp", "listen": [f"[::]:{port}"], "tls": "starttls", "auth": auth,
         "trusted_networks": networks}
        for name, port, networks in [
            ("shut", shut, ["10.0.0.0/8"]), ("v4", v4, ["127.0.0.0/8"]), ("v6", v6, ["::1"])]])
    daemon.start()
    for secure in (False, True):
        assert reply_to_mail(daemon, "127.0.0.1", shut, secure) == refusal
        assert reply_to_mail(daemon, "::1", shut, secure) == refusal
        assert reply_to_mail(daemon, "127.0.0.1", v4, secure) == "250 2.1.0"
        assert reply_to_mail(daemon, "::1", v4, secure) == refusal
        assert reply_to_mail(daemon, "127.0.0.1", v6, secure) == refusal
        assert reply_to_mail(daemon, "::1", v6, secure) == "250 2.1.0"


@pytest.mark.parametrize("auth", ["optional", "none"])
def test_this_machine_may_where_nobody_else_can_reach(make_slimtad, place, auth):
    """Loopback and a UNIX socket; the same UNIX socket beside a port that others can reach is a client as others are."""
    daemon = make_slimtad()
    folder = place.folder("sockets")
    alone, mixed = folder / "alone", folder / "mixed"
    give(folder)
    (port,) = free_ports(1)
    daemon.change(edge=[
        {"name": "own", "type": "smtp", "listen": [f"{daemon.address}:2525", f"unix:{alone}"], "tls": "starttls",
         "auth": auth},
        {"name": "mixed", "type": "smtp", "listen": [f"[::]:{port}", f"unix:{mixed}"], "tls": "starttls", "auth": auth,
         "trusted_networks": ["10.0.0.0/8"]}])
    daemon.start()
    assert reply_to_mail(daemon, daemon.address, 2525) == "250 2.1.0"
    for path, code in [(alone, b"250"), (mixed, b"550" if auth == "none" else b"530")]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(15)
            client.connect(str(path))
            stream = client.makefile("rwb")
            assert stream.readline().startswith(b"220 ")
            stream.write(b"HELO c\r\n" + MAIL.encode() + b"\r\n")
            stream.flush()
            assert stream.readline().startswith(b"250 ")
            assert stream.readline().startswith(code), path
