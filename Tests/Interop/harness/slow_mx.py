"""An exchanger that takes its time: it says the next thing only after `pause` has returned."""

import socketserver
import threading

from .machine import MX_PORT, new_address, wait_until


class SlowMX:
    """Takes everything, and calls `pause()` before the greeting and before each reply, on the connection's own thread.

    `open` sessions there are now, up to QUIT, `most` there ever were; `taken` has the recipients of what was taken.
    """

    def __init__(self, place, pause):
        self.address = new_address()
        self.pause = pause
        self.most = 0
        self._sessions = set()
        self.taken = []
        self._lock = threading.Lock()
        self._server = None
        place.programs.append(self)

    @property
    def open(self):
        with self._lock:
            return len(self._sessions)

    def start(self):
        mx = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                mx._serve(self.rfile, self.wfile)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        socketserver.ThreadingTCPServer.daemon_threads = True
        self._server = socketserver.ThreadingTCPServer((self.address, MX_PORT), Session)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def kill(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for(self, count, timeout=60.0):
        return wait_until(lambda: len(self.taken) >= count, timeout, f"{count} recipients at a slow exchanger")

    def _serve(self, lines, out):
        with self._lock:
            self._sessions.add(lines)
            self.most = max(self.most, len(self._sessions))
        try:
            self._talk(lines, out)
        except OSError:
            pass
        finally:
            self._ended(lines)

    def _ended(self, lines):
        with self._lock:
            self._sessions.discard(lines)

    def _talk(self, lines, out):
        recipients = []
        self._say(out, "220 slow.test")
        while line := lines.readline():
            verb = line.split(b" ")[0].strip().upper()
            if verb == b"RCPT":
                recipients.append(line.split(b"<")[1].split(b">")[0].decode())
            if verb == b"DATA":
                self._say(out, "354 go on")
                while (line := lines.readline()) and line != b".\r\n":
                    pass
                if not line:
                    return
            if verb == b"QUIT":
                # Before the client can know, and begin another one.
                self._ended(lines)
            self._say(out, "221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"DATA":
                with self._lock:
                    self.taken += recipients
                recipients = []
            if verb == b"QUIT":
                return

    def _say(self, out, reply):
        self.pause()
        out.write(reply.encode() + b"\r\n")
        out.flush()
