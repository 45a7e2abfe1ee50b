"""A disk that is full or read-only: clients are told to try again, the operator why, and nothing is lost."""

import pathlib
import subprocess
import tempfile

import pytest

from conftest import set_up
from machine import Machine, submit, wait_until


class Disk:
    """An ext4 file system of its own, which becomes read-only at its first error, as that of a server should."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="slimtad-disk-", dir="/var/tmp"))
        self.image, self.path = self.folder / "image", self.folder / "mounted"
        self.path.mkdir()
        self.path.parent.chmod(0o755)
        self._run("truncate", "--size=500M", self.image)
        self._run("mkfs.ext4", "-q", "-m", "0", self.image)
        self._mount()

    def _mount(self):
        self._run("mount", "-o", "loop,errors=remount-ro", self.image, self.path)
        source = self._run("findmnt", "--noheadings", "--output", "SOURCE", self.path).strip()
        self.trigger = pathlib.Path("/sys/fs/ext4") / source.removeprefix("/dev/") / "trigger_fs_error"

    def break_down(self):
        """As if a block could not be read."""
        self.trigger.write_text("a test\n")

    def mend(self):
        """As an operator would; nothing uses it meanwhile."""
        self._run("umount", self.path)
        # 1: errors corrected.
        assert subprocess.run(["e2fsck", "-f", "-y", self.image], capture_output=True).returncode in (0, 1)
        self._mount()

    def remove(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", self.folder], check=True)

    def _run(self, *command):
        return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def disk():
    disk = Disk()
    yield disk
    disk.remove()


@pytest.fixture(scope="module")
def machine(disk, deb):
    """With /var/lib/slimtad on that disk."""
    machine = Machine("--bind", f"{disk.path}:/var/lib/slimtad")
    set_up(machine, deb)
    machine.run("systemctl restart slimtad")
    yield machine
    machine.destroy()


def answer(machine):
    """What a client is told that wants to submit: the first reply that is not 250."""
    with machine.connect() as client:
        code, reply = client.mail("a@origin.test")
        if code == 250:
            client.rcpt("b@example.test")
            code, reply = client.data("X-Test: answer\r\n\r\nx\r\n")
        return code, reply.decode()


def test_full_disk(machine):
    mark = machine.cursor()
    assert answer(machine)[0] == 250
    machine.run(
        "fallocate -l $(($(df --output=avail -B1 /var/lib/slimtad | tail -n 1) - 20000000)) /var/lib/slimtad/filler")
    wait_until(lambda: answer(machine)[0] == 452, what="452")
    assert "4.3.1" in answer(machine)[1]
    machine.wait_for_journal("disk is full, nothing is accepted", mark)
    machine.run("rm /var/lib/slimtad/filler")
    wait_until(lambda: answer(machine)[0] == 250, what="250")
    machine.wait_for_journal("disk has room again", mark)


def test_disk_that_becomes_read_only(machine, disk):
    machine.configure("queue", deliver="false")
    machine.run("systemctl restart slimtad")
    mark = machine.cursor()
    with machine.connect() as client:
        submit(client, "before the error")
    disk.break_down()
    wait_until(lambda: answer(machine)[0] == 451, what="451")
    machine.wait_for_journal("the queue's disk failed, nothing is accepted.*Read-only", mark)
    # It runs on and says so, and a restart that cannot work says why.
    assert machine.run("systemctl is-active slimtad").strip() == "active"
    assert machine.execute("systemctl restart slimtad").returncode != 0
    machine.wait_for_journal("Read-only file system", mark)
    machine.configure("queue", deliver="true")
    # What is done about it: the machine goes down, the disk is checked, the machine comes up with slimtad.
    machine.stop()
    disk.mend()
    machine.boot_again("--bind", f"{disk.path}:/var/lib/slimtad")
    machine.start_mx()
    wait_until(lambda: "before the error" in machine.delivered(), what="the message at the MX")
