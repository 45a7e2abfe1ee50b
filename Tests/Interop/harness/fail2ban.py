"""Whom fail2ban would ban for lines of slimtad's log, by the filter that comes with it. Runs the unpacked package."""

import os
import shutil
import subprocess

from .machine import DEBIAN, ROOT

PACKAGE = DEBIAN / "fail2ban"


def addresses(place, log):
    """The addresses that fail2ban-regex finds, in the order of the lines."""
    folder = place.folder("fail2ban")
    settings = folder / "etc"
    if not settings.exists():
        shutil.copytree(PACKAGE / "etc/fail2ban", settings)
    shutil.copy(ROOT / "etc/fail2ban/slimtad.conf", settings / "filter.d")
    lines = folder / "log"
    lines.write_text(log)
    found = subprocess.run(
        ["/usr/bin/python3", PACKAGE / "usr/bin/fail2ban-regex", "-c", settings, "-o", "ip", lines,
         settings / "filter.d/slimtad.conf"],
        env=os.environ | {"PYTHONPATH": str(PACKAGE / "usr/lib/python3/dist-packages")}, cwd=folder, check=True,
        capture_output=True, text=True, timeout=60)
    return found.stdout.split()
