"""Submissions over HTTP with Idempotency-Key, made again at random while the daemon is killed: each is delivered, and none is
there twice.

A client that is not answered makes the same submission again, and one in three that is answered is made again all the same, at
once or later; some keys are used by two clients at the same moment. Every message tells its queue id in our Received field:
whatever was delivered, it has one.

While the daemon is killed the recipients' host does not answer: what a kill does to an attempt that is under way is another
matter, and the same for every protocol. Then all is delivered, submissions are made again meanwhile, and once more behind a
kill when all has been delivered: exactly one copy of each has come.
"""

import collections
import http.client
import random
import re
import threading
import time

from ledger import HELD, Lost, Place, Rig, content, run_slimtad
from harness.http import PORT, basic, edge, encoded
from harness.sink import parse_dump


def recipient(number):
    return f"r{number}@{HELD}"


class Submissions:
    """Threads that make `count` submissions, each until it is answered, and some of them again."""

    def __init__(self, address, count, seed, clients=8):
        self.address = address
        self.count = count
        self.ids = collections.defaultdict(set)  # by number: what clients were told
        self.statuses = collections.Counter()
        self.replays = 0
        self.faults = []
        self.failures = 0  # without an answer
        self._random = random.Random(seed)
        self._work = list(range(1, count + 1))
        # Two clients with the same key at the same moment.
        self._work += self._random.sample(self._work, count // 10)
        self._work.sort()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    @property
    def answered(self):
        with self._lock:
            return len(self.ids)

    def join(self, timeout):
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            raise Lost(f"{self.count - self.answered} submissions are not answered in {timeout} s: {self.statuses}")

    def again(self, numbers):
        """Makes submissions again that have been answered."""
        connection = None
        for number in numbers:
            connection = self._submit(number, connection)

    def _run(self):
        connection = None
        while True:
            with self._lock:
                if not self._work:
                    return
                number = self._work.pop(0)
                repetition = self._random.random()
                later = self._random.randrange(1, 60)
            connection = self._submit(number, connection)
            if repetition < 0.2:
                connection = self._submit(number, connection)
            elif repetition < 0.35:
                with self._lock:
                    self._work.insert(min(later, len(self._work)), number)

    def _submit(self, number, connection):
        """One submission, until it is answered for good; the connection, if it can be used again."""
        headers = {
            "Content-Type": "message/rfc822", "X-Ehlo": "client.test", "Idempotency-Key": f"submission-{number}",
            "X-Envelope-Sender": encoded("s@origin.test"), "X-Envelope-Recipient": encoded(recipient(number)),
            "Authorization": basic(),
        }
        while True:
            try:
                connection = connection or http.client.HTTPConnection(self.address, PORT, timeout=30)
                connection.request("POST", "/", content(number), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection = None
                with self._lock:
                    self.failures += 1
                time.sleep(0.02)
                continue
            if answer.will_close:
                connection = None
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.ids[number].add(answer.getheader("X-Queue-Id"))
                    self.replays += answer.getheader("Idempotency-Replayed") == "true"
                    return connection
                if answer.status not in (409, 503):
                    self.faults.append(f"{number}: {answer.status} {answer.getheader('X-Smtp-Reply')}")
                    return connection
            time.sleep(0.02)


def delivered(sink):
    """By number: the queue ids of what came, each as often as it came."""
    found = collections.defaultdict(collections.Counter)
    for path in sorted(sink.folder.iterdir()):
        if path in sink._open_files():
            continue
        text = parse_dump(path.read_bytes()).content
        number = int(re.search(rb"^Subject: n(\d+)$", text, re.MULTILINE)[1])
        found[number][re.search(rb"\bid ([0-9a-f]{32})\b", text)[1].decode()] += 1
        if not text.endswith(content(number).replace(b"\r\n", b"\n")):
            raise Lost(f"message {number} is not as it was sent")
    return found


def run(count, kills, seed):
    """`count` submissions and `kills` SIGKILLs among them; the text of the result. Raises Lost."""
    generator = random.Random(seed)
    place = Place()
    try:
        rig = Rig(place)
        rig.daemon.settings["edge"].append(edge(rig.daemon, auth="required", plaintext_auth=True))
        rig.daemon.change()
        rig.daemon.start()
        clients = Submissions(rig.daemon.address, count, seed)
        for number in range(kills):
            # At any moment: some of them while the last start is read back.
            goal = count * (number + 1) // (kills + 1)
            rig.daemon.wait_until(lambda: clients.answered >= goal, 120, f"{goal} answers")
            time.sleep(generator.random() * 0.1)
            rig.kill()
            rig.daemon.start(wait=False)
            if generator.random() < 0.3:
                time.sleep(generator.random() * 0.3)
                rig.kill()
                rig.daemon.start(wait=False)
        clients.join(180)
        rig.daemon.wait_until(rig.daemon.is_ready, 20, "the daemon")
        told = {number: set(ids) for number, ids in clients.ids.items()}
        rig.daemon.term(40)
        rig.daemon.change(route=rig.routes(isHeld=False))
        rig.daemon.start()
        clients.again(generator.sample(range(1, count + 1), count // 5))
        wait_for_deliveries(rig, count)
        # Long delivered, and behind another kill: the keys are known all the same.
        rig.kill()
        rig.daemon.start()
        clients.again(generator.sample(range(1, count + 1), count // 5))
        return judge(rig, clients, told, count)
    finally:
        place.stop_all()
        place.remove()


def wait_for_deliveries(rig, count):
    """Until the queue is empty: then there is nothing that a kill could cut off."""
    def is_empty():
        queued = run_slimtad("queue", "count", "--config", rig.daemon.configuration)
        return queued.stdout.split()[:1] == ["0"]

    rig.daemon.wait_until(is_empty, 120, "an empty queue")
    missing = count - len(delivered(rig.sink))
    if missing:
        raise Lost(f"{missing} of {count} are not delivered")


def judge(rig, clients, told, count):
    """The text of the result; raises Lost."""
    wait_for_deliveries(rig, count)
    found = delivered(rig.sink)
    if clients.faults:
        raise Lost(f"answers: {clients.faults[:3]}")
    for number in range(1, count + 1):
        ids = clients.ids[number]
        if len(ids) != 1 or ids != told[number]:
            raise Lost(f"submission {number} was told {sorted(ids | told[number])}")
        if dict(found[number]) != dict.fromkeys(ids, 1):
            raise Lost(f"submission {number} was told {sorted(ids)}, and {dict(found[number])} came")
    made = sum(clients.statuses.values())
    return (f"{count} submissions, made {made} times and {clients.failures} times without an answer ({clients.replays} replays, "
            f"{clients.statuses[409]} in progress), in {rig.kills} kills: each delivered exactly once")
