"""What each node of a shared queue has for itself, logins that are counted and held and sites, seen and changed from any of them."""

import json
import signal

import pytest

from harness.slimtad import UNAVAILABLE
from test_nodes import STORED, command, fill, node, wait_for_shares

pytestmark = pytest.mark.disk

LOGIN = "tester"


def answer(daemon, *words):
    """The whole answer, and that of each node."""
    whole = json.loads(command(daemon, *words, "--json"))
    return whole, {found["node"]: found for found in whole["nodes"]}


@pytest.fixture
def two(node, nameserver, sink):
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    nodes = [node(name, queue=STORED, quota={}) for name in ("one", "two")]
    wait_for_shares(*nodes)
    return nodes


def is_held(daemon):
    return LOGIN in command(daemon, "login", "list", "--held", "--here")


def test_logins(two):
    """Each counts for itself; a hold holds everywhere, and what is in the queue, whoever has it."""
    one, two = two
    fill(one, 3, "at one")
    fill(two, 2, "at two")
    lines = command(two, "login", "list").splitlines()
    assert [line.split("\t")[:3] for line in lines] == [["two", LOGIN, "2"], ["one", LOGIN, "3"]]
    _, found = answer(one, "login", "show", LOGIN)
    assert [found[name]["answer"]["hour"]["messages"] for name in ("one", "two")] == [3, 2]
    # Of this machine as it was when there was but one.
    assert json.loads(command(one, "login", "show", LOGIN, "--here", "--json"))["hour"]["messages"] == 3
    assert command(two, "login", "hold", LOGIN).splitlines() == [
        f"two: {LOGIN} is held, and 5 messages of the last hour", f"one: {LOGIN} is held"]
    assert is_held(one) and is_held(two) and " on two" in one.log
    for daemon in (one, two):
        fill(daemon, 1, "held at once")
    assert command(one, "queue", "count", "--state", "held") == "7\n"
    # From the other one, and all mail of both.
    assert "7 messages" in command(one, "login", "release", LOGIN)
    assert not is_held(one) and not is_held(two)
    assert command(two, "queue", "count", "--state", "held") == "0\n"
    assert "is not held" in command(one, "login", "release", LOGIN, status=UNAVAILABLE)
    # At one of them alone.
    assert command(one, "login", "hold", LOGIN, "--here").startswith(f"{LOGIN} is held")
    assert is_held(one) and not is_held(two)
    assert f"one: {LOGIN} is released\n" in command(two, "login", "release", LOGIN)
    assert not is_held(one)
    assert "nobody is called nemo" in command(one, "login", "hold", "nemo", status=1)


def test_a_node_that_does_not_answer(two):
    """It is named, the others have done it, and the exit status says that something may be amiss."""
    one, two = two
    fill(one, 1, "one")
    two.expected_errors.append("this node was declared dead")
    two.signal(signal.SIGSTOP)
    try:
        said = command(one, "login", "hold", LOGIN, status=1, timeout=90)
        assert f"one: {LOGIN} is held" in said and "two: " in said and "; nothing was done there" in said
        assert is_held(one)
    finally:
        two.signal(signal.SIGCONT)
    # Declared dead meanwhile or not: what was not done is not done later.
    assert not is_held(two)


def test_sites(two):
    one, two = two
    for daemon in (one, two):
        fill(daemon, 1, "to know the site")
        daemon.change(queue={"deliver": True})
        daemon.reload()
    for daemon in (one, two):
        daemon.wait_until(lambda: "mx" in command(daemon, "site", "list", "--here"), 30, "a site that is known")
    lines = [line.split("\t") for line in command(one, "site", "list").splitlines()]
    assert [line[0] for line in lines] == ["one", "two"] and lines[0][1] == lines[1][1]
    name = lines[0][1]
    said = command(two, "site", "set", name, "--connections", "3")
    assert said.startswith(f"two: {name}") and f"\none: {name}" in said
    _, found = answer(one, "site", "show", name)
    assert [node["answer"]["sites"][0]["set"]["connections"] for node in found.values()] == [3, 3]
    assert sorted(command(one, "site", "forget", name).split("\n")) == ["", "one: forgotten", "two: forgotten"]
    assert "nothing is known of a site nemo" in command(one, "site", "show", "nemo", status=UNAVAILABLE)
