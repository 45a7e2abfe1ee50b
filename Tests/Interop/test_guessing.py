"""Guessing is slow, is turned away in the end, and shuts nobody out. Counts, not times: `make flood` has the figures."""

import base64
import json
import time
import urllib.error
import urllib.request

from harness import fail2ban
from harness.guessing import Guessers, through_proxy
from harness.slimtad import LOGIN, PASSWORD, run_slimtad
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
        # 32 in hand at each address, and then a pause before each, by the login: soon there are no more.
        assert flood.count(535) <= 2 * (32 + 16)
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


def behind_a_proxy(make_slimtad, **edges):
    """Clients have the addresses that a proxy tells of: those of this machine are never turned away."""
    daemon = make_slimtad()
    daemon.change(auth={"mechanisms": ["SCRAM-SHA-256", "PLAIN", "LOGIN"]}, limits={"errors": 100}, queue={"deliver": False}, edge=[
        {"name": "clear", "type": "smtp", "listen": [f"{daemon.address}:2526"], "tls": "none", "auth": "required",
         "plaintext_auth": True},
        {"name": "behind", "type": "smtp", "listen": [f"{daemon.address}:2525"], "tls": "starttls", "auth": "required",
         "proxy_protocol": ["127.0.0.0/8"], **edges},
        {"name": "web", "type": "http", "listen": [f"{daemon.address}:8025"], "tls": "none", "auth": "required",
         "plaintext_auth": True}])
    daemon.add_user()
    return daemon.start()


def greeting(daemon, address):
    wire, first = through_proxy(daemon, address)
    with wire:
        return int(first[:3])


def log_in(daemon, address, password=PASSWORD):
    wire, _ = through_proxy(daemon, address)
    with wire:
        return int(wire.ask(plain(LOGIN, password))[:3])


def spray(daemon, address, count=14):
    """One password at many logins, on a connection each, all at once. The codes. The same from elsewhere would be no news."""
    wires = [through_proxy(daemon, address)[0] for _ in range(count)]
    for number, wire in enumerate(wires):
        wire.send(f"{plain(f'login{number}', address)}\r\n".encode())
    codes = []
    for wire in wires:
        with wire:
            codes.append(wire.code())
    return codes


def guesses(daemon):
    found = run_slimtad("guess", "list", "--json", "--config", daemon.configuration)
    assert found.returncode == 0, found.stderr
    return {one["name"]: one for one in json.loads(found.stdout)}


def release(daemon, name):
    return run_slimtad("guess", "release", name, "--config", daemon.configuration)


def test_who_guesses_is_turned_away(make_slimtad, place):
    """Seen by fail2ban, listed, kept over a restart, and let in by command; others are served meanwhile."""
    daemon = behind_a_proxy(make_slimtad)
    assert log_in(daemon, "198.51.100.7") == 235
    for address, name in [("203.0.113.5", "203.0.113.5"), ("2001:db8:5::1", "2001:db8:5::/64")]:
        assert set(spray(daemon, address)) <= {535, 421}
        daemon.wait_for_log(f"guesses passwords, is turned away .*network={name}")
        assert greeting(daemon, address) == 421
        found = guesses(daemon)[name]
        assert found["kind"] == "address" and found["until"] and found["times"] == 1
        assert 10 <= found["failures"] <= 14 and 10 <= found["logins"] <= 16
    assert greeting(daemon, "2001:db8:5::ffff") == 421 and greeting(daemon, "2001:db8:6::1") == 220
    banned = fail2ban.addresses(place, daemon.log)
    assert set(banned) == {"203.0.113.5", "2001:db8:5::1"} and len(banned) >= 20
    # The table is for people; what has no terminal gets tabs.
    lines = run_slimtad("guess", "--config", daemon.configuration).stdout.splitlines()
    assert {tuple(line.split("\t")[:2]) for line in lines[:2]} == {
        ("address", "2001:db8:5::/64"), ("address", "203.0.113.5")}

    daemon.term()
    daemon.start_again()
    assert greeting(daemon, "203.0.113.5") == 421 and log_in(daemon, "198.51.100.7") == 235
    assert release(daemon, "203.0.113.0/24").returncode == 0
    assert greeting(daemon, "203.0.113.5") == 220 and greeting(daemon, "2001:db8:5::1") == 421
    again = release(daemon, "203.0.113.5")
    assert again.returncode == 69 and "nothing is held against 203.0.113.5" in again.stderr


