"""What slimtad adds to a message and what it leaves alone: Date, Message-ID, Received, Bcc; every other octet."""

import base64
import email.utils
import re
import socket
import subprocess
import time

import dkim
import pytest

from harness.machine import ROOT, VECTORS
from harness.messages import fields, header_of, message, prepended, received
from harness.nameserver import NameServer
from harness.python_mx import PythonMX
from harness.slimtad import HOSTNAME, LOGIN, Slimtad, send
from harness.wire import Wire, submission

RECIPIENT = "someone@one.test"


class Relayed:
    """slimtad and the MX behind it; `send` returns what arrives of one message."""

    def __init__(self, place, environment=None, **settings):
        self.mx = PythonMX(place, size=0).start()
        nameserver = NameServer(place)
        nameserver.add_mx("one.test", self.mx.address)
        nameserver.start()
        self.slimtad = Slimtad(place, nameserver, **settings)
        self.slimtad.environment = environment or {}
        place.slimtads.append(self.slimtad)
        self.slimtad.start()

    def send(self, sent, recipients=(RECIPIENT,), client=None, **options):
        self.mx.messages.clear()
        if client:
            send(client, sent, recipients, **options)
        else:
            self.slimtad.submit(sent, list(recipients), **options)
        (arrived,) = self.mx.wait_for(1)
        return arrived.content


@pytest.fixture(scope="module")
def relayed(module_place):
    return Relayed(module_place)


def test_received(relayed):
    """RFC 5321 section 4.4, RFC 3848, RFC 8314's wish for TLS: read by a parser that knows nothing of slimtad."""
    sent = message()
    relayed.mx.messages.clear()
    queue_id = relayed.slimtad.submit(sent, RECIPIENT)
    (arrived,) = relayed.mx.wait_for(1)
    ((name, value),) = prepended(arrived.content, sent)
    hop = received(value)
    assert hop["helo"] == "client.test"
    assert hop["address"] == "127.0.0.1"
    assert hop["by"] == HOSTNAME
    assert hop["with"] == "ESMTPSA"
    assert hop["id"] == queue_id
    assert hop["for"] == RECIPIENT
    assert "TLSv1.3" in value and "TLS_AES_" in value
    assert abs(email.utils.parsedate_to_datetime(hop["date"]).timestamp() - time.time()) < 60
    assert LOGIN not in value
    assert max(len(line) for line in header_of(arrived.content).split(b"\r\n")) <= 998


def test_received_names_no_recipient_of_several(relayed):
    """W22."""
    sent = message()
    ((_, value),) = prepended(relayed.send(sent, ["a@one.test", "b@one.test"]), sent)
    assert received(value)["for"] is None
    assert "@one.test" not in value


def test_received_over_implicit_tls(relayed):
    sent = message()
    with relayed.slimtad.connect(implicit=True) as client:
        ((_, value),) = prepended(relayed.send(sent, client=client), sent)
    assert received(value)["with"] == "ESMTPSA"


