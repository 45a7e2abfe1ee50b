"""Pipes: commands that deliver, fail in every way of sysexits.h, hang, flood and die; and who they are run as."""

import os
import pwd
import signal
import subprocess
import time

import pytest

from harness.helper import Helper
from harness.machine import GROUP, IS_ROOT, SLIMTAD, USER, wait_until
from harness.messages import message
from harness.slimtad import CONFIGURATION, OK, run_slimtad

SCRIPT = r"""#!/bin/sh
# Does what its recipient's name says.
case "$1" in
ok*) cat >"$OUT/$1" ;;
who) { id -u; id -g; id -G; umask; pwd; ls /proc/self/fd; grep NoNewPrivs /proc/self/status; cat /proc/self/stat | cut -d' ' -f5,6;
    printf '<%s>\n' "$@"; echo; env; } >"$OUT/$1" ;;
exit*) echo "to stdout"; echo "to stderr" >&2; exit "${1#exit}" ;;
quota) echo "4.2.2 mailbox is full"; exit 69 ;;
gone) echo "5.1.6 moved to the country"; exit 75 ;;
hang) sleep 30 ;;
stubborn) trap '' TERM; sleep 30 & wait; sleep 30 ;;
flood) head -c 20000000 /dev/zero | tr '\0' x; exit 69 ;;
deaf) exit 0 ;;
dies) kill -SEGV $$ ;;
child) sleep 20 & echo $! >"$OUT/$1"; exit 0 ;;
slow*) echo "+ $(date +%s%N)" >>"$OUT/slow"; sleep 0.3; echo "- $(date +%s%N)" >>"$OUT/slow" ;;
*) cat >"$OUT/$1.$$" ;;
esac
"""

# Whoever that is on every Debian: not root, and not who slimtad is.
PIPE_USER = "mail"


@pytest.fixture
def pipe(place, make_slimtad):
    """A daemon that gives all mail to the script. `pipe.out` is where that writes."""
    script = place.path / "deliver"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    out = place.path / "out"
    out.mkdir()
    out.chmod(0o777)

    def make(*arguments, retry="1h", **keys):
        relay = {
            "type": "pipe", "command": [str(script), "{user}", *arguments], "environment": [f"OUT={out}"],
            "timeout": "2s", "port": None, "allow_networks": None,
        }
        if IS_ROOT:
            relay["user"] = PIPE_USER
        daemon = make_slimtad(queue={"retry": [retry]}, relay=relay | keys)
        daemon.out = out
        return daemon.start()

    return make


def outcomes(daemon, names, sender="sender@pipe.test"):
    """Recipient to status and reply, of one message to all of them."""
    queue_id = daemon.submit(message("piped"), [f"{name}@pipe.test" for name in names], sender)
    found = daemon.wait_for_attempts(len(names), timeout=40, queue_id=queue_id)
    return {event["recipient"].partition("@")[0]: (event["status"], event["reply"]) for event in found}


STATUSES = {
    64: "5.3.0", 65: "5.6.0", 66: "5.3.0", 67: "5.1.1", 68: "5.1.2", 69: "5.3.0", 70: "5.3.0", 71: "4.3.0", 72: "4.3.5",
    73: "5.2.0", 74: "4.3.5", 75: "4.3.0", 76: "5.5.0", 77: "5.7.0", 78: "4.3.5", 126: "4.3.5", 127: "4.3.5", 1: "5.3.0",
    255: "5.3.0",
}


def test_every_exit_status_and_what_the_sender_is_told(pipe):
    daemon = pipe()
    found = outcomes(daemon, [f"exit{status}" for status in STATUSES] + ["quota", "gone", "ok"])
    assert {name: status for name, (status, _) in found.items()} == {
        f"exit{status}": code for status, code in STATUSES.items()} | {
        "quota": "4.2.2", "gone": "5.1.6", "ok": "2.0.0"}
    assert "exit status 67" in found["exit67"][1] and "to stdout to stderr" in found["exit67"][1]
    assert found["gone"][1] == "550 5.1.6 moved to the country"
    # The bounce goes to the sender, who is served by the same command.
    bounce = daemon.wait_until(lambda: list(daemon.out.glob("sender.*")), what="the bounce")[0]
    daemon.wait_until(lambda: bounce.read_text().rstrip().endswith("--"), what="all of it")
    text = bounce.read_text()
    assert text.startswith("Return-Path: <>\nDelivered-To: sender@pipe.test\n")
    assert "moved to the country" in text and "to stderr" in text and "Status: 5.1.6" in text
    assert "Action: failed" in text and "exit75" not in text


