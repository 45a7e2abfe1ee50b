"""Power cuts below the file system: the storage alone, on a disk that remembers the order of its writes.

The disk is the rig ../shared/powerloss, which is not part of this repository: a file system in a file of a FUSE file
system; afterwards the disk is rebuilt as it may have been at any moment, mounted, and checked. Needs root and FUSE. With
`plan.SKIP` the rig has to fail.
"""

import ast
import os
import pathlib
import shutil
import subprocess
import tempfile

from ledger import Lost
from plan import ROOT, SKIP, Plan, built

POWERLOSS = pathlib.Path(os.environ.get("POWERLOSS", ROOT.parent / "shared" / "powerloss"))
WORKER = pathlib.Path(os.environ.get("STORAGE_WORKER", ROOT / ".build" / "debug" / "storage-worker"))


def obstacle(kind):
    """Why this cannot run here with file systems of `kind`; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not (POWERLOSS / "powerloss.py").exists():
        return f"no {POWERLOSS}"
    if not os.path.exists("/dev/fuse"):
        return "needs /dev/fuse"
    for program in (f"mkfs.{kind}", "fusermount3", "losetup", "pkg-config"):
        if not shutil.which(program):
            return f"needs {program}"
    if subprocess.run(["losetup", "-f"], capture_output=True).returncode != 0:
        return "needs a loop device"
    if subprocess.run(["pkg-config", "--exists", "fuse3"]).returncode != 0:
        return "needs libfuse3-dev"
    if kind not in pathlib.Path("/proc/filesystems").read_text() and subprocess.run(["modprobe", kind]).returncode != 0:
        return f"the kernel has no {kind}"
    return None


def run(rounds, seed, kind, mutant="", seconds=3):
    """`rounds` cuts of one run of `seconds`; the text of the result. Raises Lost. `mutant`: syncs that are left out."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True).stdout.split()
    rig = built("plrig", POWERLOSS / "plrig.c", *flags, "-lpthread", "-lm")
    # Not below /tmp, which may be in memory: the logs of long runs are large.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="powercut-", dir=ROOT / ".build" / "crash"))
    try:
        worker = folder / "worker"
        settings = ""
        if mutant:
            plan = Plan(folder / "plan")
            plan.set(SKIP, mutant)
            settings = " ".join(f"{name}='{value}'" for name, value in plan.environment.items())
        # Only the work is under the shim: the check is to find what the work did wrong.
        worker.write_text(
            f'#!/bin/sh\n[ "$1" != work ] || exec env {settings} "{WORKER}" "$@"\nexec "{WORKER}" "$@"\n')
        worker.chmod(0o755)
        command = ["unshare", "-m", "python3", POWERLOSS / "powerloss.py", rig, worker, folder / "rig", str(seconds),
                   str(rounds), kind, str(seed), str(60 + rounds * 10)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            raise Lost(f"the rig did not run: {done.stdout[-500:]}{done.stderr[-1500:]}")
        found = ast.literal_eval(lines[0][: lines[0].index("}") + 1])
        trials = found["trials"]
        # ext4 writes its superblock of 1024 octets in place: cut in two, its checksum is wrong, and an operator's fsck
        # takes the backup. That is the file system's own, and rare; it is told, and more of it than rare fails.
        unmountable = found.get("fs mount failed", 0)
        starts = trials - unmountable
        figures = (f"{trials} cuts, {found['acked messages lost']} of {found['acked checked']} acknowledged lost, "
                   f"{found['garbled']} damaged, {found['resurrected']} came back, "
                   f"{starts - found.get('check rc 0', 0)} bad starts, {unmountable} file systems that do not mount")
        if (found["acked messages lost"] or found["garbled"] or found["resurrected"]
                or found.get("check rc 0", 0) != starts or unmountable * 100 > trials
                or trials < rounds or not found["acked checked"]):
            raise Lost(f"{figures}, in {found['crashes with loss']} cuts; seed {seed}\n{done.stdout}")
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)
