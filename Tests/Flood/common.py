"""What all floods have in common: the command line, a place for what they start, and the last line. Not a flood itself."""

import argparse
import os
import pathlib
import sys


def main(description, flood, **options):
    """The exit status of a script: `flood(place, arguments)` prints its figures, and returns whether they are within its
    bounds.

    `options` are those of the command line beside --slimtad, with their defaults. The harness can be imported from `flood`
    on: it asks for the program when it is.
    """
    name = pathlib.Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--slimtad", required=True, help="the program")
    for option, default in options.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    arguments = parser.parse_args()
    os.environ["SLIMTAD"] = str(pathlib.Path(arguments.slimtad).resolve())
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))
    from harness.machine import Place

    place, good = Place(), False
    try:
        good = flood(place, arguments)
    finally:
        place.stop_all()
        if good:
            place.remove()
        else:
            print(f"kept: {place.path}")
    print(f"{name}: within the bounds" if good else f"{name}: OUT OF BOUNDS")
    return 0 if good else 1
