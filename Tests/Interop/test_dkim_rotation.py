"""Mail through the whole life of keys, from the first one to the retired old one: with a restart in each state, and with DNS
silent and wrong in each state. Each message is verified with what DNS has when it leaves, and later for as long as its signature
counts: dkimpy asks the same name server. None leaves unsigned.
"""

import itertools
import json
import re
import smtplib
import time
import types

import dkim as dkimpy
import pytest
from dnslib import DNSRecord

from harness.keylife import DAY, DOMAIN, HOUR, MINUTE, Control, Life, dkim, selectors, states
from harness.machine import DNS_PORT
from harness.messages import message
from harness.sink import Sink
from harness.slimtad import run_slimtad
from harness.zone import SERVFAIL, Zone

# What DNS has where it is wrong: another one in each state.
WRONG = {
    "absent": [], "another key": ["v=DKIM1; k=rsa; p=" + "A" * 100], "revoked": ["v=DKIM1; k=rsa; p="],
    "two records": ["v=spf1 -all", "v=DKIM1; k=rsa; p="], "no record": ["v=spf1 -all"]}


class Walk(Life):
    """A life of keys with mail: `published` are the selectors whose records are in DNS when that is well."""

    def __init__(self, place, daemon, zone, sink):
        super().__init__(place, daemon, zone)
        self.sink, self.published, self.mail, self.numbers = sink, {}, [], itertools.count(1)
        self.wrong = itertools.cycle(WRONG.values())

    def ask(self, times=1):
        """DNS, now."""
        for _ in range(times):
            control = Control(self.daemon)
            control.request("POST", "/dkim/check")
            answer = control.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            control.close()

    def jump(self, seconds):
        self.offset += seconds
        self.clock.set(seconds)

    # DNS

    def heal(self):
        self.zone.texts.clear()
        self.zone.texts.update(self.published)

    def break_(self, texts, *which):
        """The records of these selectors; of all if none is named."""
        for name in which or selectors(self.daemon):
            self.zone.texts[f"{name}._domainkey.{DOMAIN}"] = texts

    def publish(self, selector):
        super().publish(selector)
        name = f"{selector}._domainkey.{DOMAIN}"
        self.published[name] = self.zone.texts[name]

    def withdraw(self, selector):
        super().withdraw(selector)
        del self.published[f"{selector}._domainkey.{DOMAIN}"]

    def txt(self, name, timeout=5):
        """As dkimpy asks."""
        question = DNSRecord.question(name.decode().rstrip("."), "TXT")
        answer = DNSRecord.parse(question.send(self.zone.address, DNS_PORT, timeout=5))
        texts = [b"".join(record.rdata.data) for record in answer.rr]
        return texts[0] if len(texts) == 1 else None

    # Mail

    def send(self):
        """The selector that signed what arrived; None: it was refused, for a time."""
        subject = f"number {next(self.numbers)}"
        octets = message(subject, From=f"a@{DOMAIN}")
        try:
            with self.daemon.connect() as client:
                client.sendmail(f"a@{DOMAIN}", ["b@one.test"], octets)
        except smtplib.SMTPDataError as error:
            assert error.smtp_code == 451 and error.smtp_error.startswith(b"4.7.5"), error
            return None
        wanted = f"Subject: {subject}\n".encode()
        (found,) = self.daemon.wait_until(
            lambda: [one for one in self.sink.transactions() if wanted in one.content], what=subject)
        self.mail.append(found.content.replace(b"\n", b"\r\n"))
        return re.search(rb"^DKIM-Signature: .*?s=(\w+);", self.mail[-1], re.S)[1].decode()

    def is_good(self, octets):
        return dkimpy.DKIM(octets, minkey=1024).verify(0, dnsfunc=self.txt)

    def verify_all(self):
        """All mail whose signatures still count; how many that is."""
        now, count = time.time() + self.offset, 0
        for octets in self.mail:
            if int(re.search(rb"\bx=(\d+);", octets)[1]) < now:
                continue
            assert self.is_good(octets), octets
            count += 1
        return count

    def expect(self, wanted, signer, verifies=True):
        """States, who signs, and that what it signs holds now."""
        self.daemon.wait_until(lambda: states(self.daemon) == wanted, what=f"{wanted}, {states(self.daemon)}")
        assert self.send() == signer
        assert signer is None or not verifies or self.is_good(self.mail[-1])

    def again(self):
        assert self.daemon.term() == 0
        self.daemon.start_again()

    # Each state

    def state(self, wanted, signer):
        """Where DNS is well, behind a restart, and where it says nothing."""
        self.ask()
        self.expect(wanted, signer)
        self.again()
        self.expect(wanted, signer)
        self.break_(SERVFAIL)
        self.jump(20 * MINUTE)
        self.ask()
        # Nobody can say now whether it holds: that is seen when DNS answers again.
        self.expect(wanted, signer, verifies=False)
        self.heal()
        self.verify_all()

    def fail(self, wanted, signer, *which, first=None):
        """Where DNS is wrong for more than 15 minutes, behind a restart too; `first` signs until then."""
        self.break_(next(self.wrong), *which)
        self.ask()
        if first:
            # It may be one server's mistake: it holds when that is mended.
            assert self.send() == first
        self.jump(16 * MINUTE)
        self.ask(2)
        self.expect(wanted, signer)
        self.again()
        self.expect(wanted, signer)

    def mend(self, wanted, signer):
        self.heal()
        self.ask()
        self.expect(wanted, signer)
        self.verify_all()

    def settle_in(self):
        """An hour passes with the record as it should be."""
        self.jump(HOUR + 5 * MINUTE)
        self.ask(5)


