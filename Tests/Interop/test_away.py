"""when_away = "local": while the database is away new mail goes into the machine's own journal and is delivered from there; with
the database of a real PostgreSQL that is ended under load, and comes back."""

import json
import signal
import smtplib
import threading
import time

import pytest

from harness.http import with_edge
from harness.json_api import API, SHORT
from harness.messages import message, parsed
from harness.postgres import Postgres
from harness.sink import Sink
from harness.slimtad import CONFIGURATION, OK, run_slimtad, send

pytestmark = pytest.mark.disk

LEASE = 5
# Those of the local queue are in a bucket of their own: see FallbackStorage.
LOCAL = "ffff"


@pytest.fixture
def database(place):
    return Postgres(place, "database").start()


@pytest.fixture
def words(database):
    return database.add_database("queue", "mail")


@pytest.fixture
def daemon(make_slimtad, nameserver, words):
    """A node, not started, with its tables in the database."""
    daemon = make_slimtad(nameserver, name="node")
    daemon.change(node={"name": "only"})
    daemon.put_queue_into(words, lease=f"{LEASE}s", when_away="local")
    daemon.expect_error("the queue's database is away, new mail goes into the local queue")
    daemon.expect_error("outcome cannot be recorded, no delivery begins until it can")
    # What was under way at the moment at which it went.
    daemon.expect_error("message could not be stored")
    daemon.expect_error("queued envelope could not be read")
    return daemon


def ask(daemon, *words):
    done = run_slimtad(*words, "--json", "--config", daemon.configuration)
    assert done.returncode == OK, done.stdout + done.stderr
    return json.loads(done.stdout)


def storage(daemon):
    return ask(daemon, "status")["storage"]


def subjects(transactions):
    return sorted(parsed(found.content)["subject"] for found in transactions)


def is_local(queue_id):
    return queue_id[12:16] == LOCAL


class Load(threading.Thread):
    """Clients that send one message after another; knows which were taken, and as what."""

    def __init__(self, daemon, name):
        super().__init__()
        self.daemon_under_load, self.word = daemon, name
        self.taken = {}
        self.refused = 0
        self._end = threading.Event()

    def run(self):
        number = 0
        while not self._end.is_set():
            try:
                with self.daemon_under_load.connect() as client:
                    while not self._end.is_set():
                        number += 1
                        try:
                            subject = f"{self.word} {number}"
                            self.taken[subject] = send(client, message(subject), ["someone@one.test"])
                        except AssertionError:
                            # A 451: this message is not sent again, so that a copy of it would be seen.
                            self.refused += 1
                            client.rset()
            except smtplib.SMTPException:
                time.sleep(0.1)

    def end(self):
        self._end.set()
        self.join(60)
        assert not self.is_alive()

    def count(self, wanted):
        return sum(is_local(found) == wanted for found in list(self.taken.values()))


def is_empty(daemon):
    return ask(daemon, "queue", "list") == [] and ask(daemon, "status")["queue"]["total"] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "broken"])
