"""A queue of a million deferred messages: how fast the daemon starts on it, what it needs, what it still accepts.

    make bench-million            # or: million.py --slimtad BINARY --generator smtpbench [--messages N] [--folder DIR]

Fills a queue with `deliver = false`, stops, and starts again with a relay that refuses all connections; prints one JSON
object: seconds from exec to the 220, PSS at once, after the retries have begun and at its highest, accepted messages a
second beside the deferred ones and on an empty queue before and after (the ratio is of their medians), disk used,
octets of PSS a message. Exits 1 if a figure is out of its bounds, which are in BOUNDS. The generator's `load` prints
JSON with `msg_per_s`.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

BOUNDS = {"seconds_to_220": 3.0, "peak_pss_mb": 300.0, "rate_ratio": 0.8}

CONFIGURATION = """
hostname = "million.bench.test"
[daemon]
state_directory = "{folder}/state"
runtime_directory = "{folder}/run"
user = "{user}"
group = "{group}"
[log]
target = "stderr"
[[edge]]
name = "plain"
type = "smtp"
listen = ["127.0.0.1:{port}"]
tls = "none"
auth = "none"
trusted_networks = ["127.0.0.0/8"]
[queue]
deliver = {deliver}
[relay]
type = "{relay}"
{host}
tls = "none"
"""


class Daemon:
    configuration = CONFIGURATION

    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.process = arguments, folder, None
        self.peak = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, deliver, host="127.0.0.1:1"):
        """Seconds until the 220."""
        configuration = self.folder / "slimta.conf"
        # 127.0.0.1:1 refuses: an attempt costs what an attempt costs, and no time.
        configuration.write_text(self.configuration.format(
            folder=self.folder, port=self.port, deliver="true" if deliver else "false", relay="smtp",
            host=f'host = "{host}"', user="nobody" if os.getuid() == 0 else os.environ["USER"],
            group="nogroup" if os.getuid() == 0 else os.environ["USER"]))
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.arguments.slimtad, "run", "--config", configuration], stderr=open(self.folder / "log", "ab"))
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    if connection.recv(100).startswith(b"220"):
                        break
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"slimtad ended with {self.process.returncode}, see {self.folder}/log")
                time.sleep(0.002)
        seconds = time.monotonic() - began
        threading.Thread(target=self.watch, args=(self.process,), daemon=True).start()
        return seconds

    def watch(self, process):
        while process.poll() is None and process is self.process:
            self.peak = max(self.peak, self.pss())
            time.sleep(0.1)

    def pss(self):
        """In octets."""
        try:
            for line in open(f"/proc/{self.process.pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        return 0

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def load(self, **options):
        command = [self.arguments.generator, "load", "--host", "127.0.0.1", "--port", str(self.port), "--per-conn", "0"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        if result["failed"] or result["conn_fail"]:
            sys.exit(f"not all was accepted: {result['first_err']}")
        return result

    def rates(self, rounds, recipient):
        """Accepted messages a second, for each round of two seconds."""
        return [round(self.load(conns=100, seconds=2, size=1024, rcpt=recipient)["msg_per_s"]) for _ in range(rounds)]

    def empty_queue(self, rounds):
        """Seconds to the 220 and rates on a queue that was empty; it is gone afterwards."""
        seconds = self.start(deliver=True)
        self.rates(1, "warm@dead.test")
        rates = self.rates(rounds, "user@new.test")
        self.stop()
        shutil.rmtree(self.folder / "state")
        return seconds, rates

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self.process.wait(timeout=120)
        return time.monotonic() - began


def disk(folder):
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slimtad", default=".build/release/slimtad")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--folder", help="on a real disk; deleted at the end", default="/var/tmp")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="million-", dir=arguments.folder))
    if os.getuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    os.chmod(folder, 0o755)
    report = {"messages": arguments.messages}
    try:
        daemon = Daemon(arguments, folder)
        report["empty_seconds_to_220"], report["empty_rates"] = daemon.empty_queue(arguments.rounds)

        daemon.start(deliver=False)
        filled = 0
        while filled < arguments.messages:
            part = min(50_000, arguments.messages - filled)
            # A few domains: all of one relay's mail is one destination, but records are as they are.
            daemon.load(conns=50, messages=part, size=1024, rcpt=f"user@d{filled // 50_000}.dead.test")
            filled += part
        report["fill_pss_mb"] = daemon.pss() / 1e6
        report["stop_seconds"] = daemon.stop()
        report["disk_mb"] = disk(folder / "state") / 1e6
        daemon.peak = 0

        report["seconds_to_220"] = daemon.start(deliver=True)
        report["pss_mb"] = daemon.pss() / 1e6
        report["pss_octets_a_message"] = daemon.pss() / arguments.messages
        report["rates"] = daemon.rates(arguments.rounds, "user@new.test")
        cpu, began = daemon.cpu(), time.monotonic()
        time.sleep(10)
        report["idle_cpu_percent"] = 100 * (daemon.cpu() - cpu) / (time.monotonic() - began)
        report["settled_pss_mb"] = daemon.pss() / 1e6
        report["peak_pss_mb"] = daemon.peak / 1e6
        daemon.stop()
        shutil.rmtree(folder / "state")

        # Before and after: a machine's pace is not the same for minutes.
        report["empty_rates"] += daemon.empty_queue(arguments.rounds)[1]
        report["rate_ratio"] = statistics.median(report["rates"]) / statistics.median(report["empty_rates"])
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value
                      for name, value in report.items()}, indent=4))
    bad = [name for name, bound in BOUNDS.items()
           if (report[name] < bound if name == "rate_ratio" else report[name] > bound)]
    for name in bad:
        print(f"{name} is out of its bound {BOUNDS[name]}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