@pytest.fixture
def walk(place, make_slimtad, monkeypatch):
    zone, sink = Zone(place), Sink(place).start()
    zone.hosts["one.test"] = sink.address
    daemon = make_slimtad(dns={"servers": [zone.server]}, dkim=[{"domains": [DOMAIN]}])
    dkim(daemon, "generate")
    walk = Walk(place, daemon, zone, sink)
    monkeypatch.setattr(dkimpy, "time", types.SimpleNamespace(time=lambda: time.time() + walk.offset))
    daemon.expect_error("DKIM key is in another state .* state=failing")
    daemon.start()
    return walk


@pytest.mark.timeout(300)
def test_mail_through_a_rotation(walk):
    daemon = walk.daemon
    (a,) = selectors(daemon)
    # The first key: nothing leaves before it can be verified.
    walk.state({a: "made"}, None)
    walk.fail({a: "made"}, None)
    walk.publish(a)
    walk.mend({a: "seen"}, None)
    walk.state({a: "seen"}, None)
    walk.fail({a: "made"}, None)
    walk.mend({a: "seen"}, None)
    walk.settle_in()
    walk.state({a: "active"}, a)
    walk.fail({a: "failing"}, None, first=a)
    walk.mend({a: "active"}, a)
    # The next one: the first one signs until that can be verified.
    dkim(daemon, "rotate", DOMAIN)
    b = selectors(daemon)[1]
    walk.state({a: "active", b: "made"}, a)
    walk.fail({a: "failing", b: "made"}, None, first=a)
    walk.mend({a: "active", b: "made"}, a)
    walk.publish(b)
    walk.state({a: "active", b: "seen"}, a)
    walk.fail({a: "active", b: "made"}, a, b)
    walk.mend({a: "active", b: "seen"}, a)
    walk.fail({a: "failing", b: "made"}, None, first=a)
    walk.mend({a: "active", b: "seen"}, a)
    walk.settle_in()
    # Changed over: the old one takes over again while it can be verified, and the new one cannot.
    walk.state({a: "retiring", b: "active"}, b)
    walk.fail({a: "retiring", b: "failing"}, a, b, first=b)
    walk.break_([])
    walk.ask()
    walk.expect({a: "retiring", b: "failing"}, None)
    walk.mend({a: "retiring", b: "active"}, b)
    walk.fail({a: "retiring", b: "active"}, b, a)
    walk.mend({a: "retiring", b: "active"}, b)
    # The record stays for as long as anything that the old one has signed counts, and longer.
    walk.jump(6 * DAY)
    walk.ask()
    assert walk.verify_all() > 5
    walk.jump(5 * DAY)
    walk.ask()
    walk.expect({a: "retiring", b: "active"}, b)
    walk.jump(2 * DAY)
    walk.ask()
    walk.state({a: "old", b: "active"}, b)
    walk.fail({a: "old", b: "failing"}, None, b, first=b)
    walk.mend({a: "old", b: "active"}, b)
    walk.withdraw(a)
    walk.ask()
    walk.state({b: "active"}, b)
    walk.fail({b: "failing"}, None, first=b)
    walk.mend({b: "active"}, b)
    assert len(walk.mail) > 20 and walk.verify_all() > 3
    assert all(b"DKIM-Signature: " in one.content for one in walk.sink.transactions())
    assert "notice goes unsigned" not in daemon.log
    queued = run_slimtad("queue", "list", "--json", "--config", daemon.configuration)
    assert json.loads(queued.stdout) == []


