"""Guessing is slow and shuts nobody out. Counts, not times: `make flood` has the figures."""

import time

from harness.guessing import Guessers
from harness.slimtad import PASSWORD
from harness.wire import Wire

PLAIN = "AUTH PLAIN "


def make(make_slimtad, users):
    daemon = make_slimtad()
    daemon.change(edge=[{
        "name": "clear", "type": "smtp", "listen": [f"{daemon.address}:2525"], "tls": "none", "auth": "required",
        "plaintext_auth": True}], limits={"errors": 100})
    daemon.add_user()
    hashed = daemon.users.read_text().splitlines()[0].partition(":")[2]
    with daemon.users.open("a") as file:
        file.writelines(f"{name}:{hashed}\n" for name in users)
    return daemon.start()


def plain(login, password):
    import base64
    return PLAIN + base64.b64encode(f"\0{login}\0{password}".encode()).decode()


def test_a_flood_of_guesses_shuts_nobody_out(make_slimtad):
    """130 connections of two addresses, an AUTH under way on each all the time: users whom nobody has seen yet log in
    beside them, each at the first try; and however long it goes on, few guesses are checked."""
    users = [f"honest{number}" for number in range(20)]
    daemon = make(make_slimtad, users)
    with Guessers(daemon.address, 2525, ["127.0.0.101", "127.0.0.102"], 130, "honest0") as flood:
        daemon.wait_until(lambda: flood.count(454) > 20, what="guessers who are turned away")
        for user in users[1:]:
            with Wire(daemon.address, 2525) as wire:
                assert wire.code() == 220
                wire.ehlo()
                assert wire.ask(plain(user, PASSWORD)).startswith("235 "), user
        # The one whose login is guessed at: delayed, not refused.
        with Wire(daemon.address, 2525) as wire:
            assert wire.code() == 220
            wire.ehlo()
            assert wire.ask(plain(users[0], PASSWORD)).startswith("235 ")
        # 32 in hand at each address, and then a pause before each.
        assert flood.count(535) <= 2 * (32 + 8)
        assert flood.count(235) == 0


def test_reconnecting_resets_nothing(make_slimtad):
    """Wrong passwords on a connection of their own each: after some, the answer takes longer, from that address only."""
    daemon = make(make_slimtad, [])
    waits = []
    for number in range(8):
        with Wire(daemon.address, 2525) as wire:
            assert wire.code() == 220
            wire.ehlo()
            began = time.monotonic()
            assert wire.ask(plain("nobody", f"wrong {number}")).startswith("535 ")
            waits.append(time.monotonic() - began)
    # The seventh waits a second, the eighth two: never less, whatever the machine does.
    assert waits[7] >= 1.5, waits
    log = daemon.log
    assert "wrong" not in log and PASSWORD not in log


def test_one_wrong_password_of_a_client_that_tries_everything(make_slimtad):
    """The same wrong password again and again, as phones that poll send it, is one failure: the right one is taken at
    once, beside others."""
    daemon = make(make_slimtad, [])
    for _ in range(12):
        with Wire(daemon.address, 2525) as wire:
            assert wire.code() == 220
            wire.ehlo()
            for _ in range(4):
                assert wire.ask(plain("tester", "the old one")).startswith("535 ")
            assert wire.ask(plain("tester", PASSWORD)).startswith("235 ")
