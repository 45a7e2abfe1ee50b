"""The loop that accepts connections, for whatever stands in for a server."""

import socket
import threading


class Acceptor:
    """Serves each connection in a thread of its own, from the moment it is made. Subclasses say how; what they need for that
    is there before this is made."""

    def __init__(self, server):
        self.server = server
        threading.Thread(target=self._run, daemon=True).start()

    def accepted(self, number):
        """Called for each connection, from 1, in their order."""

    def serve(self, number, connection):
        """The connection is closed behind it, and whatever breaks it off is no fault."""
        raise NotImplementedError

    def stop(self):
        # What waits in accept is not told by a close alone.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()

    def _run(self):
        number = 0
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            number += 1
            self.accepted(number)
            threading.Thread(target=self._one, args=(number, connection), daemon=True).start()

    def _one(self, number, connection):
        with connection:
            try:
                self.serve(number, connection)
            except OSError:
                pass
