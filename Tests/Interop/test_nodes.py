"""Several daemons with one queue, in a PostgreSQL of their own: who delivers, what becomes of the mail of those who go, and
what clients and operators are told."""

import json
import re
import signal
import time

import pytest

from harness.messages import message, parsed
from harness.postgres import Postgres
from harness.sink import Sink
from harness.slimtad import OK, TEMPORARY, run_slimtad, send

pytestmark = pytest.mark.disk

LEASE = 5
BUCKETS = 256


@pytest.fixture(scope="module")
def server(module_place):
    return Postgres(module_place, max_connections=120).start()


@pytest.fixture
def words(server, request):
    name = re.sub(r"\W", "_", request.node.name)[:50]
    return server.add_database(name, f"r_{name}")


@pytest.fixture
def node(words, make_slimtad, nameserver):
    """Makes nodes of one queue, started."""

    def make(name, words=words, **settings):
        daemon = make_slimtad(nameserver, name=name, **settings)
        # All are on this machine; names tell them apart.
        daemon.change(node={"name": name})
        daemon.put_queue_into(words, lease=f"{LEASE}s")
        return daemon.start()

    return make


def ask(daemon, *words):
    done = run_slimtad(*words, "--json", "--config", daemon.configuration)
    assert done.returncode == OK, done.stdout + done.stderr
    return json.loads(done.stdout)


def buckets(daemon):
    return ask(daemon, "status")["storage"]["node"]["buckets"]


def wait_for_shares(*daemons):
    """Until all have the same share, by one bucket, and together all."""
    def shared():
        found = [buckets(daemon) for daemon in daemons]
        return sum(found) == BUCKETS and max(found) - min(found) <= 1
    daemons[0].wait_until(shared, timeout=10 * LEASE, what="equal shares")


def fill(daemon, count, prefix):
    with daemon.connect() as client:
        for number in range(count):
            send(client, message(f"{prefix} {number}"), ["someone@one.test"])
    return [f"{prefix} {number}" for number in range(count)]


def subjects(transactions):
    return sorted(parsed(found.content)["subject"] for found in transactions)


def is_balanced(daemon):
    return ask(daemon, "audit")["ledger"]["balanced"]


def test_nodes_share_come_and_go(node, place, nameserver):
    """Each has its share; what one leaves at its end goes to the others at once, and what is queued is delivered once."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    nodes = [node(name) for name in ("one", "two", "three")]
    wait_for_shares(*nodes)
    wanted = [subject for number, daemon in enumerate(nodes) for subject in fill(daemon, 8, f"node {number}")]
    for daemon in nodes:
        daemon.wait_for_attempts(8)
    first = time.monotonic()
    assert nodes[0].term() == 0
    wait_for_shares(*nodes[1:])
    assert time.monotonic() - first < 5 * LEASE
    sink.start()
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    # A command sees the whole queue from any node, and all of it balances.
    nodes[1].wait_until(lambda: ask(nodes[1], "queue", "list") == [], timeout=20, what="an empty queue")
    assert is_balanced(nodes[2])
    assert subjects(sink.transactions()) == sorted(wanted)


def test_every_node_sees_the_whole_queue(node, place, nameserver):
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    nodes = [node(name) for name in ("one", "two")]
    wait_for_shares(*nodes)
    for number, daemon in enumerate(nodes):
        fill(daemon, 4, f"node {number}")
    for daemon in nodes:
        assert len(ask(daemon, "queue", "list")) == 8


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_node_that_is_gone(how, node, place, nameserver):
    """Others have its mail when its lease is over. If it was only slow, it finds out, says so, and begins anew."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    nodes = [node(name) for name in ("one", "two")]
    wait_for_shares(*nodes)
    wanted = fill(nodes[0], 12, "left behind") + fill(nodes[1], 4, "of the other")
    nodes[0].signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    nodes[1].wait_for_log(r"a node was declared dead.*node=one", timeout=10 * LEASE)
    wait_for_shares(nodes[1])
    sink.start()
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    if how == "stopped":
        nodes[0].expect_error("this node was declared dead")
        nodes[0].signal(signal.SIGCONT)
        nodes[0].wait_for_log("this node was declared dead", timeout=20)
        wait_for_shares(*nodes)
        wanted += fill(nodes[0], 1, "anew")
        sink.wait_for(len(wanted), timeout=30)
    nodes[1].wait_until(lambda: ask(nodes[1], "queue", "list") == [], timeout=20, what="an empty queue")
    assert is_balanced(nodes[1])
    assert subjects(sink.transactions()) == sorted(wanted)


def test_database_away_and_back(node, place, nameserver, module_place, make_slimtad):
    """MAIL is answered 451 at once while it is away, what was accepted stays, and all goes on by itself."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    own = Postgres(module_place, "other").start()
    daemon = node("only", words=own.add_database("queue", "mail"))
    wanted = fill(daemon, 3, "before")
    sink.wait_for(3)
    daemon.expect_error("the queue's database is away")
    own.stop()
    with daemon.connect() as client:
        def is_refused():
            code, reply = client.mail("sender@origin.test")
            client.rset()
            return code == 451 and reply
        daemon.wait_until(is_refused, what="a 451 to MAIL")
        begun = time.monotonic()
        code, reply = client.mail("sender@origin.test")
        assert code == 451 and reply.startswith(b"4.3.0"), (code, reply)
        assert time.monotonic() - begun < 2
    assert ask(daemon, "status")["storage"]["failure"]
    own.start()
    daemon.wait_for_log("the queue's database is back", timeout=30)
    wanted += fill(daemon, 3, "after")
    assert subjects(sink.wait_for(len(wanted), timeout=30)) == sorted(wanted)
    assert is_balanced(daemon)


def test_a_name_that_another_has(node, words, nameserver, make_slimtad):
    """Two with one name: the later one does not start, and says what to do; the first works on."""
    nameserver.start()
    first = node("same")
    second = make_slimtad(nameserver, name="second")
    second.change(node={"name": "same"})
    second.put_queue_into(words, lease=f"{LEASE}s")
    second.expect_error("works as node same")
    second.start(wait=False)
    assert second.wait() == TEMPORARY
    assert "works as node same" in second.log and "[node] name" in second.log
    assert buckets(first) == BUCKETS
    assert first.term() == 0
    second.start()
    wait_for_shares(second)
