"""What operators do to messages and ask of the ledger: each command by id and by filter, by curl, on a terminal, and where
no daemon runs."""

import json
import os
import pwd
import re

import pytest

from harness.control import NOBODY_THERE, command, curl, listed, on_terminal, submit_many
from harness.machine import MX_PORT
from harness.messages import message
from harness.slimtad import LOGIN, TEMPORARY, UNAVAILABLE, USAGE, run_slimtad

WHO = pwd.getpwuid(os.geteuid()).pw_name
OTHER = "127.0.0.8"


@pytest.fixture
def daemon(make_slimtad):
    """A daemon that accepts and delivers nothing: whatever is submitted waits."""
    return make_slimtad(queue={"deliver": False}, relay={"type": "mx", "port": MX_PORT}).start()


@pytest.fixture
def two_kinds(daemon):
    submit_many(daemon, 6)
    submit_many(daemon, 3, recipient=f"other@[{OTHER}]", sender="second@origin.test")
    return daemon


FILTERS = [
    (("--sender", "second@origin.test"), 3), (("--sender", "@origin.test"), 9),
    (("--recipient", f"other@[{OTHER}]"), 3), (("--domain", f"[{NOBODY_THERE}]"), 6), (("--login", LOGIN), 9),
    (("--age", "0-1h"), 9), (("--age", "1h"), 0), (("--state", "due"), 9), (("--state", "deferred"), 0),
    (("--reason", "never said"), 0), (("--all",), 9),
]


def test_hold_and_release_by_every_filter(two_kinds):
    for filters, count in FILTERS:
        assert command(two_kinds, "queue", "hold", *filters) == f"{count} held\n", filters
        assert command(two_kinds, "queue", "count", "--state", "held") == f"{count}\n"
        status = json.loads(command(two_kinds, "status", "--json"))["queue"]
        assert (status["held"], status["due"], status["deferred"], status["total"]) == (count, 9 - count, 0, 9)
        assert f"{count} held" in command(two_kinds, "status")
        assert json.loads(command(two_kinds, "queue", "release", "--state", "held", "--json")) == {
            "done": count, "failed": []}
    assert command(two_kinds, "queue", "count", "--state", "held") == "0\n"
    ids = listed(two_kinds)
    for event in ("held", "released"):
        lines = [line for line in two_kinds.log.splitlines() if f" {event} " in line and f"by={WHO}" in line]
        assert all(any(f"queue_id={id}" in line for line in lines) for id in ids)
    two_kinds.wait_for_log(rf'command command="hold domain=\[{NOBODY_THERE}\]" by={WHO}|by={WHO}.*hold domain=')
    two_kinds.wait_for_events(command="hold", by=WHO, messages="6")


def test_tables_fit_a_terminal_of_80_columns(make_slimtad):
    """Whole headings, whole numbers, and what is cut is marked."""
    daemon = make_slimtad(quota={}).add_user("a-user-with-a-very-long-name@example.com", "secret", "--senders", "*")
    run_slimtad("passwd", "--config", daemon.configuration, "--app", "telephone", "a-user-with-a-very-long-name@example.com")
    daemon.start()
    for login in ("a-user-with-a-very-long-name@example.com", "192.0.2.1"):
        command(daemon, "login", "hold", login)
    for arguments, heading in [
            (("users", "list"), ["NAME", "HASH", "SENDERS", "SCRAM", "STATE", "APPLICATIONS"]),
            (("login", "list"), ["NAME", "HOUR", "RCPT", "NEW", "BAD", "DAY", "RCPT", "NEW", "BAD", "STATE"])]:
        status, shown = on_terminal(daemon, *arguments, answer="")
        lines = shown.splitlines()
        assert status == 0 and lines[0].split() == heading, shown
        assert all(len(line) <= 80 for line in lines), shown
        assert re.search(r"^a-user-[a-z-]*~ ", shown, re.M), shown
    assert re.search(r"^192.0.2.1 +(0 +){8}held: ", shown, re.M), shown


def test_flush_by_filter_tries_again(make_slimtad):
    daemon = make_slimtad(queue={"retry": ["1h"]}, relay={"type": "mx", "port": MX_PORT}).start()
    submit_many(daemon, 2)
    submit_many(daemon, 1, recipient=f"other@[{OTHER}]")
    daemon.wait_for_attempts(1, recipient=f"other@[{OTHER}]")
    daemon.wait_until(lambda: not listed(daemon, "--state", "active"), what="no attempt being made")
    attempts = len(daemon.attempts())
    assert command(daemon, "queue", "flush", "--domain", f"[{OTHER}]") == "1 flushed\n"
    daemon.wait_for_attempts(2, recipient=f"other@[{OTHER}]")
    assert daemon.wait_for_events(by=WHO, queue_id=listed(daemon, "--domain", f"[{OTHER}]")[0])
    assert len(daemon.attempts()) == attempts + 1
    daemon.wait_until(lambda: not listed(daemon, "--state", "active"), what="no attempt being made")
    assert json.loads(command(daemon, "status", "--json"))["queue"]["total"] == 3


