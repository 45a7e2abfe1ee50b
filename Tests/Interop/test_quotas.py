"""[quota]: limits and the breaker over all edges, what operators see and do, restarts, and that no message is lost by it."""

import email
import email.policy
import json
import os
import pathlib
import pwd
import smtplib
import subprocess
import threading

from harness.control import command, curl, on_terminal
from harness.http import HTTP, basic, edge, envelope, request
from harness.machine import MX_PORT, SLIMTAD
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import HOSTNAME, LOGIN, PASSWORD, UNAVAILABLE, USAGE, run_slimtad, send

WHO = pwd.getpwuid(os.geteuid()).pw_name
NONE = {"messages": "none", "recipients": "none", "new_recipients": "none", "refused": "none", "networks": "none"}
# Nobody is new, and there are no limits but those that a test has.
OPEN = {"learning": "0s", "learning_recipients": 0, "soft": NONE, "hard": NONE, "breaker": {**NONE, "refused_share": "none"}}


def quota(**levels):
    found = {**OPEN, **{name: {**OPEN[name], **value} for name, value in levels.items() if name in ("soft", "hard", "breaker")}}
    return found | {name: value for name, value in levels.items() if name not in found}


def through(sink):
    return {"type": "smtp", "host": f"{sink.address}:{MX_PORT}", "tls": "none", "port": None, "allow_networks": None}


def send_to_new(daemon, count, start=0):
    """Messages on one session, each to somebody new."""
    with daemon.connect() as client:
        for number in range(start, start + count):
            send(client, f"Subject: {number}\r\n\r\nx\r\n".encode(), [f"new{number}@one.test"])


def held(daemon):
    return int(command(daemon, "queue", "count", "--state", "held"))


def login(daemon, name=LOGIN):
    return json.loads(command(daemon, "login", "show", name, "--json"))


def test_a_hijacked_login(place, make_slimtad):
    """500 messages to new recipients: held at the threshold, one alert, released by one command, none lost."""
    sink = Sink(place).start()
    daemon = make_slimtad(relay=through(sink), quota=quota(breaker={"new_recipients": {"per_hour": 100}})).start()
    send_to_new(daemon, 500)
    accepted = daemon.wait_until(
        lambda: len(found := daemon.events(login=LOGIN, protocol="ESMTPSA")) == 500 and found, what="500 lines")
    assert len([event for event in accepted if event.get("held") == "breaker"]) == 400
    assert len([event for event in accepted if "queue_id" in event and "held" not in event]) == 100
    reason = "101 new recipients in an hour, allowed are 100"
    assert daemon.wait_for_events(login=LOGIN, reason=reason) and daemon.log.count("warning login is held") == 1
    # What was not delivered yet is held too.
    daemon.wait_until(lambda: len(sink.transactions()) + held(daemon) == 500, what="no attempt being made")
    status = command(daemon, "status")
    assert f"warning:      {LOGIN} is held since " in status and reason in status
    shown = login(daemon)
    assert shown["held"] and shown["reason"] == reason and shown["held_messages"] == 400
    assert shown["hour"]["messages"] == shown["day"]["recipients"] == 500
    assert f"held: {reason}" in command(daemon, "login", "list", "--held")
    assert f"held: {reason}" in command(daemon, "login", "list", "--limit", "1")
    assert "since then:       400 messages" in command(daemon, "login", "show", LOGIN)
    assert command(daemon, "login", "release", LOGIN).startswith(f"{LOGIN} is released, and ")
    assert len(sink.wait_for(500)) == 500
    assert len({recipient for one in sink.transactions() for recipient in one.recipients}) == 500
    send_to_new(daemon, 1, start=1000)
    sink.wait_for(501)
    daemon.wait_until(lambda: command(daemon, "queue", "count") == "0\n", what="an empty queue")
    audit = json.loads(command(daemon, "audit", "--json"))
    assert audit["clean"] and audit["ledger"]["submitted"]["delivered"] == 501
    assert "is held" not in command(daemon, "status") and daemon.log.count("warning login is held") == 1
    assert "is not held" in command(daemon, "login", "release", LOGIN, status=UNAVAILABLE)


