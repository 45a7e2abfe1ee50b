"""The control socket and the commands that use it: real daemon, curl, and the commands on the files where none runs."""

import grp
import json
import os
import pwd
import re
import smtplib
import socket
import ssl
import subprocess
import threading

import pytest

from harness.control import NOBODY_THERE, command, curl, listed, submit_many
from harness.machine import IS_ROOT, MX_PORT, SLIMTAD, SUBMISSION, USER
from harness.messages import message
from harness.slimtad import CONFIGURATION, LOGIN, NOT_PERMITTED, OK, UNAVAILABLE, USAGE, run_slimtad

@pytest.fixture
def daemon(make_slimtad):
    """A daemon whose messages all wait: nobody listens where they are to go."""
    return make_slimtad(queue={"retry": ["1h"]}, relay={"type": "mx", "port": MX_PORT}).start()


def test_status_by_curl_and_command(daemon):
    submit_many(daemon, 3)
    daemon.wait_for_attempts(1)
    status, answer = curl(daemon, "/status")
    assert status == 200
    assert answer["pid"] == daemon.process.pid
    assert answer["queue"]["total"] == 3
    assert answer["ledger"]["unaccounted"] == 0 and answer["ledger"]["submitted"]["accepted"] == 3
    assert [edge["name"] for edge in answer["edges"]] == ["submission", "submissions"]
    assert answer["storage"]["failure"] is None
    with daemon.connect():
        assert sum(edge["sessions"] for edge in curl(daemon, "/status")[1]["edges"]) == 1
    assert json.loads(command(daemon, "status", "--json"))["pid"] == daemon.process.pid
    text = command(daemon, "status")
    assert f"process {daemon.process.pid}" in text and "unaccounted:  0" in text


def test_requests_that_are_wrong(daemon):
    some = "0" * 32
    for path, method, expected in [
        ("/", "GET", 404), ("/nothing", "GET", 404), ("/queue/xyz", "GET", 400), (f"/queue/{some}", "GET", 404),
        ("/status?x=1", "GET", 400), ("/queue?sendr=a@b", "GET", 400), ("/queue?sender=a", "GET", 400),
        ("/queue?age=x", "GET", 400), ("/queue?state=x", "GET", 400), ("/queue?limit=0", "GET", 400),
        ("/queue?limit=1001", "GET", 400), ("/queue?after=1", "GET", 400), ("/queue?sender=a@b&sender=a@b", "GET", 400),
        ("/queue/hold", "POST", 400), ("/queue/hold?id=1", "POST", 400), ("/queue/hold?all=no", "POST", 400),
        (f"/queue/hold?all=yes&id={some}", "POST", 400), ("/queue/burn?all=yes", "POST", 404), ("/queue", "POST", 405),
        ("/reload", "GET", 405), ("/status", "POST", 405), ("/status", "DELETE", 405), ("/%zz", "GET", 400),
    ]:
        status, answer = curl(daemon, path, "-X", method)
        assert (status, set(answer)) == (expected, {"error"}), (method, path, status, answer)
    status, answer = curl(daemon, f"/queue/remove?id={some}", "-X", "POST")
    assert status == 200 and answer["done"] == 0 and answer["failed"][0]["id"] == some
    assert curl(daemon, "/status")[0] == 200


def test_what_is_not_http_or_too_much_ends_the_connection(daemon):
    for octets in [b"\x16\x03\x01\x02\x00", b"GET /status HTTP/1.1\r\nX: " + b"x" * 200_000, b"HELO there\r\n\r\n",
                   b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 200_000]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(daemon.runtime / "control"))
            try:
                client.sendall(octets)
                while client.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    # Of more connections than may be, some are turned away, and the others go on.
    clients = []
    for _ in range(40):
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].settimeout(10)
        clients[-1].connect(str(daemon.runtime / "control"))
    answered = 0
    for client in clients:
        try:
            client.sendall(b"GET /queue/count HTTP/1.1\r\nHost: x\r\n\r\n")
            answered += client.recv(65536).startswith(b"HTTP/1.1 200")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert answered == 32
    for client in clients:
        client.close()
    daemon.wait_until(lambda: curl(daemon, "/status")[0] == 200, what="an answer")


