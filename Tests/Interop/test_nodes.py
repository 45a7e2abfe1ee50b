"""Several daemons with one queue, in a PostgreSQL of their own: who delivers, what becomes of the mail of those who go, and
what clients and operators are told."""

import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.messages import message, parsed
from harness.postgres import Postgres
from harness.sink import Sink
from harness.slimtad import OK, TEMPORARY, run_slimtad, send
from harness.slow_mx import SlowMX

pytestmark = pytest.mark.disk

LEASE = 5
BUCKETS = 256


@pytest.fixture
def node(words, make_slimtad, nameserver):
    """Makes nodes of one queue, started."""

    def make(name, words=words, egress=None, **settings):
        daemon = make_slimtad(nameserver, name=name, **settings)
        # All are on this machine; names tell them apart.
        daemon.change(node={"name": name, "egress": egress})
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


def test_a_primary_that_was_left_behind(node, place, nameserver, module_place):
    """It still takes writes, and with no standby confirms none. Who begins while it is there, and knows of no failover, finds the
    other one; what it has asked of the old one is not there."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    old, new = (Postgres(module_place, name).start() for name in ("old", "new"))
    for server in (old, new):
        server.add_database("queue", "mail")
    # The node makes its tables in the first one, before that is left behind.
    words = f"host={old.folder},{new.folder} port={old.port},{new.port} dbname=queue user=mail"
    daemon = node("only", words=words)
    assert daemon.term() == 0
    daemon.put_queue_into(new.words("queue", "mail"), lease=f"{LEASE}s")
    old.sql("alter system set synchronous_standby_names = '*'")
    old.sql("select pg_reload_conf()")
    daemon.put_queue_into(words, lease=f"{LEASE}s")
    daemon.expect_error("the queue's database is away")
    daemon.start()
    daemon.wait_for_log("the queue's database is back", timeout=60)
    assert buckets(daemon) == BUCKETS
    wanted = fill(daemon, 3, "to the new one")
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    accepted = "select coalesce(sum(accepted), 0) from slimtad.ledger_step"
    assert (old.sql(accepted, "queue"), new.sql(accepted, "queue")) == ("0", "3")


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


# What operators do

STORED = {"deliver": False}


def command(daemon, *words, status=OK, **options):
    done = run_slimtad(*words, "--config", daemon.configuration, **{"timeout": 120, **options})
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def of_node(daemon, name):
    return next(found for found in ask(daemon, "node", "list")["nodes"] if found["name"] == name)


def test_commands_reach_all_nodes(node, place, nameserver):
    """Each command sees and changes the whole queue, whichever node it is given to."""
    sink = Sink(place)
    for domain in ("one.test", "origin.test"):
        nameserver.add_mx(domain, sink.address)
    nameserver.start()
    nodes = [node(name, queue=STORED) for name in ("one", "two", "three")]
    wait_for_shares(*nodes)
    ids = []
    for number, daemon in enumerate(nodes):
        with daemon.connect() as client:
            ids.append([send(client, message(f"node {number} {n}"), ["someone@one.test"]) for n in range(4)])
    for daemon in nodes:
        assert command(daemon, "queue", "count").strip() == "12"
        for id in (ids[0][0], ids[1][0], ids[2][0]):
            assert ask(daemon, "queue", "show", id)["id"] == id
            assert "Subject: node" in command(daemon, "queue", "show", id, "--content")
    # By its id, by the beginning of one, by a filter over all, and all.
    assert command(nodes[0], "queue", "remove", "--yes", ids[1][0]) == "1 removed\n"
    assert "removed by an operator" in nodes[1].log and "removed by an operator" not in nodes[0].log
    assert command(nodes[1], "queue", "bounce", "--yes", ids[2][0], ids[2][1]) == "2 bounced\n"
    # Two notices have come.
    assert command(nodes[2], "queue", "hold", "--domain", "one.test") == "9 held\n"
    assert len(ask(nodes[0], "queue", "list", "--state", "held")) == 9
    assert command(nodes[0], "queue", "release", "--state", "held").startswith("9 released\n")
    for daemon in nodes:
        assert ask(daemon, "queue", "list", "--state", "held") == []
    assert command(nodes[1], "queue", "flush", "--all").startswith("11 flushed\n")
    sink.start()
    for daemon in nodes:
        daemon.change(queue={"deliver": True})
        daemon.reload()
    wanted = sorted(f"node {number} {n}" for number in range(3) for n in range(4)
                    if (number, n) not in ((1, 0), (2, 0), (2, 1)))
    sink.wait_for(len(wanted) + 2, timeout=30)
    nodes[0].wait_until(lambda: ask(nodes[0], "queue", "list") == [], timeout=20, what="an empty queue")
    found = ask(nodes[0], "audit")["ledger"]
    assert found["balanced"] and list(found["removed_by"].values()) == [1]
    assert found["submitted"]["bounced"] == 2 and found["notices"]["delivered"] == 2
    assert [subject for subject in subjects(sink.transactions()) if subject.startswith("node ")] == wanted


def test_command_for_a_node_that_dies(node, place, nameserver):
    """It is told that nothing was done; then others have the mail, and it is done, once."""
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    nodes = [node(name, queue=STORED) for name in ("one", "two")]
    wait_for_shares(*nodes)
    with nodes[1].connect() as client:
        id = send(client, message("of two"), ["someone@one.test"])
    nodes[1].signal(signal.SIGKILL)
    said = run_slimtad("queue", "remove", "--yes", id, "--config", nodes[0].configuration, timeout=120)
    if said.returncode != OK:
        # The other was declared dead meanwhile, or not: asked again it is done.
        assert "ask again" in said.stderr, said.stderr
        nodes[0].wait_for_log(r"a node was declared dead.*node=two", timeout=10 * LEASE)
        wait_for_shares(nodes[0])
        assert command(nodes[0], "queue", "remove", "--yes", id) == "1 removed\n"
    found = ask(nodes[0], "audit")["ledger"]
    assert found["balanced"] and found["submitted"]["removed"] == 1 and found["submitted"]["queued"] == 0
    # It has gone for good.
    assert of_node(nodes[0], "two")["state"] == "gone"
    assert command(nodes[0], "node", "forget", "two") == "forgotten\n"
    assert [found["name"] for found in ask(nodes[0], "node", "list")["nodes"]] == ["one"]
    assert "there is no node two" in command(nodes[0], "node", "forget", "two", status=69)


def test_drain_under_load(node, place, nameserver):
    """A drained node takes no mail and has nothing left; nothing is lost, and nothing comes twice."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    nodes = [node(name) for name in ("one", "two", "three")]
    wait_for_shares(*nodes)
    wanted, stopped = [], threading.Event()

    def load(number, daemon):
        count = 0
        with daemon.connect() as client:
            while not stopped.is_set():
                code, _ = client.mail("sender@origin.test")
                if code == 250:
                    assert client.rcpt("someone@one.test")[0] == 250
                    subject = f"load {number} {count}"
                    code, _ = client.data(message(subject))
                    if code == 250:
                        wanted.append(subject)
                        count += 1
                if code != 250:
                    client.rset()
                    time.sleep(0.05)
                time.sleep(0.01)

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(load, number, daemon) for number, daemon in enumerate(nodes)]
        try:
            sink.wait_for(30, timeout=60)
            said = command(nodes[0], "node", "drain", "two", timeout=20 * LEASE)
            assert "two: drained" in said and "0 buckets" in said, said
            with nodes[1].connect() as client:
                code, reply = client.mail("sender@origin.test")
                assert code == 451, reply
            assert any("takes no mail" in found for found in ask(nodes[1], "status")["warnings"])
            before = len(wanted)
            nodes[0].wait_until(lambda: len(wanted) > before + 20, timeout=60, what="mail at the others")
            assert "resume two" in command(nodes[1], "status")
            command(nodes[1], "node", "resume")
            wait_for_shares(*nodes)
        finally:
            stopped.set()
        for ran in running:
            ran.result()
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    nodes[0].wait_until(lambda: ask(nodes[0], "queue", "list") == [], timeout=30, what="an empty queue")
    assert subjects(sink.transactions()) == sorted(wanted)
    assert is_balanced(nodes[2])


