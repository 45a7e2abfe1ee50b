"""RFC 6409 section 8: what slimtad mends in a header, whichever way a message comes in, and that it says so.

Each repair goes through an edge of each kind; what arrives in a maildir is read by Python's parser. A message that is as it
should be arrives as it was.
"""

import email
import email.policy
import itertools
import os
import pwd
import re
import subprocess

import dkim
import pytest

from harness.every_edge import delivered, every_edge
from harness.http import HTTP, basic, envelope, request
from harness.machine import IS_ROOT, MX_PORT, SLIMTAD, must_exist, wait_until
from harness.python_mx import PythonMX
from harness.slimtad import HOSTNAME, run_slimtad

FROM, TO = "sender@origin.test", "someone@one.test"
ANOTHER = "0123456789abcdef0123456789abcdef"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def slimtad(module_place):
    daemon = every_edge(
        module_place, repair={"duplicates": "first"},
        # Root may send as anybody.
        senders=[] if IS_ROOT else [{"logins": [pwd.getpwuid(os.geteuid()).pw_name], "mail_from": ["@origin.test"], "local": True}],
        queue={"policies": ["received", "message_id", "date"], "qualify": "origin.test", "received": {"hide_client": True}})
    # Files of anybody who can put one there.
    daemon.change(edge=[
        edge | ({"owner_login": False} if edge["type"] == "directory" else {}) for edge in daemon.settings["edge"]])
    return daemon.start()


def by_smtp(slimtad, octets):
    slimtad.submit(octets, TO, FROM, mail_options=["BODY=8BITMIME", "SMTPUTF8"])


def by_http(slimtad, octets):
    with HTTP(slimtad.address) as http:
        answer = http.ask(request(octets, envelope([TO], FROM), Authorization=basic()))
        assert answer.status == 200, answer.octets


