"""What slimtad finds in messages, and what it makes of them for hosts that take 7 bits, judged by Python's email package.

The messages go through Tests/MIMEWorker; awkward ones are in ../shared/vectors, where that is there.
"""

import base64
import email
import email.header
import email.policy
import json
import os
import pathlib
import random
import re
import subprocess

import pytest

from harness.machine import BUILT

WORKER = BUILT / "mime-worker"
VECTORS = pathlib.Path(__file__).resolve().parents[3] / "shared/vectors"

# What a conversion changes and adds (RFC 2045 section 6), and what hosts write.
CHANGED = {"content-transfer-encoding", "received", "return-path", "dkim-signature"}
UNTOUCHED = ("multipart/signed", "multipart/encrypted", "application/pkcs7-mime")


class Worker:
    """One process that answers about messages."""

    def __init__(self):
        path = os.environ.get("MIME_WORKER", WORKER)
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, message):
        """What there is (parts), what it becomes (a word and octets), its header in ASCII (a word and octets)."""
        self.process.stdin.write(base64.b64encode(message) + b"\n")
        self.process.stdin.flush()
        return [self.answer() for _ in range(3)]

    def answer(self):
        word, size = self.process.stdout.readline().split()
        return word.decode(), self.process.stdout.read(int(size))

    def parts(self, message):
        """[(parent, type, names, content)]"""
        lines = self.ask(message)[0][1].decode().splitlines()
        found = []
        for line in lines:
            _, parent, kind, names, content = re.fullmatch(r"(\d+) (-?\d+) (\S*) \[(.*)\] \[(.*)\]", line).groups()
            names = [bytes.fromhex(name).decode() for name in names.split(",") if name]
            found.append((int(parent), kind, names, bytes.fromhex(content)))
        return found

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def crlf(octets):
    return re.sub(rb"\r?\n", b"\r\n", octets)


def awkward():
    """Messages of other projects' tests, in lines that end with CRLF; what SMTP refuses is not among them."""
    for path in sorted((VECTORS / "mail-corpus").rglob("*.*")):
        if path.suffix in (".eml", ".raw"):
            octets = crlf(path.read_bytes())
            if b"\r" not in octets.replace(b"\r\n", b"") and b"\0" not in octets:
                yield path.name, octets
    for number, case in enumerate({case["message64"] for case in json.loads((VECTORS / "dkim/sign-kat.json").read_text())}):
        yield f"dkim {number}", crlf(base64.b64decode(case))


def downgrades():
    for case in json.loads((VECTORS / "downgrade/postfix-3.7.json").read_text())["cases"]:
        yield case["case"], base64.b64decode(case["in64"])


needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="no ../shared/vectors beside this repository")


# The judge: as ../shared/rigs/content/same_content.py, but for what RFC 2045 wants added and what is encoded.

def text(value):
    """A field as a reader sees it: without folding, encoded words decoded, parameters too."""
    value = str(value)
    try:
        decoded = str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, UnicodeError, email.errors.HeaderParseError):
        decoded = value
    # Of octets in no charset it has one or more signs, quotes are none in a phrase of encoded words.
    octets = decoded.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.sub("\ufffd+", "\ufffd", re.sub(r"[\s\"]+", "", octets))


def parameters(part, field):
    """Of Content-Type and the like: what it says, each parameter once, RFC 2231 undone; what stands raw there Python does not
    read, so it is left out."""
    found = {}
    for name, value in part.get_params(header=field, failobj=[]):
        if isinstance(value, tuple):
            value = email.utils.collapse_rfc2231_value(value)
        found.setdefault(name.lower(), re.sub(r"[^ -~]", "", text(email.utils.unquote(value))))
    return found


def shape(part):
    kind = part.get_content_type()
    fields = []
    for name, value in part.raw_items():
        name = name.lower()
        if name in CHANGED:
            continue
        if name in ("content-type", "content-disposition"):
            fields.append((name, parameters(part, name)))
        else:
            fields.append((name, text(value)))
    if part.is_multipart():
        return [kind, fields, [shape(inner) for inner in part.get_payload()]]
    content = part.get_payload(decode=True) or b""
    return [kind, fields, content.replace(b"\r\n", b"\n").rstrip(b"\n")]


