"""The real daemon on a file system that is shut down under load: ext4 in an image, and `xfs_io -x -c shutdown`, which
drops what was not synced from memory and journal. Needs root, loop devices and xfs_io.

What went past the page cache survives this without a sync; names, sizes and everything buffered do not: with
`plan.SKIP` the rig has to fail.
"""

import os
import random
import shutil
import subprocess
import time

from ledger import Lost, Place, Rig, give
from plan import SKIP, Plan


def obstacle():
    """Why this cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("mkfs.ext4", "xfs_io", "losetup"):
        if not shutil.which(program):
            return f"needs {program}"
    if subprocess.run(["losetup", "-f"], capture_output=True).returncode != 0:
        return "needs a loop device"
    return None


class Image:
    """An ext4 file system in a file, mounted."""

    def __init__(self, place):
        self.path = place.path / "image"
        self.folder = place.path / "disk"
        self.folder.mkdir()
        with open(self.path, "wb") as file:
            file.truncate(1 << 30)
        subprocess.run(["mkfs.ext4", "-q", self.path], check=True)
        self.mount()
        self.state = self.folder / "state"
        self.state.mkdir(mode=0o700)
        give(self.state)
        os.sync()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.path, self.folder], check=True)

    def shut_down(self):
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", self.folder], check=True)

    def unmount(self):
        subprocess.run(["umount", self.folder], check=True)


def run(rounds, seed, mutant=False):
    """`rounds` shutdowns; the text of the result. Raises Lost."""
    generator = random.Random(seed)
    place = Place()
    image = None
    try:
        image = Image(place)
        rig = Rig(place, state=image.state)
        if mutant:
            plan = Plan(place.path / "plan", str(image.state))
            plan.set(SKIP, "fsync fdatasync")
            rig.daemon.environment = plan.environment
        rig.daemon.start()
        for _ in range(rounds):
            rig.clients.start()
            rig.wait_for_accepted(generator.randrange(1, 150))
            time.sleep(generator.random() * 0.5)
            before = len(rig.clients.accepted)
            image.shut_down()
            # The daemon lives, and takes nothing any more.
            refusals = sum(rig.clients.refusals.values())
            rig.daemon.wait_until(lambda: sum(rig.clients.refusals.values()) > refusals, 20, "a refusal")
            if any(not reply.startswith("45") for reply in rig.clients.refusals):
                raise Lost(f"replies: {dict(rig.clients.refusals)}")
            rig.clients.stop()
            if len(rig.clients.accepted) - before > 400:
                raise Lost("it accepts what it cannot store")
            rig.kill()
            image.unmount()
            image.mount()
            rig.daemon.start()
            rig.check()
        rig.finish()
        replies = ", ".join(f"{count} x {reply}" for reply, count in sorted(rig.clients.refusals.items()))
        return f"{rig.figures}; {replies}"
    finally:
        place.stop_all()
        if image and os.path.ismount(image.folder):
            image.unmount()
        place.remove()
