"""Messages with octets above 127 on their way to hosts without 8BITMIME: to another host first, then in a form that says the
same, judged by Python; `[queue] seven_bit`, and what is never but 7-bit: notices of our own."""

import random

import pytest

from harness.http import HTTP, request, with_edge
from harness.machine import MX_PORT
from harness.messages import lf, message
from harness.pickup import Pickup
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import LOGIN, run_slimtad
from test_bounce import SENDER, parts
from test_mime import IMPOSSIBLE, awkward, downgrades, faults, needs_vectors

EIGHT = message(
    "eight", "gr\u00fc\u00dfe\r\n", MIME_Version="1.0", Content_Type="text/plain; charset=utf-8",
    Content_Transfer_Encoding="8bit")
SIGNED = message(
    "signed", "--b\r\n\r\ngr\u00fc\u00dfe\r\n--b\r\n\r\nx\r\n--b--\r\n", MIME_Version="1.0",
    Content_Type="multipart/signed; boundary=b")


def is_eight_bit(octets):
    return any(octet > 127 for octet in octets)


def below(content, sent):
    """Without the fields that hosts on the way put on top of what was sent."""
    first = sent.split(b":", 1)[0].lower()
    lines = lf(content).split(b"\n")
    start = next(index for index, line in enumerate(lines) if line.split(b":", 1)[0].lower() == first)
    return b"\r\n".join(lines[start:])


@pytest.fixture
def old(place, nameserver):
    """The only MX of one.test: it does not know 8BITMIME."""
    sink = Sink(place, "-8").start()
    nameserver.add_mx("one.test", sink.address)
    return sink


def test_to_a_host_without_8bitmime(old, nameserver, make_slimtad):
    """Converted, with the right SIZE; log and record say so, and that a signature is lost."""
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(EIGHT, ["a@one.test", "b@one.test"], mail_options=["BODY=8BITMIME"])
    (arrived,) = old.wait_for(1)
    assert "BODY" not in arrived.mail and not is_eight_bit(arrived.content)
    assert faults(EIGHT, below(arrived.content, EIGHT)) == []
    for attempt in slimtad.wait_for_attempts(2):
        assert attempt["converted"] == "7bit", attempt
    signed = b"DKIM-Signature: v=1; a=rsa-sha256; d=origin.test; s=x; h=from; bh=eA==; b=eA==\r\n" + EIGHT
    slimtad.submit(signed, "c@one.test", mail_options=["BODY=8BITMIME"])
    (attempt,) = slimtad.wait_for_attempts(1, recipient="c@one.test")
    assert attempt["converted"] == "7bit, signature lost"
    # What needs no conversion goes as it is.
    plain = message("plain")
    slimtad.submit(plain, "d@one.test")
    (attempt,) = slimtad.wait_for_attempts(1, recipient="d@one.test")
    assert "converted" not in attempt


def test_another_host_comes_first(place, old, nameserver, make_slimtad):
    """The host of the next preference takes it as it is; without it, the first one gets it converted."""
    new = PythonMX(place).start()
    nameserver.add_mx("two.test", old.address, new.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(EIGHT, "a@two.test", mail_options=["BODY=8BITMIME"])
    (arrived,) = new.wait_for(1)
    assert arrived.content.endswith(EIGHT) and "BODY=8BITMIME" in arrived.mail_options
    assert old.transactions() == []
    new.kill()
    slimtad.submit(EIGHT, "b@two.test", mail_options=["BODY=8BITMIME"])
    (arrived,) = old.wait_for(1)
    assert faults(EIGHT, below(arrived.content, EIGHT)) == []


def test_never(old, nameserver, make_slimtad):
    """554 5.6.3, and a bounce that goes where nothing but ASCII goes."""
    nameserver.add_mx("origin.test", old.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"seven_bit": "never"}).start()
    slimtad.submit(EIGHT, "a@one.test", mail_options=["BODY=8BITMIME"])
    (bounce,) = old.wait_for(1)
    (attempt,) = slimtad.wait_for_attempts(1, recipient="a@one.test")
    assert attempt["status"] == "5.6.3"
    assert (bounce.sender, bounce.recipients) == ("", [SENDER])
    _, _, (_, about), returned = parts(bounce.content)
    assert about["Status"] == "5.6.3"
    assert returned.get_content().get_content().strip() == "gr\u00fc\u00dfe"


