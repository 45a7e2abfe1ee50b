"""clamav-milter and clamd of Debian from the unpacked packages (.ci/deps), with one signature instead of a database of viruses.

It has `to`, as `[[milter]] to` takes it.
"""

from .machine import DEBIAN, IS_ROOT, Program, free_ports

WORD = "these words are what the only signature of this database is about"
NAME = "Slimtad.Test"
ENVIRONMENT = {
    "LD_LIBRARY_PATH": ":".join(str(DEBIAN / name / "usr/lib/x86_64-linux-gnu") for name in ("libclamav12", "libmspack0"))}


class Clamav(Program):
    """Whatever has WORD in it is infected. `settings` are further ones of clamav-milter.conf(5)."""

    def __init__(self, place, **settings):
        super().__init__(place, "clamav-milter")
        (self.port,) = free_ports(1)
        self.to = f"127.0.0.1:{self.port}"
        self.clamd = Program(place, "clamd")
        self.folder, self.settings = place.folder("clamav"), settings

    def start(self):
        (self.folder / "db").mkdir()
        (self.folder / "db/test.ndb").write_text(f"{NAME}:0:*:{WORD.encode().hex()}\n")
        user = {"User": "root"} if IS_ROOT else {}
        self._launch(
            self.clamd, "clamav-daemon/usr/sbin/clamd", LocalSocket=self.folder / "clamd", DatabaseDirectory=self.folder / "db",
            **user)
        self.clamd.wait_until((self.folder / "clamd").exists, what="clamd")
        self._launch(
            self, "clamav-milter/usr/sbin/clamav-milter", MilterSocket=f"inet:{self.port}@127.0.0.1",
            ClamdSocket=f"unix:{self.folder / 'clamd'}", OnFail="Defer", AddHeader="Replace", **user, **self.settings)
        return self

    def _launch(self, program, path, **settings):
        file = self.folder / f"{program.name}.conf"
        file.write_text("Foreground yes\n" + "".join(f"{name} {value}\n" for name, value in settings.items()))
        program.launch([DEBIAN / path, "-c", file], env=ENVIRONMENT)