def test_a_login_that_sends_from_everywhere(make_slimtad):
    """Soft: told once. Breaker: held. Both outlive a stop."""
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(
        soft={"networks": {"per_hour": 3}}, breaker={"networks": {"per_day": 5}})).start()

    def send_from(*networks):
        for network in networks:
            with daemon.connect(source=f"127.0.{network}.1") as client:
                send(client, b"Subject: x\r\n\r\nx\r\n", ["x@one.test"])

    send_from(1, 1, 2, 3)
    assert "soft limit" not in daemon.log
    send_from(4, 5)
    daemon.wait_for_log("soft limit exceeded")
    assert len(daemon.wait_for_events(login=LOGIN, reason="4 networks in an hour, allowed are 3")) == 1
    assert f"{LOGIN} sends much: 5 networks in an hour, allowed are 3" in command(daemon, "status")
    assert "5 networks (soft 3)" in command(daemon, "login", "show", LOGIN)
    assert daemon.term() == 0
    daemon.start_again()
    send_from(5, 1)
    assert not login(daemon)["held"] and login(daemon)["day"]["networks"] == 5
    send_from(6)
    assert login(daemon)["reason"] == "6 networks in a day, allowed are 5"


def test_recent_mail_is_held_too_and_can_be_bounced(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(breaker={"messages": {"per_hour": 5}})).start()
    send_to_new(daemon, 7)
    daemon.wait_until(lambda: held(daemon) == 7, what="all of it held")
    daemon.wait_until(lambda: daemon.events(login=LOGIN, messages="5"), what="the line about recent mail")
    assert "say --yes" in command(daemon, "login", "bounce", LOGIN, status=USAGE)
    assert "nothing was changed" in on_terminal(daemon, "login", "bounce", LOGIN, answer="n\n")[1]
    assert command(daemon, "login", "bounce", LOGIN, "--yes") == f"7 messages of {LOGIN} bounced\n"
    assert held(daemon) == 0 and login(daemon)["held"] and login(daemon)["held_messages"] == 0
    # Notices are ours: they count for nobody and are not held.
    assert json.loads(command(daemon, "audit", "--json"))["ledger"]["notices"]["queued"] == 7


def test_limits_over_smtp_and_a_restart(make_slimtad):
    """450 at MAIL and at RCPT; the counts outlive a stop, and who is held outlives a kill at once."""
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(
        soft={"messages": {"per_hour": 2}}, hard={"messages": {"per_hour": 5}, "recipients": {"per_day": 8}})).start()
    send_to_new(daemon, 3)
    daemon.wait_for_log("soft limit exceeded")
    assert len(daemon.wait_for_events(login=LOGIN, reason="3 messages in an hour, allowed are 2")) == 1
    assert f"{LOGIN} sends much: 3 messages in an hour, allowed are 2" in command(daemon, "status")
    assert daemon.term() == 0
    daemon.start_again()
    with daemon.connect() as client:
        assert client.mail("a@origin.test")[0] == 250
        replies = [client.rcpt(f"x{number}@one.test") for number in range(6)]
        assert [code for code, _ in replies] == [250] * 5 + [450]
        assert replies[5][1].startswith(b"4.7.1 Too much at once: 9 recipients in a day, allowed are 8")
        client.rset()
        send(client, b"Subject: x\r\n\r\nx\r\n", ["x@one.test"])
        send(client, b"Subject: x\r\n\r\nx\r\n", ["x@one.test"])
        code, text = client.mail("a@origin.test")
        assert code == 450 and text == b"4.7.1 Too much at once: 6 messages in an hour, allowed are 5; try again later"
    daemon.wait_until(lambda: len(daemon.events(quota=LOGIN)) == 2, what="both refusals in the log")
    assert [event["command"] for event in daemon.events(quota=LOGIN)] == ["RCPT", "MAIL"]
    # Another one has limits of its own, and a reload changes them without forgetting.
    daemon.add_user("app-1", PASSWORD)
    daemon.change(quota=quota(breaker={"messages": {"per_hour": 5}}) | {"except": [{"logins": ["app-*"]}]})
    command(daemon, "reload")
    with daemon.connect(login="app-1") as client:
        for _ in range(7):
            send(client, b"Subject: x\r\n\r\nx\r\n", ["x@one.test"])
    send_to_new(daemon, 1)
    daemon.kill()
    daemon.start_again()
    assert login(daemon)["held"] and held(daemon) >= 1
    assert "nothing is known of app-1" in command(daemon, "login", "show", "app-1", status=UNAVAILABLE)


