"""Explains by the logs of the nodes what came twice, and what came although its client was told to come again. Used by nodes.py.

Each copy but one must be of an attempt whose outcome could not be recorded, and something must have happened to that node: a node
logs `delivered` when the receiver has taken the message, and then `outcome recorded`, or why not. Of mail whose acceptance is in
doubt it logs that it has taken it out, or that others may deliver it. A node that was killed logs nothing more.
"""

import calendar
import collections
import dataclasses
import re
import time

DELIVERED = "delivered"
RECORDED = "outcome recorded"
LOST = "outcome of a message that another node has now"
GIVEN_UP = "outcome was not recorded before the end"
DECLARED_DEAD = "a node was declared dead"
LEFT = "a message may be delivered though its client was told to send it again"
TAKEN_OUT = "a message was stored though its client was told to send it again, and was taken out"
# Why an attempt did not count, as figures call it.
WHY = {LOST: "another node's by then", GIVEN_UP: "not recorded before the end"}
KILLED, CUT_SHORT = "killed before it was recorded", "cut short by the end"

# Why mail of a doubt came, as figures call it.
DOUBTS = {LEFT: "left to others", TAKEN_OUT: "taken out too late"}
ENDED_BEFORE, UNKNOWN = "killed before it said so", "by one that was killed and has not said which"

_LINE = re.compile(
    rf"(\S+?)(\.\d+)Z \w+ (delivered|deferred|outcome [a-z ,]+?|{DECLARED_DEAD}|{LEFT}|{TAKEN_OUT}) ([a-z_]+=.*)")
_FIELD = re.compile(r"(queue_id|recipient|node)=(\S+)")
# By how much the sink may write later than its clients send, on a busy machine.
LATE = 60


@dataclasses.dataclass
class Life:
    """Of a node's process."""

    begun: float
    ended: float = float("inf")
    is_killed: bool = False


class Line:
    """What a node has said of a message."""

    def __init__(self, match):
        moment, fraction, self.message, rest = match.groups()
        self.time = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S")) + float(fraction)
        fields = {name: value.strip('"<>') for name, value in _FIELD.findall(rest)}
        self.id, self.recipient, self.node = fields.get("queue_id"), fields.get("recipient"), fields.get("node")


class Attempt:
    """For one recipient: whether it was delivered, and which line says what became of the outcome, if one does."""

    def __init__(self, line):
        self.time, self.is_delivered, self.id, self.fate = line.time, line.message == DELIVERED, line.id, None


class Logs:
    """What nodes have logged of attempts; `read` takes what is new."""

    def __init__(self, nodes):
        self._nodes = nodes
        self._places = collections.Counter()
        self._halves = collections.defaultdict(str)
        # By node and recipient; and the latest by node and queue id: an envelope is attempted once at a time.
        self.attempts = collections.defaultdict(list)
        self._latest = {}
        # When others have declared a node dead.
        self.deaths = collections.defaultdict(list)
        # By node and queue id: what it has said of mail whose acceptance was in doubt.
        self.doubts = {}

    def read(self):
        for node in self._nodes:
            with open(node.log_path, errors="replace") as log:
                log.seek(self._places[node.name])
                text = self._halves[node.name] + log.read()
                self._places[node.name] = log.tell()
            *lines, self._halves[node.name] = text.split("\n")
            for text in lines:
                if found := _LINE.match(text):
                    self._take(node.name, Line(found))

    def _take(self, node, line):
        if line.message == DECLARED_DEAD:
            self.deaths[line.node].append(line.time)
        elif line.message in DOUBTS:
            self.doubts[node, line.id] = line.message
        elif line.message in (DELIVERED, "deferred"):
            attempt = self._latest[node, line.id] = Attempt(line)
            self.attempts[node, line.recipient].append(attempt)
        elif (node, line.id) in self._latest and line.message in (RECORDED, LOST, GIVEN_UP):
            self._latest[node, line.id].fate = line.message