def test_commands_that_do_not_end_well(pipe):
    daemon = pipe(processes=20)
    start = time.monotonic()
    found = outcomes(daemon, ["hang", "stubborn", "flood", "deaf", "dies", "child"])
    took = time.monotonic() - start
    assert {name: status for name, (status, _) in found.items()} == {
        "hang": "4.3.0", "stubborn": "4.3.0", "flood": "5.3.0", "deaf": "2.0.0", "dies": "4.3.0", "child": "2.0.0"}
    assert "too long" in found["hang"][1] and "signal 11" in found["dies"][1] and "xxxx" in found["flood"][1]
    # 2 s, then 5 s from SIGTERM to SIGKILL; not the 20 s of the child that holds the pipe.
    assert 6.5 < took < 18
    child = int((daemon.out / "child").read_text())
    os.kill(child, 0)  # it is nobody's business
    assert not subprocess.run(["pgrep", "-f", f"{daemon.folder.parent}/deliver"], capture_output=True).stdout


def test_the_message_and_the_environment(pipe):
    daemon = pipe("{sender}", "<{recipient}>", "{domain}", "{extension}", "id={queue_id}", "two words; $(id)")
    queue_id = daemon.submit(message("piped", "a\r\n.\r\nlast line\r\n"), ["ok+x@pipe.test"], "sender@pipe.test")
    daemon.wait_for_attempts(1, queue_id=queue_id)
    stored = (daemon.out / "ok").read_bytes()
    assert stored.startswith(b"Return-Path: <sender@pipe.test>\nDelivered-To: ok+x@pipe.test\nReceived: ")
    assert stored.endswith(b"\n\na\n.\nlast line\n") and b"\r" not in stored
    queue_id = daemon.submit(message("who"), ["who@pipe.test"], "")
    daemon.wait_for_attempts(1, queue_id=queue_id)
    facts, _, environment = (daemon.out / "who").read_text().partition("\n\n")
    account = pwd.getpwnam(PIPE_USER) if IS_ROOT else pwd.getpwuid(os.geteuid())
    lines = facts.split("\n")
    assert lines[:2] == [str(account.pw_uid), str(account.pw_gid)]
    assert lines[2].split() == [str(group) for group in os.getgrouplist(account.pw_name, account.pw_gid)] or not IS_ROOT
    # 3 is the folder that ls reads.
    assert lines[3:10] == ["0077", "/", "0", "1", "2", "3", "NoNewPrivs:\t1"]
    group, session = lines[10].split()
    assert group == session
    assert lines[11:] == ["<who>", "<>", "<who@pipe.test>".join("<>"), "<pipe.test>", "<>", f"<id={queue_id}>",
                          "<two words; $(id)>"]
    names = {line.partition("=")[0] for line in environment.strip().split("\n")}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {
        "PATH", "HOME", "LOGNAME", "SENDER", "RECIPIENT", "QUEUE_ID", "OUT"}
    assert f"HOME={account.pw_dir}\n" in environment and "SENDER=\n" in environment


def test_crlf_and_a_large_message(pipe):
    daemon = pipe(eol="crlf")
    body = "x" * 70 + "\r\n"
    queue_id = daemon.submit(message("large", body * 60_000), ["ok@pipe.test"])
    daemon.wait_for_attempts(1, queue_id=queue_id)
    stored = (daemon.out / "ok").read_bytes()
    assert stored.count(b"\r\n") == stored.count(b"\n") and stored.count(body.encode()) == 60_000