def test_where_somebody_is_at_home_nobody_is_turned_away(make_slimtad):
    """An office with one address: others there fail, and who has logged in there before a restart does so at once."""
    daemon = behind_a_proxy(make_slimtad)
    assert log_in(daemon, "198.51.100.7") == 235
    daemon.term()
    daemon.start_again()
    for _ in range(2):
        assert set(spray(daemon, "198.51.100.7", 30)) == {535}
    assert greeting(daemon, "198.51.100.7") == 220
    assert log_in(daemon, "198.51.100.7") == 235
    assert "is turned away" not in daemon.log


def test_trusted_networks_are_not_turned_away(make_slimtad):
    daemon = behind_a_proxy(make_slimtad, trusted_networks=["203.0.113.0/24"])
    assert set(spray(daemon, "203.0.113.5")) == {535}
    assert greeting(daemon, "203.0.113.5") == 220


def test_scram_counts(make_slimtad):
    """It shows no password, and counts all the same."""
    daemon = behind_a_proxy(make_slimtad)
    for number in range(5):
        wire, _ = through_proxy(daemon, "203.0.113.5")
        with wire:
            first = base64.b64encode(f"n,,n=login{number},r=abcdef".encode()).decode()
            reply = wire.ask(f"AUTH SCRAM-SHA-256 {first}")
            assert reply.startswith("334 "), reply
            nonce = base64.b64decode(reply[4:]).decode().split(",")[0]
            proof = base64.b64encode(bytes(32)).decode()
            assert wire.ask(base64.b64encode(f"c=biws,{nonce},p={proof}".encode()).decode()).startswith("535 ")
    daemon.wait_for_log("authentication failed .*client=203.0.113.5 count=5 login=login4")


def test_http_counts_too(make_slimtad):
    """What fails over HTTP counts as over SMTP, for the same address."""
    daemon = behind_a_proxy(make_slimtad)
    for number in range(3):
        token = base64.b64encode(f"login{number}:summer".encode()).decode()
        request = urllib.request.Request(
            f"http://{daemon.address}:8025/", data=b"x", headers={"Authorization": f"Basic {token}"})
        try:
            urllib.request.urlopen(request, timeout=20)
            raise AssertionError("let in")
        except urllib.error.HTTPError as error:
            assert error.code == 401
    daemon.wait_for_log("authentication failed edge=web .*count=3")
    with Wire(daemon.address, 2526) as wire:
        assert wire.code() == 220
        wire.ehlo()
        assert wire.ask(plain("login3", "summer")).startswith("535 ")
    daemon.wait_for_log("authentication failed edge=clear .*count=4")


def test_a_session_asks_whether_its_login_still_may(make_slimtad):
    """Who is disabled sends nothing more on a session that has logged in, over SMTP; mail that has begun goes on."""
    daemon = make(make_slimtad, [])
    with Wire(daemon.address, 2525) as wire:
        assert wire.code() == 220
        wire.ehlo()
        assert wire.ask(plain(LOGIN, PASSWORD)).startswith("235 ")
        assert wire.ask("MAIL FROM:<a@origin.test>").startswith("250 ")
        done = run_slimtad("passwd", "--config", daemon.configuration, LOGIN, "--disable")
        assert done.returncode == 0, done.stderr
        daemon.wait_for_log("users file was read again")
        assert wire.ask("RCPT TO:<b@target.test>").startswith("250 ")
        assert wire.ask("RSET").startswith("250 ")
        assert wire.ask("MAIL FROM:<a@origin.test>") == "421 4.7.0 This login is disabled"
        assert wire.is_closed()
