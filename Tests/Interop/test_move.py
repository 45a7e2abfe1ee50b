"""`slimtad queue move`: the queue of a machine goes into PostgreSQL, and comes back, with all that its messages have been
through; also where it is killed again and again on the way."""

import json
import re
import shutil
import subprocess

import pytest

from harness.http import with_edge
from harness.machine import SLIMTAD, wait_until
from harness.messages import message, parsed
from harness.sink import Sink
from harness.slimtad import CONFIGURATION, OK, PASSWORD, TEMPORARY, run_slimtad, send
from test_idempotency import Client

pytestmark = pytest.mark.disk


@pytest.fixture
def daemon(make_slimtad, nameserver):
    """Nothing is tried a second time before somebody says so."""
    return make_slimtad(nameserver, queue={"retry": ["1h"], "policies": ["date", "message_id", "received"]})


def run(daemon, *arguments, status=OK):
    done = run_slimtad(*arguments, "--config", daemon.configuration, timeout=120)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def ask(daemon, *arguments, **options):
    return json.loads(run(daemon, *arguments, "--json", **options))


def move(daemon, to):
    return ask(daemon, "queue", "move", "--to", to)


def keep_locally(daemon):
    daemon.change(queue={"storage": None, "postgresql": None})


def seen(daemon):
    """All that is queued, as an operator sees it, with the messages."""
    found = {}
    for listed in ask(daemon, "queue", "list"):
        shown = ask(daemon, "queue", "show", listed["id"])
        del shown["age"]
        found[shown["id"]] = shown, run(daemon, "queue", "show", shown["id"], "--content")
    return found


def fill(daemon, count):
    """Queues messages that nobody delivers for now, and stops."""
    daemon.change(queue={"deliver": False})
    daemon.start()
    with daemon.connect() as client:
        for number in range(count):
            send(client, message(f"{number}"), ["a@one.test"])
    assert daemon.term() == 0


def is_refused(daemon, status, pattern):
    """Whether slimtad does not start, and says why."""
    return re.search(pattern, run(daemon, "run", status=status))


def subjects(sink):
    return sorted(parsed(found.content)["subject"] for found in sink.transactions())


def test_there_and_back(daemon, words, place, nameserver, sink):
    later = Sink(place)
    nameserver.add_mx("one.test", later.address)
    nameserver.add_mx("two.test", sink.address)
    nameserver.start()
    with_edge(daemon, auth="required", plaintext_auth=True)
    daemon.add_user("other", PASSWORD)
    daemon.add_user()
    daemon.start()
    with daemon.connect() as client:
        deferred = send(client, message("deferred"), ["a@one.test"])
        partly = send(client, message("partly"), ["a@one.test", "b@two.test"])
    daemon.wait_for_attempts(1, recipient="b@two.test")
    daemon.wait_for_attempts(2, recipient="a@one.test")
    daemon.change(queue={"deliver": False})
    daemon.reload()
    with daemon.connect() as client:
        large = send(client, message("large", "0123456789abcdef" * 4 + "\r\n" + ("x" * 70 + "\r\n") * 40_000), ["a@one.test"])
        notice = send(client, message("notice"), ["a@one.test"], sender="")
        held = send(client, message("held"), ["a@one.test"])
    receipt = Client(daemon.address).submit("order-1")
    assert receipt.status == 200
    run(daemon, "queue", "hold", held)
    before = seen(daemon)
    assert before.keys() >= {deferred, partly, large, notice, held} and len(before) == 6
    assert daemon.term() == 0

    # There, after it was said that there is mail here.
    daemon.put_queue_into(words)
    assert is_refused(daemon, CONFIGURATION, r"6 messages in the local queue .*`slimtad queue move --to postgresql`")
    assert "slimtad queue move" in run_slimtad("check", "--config", daemon.configuration).stderr
    moved = move(daemon, "postgresql")
    assert moved == {"moved": 6, "receipts": 1, "failed": [], "left": 0}
    daemon.start()
    daemon.wait_until(lambda: ask(daemon, "status")["storage"]["node"]["buckets"] == 256, timeout=60, what="all of it")
    assert seen(daemon) == before
    again = Client(daemon.address).submit("order-1")
    assert again.getheader("Idempotency-Replayed") == "true" and again.body == receipt.body
    assert ask(daemon, "audit")["ledger"]["balanced"]
    # While it runs nothing is carried.
    assert "stop it first" in run(daemon, "queue", "move", "--to", "local", status=TEMPORARY)
    assert daemon.term() == 0

    # And back.
    assert move(daemon, "local") == {"moved": 6, "receipts": 1, "failed": [], "left": 0}
    keep_locally(daemon)
    daemon.start()
    assert seen(daemon) == before
    assert Client(daemon.address).submit("order-1").getheader("Idempotency-Replayed") == "true"
    assert ask(daemon, "audit")["ledger"]["balanced"]
    later.start()
    daemon.change(queue={"deliver": True})
    daemon.reload()
    run(daemon, "queue", "release", held)
    run(daemon, "queue", "flush", "--all")
    wanted = sorted(["deferred", "partly", "large", "notice", "held", "once"])
    later.wait_for(len(wanted), timeout=60)
    daemon.wait_until(lambda: ask(daemon, "queue", "list") == [], timeout=30, what="an empty queue")
    assert subjects(later) == wanted and subjects(sink) == ["partly"]


