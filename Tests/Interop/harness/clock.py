"""The test's side of clock_shim.c: sets the clocks of one daemon, while it runs and between two runs."""

import mmap
import pathlib
import struct
import subprocess

_SHIM = pathlib.Path(__file__).with_name("clock_shim.c")


class Clock:
    """`environment` is what a daemon needs to be under it."""

    def __init__(self, place):
        library, path = place.path / "clock_shim.so", place.path / "clock"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, _SHIM], check=True)
        path.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIM": str(path)}
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 16)
        self._wall = self._running = 0

    def set(self, forward):
        """Somebody sets the wall clock: seconds, which may be negative."""
        self._wall += forward
        self._map[:] = struct.pack("<qq", self._wall, self._running)

    def sleep(self, seconds):
        """The machine was suspended for so long."""
        self._running += seconds
        self.set(seconds)