def test_the_last_node_is_not_drained(node, nameserver):
    nameserver.start()
    only = node("only")
    wait_for_shares(only)
    assert "no other node delivers" in command(only, "node", "drain", status=69)
    assert of_node(only, "only")["state"] == "works"
    said = command(only, "node", "drain", "--force")
    assert f"{BUCKETS} buckets" in said
    only.wait_for_log("this node is drained")
    assert of_node(only, "only")["state"] == "draining"
    command(only, "node", "resume")
    only.wait_for_log("this node takes mail again")


def test_status_of_nodes(node, place, nameserver, server):
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    nodes = [node(name, queue=STORED) for name in ("one", "two")]
    wait_for_shares(*nodes)
    fill(nodes[0], 3, "first")
    fill(nodes[1], 2, "second")
    text = command(nodes[0], "status")
    assert re.search(r"^storage: +PostgreSQL, as node one with 128 buckets, incarnation 1$", text, re.M), text
    assert re.search(r"^nodes: +2 at work$", text, re.M), text
    text = command(nodes[0], "status", "--all")
    assert re.search(r"^all nodes: +5 messages queued$", text, re.M), text
    for name in ("one", "two"):
        assert re.search(rf"^node: +{name}: works, edge and relay, 128 buckets, \d+ messages?, heard \d+ ?s", text, re.M), text
    assert re.search(r"^database: +log at [0-9A-F]+/[0-9A-F]+", text, re.M), text
    found = ask(nodes[1], "status", "--all")
    assert found["storage"]["queued"] == 5 and [one["name"] for one in found["sharing"]["nodes"]] == ["one", "two"]
    assert [one["buckets"] for one in found["sharing"]["nodes"]] == [128, 128]
    assert found["sharing"]["free_buckets"] == 0 and found["storage"]["node"]["draining"] is False