class Deliveries:
    """What came to the sink, by recipient: which node brought it, and when. `lives` are the nodes' processes."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.logs = Logs(nodes)
        self.found = collections.defaultdict(list)
        # Deliveries beyond one for each recipient.
        self.copies = 0
        self.explained = collections.Counter()
        self._settled = collections.Counter()

    def note(self, key, name, when):
        """`name` is the node's, in EHLO."""
        self.found[key].append((name.split(".")[0], when))
        self.copies += len(self.found[key]) > 1

    def faults(self):
        """Second copies that the logs do not explain yet, as texts; the others are counted in `explained`."""
        self.logs.read()
        texts = []
        for key, found in self.found.items():
            if len(found) < 2 or self._settled[key] == len(found):
                continue
            reasons, recorded = self._look(key[1], found)
            if recorded > 1 or reasons.total() < len(found) - 1:
                texts.append(self._tell(
                    key, found, f"{len(found)} copies, {recorded} of them recorded, others explained: {dict(reasons)}"))
            else:
                self._settled[key] = len(found)
                self.explained.update(reasons)
        return texts

    def _look(self, recipient, found):
        """How many copies were not recorded and why, and how many were."""
        reasons, recorded = collections.Counter(), 0
        for node in self.nodes:
            times = [when for name, when in found if name == node.name]
            attempts = self.logs.attempts[node.name, recipient] if times else []
            delivered = [attempt for attempt in attempts if attempt.is_delivered]
            recorded += sum(attempt.fate == RECORDED for attempt in delivered)
            reasons.update(WHY[attempt.fate] for attempt in delivered if attempt.fate in WHY)
            reasons[KILLED] += sum(attempt.fate is None and node.was_killed(attempt.time) for attempt in delivered)
            # What the node does not know of: it was killed before it said so, or its end cut the attempt short.
            unsaid = len(times) - len(delivered)
            kills = sum(
                any(when - LATE <= life.ended <= when + LATE for when in times) for life in node.lives if life.is_killed)
            cut = sum(
                any(attempt.time - LATE <= life.ended <= attempt.time + LATE for life in node.lives if not life.is_killed)
                for attempt in attempts if not attempt.is_delivered)
            reasons[KILLED] += max(0, min(unsaid, kills))
            reasons[CUT_SHORT] += max(0, min(unsaid - kills, cut))
        return +reasons, recorded

    def _tell(self, key, found, what):
        told = [f"{key[1]}: {what}"]
        told += [f"  {stamp(when)} taken from {name}" for name, when in sorted(found, key=lambda one: one[1])]
        first = min(when for _, when in found) - LATE
        for node in self.nodes:
            told += [f"  {stamp(one.time)} {node.name} {one.id}: {'delivered' if one.is_delivered else 'deferred'}, {one.fate}"
                     for one in self.logs.attempts[node.name, key[1]]]
            told += [f"  {stamp(life.begun)} - {stamp(life.ended)} {node.name} {'killed' if life.is_killed else 'ended'}"
                     for life in node.lives if life.ended >= first]
            told += [f"  {stamp(when)} {node.name} declared dead" for when in self.logs.deaths[node.name] if when >= first]
        return "\n".join(told)

    def unwanted(self, put_off, node):
        """What was delivered although this node told its client to come back with it: how many for which reason, and texts of
        those that nothing explains. Such mail is taken out of the queue unless others may deliver it, and the node says which
        of both it was, unless it is killed before it knows."""
        self.logs.read()
        reasons, texts = collections.Counter(), []
        for key, when in put_off.items():
            if not (found := self.found.get(key)):
                continue
            if reason := self._doubt(key[1], found, when, node):
                reasons[reason] += 1
            else:
                texts.append(self._tell(key, found, f"refused by {node.name} at {stamp(when)}, and delivered"))
        return reasons, texts

    def _doubt(self, recipient, found, when, node):
        """Why it was delivered, or None. By what those who delivered it call it, the node says what it did about it."""
        deliverers = [one for one in self.nodes if any(name == one.name for name, _ in found)]
        attempts = [attempt for one in deliverers for attempt in self.logs.attempts[one.name, recipient]]
        for attempt in attempts:
            if said := self.logs.doubts.get((node.name, attempt.id)):
                return DOUBTS[said]
        if node.was_killed(when):
            return ENDED_BEFORE
        if not attempts and all(one.was_killed(came) for one in deliverers for name, came in found if name == one.name):
            return UNKNOWN
        return None


def stamp(when):
    return "..." if when == float("inf") else time.strftime("%H:%M:%S", time.gmtime(when)) + f"{when % 1:.3f}"[1:]
