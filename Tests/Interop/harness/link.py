"""Links between programs of a test: forwarders of TCP that can be stopped, cut and healed, for networks that fail.

`Links` is the test's side; the forwarders are a process of their own, which this file is too: a test that is busy does not slow
them. Used by Tests/Crash and test_harness.
"""

import asyncio
import socket
import struct
import subprocess
import sys
import threading

try:
    from .machine import NotReady, Program
except ImportError:  # as a program of its own
    NotReady, Program = Exception, object


class Links(Program):
    """Each leads from an address to another one, and has a name.

    Stopped, it is a network that says nothing: connections are taken, and not an octet passes. Cut, all its connections are
    reset, and no new one is taken. Healed, it is as it was; what a stopped one has taken in passes then.
    """

    def __init__(self, place, name="links"):
        super().__init__(place, name)
        self._lock = threading.Lock()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True)
        return self

    def add(self, name, source, target):
        """`source` and `target` are (address, port)."""
        self._say("add", name, *source, *target)

    def stop(self, *names):
        self._say("stop", *names)

    def cut(self, *names):
        self._say("cut", *names)

    def heal(self, *names):
        self._say("heal", *names)

    def _say(self, *words):
        """Returns when it is so."""
        with self._lock:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if answer != "ok\n":
            raise NotReady(f"{self.name}: {' '.join(map(str, words))}: {answer}{self.log[-3000:]}")


class Link:
    """One of them, in the process of the forwarders."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.passes = asyncio.Event()
        self.writers = set()
        self.server = None

    async def open(self):
        if self.server is None:
            self.server = await asyncio.start_server(self._taken, *self.source, reuse_address=True)
        self.passes.set()

    async def cut(self):
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            reset(writer)
        # Those who wait for a stopped link find that it is gone.
        self.passes.set()

    async def _taken(self, reader, writer):
        self.writers.add(writer)
        peer = None
        try:
            await self.passes.wait()
            if writer.is_closing():
                return
            far, peer = await asyncio.open_connection(*self.target)
            self.writers.add(peer)
            if writer.is_closing() or self.server is None:
                return
            ends = [asyncio.create_task(self._pass(*ends)) for ends in ((reader, peer), (far, writer))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        except OSError:
            pass
        finally:
            for one in (writer, peer):
                if one is not None:
                    self.writers.discard(one)
                    one.close()

    async def _pass(self, reader, writer):
        try:
            while octets := await reader.read(1 << 16):
                await self.passes.wait()
                writer.write(octets)
                await writer.drain()
        except OSError:
            pass


def reset(writer):
    """Ends a connection as a host does that knows nothing of it."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()


async def forward():
    """Does what the lines of the standard input say, and answers each; ends with it."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    links = {}
    while line := await lines.readline():
        word, *names = line.decode().split()
        if word == "add":
            name, source, port, target, target_port = names
            links[name] = Link((source, int(port)), (target, int(target_port)))
            await links[name].open()
        for name in names if word != "add" else ():
            if word == "stop":
                links[name].passes.clear()
            elif word == "cut":
                await links[name].cut()
            else:
                await links[name].open()
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(forward())
