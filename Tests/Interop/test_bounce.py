"""Bounces and notices, as the sender's own maildir gets them: Python's email and flufl.bounce read them."""

import email
import re
import signal
import time

import pytest
from flufl.bounce import all_failures, scan_message

from harness.messages import lf, message, parsed
from harness.postfix import PostfixMX
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import HOSTNAME, send

SENDER = "sender@origin.test"


@pytest.fixture
def bouncing(place, nameserver, make_slimtad):
    """slimtad with the mail of origin.test, the senders' domain, going into a maildir; and that maildir."""
    box = place.folder("bounces")

    def make(**settings):
        slimtad = make_slimtad(
            nameserver, routes=[{"domains": ["origin.test"], "type": "maildir", "path": str(box)}], **settings)
        return slimtad.start()

    make.box = box
    return make


def wait_for_bounces(slimtad, box, count=1, timeout=20):
    paths = slimtad.wait_until(
        lambda: len(found := sorted((box / "new").glob("*"))) >= count and found, timeout, f"{count} bounces")
    assert len(paths) == count
    return [path.read_bytes() for path in paths]


def parts(octets):
    """The three parts of a report: text, the per-message and per-recipient blocks, what is returned."""
    report = parsed(octets)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report.defects == [] and all(part.defects == [] for part in report.walk())
    text, status, returned = report.iter_parts()
    assert status.get_content_type() in ("message/delivery-status", "message/global-delivery-status")
    return report, text, list(status.get_payload()), returned


def test_recipient_refused_by_postfix(place, nameserver, bouncing):
    """The issue's own case: 550 for one of two recipients, and a bounce of exactly that one."""
    postfix = PostfixMX(place, ["known@one.test"]).start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = bouncing()
    sent = message("to two, one of them unknown")
    queue_id = slimtad.submit(sent, ["known@one.test", "unknown@one.test"])
    postfix.wait_for("known@one.test")
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)

    assert all_failures(email.message_from_bytes(bounce)) == (set(), {b"unknown@one.test"})
    assert scan_message(email.message_from_bytes(bounce)) == {b"unknown@one.test"}

    report, text, (about_message, about_recipient), returned = parts(bounce)
    assert about_message["Reporting-MTA"].replace(" ", "") == f"dns;{HOSTNAME}"
    assert about_message["Arrival-Date"]
    assert about_recipient["Final-Recipient"].replace(" ", "") == "rfc822;unknown@one.test"
    assert about_recipient["Action"] == "failed"
    assert about_recipient["Status"] == "5.1.1"
    assert re.fullmatch(r"dns; ?mx0\.one\.test\.?", about_recipient["Remote-MTA"])
    assert re.match(r"smtp; ?550[ -]5\.1\.1 <unknown@one.test>", about_recipient["Diagnostic-Code"])
    # Written for people, too.
    assert "unknown@one.test" in text.get_content() and "550" in text.get_content()
    assert "known@one.test" not in text.get_content().replace("unknown@one.test", "")
    # The header that a mail program needs to show it, and RFC 3834's to keep robots quiet.
    assert report["From"].addresses[0].domain == HOSTNAME
    assert report["To"].addresses[0].addr_spec == SENDER
    assert report["Subject"] and report["Date"].datetime and report["Message-ID"]
    assert report["Auto-Submitted"].startswith("auto-")
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_content()["Subject"] == "to two, one of them unknown"
    assert lf(sent) in lf(bounce)

    assert slimtad.attempts(recipient="unknown@one.test", queue_id=queue_id)
    time.sleep(1.5)
    assert len(slimtad.wait_for_attempts(recipient="unknown@one.test")) == 1, "a permanent failure was tried again"
    assert len(postfix.maildir("known@one.test")) == 1


def test_null_sender_gets_no_bounce(place, nameserver, bouncing):
    postfix = PostfixMX(place, ["known@one.test"]).start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = bouncing()
    slimtad.submit(message("from nobody"), ["unknown@one.test"], sender="")
    slimtad.wait_for_attempts(1, recipient="unknown@one.test")
    # A second one behind it, whose bounce proves that a first would have come by now.
    slimtad.submit(message("from somebody"), ["unknown2@one.test"])
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert b"unknown2@one.test" in bounce