def test_held_size(make_slimtad):
    """Of a login that is held no more is taken than held_size, whatever the messages; a release makes room again."""
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(held_size="100KB")).start()
    command(daemon, "login", "hold", LOGIN)
    large = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 600
    with daemon.connect() as client:
        send(client, large, ["a@one.test"])
        send(client, large, ["a@one.test"])
        assert client.mail("a@origin.test")[0] == client.rcpt("a@one.test")[0] == 250
        assert client.data(large) == (452, b"4.3.1 Insufficient system storage")
        # What is smaller still has room.
        send(client, b"Subject: x\r\n\r\nx\r\n", ["a@one.test"])
        assert held(daemon) == login(daemon)["held_messages"] == 3
        command(daemon, "login", "release", LOGIN)
        send(client, large, ["a@one.test"])
    assert held(daemon) == 0


def test_exceptions_of_networks(make_slimtad):
    """Who has no login is counted by address; a network that has limits of its own has those and no others."""
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(hard={"messages": {"per_hour": 2}}) | {
        "except": [{"networks": ["127.9.0.0/16"], "hard": {"messages": {"per_hour": 4}}}]})
    daemon.change(edge=daemon.settings["edge"] + [
        {"name": "open", "type": "smtp", "listen": [f"{daemon.address}:2525"], "tls": "none", "auth": "none"}])
    daemon.start()

    def accepted(source):
        with smtplib.SMTP(daemon.address, 2525, "client.test", timeout=20, source_address=(source, 0)) as client:
            client.ehlo()
            count = 0
            while client.mail("a@origin.test")[0] == 250:
                assert client.rcpt("b@one.test")[0] == client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
                count += 1
            return count

    assert accepted("127.8.0.1") == 2 and accepted("127.9.0.1") == 4
    assert accepted("127.8.0.1") == 0 and accepted("127.8.0.2") == 2 and accepted("127.9.255.1") == 4


def test_refused_recipients(place, make_slimtad):
    """A list that was bought: what its hosts say holds the login."""
    mx = PythonMX(place).start()
    mx.answers["RCPT"] = ["550 5.1.1 No such user"] * 5
    daemon = make_slimtad(relay=through(mx), quota=quota(breaker={"refused_share": 5})).start()
    with daemon.connect() as client:
        for number in range(5):
            send(client, b"From: a@x.test\r\nSubject: x\r\n\r\nx\r\n", [f"bad{number}@one.test"], sender="")
        daemon.wait_for_log("login is held")
        send(client, b"From: a@x.test\r\nSubject: x\r\n\r\nx\r\n", ["good@one.test"], sender="")
    assert login(daemon)["reason"] == "5 of the last 5 recipients were refused"
    assert login(daemon)["hour"]["refused"] == 5 and held(daemon) == 1 and not mx.messages