def test_at_most_so_many_at_once_and_no_attempt_is_lost(pipe):
    daemon = pipe(processes=2)
    found = outcomes(daemon, [f"slow{number}" for number in range(6)])
    assert {status for status, _ in found.values()} == {"2.0.0"}
    running = most = 0
    for line in sorted((daemon.out / "slow").read_text().splitlines(), key=lambda line: line.split()[1]):
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    assert most == 2


def test_one_that_hangs_concerns_no_other_of_the_same_program(place, make_slimtad):
    routes = []
    for name, text in (("hangs", "sleep 100"), ("works", "cat >/dev/null")):
        script = place.path / name
        script.write_text(text + "\n")
        routes.append({"domains": [f"{name}.test"], "type": "pipe", "command": ["/bin/sh", str(script)]}
                      | ({"user": PIPE_USER} if IS_ROOT else {}))
    daemon = make_slimtad(routes=routes).start()
    # More than are tried at once where nothing is known yet.
    daemon.submit(message("x"), [f"u{number}@hangs.test" for number in range(3)])
    for number in range(8):
        daemon.submit(message("x"), [f"v{number}@hangs.test"])
    daemon.submit(message("x"), ["u@works.test"])
    assert daemon.wait_for_attempts(1, recipient="u@works.test")[0]["status"] == "2.0.0"
    listed = [line for line in run_slimtad("status", "--config", daemon.configuration).stdout.splitlines() if "/bin/sh" in line]
    assert len(listed) == 1 and f"pipe:/bin/sh {place.path}/hangs" in listed[0]


def test_options_and_loops_are_refused(pipe):
    daemon = pipe()
    assert outcomes(daemon, ["-rf"])["-rf"][0] == "5.1.3"
    looped = message("loop").replace(b"Subject:", b"Delivered-To: OK@PIPE.test\r\nSubject:", 1)
    queue_id = daemon.submit(looped, ["ok@pipe.test", "ok2@pipe.test"])
    found = daemon.wait_for_attempts(2, queue_id=queue_id)
    assert {event["recipient"]: event["status"] for event in found} == {
        "ok@pipe.test": "5.4.6", "ok2@pipe.test": "2.0.0"}


def test_what_cannot_be_run_waits(pipe, place):
    daemon = pipe(retry="1s")
    daemon.expect_error("command of a pipe cannot be started")
    script = place.path / "deliver"
    script.rename(place.path / "aside")
    queue_id = daemon.submit(message("later"), ["ok@pipe.test"])
    (event, *_) = daemon.wait_for_attempts(1, queue_id=queue_id)
    assert event["status"] == "4.3.5" and "cannot run" in event["reply"] and "No such file" in event["reply"]
    assert "cannot run" in run_slimtad("status", "--config", daemon.configuration).stdout
    (place.path / "aside").rename(script)
    run_slimtad("queue", "flush", "--all", "--config", daemon.configuration)
    daemon.wait_for_attempts(1, queue_id=queue_id, status="2.0.0")


@pytest.mark.skipif(not IS_ROOT, reason="becoming another user takes root's rights")
@pytest.mark.parametrize("user, words", [
    (USER, "user of its own"), ("nosuchuser", "nosuchuser"), (None, "would run as root"),
])
def test_nobody_who_must_not_runs_commands(pipe, user, words):
    daemon = pipe(user=user)
    daemon.expect_error("command of a pipe cannot be started")
    queue_id = daemon.submit(message("no"), ["ok@pipe.test"])
    (event, *_) = daemon.wait_for_attempts(1, queue_id=queue_id)
    assert event["status"] == "4.3.5" and words in event["reply"]
    assert not list(daemon.out.iterdir())
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert checked.returncode == CONFIGURATION and "relay." in checked.stderr


def test_a_stop_ends_the_command_and_the_helper(pipe):
    daemon = pipe(timeout="1m")
    daemon.change(daemon={"drain_timeout": "1s"})
    daemon.reload()
    daemon.submit(message("hang"), ["hang@pipe.test"])
    helper = daemon.wait_until(lambda: subprocess.run(
        ["pgrep", "-f", f"pipe-helper --config {daemon.configuration}"], capture_output=True, text=True).stdout.split())
    daemon.wait_until(lambda: _runs(daemon), what="the command")
    daemon.kill()
    wait_until(lambda: not _runs(daemon), what="its end")
    wait_until(lambda: not os.path.exists(f"/proc/{helper[0]}"), what="the helper's end")


