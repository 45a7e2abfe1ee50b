"""The rig's side of disk_shim.c: says what the disk of a daemon does, while it runs. Used by the rigs beside it."""

import mmap
import os
import pathlib
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = ROOT / ".build" / "crash"

NOTHING, FAIL, SKIP, LATE = range(4)
CALLS = {"write": 1, "fdatasync": 2, "fsync": 4, "rename": 8, "ftruncate": 16, "open": 32}
ALWAYS = 1 << 30
_LAYOUT = struct.Struct("<IIIiiII228s")


def built(name, source, *flags):
    """The path of a C program or library, compiled if its source is newer."""
    BUILT.mkdir(parents=True, exist_ok=True)
    target = BUILT / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-w", "-o", target, source, *flags], check=True)
    return target


class Plan:
    """What the shim does from now on. `environment` is what a process needs to be under it."""

    def __init__(self, path, folder=""):
        path.write_bytes(bytes(_LAYOUT.size))
        path.chmod(0o666)
        shim = built("disk_shim.so", ROOT / "Tests/Crash/disk_shim.c", "-shared", "-fPIC", "-ldl")
        self.environment = {"LD_PRELOAD": str(shim), "DISK_SHIM": str(path)}
        self.folder = os.fsencode(folder)
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self.set(NOTHING)

    def set(self, what, call="", error=0, first=1, count=1):
        """`call` are names of CALLS, with spaces between; nothing is counted before this."""
        fields = [sum(CALLS[name] for name in call.split()), error, first, count, 0, 0, self.folder]
        # Off while it changes; `what` comes last.
        self._map[:4] = struct.pack("<I", NOTHING)
        self._map[4:] = _LAYOUT.pack(NOTHING, *fields)[4:]
        self._map[:4] = struct.pack("<I", what)

    @property
    def failed(self):
        """How many calls failed since `set`."""
        return _LAYOUT.unpack(self._map[:])[6]
