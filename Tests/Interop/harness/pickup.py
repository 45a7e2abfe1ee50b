"""A pickup folder, a slimtad that takes files from it into a maildir, and writers as people have them."""

import email
import email.policy
import os
import pathlib
import re

from .machine import wait_until

NAME = "pickup"


class Pickup:
    """slimtad with an edge of type "directory" beside the usual ones; all mail goes into `box`.

    `edge` are further keys of the edge, `settings` further tables.
    """

    def __init__(self, place, make_slimtad, edge=None, **settings):
        self.folder = place.folder(NAME)
        self.folder.chmod(0o3730)
        # Where writers make their files: on the same file system.
        self.outside = place.folder("outside")
        self.box = place.path / "box"
        relay = {"type": "maildir", "path": str(self.box), "port": None, "connect_timeout": None,
                 "idle_timeout": None, "allow_networks": None}
        place.path.chmod(0o777)
        self.slimtad = make_slimtad(relay=relay, **settings)
        self.table = {"name": NAME, "type": "directory", "path": str(self.folder), **(edge or {})}
        self.usual = list(self.slimtad.settings["edge"])
        self.slimtad.change(edge=[*self.usual, self.table])

    def start(self):
        """Started, and ready: the folder is watched from then on."""
        self.slimtad.start()
        self.slimtad.wait_for_log(" ready ")
        return self

    def is_watched(self):
        watch = f" ino:{self.folder.stat().st_ino:x} "
        for path in pathlib.Path(f"/proc/{self.slimtad.process.pid}/fdinfo").iterdir():
            try:
                if any(line.startswith("inotify wd:") and watch in line for line in path.read_text().splitlines()):
                    return True
            except FileNotFoundError:
                pass  # closed meanwhile
        return False

    def change(self, **keys):
        """Other keys of the edge, at the next reload."""
        self.table |= keys
        self.slimtad.change(edge=[*self.usual, self.table])

    def write(self, name, text, folder=None, owner=0, mode=0o644):
        """A file outside of the folder, or in `folder`."""
        path = (folder or self.outside) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        if owner:
            os.chown(path, owner, owner)
        return path

    def drop(self, name, text, **options):
        """As mv does it."""
        os.rename(self.write(name, text, **options), self.folder / name)

    def left(self):
        """What is in the folder, and in `taken`."""
        return sorted(
            path.name for folder in (self.folder, self.folder / "taken") if folder.exists()
            for path in folder.iterdir() if not path.is_dir())

    def delivered(self, count):
        """The messages in the maildir, when there are so many."""
        new = self.box / "new"
        wait_until(lambda: new.exists() and len(list(new.iterdir())) >= count, what=f"{count} messages in {new}")
        found = [path.read_bytes() for path in new.iterdir()]
        assert len(found) == count, [re.findall(rb"Subject: .*", message) for message in found]
        return [email.message_from_bytes(message, policy=email.policy.default) for message in found]

    def failed(self, name):
        """The reason beside a file that was refused, when it is there."""
        reason = self.folder / "failed" / f"{name}.reason"
        wait_until(reason.exists, what=f"{reason}; {self.left()}")
        assert pathlib.Path(str(reason).removesuffix(".reason")).exists()
        return reason.read_text()

    def wait_until_empty(self, timeout=15.0):
        wait_until(lambda: not self.left(), timeout, f"an empty folder, not {self.left()[:20]}")


def mail(subject, to="someone@one.test", sender="sender@origin.test", end="\n", body="Hello,\n\nthis is it.\n"):
    """A message as programs write it to files."""
    return f"From: {sender}\nTo: {to}\nSubject: {subject}\n\n{body}".replace("\n", end)