@pytest.mark.skipif(not IS_ROOT, reason="needs to become other users")
def test_only_those_who_may(daemon):
    control = daemon.runtime / "control"
    assert control.stat().st_mode & 0o7777 == 0o660
    assert control.stat().st_uid == pwd.getpwnam(USER).pw_uid
    other = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    command_line = [*other, os.environ.get("SLIMTAD", "slimtad")]
    # The permissions of the file keep others out; where they do not, the daemon does.
    result = subprocess.run([*other, "curl", "-s", "--unix-socket", control, "http://x/status"], timeout=30)
    assert result.returncode == 7
    control.chmod(0o666)
    status, answer = curl(daemon, "/status", prefix=other)
    assert status == 403 and "slimtad-admin" in answer["error"]
    daemon.wait_for_log(r"warning control refused .*uid=1\b")
    status, answer = curl(daemon, "/status", prefix=["setpriv", f"--reuid={USER}", "--regid=daemon", "--clear-groups"])
    assert status == 200


@pytest.mark.skipif(not IS_ROOT, reason="needs to become other users")
def test_a_command_without_rights_says_so(daemon, place):
    other = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    from harness.machine import SLIMTAD
    configuration = place.folder("readable") / "slimta.conf"
    configuration.write_text(daemon.configuration.read_text())
    configuration.chmod(0o644)
    for argument in ["status", "queue"]:
        result = subprocess.run(
            [*other, SLIMTAD, argument, "--config", configuration], capture_output=True, text=True, timeout=30)
        if "Permission denied" in result.stderr and "execute" in result.stderr:
            pytest.skip("that user cannot reach the program")
        assert result.returncode == NOT_PERMITTED and "slimtad-admin" in result.stderr, result


def test_a_live_socket_is_kept_a_dead_one_replaced(daemon):
    second = run_slimtad("run", "--config", daemon.configuration)
    assert second.returncode != OK
    assert curl(daemon, "/status")[0] == 200
    daemon.process.kill()
    daemon.process.wait()
    assert (daemon.runtime / "control").exists()
    daemon.start_again()
    assert curl(daemon, "/status")[1]["pid"] == daemon.process.pid
    assert daemon.term() == 0
    assert not (daemon.runtime / "control").exists()


