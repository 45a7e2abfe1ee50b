"""SIGKILL under load: the daemon dies while clients submit and the sink takes, and while it recovers and checkpoints.

SIGKILL leaves what was written in the system's page cache: a sync that is left out cannot be seen here. What can is a
reply that comes before its commit: with `plan.LATE` the rig has to fail.
"""

import random
import time

from ledger import Place, Rig
from plan import LATE, Plan


def run(rounds, seed, mutant=False):
    """`rounds` kills; the text of the result. Raises Lost."""
    generator = random.Random(seed)
    place = Place()
    try:
        rig = Rig(place)
        if mutant:
            plan = Plan(place.path / "plan", str(rig.daemon.state))
            plan.set(LATE)
            rig.daemon.environment = plan.environment
        rig.daemon.start()
        rig.clients.start()
        while rig.kills < rounds:
            rig.wait_for_accepted(generator.randrange(1, 60))
            time.sleep(generator.random() * 0.3)
            rig.kill()
            # While it starts: recovery, and the checkpoint of what the journal has.
            while rig.kills < rounds and generator.random() < 0.4:
                rig.daemon.start(wait=False)
                time.sleep(generator.random() * 0.4)
                rig.kill()
            rig.daemon.start()
            if rig.kills % 10 == 0 or mutant:
                rig.clients.stop()
                rig.check()
                rig.clients.start()
        rig.clients.stop()
        rig.check()
        rig.finish()
        return rig.figures
    finally:
        place.stop_all()
        place.remove()