def without_added(before, after):
    """`after` without fields that a part without them gets: MIME-Version, Content-Type."""
    names = {name for name, _ in before[1]}
    fields = [field for field in after[1] if field[0] in names or field[0] not in ("mime-version", "content-type")]
    inner = after[2]
    if isinstance(inner, list) and isinstance(before[2], list) and len(inner) == len(before[2]):
        inner = [without_added(*pair) for pair in zip(before[2], inner)]
    return [after[0], fields, inner]


def faults(before, after):
    """What is wrong with a conversion."""
    found = []
    if any(octet > 127 for octet in after):
        found.append("8-bit octets left")
    if any(len(line) > 998 for line in after.split(b"\r\n")):
        found.append("a line above 998")
    was, now = (email.message_from_bytes(octets, policy=email.policy.compat32) for octets in (before, after))
    shapes = shape(was), shape(now)
    if shapes[0] != without_added(*shapes):
        found.append(f"content or structure differs: {shapes[0]} {without_added(*shapes)}")
    plain = after.replace(b"\r\n", b"\n")
    for part in now.walk():
        if part.get_content_type() in UNTOUCHED and part.as_bytes().rstrip(b"\n") not in plain:
            found.append(f"changed within {part.get_content_type()}")
    return found


def check(worker, name, message):
    """Converts, judges, and converts again: returns the word."""
    word, result = worker.ask(message)[1]
    if word == "impossible":
        return result.decode()
    assert not faults(message, result), name
    assert worker.ask(result)[1] == ("unchanged", result), name
    return word


# Which of ../shared/vectors/downgrade have no honest way.
IMPOSSIBLE = {
    "labelled base64, is not": "the message (text/plain) is not in the encoding that it says it is in",
    "signed": "the message (multipart/signed) is signed or encrypted and has 8-bit octets or long lines",
    "message/delivery-status": "part 1 (message/delivery-status) has 8-bit octets or long lines and must not be encoded",
    "message/partial": "the message (message/partial) has 8-bit octets or long lines and must not be encoded",
}


@needs_vectors
def test_downgrades(worker):
    """What Postfix was given: 14 of its 24 results were wrong."""
    found = {name: check(worker, name, message) for name, message in downgrades()}
    assert {name: word for name, word in found.items() if word not in ("converted", "unchanged")} == IMPOSSIBLE
    assert sum(word == "converted" for word in found.values()) == len(found) - len(IMPOSSIBLE)


@needs_vectors
def test_awkward_messages(worker):
    """Messages of all kinds: what can be converted says the same, and only some cannot."""
    words = {name: check(worker, name, message) for name, message in awkward()}
    impossible = {name: word for name, word in words.items() if word not in ("converted", "unchanged")}
    print(json.dumps(impossible, indent=1))
    assert len(words) > 140 and len(impossible) <= 8


def outline(part, parent=-1, found=None):
    """As Worker.parts: what Python finds."""
    found = [] if found is None else found
    number = len(found)
    # get_payload() would decode it.
    content = part._payload.encode("ascii", "surrogateescape") if isinstance(part._payload, str) else b""
    found.append((parent, part.get_content_type(), part.get_filename(), content))
    if part.is_multipart() and part.get_content_type() not in ("message/delivery-status", "message/partial"):
        for inner in part.get_payload():
            outline(inner, number, found)
    return found


# Python drops a blank first line of a header, and takes a name with a blank before its colon for none.
OTHER_HEADERS = ("bad-header-start.raw", "example13.eml")


@needs_vectors
def test_parts_as_python_finds_them(worker):
    """The same parts with the same contents, and Python's name among ours."""
    for name, message in [*awkward(), *downgrades()]:
        if name in OTHER_HEADERS:
            continue
        theirs = outline(email.message_from_bytes(message, policy=email.policy.compat32))
        ours = worker.parts(message)
        # Where a ";" is missing Python has a parameter in the type.
        assert [(parent, kind) for parent, kind, *_ in ours] == [
            (parent, kind.split(" ")[0]) for parent, kind, *_ in theirs], name
        for (_, kind, names, content), (*_, filename, expected) in zip(ours, theirs):
            # At the end of a message Python takes ends of lines away, delimiter or not.
            if not kind.startswith(("multipart/", "message/")):
                assert content.rstrip(b"\r\n") == expected.rstrip(b"\r\n"), name
            if filename and filename.isascii() and "=?" not in filename:
                assert filename in names, (name, names)


