"""Whether it shows in time which logins exist: failing logins of users that there are and of names that there are not, by
turns, for each mechanism.

    make timing-auth      # or: timing_auth.py --slimtad BINARY [--samples N] [--only PLAIN]

The users are those of the users file, then those of Dovecot with its delay of two seconds for failures, many at a time.

For each step of each mechanism the two medians are printed, and the probability of a difference like theirs by chance
(Mann-Whitney's U test, two-sided, with the normal approximation and the correction for ties). Exits 1 if one is below
LEVEL. Each try comes from a network of its own, and no name is tried often: else it were made to wait for guessing.
"""

import argparse
import base64
import concurrent.futures
import itertools
import math
import os
import pathlib
import random
import socket
import statistics
import sys
import time

SAMPLES, LEVEL = 500, 0.001
# Failures of a login that cost nothing are ten.
TRIES_OF_A_NAME = 5
PORT, HTTP_PORT = 2525, 8025
# Tries under way with Dovecot.
AT_ONCE = 40


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

    def __init__(self, address, port):
        network = next(Client.numbers)
        own = f"127.{100 + network // 65536}.{network // 256 % 256}.{network % 256}"
        self.socket = socket.create_connection((address, port), timeout=90, source_address=(own, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def smtp(address):
    client = Client(address, PORT)
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


def bearer(address, name, password):
    with smtp(address) as client:
        answer, first = client.timed(
            "AUTH OAUTHBEARER " + encoded(f"n,a={name},\1auth=Bearer {encoded(password.encode())}\1\1".encode()))
        assert answer.startswith("334 "), answer
        answer, second = client.timed("AQ==")
    assert answer.startswith("535 "), answer
    return {"token": first, "end": second}


def xoauth2(address, name, password):
    with smtp(address) as client:
        answer, first = client.timed(
            "AUTH XOAUTH2 " + encoded(f"user={name}\1auth=Bearer {encoded(password.encode())}\1\1".encode()))
        assert answer.startswith("334 "), answer
        answer, second = client.timed("")
    assert answer.startswith("535 "), answer
    return {"token": first, "end": second}


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


MECHANISMS = {
    "PLAIN": plain, "LOGIN": login, "SCRAM-SHA-256": scram("SCRAM-SHA-256", 32), "SCRAM-SHA-512": scram("SCRAM-SHA-512", 64),
    "SCRAM-SHA-1": scram("SCRAM-SHA-1", 20), "OAUTHBEARER": bearer, "XOAUTH2": xoauth2, "HTTP Basic": basic,
}


def names_of(mechanisms, samples):
    """Users, of whom each mechanism has enough for itself."""
    return {mechanism: [f"known{place}-{number}" for number in range(-(-samples // TRIES_OF_A_NAME))]
            for place, mechanism in enumerate(mechanisms)}


def settings(daemon):
    edge = {"tls": "none", "auth": "required", "plaintext_auth": True}
    return {
        "log": {"level": "error"}, "limits": {"commands": 1000},
        "edge": [{"name": "smtp", "type": "smtp", "listen": [f"{daemon.address}:{PORT}"], **edge},
                 {"name": "http", "type": "http", "listen": [f"{daemon.address}:{HTTP_PORT}"], **edge}]}


OF_DOVECOT = {"PLAIN": plain, "SCRAM-SHA-256": scram("SCRAM-SHA-256", 32), "CRAM-MD5": cram_md5}


def make(place, samples):
    """A slimtad with enough users, all with the same password: each mechanism has some for itself."""
    from harness.slimtad import Slimtad

    keys = place.folder("keys") / "keys.json"
    keys.write_text('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}')
    keys.chmod(0o644)
    daemon = Slimtad(place)
    smtp_mechanisms = [name for name in MECHANISMS if name != "HTTP Basic"]
    daemon.change(
        auth={"backends": ["file", "oauth"], "mechanisms": smtp_mechanisms, "oauth": {
            "issuer": "https://issuer.test", "audience": "slimtad", "jwks_file": str(keys)}},
        **settings(daemon))
    daemon.add_user()
    rest = daemon.users.read_text().splitlines()[0].partition(":")[2]
    names = names_of(MECHANISMS, samples)
    with daemon.users.open("a") as users:
        users.writelines(f"{name}:{rest}\n" for all_names in names.values() for name in all_names)
    return daemon.start(), names


def make_with_dovecot(place, samples):
    """The same, with users whom Dovecot knows."""
    from harness.dovecot import Dovecot
    from harness.slimtad import Slimtad

    names = names_of(OF_DOVECOT, samples)
    dovecot = Dovecot(
        place, logins={name: "{PLAIN}correct horse" for all_names in names.values() for name in all_names},
        mechanisms="plain cram-md5 scram-sha-256", delay=2).start()
    daemon = Slimtad(place)
    daemon.change(
        auth={"backends": ["dovecot"], "mechanisms": list(OF_DOVECOT), "dovecot": {"socket": f"unix:{dovecot.auth_socket}"}},
        **settings(daemon))
    daemon.change(log={"level": "info"})
    daemon.start()
    daemon.wait_for_log("connected to Dovecot")
    return daemon, names


def measure(daemon, exchange, names, samples, at_once):
    """The times of each step: {step: {whether there is such a user: [seconds]}}."""
    times = {}
    tries = []
    for number in range(samples):
        known = names[number % len(names)]
        pair = [(True, known), (False, known.replace("known", "other"))]
        random.shuffle(pair)
        tries += pair
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        found = pool.map(
            lambda one: (one[0], exchange(daemon.address, one[1], f"wrong {random.random()}")), tries)
        for exists, steps in found:
            for step, seconds in steps.items():
                times.setdefault(step, {True: [], False: []})[exists].append(seconds)
    return times


def tell(back_end, mechanism, times):
    """Prints what was found; the steps at which it shows."""
    shown = []
    for step, found in times.items():
        probability = mann_whitney(found[True], found[False])
        there, not_there = (statistics.median(found[exists]) * 1000 for exists in (True, False))
        verdict = "no difference" if probability >= LEVEL else "A DIFFERENCE"
        print(f"{back_end:8} {mechanism:14} {step:10} there {there:9.3f} ms, not there {not_there:9.3f} ms, "
              f"p = {probability:.4f}: {verdict}", flush=True)
        if probability < LEVEL:
            shown.append(f"{back_end} {mechanism} {step}".strip())
    return shown


def run(make_daemon, back_end, mechanisms, samples, at_once):
    from harness.machine import Place

    place = Place()
    try:
        daemon, names = make_daemon(place, samples)
        shown = []
        for mechanism, exchange in mechanisms.items():
            shown += tell(back_end, mechanism, measure(daemon, exchange, names[mechanism], samples, at_once))
        daemon.finish()
        return shown
    finally:
        place.stop_all()
        place.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--only", help="one mechanism of the users file")
    options = parser.parse_args()
    os.environ["SLIMTAD"] = str(pathlib.Path(options.slimtad).resolve())
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    chosen = {name: exchange for name, exchange in MECHANISMS.items() if options.only in (None, name)}
    shown = run(make, "file", chosen, options.samples, 1)
    if not options.only:
        shown += run(make_with_dovecot, "dovecot", OF_DOVECOT, options.samples, AT_ONCE)
    print(f"timing-auth: {options.samples} samples of each: "
          + (f"it shows in {', '.join(shown)}" if shown else "nothing shows"))
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
