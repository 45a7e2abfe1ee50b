"""Signals: none that others can send ends the daemon by accident, from its first instruction on."""

import pathlib
import shutil
import signal
import subprocess

import pytest

from harness.slimtad import run_slimtad

FAULTS = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}
ENDS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
HARMLESS = sorted(set(signal.valid_signals()) - FAULTS - STOPS - ENDS)


@pytest.fixture
def early(place):
    """Builds a library that sends the process signals before its `main`: preloaded, it is started up before all
    others."""

    def build(*numbers):
        source, library = place.path / "early.c", place.path / "early.so"
        kills = " ".join(f"kill(getpid(), {int(number)});" for number in numbers)
        source.write_text(
            "#include <signal.h>\n#include <unistd.h>\n"
            f"__attribute__((constructor)) static void early(void) {{ {kills} }}\n")
        compiler = shutil.which("clang") or shutil.which("cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
        library.chmod(0o755)
        return library

    return build


def test_signals_before_main_wait(make_slimtad, early):
    """A SIGHUP in the first milliseconds ended the process; now it is a reload once the daemon is ready."""
    slimtad = make_slimtad()
    slimtad.environment = {"LD_PRELOAD": str(early(*HARMLESS))}
    slimtad.start()
    slimtad.wait_for_log("reloaded")


def test_a_stop_before_main_is_heeded(make_slimtad, early):
    slimtad = make_slimtad()
    slimtad.environment = {"LD_PRELOAD": str(early(signal.SIGTERM))}
    slimtad.add_user().start(wait=False)
    assert slimtad.wait() == 0, slimtad.log
    assert "stopped" in slimtad.log


def test_commands_end_by_signals(make_slimtad, early):
    slimtad = make_slimtad().start()
    result = run_slimtad(
        "status", "--config", slimtad.configuration, env={"LD_PRELOAD": str(early(signal.SIGTERM))})
    assert result.returncode == -signal.SIGTERM


def test_signals_without_a_meaning_are_ignored(make_slimtad):
    slimtad = make_slimtad().start()
    for number in HARMLESS:
        slimtad.signal(number)
    slimtad.wait_for_log("reloaded")
    slimtad.connect().quit()


def test_sigquit_stops_like_sigterm(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.signal(signal.SIGQUIT)
    assert slimtad.wait() == 0
    assert "stopped" in slimtad.log


def test_no_core_file_wherever_it_is_started(make_slimtad):
    """Not only in the unit: keys and passwords are in memory."""
    slimtad = make_slimtad()
    slimtad.limits = ["--core=unlimited"]
    slimtad.start()
    limits = pathlib.Path(f"/proc/{slimtad.process.pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"], core
