"""Whose mail goes to others: addresses, domains, expressions and chains; refusals at RCPT; whom bounces and the log name."""

import email
import smtplib

import pytest

from harness.messages import message
from harness.sink import Sink
from harness.slimtad import CONFIGURATION, OK, run_slimtad

RULES = [
    {"recipient": "team@one.test", "to": ["alice@one.test", "bob@one.test", "gone@one.test"]},
    {"recipient": "gone@one.test", "to": "carol@two.test"},
    {"recipient": "left@one.test", "reject": "550 5.1.6 <{recipient}> has left"},
    {"recipient": r"/(.*)\.(old)@one\.test/", "to": ["$1@one.test"]},
    {"recipient": "@three.test", "to": "@two.test"},
    {"recipient": "loop@one.test", "to": ["loop@one.test", "bob@one.test"]},
]


@pytest.fixture
def daemon(place, nameserver, make_slimtad):
    sink = Sink(place).start()
    for domain in ("one.test", "two.test"):
        nameserver.add_mx(domain, sink.address)
    nameserver.start()
    daemon = make_slimtad(
        nameserver, queue={"policies": ["forward", "received", "domain_split"], "retry": ["1s"]}, forward=RULES)
    daemon.sink = sink
    return daemon.start()


def delivered(daemon, count):
    return sorted(
        recipient for transaction in daemon.sink.wait_for(count) for recipient in transaction.recipients)


def test_everybody_gets_one_copy(daemon):
    daemon.submit(message("x"), ["team@one.test", "BOB@one.test", "dave.old@one.test", "erin@three.test", "loop@one.test"])
    assert delivered(daemon, 2) == [
        "BOB@one.test", "alice@one.test", "carol@two.test", "dave@one.test", "erin@two.test", "loop@one.test"]
    log = {event["recipient"]: event.get("original_recipient") for event in daemon.wait_for_attempts(6)}
    assert log == {
        "BOB@one.test": None, "alice@one.test": "team@one.test", "carol@two.test": "team@one.test",
        "dave@one.test": "dave.old@one.test", "erin@two.test": "erin@three.test", "loop@one.test": None}


def test_who_has_left_is_said_at_rcpt(daemon):
    with daemon.connect() as client:
        client.mail("sender@origin.test")
        assert client.rcpt("LEFT@one.test") == (550, b"5.1.6 <LEFT@one.test> has left")
        assert client.rcpt("left.old@one.test") == (550, b"5.1.6 <left@one.test> has left")
        assert client.rcpt("xleft@one.test")[0] == 250
    daemon.wait_for_log("forward=left@one.test")


def test_a_bounce_names_whom_the_sender_knows(place, nameserver, make_slimtad):
    sink = Sink(place).start()
    nameserver.add_mx("origin.test", sink.address)
    nameserver.start()
    daemon = make_slimtad(
        nameserver, queue={"policies": ["forward", "received"], "retry": ["1s"]},
        forward=[{"recipient": "team@one.test", "to": "alice@none.test"}]).start()
    daemon.submit(message("x"), ["team@one.test"])
    (bounce,) = sink.wait_for(1)
    report = email.message_from_bytes(bounce.content)
    text, status = report.get_payload()[0].get_payload(), report.get_payload()[1].as_string()
    assert "<alice@none.test> (forwarded from <team@one.test>)" in text
    assert "Original-Recipient: rfc822; team@one.test\nFinal-Recipient: rfc822; alice@none.test" in status


def test_it_outlives_a_restart(place, nameserver, make_slimtad):
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    daemon = make_slimtad(
        nameserver, queue={"policies": ["forward"], "retry": ["1s"]},
        forward=[{"recipient": "team@one.test", "to": "alice@one.test"}]).start()
    daemon.submit(message("x"), ["team@one.test"])
    daemon.wait_for_attempts(1)
    daemon.kill()
    sink.start()
    daemon.start_again()
    (event, *_) = daemon.wait_for_attempts(1, status="2.0.0")
    assert event["original_recipient"] == "team@one.test"


def test_check(make_slimtad):
    daemon = make_slimtad(forward=RULES + [{"recipient": "team@one.test", "to": "x@y.test"}]).add_user()
    result = run_slimtad("check", "--config", daemon.configuration)
    assert result.returncode == OK, result.stderr
    assert "forward[6]: it is never asked: forward[0]" in result.stderr
    assert 'nobody is forwarded: "forward" is not in policies' in result.stderr
    for wrong, words in [
        ({"recipient": "/(/", "to": "a@b.test"}, "expression"), ({"recipient": "a", "to": "a@b.test"}, "an address"),
        ({"recipient": "a@b.test"}, "required is to"), ({"recipient": "/a@(b)/", "to": "$2@b.test"}, "group"),
        ({"recipient": "a@b.test", "to": "b"}, "an address"), ({"recipient": "a@b.test", "reject": "no"}, "a code"),
        ({"recipient": "a@b.test", "to": "c@b.test", "reject": "550 no"}, "allowed is one of them"),
    ]:
        daemon.change(forward=[wrong])
        result = run_slimtad("check", "--config", daemon.configuration)
        assert result.returncode == CONFIGURATION and words in result.stderr, (wrong, result.stderr)


def test_too_many(daemon):
    daemon.change(limits={"recipients": 2})
    daemon.reload()
    with daemon.connect() as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("sender@origin.test", ["team@one.test"], message("x"))
    assert refused.value.smtp_code == 554