def test_list_pages_and_filters(daemon):
    submit_many(daemon, 30)
    submit_many(daemon, 5, recipient="other@[127.0.0.8]", sender="second@origin.test")
    ids, after = [], ""
    while True:
        status, page = curl(daemon, f"/queue?limit=7{after}")
        assert status == 200 and len(page["messages"]) <= 7
        ids += [item["id"] for item in page["messages"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert len(ids) == 35 and ids == sorted(set(ids))
    assert command(daemon, "queue", "count") == "35\n"
    assert command(daemon, "queue", "count", "--sender", "SECOND@origin.test") == "5\n"
    assert command(daemon, "queue", "count", "--recipient", "@[127.0.0.8]") == "5\n"
    assert command(daemon, "queue", "count", "--domain", "[127.0.0.9]") == "30\n"
    assert command(daemon, "queue", "count", "--login", "tester") == "35\n"
    assert command(daemon, "queue", "count", "--login", "nobody") == "0\n"
    assert command(daemon, "queue", "count", "--age", "1h") == "0\n"
    assert command(daemon, "queue", "count", "--age", "0-1h", "--sender", "@origin.test") == "35\n"
    daemon.wait_for_attempts(1, recipient="other@[127.0.0.8]")
    assert int(command(daemon, "queue", "count", "--reason", "cannot connect")) >= 1
    assert command(daemon, "queue", "count", "--reason", "never said") == "0\n"
    listed = json.loads(command(daemon, "queue", "list", "--json"))
    assert [item["id"] for item in listed] == ids
    lines = command(daemon, "queue", "list", "--limit", "3").splitlines()
    assert [line.split("\t")[0] for line in lines] == ids[:3]
    assert command(daemon, "queue", "list", "--sender", "x@y.test", "--json") == "[]\n"
    for arguments in [("--sender", "x"), ("--age", "x"), ("--state", "x"), ("--limit", "0")]:
        assert arguments[0] in command(daemon, "queue", "list", *arguments, status=USAGE)


def test_show_tells_every_attempt(make_slimtad, nameserver, sink):
    nameserver.add_mx("one.test", NOBODY_THERE)
    nameserver.start()
    daemon = make_slimtad(nameserver, queue={"retry": ["1h"]}).start()
    id = daemon.submit(message("show"), ["a@one.test", "b@one.test"])
    daemon.wait_for_attempts(2, queue_id=id)
    # A host that does not answer is left alone until then.
    command(daemon, "queue", "flush", id)
    daemon.wait_for_attempts(4, queue_id=id)
    shown = json.loads(command(daemon, "queue", "show", id, "--json"))
    assert shown["id"] == id and shown["sender"] == "sender@origin.test"
    assert [recipient["address"] for recipient in shown["recipients"]] == ["a@one.test", "b@one.test"]
    assert shown["client"]["login"] == "tester" and shown["client"]["tls"].startswith("TLSv1.3")
    assert len(shown["history"]) >= 2
    for attempt in shown["history"]:
        assert attempt["result"] == "deferred" and attempt["recipients"] == 2
        assert NOBODY_THERE in attempt["relay"] and "cannot connect" in attempt["reply"]
        assert attempt["time"].endswith("Z")
    assert [attempt["time"] for attempt in shown["history"]] == sorted(a["time"] for a in shown["history"])
    text = command(daemon, "queue", "show", id)
    assert text.count("attempt:") >= 2 and "a@one.test and 1 more" in text
    content = command(daemon, "queue", "show", id, "--content")
    assert content.startswith("Received:") and "Subject: show" in content
    result = subprocess.run(
        ["curl", "-s", "--unix-socket", daemon.runtime / "control", f"http://x/queue/{id}?content"],
        capture_output=True, timeout=30)
    assert result.stdout.replace(b"\r\n", b"\n").decode() == content.replace("\r\n", "\n")
    assert "not a queue id" in command(daemon, "queue", "show", "xyz", status=USAGE)
    assert "not queued" in command(daemon, "queue", "show", "0" * 32, status=UNAVAILABLE)


def test_content_of_a_large_message(daemon):
    body = b"Subject: large\r\n\r\n" + b"x" * 70 * 1000 + b"\r\n" + (b"0123456789" * 7 + b"\r\n") * 40_000
    id = daemon.submit(body, f"r@[{NOBODY_THERE}]")
    content = subprocess.run(
        ["curl", "-s", "--unix-socket", daemon.runtime / "control", f"http://x/queue/{id}?content"],
        capture_output=True, timeout=60).stdout
    assert content.endswith(body)


def test_hold_release_flush_remove_bounce(daemon):
    submit_many(daemon, 6)
    ids = [item["id"] for item in json.loads(command(daemon, "queue", "list", "--json"))]
    daemon.wait_until(
        lambda: command(daemon, "queue", "count", "--state", "active") == "0\n", what="no attempt being made")
    assert command(daemon, "queue", "hold", ids[0], ids[1]) == "2 held\n"
    assert command(daemon, "queue", "count", "--state", "held") == "2\n"
    assert json.loads(command(daemon, "status", "--json"))["queue"]["held"] == 2
    assert "is held" in command(daemon, "queue", "flush", ids[0], status=1)
    assert command(daemon, "queue", "release", ids[0]) == "1 released\n"
    assert command(daemon, "queue", "count", "--state", "held") == "1\n"
    attempts = len(daemon.attempts(queue_id=ids[2]))
    assert command(daemon, "queue", "flush", ids[2]) == "1 flushed\n"
    daemon.wait_for_attempts(attempts + 1, queue_id=ids[2])
    command(daemon, "queue", "flush", "--all")

    assert "--yes" in command(daemon, "queue", "remove", ids[1], status=USAGE)
    assert "--yes" in command(daemon, "queue", "bounce", ids[1], status=USAGE)
    assert "which messages" in command(daemon, "queue", "remove", "--yes", status=USAGE)
    assert "which messages" in command(daemon, "queue", "hold", ids[1], "--all", status=USAGE)
    assert command(daemon, "queue", "count") == "6\n"
    assert command(daemon, "queue", "remove", ids[1], "--yes") == "1 removed\n"
    assert "not queued" in command(daemon, "queue", "remove", ids[1], "--yes", status=1)
    who = pwd.getpwuid(os.geteuid()).pw_name
    daemon.wait_for_events(queue_id=ids[1], by=who)
    daemon.wait_until(
        lambda: command(daemon, "queue", "count", "--state", "active") == "0\n", what="no attempt being made")
    assert command(daemon, "queue", "bounce", ids[5], "--yes") == "1 bounced\n"
    assert ids[5] not in command(daemon, "queue", "list")
    daemon.wait_for_events(about=ids[5])

    audit = json.loads(command(daemon, "audit", "--json"))
    assert audit["clean"] and audit["ledger"]["unaccounted"] == 0
    assert audit["ledger"]["submitted"]["removed"] == 1 and audit["ledger"]["submitted"]["bounced"] == 1
    assert audit["ledger"]["removed_by"] == {who: 1}
    # A hold survives a restart.
    command(daemon, "queue", "hold", ids[3])
    assert daemon.term() == 0
    daemon.start_again()
    assert json.loads(command(daemon, "queue", "show", ids[3], "--json"))["state"] == "held"


def test_many_that_cannot_be_flushed_are_told_in_short(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}, relay={"type": "mx"}).start()
    submit_many(daemon, 25)
    command(daemon, "queue", "hold", "--all")
    told = command(daemon, "queue", "flush", "--login", LOGIN, status=1).splitlines()
    assert sum(bool(re.fullmatch("slimtad: [0-9a-f]{32}: is held: release it first", line)) for line in told) == 10
    assert "slimtad: and 15 more messages: is held: release it first" in told
    # Of those that were named each is told.
    ids = listed(daemon)
    told = command(daemon, "queue", "flush", *ids, status=1)
    assert all(f"{queue_id}: is held" in told for queue_id in ids)


@pytest.mark.parametrize("status, error", [("404 Not Found", "there is nothing at /logins"), (
    "400 Bad Request", 'there is no parameter "nodes": known are login, held, limit')])
def test_a_daemon_of_an_older_version(make_slimtad, status, error):
    """After an upgrade that did not restart it: what it does not know it answers as the daemon that is not yet upgraded."""
    daemon = make_slimtad()
    daemon.runtime.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as older:
        older.bind(str(daemon.runtime / "control"))
        older.listen()

        def answer():
            connection, _ = older.accept()
            with connection:
                assert connection.recv(65536).split(b" ")[1].startswith(b"/logins")
                body = json.dumps({"error": error})
                connection.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                    .encode())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        told = command(daemon, "login", "list", status=UNAVAILABLE)
        thread.join(10)
    assert "does not know this command: it is of an older version; systemctl restart slimtad" in told


