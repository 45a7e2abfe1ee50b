"""What quotas cost: the processor time of a message with [quota] and without it, in one run of one daemon.

    make bench-quotas      # or: quotas.py --slimtad BINARY [--seconds N] [--reps N] [--connections N] [--octets N]

The same process, the same clients: a reload between turns puts the table in and takes it out, each time in another order.
With it every counter has limits of every level, none of which is reached. Prints the medians, and that of the differences
of the turns with how far they scatter. Nothing is asserted.
"""

import argparse
import statistics
import sys

from edges import SUBMISSION, loaded, measure

ENDLESS = {"per_hour": 999_999_999, "per_day": 1_000_000_000}
LEVEL = {name: ENDLESS for name in ("messages", "recipients", "new_recipients", "refused")} | {
    "networks": {"per_hour": 254, "per_day": 255}}
QUOTA = {"learning": "0s", "learning_recipients": 0, "soft": LEVEL, "hard": LEVEL, "breaker": LEVEL}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slimtad", required=True)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--reps", type=int, default=15)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--octets", type=int, default=4096)
    options = parser.parse_args()
    with loaded(options.slimtad, "error", ("smtp", SUBMISSION)) as (load, daemon, run_slimtad):
        def turn(is_counting):
            daemon.settings.pop("quota", None)
            daemon.change(**({"quota": QUOTA} if is_counting else {}))
            assert run_slimtad("reload", "--config", daemon.configuration).returncode == 0
            return measure(load, daemon, "smtp", SUBMISSION, options.connections, options)

        for is_counting in (True, False):
            turn(is_counting)
        found = {True: [], False: []}
        for rep in range(options.reps):
            for is_counting in ((True, False) if rep % 2 else (False, True)):
                found[is_counting].append(turn(is_counting))
    for is_counting, name in ((False, "without [quota]"), (True, "with [quota]")):
        rate, cost, _ = (statistics.median(column) for column in zip(*found[is_counting]))
        print(f"{name:16} {rate:8.0f} messages a second, {cost * 1000:7.1f} us of the processor a message")
    more = sorted((with_it[1] - without[1]) * 1000 for with_it, without in zip(found[True], found[False]))
    middle, least, most = statistics.median(more), more[len(more) // 4], more[-1 - len(more) // 4]
    cost = statistics.median(one[1] for one in found[False]) * 1000
    print(f"quotas: {middle:+.1f} us a message ({middle / cost:+.1%}), half of {options.reps} turns between {least:+.1f} and "
          f"{most:+.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