def test_what_cannot_be_converted(old, nameserver, make_slimtad):
    """The sender is told why, in words."""
    nameserver.add_mx("origin.test", old.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(SIGNED, "a@one.test", mail_options=["BODY=8BITMIME"])
    (bounce,) = old.wait_for(1)
    _, text, (_, about), returned = parts(bounce.content)
    assert about["Status"] == "5.6.3"
    assert "the message (multipart/signed) is signed or encrypted and has 8-bit octets" in " ".join(text.get_content().split())
    assert returned.get_content_type() == "text/rfc822-headers"
    assert bounce.content.isascii()


def test_large(old, nameserver, make_slimtad):
    """Through the spool: converted while it is sent, part by part."""
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    generator = random.Random(18)
    text = "".join(generator.choice(["\u00e4", "\u00f6", "\u00fc", " ", "abc", "=", ".", "\r\n"]) for _ in range(150_000)).encode()
    blob = generator.randbytes(150_000).replace(b"\r", b"\xf1").replace(b"\n", b"\xf2").replace(b"\0", b"\xf3")
    blob = b"\r\n".join(blob[at:at + 900] for at in range(0, len(blob), 900))
    body = (
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text + b"\r\n--b\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + blob + b"\r\n--b--\r\n")
    sent = message("large", "", MIME_Version="1.0", Content_Type="multipart/mixed; boundary=b") + body
    slimtad.submit(sent, "a@one.test", mail_options=["BODY=8BITMIME"])
    (arrived,) = old.wait_for(1, timeout=60)
    found = below(arrived.content, sent)
    assert faults(sent, found) == []
    size = int(arrived.mail.split("SIZE=")[1].split()[0]) if "SIZE=" in arrived.mail else None
    # Above it is smtp-sink's own Received alone.
    assert size in (None, len(lf(arrived.content).replace(b"\n", b"\r\n")))


def test_smarthost(place, make_slimtad, nameserver):
    """A fixed host without 8BITMIME, too."""
    sink = Sink(place, "-8").start()
    nameserver.start()
    slimtad = make_slimtad(nameserver, routes=[
        {"domains": ["one.test"], "type": "smtp", "host": f"{sink.address}:{MX_PORT}", "tls": "none"}]).start()
    slimtad.submit(EIGHT, "a@one.test", mail_options=["BODY=8BITMIME"])
    (arrived,) = sink.wait_for(1)
    assert faults(EIGHT, below(arrived.content, EIGHT)) == []


@pytest.fixture
def lmtp(place, make_slimtad, nameserver):
    """smtp-sink as an LMTP server without 8BITMIME."""
    sink = Sink(place, "-8", "-L").start()
    nameserver.start()
    return sink, make_slimtad(nameserver, routes=[
        {"domains": ["one.test"], "type": "lmtp", "host": f"{sink.address}:{MX_PORT}", "tls": "none"}]).start()


def test_lmtp(lmtp):
    sink, slimtad = lmtp
    slimtad.submit(EIGHT, ["a@one.test", "b@one.test"], mail_options=["BODY=8BITMIME"])
    (arrived,) = sink.wait_for(1)
    assert faults(EIGHT, below(arrived.content, EIGHT)) == []


def corpora():
    for name, content in [*downgrades(), *awkward()]:
        if is_eight_bit(content):
            # What comes over SMTP ends with a line end.
            yield name, content.removesuffix(b"\r\n") + b"\r\n"


@needs_vectors
@pytest.mark.parametrize("seven_bit", ["when_needed", "always"])
def test_corpora(old, nameserver, make_slimtad, seven_bit):
    """Messages of all kinds: decoded content, fields and structure are the same, or the sender is told."""
    nameserver.add_mx("origin.test", old.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"seven_bit": seven_bit, "policies": ["received"]}).start()
    sent, refused = {}, {}
    with slimtad.connect() as client:
        for number, (name, content) in enumerate(corpora()):
            client.mail("sender@origin.test", ["BODY=8BITMIME"])
            client.rcpt(f"a{number}@one.test")
            code, reply = client.data(content)
            if code == 250:
                sent[f"a{number}@one.test"] = (name, content)
            else:
                refused[name] = reply
    assert len(sent) > 40, refused
    outcomes = slimtad.wait_until(
        lambda: len(found := [attempt for attempt in slimtad.attempts() if attempt["recipient"] in sent]) >= len(sent) and found,
        60, "an attempt for each")
    delivered = {attempt["recipient"] for attempt in outcomes if attempt["status"].startswith("2")}
    bounced = {sent[attempt["recipient"]][0] for attempt in outcomes if attempt["status"] == "5.6.3"}
    # Its addresses need SMTPUTF8, which smtp-sink lacks.
    international = {sent[attempt["recipient"]][0] for attempt in outcomes if attempt["status"] == "5.6.7"}
    assert international == {"utf8_headers.eml"}
    assert len(delivered) + len(bounced) + len(international) == len(sent)
    assert bounced >= set(IMPOSSIBLE) & {name for name, _ in sent.values()} and len(bounced) <= 12, bounced
    # And a bounce of each that could not be converted.
    arrived = old.wait_for(len(sent))
    wrong = {}
    for transaction in arrived:
        assert not is_eight_bit(transaction.content), transaction
        (recipient,) = transaction.recipients
        if recipient != SENDER:
            name, content = sent[recipient]
            found = judged(content, transaction.content)
            if found:
                wrong[name] = found
    assert wrong == {}


def judged(sent, arrived):
    """What is wrong with what arrived, apart from what every message gets or loses here: Received, From, Bcc."""
    def prepared(octets):
        lines = lf(octets).split(b"\n")
        end = lines.index(b"") if b"" in lines else len(lines)
        kept, keeps = [], True
        for line in lines[:end]:
            if line[:1] not in (b" ", b"\t"):
                keeps = line.split(b":", 1)[0].strip().lower() not in IGNORED
            if keeps:
                kept.append(line)
        return b"\r\n".join(kept + lines[end:])

    return faults(prepared(sent), prepared(arrived))


IGNORED = {b"received", b"bcc", b"resent-bcc", b"return-path", b"date", b"message-id", b"x-original-message-id", b"from",
           b"sender", b"resent-date", b"resent-message-id", b"to"}


# before it is stored


def test_always(place, nameserver, make_slimtad):
    """What is stored is 7-bit: a host with 8BITMIME gets the same. What cannot be converted goes as it is."""
    new = PythonMX(place, size=0).start()
    nameserver.add_mx("one.test", new.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"seven_bit": "always"}).start()
    large = message("large", "gr\u00fc\u00dfe\r\n" * 32_000, MIME_Version="1.0", Content_Type="text/plain; charset=utf-8",
                    Content_Transfer_Encoding="8bit")
    for number, sent in enumerate([EIGHT, large]):
        slimtad.submit(sent, f"a{number}@one.test", mail_options=["BODY=8BITMIME"])
        arrived = new.wait_for(number + 1, timeout=60)[-1]
        # Of a large message that is not looked through again.
        assert number == 1 or "BODY=8BITMIME" not in arrived.mail_options
        assert faults(sent, below(arrived.content, sent)) == []
    assert len(slimtad.wait_for_events(2, converted="7bit")) == 2
    slimtad.submit(SIGNED, "b@one.test", mail_options=["BODY=8BITMIME"])
    arrived = new.wait_for(3)[-1]
    assert arrived.content.endswith(SIGNED) and "BODY=8BITMIME" in arrived.mail_options
    slimtad.wait_for_log("content stays 8-bit")


