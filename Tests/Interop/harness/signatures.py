"""Signatures of mail: keys and the records that publish them, messages to sign, and other people's verifiers.

dkimpy is asked in this process, all four (with OpenDKIM, Mail::DKIM and authheaders) through the rig of ../shared.
"""

import base64
import concurrent.futures
import os
import re
import subprocess

import dkim
import nacl.encoding
import nacl.signing
import pytest

from .machine import IS_ROOT, ROOT, VECTORS, give

RIG = ROOT.parent / "shared" / "rigs" / "content"
VERIFIERS = ROOT / "Tests" / "Interop" / "harness" / "verifiers.py"
CORPUS = VECTORS / "mail-corpus"

needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="../shared/vectors is not there")
HAS_RIG = IS_ROOT and RIG.exists()
needs_rig = pytest.mark.skipif(not HAS_RIG, reason="the rig of DKIM takes root, and ../shared")


class Keys:
    """An RSA key and an Ed25519 key of a domain: files, and the records that publish them, at the selectors r and e."""

    def __init__(self, folder, domain):
        self.domain = domain
        self.rsa, self.ed25519 = folder / "rsa.pem", folder / "ed25519.pem"
        run = lambda *command: subprocess.run(command, check=True, capture_output=True).stdout
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.rsa)
        run("openssl", "genpkey", "-algorithm", "ED25519", "-out", self.ed25519)
        for path in (self.rsa, self.ed25519):
            path.chmod(0o600)
            give(path)
        public = run("openssl", "pkey", "-in", self.rsa, "-pubout", "-outform", "DER")
        seed = run("openssl", "pkey", "-in", self.ed25519, "-outform", "DER")[-32:]
        key = nacl.signing.SigningKey(seed)
        self.seed = base64.b64encode(seed)
        self.records = {
            f"r._domainkey.{domain}": b"v=DKIM1; k=rsa; p=" + base64.b64encode(public),
            f"e._domainkey.{domain}": b"v=DKIM1; k=ed25519; p=" + key.verify_key.encode(nacl.encoding.Base64Encoder)}

    def record(self, name, timeout=5):
        """As dkimpy asks for it."""
        return self.records.get(name.decode().rstrip("."))

    def tables(self, **more):
        """[[dkim]] of both, which sign at once: DNS is not believed."""
        return [
            {"domains": [self.domain], "algorithm": algorithm, "key_file": str(path), "selector": selector,
             "gate": "off"} | more
            for algorithm, path, selector in (
                ("rsa-sha256", self.rsa, "r"), ("ed25519-sha256", self.ed25519, "e"))]

    def verify(self, message):
        """What dkimpy says of each signature of a message, from the top: (d=, a=, whether it holds)."""
        found = []
        verifier = dkim.DKIM(message, minkey=1024)
        for place in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
            holds = verifier.verify(place, dnsfunc=self.record)
            fields = verifier.signature_fields
            found.append((fields[b"d"].decode(), fields[b"a"].decode(), holds))
        return found


def dated(message):
    """The message with a Date, as slimtad adds it where there is none: libopendkim takes no message without."""
    for line in message.split(b"\r\n"):
        if re.match(rb"date[ \t]*:", line, re.I):
            return message
        if not line or not re.match(rb"[!-9;-~]+[ \t]*:|[ \t]", line):
            break
    return b"Date: Sun, 29 Nov 2026 21:00:00 +0000\r\n" + message


def corpus():
    """Every message, with the line ends that it has on the wire."""
    for path in sorted(CORPUS.rglob("*")):
        if path.is_file() and "LICENSE" not in path.name and path.name != "README.md":
            octets = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"")
            # What comes over SMTP ends with a line end.
            yield str(path.relative_to(CORPUS)), dated(octets.replace(b"\n", b"\r\n").removesuffix(b"\r\n") + b"\r\n")


# Two References fields, of which RFC 5322 section 3.6 allows one: libopendkim does not parse the message.
REFUSED_BY_OPENDKIM = {"ruby-mail/multiple_references_with_one_invalid.eml"}


def refused_by_all(keys, messages, folder):
    """The messages, of (name, octets), whose two topmost signatures any of four verifiers does not take, which ask a name
    server for the keys: what they say."""
    zone = folder / "zone"
    zone.write_text("".join(f"{name} TXT {record.decode()}\n" for name, record in keys.records.items()))
    files = {}
    for number, (name, message) in enumerate(messages):
        path = folder / f"{number}.eml"
        path.write_bytes(message)
        files[path.name] = name

    def verify(paths):
        environment = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            [RIG / "enter.sh", "python3", "-P", VERIFIERS, RIG / "nameserver.py", zone, *paths], env=environment,
            capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    paths = [folder / file for file in files]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lines = "".join(pool.map(verify, [paths[start::2] for start in range(2)])).splitlines()
    assert len(lines) == len(files)
    bad = []
    for line in lines:
        file, dkimpy, opendkim, perl, headers = re.fullmatch(
            r"(\S+): dkimpy\[(.*?)\] opendkim\[(.*)\] Mail::DKIM\[(.*?)\] authheaders\[(.*)\]", line).groups()
        name = files[file]
        ours = dkimpy.split(",")[:2]
        # Debian's OpenDKIM and Mail::DKIM have no Ed25519; what else a message was signed with is not ours.
        good = (
            ours == ["rsa-sha256=pass", "ed25519-sha256=pass"] and perl.startswith("rsa-sha256=pass")
            and (opendkim == "pass") != (name in REFUSED_BY_OPENDKIM) and "dkim=pass" in headers)
        if not good:
            bad.append((name, line))
    return bad