def with_all_edges(place, make_slimtad, **settings):
    """A daemon with edges of all kinds; what sends a message to each, and returns whether it was taken."""
    pickup = place.folder("pickup")
    pickup.chmod(0o3730)
    outside = place.folder("outside")
    daemon = make_slimtad(queue={"deliver": False}, **settings)
    socket = daemon.runtime / "sendmail"
    daemon.change(edge=daemon.settings["edge"] + [
        edge(daemon, auth="required", plaintext_auth=True),
        {"name": "sendmail", "type": "sendmail", "listen": [f"unix:{socket}"]},
        {"name": "pickup", "type": "directory", "path": str(pickup), "owner_login": True}])
    place.path.chmod(0o777)
    daemon.start()
    daemon.wait_for_log(" ready ")

    def smtp():
        with daemon.connect() as client:
            try:
                return client.sendmail("a@origin.test", ["b@one.test"], b"Subject: x\r\n\r\nx\r\n") == {}
            except smtplib.SMTPResponseException as error:
                assert error.smtp_code == 450
                return False

    def http():
        client = HTTP(daemon.address)
        client.send(request(b"Subject: x\r\n\r\nx\r\n", [*envelope(["b@one.test"]), ("Authorization", basic())]))
        answer = client.answer()
        assert answer.status == 200 or answer.reply.startswith("450"), answer.octets
        return answer.status == 200

    def sendmail():
        result = subprocess.run(
            [SLIMTAD, "sendmail", "--config", str(daemon.configuration), "b@one.test"], input=b"Subject: x\n\nx\n",
            capture_output=True, timeout=30)
        assert result.returncode in (0, 75), result.stderr
        return result.returncode == 0

    numbers = iter(range(1000))

    def directory():
        name, known = f"file{next(numbers)}", len(daemon.events(edge="pickup"))
        (outside / name).write_text(f"From: {WHO}@{HOSTNAME}\nTo: b@one.test\nSubject: x\n\nx\n")
        os.rename(outside / name, pickup / name)
        daemon.wait_until(lambda: len(daemon.events(edge="pickup")) > known, what="a line about the file")
        return "reply" not in daemon.events(edge="pickup")[-1]

    return daemon, [smtp, http, sendmail, directory]


def test_all_edges(place, make_slimtad):
    """An operator's hold, and a limit, over each of them: who sends is counted whatever it sends by."""
    daemon, edges = with_all_edges(place, make_slimtad)
    # Without [quota] nothing is counted, and somebody can still be held.
    assert "nothing is counted" in run_slimtad("login", "--config", daemon.configuration).stderr
    for name in (LOGIN, WHO):
        assert command(daemon, "login", "hold", name) == f"{name} is held, and 0 messages of the last hour\n"
    for number, submit in enumerate(edges, 1):
        assert submit()
        daemon.wait_until(lambda: held(daemon) == number, what=f"{number} held")
    assert login(daemon)["reason"] == f"{WHO} wants it so" and login(daemon)["held_messages"] == 2
    for name in (LOGIN, WHO):
        assert command(daemon, "login", "release", name) == f"{name} is released, and 2 messages\n"
    assert held(daemon) == 0
    daemon.change(quota=quota(hard={"messages": {"per_hour": 2}}))
    command(daemon, "reload")
    # What was held is in nobody's way.
    assert [submit() for submit in edges] == [True] * 4
    assert [submit() for submit in edges] == [False] * 4
    assert {name: login(daemon, name)["hour"]["messages"] for name in (LOGIN, WHO)} == {LOGIN: 2, WHO: 2}


def test_names_of_logins(make_slimtad):
    """A name that nobody has holds nobody, and is told; one is spelled as at logins."""
    daemon = make_slimtad(queue={"deliver": False}, auth={"fold_case": True}).start()
    for action in (["hold"], ["bounce", "--yes"]):
        assert "nobody is called gohst: " in command(daemon, "login", *action, "gohst", status=1)
    assert json.loads(command(daemon, "login", "--json"))["logins"] == []
    assert command(daemon, "login", "hold", LOGIN.upper()) == f"{LOGIN} is held, and 0 messages of the last hour\n"
    send_to_new(daemon, 1)
    assert held(daemon) == 1 and login(daemon, LOGIN.title())["held"]
    assert command(daemon, "login", "bounce", LOGIN.title(), "--yes") == f"1 message of {LOGIN} bounced\n"
    assert command(daemon, "login", "release", LOGIN.upper()).startswith(f"{LOGIN} is released")
    assert "is not held" in command(daemon, "login", "bounce", "--yes", LOGIN, status=UNAVAILABLE)
    # Other back ends cannot be asked whom they have.
    daemon.change(auth={"backends": ["file", "pam"]})
    command(daemon, "reload")
    result = run_slimtad("login", "hold", "GOHST", "--config", daemon.configuration)
    assert result.returncode == 0 and "gohst is held" in result.stdout and "nothing is known of gohst" in result.stderr


