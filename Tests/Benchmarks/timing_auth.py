"""Whether it shows in time which logins exist: failing logins of users that there are and of names that there are not, by
turns, for each mechanism of each back end.

    make timing-auth      # or: timing_auth.py --slimtad BINARY [--samples N] [--back-end dovecot] [--only PLAIN]

The back ends are the users file, tokens of an issuer, Dovecot's authentication service with its delay of two seconds for
failures, many at a time, and PAM. Where who the client is is proved by something else than a secret of the user, a name is
chosen all the same: with a good token, or certificate, of somebody else. PAM has modules that know at once whom there is not:
that is PAM's own matter, and what is measured is whether slimtad's helper hides it.

For each step of each mechanism the two medians are printed, and the probability of a difference like theirs by chance
(Mann-Whitney's U test, two-sided, with the normal approximation and the correction for ties). Exits 1 if one is below
LEVEL. Each try comes from a network of its own, and no name is tried often: else it were made to wait for guessing.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import hmac
import itertools
import json
import math
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import time

SAMPLES, LEVEL = 500, 0.001
# Failures of a login that cost nothing are ten.
TRIES_OF_A_NAME = 5
PORT, TLS_PORT, HTTP_PORT = 2525, 4650, 8025
# Tries under way with Dovecot, and with PAM, whose helper has sixteen processes.
AT_ONCE, AT_ONCE_WITH_PAM = 40, 4
# Who has a good token, and a good certificate.
SOMEBODY = "somebody@timing.test"


def mann_whitney(one, other):
    """How probable it is that samples of one distribution are as unlike as these."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    count, ranks, ties, start = len(ranked), 0.0, 0, 0
    while start < count:
        end = start
        while end < count and ranked[end][0] == ranked[start][0]:
            end += 1
        same = end - start
        ties += same**3 - same
        ranks += sum(1 for place in range(start, end) if ranked[place][1] == 0) * (start + end + 1) / 2
        start = end
    n, m = len(one), len(other)
    u = ranks - n * (n + 1) / 2
    deviation = math.sqrt(n * m / 12 * (count + 1 - ties / (count * (count - 1))))
    return math.erfc(max(0.0, abs(u - n * m / 2) - 0.5) / deviation / math.sqrt(2)) if deviation else 1.0


def encoded(octets):
    return base64.b64encode(octets).decode()


