"""Signatures of mail and other people's verifiers: dkimpy, OpenDKIM and Mail::DKIM take what slimtad signs, slimtad takes what
dkimpy signs, and both make the same canonical form of whatever comes.

The signatures come from Tests/DKIMWorker, thousands of them from one process.
"""

import base64
import hashlib
import os
import random
import re
import subprocess

import dkim
import dkim.canonicalization
import pytest

from harness.machine import BUILT
from harness.signatures import Keys, corpus, needs_corpus, needs_rig, refused_by_all

WORKER = BUILT / "dkim-worker"
DOMAIN = "football.example.com"
FORMS = {"simple": dkim.canonicalization.Simple, "relaxed": dkim.canonicalization.Relaxed}


class Worker:
    """One process that signs, verifies and canonicalises."""

    def __init__(self):
        path = os.environ.get("DKIM_WORKER", WORKER)
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words):
        """The word of the answer, and its octets. The last of `words` is octets."""
        line = " ".join([*map(str, words[:-1]), str(len(words[-1]))])
        self.process.stdin.write(line.encode() + b"\n" + words[-1])
        self.process.stdin.flush()
        word, size = self.process.stdout.readline().split()
        return word.decode(), self.process.stdout.read(int(size))

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"), DOMAIN)


def signed_corpus(worker, keys, form):
    """Each message that may be signed, and how many may not."""
    signed, refused = {}, {}
    for name, message in corpus():
        word, octets = worker.ask("sign", DOMAIN, form, f"r={keys.rsa},e={keys.ed25519}", message)
        (signed if word == "signed" else refused)[name] = octets
    # A message whose From is missing or there twice is nobody's; all others are signed.
    for name, why in refused.items():
        assert re.fullmatch(rb"the header has \d+ From fields", why), (name, why)
    assert len(signed) > 120 and len(refused) < 30
    return signed