def test_delivered_from_there(daemon, words, place, nameserver):
    """A node that has all of the queue delivers what was carried to it, once."""
    later = Sink(place)
    nameserver.add_mx("one.test", later.address)
    nameserver.start()
    fill(daemon, 30)
    daemon.put_queue_into(words)
    assert "30 messages and 0 receipts carried" in run(daemon, "queue", "move", "--to", "postgresql")
    assert move(daemon, "postgresql")["moved"] == 0
    later.start()
    daemon.change(queue={"deliver": True})
    daemon.start()
    later.wait_for(30, timeout=60)
    daemon.wait_until(lambda: ask(daemon, "queue", "list") == [], timeout=60, what="an empty queue")
    assert subjects(later) == sorted(f"{number}" for number in range(30))
    assert ask(daemon, "audit")["ledger"]["balanced"]


def test_killed_again_and_again(daemon, words, nameserver):
    nameserver.start()
    fill(daemon, 600)
    before = ask(daemon, "queue", "list")
    marker = daemon.state / "move"
    daemon.put_queue_into(words)
    for to in ("postgresql", "local"):
        stopped = 0
        for number in range(1, 120):
            command = [SLIMTAD, "queue", "move", "--to", to, "--config", str(daemon.configuration)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                _, error = process.communicate(timeout=0.02 * number)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                if marker.exists():
                    stopped += 1
                    assert is_refused(daemon, TEMPORARY, "being moved"), to
                continue
            assert process.returncode == OK, error
            break
        run(daemon, "queue", "move", "--to", to)
        assert stopped > 0 and not marker.exists()
    keep_locally(daemon)
    daemon.start()
    after = ask(daemon, "queue", "list")
    for listed in before + after:
        listed.pop("age", None)
    assert after == before
    audit = ask(daemon, "audit")["ledger"]
    assert audit["balanced"]


def test_refused(daemon, make_slimtad, words, nameserver):
    """While another node works with the queue it is not carried out of the database, and slimtad starts as if nothing had
    been typed."""
    nameserver.start()
    other = make_slimtad(nameserver, name="other")
    other.change(node={"name": "other"})
    for node in (daemon, other):
        node.put_queue_into(words, lease="5s")
    other.start()
    refused = run(daemon, "queue", "move", "--to", "local", status=TEMPORARY)
    assert "node other works with the queue: stop slimtad on all machines" in refused
    assert not (daemon.state / "move").exists()
    daemon.start()
    assert daemon.term() == 0


def test_nothing_else_opens_the_queue(daemon, words, nameserver):
    """A move that has not come to its end goes on before anything else; files that it cannot open are rebuilt, and it goes on
    with these."""
    nameserver.start()
    fill(daemon, 5)
    ids = [listed["id"] for listed in ask(daemon, "queue", "list")]
    (daemon.state / "move").write_text("node one\ndatabase of 0\n")
    shutil.copystat(daemon.state / "super", daemon.state / "move")
    for command in (["queue", "rebuild"], ["queue", "hold", "--all"], ["run"]):
        assert "being moved" in run(daemon, *command, status=TEMPORARY), command
    assert "being moved" in run_slimtad("check", "--config", daemon.configuration).stderr
    assert [listed["id"] for listed in ask(daemon, "queue", "list")] == ids
    (daemon.state / "super").unlink()
    assert "5 messages are queued" in (told := run(daemon, "queue", "rebuild"))
    assert "goes on with `slimtad queue move`" in told
    assert is_refused(daemon, TEMPORARY, "being moved")
    (daemon.state / "move").unlink()
    assert [listed["id"] for listed in ask(daemon, "queue", "list")] == ids


def test_stopped(daemon, words, nameserver):
    """A signal ends it between two groups, and the daemon may start with what is left."""
    nameserver.start()
    fill(daemon, 450)
    daemon.put_queue_into(words)
    command = [SLIMTAD, "queue", "move", "--to", "postgresql", "--config", str(daemon.configuration)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (daemon.state / "move").exists() or process.poll() is not None, what="the beginning")
    process.terminate()
    out, error = process.communicate(timeout=60)
    assert not (daemon.state / "move").exists()
    if process.returncode != OK:
        assert process.returncode == TEMPORARY and re.search(r"not all: \d+ messages? left", error), error
    keep_locally(daemon)
    left = len(ask(daemon, "queue", "list"))
    carried = int(re.search(r"(\d+) messages?", out)[1])
    assert left + carried == 450