def test_random_structures(worker):
    """Multiparts in multiparts with wrong, missing and doubled delimiters: Python finds the same."""
    chance = random.Random(18)

    def some(depth):
        if depth and chance.random() < 0.5:
            boundary = chance.choice("bcd") + str(depth)
            parts = [f"--{boundary}{chance.choice(['', ' ', chr(9)])}\n{some(depth - 1)}\n" for _ in range(chance.randrange(1, 4))]
            close = f"--{boundary}--\n" if chance.random() < 0.8 else ""
            around = ["", "text\n", "--b\n", "--\n"]
            return (f"Content-Type: multipart/mixed; boundary={boundary}\n\n{chance.choice(around)}{''.join(parts)}"
                    f"{close}{chance.choice(around)}")
        if depth and chance.random() < 0.3:
            return "Content-Type: message/rfc822\n\n" + some(depth - 1)
        # Python drops a first line that begins with "From " or a blank.
        lines = ["x", "", "--b", "--b2x", "--c1", "-- ", "--d3 --", "--", "-", "x --b1", "grün", "."]
        body = "\n".join(chance.choices(lines, k=chance.randrange(1, 5)))
        return f"{chance.choice(['', 'Subject: x', 'Content-Type: text/html; name=y.txt'])}\n\n{body}".lstrip("\n" * chance.randrange(2))

    count = 0
    for _ in range(1500):
        message = crlf(f"MIME-Version: 1.0\n{some(4)}".encode())
        # Python does not see a last delimiter right behind another one.
        if re.search(rb"(?m)^--(\w+)[ \t]*\r\n--\1--", message):
            continue
        theirs = outline(email.message_from_bytes(message, policy=email.policy.compat32))
        assert [(part[0], part[1]) for part in worker.parts(message)] == [(part[0], part[1]) for part in theirs], message
        word = check(worker, message, message)
        count += word == "converted"
    assert count > 300


def test_random_headers(worker):
    """Raw UTF-8 anywhere in a header: Python reads the same characters from what it becomes."""
    chance = random.Random(19)
    alphabet = ["a", "B", " ", "  ", ".", ";", "=", "?", "_", "'", "%", "*", "é", "ü", "日", "😀", "\u0301", "x" * 30]

    def some(most):
        return "".join(chance.choices(alphabet, k=chance.randrange(1, most))).strip()

    for _ in range(400):
        name, subject, file = re.sub("[;.]", "", some(20)), some(200), re.sub("[*%']", "", some(40))
        message = crlf(
            f"From: {name} <a@exämple.com>\nTo: \"{some(9)}\" <b@example.org>, c@example.org ({some(9)})\nSubject: {subject}\n"
            f"Content-Type: text/plain; name=\"{file}\"\n\nx\n".encode())
        word, header = worker.ask(message)[2]
        assert word == "ascii" and header.isascii(), header.decode()
        assert max(map(len, header.split(b"\r\n"))) <= 200
        was = email.message_from_string(message.decode(), policy=email.policy.compat32)
        now = email.message_from_bytes(header, policy=email.policy.compat32)
        assert text(now["subject"]) == re.sub(r"\s+", "", subject)
        assert text(now["from"]) == re.sub(r"\s+", "", f"{name} <a@xn--exmple-cua.com>")
        assert text(now["to"]).replace('"', "") == re.sub(r"[\s\"]+", "", was["to"])
        assert text(email.utils.collapse_rfc2231_value(now.get_param("name"))) == re.sub(r"\s+", "", file)
        assert worker.ask(header)[2] == ("ascii", header)


def test_what_needs_smtputf8(worker):
    """Addresses do, a Subject does not."""
    for field, word in [
            ("To: ü@example.com", "utf8"), ("From: X <ü@example.com>", "utf8"), ("Message-ID: <ü@example.com>", "utf8"),
            ("To: x@exämple.com", "ascii"), ("Subject: ü", "ascii"), ("To: ü <x@example.com>", "ascii"),
            ("Received: by ü", "stays"), ("DKIM-Signature: i=ü", "stays")]:
        assert worker.ask(crlf(f"{field}\n\nx\n".encode()))[2][0] == word, field
