"""SpamAssassin's own spamd, and ones that hang, die, and answer rubbish: marked, held, refused, or let through."""

import smtplib
import time

import pytest

from harness.messages import fields, message
from harness.sink import Sink
from harness.slimtad import CONFIGURATION, run_slimtad, send
from harness.spamd import FakeSpamd, Spamd, read_all

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
FORGED = {"X-Spam-Status": "NO, not at all", "X-Spam-Symbols": "NONE"}
SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 12.5 / 5.0\r\n\r\nGTUBE"


@pytest.fixture
def ask(place, nameserver, make_slimtad):
    """A daemon with [spamassassin], and a sink for what it delivers."""

    def make(to, **keys):
        sink = Sink(place).start()
        nameserver.add_mx("one.test", sink.address)
        nameserver.start()
        daemon = make_slimtad(
            nameserver, queue={"policies": ["date", "message_id", "spamassassin", "received"], "retry": ["1s"]},
            spamassassin={"to": to} | keys)
        daemon.sink = sink
        return daemon.start()

    return make


def spam_fields(daemon, count, subject):
    """The X-Spam fields of the one of `count` messages that were delivered with this subject."""
    content = next(
        found.content for found in daemon.sink.wait_for(count) if f"\nSubject: {subject}\n".encode() in found.content)
    return [(name, value) for name, value in fields(content.partition(b"\n\n")[0] + b"\n") if name.startswith("x-spam")]


@pytest.mark.parametrize("is_local", [False, True], ids=["tcp", "unix"])
def test_spamd(ask, place, is_local):
    daemon = ask(Spamd(place, is_local).start().to, timeout="60s")
    daemon.submit(message("lunch", "At noon?\r\n", **FORGED), ["a@one.test"])
    assert spam_fields(daemon, 1, "lunch") == [("x-spam-status", "NO")]
    daemon.submit(message("offer", GTUBE, **FORGED), ["b@one.test"])
    status, symbols = spam_fields(daemon, 2, "offer")
    assert status == ("x-spam-status", "YES") and symbols[0] == "x-spam-symbols"
    assert "GTUBE" in symbols[1].split(", ")
    # It is shown our Received, by which it knows who has logged in.
    assert not any("NO_RELAYS" in event.get("symbols", "") for event in daemon.events())
    daemon.change(spamassassin={"reject_from": 100})
    daemon.reload()
    with daemon.connect() as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("sender@origin.test", ["c@one.test"], message("offer", GTUBE))
    assert refused.value.smtp_code == 554 and refused.value.smtp_error == b"5.6.0 Message content rejected"


def test_a_score_that_is_held(ask):
    seen = []

    def serve(connection):
        seen.append(read_all(connection))
        connection.sendall(SPAM)

    daemon = ask(FakeSpamd(serve).to, hold_from=10)
    # Larger than what is kept in memory: the rest comes from the file.
    body = ("x" * 76 + "\r\n") * 4000
    daemon.submit(message("held", body), ["a@one.test"])
    (request,) = seen
    head, _, content = request.partition(b"\r\n\r\n")
    assert head.startswith(b"SYMBOLS SPAMC/1.5\r\n") and b"\r\nUser: tester" in head
    assert int(head.split(b"Content-length: ")[1].split(b"\r\n")[0]) == len(content)
    assert content.startswith(b"Received: from client.test") and content.endswith(body.encode())
    listed = run_slimtad("queue", "list", "--config", daemon.configuration).stdout
    assert "held" in listed and "spamassassin" in listed
    daemon.submit(message("too large", "x" * 70 + "\r\n", **FORGED), ["b@one.test"])
    assert len(seen) == 2


@pytest.mark.parametrize("keys", [{}, {"on_failure": "tempfail"}], ids=["accept", "tempfail"])
def test_whatever_is_wrong_with_spamd(ask, keys):
    def hang(connection):
        read_all(connection)
        time.sleep(20)

    def rubbish(connection):
        read_all(connection)
        connection.sendall(b"\0\xff rubbish\r\n" * 20_000)

    answers = [
        hang, lambda connection: None, lambda connection: read_all(connection), rubbish,
        lambda connection: (read_all(connection), connection.sendall(SPAM[:-1])),
        lambda connection: connection.sendall(b"SPAMD/1.0 76 Bad header line: x\r\n"),
    ]
    turns = iter(answers)
    fake = FakeSpamd(lambda connection: next(turns)(connection))
    daemon = ask(fake.to, timeout="2s", **keys)
    start = time.monotonic()
    for number in range(len(answers) + 1):
        if number == len(answers):
            fake.stop()
        with daemon.connect() as client:
            if keys:
                with pytest.raises(smtplib.SMTPDataError) as refused:
                    client.sendmail("sender@origin.test", ["a@one.test"], message("x"))
                assert refused.value.smtp_code == 451 and refused.value.smtp_error.startswith(b"4.7.1 ")
            else:
                send(client, message("x", **FORGED), ["a@one.test"])
    assert time.monotonic() - start < 15
    word = keys.get("on_failure", "accept")
    daemon.wait_until(lambda: len(daemon.events(on_failure=word)) == len(answers) + 1, what="a line for each")
    if not keys:
        assert spam_fields(daemon, len(answers) + 1, "x") == []


def test_check(make_slimtad):
    daemon = make_slimtad(spamassassin={"to": "127.0.0.1:783"}).add_user()
    assert "spamd is not asked" in run_slimtad("check", "--config", daemon.configuration).stderr
    daemon.change(spamassassin={"hold_from": 9, "reject_from": 5})
    result = run_slimtad("check", "--config", daemon.configuration)
    assert result.returncode == CONFIGURATION and "hold_from" in result.stderr
    del daemon.settings["spamassassin"]
    daemon.change(queue={"policies": ["spamassassin"]})
    assert "[spamassassin]" in run_slimtad("check", "--config", daemon.configuration).stderr
