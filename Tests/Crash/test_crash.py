"""The short versions of the rigs, for `make test`: each prints its line, as with `make crash`, and its seed."""

import random
import time

import pytest

from crash import rigs

SEED = random.SystemRandom().randrange(1, 1 << 20)


@pytest.mark.parametrize("name, obstacle, run", [pytest.param(*rig, id=rig[0]) for rig in rigs(0, SEED, short=True)])
def test_rig(name, obstacle, run):
    if obstacle:
        pytest.skip(obstacle)
    begun = time.monotonic()
    print(f"\n{name}: seed {SEED}")
    print(f"{name}: ok, {run()} ({time.monotonic() - begun:.0f} s)")