def test_a_restart_between(place, old, nameserver, make_slimtad):
    """What was stored 8-bit by one run is converted by the next one."""
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"deliver": False}).start()
    slimtad.submit(EIGHT, "a@one.test", mail_options=["BODY=8BITMIME"])
    slimtad.finish()
    slimtad.change(queue={"deliver": True})
    slimtad.start_again()
    (arrived,) = old.wait_for(1)
    assert faults(EIGHT, below(arrived.content, EIGHT)) == []


# limits in rules


RULES = [
    {"name": "programs", "at": "message", "attachment": ["*.exe", "*.scr"], "reply": "550 5.7.1 no programs"},
    {"name": "types", "at": "message", "attachment_type": "application/x-msdownload", "reply": "550 5.7.1 no such types"},
    {"name": "parts", "at": "message", "parts": "> 50", "reply": "554 5.6.0 too many parts"},
    {"name": "nesting", "at": "message", "nesting": "> 5", "reply": "554 5.6.0 too deep"},
    {"name": "header", "at": "message", "header_size": "> 64KiB", "reply": "552 5.3.4 header"},
]


def multipart(*inner, subject="x"):
    body = "".join(f"--b\r\n{part}\r\n" for part in inner) + "--b--\r\n"
    return message(subject, body, MIME_Version="1.0", Content_Type="multipart/mixed; boundary=b")


