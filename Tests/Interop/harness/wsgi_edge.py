"""The ancestor's HTTP edge (WsgiEdge of python-slimta) as a server, with the ancestor's own queue behind it.

As a program of its own it is `python -m harness.wsgi_edge ADDRESS PORT FOLDER`: each message that its queue delivers becomes
a file in FOLDER. A recipient whose local part is `unknown` is refused.
"""

import base64
import json
import pathlib
import sys

from .machine import Program, wait_until


class WsgiEdge(Program):
    """The server in a process of its own: gevent wants to have it all for itself."""

    def __init__(self, place, address, port, name="wsgi-edge"):
        super().__init__(place, name)
        self.address, self.port = address, port
        self.folder = place.folder(name)

    def start(self):
        tests = pathlib.Path(__file__).resolve().parents[1]
        self.launch(
            [sys.executable, "-m", "harness.wsgi_edge", self.address, str(self.port), self.folder],
            env={"PYTHONPATH": str(tests)})
        self.wait_until(lambda: "listens" in self.log, timeout=20, what="the ancestor's edge")
        return self

    @property
    def messages(self):
        """What was delivered: dictionaries with sender, recipients, client name and content."""
        found = [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.json"))]
        return [one | {"content": base64.b64decode(one["content"])} for one in found]

    def wait_for(self, count, timeout=20.0):
        wait_until(lambda: len(self.messages) >= count, timeout, f"{count} messages at the ancestor's edge")
        return self.messages


def serve(address, port, folder):
    from gevent import monkey
    monkey.patch_all()
    from slimta.edge.wsgi import WsgiEdge as Edge, WsgiValidators, _build_http_response
    from slimta.queue import Queue
    from slimta.queue.dict import DictStorage
    from slimta.relay import Relay
    from slimta.smtp.reply import Reply

    class Notebook(Relay):
        count = 0

        def attempt(self, envelope, attempts):
            header, body = envelope.flatten()
            note = {
                "sender": envelope.sender, "recipients": envelope.recipients, "name": envelope.client["name"],
                "content": base64.b64encode(header + body).decode(),
            }
            Notebook.count += 1
            file = folder / f"{Notebook.count:06}.json"
            file.with_suffix(".part").write_text(json.dumps(note))
            file.with_suffix(".part").rename(file)

    class Validators(WsgiValidators):
        def validate_recipient(self, recipient):
            if recipient.startswith("unknown@"):
                raise _build_http_response(Reply("550", "5.1.1 No such user"))

    queue = Queue(DictStorage({}, {}), Notebook())
    queue.start()
    server = Edge(queue, hostname="ancestor.test", validator_class=Validators).build_server((address, port))
    server.start()
    print("listens", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