def test_mail_goes_on(how, daemon, database, place, nameserver):
    """Under load the database goes and comes back, twice: all that was taken arrives, once, and all of it is accounted for."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    daemon.start()
    loads = [Load(daemon, f"client {number}") for number in range(3)]
    for load in loads:
        load.start()
    home = local = 0
    for _ in range(2):
        daemon.wait_until(
            lambda: sum(load.count(False) for load in loads) >= home + 30, timeout=60, what="mail in the database")
        database.signal(how)
        database.wait()
        daemon.wait_until(
            lambda: sum(load.count(True) for load in loads) >= local + 30, timeout=60, what="mail in the local queue")
        found = storage(daemon)
        assert found["failure"] is None and len(found["away"]) == 1, found
        shown = run_slimtad("status", "--config", daemon.configuration)
        assert "the queue's home is away, new mail goes into the local queue" in shown.stdout, shown.stdout
        # It leaves, though the database is away.
        locals_ = [one for load in loads for one, queue_id in list(load.taken.items()) if is_local(queue_id)]
        daemon.wait_until(
            lambda: set(locals_) <= set(subjects(sink.transactions())), timeout=60, what="delivery from the local queue")
        home = sum(load.count(False) for load in loads)
        database.start()
        daemon.wait_until(lambda: not storage(daemon)["away"], timeout=60, what="the database")
        local = sum(load.count(True) for load in loads)
    daemon.wait_until(
        lambda: sum(load.count(False) for load in loads) >= home + 30, timeout=60, what="new mail in the database")
    for load in loads:
        load.end()
    wanted = sorted(subject for load in loads for subject in load.taken)
    daemon.wait_until(lambda: is_empty(daemon), timeout=120, what="an empty queue")
    assert subjects(sink.transactions()) == wanted
    audit = ask(daemon, "audit")
    assert audit["clean"] and audit["ledger"]["balanced"], audit
    assert audit["ledger"]["submitted"]["delivered"] == len(wanted)
    assert storage(daemon)["local"] == 0


def test_start_while_it_is_away(daemon, database, place, nameserver):
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    database.stop()
    daemon.start()
    assert is_local(daemon.submit(message("first"), "someone@one.test"))
    assert subjects(sink.wait_for(1)) == ["first"]
    database.start()
    daemon.wait_for_log("the queue's database is back|joined the nodes of the queue", timeout=60)
    daemon.wait_until(lambda: not storage(daemon)["away"], timeout=60, what="the database")
    assert not is_local(daemon.submit(message("second"), "someone@one.test"))
    assert subjects(sink.wait_for(2)) == ["first", "second"]
    daemon.wait_until(lambda: is_empty(daemon), timeout=30, what="an empty queue")
    assert ask(daemon, "audit")["clean"]


def test_both_queues_are_one_to_the_operator(daemon, database, place, nameserver):
    """Lists have both in order; commands go where the message is; a restart loses nothing; without when_away it does not start."""
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    daemon.change(queue={"deliver": False})
    daemon.start()
    ids = [daemon.submit(message("home"), "someone@one.test")]
    database.stop()
    daemon.wait_until(lambda: storage(daemon)["away"], timeout=30, what="the database's end")
    ids += [daemon.submit(message(f"local {number}"), "someone@one.test") for number in range(3)]
    assert [is_local(found) for found in ids] == [False, True, True, True]
    database.start()
    daemon.wait_until(lambda: not storage(daemon)["away"], timeout=60, what="the database")
    ids.append(daemon.submit(message("home again"), "someone@one.test"))
    assert [found["id"] for found in ask(daemon, "queue", "list")] == ids
    assert storage(daemon)["local"] == 3 and ask(daemon, "status")["queue"]["total"] == 5
    done = run_slimtad("queue", "hold", "--config", daemon.configuration, ids[0], ids[1])
    assert done.returncode == OK, done.stdout + done.stderr
    done = run_slimtad("queue", "remove", "--yes", "--config", daemon.configuration, ids[2], ids[4])
    assert done.returncode == OK, done.stdout + done.stderr
    assert daemon.term() == 0
    # Back to a queue in the database alone: what is local would wait there unseen.
    settings = daemon.settings["queue"]["postgresql"][0]
    daemon.change(queue={"postgresql": [settings | {"when_away": "refuse"}]})
    daemon.expect_error("would not be delivered")
    daemon.start(wait=False)
    assert daemon.wait() == CONFIGURATION
    assert "2 messages in the local queue" in daemon.log and 'with when_away = "local" they are' in daemon.log
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert "2 messages in the local queue" in checked.stdout + checked.stderr
    daemon.change(queue={"postgresql": [settings]})
    daemon.start()
    left = [ids[0], ids[1], ids[3]]
    assert [found["id"] for found in ask(daemon, "queue", "list")] == left
    done = run_slimtad("queue", "remove", "--yes", "--config", daemon.configuration, *left)
    assert done.returncode == OK, done.stdout + done.stderr
    audit = ask(daemon, "audit")
    assert audit["clean"] and audit["ledger"]["submitted"]["removed"] == 5, audit


def test_keys_wait_for_the_database(daemon, database, place, nameserver):
    """A submission whose key the database may have is not taken a second time; one without a key is, and can be asked for."""
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    daemon.change(queue={"deliver": False})
    with_edge(daemon, json=True)
    daemon.start()
    first = API(daemon).post(SHORT, Idempotency_Key="order-1")
    assert first.status_code == 202, first.text
    database.stop()
    daemon.wait_until(lambda: storage(daemon)["away"], timeout=30, what="the database's end")
    for key in ("order-1", "order-2"):
        assert API(daemon).post(SHORT, Idempotency_Key=key).status_code == 503
    free = API(daemon).post(SHORT)
    assert free.status_code == 202, free.text
    assert is_local(free.json()["id"]) and not is_local(first.json()["id"])
    assert set(API(daemon).states(free.json()["id"]).values()) == {"queued"}
    database.start()
    daemon.wait_until(lambda: not storage(daemon)["away"], timeout=60, what="the database")
    assert API(daemon).post(SHORT, Idempotency_Key="order-1").json() == first.json()
    assert API(daemon).post(SHORT, Idempotency_Key="order-2").status_code == 202
    assert len(ask(daemon, "queue", "list")) == 3
    audit = ask(daemon, "audit")
    assert audit["clean"], audit


def test_mail_from_before_the_database(daemon, place, nameserver):
    """What came while the queue was local is not told from what is in the database: it is delivered first."""
    nameserver.add_mx("one.test", Sink(place).address)
    nameserver.start()
    in_database = dict(daemon.settings["queue"])
    del daemon.settings["node"]
    daemon.change(queue={"storage": "local", "postgresql": None, "retry": ["1h"]})
    daemon.start()
    queue_id = daemon.submit(message("before"), "someone@one.test")
    assert daemon.term() == 0
    daemon.change(queue=in_database, node={"name": "only"})
    daemon.expect_error("would not be delivered")
    daemon.start(wait=False)
    assert daemon.wait() == CONFIGURATION
    assert "1 message in the local queue" in daemon.log and "slimtad queue move" in daemon.log
    done = run_slimtad("queue", "list", "--config", daemon.configuration)
    assert queue_id not in done.stdout