def test_a_zone_whose_soa_cannot_be_had(walk):
    """How long others may remember that there was nothing, is not known: the key waits until it is, and then for that long."""
    (a,) = selectors(walk.daemon)
    walk.publish(a)
    walk.zone.texts["test"] = SERVFAIL
    walk.ask()
    walk.settle_in()
    walk.expect({a: "seen"}, None)
    walk.jump(10 * HOUR)
    walk.ask()
    walk.expect({a: "seen"}, None)
    walk.again()
    walk.expect({a: "seen"}, None)
    walk.heal()
    walk.ask()
    walk.expect({a: "active"}, a)


def test_what_was_held_leaves_with_another_signature(walk):
    """Held longer than its signature counts, and than the key is there that made it."""
    daemon = walk.daemon
    (a,) = selectors(daemon)
    walk.publish(a)
    walk.ask()
    walk.settle_in()
    daemon.change(queue={"deliver": False})
    daemon.reload()
    queue_id = daemon.submit(message("held", From=f"a@{DOMAIN}"), ["b@one.test"], sender=f"a@{DOMAIN}")
    large = daemon.submit(
        message("large", ("x" * 70 + "\r\n") * 12000, From=f"a@{DOMAIN}"), ["c@one.test"], sender=f"a@{DOMAIN}")

    def control(*words):
        result = run_slimtad("queue", *words, "--config", daemon.configuration)
        assert result.returncode == 0, result.stderr

    control("hold", queue_id, large)
    daemon.change(queue={"deliver": True})
    daemon.reload()
    dkim(daemon, "rotate", DOMAIN)
    b = selectors(daemon)[1]
    walk.publish(b)
    walk.ask()
    walk.settle_in()
    walk.jump(13 * DAY)
    walk.ask()
    daemon.wait_until(lambda: states(daemon) == {a: "old", b: "active"}, what="the old key old")
    walk.withdraw(a)
    walk.ask()
    daemon.wait_until(lambda: states(daemon) == {b: "active"}, what="the old key gone")
    # While no key may sign it waits.
    walk.break_([])
    walk.ask()
    walk.jump(16 * MINUTE)
    walk.ask(2)
    daemon.change(queue={"expire": "60d"})
    daemon.reload()
    control("release", queue_id, large)
    daemon.wait_for_log("message cannot be signed anew")
    assert not walk.sink.transactions()
    walk.heal()
    walk.ask()
    control("flush", "--all")
    for found in walk.sink.wait_for(2):
        octets = found.content.replace(b"\n", b"\r\n")
        assert octets.count(b"DKIM-Signature: ") == 1 and f"s={b};".encode() in octets
        assert walk.is_good(octets)