def test_a_hold_survives_a_kill(two_kinds):
    held = listed(two_kinds, "--sender", "second@origin.test")
    assert command(two_kinds, "queue", "hold", *held) == "3 held\n"
    two_kinds.kill()
    two_kinds.start_again()
    assert listed(two_kinds, "--state", "held") == held
    shown = json.loads(command(two_kinds, "queue", "show", held[0], "--json"))
    assert shown["state"] == "held" and shown["held"] is True
    assert "state:       held" in command(two_kinds, "queue", "show", held[0])


def test_remove_and_bounce_ask_on_a_terminal(two_kinds):
    id = listed(two_kinds)[0]
    for action in ("remove", "bounce"):
        for answer in ("n\n", "\n", "yesterday\n", "\x04"):
            status, shown = on_terminal(two_kinds, "queue", action, id, answer=answer)
            assert status == USAGE and f"{action} 1 message for good?" in shown and "nothing was changed" in shown
    status, shown = on_terminal(two_kinds, "queue", "remove", "--sender", "second@origin.test", answer="n\n")
    assert status == USAGE and "remove 3 messages for good?" in shown
    assert command(two_kinds, "queue", "count") == "9\n"
    status, shown = on_terminal(two_kinds, "queue", "remove", id, answer="y\n")
    assert status == 0 and "1 removed" in shown
    status, shown = on_terminal(two_kinds, "queue", "remove", "--sender", "second@origin.test", answer="yes\n")
    assert status == 0 and "3 removed" in shown
    assert command(two_kinds, "queue", "count") == "5\n"
    # Elsewhere nobody is asked, and nothing is done.
    for action in ("remove", "bounce"):
        for which in ([listed(two_kinds)[0]], ["--all"], ["--login", LOGIN]):
            assert "say --yes" in command(two_kinds, "queue", action, *which, stdin="y\n", status=USAGE)
    assert command(two_kinds, "queue", "count") == "5\n"


def test_the_ledger_says_who_removed(two_kinds):
    ids = listed(two_kinds)
    assert command(two_kinds, "queue", "remove", "--yes", ids[0], ids[1], ids[0]) == "2 removed\n"
    assert command(two_kinds, "queue", "remove", "--yes", "--domain", f"[{OTHER}]") == "3 removed\n"
    assert "is not queued" in command(two_kinds, "queue", "remove", "--yes", ids[0], ids[2], status=1)
    assert listed(two_kinds) == ids[3:6]
    for id in ids[:3] + ids[6:]:
        two_kinds.wait_for_events(queue_id=id, by=WHO)
    for text in (command(two_kinds, "audit"), ):
        assert f"removed by {WHO}: 6" in text and "balanced: every recipient is accounted for" in text
    two_kinds.kill()
    two_kinds.start_again()
    audit = json.loads(command(two_kinds, "audit", "--json"))
    assert audit["ledger"]["removed_by"] == {WHO: 6} and audit["clean"]
    assert audit["ledger"]["submitted"]["removed"] == 6 and audit["ledger"]["submitted"]["queued"] == 3


def test_bounce_tells_the_sender_now(place, make_slimtad):
    box = place.folder("bounces")
    daemon = make_slimtad(
        queue={"retry": ["1h"]}, relay={"type": "mx", "port": MX_PORT},
        routes=[{"domains": ["origin.test"], "type": "maildir", "path": str(box)}]).start()
    ids = [daemon.submit(message(f"given up {n}"), f"r{n}@[{NOBODY_THERE}]") for n in range(3)]
    daemon.wait_until(lambda: not listed(daemon, "--state", "active"), what="no attempt being made")
    assert command(daemon, "queue", "bounce", "--domain", f"[{NOBODY_THERE}]", "--yes") == "3 bounced\n"
    found = daemon.wait_until(
        lambda: len(files := list((box / "new").iterdir())) >= 3 and files if (box / "new").exists() else None,
        what="three bounces")
    texts = [file.read_text() for file in found]
    for number in range(3):
        (text,) = [text for text in texts if f"r{number}@[{NOBODY_THERE}]" in text]
        assert "Action: failed" in text and "the operator of this mail system gave the message up" in text
    daemon.wait_until(lambda: not listed(daemon), what="an empty queue")
    audit = json.loads(command(daemon, "audit", "--json"))
    assert audit["clean"] and audit["ledger"]["submitted"]["bounced"] == 3
    assert all(daemon.wait_for_events(queue_id=id, by=WHO) for id in ids)


