"""How many messages a second come in over HTTP, beside SMTP: the messages of S1, kept in the queue.

    make bench-http      # or: edges.py --slimtad BINARY [--seconds N] [--reps N] [--octets N]

Both edges of one daemon by turns, 1, 10 and 100 connections that are kept, one message after the other on each; medians,
the ratio HTTP / SMTP, and what a message takes of the processor. Nothing is asserted: 0.9 is the goal.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

HTTP_PORT = 8025


def processor(pid):
    """The seconds that a process has had, in all of its threads, those that have ended too."""
    # Its clock, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime(~pid << 3 | 2)


def measure(load, daemon, protocol, port, connections, options):
    """Messages a second, milliseconds of the processor for each, and the median time of one in ms."""
    before = processor(daemon.process.pid)
    done = subprocess.run(
        [load, protocol, daemon.address, str(port), str(connections), str(options.seconds), str(options.octets)],
        capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"edges: {protocol}, {connections} connections: {done.stderr}")
    count, lasted, median, _ = map(float, done.stdout.split())
    return count / lasted, (processor(daemon.process.pid) - before) / count * 1e3, median


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--octets", type=int, default=4096)
    options = parser.parse_args()
    # The harness asks for it when it is imported.
    os.environ["SLIMTAD"] = str(pathlib.Path(options.slimtad).resolve())
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    from harness.machine import SUBMISSION, Place
    from harness.slimtad import Slimtad

    place = Place()
    try:
        load = place.folder("load") / "load"
        source = pathlib.Path(__file__).with_name("load.c")
        subprocess.run(["cc", "-O2", "-o", load, source], check=True)
        daemon = Slimtad(
            place, queue={"deliver": False}, log={"level": "warning"}, limits={"connections_per_address": 2000})
        open_to_us = {"tls": "none", "auth": "none"}
        daemon.change(edge=[
            {"name": "smtp", "type": "smtp", "listen": [f"{daemon.address}:{SUBMISSION}"]} | open_to_us,
            {"name": "http", "type": "http", "listen": [f"{daemon.address}:{HTTP_PORT}"]} | open_to_us])
        daemon.start()
        ports = {"smtp": SUBMISSION, "http": HTTP_PORT}
        for protocol, port in ports.items():
            measure(load, daemon, protocol, port, 10, argparse.Namespace(seconds=1, octets=options.octets))
        print(f"{'connections':>12}{'SMTP/s':>10}{'HTTP/s':>10}{'ratio':>8}{'SMTP ms':>10}{'HTTP ms':>10}  "
              "of the processor a message")
        for connections in (1, 10, 100):
            found = {protocol: [] for protocol in ports}
            for rep in range(options.reps):
                for protocol in sorted(ports, reverse=rep % 2 == 0):
                    found[protocol].append(measure(load, daemon, protocol, ports[protocol], connections, options))
            rate = {name: statistics.median(one[0] for one in found[name]) for name in ports}
            cost = {name: statistics.median(one[1] for one in found[name]) for name in ports}
            print(f"{connections:>12}{rate['smtp']:>10.0f}{rate['http']:>10.0f}{rate['http'] / rate['smtp']:>8.2f}"
                  f"{cost['smtp']:>10.3f}{cost['http']:>10.3f}", flush=True)
        daemon.finish()
    finally:
        place.stop_all()
        place.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
