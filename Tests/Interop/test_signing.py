"""What the daemon signs, as it arrives: through real Postfix and real Exim, taken by four verifiers; notices; what is refused."""

import re
import smtplib

import pytest

from harness.certificate import make_certificate
from harness.exim import EximMX
from harness.machine import wait_until
from harness.messages import message
from harness.postfix import PostfixMX
from harness.python_mx import PythonMX
from harness.signatures import HAS_RIG, Keys, corpus, needs_corpus, refused_by_all
from harness.sink import Sink
from harness.slimtad import run_slimtad

DOMAIN = "slimtad.test"
BOTH = [(DOMAIN, "rsa-sha256", True), (DOMAIN, "ed25519-sha256", True)]


@pytest.fixture
def keys(place):
    return Keys(place.folder("keys"), DOMAIN)


@pytest.fixture
def sign(place, nameserver, make_slimtad, keys):
    """Makes daemons that sign for DOMAIN, and deliver one.test to a sink."""

    def make(tables=None, signing=None, **settings):
        sink = Sink(place).start()
        nameserver.add_mx("one.test", sink.address)
        nameserver.start()
        daemon = make_slimtad(
            nameserver, dkim=keys.tables() if tables is None else tables, **({"signing": signing} if signing else {}),
            **settings)
        daemon.sink = sink
        return daemon.start()

    return make


def crlf(octets):
    """As it was on the wire: Postfix, Exim and the sink write lines."""
    return octets.replace(b"\n", b"\r\n")


def submit_corpus(daemon, recipients):
    """Submits every message; the names of those that are taken by their number, and what the others are told."""
    taken, refused = {}, {}
    client = daemon.connect()
    for number, (name, octets) in enumerate(corpus()):
        options = ["BODY=8BITMIME"] if any(octet > 127 for octet in octets) else []
        try:
            client.sendmail("sender@slimtad.test", [one.format(number) for one in recipients], octets, options)
            taken[number] = name
        except (smtplib.SMTPDataError, smtplib.SMTPServerDisconnected) as error:
            refused[name] = error
            client.close()
            client = daemon.connect()
    client.quit()
    return taken, refused


@needs_corpus
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mx", ["postfix", "exim"])
def test_corpus_through_a_real_exchanger(place, nameserver, make_slimtad, keys, tmp_path, mx):
    """Every message that may be signed, signed by both, relayed: both signatures hold where it arrives. OpenDKIM, Mail::DKIM and
    authheaders take each of them, too."""
    count = sum(1 for _ in corpus())
    if mx == "postfix":
        # To Postfix this machine is its own, whose addresses it would write anew: what it does not do for strangers.
        exchanger = PostfixMX(
            place, [f"m{number}@one.test" for number in range(count)], extra="local_header_rewrite_clients =").start()
    else:
        exchanger = EximMX(place, make_certificate(place.folder("exim-tls"), "mx.exim.test"), "one.test").start()
    nameserver.add_mx("one.test", exchanger.address)
    nameserver.start()
    # The authors are of all kinds of domains: signed for, and not aligned.
    daemon = make_slimtad(nameserver, dkim=keys.tables(), signing={"otherwise": DOMAIN}).start()
    taken, refused = submit_corpus(daemon, ["m{}@one.test"])
    assert len(taken) > 100 and len(refused) < 40, refused
    for name, error in refused.items():
        assert error.smtp_code in (550, 554), (name, error)

    def arrived():
        if mx == "postfix":
            found = {number: exchanger.maildir(f"m{number}@one.test") for number in taken}
        else:
            found = {number: [] for number in taken}
            for octets in exchanger.maildir():
                found[int(re.search(rb"^Envelope-To: m(\d+)@", octets, re.M | re.I)[1])].append(octets)
        return all(found.values()) and found

    found = wait_until(arrived, 120, "all messages at the exchanger")
    assert all(len(copies) == 1 for copies in found.values())
    messages = {taken[number]: crlf(copies[0]) for number, copies in found.items()}
    for name, octets in messages.items():
        assert keys.verify(octets)[:2] == BOTH, name
    assert "signature of a message does not hold" not in daemon.log
    if HAS_RIG:
        bad = refused_by_all(keys, messages.items(), tmp_path)
        assert not bad, "\n".join(map(str, bad))


