"""Two builds side by side: does what was changed cost speed?

    make bench-compare BEFORE=../slimtad-before     # a checkout whose release build is made (`make release`, and
                                                    # `swift build -c release --product storage-worker`)

Measures S1 and S2 of ../shared/bench and the storage alone with both builds by turns, so that other work on the machine
hits both, and prints the medians of each cell and the ratio now / before. Exits 1 if a ratio is below --least.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROWS = re.compile(r"^\s*(\d+)(?: (thread))?\s+\d+\s+\d+\s+[\d.]+\s+(\d+)\s")
DRAINLESS = re.compile(r"until all is in GDBM: (\d+)/s")


def daemon(binary, bench, scenarios, environment):
    """Messages a second by cell."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as out:
        subprocess.run(
            [sys.executable, bench, "run", "--peer", "slimtad", "--scenario", scenarios, "--out", out.name], check=True,
            stdout=subprocess.DEVNULL, env=environment | {"SLIMTAD": str(binary)})
        for line in pathlib.Path(out.name).read_text().splitlines():
            cell = json.loads(line)
            if cell["failed"]:
                sys.exit(f"compare: {binary}: {cell['scenario']} {cell['cell']}: {cell['failed']} failed, {cell['err']}")
            yield f"{cell['scenario']} {cell['cell']}", cell["msg_s"]


def store(binary, folder, seconds):
    """Messages a second by how many are in flight."""
    done = subprocess.run([binary, "bench", folder, str(seconds)], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if row := ROWS.match(line):
            yield f"store {row[1]} in flight{', thread' if row[2] else ''}", float(row[3])
        elif rate := DRAINLESS.search(line):
            yield "store, nothing delivered", float(rate[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, type=pathlib.Path, help="folder with the build before")
    parser.add_argument("--now", required=True, type=pathlib.Path, help="folder with the build to be measured")
    parser.add_argument("--bench", required=True, help="bench.py")
    parser.add_argument("--folder", required=True, help="on the disk that is measured")
    parser.add_argument("--scenarios", default="S1,S2")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--least", type=float, default=0.97)
    options = parser.parse_args()
    environment = dict(os.environ, BENCH_SECONDS=str(options.seconds), BENCH_WINDOWS="3", BENCH_S2_N="3000")
    builds = {"before": options.before.resolve(), "now": options.now.resolve()}
    rates = {name: collections.defaultdict(list) for name in builds}
    for rep in range(options.reps):
        order = list(builds.items())
        for name, build in order if rep % 2 == 0 else reversed(order):
            measured = [] if options.scenarios == "none" else daemon(
                build / "slimtad", options.bench, options.scenarios, environment)
            for cell, rate in [*measured, *store(build / "storage-worker", options.folder, options.seconds)]:
                rates[name][cell].append(rate)
    print(f"{'':32}{'before':>10}{'now':>10}{'ratio':>8}")
    slow = []
    for cell, before in rates["before"].items():
        before, now = statistics.median(before), statistics.median(rates["now"][cell])
        print(f"{cell:32}{before:10.0f}{now:10.0f}{now / before:8.2f}")
        if now / before < options.least:
            slow.append(cell)
    print(f"required: {options.least} each: {'NO: ' + '; '.join(slow) if slow else 'yes'}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