@needs_corpus
@pytest.mark.parametrize("form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
def test_corpus_by_dkimpy(worker, keys, form):
    for name, message in signed_corpus(worker, keys, form).items():
        verifier = dkim.DKIM(message, minkey=1024)
        for place in (0, 1):
            assert verifier.verify(place, dnsfunc=keys.record), (name, place)
        assert b"l=" not in verifier.signature_fields


@needs_corpus
@needs_rig
@pytest.mark.timeout(900)
def test_corpus_by_all(worker, keys, tmp_path):
    """dkimpy, OpenDKIM, Mail::DKIM and authheaders, each asking a name server for the keys; and one message that was changed."""
    signed = list(signed_corpus(worker, keys, "relaxed/relaxed").items())
    bad = refused_by_all(keys, [*signed, ("changed", signed[0][1] + b"more\r\n")], tmp_path)
    assert [name for name, _ in bad] == ["changed"], "\n".join(map(str, bad))


def outside_dkimpy(octets):
    """dkimpy takes away form feeds and vertical tabs at the ends of values, which are content (RFC 6376 section 2.8)."""
    return octets.strip(b" \t\r\n")[:1] in (b"\v", b"\f") or octets.strip(b" \t\r\n")[-1:] in (b"\v", b"\f")


def test_bodies_as_dkimpy(worker):
    """What nobody thinks of, the same in each run, in parts of every size."""
    chance = random.Random(6376)
    pieces = [b"\r\n", b" ", b"\t", b"a", b"bc", b"\r\n\r\n", b" \r\n", b"\xff", b"\0", b"\f", b"\v", b"-- ", b"x" * 80]
    for number in range(3000):
        # As on the wire: the last line has an end.
        body = b"".join(chance.choices(pieces, k=chance.randrange(40)))
        body += b"\r\n" if body and not body.endswith(b"\r\n") else b""
        for form, theirs in FORMS.items():
            word, digest = worker.ask("body", form, chance.randrange(1, 100), body)
            assert base64.b64decode(digest) == hashlib.sha256(theirs.canonicalize_body(body)).digest(), (form, body)


def test_headers_as_dkimpy(worker):
    chance = random.Random(3)
    pieces = [b" ", b"\t", b"a", b"B:c", b"\r\n ", b"\r\n\t", b"\xe4", b"\v", b"\f", b",", b"  "]
    for number in range(3000):
        name = chance.choice([b"Subject", b"X-A", b"to", b"DKIM-Signature"])
        value = b"".join(chance.choices(pieces, k=chance.randrange(30)))
        if outside_dkimpy(value):
            continue
        for form, theirs in FORMS.items():
            _, field = worker.ask("header", form, name + b":" + value + b"\r\n")
            (expected,) = theirs.canonicalize_headers([(name, value + b"\r\n")])
            assert field == b":".join(expected), (form, value)


# Fields, some of which are signed, some once more than they are there, some never.
NAMES = [
    b"To", b"CC", b"Subject", b"subject", b"Date", b"Message-ID", b"Reply-To", b"References", b"Content-Type", b"MIME-Version",
    b"List-Unsubscribe", b"List-Unsubscribe-Post", b"List-Id", b"Sender", b"Resent-To", b"Resent-From", b"Autocrypt",
    b"Received", b"X-A", b"Comments", b"content-transfer-encoding", b"Auto-Submitted"]
VALUES = [b" ", b"\t", b"a", b"B:c", b"\r\n ", b"\r\n\t", b"\xe4", b"\v", b"\f", b",", b"  ", b"=?utf-8?q?x?=", b"x" * 70, b"\"", b"<a@b>"]
BODIES = [
    b"\r\n", b" ", b"\t", b"a", b"bc", b"\r\n\r\n", b" \r\n", b"\xff", b"\0", b"\f", b"\v", b"-- ", b"x" * 80, b".", b"From ", b"b: c"]


def hostile_message(chance):
    """One From; everything else as it comes."""
    def field(name):
        while True:
            value = b"".join(chance.choices(VALUES, k=chance.randrange(12)))
            if not outside_dkimpy(value):
                # dkimpy takes no blank there; of what is signed the worker takes it out, as an edge does.
                blanks = [b":", b":", b":", b" :"] if name not in (b"Received", b"X-A", b"Comments") else [b":"]
                return name + chance.choice(blanks) + value + b"\r\n"

    fields = [field(name) for name in chance.choices(NAMES, k=chance.randrange(16))]
    fields.insert(chance.randrange(len(fields) + 1), chance.choice([b"From: a@" + DOMAIN.encode(), b"from:\r\n\ta@b (\xe4)  "]) + b"\r\n")
    body = b"".join(chance.choices(BODIES, k=chance.randrange(30)))
    return b"".join(fields) + b"\r\n" + body + (b"\r\n" if body and not body.endswith(b"\r\n") else b"")


def changed(chance, message):
    """What a server on the way makes of it, or somebody who means harm; the topmost signature is not touched."""
    head, body = message.split(b"\r\n\r\n", 1)
    lines = re.split(rb"\r\n(?![ \t])", head)
    place = chance.randrange(1, len(lines))
    name, _, value = lines[place].partition(b":")
    kind = chance.randrange(10)
    if kind == 0:
        value = re.sub(rb"[ \t]+(?=[^ \t\r])", lambda _: chance.choice([b" ", b"  ", b"\t", b"\r\n ", b"\r\n\t "]), value)
    elif kind == 1:
        value += chance.choice([b" ", b"\t ", b"x", b"\r\n "])
    elif kind == 2:
        name = name.swapcase()
    elif kind == 3:
        lines.insert(1, b":".join((name, value)))
    elif kind == 4:
        lines.insert(1, chance.choice(NAMES) + b": y")
    elif kind == 5:
        del lines[place]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
    elif kind == 6:
        body += chance.choice([b"\r\n", b"\r\n\r\n", b" \r\n", b"\t\r\n\r\n", b"a\r\n"])
    elif kind == 7:
        body = re.sub(rb"[ \t]+", lambda _: chance.choice([b" ", b"\t", b"  "]), body)
    elif kind == 8:
        body = re.sub(rb"\r\n", lambda _: chance.choice([b"\r\n", b" \r\n", b"\t\r\n"]), body)
    else:
        body = body.replace(b"a", b"A", 1)
    if 0 <= kind <= 2:
        lines[place] = name + b":" + value
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
def test_hostile_messages_as_dkimpy(worker, keys, form):
    """Signed by us, dkimpy takes each; changed on the way, both say the same of it."""
    chance, said = random.Random(form), {True: 0, False: 0}
    record = base64.b64encode(keys.records[f"e._domainkey.{DOMAIN}"]).decode()
    for _ in range(150):
        message = hostile_message(chance)
        word, signed = worker.ask("sign", DOMAIN, form, f"e={keys.ed25519}", message)
        assert word == "signed", (signed, message)
        assert dkim.DKIM(signed).verify(0, dnsfunc=keys.record), message
        for _ in range(4):
            other = changed(chance, signed)
            ours = worker.ask("verify", record, other)[1].decode().split("\n")[0]
            try:
                theirs = dkim.DKIM(other).verify(0, dnsfunc=keys.record)
            except dkim.DKIMException:
                theirs = False
            assert (ours == "pass(isTesting: false)") == theirs, (ours, other)
            said[theirs] += 1
    assert min(said.values()) > 60, said


@needs_corpus
@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_signed_by_dkimpy(worker, keys, algorithm):
    """The other direction. A record for each algorithm; one changed octet is seen."""
    selector = algorithm[:1]
    key = keys.rsa.read_bytes() if algorithm == "rsa-sha256" else keys.seed
    record = base64.b64encode(keys.records[f"{selector}._domainkey.{DOMAIN}"]).decode()
    chance, count, cut = random.Random(8463), 0, 0
    for name, message in corpus():
        form = chance.choice(["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]).encode().split(b"/")
        try:
            signature = dkim.sign(
                message, selector.encode(), DOMAIN.encode(), key, canonicalize=tuple(form),
                signature_algorithm=algorithm.encode())
        except Exception:  # dkimpy does not sign what it cannot parse
            continue
        first = worker.ask("verify", record, signature + message)[1].decode().split("\n")[0]
        if first.endswith(".malformedHeader)"):
            # Cut off by a line that is no field: dkimpy passes over it, others end the header there.
            cut += 1
            continue
        assert first == "pass(isTesting: false)", (name, form, first)
        place = message.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in message else 0
        if place and place < len(message) - 2:
            changed = message[:place] + bytes([message[place] ^ 1]) + message[place + 1:]
            first = worker.ask("verify", record, signature + changed)[1].decode().split("\n")[0]
            assert first.startswith("fail("), (name, form, first)
        count += 1
    assert count > 100 and cut < 30