def test_the_socket_and_mistakes(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}, quota=quota(hard={"messages": {"per_hour": 9}})).start()
    assert curl(daemon, "/logins") == (200, {"counting": True, "known": 0, "logins": []})
    send_to_new(daemon, 1)
    assert [one["name"] for one in curl(daemon, "/logins?limit=1")[1]["logins"]] == [LOGIN]
    assert curl(daemon, "/logins?held=yes")[1]["logins"] == []
    assert curl(daemon, "/logins?limit=0")[0] == curl(daemon, "/logins?lmit=1")[0] == 400
    assert curl(daemon, "/logins?login=nobody")[0] == 404
    assert curl(daemon, "/logins/hold", "-X", "POST")[0] == 400
    assert curl(daemon, "/logins/keep?login=a", "-X", "POST")[0] == 404
    assert curl(daemon, "/logins/release?login=a", "-X", "POST")[0] == 409
    # A file that is no such file begins anew, and says so.
    assert daemon.term() == 0
    path = pathlib.Path(daemon.state) / "quotas"
    octets = path.read_bytes()
    path.write_bytes(octets[:-1])
    before = octets[:-1]
    daemon.expect_error("quotas begin anew")
    daemon.start_again()
    assert daemon.wait_for_events(error="the file is damaged") and curl(daemon, "/logins")[1]["known"] == 0
    (kept,) = path.parent.glob("quotas.unusable-*")
    assert kept.read_bytes() == before


def test_a_notice_for_the_operator(place, make_slimtad):
    """One message a hold to the address of the file, which is not counted, not held, and about which nothing is told."""
    mx = PythonMX(place).start()
    rules = quota(breaker={"messages": {"per_hour": 3}}, hard={"messages": {"per_hour": 100}})
    daemon = make_slimtad(
        relay=through(mx), quota=rules | {"notify": "postmaster@ops.test"}, queue={"deliver": False}).start()
    send_to_new(daemon, 6)
    daemon.wait_for_log("notice of a held login queued")
    daemon.wait_until(lambda: held(daemon) == 6, what="all of it held")
    daemon.change(queue={"deliver": True})
    command(daemon, "reload")
    (notice,) = mx.wait_for(1)
    assert notice.sender in ("", "<>", None) and notice.recipients == ["postmaster@ops.test"]
    found = email.message_from_bytes(notice.content, policy=email.policy.default)
    assert found["Auto-Submitted"] == "auto-generated" and found["Subject"] == f"Login {LOGIN} is held"
    assert found["From"].addresses[0].addr_spec == f"MAILER-DAEMON@{HOSTNAME}" and found["To"] == "postmaster@ops.test"
    text = found.get_content()
    for line in ["4 messages in an hour, allowed are 3", "within an hour:  ", f"slimtad login show {LOGIN}",
                 f"slimtad login release {LOGIN}", f"slimtad login bounce {LOGIN}", "one.test ("]:
        assert line in text, line
    # More of the same, a reload and a restart tell nothing more; nor does a crash.
    send_to_new(daemon, 3, start=10)
    command(daemon, "reload")
    daemon.wait_until(lambda: held(daemon) == 9, what="the rest held")
    assert login(daemon)["hour"]["messages"] == 9
    daemon.kill()
    daemon.start_again()
    assert daemon.term() == 0
    daemon.start_again()
    assert len(mx.messages) == 1 and daemon.log.count("notice of a held login queued") == 1
    # What they type next.
    assert command(daemon, "login", "bounce", LOGIN, "--yes") == f"9 messages of {LOGIN} bounced\n"
    assert command(daemon, "login", "release", LOGIN) == f"{LOGIN} is released, and 0 messages\n"
    assert json.loads(command(daemon, "audit", "--json"))["clean"]


