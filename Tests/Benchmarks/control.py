"""Every command that operators have, against a queue of 100,000 deferred messages: its time, and what mail notices.

    make bench-control            # or: control.py --slimtad BINARY --generator smtpbench [--messages N] [--folder DIR]

Fills a queue as million.py does, has each message refused once (450) by an MX that refuses all, then runs each command,
alone, while a client submits a message every 20 ms. Prints for each: seconds, what it printed, and the client's slowest
250 meanwhile in milliseconds. Exits 1 if a command fails, counts wrongly, or is out of its bound: BY_ID for what looks
at one message, WHOLE for what lists or changes all of them.
"""

import argparse
import json
import os
import pathlib
import shutil
import smtplib
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

import million

BY_ID, WHOLE = 0.25, 20.0
DOMAINS = 10


class Refuser(socketserver.StreamRequestHandler):
    """An MX that takes nobody's mail now."""

    def handle(self):
        self.wfile.write(b"220 refuser\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"RCPT":
                self.wfile.write(b"450 4.2.0 come back later, mailbox busy\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            elif verb == b"DATA":
                self.wfile.write(b"503 no recipient\r\n")
            else:
                self.wfile.write(b"250 ok\r\n")


def refuse_all():
    """Serves in a process of its own; its port."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    socketserver.ThreadingTCPServer.request_queue_size = 256
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuser)
    child = os.fork()
    if child == 0:
        server.serve_forever()
    server.socket.close()
    return child, server.server_address[1]


class Prober(threading.Thread):
    """A client that submits a message every 20 ms and notes how long each took."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.taken, self.failure, self.ends = port, [], None, threading.Event()

    def run(self):
        try:
            with smtplib.SMTP("127.0.0.1", self.port, "probe.test", timeout=60) as client:
                client.ehlo()
                while not self.ends.wait(0.02):
                    began = time.monotonic()
                    client.sendmail("probe@probe.test", ["user@probe.test"], "Subject: probe\r\n\r\nprobe\r\n")
                    self.taken.append(time.monotonic() - began)
        except (OSError, smtplib.SMTPException) as error:
            self.failure = error

    def stop(self):
        self.ends.set()
        self.join()


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.daemon = million.Daemon(arguments, folder)
        self.daemon.configuration = million.CONFIGURATION.replace("[queue]", '[queue]\nretry = ["6h"]')
        self.bad = []

    def command(self, *words, expect=None, bound=WHOLE, beside=True, status=0):
        """Runs a command; `expect` is what it prints, or a function that says whether that is right. Its output."""
        prober = Prober(self.daemon.port) if beside else None
        if prober:
            prober.start()
            time.sleep(0.1)
            prober.taken.clear()
        began = time.monotonic()
        result = subprocess.run(
            [self.arguments.slimtad, *words, "--config", self.folder / "slimta.conf"], capture_output=True, text=True)
        seconds = time.monotonic() - began
        slowest = None
        if prober:
            prober.stop()
            slowest = max(prober.taken, default=None)
        name = " ".join(word if len(word) < 32 else word[:4] + "..." for word in words)
        lines = result.stdout.splitlines()
        said = lines[0] if len(lines) == 1 else f"{len(lines)} lines, {len(result.stdout):,} octets"
        print(f"{seconds:9.3f} s  {name:58} {said[:44]:44} "
              + (f"250 after {slowest * 1000:6.1f} ms at most" if slowest else ""), flush=True)
        problems = []
        if result.returncode != status:
            problems.append(f"exit status {result.returncode}: {result.stderr.strip()[:300]}")
        elif callable(expect) and not expect(result.stdout) or isinstance(expect, str) and result.stdout != expect:
            problems.append(f"printed {result.stdout[:200]!r} {result.stderr[:200]!r}")
        if seconds > bound:
            problems.append(f"{seconds:.2f} s, bound {bound}")
        if prober and prober.failure:
            problems.append(f"the client beside it: {prober.failure}")
        for problem in problems:
            print(f"           BAD: {problem}", flush=True)
            self.bad.append(f"{name}: {problem}")
        return result.stdout

    def status(self):
        return json.loads(subprocess.run(
            [self.arguments.slimtad, "status", "--json", "--config", self.folder / "slimta.conf"], check=True,
            capture_output=True, text=True).stdout)["queue"]

    def settle(self):
        """Waits until nothing is being attempted, and nothing is due."""
        while (queue := self.status())["active"] or queue["due"]:
            time.sleep(0.2)

    def fill(self, refuser):
        count = self.arguments.messages
        self.daemon.start(deliver=False)
        for number in range(DOMAINS):
            self.daemon.load(conns=50, messages=count // DOMAINS, size=1024, rcpt=f"user@d{number}.dead.test")
        self.daemon.stop()
        self.begin(refuser)
        self.settle()

    def begin(self, refuser):
        """Starts with the relay that refuses each recipient."""
        self.daemon.start(deliver=True, host=f"127.0.0.1:{refuser}")

    def run(self, refuser):
        count = self.arguments.messages
        part = count // DOMAINS
        self.fill(refuser)
        print(f"{count} messages deferred; PSS {self.daemon.pss() / 1e6:.1f} MB")
        self.daemon.peak = 0
        first, second, third, fourth, fifth = [
            line.split("\t")[0] for line in self.command("queue", "list", "--limit", "5", bound=BY_ID).splitlines()]

        self.command("status", bound=BY_ID)
        self.command("status", "--json", bound=BY_ID)
        self.command("queue", "count", bound=BY_ID)
        self.command("queue", "show", first, bound=BY_ID, expect=lambda text: "450 4.2.0 come back" in text)
        self.command("queue", "show", first, "--json", bound=BY_ID)
        self.command("queue", "show", first, "--content", bound=BY_ID)
        self.command("queue", "list", "--limit", "100", bound=BY_ID, expect=lambda text: text.count("\n") == 100)
        self.command("queue", "list", expect=lambda text: text.count("\n") >= count)
        self.command("queue", "list", "--json", expect=lambda text: len(json.loads(text)) >= count)
        self.command("queue", "list", "--domain", "d9.dead.test", expect=lambda text: text.count("\n") == part)
        self.command("queue", "count", "--domain", "d3.dead.test", expect=f"{part}\n")
        self.command("queue", "count", "--recipient", "user@d3.dead.test", expect=f"{part}\n")
        self.command("queue", "count", "--sender", "@nowhere.test", expect="0\n")
        self.command("queue", "count", "--login", "nobody", expect="0\n")
        self.command("queue", "count", "--age", "1d", expect="0\n")
        self.command("queue", "count", "--state", "deferred", expect=lambda text: int(text) >= count)
        self.command("queue", "count", "--reason", "mailbox busy", expect=lambda text: int(text) >= count)
        self.command("audit", expect=lambda text: "balanced" in text)

        self.command("queue", "hold", first, bound=BY_ID, expect="1 held\n")
        self.command("queue", "release", first, bound=BY_ID, expect="1 released\n")
        self.command("queue", "flush", second, bound=BY_ID, expect="1 flushed\n")
        self.command("queue", "remove", third, "--yes", bound=BY_ID, expect="1 removed\n")
        self.command("queue", "bounce", fourth, "--yes", bound=BY_ID, expect="1 bounced\n")
        self.settle()
        self.command("queue", "hold", "--domain", "d1.dead.test", expect=f"{part} held\n")
        self.command("queue", "count", "--state", "held", expect=f"{part}\n")
        self.command("queue", "release", "--state", "held", expect=f"{part} released\n")
        self.settle()
        self.command("queue", "flush", "--domain", "d2.dead.test", expect=f"{part} flushed\n")
        self.settle()
        self.command("queue", "flush", "--all")
        self.settle()
        self.command("queue", "hold", "--all")
        self.command("reload", bound=BY_ID)
        self.command("audit", expect=lambda text: "balanced" in text)
        print(f"PSS at most {self.daemon.peak / 1e6:.1f} MB")

        self.command("drain", beside=False)
        self.daemon.process.wait(timeout=60)
        self.command("queue", "list", beside=False, expect=lambda text: text.count("\n") >= count - 2)
        self.command("queue", "show", fifth, bound=WHOLE, beside=False)
        self.command("queue", "count", "--state", "held", beside=False, expect=lambda text: int(text) >= count - 12)
        self.command("queue", "release", "--domain", "d1.dead.test", beside=False, expect=f"{part} released\n")
        self.command("queue", "hold", "--domain", "d1.dead.test", beside=False, expect=f"{part} held\n")
        self.command("audit", beside=False, expect=lambda text: "balanced" in text)

        self.begin(refuser)
        self.command("queue", "count", "--state", "held", expect=lambda text: int(text) >= count - 12)
        self.command("queue", "bounce", "--domain", "d5.dead.test", "--yes", expect=f"{part} bounced\n")
        self.settle()
        self.command("queue", "remove", "--domain", "d6.dead.test", "--yes", expect=f"{part} removed\n")
        self.command("queue", "remove", "--all", "--yes")
        audit = json.loads(self.command("audit", "--json"))
        if not audit["clean"]:
            self.bad.append("the ledger is not balanced")
        self.command("drain", beside=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slimtad", default=".build/release/slimtad")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--folder", help="on a real disk; deleted at the end", default="/var/tmp")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="control-", dir=arguments.folder))
    if os.getuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    os.chmod(folder, 0o755)
    child, port = refuse_all()
    bench = Bench(arguments, folder)
    try:
        bench.run(port)
    finally:
        process = bench.daemon.process
        if process and process.poll() is None:
            process.kill()
            process.wait()
        os.kill(child, 9)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    for problem in bench.bad:
        print(problem, file=sys.stderr)
    return 1 if bench.bad else 0


if __name__ == "__main__":
    sys.exit(main())