def _runs(daemon):
    return subprocess.run(["pgrep", "-f", f"{daemon.folder.parent}/deliver hang"], capture_output=True).stdout


def test_the_helper_is_gone_and_comes_back(pipe):
    """Mail waits, and it is said what is missing; with another helper, or another start, it is delivered."""
    daemon = pipe(retry="1h")
    daemon.expect_error("command of a pipe cannot be started")
    daemon.expect_error("helper has ended")
    (helper,) = daemon.wait_until(lambda: subprocess.run(
        ["pgrep", "-f", f"pipe-helper --config {daemon.configuration}"], capture_output=True, text=True).stdout.split())
    os.kill(int(helper), signal.SIGKILL)
    queue_id = daemon.submit(message("waits"), ["ok@pipe.test"])
    (event,) = daemon.wait_for_attempts(1, queue_id=queue_id)
    assert event["status"] == "4.3.5" and "it does not run: start slimtad again" in event["reply"], event
    assert "it does not run" in run_slimtad("status", "--config", daemon.configuration).stdout
    if IS_ROOT:
        # It starts over a file that says of nobody who may ask it, and takes the mended one.
        text = daemon.configuration.read_text()
        daemon.configuration.write_text("not mended yet")
        another = Helper(daemon, "pipe")
        early = daemon.submit(message("early"), ["early@pipe.test"])
        (event,) = daemon.wait_for_attempts(1, queue_id=early)
        assert event["status"] == "4.3.5", event
        daemon.configuration.write_text(text)
        run_slimtad("queue", "flush", "--all", "--config", daemon.configuration)
        for waiting in (queue_id, early):
            daemon.wait_for_attempts(1, queue_id=waiting, status="2.0.0")
        daemon.wait_for_log("command of a pipe is started again")
        assert "it does not run" not in run_slimtad("status", "--config", daemon.configuration).stdout
        another.kill()
    assert daemon.term() == 0
    daemon.start_again()
    assert outcomes(daemon, ["ok2"])["ok2"][0] == "2.0.0"


@pytest.mark.skipif(not IS_ROOT, reason="as an ordinary user all tests are that")
@pytest.mark.parametrize("user", [None, PIPE_USER])
def test_started_by_an_ordinary_user(pipe, place, user):
    """It runs commands as itself, and check says what that means; as nobody else, and the mail waits."""
    daemon = pipe(user=user)
    assert daemon.term() == 0
    daemon.expect_error("command of a pipe cannot be started")
    daemon.change(daemon={"user": None, "group": None})
    subprocess.run(["chown", "-R", f"{USER}:{GROUP}", daemon.folder], check=True)
    become = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--"]
    daemon.launch([*become, SLIMTAD, "run", "--config", daemon.configuration])
    daemon.wait_until(daemon.is_ready, what="slimtad's greeting")
    told = outcomes(daemon, ["ok", "who"])
    checked = subprocess.run(
        [*become, SLIMTAD, "check", "--config", daemon.configuration], capture_output=True, text=True, timeout=30)
    assert checked.returncode == OK, checked.stderr
    if user is None:
        assert {status for status, _ in told.values()} == {"2.0.0"}
        assert (daemon.out / "who").read_text().split("\n")[0] == str(pwd.getpwnam(USER).pw_uid)
        assert "it is run as slimtad is, with its queue" in checked.stdout + checked.stderr
    else:
        assert {status for status, _ in told.values()} == {"4.3.5"}
        assert f"no command can be run as {user}: that takes root's rights" in told["ok"][1]
        assert f"a slimtad that is not started as root can run no command as {user}" in checked.stdout + checked.stderr


def test_check_of_what_is_in_order(pipe):
    daemon = pipe()
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert checked.returncode == OK, checked.stderr
    assert f"into {daemon.folder.parent}/deliver" in checked.stdout


def test_the_helper_is_not_started_by_hand(pipe):
    result = run_slimtad("pipe-helper")
    assert result.returncode != OK and "slimtad-pipe.socket" in result.stderr