def test_without_a_daemon(daemon):
    submit_many(daemon, 4)
    ids = [item["id"] for item in json.loads(command(daemon, "queue", "list", "--json"))]
    command(daemon, "drain")
    assert daemon.process.wait(timeout=10) == 0
    assert command(daemon, "queue", "count") == "4\n"
    assert [line.split("\t")[0] for line in command(daemon, "queue").splitlines()] == ids
    assert json.loads(command(daemon, "queue", "show", ids[0], "--json"))["id"] == ids[0]
    assert "Subject: 0" in command(daemon, "queue", "show", ids[0], "--content")
    assert "not queued" in command(daemon, "queue", "show", "0" * 32, status=UNAVAILABLE)
    assert "balanced: every recipient is accounted for" in command(daemon, "audit")
    assert "no daemon runs" in command(daemon, "status", status=UNAVAILABLE)
    for arguments in [("reload",), ("drain",), ("queue", "flush", ids[0]),
                      ("queue", "bounce", ids[0], "--yes")]:
        assert "needs the running daemon" in command(daemon, *arguments, status=UNAVAILABLE)
    assert command(daemon, "queue", "hold", ids[0], ids[1]) == "2 held\n"
    assert command(daemon, "queue", "release", ids[1]) == "1 released\n"
    assert command(daemon, "queue", "remove", ids[2], "--yes") == "1 removed\n"
    assert "not queued" in command(daemon, "queue", "remove", ids[2], "--yes", status=1)
    assert command(daemon, "queue", "count", "--state", "held") == "1\n"
    assert "balanced: every recipient is accounted for" in command(daemon, "audit")
    daemon.start_again()
    assert command(daemon, "queue", "count") == "3\n"
    assert json.loads(command(daemon, "queue", "show", ids[0], "--json"))["state"] == "held"


def test_reload_says_what_is_wrong(daemon):
    command(daemon, "reload")
    good = daemon.configuration.read_text()
    daemon.configuration.write_text(good.replace('hostname = "', 'hostname = "..'))
    daemon.expect_error("reload failed")
    status, answer = curl(daemon, "/reload", "-X", "POST")
    assert status == 422 and "hostname" in answer["errors"][0] and not answer["applied"]
    daemon.configuration.write_text(good)
    assert curl(daemon, "/reload", "-X", "POST") == (200, {"applied": True, "errors": [], "warnings": []})


def test_reload_fails_with_its_text(daemon):
    """Whatever it is: a mistake in the file, a port that is taken, a key that cannot be read; and `status` remembers it."""
    daemon.expect_error("reload failed|certificate cannot be used")
    good = daemon.configuration.read_text()
    with socket.create_server((daemon.address, 2599)):
        daemon.configuration.write_text(good.replace(":2587", ":2599"))
        said = command(daemon, "reload", status=CONFIGURATION)
    assert f"{daemon.address}:2599" in said and "the old is in use" in said
    told = curl(daemon, "/status")[1]
    assert not told["reload"]["applied"] and not told["in_use"]
    assert any("reload of" in line and ":2599" in line for line in told["warnings"])
    assert "is not in use" in command(daemon, "status", status=OK)
    daemon.connect().quit()

    daemon.configuration.write_text(good)
    command(daemon, "reload")
    told = curl(daemon, "/status")[1]
    assert told["in_use"] and told["reload"]["applied"]
    assert not any("reload" in line for line in told["warnings"])