def test_a_notice_that_is_refused(place, make_slimtad):
    """The operator's own mailbox is full: no loop, and the hold stays."""
    mx = PythonMX(place).start()
    mx.answers["RCPT"] = ["552 5.2.2 Full"]
    daemon = make_slimtad(relay=through(mx), quota=quota(
        breaker={"messages": {"per_hour": 1}}) | {"notify": "postmaster@ops.test"}, queue={"deliver": False}).start()
    send_to_new(daemon, 2)
    daemon.wait_until(lambda: held(daemon) == 2, what="both held")
    daemon.wait_for_log("notice of a held login queued")
    daemon.change(queue={"deliver": True})
    command(daemon, "reload")
    daemon.wait_for_log("notice could not be delivered")
    daemon.wait_until(lambda: command(daemon, "queue", "count") == "2\n", what="nothing but what is held")
    assert login(daemon)["held"] and not mx.messages
    daemon.change(quota={"notify": None})
    command(daemon, "reload")
    command(daemon, "login", "release", LOGIN)
    mx.wait_for(2)
    daemon.kill()


def test_a_crash_before_recent_mail_is_held(place, make_slimtad):
    """What is being attempted when its login is held, and the daemon is killed: it is held before it is attempted again."""
    mx = PythonMX(place).start()
    reached, go_on = threading.Event(), threading.Event()

    def wait(*_):
        reached.set()
        go_on.wait(30)
        return "451 4.3.0 Later"

    mx.answers["RCPT"] = [wait]
    daemon = make_slimtad(relay=through(mx), quota=quota(breaker={"messages": {"per_hour": 1}})).start()
    send_to_new(daemon, 1)
    assert reached.wait(30)
    send_to_new(daemon, 1, start=1)
    daemon.wait_for_log("login is held")
    assert held(daemon) == 1
    daemon.kill()
    go_on.set()
    daemon.start_again()
    daemon.wait_until(lambda: held(daemon) == 2, what="both held")
    assert not mx.messages and login(daemon)["held_messages"] == 1
    # What an operator lets go by itself stays so, though its login is held.
    recent = daemon.wait_for_events(login=LOGIN, protocol="ESMTPSA")[0]["queue_id"]
    command(daemon, "queue", "release", recent)
    mx.wait_for(1)
    assert held(daemon) == 1


def test_what_is_removed_makes_room(make_slimtad):
    """While it runs, by id and by filter; while it does not; and what a crash has made forgotten."""
    daemon = make_slimtad(queue={"deliver": False}, quota=quota() | {"held_messages": 4}).start()
    command(daemon, "login", "hold", LOGIN)
    send_to_new(daemon, 4)
    with daemon.connect() as client:
        assert client.mail("a@origin.test")[0] == 452
    first = daemon.wait_for_events(login=LOGIN, held="breaker")[0]["queue_id"]
    command(daemon, "queue", "remove", first, "--yes")
    assert login(daemon)["held_messages"] == 3
    # To two domains: two messages in the queue, which are one that was sent.
    with daemon.connect() as client:
        send(client, b"Subject: x\r\n\r\nx\r\n", ["a@one.test", "b@two.test"])
        assert client.mail("a@origin.test")[0] == 452
    command(daemon, "queue", "remove", "--domain", "two.test", "--yes")
    assert held(daemon) == 4 and login(daemon)["held_messages"] == 4
    command(daemon, "queue", "remove", "--login", LOGIN, "--reason", "breaker", "--yes")
    assert login(daemon)["held_messages"] == login(daemon)["held_octets"] == 0
    send_to_new(daemon, 4, start=10)
    daemon.kill()
    daemon.start_again()
    # Whatever was counted last before the crash.
    daemon.wait_until(lambda: login(daemon)["held_messages"] == 4, what="what is held is counted")
    assert daemon.term() == 0
    assert run_slimtad("queue", "remove", "--config", daemon.configuration, "--all", "--yes").returncode == 0
    daemon.start_again()
    daemon.wait_until(lambda: login(daemon)["held_messages"] == 0, what="what was removed is counted")
    send_to_new(daemon, 4, start=20)