def test_node_commands_without_nodes(make_slimtad, nameserver):
    nameserver.start()
    alone = make_slimtad(nameserver).start()
    for words in (["list"], ["drain"], ["resume"], ["forget", "x"], ["drain", "x"]):
        assert "one machine's alone" in command(alone, "node", *words, status=69)
    assert ask(alone, "status", "--all")["sharing"] is None
# Limits that nodes share

LIMIT = 4


@pytest.fixture
def exchanger(place, nameserver):
    """It says nothing before its gate is open."""
    gate = threading.Event()
    mx = SlowMX(place, lambda: gate.wait(120)).start()
    mx.gate = gate
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    yield mx
    gate.set()


def wait_until_known(*daemons):
    for daemon in daemons:
        daemon.wait_for_log(rf"limits of destinations are shared by nodes.*nodes={len(daemons)}", timeout=10 * LEASE)


def wait_for_beats(daemon, server, words, name, count=3):
    """Until the node has told that it lives, and read what others have told, so many times."""
    database = re.search(r"dbname=(\S+)", words)[1]

    def beat():
        return server.sql(f"select beat from slimtad.node where name = '{name}'", database=database)
    for _ in range(count):
        last = beat()
        daemon.wait_until(lambda: beat() != last, timeout=10 * LEASE, what="a beat")


