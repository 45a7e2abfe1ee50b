"""Routes by who sends: whose mail goes where, and whose state is held against whom."""

from harness.machine import MX_PORT
from harness.messages import message
from harness.sink import Sink
from harness.slimtad import run_slimtad

# What the harness says for MXes.
PLAIN = {"port": None, "allow_networks": None}


def test_by_sender_and_login(place, make_slimtad):
    everybody, shop, robots = Sink(place).start(), Sink(place).start(), Sink(place).start()
    daemon = make_slimtad(
        relay={"type": "smtp", "host": f"{everybody.address}:{MX_PORT}", "tls": "none", **PLAIN},
        routes=[
            {"senders": ["@shop.test"], "host": f"{shop.address}:{MX_PORT}"},
            {"logins": ["robot-*"], "domains": ["one.test"], "host": f"{robots.address}:{MX_PORT}"},
        ]).add_user().add_user("robot-1").start()
    daemon.submit(message("usual"), ["a@one.test"])
    daemon.submit(message("shop"), ["a@one.test", "b@two.test"], sender="x+y@shop.test")
    with daemon.connect(login="robot-1") as client:
        for recipient in ("a@one.test", "a@two.test"):
            client.sendmail("sender@origin.test", [recipient], message("robot"))
    assert {"a@one.test", "b@two.test"} == {name for one in shop.wait_for(1) for name in one.recipients}
    assert [one.recipients for one in robots.wait_for(1)] == [["a@one.test"]]
    assert sorted(one.recipients for one in everybody.wait_for(2)) == [["a@one.test"], ["a@two.test"]]


def test_a_start_with_a_dead_relay(place, make_slimtad):
    """Mail of one route is in the queue beside that of a relay that is down: after a start it goes, and is told nothing of it."""
    down, shop = Sink(place), Sink(place)
    daemon = make_slimtad(
        relay={"type": "smtp", "host": f"{down.address}:{MX_PORT}", "tls": "none", **PLAIN},
        routes=[{"senders": ["@shop.test"], "host": f"{shop.address}:{MX_PORT}"}], queue={"retry": ["1h"], "deliver": False}).start()
    usual = {daemon.submit(message(f"usual {number}"), ["a@one.test"]) for number in range(40)}
    shops = {daemon.submit(message(f"shop {number}"), ["a@one.test"], sender="x@shop.test") for number in range(5)}
    assert daemon.term() == 0
    shop.start()
    daemon.change(queue={"deliver": True})
    daemon.start_again()
    assert len(shop.wait_for(5)) == 5
    daemon.wait_for_attempts(5, status="2.0.0")
    daemon.wait_until(lambda: len(daemon.attempts()) > 5, what="an attempt that fails")
    assert {event["queue_id"] for event in daemon.attempts(status="2.0.0")} == shops
    assert {event["queue_id"] for event in daemon.attempts() if event["status"] != "2.0.0"} <= usual
    # And a reload that changes the relay of all others sends theirs.
    everybody = Sink(place).start()
    daemon.change(relay={"host": f"{everybody.address}:{MX_PORT}"})
    daemon.reload()
    run_slimtad("queue", "flush", "--all", "--config", daemon.configuration)
    assert len(everybody.wait_for(40)) == 40 and len(shop.transactions()) == 5
