"""How many messages a second come in over HTTP, beside SMTP: the messages of S1, kept in the queue.

    make bench-http      # or: edges.py --slimtad BINARY [--seconds N] [--reps N] [--octets N]

Both edges of one daemon by turns, 1, 10 and 100 connections that are kept, one message after the other on each; medians,
the ratio HTTP / SMTP, and what a message takes of the processor. Nothing is asserted: 0.9 is the goal.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import time

SUBMISSION, HTTP_PORT = 2587, 8025
OPEN_TO_US = {"tls": "none", "auth": "none"}


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


@contextlib.contextmanager
def loaded(slimtad, level, *edges):
    """The load generator and a daemon that keeps what it is sent: `edges` are (protocol, port). Yields both, and the
    harness's way to run slimtad."""
    # The harness asks for it when it is imported.
    os.environ["SLIMTAD"] = str(pathlib.Path(slimtad).resolve())
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    from harness.machine import Place
    from harness.slimtad import Slimtad, run_slimtad

    place = Place()
    try:
        load = place.folder("load") / "load"
        subprocess.run(["cc", "-O2", "-o", load, pathlib.Path(__file__).with_name("load.c")], check=True)
        daemon = Slimtad(
            place, queue={"deliver": False}, log={"level": level}, limits={"connections_per_address": 2000})
        daemon.change(edge=[
            {"name": protocol, "type": protocol, "listen": [f"{daemon.address}:{port}"]} | OPEN_TO_US
            for protocol, port in edges])
        daemon.start()
        yield load, daemon, run_slimtad
        daemon.finish()
    finally:
        place.stop_all()
        place.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--octets", type=int, default=4096)
    options = parser.parse_args()
    ports = {"smtp": SUBMISSION, "http": HTTP_PORT}
    with loaded(options.slimtad, "warning", *ports.items()) as (load, daemon, _):
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
