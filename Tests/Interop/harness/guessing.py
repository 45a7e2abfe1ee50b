"""Who guesses passwords: many connections of a few addresses, each with one AUTH under way, again and again.

`Tests/Flood/guessing.py` and `test_guessing.py` attack with it. And clients with addresses of their own.
"""

import asyncio
import base64
import collections
import itertools
import threading

from .wire import Wire


class Guessers:
    """Connections from `sources` to one address; every AUTH is for `login`, each with a password of its own.

    `replies` counts the codes that came for AUTH, each with the second in which it came: (second, code). A connection that
    the server ends is made again at once.
    """

    def __init__(self, address, port, sources, connections, login):
        self.address, self.port, self.sources, self.login = address, port, sources, login
        self.connections = connections
        self.replies = collections.Counter()
        self.asked = 0
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._main = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(lambda: self._main and self._main.cancel())
        self._thread.join()

    def count(self, code, since=0):
        return sum(number for (second, found), number in self.replies.items() if found == code and second >= since)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._all())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        self._loop.close()

    async def _all(self):
        self._start = self._loop.time()
        await asyncio.gather(*(
            self._guess(self.sources[number % len(self.sources)]) for number in range(self.connections)))

    async def _guess(self, source):
        while True:
            writer = None
            try:
                reader, writer = await asyncio.open_connection(self.address, self.port, local_addr=(source, 0))
                await reply(reader)
                writer.write(b"EHLO guess.test\r\n")
                await reply(reader)
                while True:
                    password = f"guess {next(self._numbers)}"
                    response = base64.b64encode(f"\0{self.login}\0{password}".encode())
                    writer.write(b"AUTH PLAIN " + response + b"\r\n")
                    self.asked += 1
                    code = await reply(reader)
                    self.replies[int(self._loop.time() - self._start), code] += 1
            except (OSError, EOFError, ValueError):
                await asyncio.sleep(0.05)
            finally:
                if writer:
                    writer.close()


def through_proxy(daemon, address, port=2525):
    """A connection to an edge with STARTTLS of a client that a proxy tells of, with TLS if it is served; its first line."""
    wire = Wire(daemon.address, port, daemon.certificate)
    kind = "TCP6" if ":" in address else "TCP4"
    wire.send(f"PROXY {kind} {address} {'2001:db8:f::1' if ':' in address else '192.0.2.1'} 40000 25\r\n".encode())
    first = wire.line()
    if first.startswith("220 "):
        wire.ehlo()
        assert wire.ask("STARTTLS").startswith("220 ")
        wire.tls()
        wire.ehlo()
    return wire, first


async def reply(reader):
    """The code of the next reply."""
    while True:
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if line[3:4] != b"-":
            return int(line[:3])