def test_received_of_other_kinds_of_session(place):
    """ESMTP, SMTP, ESMTPS: the protocol word tells what the session was; IPv6 addresses have their tag."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    relayed = Relayed(place, edges=[
        {"name": "v6", "type": "smtp", "listen": [f"[::1]:{port}"], "tls": "starttls", "auth": "none",
         "trusted_networks": ["::1/128"]}])
    with Wire("::1", port, relayed.slimtad.certificate) as wire:
        assert wire.code() == 220
        for greeting, word, encrypt in [("HELO", "SMTP", False), ("EHLO", "ESMTP", True), ("EHLO", "ESMTPS", False)]:
            wire.send(f"{greeting} client.test\r\n".encode())
            assert wire.code() == 250
            relayed.mx.messages.clear()
            assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
            assert wire.ask(f"RCPT TO:<{RECIPIENT}>").startswith("250 ")
            assert wire.ask("DATA").startswith("354 ")
            wire.send(message() + b".\r\n")
            assert wire.code() == 250
            (arrived,) = relayed.mx.wait_for(1)
            hop = received(fields(header_of(arrived.content))[0][1])
            assert hop["with"] == word
            assert hop["address"] == "IPv6:::1"
            if encrypt:
                assert wire.ask("STARTTLS").startswith("220 ")
                wire.tls()


def test_missing_fields_are_added(relayed):
    sent = message(Date=None, Message_ID=None)
    above = dict(prepended(relayed.send(sent), sent))
    assert set(above) == {"received", "date", "message-id"}
    assert abs(email.utils.parsedate_to_datetime(above["date"]).timestamp() - time.time()) < 60
    assert above["message-id"].endswith(f"@{HOSTNAME}>") and above["message-id"].startswith("<")


def test_only_what_is_missing_is_added(relayed):
    sent = message(Date=None)
    assert {name for name, _ in prepended(relayed.send(sent), sent)} == {"received", "date"}
    sent = message(Message_ID=None)
    assert {name for name, _ in prepended(relayed.send(sent), sent)} == {"received", "message-id"}


def test_fields_that_are_there_are_left_alone(relayed):
    """Whatever their case, and a day of the week however wrong it is."""
    sent = message(Date=None, Message_ID=None, dATE="Mon, 21 Nov 26 10:00 EST (?)", mESSAGE_iD="<an@id>")
    assert [name for name, _ in prepended(relayed.send(sent), sent)] == ["received"]


@pytest.mark.parametrize("value", ["", "<>", "no-brackets@origin.test", "<no-at>"])
def test_message_id_that_is_none(relayed, value):
    """RFC 6409 section 8.3: replaced, and kept as X-Original-Message-ID."""
    arrived = relayed.send(message(Message_ID=value))
    found = fields(header_of(arrived))
    assert dict(found)["message-id"].endswith(f"@{HOSTNAME}>") and dict(found)["x-original-message-id"] == value
    assert len([name for name, _ in found if name == "message-id"]) == 1


def test_two_messages_have_two_message_ids(relayed):
    sent = message(Message_ID=None)
    ids = {dict(prepended(relayed.send(sent), sent))["message-id"] for _ in range(3)}
    assert len(ids) == 3


def test_message_without_header(relayed):
    """A body alone: fields are put before it, and an empty line between."""
    arrived = relayed.send(b"\r\nonly a body\r\n")
    assert arrived.endswith(b"\r\n\r\nonly a body\r\n")
    assert {name for name, _ in fields(header_of(arrived))} == {"received", "date", "message-id", "from"}


def test_text_where_a_header_should_be(relayed):
    """What is no field ends the header: nothing of it is lost or taken for a field."""
    arrived = relayed.send(b"This is no header.\r\nNeither is this: really\r\n")
    assert arrived.endswith(b"This is no header.\r\nNeither is this: really\r\n")


def test_empty_message(relayed):
    assert {name for name, _ in fields(header_of(relayed.send(b"")))} == {"received", "date", "message-id", "from"}


@pytest.mark.parametrize("zone, offset", [
    ("UTC0", "+0000"), ("CET-1", "+0100"), ("America/St_Johns", ("-0330", "-0230")), ("Asia/Kolkata", "+0530")])
def test_date_in_another_time_zone(place, zone, offset):
    """W21: the local time with its numeric offset, and the two agree."""
    relayed = Relayed(place, environment={"TZ": zone})
    sent = message(Date=None)
    above = dict(prepended(relayed.send(sent), sent))
    for date in (above["date"], received(above["received"])["date"]):
        assert abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 60
        assert date.split(" (")[0].endswith(offset), date


@pytest.mark.parametrize("bcc", [
    b"Bcc: secret@one.test\r\n",
    b"bcc: secret@one.test,\r\n\tother-secret@two.test\r\n",
    b"BCC:\r\n secret@one.test\r\n",
    b"Bcc: secret@one.test\r\nBCC : other-secret@two.test\r\n",
    b"Bcc:\r\n",
], ids=["plain", "folded", "folded at once", "twice", "empty"])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_bcc_is_removed(relayed, bcc, where):
    """With all its continuation lines, and nothing else."""
    whole = message("blind", "Bcc: this is text\r\n")
    header = header_of(whole)
    lines = header.splitlines(keepends=True)
    at = {"first": 0, "middle": 2, "last": len(lines)}[where]
    sent = b"".join(lines[:at]) + bcc + b"".join(lines[at:]) + whole[len(header):]
    arrived = relayed.send(sent, [RECIPIENT])
    assert b"secret" not in arrived
    assert [name for name, _ in prepended(arrived, whole)] == ["received"]


@pytest.mark.parametrize("first", [b"From a@b Sat Jan  1 00:00:00 2022\r\n", b">From a@b\r\n"])
def test_line_of_a_mailbox_file(relayed, first):
    """It goes, and what is behind it is the header: no Bcc for all to see, and nothing twice."""
    whole = message("from a mailbox")
    arrived = relayed.send(first + b"Bcc: secret@one.test\r\n" + whole)
    assert [name for name, _ in prepended(arrived, whole)] == ["received"]


@pytest.mark.parametrize("where, line", [
    (0, b"no field\r\n"), (0, b" folded\r\n"), (1, b"no field\r\n"), (3, b"F\xc3\xbc: 1\r\n"), (2, b"From a@b\r\n"),
    (2, b"no\r\n field\r\n"), (1, b"Bcc\xc2\xa0: secret@one.test\r\n")])
def test_line_that_is_no_field(relayed, where, line):
    """Refused where fields stand behind it that would be lost: there are no two readings."""
    lines = message("broken", Bcc="secret@one.test").splitlines(keepends=True)
    with relayed.slimtad.connect() as client:
        client.mail("sender@origin.test", ["BODY=8BITMIME"])
        client.rcpt(RECIPIENT)
        code, reply = client.data(b"".join(lines[:where]) + line + b"".join(lines[where:]))
    assert (code, reply.split()[0]) == (554, b"5.6.0") and f"Line {where + 1} ".encode() in reply


def test_empty_line_is_put_in(relayed):
    """Where nothing is lost by it."""
    arrived = relayed.send(b"Subject: alarm\r\nThe door is open.\r\nX: 1\r\n")
    assert arrived.endswith(b"Subject: alarm\r\n\r\nThe door is open.\r\nX: 1\r\n")


@pytest.mark.parametrize("name, shown", [
    ("DOMAIN\\host", "DOMAIN+5Chost"), ("Anna PC", "Anna+20PC"), ("m\u00fcller-pc", "m+C3+BCller-pc"),
    ("a(b)<c>@d,;", "a+28b+29+3Cc+3E+40d+2C+3B")])
def test_name_of_a_desktop(relayed, name, shown):
    """Those users can send: the name is one harmless word in the reply and in Received."""
    with submission(relayed.slimtad) as wire:
        for verb in ("HELO", "EHLO"):
            wire.send(f"{verb} {name}\r\n".encode())
            assert wire.code() == 250
            assert f"Hello {shown}" in wire.transcript[-1] or any(f"Hello {shown}" in line for line in wire.transcript[-9:])
        relayed.mx.messages.clear()
        for command in ("MAIL FROM:<sender@origin.test>", f"RCPT TO:<{RECIPIENT}>"):
            assert wire.ask(command).startswith("250 ")
        assert wire.ask("DATA").startswith("354 ")
        wire.send(message() + b".\r\n")
        assert wire.code() == 250
    (arrived,) = relayed.mx.wait_for(1)
    assert received(fields(header_of(arrived.content))[0][1])["helo"] == shown


def test_dkim_signature_of_the_client_stays_valid(relayed, tmp_path):
    """Signed by dkimpy before submission, verified by dkimpy after it: relaxed and simple, with odd white space."""
    subprocess.run(["openssl", "genrsa", "-out", tmp_path / "key.pem", "2048"], check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "rsa", "-in", tmp_path / "key.pem", "-pubout", "-outform", "DER"], check=True, capture_output=True,
    ).stdout
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    whole = message(
        "  odd   white space  ", "trailing blanks  \r\n\r\n.\r\n..\r\n\ttab \r\n\r\n\r\n",
        X_Long="x" * 300, X_Folded="one\r\n\ttwo\r\n   three", From='"A  B" <sender@origin.test>')
    for canonicalization in [(b"simple", b"simple"), (b"relaxed", b"relaxed")]:
        signature = dkim.sign(
            whole, b"sel", b"origin.test", (tmp_path / "key.pem").read_bytes(), canonicalize=canonicalization)
        sent = signature + whole
        arrived = relayed.send(sent)
        prepended(arrived, sent)
        assert dkim.verify(arrived, dnsfunc=lambda name, timeout=5: record)
        assert not dkim.verify(arrived.replace(b"trailing", b"Trailing"), dnsfunc=lambda name, timeout=5: record)


ODD = {
    "long line": b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n",
    "very long line": b"Subject: x\r\n\r\n" + b"y" * 100_000 + b"\r\n",
    "eight-bit": b"Subject: x\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "control characters": b"Subject: x\r\n\r\n" + bytes(octet for octet in range(1, 32) if octet not in (10, 13)) + b"\r\n",
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.x\r\n",
    "empty lines": b"Subject: x\r\n\r\n" + b"\r\n" * 50,
    "many fields": b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(1000)) + b"\r\nbody\r\n",
    "mbox From": b"Subject: x\r\n\r\nFrom here on\r\n>From there\r\n",
    "blanks": b"Subject:  two  blanks  \r\nX-Tab:\tvalue\t\r\n\r\n  body  \r\n",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_octet_for_octet(relayed, odd):
    prepended(relayed.send(odd), odd)


# Mended or refused: test_repair.py.
WRONG = ("blank-before-colon", "empty-values", "twice")
OURS = sorted(path for path in (ROOT / "Tests/Fixtures/messages").glob("*.eml") if path.stem not in WRONG)


@pytest.mark.parametrize("path", OURS, ids=[path.stem for path in OURS])
def test_messages_octet_for_octet(relayed, path):
    """Our own awkward messages."""
    sent = path.read_bytes()
    arrived = relayed.send(sent, mail_options=["BODY=8BITMIME"])
    if header_of(sent).isascii():
        assert arrived.endswith(sent)
    else:
        # Encoded: HeaderContainmentTests, test_mime.py and test_repair.py have that.
        assert header_of(arrived).isascii() and arrived.endswith(sent[sent.index(b"\r\n\r\n"):])


def corpus():
    folder = VECTORS / "mail-corpus"
    return sorted([*folder.rglob("*.eml"), *folder.rglob("*.raw")])


@pytest.mark.skipif(not corpus(), reason="the mail corpus (shared/vectors/mail-corpus) is not beside this repository")
def test_corpus_octet_for_octet(relayed):
    """Other people's test messages, broken ones among them: as they are, or refused; else only what is no header changes."""
    whole, refused, other = 0, [], []
    with relayed.slimtad.connect() as client:
        for path in corpus():
            sent = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n")
            sent = sent if sent.endswith(b"\r\n") else sent + b"\r\n"
            if b"\r\nbcc:" in sent.lower():
                continue
            client.mail("sender@origin.test", ["BODY=8BITMIME"])
            client.rcpt(RECIPIENT)
            relayed.mx.messages.clear()
            code, reply = client.data(sent)
            if code != 250:
                assert code in (550, 554) and reply.split()[0] == b"5.6.0", (path.name, code, reply)
                refused.append(path.name)
                continue
            arrived = relayed.mx.wait_for(1)[0].content
            if arrived.endswith(sent):
                whole += 1
                continue
            other.append(path.name)
            for line in re.sub(rb"\r\n[ \t]", b" ", header_of(arrived)).splitlines():
                assert re.match(rb"[!-9;-~]+[ \t]*:", line), (path.name, line)
            assert arrived.endswith(sent[sent.index(b"\r\n\r\n"):]), path.name
    # The harness's own limit of errors in a session is ten.
    assert whole > 80 and len(refused) < 10 and len(other) < 70, (whole, len(refused), len(other), refused, other)
