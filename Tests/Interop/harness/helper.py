"""A helper of slimtad in the place of one that has died."""

import os
import socket
import subprocess

from .machine import SLIMTAD, Program, give, must_exist


class Helper(Program):
    """As systemd starts it: with a socket that listens, and root's rights. Its name is "pipe" or "pam", as its socket's."""

    def __init__(self, daemon, name):
        super().__init__(daemon.place, "helper")
        path = daemon.runtime / name
        path.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            give(path)
            listener.listen(10)
            must_exist(SLIMTAD)
            lifeline, self.lifeline = os.pipe()
            self.process = subprocess.Popen(
                [SLIMTAD, f"{name}-helper", "--config", daemon.configuration, "--inherited"], stdin=lifeline,
                preexec_fn=lambda: os.dup2(listener.fileno(), 3), close_fds=False, start_new_session=True)
            os.close(lifeline)