def attachment(field, kind="application/octet-stream", content="eA==\r\n"):
    return f"Content-Type: {kind}\r\n{field}\r\nContent-Transfer-Encoding: base64\r\n\r\n{content}"


def nested(depth):
    inner = "\r\nx"
    for number in range(depth):
        inner = f"Content-Type: multipart/mixed; boundary=n{number}\r\n\r\n--n{number}\r\n{inner}\r\n--n{number}--"
    return multipart(inner)


EXE = multipart("\r\nHello", attachment('Content-Disposition: attachment; filename="Setup.EXE"'))
BAD = {
    "exe": (EXE, "no programs"),
    "extended": (multipart(attachment("Content-Disposition: attachment; filename*=utf-8''set%75p.%65xe")), "no programs"),
    "encoded": (multipart(attachment('Content-Disposition: attachment; filename="=?utf-8?B?c2V0dXAuZXhl?="')), "no programs"),
    "with a dot": (multipart(attachment('Content-Disposition: inline; filename="setup.exe."')), "no programs"),
    "name": (multipart(attachment("X-A: b", "image/png; name=a.scr")), "no programs"),
    "large": (multipart("\r\n" + "0123456789\r\n" * 60_000, attachment("Content-Disposition: attachment; filename=a.exe")),
              "no programs"),
    # What Thunderbird passes over, and where Python ends the header; one client takes the first field, another the last.
    "behind a line that is no field": (
        multipart("Content-Type: text/plain\r\nno field\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx"),
        "no programs"),
    "type": (multipart(attachment("X-A: b", "application/x-msdownload")), "no such types"),
    "second type": (
        multipart(attachment("Content-Type: application/x-msdownload", "text/plain")), "no such types"),
    "parts": (multipart(*["\r\nx"] * 51), "too many parts"),
    "nesting": (nested(6), "too deep"),
    "header": (message("x", **{f"X-{number}": "y" * 900 for number in range(80)}), "header"),
}
GOOD = {
    "exe in the text": message("setup.exe", "setup.exe\r\n"),
    "another name": multipart(attachment('Content-Disposition: attachment; filename="setup.exe.txt"')),
    "parts": multipart(*["\r\nx"] * 50),
    "nesting": nested(4),
}


@pytest.fixture
def ruled(make_slimtad):
    return make_slimtad(rule=RULES, queue={"deliver": False}).start()


def test_rules_over_smtp(ruled):
    for name, (content, words) in BAD.items():
        # Of refusals in a row a session ends.
        with ruled.connect() as client:
            client.mail("sender@origin.test")
            client.rcpt("a@one.test")
            code, reply = client.data(content)
            assert code >= 550 and words in reply.decode(), (name, code, reply)
    with ruled.connect() as client:
        for name, content in GOOD.items():
            client.mail("sender@origin.test")
            client.rcpt("a@one.test")
            assert client.data(content)[0] == 250, name
    ruled.wait_for_events(rule="header")
    assert [event["rule"] for event in ruled.events() if "rule" in event] == [
        *["programs"] * 7, *["types"] * 2, "parts", "nesting", "header"]


def test_rules_over_http(make_slimtad):
    daemon = with_edge(make_slimtad(rule=RULES, queue={"deliver": False})).start()
    with HTTP(daemon.address) as http:
        for name in ("exe", "large", "parts"):
            content, words = BAD[name]
            answer = http.ask(request(content))
            assert answer.status >= 400 and words in answer.reply, (name, answer.octets)
        assert http.ask(request(GOOD["another name"])).status == 200


def test_rules_in_a_folder(place, make_slimtad):
    pickup = Pickup(place, make_slimtad, rule=RULES).start()
    pickup.drop("bad", EXE)
    pickup.drop("good", GOOD["another name"])
    (arrived,) = pickup.delivered(1)
    assert arrived["Subject"] == "x"
    pickup.slimtad.wait_until(
        lambda: any(event.get("rule") == "programs" for event in pickup.slimtad.events()), what="the refusal in the log")


def test_explained(ruled, place):
    path = place.folder("explain") / "message"
    for content, status, words in [
        (EXE, 1, "programs: matches"), (GOOD["another name"], 0, "programs: does not match: attachment"),
    ]:
        path.write_bytes(content)
        result = run_slimtad(
            "explain-session", "--config", ruled.configuration, "--client", "127.0.0.1", "--login", LOGIN, "--mail", SENDER,
            "--rcpt", "a@one.test", "--message", path)
        assert result.returncode == status and words in result.stdout, result