class Client:
    """A connection of a client, each from a network of its own."""

    numbers = itertools.count(1)

    def __init__(self, address, port, context=None):
        network = next(Client.numbers)
        own = f"127.{100 + network // 65536}.{network // 256 % 256}.{network % 256}"
        self.socket = socket.create_connection((address, port), timeout=90, source_address=(own, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket)
        self.stream = self.socket.makefile("rb")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")

    def reply(self):
        while True:
            line = self.stream.readline().decode()
            assert line, "the connection has ended"
            if line[3:4] != "-":
                return line

    def timed(self, line):
        """What is answered to a line, and after how many seconds."""
        began = time.perf_counter()
        self.say(line)
        answer = self.reply()
        return answer, time.perf_counter() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def smtp(address, context=None):
    client = Client(address, TLS_PORT, context) if context else Client(address, PORT)
    client.reply()
    client.say("EHLO timing.test")
    client.reply()
    return client


def plain(address, name, password):
    with smtp(address) as client:
        answer, seconds = client.timed("AUTH PLAIN " + encoded(f"\0{name}\0{password}".encode()))
    assert answer.startswith("535 "), answer
    return {"": seconds}


def login(address, name, password):
    with smtp(address) as client:
        client.timed("AUTH LOGIN")
        _, first = client.timed(encoded(name.encode()))
        answer, second = client.timed(encoded(password.encode()))
    assert answer.startswith("535 "), answer
    return {"name": first, "password": second}


def scram(mechanism, size):
    def exchange(address, name, _):
        with smtp(address) as client:
            answer, first = client.timed(f"AUTH {mechanism} " + encoded(f"n,,n={name},r=abcdefgh".encode()))
            assert answer.startswith("334 "), answer
            nonce = base64.b64decode(answer[4:]).decode().split(",")[0]
            answer, second = client.timed(encoded(f"c=biws,{nonce},p={encoded(bytes(size))}".encode()))
        assert answer.startswith("535 "), answer
        return {"name": first, "proof": second}
    return exchange


def scram_plus(mechanism, size, context):
    """Bound to the server's certificate (RFC 5929 section 4), which has a signature with SHA-256."""
    def exchange(address, name, _):
        header = "p=tls-server-end-point,,"
        with smtp(address, context) as client:
            bound = header.encode() + hashlib.sha256(client.socket.getpeercert(binary_form=True)).digest()
            answer, first = client.timed(f"AUTH {mechanism} " + encoded(f"{header}n={name},r=abcdefgh".encode()))
            assert answer.startswith("334 "), answer
            nonce = base64.b64decode(answer[4:]).decode().split(",")[0]
            answer, second = client.timed(encoded(f"c={encoded(bound)},{nonce},p={encoded(bytes(size))}".encode()))
        assert answer.startswith("535 "), answer
        return {"name": first, "proof": second}
    return exchange


def external(context):
    """`context` has somebody's certificate, which is not for the name."""
    def exchange(address, name, _):
        with smtp(address, context) as client:
            answer, seconds = client.timed("AUTH EXTERNAL " + encoded(name.encode()))
        assert answer.startswith("535 "), answer
        return {"": seconds}
    return exchange


def bearer(token=None):
    """With somebody's `token`, or without one with none at all."""
    def exchange(address, name, password):
        with smtp(address) as client:
            answer, first = client.timed("AUTH OAUTHBEARER " + encoded(
                f"n,a={name},\1auth=Bearer {token or encoded(password.encode())}\1\1".encode()))
            assert answer.startswith("334 "), answer
            answer, second = client.timed("AQ==")
        assert answer.startswith("535 "), answer
        return {"token": first, "end": second}
    return exchange


def xoauth2(token=None):
    def exchange(address, name, password):
        with smtp(address) as client:
            answer, first = client.timed(
                "AUTH XOAUTH2 " + encoded(f"user={name}\1auth=Bearer {token or encoded(password.encode())}\1\1".encode()))
            assert answer.startswith("334 "), answer
            answer, second = client.timed("")
        assert answer.startswith("535 "), answer
        return {"token": first, "end": second}
    return exchange


def cram_md5(address, name, _):
    with smtp(address) as client:
        _, first = client.timed("AUTH CRAM-MD5")
        answer, second = client.timed(encoded(f"{name} {'0' * 32}".encode()))
    assert answer.startswith("535 "), answer
    return {"challenge": first, "digest": second}


def basic(address, name, password):
    with Client(address, HTTP_PORT) as client:
        token = encoded(f"{name}:{password}".encode())
        answer, seconds = client.timed(
            f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\nContent-Length: 0\r\n")
    assert answer.startswith("HTTP/1.1 401"), answer
    return {"": seconds}


SCRAM = {name: scram(name, size) for name, size in
         {"SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64, "SCRAM-SHA-1": 20}.items()}
SCRAM_PLUS = {"SCRAM-SHA-256-PLUS": 32, "SCRAM-SHA-512-PLUS": 64, "SCRAM-SHA-1-PLUS": 20}


class BackEnd:
    """A slimtad, and what is measured there: {mechanism: how a login fails}. Each has users of its own, of whom
    `names[mechanism]` are enough."""

    def __init__(self, place, mechanisms, samples, at_once=1):
        from harness.slimtad import Slimtad

        self.place, self.at_once = place, at_once
        self.mechanisms = mechanisms
        self.names = {mechanism: [f"known{number}-{user}" for user in range(-(-samples // TRIES_OF_A_NAME))]
                      for number, mechanism in enumerate(mechanisms)}
        self.daemon = Slimtad(place)
        edge = {"tls": "none", "auth": "required", "plaintext_auth": True}
        address = self.daemon.address
        self.daemon.change(
            log={"level": "error"}, limits={"commands": 1000},
            edge=[{"name": "smtp", "type": "smtp", "listen": [f"{address}:{PORT}"], **edge},
                  {"name": "smtps", "type": "smtp", "listen": [f"{address}:{TLS_PORT}"], "tls": "immediate",
                   "auth": "required"},
                  {"name": "http", "type": "http", "listen": [f"{address}:{HTTP_PORT}"], **edge}])

    @property
    def users(self):
        return [name for names in self.names.values() for name in names]

    @property
    def trusting(self):
        return self.daemon.certificate.trusting_context()

    def configure(self, **auth):
        self.daemon.change(auth={
            "mechanisms": list(dict.fromkeys(name.split()[0] for name in self.mechanisms if name != "HTTP Basic"))} | auth)

    def write_users(self, *more):
        """The users file: all with the same password, and the keys that the mechanisms want."""
        self.daemon.add_user()
        rest = self.daemon.users.read_text().splitlines()[0].partition(":")[2]
        with self.daemon.users.open("a") as users:
            users.writelines(f"{name}:{rest}\n" for name in [*self.users, *more])

    def start(self):
        self.daemon.start()
        return self

    def certified(self):
        """A client's context with somebody's certificate."""
        from harness.certificate import make_client_certificate
        from harness.machine import give

        folder = self.place.folder("authority")
        own = make_client_certificate(folder, SOMEBODY)
        give(own.chain)
        self.daemon.change(tls={"client_ca": str(own.chain)})
        context = self.trusting
        context.load_cert_chain(own.chain, own.key)
        return context


def with_file(place, samples):
    """Users with the same password and keys."""
    names = ["PLAIN", "LOGIN", *SCRAM, *SCRAM_PLUS, "EXTERNAL", "HTTP Basic"]
    found = BackEnd(place, dict.fromkeys(names), samples)
    found.mechanisms |= SCRAM | {"PLAIN": plain, "LOGIN": login, "HTTP Basic": basic}
    found.mechanisms |= {name: scram_plus(name, size, found.trusting) for name, size in SCRAM_PLUS.items()}
    found.mechanisms["EXTERNAL"] = external(found.certified())
    found.configure()
    found.write_users(SOMEBODY)
    return found.start()


def with_tokens(place, samples):
    """Users of the users file, of whom some may have tokens: one that is good, and is somebody's, and none."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def text(octets):
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()

    key = Ed25519PrivateKey.generate()
    claims = {"iss": "https://issuer.test", "aud": "slimtad", "exp": int(time.time()) + 86400, "email": SOMEBODY,
              "email_verified": True}
    parts = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "typ": "at+jwt"}, claims))
    token = f"{parts}.{text(key.sign(parts.encode()))}"
    found = BackEnd(place, {
        "OAUTHBEARER": bearer(), "XOAUTH2": xoauth2(), "OAUTHBEARER (good)": bearer(token),
        "XOAUTH2 (good)": xoauth2(token)}, samples)
    keys = place.folder("keys") / "keys.json"
    keys.write_text(json.dumps({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().public_bytes_raw())}]}))
    keys.chmod(0o644)
    found.configure(backends=["file", "oauth"], oauth={
        "issuer": "https://issuer.test", "audience": "slimtad", "jwks_file": str(keys)})
    found.write_users()
    found.start()
    # It is good where nobody else is named.
    with smtp(found.daemon.address) as client:
        answer, _ = client.timed("AUTH XOAUTH2 " + encoded(f"user={SOMEBODY}\1auth=Bearer {token}\1\1".encode()))
        assert answer.startswith("235 "), answer
    return found


def scram_keys(mechanism):
    """What `doveadm pw` makes of a password: of a clear one Dovecot would make other keys each time, which takes long."""
    name = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac(name, b"correct horse", salt, 4096)
    client, server = (hmac.digest(salted, key, name) for key in (b"Client Key", b"Server Key"))
    return f"{{{mechanism}}}4096," + ",".join(map(encoded, (salt, hashlib.new(name, client).digest(), server)))


def with_dovecot(place, samples):
    """Users whom Dovecot knows."""
    from harness.dovecot import Dovecot

    chosen = [name for name in SCRAM if name != "SCRAM-SHA-512"]
    found = BackEnd(place, dict.fromkeys(["PLAIN", "LOGIN", *chosen, "CRAM-MD5", "EXTERNAL", "HTTP Basic"]), samples, AT_ONCE)
    found.mechanisms |= {name: SCRAM[name] for name in chosen}
    found.mechanisms |= {"PLAIN": plain, "LOGIN": login, "CRAM-MD5": cram_md5, "HTTP Basic": basic,
                         "EXTERNAL": external(found.certified())}
    logins = dict.fromkeys([*found.users, SOMEBODY], "{PLAIN}correct horse")
    for mechanism in chosen:
        logins |= dict.fromkeys(found.names[mechanism], scram_keys(mechanism))
    dovecot = Dovecot(
        place, logins=logins,
        mechanisms="plain login cram-md5 external " + " ".join(chosen).lower(), delay=2).start()
    found.daemon.change(log={"level": "info"})
    found.configure(backends=["dovecot"], dovecot={"socket": f"unix:{dovecot.auth_socket}"})
    found.start()
    found.daemon.wait_for_log("connected to Dovecot")
    return found


def with_pam(place, samples):
    """Users of a list, who have a wrong password; who is not in it is known to be nobody at once."""
    folder = place.folder("pam.d")
    source = pathlib.Path(__file__).resolve().parents[1] / "Interop" / "harness" / "pam_says.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "pam_says.so", source, "-lpam"], check=True)
    found = BackEnd(place, {"PLAIN": plain, "LOGIN": login, "HTTP Basic": basic}, samples, AT_ONCE_WITH_PAM)
    (folder / "known").write_text("".join(f"{name}\n" for name in found.users))
    (folder / "slimtad").write_text(
        f"auth requisite pam_listfile.so item=user sense=allow onerr=fail file={folder}/known\n"
        f"auth required {folder}/pam_says.so\naccount required {folder}/pam_says.so\n")
    for path in folder.iterdir():
        path.chmod(0o755 if path.suffix == ".so" else 0o644)
    found.configure(backends=["pam"], pam={"directory": str(folder)})
    return found.start()


BACK_ENDS = {"file": with_file, "tokens": with_tokens, "dovecot": with_dovecot, "pam": with_pam}


def measure(daemon, exchange, names, samples, at_once):
    """The times of each step: {step: {whether there is such a user: [seconds]}}; and, in the same form, how often which
    answers came that no wrong password gets."""
    times, others = {}, {}

    def attempt(one):
        try:
            return one[0], exchange(daemon.address, one[1], f"wrong {random.random()}"), None
        except AssertionError as error:
            return one[0], {}, str(error).strip()

    tries = []
    for number in range(samples):
        known = names[number % len(names)]
        pair = [(True, known), (False, known.replace("known", "other"))]
        random.shuffle(pair)
        tries += pair
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for exists, steps, other in pool.map(attempt, tries):
            if other:
                others.setdefault(other, {True: 0, False: 0})[exists] += 1
            for step, seconds in steps.items():
                times.setdefault(step, {True: [], False: []})[exists].append(seconds)
    return times, others


def tell(back_end, mechanism, times, others):
    """Prints what was found; the steps at which it shows."""
    shown = []
    for answer, found in others.items():
        print(f"{back_end:8} {mechanism:18} ANOTHER ANSWER: there {found[True]} times, not there {found[False]}: {answer}")
        shown.append(f"{back_end} {mechanism} answer")
    for step, found in times.items():
        probability = mann_whitney(found[True], found[False])
        there, not_there = (statistics.median(found[exists]) * 1000 for exists in (True, False))
        verdict = "no difference" if probability >= LEVEL else "A DIFFERENCE"
        print(f"{back_end:8} {mechanism:18} {step:10} there {there:9.3f} ms, not there {not_there:9.3f} ms, "
              f"p = {probability:.4f}: {verdict}", flush=True)
        if probability < LEVEL:
            shown.append(f"{back_end} {mechanism} {step}".strip())
    return shown


def run(back_end, only, samples):
    from harness.machine import Place

    place = Place()
    try:
        found = BACK_ENDS[back_end](place, samples)
        shown = []
        for mechanism, exchange in found.mechanisms.items():
            if only in (None, mechanism.split()[0]):
                results = measure(found.daemon, exchange, found.names[mechanism], samples, found.at_once)
                shown += tell(back_end, mechanism, *results)
        found.daemon.finish()
        return shown
    finally:
        place.stop_all()
        place.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--back-end", choices=BACK_ENDS, help="one of them")
    parser.add_argument("--only", help="one mechanism")
    options = parser.parse_args()
    os.environ["SLIMTAD"] = str(pathlib.Path(options.slimtad).resolve())
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    shown = []
    for back_end in [options.back_end] if options.back_end else BACK_ENDS:
        shown += run(back_end, options.only, options.samples)
    print(f"timing-auth: {options.samples} samples of each: "
          + (f"it shows in {', '.join(shown)}" if shown else "nothing shows"))
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
