"""What signatures cost: the processor time of a message with both of them and without any, in one run of one daemon.

    make bench-dkim      # or: dkim.py --slimtad BINARY [--seconds N] [--reps N] [--connections N]

The same process, the same clients: a reload between turns puts [[dkim]] in and takes it out, each time in another order. Small
messages (4 KB) and large ones (10 MB, which are hashed while they come). Prints the medians, and that of the differences of the
turns with how far they scatter, beside the goal: 4 KB at most 1.0 ms more, 10 MB at most 12 ms. Nothing is asserted.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile

from edges import SUBMISSION, loaded, measure

DOMAIN = "origin.test"
GOALS = {4096: 1.0, 10_000_000: 12.0}
KINDS = {
    "rsa-sha256": ("r", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    "ed25519-sha256": ("e", ["-algorithm", "ED25519"]),
}


def tables(folder):
    """[[dkim]] with keys that are made now; DNS is not believed."""
    from harness.machine import give

    found = []
    for algorithm, (selector, options) in KINDS.items():
        path = folder / f"{selector}.pem"
        subprocess.run(["openssl", "genpkey", *options, "-out", path], check=True, capture_output=True)
        path.chmod(0o600)
        give(path)
        found.append({
            "domains": [DOMAIN], "algorithm": algorithm, "key_file": str(path), "selector": selector, "gate": "off"})
    return found


def compare(load, daemon, run_slimtad, keys, octets, options):
    def turn(signs):
        daemon.settings.pop("dkim", None)
        daemon.change(**({"dkim": keys} if signs else {}))
        assert run_slimtad("reload", "--config", daemon.configuration).returncode == 0
        each = argparse.Namespace(seconds=options.seconds, octets=octets)
        return measure(load, daemon, "smtp", SUBMISSION, options.connections, each)

    found = {True: [], False: []}
    for rep in range(-1, options.reps):
        for signs in ((True, False) if rep % 2 else (False, True)):
            one = turn(signs)
            if rep >= 0:
                found[signs].append(one)
    for signs, name in ((False, "unsigned"), (True, "both signatures")):
        rate, cost, middle = (statistics.median(column) for column in zip(*found[signs]))
        print(f"{octets:>10} octets, {name:16}{rate:8.0f} messages a second, {cost:8.3f} ms of the processor and "
              f"{middle:8.3f} ms of time a message", flush=True)
    more = sorted(signed[1] - plain[1] for signed, plain in zip(found[True], found[False]))
    print(f"{octets:>10} octets: {statistics.median(more):+.3f} ms a message (goal: {GOALS[octets]} ms), half of "
          f"{options.reps} turns between {more[len(more) // 4]:+.3f} and {more[-1 - len(more) // 4]:+.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--reps", type=int, default=9)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    with loaded(options.slimtad, "error", ("smtp", SUBMISSION)) as (load, daemon, run_slimtad), \
            tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        keys = tables(folder)
        # What is taken goes at once: large messages would fill the disk.
        daemon.settings["relay"] = {"type": "blackhole"}
        daemon.change(queue={"deliver": True})
        for octets in GOALS:
            compare(load, daemon, run_slimtad, keys, octets, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