def test_every_way_out_has_the_same_signature(sign, keys, nameserver, place):
    """One signature for all envelopes; a large message, whose body is hashed while it comes; fields of ours are covered."""
    daemon = sign(queue={"policies": ["date", "message_id", "domain_split", "received"]})
    body = ("a line with  blanks \t\r\n" + "x" * 70 + "\r\n") * 12000
    for text in ("short\r\n", body, ""):
        daemon.submit(
            message("signed", text, From="a@slimtad.test", Date=None, Message_ID=None), ["a@one.test", "b@one.test"])
    for found in daemon.sink.wait_for(3):
        octets = crlf(found.content)
        assert keys.verify(octets) == BOTH
        names = [line.split(b":")[0].lower() for line in octets.split(b"\r\n\r\n")[0].split(b"\r\n")
                 if not line[:1].isspace()]
        assert names[:5] == [b"dkim-signature", b"dkim-signature", b"received", b"message-id", b"date"]
        for old in (b"\r\nDate: ", b"\r\nMessage-ID: <", b"\r\nSubject: "):
            changed = octets.replace(old, old + b"1", 1)
            assert changed != octets and [one[2] for one in keys.verify(changed)] == [False, False]


def test_notices_are_signed(sign, keys, nameserver, place):
    """Bounces and delay notices are ours: mail.slimtad.test is below slimtad.test."""
    mx = PythonMX(place).start()
    nameserver.add_mx("two.test", mx.address)
    mx.answers["RCPT"] = ["550 5.1.1 no such user"]
    daemon = sign()
    daemon.submit(message("lost", From="a@slimtad.test"), ["nobody@two.test"], sender="a@one.test")
    (found,) = daemon.sink.wait_for(1)
    octets = crlf(found.content)
    assert b"\r\nFrom: Mail Delivery System <MAILER-DAEMON@mail.slimtad.test>\r\n" in octets
    assert octets.startswith(b"DKIM-Signature: ") and keys.verify(octets) == BOTH
    # By an operator's command too.
    daemon.change(queue={"deliver": False})
    daemon.reload()
    queue_id = daemon.submit(message("given up", From="a@slimtad.test"), ["x@two.test"], sender="a@one.test")
    assert run_slimtad("queue", "bounce", queue_id, "--yes", "--config", daemon.configuration).returncode == 0
    daemon.change(queue={"deliver": True})
    daemon.reload()
    second = [one for one in daemon.sink.wait_for(2) if b"gave the message up" in one.content]
    assert len(second) == 1 and keys.verify(crlf(second[0].content)) == BOTH


def test_what_may_not_be_signed(sign, keys):
    daemon = sign(signing={"otherwise": "refuse"})
    with daemon.connect() as client:
        for octets, code, status in (
            (b"From: a@slimtad.test\r\n" + message(From="b@slimtad.test"), 550, b"5.6.0"),
            (message(From="a@other.test"), 550, b"5.7.1"),
        ):
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("a@slimtad.test", ["a@one.test"], octets)
            assert refused.value.smtp_code == code and refused.value.smtp_error.startswith(status)
    daemon.change(signing={"otherwise": "unsigned"})
    daemon.reload()
    for _ in range(3):
        daemon.submit(message(From="a@other.test"), ["a@one.test"])
    assert all(b"DKIM" not in found.content for found in daemon.sink.wait_for(3))
    assert [event["domain"] for event in daemon.wait_for_events(domain="other.test")] == ["other.test"]


def test_a_closed_gate(sign, keys):
    """Nothing is stored; the client is not told which key it is, the log is."""
    daemon = sign(keys.tables(gate="closed"))
    with daemon.connect() as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@slimtad.test", ["a@one.test"], message(From="a@slimtad.test"))
    assert refused.value.smtp_code == 451 and refused.value.smtp_error.startswith(b"4.7.5")
    assert b"_domainkey" not in refused.value.smtp_error
    assert "r._domainkey.slimtad.test" in daemon.wait_for_log("refused by policy.*").group()
    listed = run_slimtad("queue", "list", "--json", "--config", daemon.configuration)
    assert listed.stdout == "[]\n"


def test_what_a_host_says_of_the_size(sign, keys, place, nameserver):
    """SIZE of MAIL counts the signatures."""
    mx = PythonMX(place, size=1 << 20).start()
    nameserver.add_mx("two.test", mx.address)
    daemon = sign()
    octets = message(From="a@slimtad.test")
    daemon.submit(octets, ["a@two.test"])
    (found,) = mx.wait_for(1)
    size = int(re.search(r"SIZE=(\d+)", " ".join(found.mail_options))[1])
    assert size == len(found.content) > len(octets) + 1000
