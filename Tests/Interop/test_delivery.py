"""From the queue to the MXes: smtp-sink, Postfix and Exim receive; MXes fail and come back."""

import random
import time

import pytest

from harness.certificate import make_certificate
from harness.exim import EximMX
from harness.machine import new_address
from harness.messages import lf, message, prepended
from harness.postfix import PostfixMX
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import send

SENDER = "sender@origin.test"


def test_five_recipients_in_three_domains_are_three_transactions(place, nameserver, make_slimtad):
    sinks = {}
    for domain in ("one.test", "two.test", "three.test"):
        sinks[domain] = Sink(place).start()
        nameserver.add_mx(domain, sinks[domain].address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    sent = message("five recipients")
    recipients = ["a@one.test", "b@two.test", "c@ONE.test", "d@three.test", "e@two.test"]
    slimtad.submit(sent, recipients)
    arrived = {domain: sink.wait_for(1) for domain, sink in sinks.items()}
    assert {domain: len(found) for domain, found in arrived.items()} == dict.fromkeys(sinks, 1)
    assert sorted(arrived["one.test"][0].recipients) == ["a@one.test", "c@ONE.test"]
    assert sorted(arrived["two.test"][0].recipients) == ["b@two.test", "e@two.test"]
    assert arrived["three.test"][0].recipients == ["d@three.test"]
    for (found,) in arrived.values():
        above = prepended(found.content, lf(sent))
        assert [name for name, _ in above] == ["received"]
        # W22: nobody learns of the others.
        assert not any(recipient in above[0][1] for recipient in recipients if recipient not in found.recipients)
    slimtad.wait_for_attempts(5)


def test_mx_is_down_then_up(nameserver, place, make_slimtad):
    """Delivered by retry, and once."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    queue_id = slimtad.submit(message("patience"), "someone@one.test")
    failed = slimtad.wait_for_attempts(2, recipient="someone@one.test")
    assert {event["queue_id"] for event in failed} == {queue_id}
    sink.start()
    sink.wait_for(1)
    time.sleep(2.5)  # two more turns of the schedule
    assert len(sink.transactions()) == 1
    attempts = len(slimtad.attempts(recipient="someone@one.test"))
    time.sleep(1.5)
    assert len(slimtad.attempts(recipient="someone@one.test")) == attempts, "still tries"


@pytest.mark.parametrize(
    "option, argument",
    [("-r", "RCPT"), ("-r", "MAIL"), ("-r", "DATA"), ("-r", "."), ("-q", "CONNECT"), ("-q", "DATA"), ("-q", "."),
     ("-Q", "MAIL"), ("-Q", ".")])
def test_mx_fails_temporarily_then_accepts(nameserver, place, make_slimtad, option, argument):
    """450, 421 and hang-ups in every phase: each is a retry, and never a bounce or a second copy."""
    sink = Sink(place, option, argument).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message("again"), "someone@one.test")
    slimtad.wait_for_attempts(2, recipient="someone@one.test")
    sink.kill()
    before = len(list(sink.folder.iterdir()))
    sink.options = ()
    sink.start()
    sink.wait_for(before + 1)
    time.sleep(1.5)
    assert len(sink.transactions()) == before + 1


def test_each_recipient_for_itself(nameserver, place, make_slimtad):
    """W12, W13, W19: one delivered, one put off twice, one once: each gets exactly one copy."""
    mx = PythonMX(place).start()
    busy = {"b@one.test": 2, "c@one.test": 1}

    def answer(server, envelope, address):
        if busy.get(address, 0):
            busy[address] -= 1
            return "450 4.2.1 mailbox is busy"
        return "250 2.1.5 Ok"

    mx.answers["RCPT"] = [answer] * 20
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message("three fates"), ["a@one.test", "b@one.test", "c@one.test"])
    mx.wait_for(3)
    time.sleep(2.5)
    assert sorted(recipient for found in mx.messages for recipient in found.recipients) == [
        "a@one.test", "b@one.test", "c@one.test"]
    (attempt,) = slimtad.attempts(recipient="a@one.test")
    assert attempt["delay"]
    assert len(slimtad.wait_for_attempts(3, recipient="b@one.test")) == 3
    assert len(slimtad.wait_for_attempts(2, recipient="c@one.test")) == 2


def test_second_mx_when_the_first_is_down(nameserver, sink, make_slimtad):
    """W16: all MXes of a domain in one attempt, in the order of preference."""
    nameserver.add_mx("one.test", new_address(), new_address(), sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "someone@one.test")
    sink.wait_for(1)
    slimtad.wait_for_attempts()
    assert len(slimtad.wait_for_attempts()) == 1


def test_first_mx_is_preferred(place, nameserver, make_slimtad):
    first, second = Sink(place).start(), Sink(place).start()
    nameserver.add_mx("one.test", first.address, second.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    for number in range(5):
        slimtad.submit(message(f"number {number}"), "someone@one.test")
    first.wait_for(5)
    assert second.transactions() == []


def test_domain_without_mx_but_with_an_address(nameserver, sink, make_slimtad):
    """RFC 5321 section 5.1: the implicit MX."""
    nameserver.add(f"one.test. 1 IN A {sink.address}")
    nameserver.start()
    make_slimtad(nameserver).start().submit(message(), "someone@one.test")
    sink.wait_for(1)


def test_mx_at_an_ipv6_address(nameserver, place, make_slimtad):
    """W18: AAAA only."""
    sink = Sink(place, address="::1")
    try:
        sink.start()
    except Exception as error:
        raise AssertionError(f"[::1]:2525 is taken, or there is no IPv6: {error}") from None
    nameserver.add_mx("one.test", "::1")
    nameserver.start()
    make_slimtad(nameserver).start().submit(message(), "someone@one.test")
    sink.wait_for(1)


def test_address_literal(nameserver, sink, make_slimtad):
    """RFC 5321 section 4.1.3: no DNS for user@[127.0.0.1]."""
    nameserver.start()
    make_slimtad(nameserver).start().submit(message(), f"someone@[{sink.address}]")
    (arrived,) = sink.wait_for(1)
    assert arrived.recipients == [f"someone@[{sink.address}]"]


def test_name_server_is_down_then_up(nameserver, sink, make_slimtad):
    """DNS that fails is a retry, not "no such domain"."""
    nameserver.add_mx("one.test", sink.address)
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "someone@one.test")
    time.sleep(0.5)
    nameserver.start()
    sink.wait_for(1, timeout=45)


def test_postfix(place, nameserver, make_slimtad):
    """A real Postfix with STARTTLS and a self-signed certificate: opportunistic TLS takes it."""
    certificate = make_certificate(place.path, "mx.postfix.test")
    boxes = ["a@one.test", "b@one.test", "c@two.test"]
    postfix = PostfixMX(place, boxes, certificate=certificate).start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.add_mx("two.test", postfix.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    sent = message("to Postfix", "text\r\n..\r\n.\r\nlast line\r\n")
    slimtad.submit(sent, boxes)
    for box in boxes:
        (arrived,) = postfix.wait_for(box)
        above = prepended(arrived, lf(sent))
        hops = [value for name, value in above if name == "received"]
        assert len(hops) == 2 and "with ESMTPS" in hops[0] and "TLSv1.3" in hops[0] and "with ESMTPSA" in hops[1]
    for box in boxes:
        (attempt,) = slimtad.wait_for_attempts(1, recipient=box)
        assert postfix.address in attempt["relay"] or "mx0." in attempt["relay"]
        assert "TLSv1.3" in attempt["tls"]


def test_postfix_without_tls(place, nameserver, make_slimtad):
    postfix = PostfixMX(place, ["a@one.test"]).start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "a@one.test")
    (arrived,) = postfix.wait_for("a@one.test")
    assert b"with ESMTP id" in arrived


def test_tls_that_does_not_work_waits_before_clear(place, nameserver, make_slimtad):
    """W17: STARTTLS is offered, and the handshake must fail (a Postfix that knows only TLS 1.0). Opportunistic means
    that the mail goes in clear in the end, but not before it has waited for five minutes: what fails once, or is made to
    fail, is not at once sent for all to read. FixedHostRelayTests has what follows then."""
    certificate = make_certificate(place.path, "mx.postfix.test")
    postfix = PostfixMX(
        place, ["a@one.test"], certificate=certificate, extra="smtpd_tls_protocols = >=TLSv1, <=TLSv1").start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "a@one.test")
    slimtad.wait_for_attempts(2)
    assert "TLS failed" in slimtad.log
    assert "STARTTLS" in postfix.log or "starttls=0/1" in postfix.log
    assert "client=" not in postfix.log, "mail in clear at once"


def test_required_tls_does_not_fall_back(nameserver, sink, make_slimtad):
    """[relay] tls = "required" and an MX without it: nothing in clear, tried again."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"tls": "required"}).start()
    slimtad.submit(message(), "someone@one.test")
    slimtad.wait_for_attempts(2)
    assert sink.transactions() == []


def test_exim(place, nameserver, make_slimtad):
    """The second opinion: Exim, with GnuTLS."""
    exim = EximMX(place, make_certificate(place.path, "mx.exim.test"), "one.test").start()
    nameserver.add_mx("one.test", exim.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    sent = message("to Exim", "text\r\n..\r\n.\r\nlast line\r\n")
    slimtad.submit(sent, ["a@one.test", "b@one.test"])
    copies = [prepended(arrived, lf(sent)) for arrived in exim.wait_for(2)]
    assert sorted(dict(above)["envelope-to"] for above in copies) == ["a@one.test", "b@one.test"]
    for above in copies:
        hops = [value for name, value in above if name == "received"]
        assert len(hops) == 2 and "with esmtps" in hops[0] and "with ESMTPSA" in hops[1]
    slimtad.wait_for_attempts(2)


def test_large_message(place, nameserver, make_slimtad):
    """20 MB through the spool, octet for octet."""
    mx = PythonMX(place, size=0).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    generator = random.Random(1)
    lines = [generator.randbytes(36).hex().encode() for _ in range(1000)]
    sent = message("large", "") + b"".join(generator.choice(lines) + b"\r\n" for _ in range(270_000))
    assert len(sent) > 19_000_000
    slimtad.submit(sent, "someone@one.test")
    (arrived,) = mx.wait_for(1, timeout=60)
    prepended(arrived.content, sent)


def test_peer_without_8bitmime(nameserver, place, make_slimtad):
    """RFC 6152 section 3: 8-bit content is not sent to a peer that did not offer 8BITMIME; 7-bit content is. What may be done
    about it is test_seven_bit.py's."""
    sink = Sink(place, "-8").start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    bounces = place.folder("bounces")
    slimtad = make_slimtad(
        nameserver, routes=[{"domains": ["origin.test"], "type": "maildir", "path": str(bounces)}],
        queue={"seven_bit": "never"}).start()
    slimtad.submit(message("seven"), "someone@one.test")
    sink.wait_for(1)
    slimtad.submit(
        message("eight", "gr\u00fc\u00dfe\r\n", Content_Type="text/plain; charset=utf-8"), "someone@one.test",
        mail_options=["BODY=8BITMIME"])
    attempt = slimtad.wait_for_attempts(2, recipient="someone@one.test")[-1]
    assert "5.6.3" in attempt["status"], attempt
    assert len(sink.transactions()) == 1


def test_smtputf8_end_to_end(nameserver, place, make_slimtad):
    """RFC 6531: to a peer that has it with SMTPUTF8; to one without it a bounce at once, 5.6.7 (W32)."""
    able, unable = PythonMX(place).start(), Sink(place).start()
    nameserver.add_mx("one.test", able.address)
    nameserver.add_mx("two.test", unable.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    sent = message("sm\u00f8rrebr\u00f8d", From="J\u00f6rg <j\u00f6rg@origin.test>")
    slimtad.submit(
        sent, ["d\u00f6rte@one.test", "plain@one.test"], sender="j\u00f6rg@origin.test",
        mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    (arrived,) = able.wait_for(1)
    assert arrived.sender == "j\u00f6rg@origin.test"
    assert arrived.recipients == ["d\u00f6rte@one.test", "plain@one.test"]
    assert "SMTPUTF8" in arrived.mail_options and "BODY=8BITMIME" in arrived.mail_options
    ((_, hop),) = prepended(arrived.content, sent)
    assert "with UTF8SMTPSA" in hop
    slimtad.submit(sent, "d\u00f6rte@two.test", sender="", mail_options=["SMTPUTF8"])
    (attempt,) = slimtad.wait_for_attempts(1, recipient="d\u00f6rte@two.test")
    assert "5.6.7" in attempt["status"], attempt
    # Of several that need it the first is named: who hears of it has to know whom to ask for another address.
    assert attempt["reply"].endswith("which the address j\u00f6rg@origin.test in the field From needs"), attempt
    assert unable.transactions() == []


def test_mail_parameters_of_the_next_hop(nameserver, place, make_slimtad):
    """SIZE is told to a peer that offers it; too large for it is a bounce without sending the content."""
    certificate = make_certificate(place.path, "mx.postfix.test")
    postfix = PostfixMX(place, ["a@one.test"], certificate=certificate, extra="message_size_limit = 10000").start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message("large", "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 300), "a@one.test", sender="")
    (attempt,) = slimtad.wait_for_attempts(1, recipient="a@one.test")
    assert "5.3.4" in attempt["status"], attempt
    postfix.wait_until(lambda: "quit=1" in postfix.log, what="the end of the session")
    assert "data=1" not in postfix.log and postfix.maildir("a@one.test") == []


def test_one_connection_for_several_messages(nameserver, place, make_slimtad):
    """An idle connection is used again, and closed in order when its time is over."""
    sink = PythonMX(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"idle_timeout": "2s", "connections_per_destination": 1}).start()
    with slimtad.connect() as client:
        for number in range(5):
            send(client, message(f"number {number}"), ["someone@one.test"])
    sink.wait_for(5)
    slimtad.wait_for_attempts(5)


def test_connection_that_died_while_idle(nameserver, place, make_slimtad):
    """The MX restarts between two messages: the second arrives at once, on a new connection."""
    sink = Sink(place).start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"idle_timeout": "60s"}, queue={"retry": ["1h"]}).start()
    slimtad.submit(message("before"), "someone@one.test")
    sink.wait_for(1)
    slimtad.wait_for_attempts(1)
    sink.kill()
    sink.start()
    slimtad.submit(message("after"), "someone@one.test")
    sink.wait_for(2)


def test_smarthost_route(nameserver, place, make_slimtad):
    """[[route]] type = "smtp": to that host whatever DNS says; the first match wins; the rest goes to the MX."""
    smarthost, mx = Sink(place).start(), Sink(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.add_mx("two.test", mx.address)
    nameserver.start()
    slimtad = make_slimtad(
        nameserver,
        routes=[{"domains": ["two.test", "*.two.test"], "type": "smtp", "host": f"{smarthost.address}:2525"}]).start()
    slimtad.submit(message(), ["a@one.test", "b@two.test", "c@sub.two.test"])
    assert [found.recipients for found in mx.wait_for(1)] == [["a@one.test"]]
    smarthost.wait_for(2)
    assert sorted(recipient for found in smarthost.transactions() for recipient in found.recipients) == [
        "b@two.test", "c@sub.two.test"]


def test_maildir_route(nameserver, place, make_slimtad):
    nameserver.start()
    maildir = place.folder("box")
    slimtad = make_slimtad(
        nameserver, routes=[{"domains": ["*.test", "test"], "type": "maildir", "path": str(maildir)}]).start()
    sent = message("to a maildir", "text\r\n.\r\n")
    slimtad.submit(sent, ["a@one.test", "b@one.test"])
    (path,) = slimtad.wait_until(lambda: list((maildir / "new").glob("*")), what="a file in the maildir")
    arrived = path.read_bytes()
    above = prepended(arrived, sent if b"\r\n" in arrived else lf(sent))
    assert "received" in [name for name, _ in above]
    slimtad.wait_until(lambda: list((maildir / "tmp").iterdir()) == [], what="nothing in tmp")
    assert (maildir / "cur").is_dir()


def test_blackhole_route(nameserver, make_slimtad):
    nameserver.start()
    slimtad = make_slimtad(nameserver, routes=[{"domains": ["one.test"], "type": "blackhole"}]).start()
    slimtad.submit(message(), "a@one.test")
    (attempt,) = slimtad.wait_for_attempts(1, recipient="a@one.test")
    assert attempt["status"].startswith(("2", "delivered", "sent")), attempt


def test_log_tells_the_story(one_mx, sink):
    """One line for the acceptance, one for each attempt and recipient, with the fields that operators search by."""
    queue_id = one_mx.submit(message(), ["a@one.test", "b@one.test"])
    sink.wait_for(1)
    attempts = one_mx.wait_for_attempts(2)
    for attempt, recipient in zip(sorted(attempts, key=lambda event: event["recipient"]), ["a@one.test", "b@one.test"]):
        assert attempt["queue_id"] == queue_id
        assert attempt["sender"] == SENDER
        assert attempt["recipient"] == recipient
        assert sink.address in attempt["relay"]
        assert {"tls", "status", "delay"} <= attempt.keys()
        assert "2.0.0" in attempt["status"]
    accepted = [event for event in one_mx.events(queue_id=queue_id) if event not in attempts]
    assert len(accepted) >= 1 and accepted[0]["sender"] == SENDER


def test_dnssec_that_cannot_work_is_told_once(nameserver, sink, make_slimtad):
    """[dns] dnssec = "auto" with a name server that knows no DNSSEC: said at the start, and mail goes on."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, dns={"dnssec": "auto"}).start()
    slimtad.submit(message(), "a@one.test")
    slimtad.submit(message(), "b@one.test")
    sink.wait_for(2, timeout=40)
    said = [line for line in slimtad.log.splitlines() if "cannot be validated" in line]
    assert len(said) == 1, said
