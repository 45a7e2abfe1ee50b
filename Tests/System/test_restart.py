"""However slimtad ends, it comes back, no connection is refused and no message is lost."""

import ctypes
import os
import pathlib
import re
import signal

from machine import Load, submit, wait_until


def all_arrive(machine, load, fact, what):
    """Everything that was acknowledged is at the MX, and nothing was refused. A message may be there twice: a crash
    between the MX's 250 and the record of it repeats that delivery."""
    assert load.refused == []
    assert len(load.acknowledged) > 0
    wanted = set(load.acknowledged)

    def missing():
        return wanted - machine.delivered().keys()

    wait_until(lambda: not missing(), 60, "all acknowledged messages at the MX")
    found = machine.delivered()
    more = sum(found[mark] - 1 for mark in wanted)
    fact(
        f"{what}: {len(wanted)} acknowledged, all delivered, {more} of them again; no connection refused, "
        f"{len(load.broken)} broken off without a 250")
    return more


def test_restart_under_load(machine, fact):
    with Load(machine) as load:
        for _ in range(3):
            load.wait_for(50)
            before = machine.pid()
            machine.run("systemctl restart slimtad")
            assert machine.pid() not in (0, before)
        load.wait_for(50)
    # Who is told to stop finishes what it delivers.
    assert all_arrive(machine, load, fact, "3 restarts under load") == 0


def test_kill_under_load(machine, fact):
    with Load(machine) as load:
        for _ in range(3):
            load.wait_for(50)
            before = machine.pid()
            machine.run("systemctl kill --kill-who=main -s KILL slimtad")
            wait_until(lambda: machine.pid() not in (0, before), what="another process")
        load.wait_for(50)
    all_arrive(machine, load, fact, "3 kills under load")


def test_stop_closes_the_ports(machine):
    machine.run("systemctl stop slimtad")
    assert machine.run("ss -Hltn 'sport = :587 or sport = :465 or sport = :2587'") == ""
    machine.run("systemctl start slimtad")
    machine.connect().quit()


def test_port_that_the_configuration_no_longer_has_is_closed(machine):
    machine.write(
        "/etc/slimta/slimta.conf", machine.configuration.replace("127.0.0.1:2587", "127.0.0.1:2588"))
    machine.run("systemctl restart slimtad")
    assert "2587" not in machine.run("ss -Hltn")
    machine.connect(2588, tls=False).quit()


# The watchdog

ATTACH, DETACH = 16, 17  # ptrace(2)
ALL = 0x40000000  # __WALL, waitpid(2)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Hung:
    """One thread of a process, stopped in a system call: the others run on. Elsewhere it could hold a lock, and then they
    would not."""

    def __init__(self, thread):
        self.thread = thread
        wait_until(self.stop, 10, "a system call")

    def stop(self):
        if _libc.ptrace(ATTACH, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(self.thread, ALL)
        if not pathlib.Path(f"/proc/{self.thread}/syscall").read_text().startswith("-1"):
            return True
        _libc.ptrace(DETACH, self.thread, None, None)
        return False

    def reap(self):
        """Takes note of its death, as debuggers must: until then its process is not gone. False: it lives."""
        try:
            thread, status = os.waitpid(self.thread, os.WNOHANG | ALL)
        except ChildProcessError:
            return True
        if thread and os.WIFSTOPPED(status):
            _libc.ptrace(DETACH, self.thread, None, signal.SIGKILL)
        return bool(thread)


def threads(process, pattern):
    return [
        int(path.parent.name) for path in sorted(pathlib.Path(f"/proc/{process}/task").glob("*/comm"))
        if re.match(pattern, path.read_text())]


def hang(machine, pattern, fact):
    """Hangs one thread until the watchdog has ended the process and another one runs."""
    machine.drop_in("[Service]\nWatchdogSec=4\nTimeoutAbortSec=3\n")
    machine.run("systemctl restart slimtad")
    before = machine.pid()
    found = threads(machine.host_pid(), pattern)
    assert found, f"no thread is called {pattern}"
    with Load(machine, clients=4) as load:
        load.wait_for(20)
        mark = machine.cursor()
        hung = Hung(found[0])
        wait_until(hung.reap, 60, "the thread's end")
        wait_until(lambda: machine.pid() not in (0, before), 60, "another process")
        # All clients are served again, those too that hung.
        load.wait_for(50)
    all_arrive(machine, load, fact, f"hung {pattern}")
    return mark


def test_hung_event_loop_is_killed_and_mail_goes_on(machine, fact):
    mark = hang(machine, "NIO-ELT", fact)
    machine.wait_for_journal("Watchdog timeout", mark)
    machine.wait_for_journal("part of the daemon hangs.*event loop", mark)


def test_hung_journal_writer_is_killed_and_mail_goes_on(machine, fact):
    mark = hang(machine, "storage-writer", fact)
    machine.wait_for_journal("Watchdog timeout", mark)
    machine.wait_for_journal("part of the daemon hangs.*journal writer", mark)


def test_watchdog_leaves_an_idle_daemon_alone(machine):
    machine.drop_in("[Service]\nWatchdogSec=2\n")
    machine.run("systemctl restart slimtad")
    before = machine.pid()
    machine.run("sleep 7")
    assert machine.pid() == before
    with machine.connect() as client:
        submit(client, "idle")


def test_crash_leaves_a_readable_backtrace(machine):
    mark = machine.cursor()
    machine.run("systemctl kill --kill-who=main -s ABRT slimtad")
    machine.wait_for_journal(r"Program crashed: Aborted", mark)
    machine.wait_for_journal(r"in slimtad$|slimtad_main", mark)
    wait_until(lambda: machine.run("systemctl is-active slimtad; true").strip() == "active", what="the restart")
    machine.connect().quit()