def by_sendmail(slimtad, octets):
    done = subprocess.run(
        [SLIMTAD, "sendmail", "--config", slimtad.configuration, "-i", "-f", FROM, TO], input=octets.replace(b"\r\n", b"\n"),
        capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


def by_folder(slimtad, octets):
    path = slimtad.folder_of_files / f".repair{next(_numbers)}"
    path.write_bytes(f"X-Envelope-Sender: {FROM}\nX-Envelope-Recipient: {TO}\n".encode() + octets.replace(b"\r\n", b"\n"))
    path.rename(path.with_name(path.name[1:]))


WAYS = [by_smtp, by_http, by_sendmail, *([by_folder] if IS_ROOT else [])]

RIGHT = f"From: {FROM}\nTo: {TO}\nDate: Sat, 21 Nov 2026 10:00:00 +0100\nMessage-ID: <1@origin.test>\n"
WITHOUT = {name: re.sub(f"(?m)^{name}: .*\n", "", RIGHT) for name in ("From", "To", "Date", "Message-ID")}

# What is sent, what the header is to have then (a text: that; a pattern: like that; None: nothing), and what the log says.
REPAIRS = {
    "from": (WITHOUT["From"], {"From": FROM}, "from"),
    "date": (WITHOUT["Date"], {"Date": re.compile(r"\w+, \d+ \w+ \d+ [\d:]+ [+-]\d{4}")}, "date"),
    "bad date": (
        WITHOUT["Date"] + "Date: yesterday\n", {"Date": re.compile(r"\w+, "), "X-Original-Date": "yesterday"},
        "date_replaced"),
    "message-id": (WITHOUT["Message-ID"], {"Message-ID": re.compile(f"<[0-9a-f]{{32}}@{HOSTNAME}>")}, "message_id"),
    "bad message-id": (
        WITHOUT["Message-ID"] + "Message-ID: <>\n",
        {"Message-ID": re.compile(f"<[0-9a-f]{{32}}@{HOSTNAME}>"), "X-Original-Message-ID": "<>"}, "message_id_replaced"),
    "message-id of another": (
        WITHOUT["Message-ID"] + f"Message-ID: <{ANOTHER}@{HOSTNAME}>\n",
        {"Message-ID": re.compile(f"<(?!{ANOTHER})[0-9a-f]{{32}}@{HOSTNAME}>"),
         "X-Original-Message-ID": f"<{ANOTHER}@{HOSTNAME}>"}, "message_id_replaced"),
    "authors": (WITHOUT["From"] + "From: a@origin.test, b@origin.test\n", {"Sender": FROM}, "sender"),
    "twice": (RIGHT + "To: other@one.test\n", {"To": TO}, "duplicates"),
    "bcc": (RIGHT + "Bcc: secret@one.test\n", {"Bcc": None}, "bcc"),
    "return-path": (RIGHT + "Return-Path: <x@origin.test>\n", {}, "return_path"),
    "to": (WITHOUT["To"] + "To:\n", {"To": "undisclosed-recipients:;"}, "to"),
    "colon": (RIGHT + "Subject2 : x\n", {"Subject2": "x"}, "colon"),
    "resent": (
        f"Resent-From: {FROM}\n" + RIGHT,
        {"Resent-Date": re.compile(r"\w+, "), "Resent-Message-ID": re.compile("<"), "Message-ID": "<1@origin.test>"},
        "resent"),
    "qualify": (WITHOUT["To"] + "To: Joe <joe>, x@one.test\n", {"To": "Joe <joe@origin.test>, x@one.test"},
                "qualified"),
    "encoded": (RIGHT + "X-Word: \u00fcbel\n", {"X-Word": "=?utf-8?b?w7xiZWw=?="}, "encoded"),
}


def accepted(slimtad, id):
    """What the log says of the message when it was stored."""
    # Only that line of a message that is stored has the client's protocol.
    return [event for event in slimtad.events(queue_id=id.decode()) if "protocol" in event]


# The command has done these itself, as sendmail does.
SENDMAILS = ("from", "date", "qualify")


@pytest.mark.parametrize("repair, way", [
    pytest.param(repair, way, id=f"{repair} {way.__name__}")
    for repair in REPAIRS for way in WAYS if way is not by_sendmail or repair not in SENDMAILS])
def test_each_by_each_way(slimtad, repair, way):
    header, expected, told = REPAIRS[repair]
    subject = f"repair {next(_numbers)}"
    # What comes back as sent says that it was nobody's business.
    way(slimtad, f"Subject: {subject}\n{header}\nbody\n".replace("\n", "\r\n").encode())
    octets = delivered(slimtad, subject)
    assert octets.isascii() and octets.endswith(b"\r\n\r\nbody\r\n")
    found = email.message_from_bytes(octets, policy=email.policy.compat32)
    for name, wanted in expected.items():
        values = found.get_all(name) or []
        assert len(values) == (wanted is not None), (name, values)
        if isinstance(wanted, re.Pattern):
            assert wanted.match(values[0]), values
        elif wanted is not None:
            assert values == [wanted]
    # Its own Return-Path is the maildir's.
    assert octets.count(b"<x@origin.test>") == 0
    (id,) = re.findall(rb"\n\tid ([0-9a-f]{32})", octets)
    assert "from client" not in found["Received"] and slimtad.address not in found["Received"]
    (event,) = wait_until(lambda: accepted(slimtad, id), what="the line in the log")
    assert event["repaired"] == told and "not_repaired" not in event


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_right_stays(slimtad, way):
    subject = f"right {next(_numbers)}"
    header = f"Subject: {subject}\n{RIGHT}X-Folded:   a\n\tb \nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n"
    sent = f"{header}\n\u00fc\n".replace("\n", "\r\n").encode()
    way(slimtad, sent)
    octets = delivered(slimtad, subject)
    assert octets.endswith(sent)
    (id,) = re.findall(rb"id ([0-9a-f]{32})", octets)
    (event,) = wait_until(lambda: accepted(slimtad, id), what="the line in the log")
    assert "repaired" not in event and "not_repaired" not in event


def test_what_the_client_has_signed(slimtad, tmp_path):
    """It stays as it is, and dkimpy still says that it is the client's."""
    key = tmp_path / "key.pem"
    subprocess.run([must_exist("openssl"), "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    public = subprocess.run(
        [must_exist("openssl"), "rsa", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
    record = "v=DKIM1; k=rsa; p=" + "".join(public.splitlines()[1:-1])
    subject = f"signed {next(_numbers)}"
    text = f"From: {FROM}\nTo:\nSubject: {subject}\nDate: yesterday\nX-Raw: \u00fc\n\nbody\n".replace("\n", "\r\n").encode()
    signature = dkim.sign(
        text, b"s", b"origin.test", key.read_bytes(), include_headers=[b"from", b"to", b"date", b"message-id", b"x-raw"],
        canonicalize=(b"simple", b"simple"))
    by_smtp(slimtad, signature + text)
    octets = delivered(slimtad, subject)
    assert octets.endswith(signature + text)
    start = octets.index(b"DKIM-Signature:")
    assert dkim.verify(octets[start:], dnsfunc=lambda name, timeout=5: record.encode())
    (id,) = re.findall(rb"id ([0-9a-f]{32})", octets)
    (event,) = wait_until(lambda: accepted(slimtad, id), what="the line in the log")
    assert event["not_repaired"] == "date_replaced,message_id,to,encoded"


def test_a_second_field_is_refused_unless_told_otherwise(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).start()
    with daemon.connect() as client:
        for name in ("From", "Date", "To", "Subject", "Reply-To", "References"):
            client.mail(FROM)
            client.rcpt(TO)
            code, text = client.data(f"{RIGHT}{name}: a@b.test\r\n{name}: c@d.test\r\n\r\n".replace("\n", "\r\n").replace(
                "\r\r", "\r").encode())
            assert (code, text.decode()) == (550, f"5.6.0 The header has two {name} fields")
        client.mail("")
        client.rcpt(TO)
        code, text = client.data(b"Subject: x\r\n\r\n")
        assert (code, text.decode()) == (550, "5.6.0 The header has no From field")


def test_a_host_without_smtputf8(place, make_slimtad):
    """What no address needs is not asked of it; an address that needs it is refused with the reason."""
    mx = PythonMX(place, size=0, smtputf8=False).start()
    daemon = make_slimtad(relay={
        "type": "smtp", "host": f"{mx.address}:{MX_PORT}", "port": None, "allow_networks": None}).start()
    daemon.submit(
        f"{RIGHT}Subject: gr\u00fcn\nCc: J\u00fcrgen <j@m\u00fcller.test>\n\nt\u00fcr\n".replace("\n", "\r\n").encode(), TO, FROM,
        mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    (arrived,) = mx.wait_for(1)
    header, _, body = arrived.content.partition(b"\r\n\r\n")
    assert header.isascii() and body == "t\u00fcr\r\n".encode()
    found = email.message_from_bytes(arrived.content, policy=email.policy.default)
    assert found["Subject"] == "gr\u00fcn" and found["Cc"].addresses[0].display_name == "J\u00fcrgen"
    assert found["Cc"].addresses[0].domain == "xn--mller-kva.test"
    id = daemon.submit(
        f"{RIGHT}Cc: \u00fc@one.test\n\n".replace("\n", "\r\n").encode(), TO, FROM, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    (attempt,) = daemon.wait_for_attempts(1, queue_id=id)
    assert attempt["status"] == "5.6.7"
    assert attempt["reply"].endswith("which the address \u00fc@one.test in the field Cc needs"), attempt


def test_hide_client_without_received(make_slimtad):
    daemon = make_slimtad(queue={"policies": ["date"], "received": {"hide_client": True}})
    result = run_slimtad("check", "--config", daemon.configuration)
    assert result.returncode == 0 and "hide_client hides nothing" in result.stderr