def test_reload_fails_where_only_a_certificate_is_refused(daemon):
    """The rest is in use, and both are said."""
    daemon.expect_error("certificate cannot be used")
    daemon.certificate.chain.write_text("no certificate\n")
    daemon.add_user("later", "late")
    said = command(daemon, "reload", status=CONFIGURATION)
    assert str(daemon.certificate.chain) in said and "everything else is in use" in said
    with smtplib.SMTP(daemon.address, SUBMISSION, timeout=20) as client:
        client.starttls(context=ssl._create_unverified_context())
        client.login("later", "late")
    assert any(str(daemon.certificate.chain) in line for line in curl(daemon, "/status")[1]["warnings"])


def test_status_knows_that_the_file_was_changed(daemon):
    assert curl(daemon, "/status")[1]["in_use"]
    daemon.change(queue={"warn": "3h"})
    told = curl(daemon, "/status")[1]
    assert not told["in_use"] and "has been changed and is not in use" in told["warnings"][0]
    command(daemon, "reload")
    assert curl(daemon, "/status")[1]["in_use"]
    os.utime(daemon.configuration)
    assert curl(daemon, "/status")[1]["in_use"], "the same text is the same configuration"
    daemon.configuration.rename(daemon.folder / "away")
    told = curl(daemon, "/status")[1]
    assert not told["in_use"] and "a reload would fail" in told["warnings"][0]


@pytest.mark.skipif(not IS_ROOT, reason="needs to become other users")
def test_members_of_the_group_may_and_who_is_refused_is_said(place, make_slimtad):
    """The socket is the group's; where it cannot be given to it, log and status say so instead of nothing."""
    try:
        group = grp.getgrnam("slimtad-admin").gr_gid
    except KeyError:
        pytest.skip("there is no group slimtad-admin here; the system tests have it")
    daemon = make_slimtad().start()
    assert (daemon.runtime / "control").stat().st_gid == group
    member = ["setpriv", "--reuid=daemon", "--regid=daemon", f"--groups={group}"]
    assert curl(daemon, "/status", prefix=member)[0] == 200
    assert daemon.term() == 0
    # Not root, and no member: it cannot give the file away.
    binary = place.path / "copy-of-slimtad"
    binary.write_bytes(SLIMTAD.read_bytes())
    binary.chmod(0o755)
    os.chown(daemon.users, 65534, 65534)
    daemon.launch(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, "run", "--config",
                   daemon.configuration])
    daemon.wait_until(daemon.is_ready, what="slimtad's greeting")
    daemon.wait_for_log("warning control socket is not for its group")
    assert any("slimtad-admin" in line for line in curl(daemon, "/status")[1]["warnings"])


def test_checkpoint(daemon):
    submit_many(daemon, 2)
    before = curl(daemon, "/status")[1]["storage"]["checkpoint"]
    status, answer = curl(daemon, "/checkpoint", "-X", "POST")
    assert status == 200 and answer["checkpoint"] > before
    assert curl(daemon, "/status")[1]["storage"]["generations"] > 0
    assert len(json.loads(command(daemon, "queue", "list", "--json"))) == 2


def test_thousands_are_listed_and_removed(make_slimtad):
    """More than two pages of a thousand have: messages that are an envelope for each of a hundred recipients."""
    policies = ["date", "message_id", "received", "recipient_split"]
    daemon = make_slimtad(queue={"deliver": False, "policies": policies}).start()
    with daemon.connect() as client:
        for _ in range(25):
            client.mail("sender@origin.test")
            client.send("".join(f"RCPT TO:<r{number}@[{NOBODY_THERE}]>\r\n" for number in range(100)))
            assert {client.getreply()[0] for _ in range(100)} == {250}
            assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
    listed = json.loads(command(daemon, "queue", "list", "--json"))
    assert len({item["id"] for item in listed}) == 2500
    assert [item["id"] for item in listed] == sorted(item["id"] for item in listed)
    assert command(daemon, "queue", "count", "--domain", f"[{NOBODY_THERE}]") == "2500\n"
    assert command(daemon, "queue", "hold", "--all") == "2500 held\n"
    assert command(daemon, "queue", "remove", "--state", "held", "--yes") == "2500 removed\n"
    assert command(daemon, "queue", "count") == "0\n"
    assert json.loads(command(daemon, "audit", "--json"))["ledger"]["submitted"]["removed"] == 2500
