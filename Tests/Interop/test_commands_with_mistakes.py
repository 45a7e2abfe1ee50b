"""A mistake in slimta.conf is for `check`, start and reload: commands need the file to find the daemon, and no more."""

import pytest

from harness.machine import GROUP, USER
from harness.messages import message
from harness.slimtad import CONFIGURATION, run_slimtad

MISTAKES = {
    "unknown key": "\n[limits2]\nx = 1\n",
    "not TOML": "\nthis is = = not TOML\n",
    "unfinished table": "\n[queue\n",
    "not UTF-8": b"\n# \xff\xfe\n",
}


@pytest.fixture(params=MISTAKES.values(), ids=MISTAKES.keys())
def broken(request, make_slimtad):
    """A daemon that runs, and a file that has got a mistake since."""
    # All that passwd needs is said: what a table that does not end would say is not known, and passwd does not guess.
    slimtad = make_slimtad(queue={"deliver": False}, daemon={"user": USER, "group": GROUP})
    slimtad.change(auth={"scram_iterations": 4096})
    slimtad.start()
    mistake = request.param if isinstance(request.param, bytes) else request.param.encode()
    slimtad.configuration.write_bytes(slimtad.configuration.read_bytes() + mistake)
    return slimtad


def run(slimtad, *arguments, **options):
    command, *rest = arguments
    return run_slimtad(command, *rest, "--config", slimtad.configuration, **options)


def test_commands_work_while_the_daemon_runs(broken):
    broken.expect_error("reload failed")
    queue_id = broken.submit(message(), "someone@one.test")
    for command in (
            ["status"], ["audit"], ["queue", "list"], ["queue", "count"], ["queue", "show", queue_id],
            ["queue", "hold", queue_id], ["queue", "release", queue_id], ["queue", "flush", "--all"],
            ["queue", "remove", queue_id, "--yes"]):
        result = run(broken, *command)
        assert result.returncode == 0, (command, result.stderr)
        assert "has mistakes" in result.stderr and "slimtad check" in result.stderr, (command, result.stderr)
    assert queue_id in run(broken, "queue", "list").stdout or run(broken, "queue", "count").stdout.strip() == "0"
    reload = run(broken, "reload")
    assert reload.returncode == CONFIGURATION and "slimta.conf" in reload.stderr
    assert run(broken, "drain").returncode == 0
    assert broken.wait() == 0


def test_passwd_works_where_its_settings_are_plain(broken):
    result = run(broken, "passwd", "another", stdin="a password\n")
    assert result.returncode == 0, result.stderr
    assert "another" in broken.users.read_text()


def test_without_a_daemon_the_mistake_is_told(broken):
    assert broken.term() == 0
    for command in (["status"], ["audit"], ["queue", "list"], ["queue", "remove", "--all", "--yes"]):
        result = run(broken, *command)
        assert result.returncode == CONFIGURATION, (command, result.stderr)
        assert "slimta.conf" in result.stderr


def test_passwd_does_not_guess_where_the_users_are(make_slimtad):
    slimtad = make_slimtad()
    slimtad.change(auth={"users": 5})
    result = run(slimtad, "passwd", "another", stdin="a password\n")
    assert result.returncode == CONFIGURATION and "auth.users" in result.stderr