def test_every_command_by_curl(two_kinds):
    ids = listed(two_kinds)

    def post(path):
        status, answer = curl(two_kinds, path, "-X", "POST")
        assert status == 200, answer
        return answer

    assert post(f"/queue/hold?id={ids[0]}&id={ids[1]}") == {
        "done": 2, "failed": [], "next": None, "delivering": False}
    assert curl(two_kinds, "/queue/count?state=held") == (200, {"count": 2, "next": None})
    assert [item["id"] for item in curl(two_kinds, "/queue?state=held")[1]["messages"]] == ids[:2]
    assert post("/queue/flush?state=held")["failed"][0]["error"].startswith("is held")
    assert post("/queue/release?state=held")["done"] == 2
    assert post("/queue/flush?all=yes")["done"] == 9
    # A page at a time, from where the last one ended.
    first = post("/queue/hold?all=yes&limit=4")
    assert first["done"] == 4 and first["next"] == ids[3]
    assert post(f"/queue/hold?all=yes&limit=4&after={first['next']}&until={ids[5]}") == {
        "done": 2, "failed": [], "next": None, "delivering": False}
    assert curl(two_kinds, "/queue/count?state=held")[1]["count"] == 6
    assert post("/queue/remove?sender=second%40origin.test")["done"] == 3
    assert post(f"/queue/bounce?id={ids[5]}")["done"] == 1
    status, audit = curl(two_kinds, "/audit")
    assert status == 200 and audit["clean"]
    assert audit["ledger"]["submitted"]["removed"] == 3 and audit["ledger"]["submitted"]["bounced"] == 1
    assert post("/reload") == {"applied": True, "errors": [], "warnings": []}
    assert post("/drain") == {"draining": True}
    assert two_kinds.process.wait(timeout=10) == 0


def test_looking_where_no_daemon_runs(two_kinds):
    ids = listed(two_kinds)
    command(two_kinds, "queue", "hold", ids[0], ids[1])
    command(two_kinds, "drain")
    for filters, count in FILTERS:
        if filters == ("--all",) or filters[0] == "--state":
            continue
        assert command(two_kinds, "queue", "count", *filters) == f"{count}\n", filters
        assert len(listed(two_kinds, *filters)) == count
    assert listed(two_kinds, "--state", "held") == ids[:2]
    result = run_slimtad("status", "--json", "--config", two_kinds.configuration)
    status = json.loads(result.stdout)
    assert result.returncode == UNAVAILABLE and "no daemon runs" in result.stderr
    assert status["running"] is False and status["ledger"]["unaccounted"] == 0
    assert status["queue"]["total"] == 9 and status["queue"]["held"] == 2 and status["queue"]["due"] == 7
    assert "2 held" in run_slimtad("status", "--config", two_kinds.configuration).stdout


def test_changing_where_no_daemon_runs(two_kinds):
    command(two_kinds, "drain")

    def change(*arguments):
        result = run_slimtad("queue", *arguments, "--config", two_kinds.configuration)
        assert result.returncode == 0 and "no daemon runs" in result.stderr, result
        return result.stdout

    assert change("hold", "--sender", "second@origin.test") == "3 held\n"
    assert change("release", "--state", "held") == "3 released\n"
    assert change("remove", "--domain", f"[{OTHER}]", "--yes") == "3 removed\n"
    assert "say --yes" in command(two_kinds, "queue", "remove", "--all", status=USAGE)
    for action in (["flush"], ["bounce", "--yes"]):
        text = command(two_kinds, "queue", *action, "--all", status=UNAVAILABLE)
        assert "needs the running daemon" in text and "nobody listens" in text
    audit = json.loads(command(two_kinds, "audit", "--json"))
    assert audit["clean"] and audit["ledger"]["removed_by"] == {WHO: 3}
    two_kinds.start_again()
    assert command(two_kinds, "queue", "count") == "6\n"


def test_a_daemon_that_does_not_answer_keeps_its_queue(two_kinds):
    (two_kinds.runtime / "control").unlink()
    result = run_slimtad("queue", "hold", "--all", "--config", two_kinds.configuration)
    assert result.returncode == TEMPORARY, result
    # What it has sealed can be looked at, and is said to be old.
    result = run_slimtad("queue", "list", "--config", two_kinds.configuration)
    assert result.returncode == 0 and "does not answer" in result.stderr


def test_the_audit_finds_a_damaged_record(two_kinds):
    # Those of one millisecond have no order.
    (id,) = [id for id in listed(two_kinds) if "body 4" in command(two_kinds, "queue", "show", id, "--content")]
    assert curl(two_kinds, "/checkpoint", "-X", "POST")[0] == 200
    assert "balanced" in command(two_kinds, "audit")
    (file,) = [path for path in (two_kinds.state / "queue").glob("env-*.gdbm")
               if b"body 4" in path.read_bytes()]
    octets = bytearray(file.read_bytes())
    octets[octets.index(b"body 4")] ^= 1
    file.write_bytes(octets)
    result = run_slimtad("audit", "--json", "--config", two_kinds.configuration)
    audit = json.loads(result.stdout)
    assert result.returncode == 1 and not audit["clean"]
    assert [finding["id"] for finding in audit["findings"] if finding["fault"]] == [id]
    two_kinds.expect_error("damaged")
    two_kinds.kill()
    result = run_slimtad("audit", "--config", two_kinds.configuration)
    assert result.returncode == 1 and f"FAULT: {id}" in result.stdout and "NOT BALANCED" in result.stdout
