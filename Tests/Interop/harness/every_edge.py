"""A slimtad with an edge of each kind, whose mail goes into a maildir: for what holds whichever way a message comes in."""

from .http import PORT
from .machine import IS_ROOT, give, wait_until
from .slimtad import Slimtad


def every_edge(place, http=None, **settings):
    """The daemon, not started: its mail comes into `box`, files are dropped into `folder_of_files` where we are root.

    `http` are further keys of the edge for HTTP, `settings` further tables.
    """
    box = place.path / "box"
    place.path.chmod(0o777)
    relay = {"type": "maildir", "path": str(box), "port": None, "connect_timeout": None, "idle_timeout": None,
             "allow_networks": None}
    daemon = Slimtad(place, relay=relay, **settings)
    place.slimtads.append(daemon)
    daemon.box = box / "new"
    daemon.folder_of_files = place.folder("pickup")
    daemon.folder_of_files.chmod(0o3730)
    # AUTH in clear is for what nobody else can reach.
    edges = [{"name": "http", "type": "http", "listen": [f"{daemon.address}:{PORT}"], "tls": "none", "auth": "required",
              "plaintext_auth": True, **(http or {})},
             {"name": "sendmail", "type": "sendmail", "listen": [f"unix:{daemon.runtime}/sendmail"]}]
    if IS_ROOT:
        edges.append({"name": "pickup", "type": "directory", "path": str(daemon.folder_of_files)})
    daemon.change(edge=[*daemon.settings["edge"], *edges])
    give(daemon.folder_of_files)
    return daemon


def delivered(daemon, subject):
    """The message with this subject, when it is in the maildir, as octets."""
    seen = set()

    def find():
        for path in daemon.box.iterdir() if daemon.box.exists() else []:
            if path.name not in seen:
                octets = path.read_bytes()
                if f"Subject: {subject}\r\n".encode() in octets:
                    return octets
                seen.add(path.name)
    return wait_until(find, what=f"a message with the subject {subject}")