def test_bounce_travels_with_the_null_sender(place, nameserver, make_slimtad):
    """To a sender whose domain has an MX: MAIL FROM:<>, one recipient; and a bounce that bounces ends there."""
    mx = PythonMX(place).start()
    nameserver.add_mx("one.test", mx.address)
    nameserver.add_mx("origin.test", mx.address)
    nameserver.start()
    mx.answers["RCPT"] = ["550 5.1.1 no such user"]
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "unknown@one.test")
    (bounce,) = mx.wait_for(1)
    assert bounce.sender == "" or bounce.sender == "<>"
    assert bounce.recipients == [SENDER]
    mx.messages.clear()
    mx.commands.clear()
    mx.answers["RCPT"] = ["550 5.1.1 no such user", "550 5.1.1 no such sender either"]
    slimtad.submit(message(), "unknown@one.test")
    slimtad.wait_for_attempts(1, recipient=SENDER, status="5.1.1")
    time.sleep(1.5)
    assert mx.messages == []
    assert len([verb for verb, _ in mx.commands if verb == "RCPT"]) == 2


def test_expired(nameserver, place, bouncing):
    """An MX that is never there: after [queue] expire the sender is told, with 5.4.7 and what was tried."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = bouncing(queue={"retry": ["1s"], "expire": "3s", "warn": "never"})
    slimtad.submit(message("too late"), "someone@one.test")
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert all_failures(email.message_from_bytes(bounce)) == (set(), {b"someone@one.test"})
    _, _, (_, about_recipient), _ = parts(bounce)
    assert about_recipient["Action"] == "failed"
    assert about_recipient["Status"] in ("5.4.7", "5.4.1")
    assert len(slimtad.wait_for_attempts(2, recipient="someone@one.test")) >= 2
    sink.start()
    time.sleep(2)
    assert sink.transactions() == []


def test_delay_notice(nameserver, place, bouncing):
    """[queue] warn: one notice, and no more than one; then the message is delivered all the same."""
    sink = Sink(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = bouncing(queue={"retry": ["1s"], "warn": "2s"})
    slimtad.submit(message("slow"), "someone@one.test")
    (notice,) = wait_for_bounces(slimtad, bouncing.box)
    assert all_failures(email.message_from_bytes(notice)) == ({b"someone@one.test"}, set())
    _, _, (_, about_recipient), returned = parts(notice)
    assert about_recipient["Action"] == "delayed"
    assert about_recipient["Status"].startswith("4.")
    assert about_recipient["Will-Retry-Until"]
    assert returned.get_content_type() == "text/rfc822-headers"
    time.sleep(2.5)
    assert len(list((bouncing.box / "new").iterdir())) == 1
    sink.start()
    sink.wait_for(1)


@pytest.mark.parametrize(
    "domain, records, status",
    [
        ("missing.test", [], r"5\.1\.2"),
        ("null.test", ["null.test. 1 IN MX 0 ."], r"5\.1\.10"),
        ("empty.test", ['empty.test. 1 IN TXT "no address"'], r"5\.1\.2"),
        ("dangling.test", ["dangling.test. 1 IN MX 10 nowhere.test."], r"5\.[14]\.\d+"),
    ],
)
def test_domain_that_takes_no_mail(nameserver, bouncing, domain, records, status):
    """W18: no such domain, null MX (RFC 7505), nothing but TXT, an MX that does not exist: known at once."""
    for record in records:
        nameserver.add(record)
    nameserver.start()
    slimtad = bouncing()
    slimtad.submit(message(), f"someone@{domain}")
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert all_failures(email.message_from_bytes(bounce)) == (set(), {f"someone@{domain}".encode()})
    _, _, (_, about_recipient), _ = parts(bounce)
    assert re.fullmatch(status, about_recipient["Status"])
    assert about_recipient["Remote-MTA"] is None
    assert len(slimtad.wait_for_attempts(recipient=f"someone@{domain}")) == 1


def test_several_refusals_of_one_message(place, nameserver, bouncing):
    """Recipients refused at once are told of in one bounce, a block for each."""
    postfix = PostfixMX(place, ["known@one.test"]).start()
    nameserver.add_mx("one.test", postfix.address)
    nameserver.start()
    slimtad = bouncing()
    slimtad.submit(message(), ["x@one.test", "known@one.test", "y@one.test"])
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert all_failures(email.message_from_bytes(bounce)) == (set(), {b"x@one.test", b"y@one.test"})
    _, _, blocks, _ = parts(bounce)
    assert len(blocks) == 3


def test_message_refused_after_its_data(place, nameserver, bouncing):
    """554 behind the final dot is every recipient's."""
    sink = Sink(place, "-f", ".", "-B", "554 5.7.1 content refused").start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = bouncing()
    slimtad.submit(message(), ["x@one.test", "y@one.test"])
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert all_failures(email.message_from_bytes(bounce)) == (set(), {b"x@one.test", b"y@one.test"})
    assert b"content refused" in bounce


