"""What operators do: the commands of slimtad that talk to the daemon, and curl on its control socket."""

import json
import os
import pty
import subprocess

from .machine import SLIMTAD
from .slimtad import OK, run_slimtad

NOBODY_THERE = "127.0.0.9"


def curl(daemon, path, *arguments, prefix=()):
    """The status and the JSON that the control socket answers."""
    result = subprocess.run(
        [*prefix, "curl", "-s", "-w", "\n%{http_code}", "--unix-socket", daemon.runtime / "control", *arguments,
         f"http://slimtad{path}"], capture_output=True, text=True, timeout=30)
    body, _, status = result.stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None


def command(daemon, *arguments, stdin="", status=OK):
    """What a command prints; it has to end with `status`."""
    result = run_slimtad(*arguments, "--config", daemon.configuration, stdin=stdin)
    assert result.returncode == status, (arguments, result.returncode, result.stdout, result.stderr)
    return result.stdout if status == OK else result.stderr


def on_terminal(daemon, *arguments, answer):
    """A command on a terminal, where `answer` is typed: exit status, and all that is shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SLIMTAD, *arguments, "--config", daemon.configuration], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    while True:
        try:
            octets = os.read(ours, 65536)
        except OSError:  # the last one who had the terminal has closed it
            break
        if not octets:
            break
        shown += octets
    os.close(ours)
    return process.wait(timeout=30), shown.decode()


def submit_many(daemon, count, recipient=f"r@[{NOBODY_THERE}]", sender="sender@origin.test"):
    """Messages on one session."""
    with daemon.connect() as client:
        for number in range(count):
            client.sendmail(sender, [recipient], f"Subject: {number}\r\n\r\nbody {number}\r\n")


def listed(daemon, *filters):
    """The ids of the messages that a filter means."""
    return [item["id"] for item in json.loads(command(daemon, "queue", "list", "--json", *filters))]
