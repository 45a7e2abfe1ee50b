"""Daemons that share a queue and do one thing each: those that take mail, and those that deliver it."""

import re
import signal

import pytest

from harness.sink import Sink
from harness.slimtad import CONFIGURATION, OK, run_slimtad
from test_nodes import LEASE, ask, buckets, fill, is_balanced, subjects, wait_for_shares

pytestmark = pytest.mark.disk


@pytest.fixture
def make(words, make_slimtad, nameserver):
    """Makes nodes with a role, not started."""

    def made(name, role, lease=f"{LEASE}s", **settings):
        daemon = make_slimtad(nameserver, name=name, **settings)
        daemon.change(node={"name": name, "roles": [role]})
        daemon.put_queue_into(words, lease=lease)
        return daemon

    return made


@pytest.fixture
def node(make):
    def started(name, role, **settings):
        return start(make(name, role, **settings))

    return started


def start(daemon):
    if "edge" in daemon.settings["node"]["roles"]:
        return daemon.start()
    # It greets nobody.
    daemon.start(wait=False)
    daemon.wait_until(lambda: run_slimtad("status", "--config", daemon.configuration).returncode == OK, what="a status")
    return daemon


def empty(daemon):
    daemon.wait_until(lambda: ask(daemon, "queue", "list") == [], timeout=60, what="an empty queue")


def is_clean(daemon):
    """What `slimtad audit` says, with everything read."""
    return run_slimtad("audit", "--config", daemon.configuration).returncode == OK


def test_taken_here_delivered_there(node, place, nameserver):
    """The edge has no part of the queue and delivers nothing; both relays do, long before their next beat."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    # A beat in 20 seconds.
    relays = [node(name, "relay", lease="100s") for name in ("one", "two")]
    wait_for_shares(*relays)
    edge = node("front", "edge", lease="100s")
    assert buckets(edge) == 0 and ask(edge, "status")["storage"]["node"]["relays"] == 2
    wanted = fill(edge, 40, "from the edge")
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    empty(edge)
    found = [daemon.wait_for_attempts(1, status="2.0.0") for daemon in relays]
    delays = sorted(float(attempt["delay"].rstrip("s")) for attempts in found for attempt in attempts)
    assert len(delays) == len(wanted) and edge.attempts() == []
    print("delays:", delays)
    # Most are called; the rest is found with a beat.
    assert delays[len(delays) // 2] < 10
    assert is_balanced(edge) and is_clean(relays[0])
    assert subjects(sink.transactions()) == sorted(wanted)


def test_relays_and_edges_are_killed(node, place, nameserver):
    """Who is left delivers all, each message once: none was in flight."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    relays = [node(name, "relay") for name in ("one", "two")]
    wait_for_shares(*relays)
    edges = [node(name, "edge") for name in ("front", "side")]
    wanted = fill(edges[0], 10, "before")
    edges[0].wait_until(
        lambda: sum(len(relay.attempts()) for relay in relays) >= len(wanted), timeout=30, what="attempts of all")
    relays[0].kill()
    wanted += fill(edges[0], 6, "behind the first")
    edges[0].kill()
    wanted += fill(edges[1], 6, "by the other edge")
    # By whoever looks first.
    relays[1].wait_until(
        lambda: any(re.search(r"a node was declared dead.*node=one", node.log) for node in (relays[1], edges[1])),
        timeout=10 * LEASE, what="that the first is declared dead")
    wait_for_shares(relays[1])
    sink.start()
    assert subjects(sink.wait_for(len(wanted), timeout=90)) == sorted(wanted)
    empty(edges[1])
    assert is_balanced(edges[1]) and is_clean(relays[1])
    assert subjects(sink.transactions()) == sorted(wanted)


def test_nobody_delivers(make, node, place, nameserver):
    """Mail is taken and waits; check, status and log say so, and that somebody has come."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    edge = make("front", "edge")
    edge.add_usual_user()
    check = run_slimtad("check", "--config", edge.configuration)
    assert check.returncode == OK, check.stderr
    assert "no node with the role \"relay\" works" in check.stderr and "relay: none" in check.stdout
    start(edge)
    edge.wait_for_log("no node delivers, mail waits")
    assert "NO NODE DELIVERS: mail waits" in run_slimtad("status", "--config", edge.configuration).stdout
    wanted = fill(edge, 5, "waits")
    assert len(ask(edge, "queue", "list")) == 5 and sink.transactions() == []
    relay = node("back", "relay")
    assert subjects(sink.wait_for(len(wanted), timeout=30)) == sorted(wanted)
    edge.wait_for_log("a node delivers again", timeout=30)
    assert "NO NODE DELIVERS" not in run_slimtad("status", "--config", edge.configuration).stdout
    # The last one ends: what comes now waits for the next.
    assert relay.term() == 0
    wanted += fill(edge, 3, "once more")
    start(relay)
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    empty(edge)
    assert is_balanced(edge) and is_clean(edge)


def test_an_edge_that_was_only_slow(node, place, nameserver):
    """Taken for dead, it commits nothing more under its old incarnation, joins again and takes mail."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    relay = node("back", "relay")
    wait_for_shares(relay)
    edge = node("front", "edge")
    wanted = fill(edge, 3, "before")
    edge.signal(signal.SIGSTOP)
    relay.wait_for_log(r"a node was declared dead.*node=front", timeout=10 * LEASE)
    edge.expect_error("this node was declared dead")
    edge.signal(signal.SIGCONT)
    edge.wait_for_log("this node was declared dead", timeout=20)
    edge.wait_until(lambda: len(re.findall("joined the nodes of the queue", edge.log)) == 2, what="a second life")
    wanted += fill(edge, 3, "after")
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    empty(edge)
    assert is_balanced(edge)


def test_one_file_for_all(make, nameserver):
    """Edges of a node that has not that role are read, and not opened: check says so, and the ports stay free."""
    nameserver.start()
    relay = make("back", "relay")
    relay.add_usual_user()
    check = run_slimtad("check", "--config", relay.configuration)
    assert check.returncode == OK, check.stderr
    assert "edge submission: not opened" in check.stdout and "edge submissions: not opened" in check.stdout
    start(relay)
    assert ask(relay, "status")["edges"] == [] and not relay.is_ready()
    # A mistake in one is a mistake all the same: others have the file too.
    assert relay.term() == 0
    relay.settings["edge"][0]["tls"] = "sometimes"
    relay.change()
    check = run_slimtad("check", "--config", relay.configuration)
    assert check.returncode == CONFIGURATION and "edge[0].tls" in check.stderr