def test_large_and_eight_bit_original(place, nameserver, bouncing):
    """W23: of a large message only the header comes back; 8-bit content is encoded; no line is too long."""
    sink = Sink(place, "-f", "RCPT", "-B", "550 5.1.1 no such user").start()
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = bouncing()
    body = "gr\u00fc\u00dfe\r\n" * 200_000
    slimtad.submit(message("large", body, Content_Type="text/plain; charset=utf-8"), "x@one.test")
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    assert len(bounce) < 200_000
    assert all_failures(email.message_from_bytes(bounce)) == (set(), {b"x@one.test"})
    _, _, _, returned = parts(bounce)
    assert returned.get_content_type() == "text/rfc822-headers"
    for path in (bouncing.box / "new").iterdir():
        path.unlink()

    slimtad.submit(
        message("small", "gr\u00fc\u00dfe\r\n", Content_Type="text/plain; charset=utf-8"), "x@one.test")
    (bounce,) = wait_for_bounces(slimtad, bouncing.box)
    report, _, _, returned = parts(bounce)
    assert report["Content-Transfer-Encoding"] == "7bit" and bounce.isascii()
    assert returned.get_content().get_content().strip() == "gr\u00fc\u00dfe"
    assert max(len(line) for line in lf(bounce).split(b"\n")) <= 998


ORIGINALS = {
    "7bit": message("plain"),
    "8bit": message("eight", "gr\u00fc\u00dfe\r\n", Content_Type="text/plain; charset=utf-8"),
    "8bit in the header": message("gr\u00fc\u00dfe"),
    "long line": message("long", "y" * 3000 + "\r\n"),
    "long line in the header": message("long", X_Long="y" * 3000),
    "parts": message("parts", "--b\r\n\r\ngr\u00fc\u00dfe\r\n--b--\r\n", Content_Type="multipart/mixed; boundary=b"),
}


@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS.keys())
@pytest.mark.parametrize("words", ["no such user", "kein Empf\u00e4nger " * 30, "x" * 900], ids=["plain", "umlauts", "long"])
def test_bounce_to_a_host_without_8bitmime(place, nameserver, make_slimtad, original, words):
    """A bounce that bounces is lost: it goes where nothing but ASCII goes, whatever it is about and whatever was said."""
    refusing = Sink(place, "-f", "RCPT", "-B", f"550 5.1.1 {words}").start()
    origin = Sink(place, "-8").start()
    nameserver.add_mx("one.test", refusing.address)
    nameserver.add_mx("origin.test", origin.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(original, "x@one.test", mail_options=["BODY=8BITMIME"])
    (bounce,) = origin.wait_for(1)
    assert (bounce.sender, bounce.recipients) == ("", [SENDER])
    # Below what smtp-sink and our own Received put on top.
    assert bounce.content.isascii()
    assert max(len(line) for line in bounce.content.split(b"\n")) <= 998
    _, text, (_, about_recipient), returned = parts(bounce.content)
    assert about_recipient["Final-Recipient"] == "rfc822; x@one.test" and about_recipient["Status"] == "5.1.1"
    assert words[:12] in text.get_content()
    assert b"Subject: " in returned.as_bytes()


def test_bounce_of_an_international_message(place, nameserver, make_slimtad):
    """The recipient needed SMTPUTF8, the sender does not: nor does the bounce."""
    refusing = PythonMX(place).start()
    origin = Sink(place, "-8").start()
    nameserver.add_mx("one.test", refusing.address)
    nameserver.add_mx("origin.test", origin.address)
    nameserver.start()
    refusing.answers["RCPT"] = ["550 5.1.1 no such user"]
    slimtad = make_slimtad(nameserver).start()
    with slimtad.connect() as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        send(client, message("gr\u00fcn"), ["b\u00fc@one.test"], mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    (bounce,) = origin.wait_for(1)
    assert bounce.content.isascii()
    assert b"Final-Recipient: utf-8; b\\x{FC}@one.test" in bounce.content


def test_bounce_survives_a_kill(place, nameserver, make_slimtad):
    """A bounce and the end of its original are one commit: killed at any time, the sender is told, and once."""
    mx = PythonMX(place).start()
    origin = Sink(place)
    nameserver.add_mx("one.test", mx.address)
    nameserver.add_mx("origin.test", origin.address)
    nameserver.start()
    mx.answers["RCPT"] = ["550 5.1.1 no such user"] * 10
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "unknown@one.test")
    slimtad.wait_for_attempts(1, recipient="unknown@one.test")
    slimtad.wait_for_attempts(1, recipient=SENDER)
    slimtad.signal(signal.SIGKILL)
    slimtad.wait()
    origin.start()
    slimtad.start_again()
    (bounce,) = origin.wait_for(1)
    assert (bounce.sender, bounce.recipients) == ("", [SENDER])
    time.sleep(1.5)
    assert len(origin.transactions()) == 1
