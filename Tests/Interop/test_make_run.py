"""`make run`, as somebody who has just cloned the repository: its one line, copied from the screen, submits a message."""

import os
import re
import shutil
import signal
import subprocess

from harness.machine import ROOT, SLIMTAD, Program, free_ports, wait_until
from harness.messages import prepended


def test_the_printed_line_submits_a_message(place):
    """In a tree of its own and on ports of its own, so that a developer's `make run` stays as it is."""
    ports = dict(zip(("SUBMISSION_PORT", "SUBMISSIONS_PORT"), map(str, free_ports(2))))
    (place.path / "etc").mkdir()
    shutil.copy(ROOT / "etc/run-here", place.path / "etc/run-here")
    os.symlink(SLIMTAD, place.path / "slimtad")
    run = Program(place, "make-run")
    run.launch([place.path / "etc/run-here", "slimtad"], env=ports)
    run.wait_until(lambda: "curl" in run.log, timeout=30, what="the line to copy")
    (line,) = [line.strip() for line in run.log.splitlines() if "curl" in line]
    folder = re.search(r"arrives in (\S+)/\.run/mail/new;", run.log)[1]
    assert folder == str(place.path)

    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    box = place.path / ".run/mail/new"
    (path,) = wait_until(lambda: list(box.glob("*")), what="a file in the maildir")
    sent = b"From: me@here.test\r\nTo: you@there.test\r\nSubject: Hello\r\n\r\nHello, slimtad.\r\n"
    names = [name for name, _ in prepended(path.read_bytes(), sent)]
    assert {"received", "date", "message-id"} <= set(names)

    run.signal(signal.SIGTERM)
    assert run.wait() == 0
    # Once more: the same user and password.
    again = Program(place, "make-run-again")
    again.launch([place.path / "etc/run-here", "slimtad"], env=ports)
    again.wait_until(lambda: line in again.log, timeout=30, what="the same line")
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