def test_nodes_with_the_same_addresses_share_limits(node, exchanger, server, words):
    """Who wants more has what the others leave, up to one; together they are never more than allowed, and all is delivered."""
    nodes = [
        node(name, egress="pool", relay={"connections_per_destination": LIMIT}) for name in ("one", "two")]
    wait_until_known(*nodes)
    fill(nodes[0], 12, "first")
    nodes[0].wait_until(lambda: exchanger.open == LIMIT - 1, timeout=10 * LEASE, what="three sessions")
    fill(nodes[1], 12, "second")
    nodes[1].wait_until(lambda: exchanger.open == LIMIT, timeout=10 * LEASE, what="the fourth session")
    # What is begun goes on, and nobody begins more.
    for name, daemon in zip(("one", "two"), nodes):
        wait_for_beats(daemon, server, words, name)
    assert exchanger.open == LIMIT
    exchanger.gate.set()
    exchanger.wait_for(24)
    for daemon in nodes:
        daemon.wait_for_attempts(12)
        assert [attempt["status"][0] for attempt in daemon.attempts()] == ["2"] * 12
    assert exchanger.most == LIMIT
    # Alone it has all.
    nodes[0].wait_until(lambda: exchanger.open == 0, timeout=30, what="an end of all sessions")
    assert nodes[1].term() == 0
    nodes[0].wait_for_log(r"limits of destinations are shared by nodes.*nodes=1", timeout=10 * LEASE)
    exchanger.gate.clear()
    fill(nodes[0], 12, "third")
    nodes[0].wait_until(lambda: exchanger.open == LIMIT, timeout=10 * LEASE, what="four sessions of one node")
    exchanger.gate.set()
    exchanger.wait_for(36)
    assert exchanger.most == LIMIT
    assert is_balanced(nodes[0])


def test_nodes_with_addresses_of_their_own_share_nothing(node, exchanger):
    nodes = [node(name, relay={"connections_per_destination": LIMIT}) for name in ("one", "two")]
    wait_for_shares(*nodes)
    for daemon in nodes:
        fill(daemon, 12, "some")
    nodes[0].wait_until(lambda: exchanger.open == 2 * LIMIT, timeout=10 * LEASE, what="four sessions of each node")
    exchanger.gate.set()
    exchanger.wait_for(24)
    assert exchanger.most == 2 * LIMIT
    assert not any("limits of destinations are shared" in daemon.log for daemon in nodes)


def test_one_finds_out_whether_a_destination_answers(node, place, nameserver, server, words):
    """What comes to the other meanwhile waits, without an attempt; when it answers again all is delivered."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    nodes = [node(name, egress="pool") for name in ("one", "two")]
    wait_until_known(*nodes)
    wanted = fill(nodes[0], 12, "first")
    nodes[0].wait_for_log("destination does not answer", timeout=30)
    for name, daemon in zip(("one", "two"), nodes):
        wait_for_beats(daemon, server, words, name)
    wanted += fill(nodes[1], 12, "second")
    tried = len(nodes[0].attempts())
    nodes[0].wait_for_attempts(tried + 1, timeout=60)
    assert nodes[1].attempts() == []
    sink.start()
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
    nodes[1].wait_for_attempts(12)
    assert [attempt["status"][0] for attempt in nodes[1].attempts()] == ["2"] * 12
    assert "destination answers again" in nodes[1].log
    # Who finds out dies: then the other one does.
    sink.kill()
    wanted += fill(nodes[0], 12, "third")
    nodes[0].wait_until(
        lambda: nodes[0].log.count("destination does not answer") > 1 and nodes[0].log.rindex("does not answer")
        > nodes[0].log.rindex("answers again"), timeout=30, what="a destination that does not answer again")
    wait_for_beats(nodes[1], server, words, "two")
    wanted += fill(nodes[1], 4, "fourth")
    nodes[0].signal(signal.SIGKILL)
    nodes[1].wait_for_log(r"a node was declared dead.*node=one", timeout=10 * LEASE)
    sink.start()
    assert subjects(sink.wait_for(len(wanted), timeout=60)) == sorted(wanted)
