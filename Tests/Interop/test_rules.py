"""[[rule]] at every stage, with the daemon as operators run it: what clients are told, what is in the queue, what is
logged; rules that need DNS with a real name server; and the three examples of the manual that slimtad carries on."""

import json
import socketserver
import threading
import time

import pytest

from harness.machine import SUBMISSION, new_address
from harness.messages import message
from harness.slimtad import LOGIN, run_slimtad
from harness.wire import Wire, plain, submission


@pytest.fixture
def ruled(make_slimtad):
    """slimtad with these rules, two edges more ("inside", where this network may send without a login, and "behind", which
    a proxy stands in front of), and nothing delivered."""

    def make(*rules, nameserver=None, deliver=False, **settings):
        daemon = make_slimtad(nameserver, **settings)
        daemon.inside, daemon.behind = new_address(), new_address()
        common = {"type": "smtp", "auth": "optional"}
        daemon.change(
            rule=[dict(rule) for rule in rules], queue={"deliver": deliver},
            edge=daemon.settings["edge"] + [
                {"name": "inside", "listen": [f"{daemon.inside}:2525"], "tls": "none",
                 "plaintext_auth": True, "trusted_networks": ["127.0.0.0/8"], **common},
                {"name": "behind", "listen": [f"{daemon.behind}:2525"], "tls": "starttls", "proxy_protocol": ["127.0.0.0/8"],
                 "trusted_networks": ["192.0.2.0/24", "2001:db8::/32"], **common},
            ])
        if not rules:
            del daemon.settings["rule"]
            daemon.change()
        return daemon.start()

    return make


def inside(daemon, ehlo=True):
    wire = Wire(daemon.inside, 2525)
    if ehlo:
        assert wire.code() == 220
        wire.ehlo()
    return wire


def behind(daemon, client="192.0.2.7", ehlo="client.test"):
    """A session of a client that a proxy tells of."""
    wire = Wire(daemon.behind, 2525, daemon.certificate)
    family = "TCP6" if ":" in client else "TCP4"
    wire.send(f"PROXY {family} {client} {'2001:db8::1' if ':' in client else '192.0.2.1'} 40000 25\r\n".encode())
    assert wire.code() == 220
    if ehlo:
        wire.ehlo(ehlo)
    return wire


def mail(wire, sender="sender@origin.test", *recipients):
    assert wire.ask(f"MAIL FROM:<{sender}>").startswith("250 "), wire
    for recipient in recipients:
        assert wire.ask(f"RCPT TO:<{recipient}>").startswith("250 "), wire


def content(wire, text="Subject: x\r\n\r\ntext\r\n"):
    """The reply to a message."""
    assert wire.ask("DATA").startswith("354 "), wire
    return wire.ask(text + ".")


def logged(daemon, count=1, **wanted):
    """The lines with these fields, when they are there."""
    return daemon.wait_until(
        lambda: len(daemon.events(**wanted)) >= count and daemon.events(**wanted), what=f"a line with {wanted}")


def stored(daemon):
    """The queued messages as `slimtad queue list` has them."""
    return json.loads(run_slimtad("queue", "list", "--config", daemon.configuration, "--json").stdout)


def shown(daemon, queue_id):
    return run_slimtad("queue", "show", "--content", "--config", daemon.configuration, queue_id).stdout


# Every stage: a reply, and the rule's name in the log.


def test_connect(ruled):
    daemon = ruled({"name": "strangers", "at": "connect", "edge": "inside", "client": "127.0.0.0/8",
                    "reply": "554 5.7.1 {client} is not welcome at {edge}"})
    with inside(daemon, ehlo=False) as wire:
        assert wire.reply() == ["554 5.7.1 127.0.0.1 is not welcome at inside"]
        # RFC 5321 section 3.1: nothing but QUIT.
        assert wire.ask("EHLO x").startswith("503 ")
        assert wire.ask("QUIT").startswith("221 ")
        wire.is_closed()
    event, = logged(daemon, rule="strangers", command="CONNECT")
    assert event["reply"].startswith("554 5.7.1") and event["edge"] == "inside"
    with submission(daemon):
        pass


def test_close(ruled):
    daemon = ruled({"name": "go away", "at": "connect", "edge": "inside", "action": "close"})
    with inside(daemon, ehlo=False) as wire:
        assert wire.reply()[0].startswith("421 ")
        wire.is_closed()


def test_ehlo(ruled):
    daemon = ruled(
        {"name": "names", "at": "ehlo", "ehlo": ["localhost", "*.evil.test"], "reply": "550 5.7.1 {ehlo} is no name of yours"})
    with inside(daemon, ehlo=False) as wire:
        assert wire.code() == 220
        assert wire.ask("EHLO a.EVIL.test") == "550 5.7.1 a.EVIL.test is no name of yours"
        assert wire.ask("HELO localhost").startswith("550 5.7.1 localhost ")
        assert wire.ask("MAIL FROM:<a@b.test>").startswith("503 ")
        wire.ehlo("good.test")
        mail(wire, "a@b.test", "c@d.test")


def test_starttls(ruled):
    daemon = ruled({"name": "no tls", "at": "starttls", "ehlo": "old.test", "reply": "454 4.7.0 Not now"})
    with Wire(daemon.address, SUBMISSION, daemon.certificate) as wire:
        assert wire.code() == 220
        wire.ehlo("old.test")
        assert wire.ask("STARTTLS") == "454 4.7.0 Not now"
    with submission(daemon):
        pass


def test_auth(ruled):
    """The credentials are right: may he log in here? And a wrong password is told nothing of rules."""
    daemon = ruled({"name": "only at home", "at": "auth", "login": LOGIN, "edge": "inside",
                    "reply": "535 5.7.8 {login} logs in elsewhere"})
    with inside(daemon) as wire:
        assert wire.ask("AUTH PLAIN " + plain(password="wrong")).startswith("535 5.7.8 Auth")
        assert wire.ask("AUTH PLAIN " + plain()) == f"535 5.7.8 {LOGIN} logs in elsewhere"
    with submission(daemon):
        pass


def test_mail(ruled):
    daemon = ruled(
        {"name": "one of us", "at": "mail", "sender": "boss@closed.test", "action": "accept"},
        {"name": "closed", "at": "mail", "sender": "@closed.test", "reply": "550 5.7.1 <{sender}> may not"},
        {"name": "below", "at": "mail", "sender": "@.closed.test", "reply": "550 5.7.1 {rule}"},
        {"name": "much", "at": "mail", "size": "> 10MiB", "reply": "552 5.3.4 Not so much"})
    with inside(daemon) as wire:
        assert wire.ask("MAIL FROM:<a@CLOSED.test>") == "550 5.7.1 <a@CLOSED.test> may not"
        assert wire.ask("MAIL FROM:<a@x.closed.test>") == "550 5.7.1 below"
        assert wire.ask("MAIL FROM:<a@b.test> SIZE=20000000") == "552 5.3.4 Not so much"
        assert wire.ask("MAIL FROM:<boss@closed.test>").startswith("250 ")
        wire.ask("RSET")
        mail(wire, "", "c@d.test")


def test_recipients(ruled):
    daemon = ruled(
        {"name": "partner", "at": "rcpt", "recipient": "/^(list|news)-[0-9]+@/", "not": {"sender": "@news.test"},
         "reply": "554 5.7.1 {recipient} is closed to {sender}"},
        {"name": "few", "at": "rcpt", "recipients": "> 2", "reply": "452 4.5.3 Three are too many"})
    with inside(daemon) as wire:
        mail(wire, "a@b.test", "list-x@one.test")
        assert wire.ask("RCPT TO:<List-7@one.test>") == "554 5.7.1 List-7@one.test is closed to a@b.test"
        assert content(wire).startswith("250 ")
        mail(wire, "a@news.test", "list-7@one.test")
    event, = logged(daemon, rule="partner")
    assert event["command"] == "RCPT" and event["address"] == "<List-7@one.test>" and event["sender"] == "a@b.test"


def test_data(ruled):
    daemon = ruled({"name": "not two", "at": "data", "recipients": "> 1", "recipient": "@closed.test",
                    "reply": "550 5.7.1 Not with others"})
    with inside(daemon) as wire:
        mail(wire, "a@b.test", "x@closed.test", "y@one.test")
        assert wire.ask("DATA") == "550 5.7.1 Not with others"
        wire.ask("RSET")
        mail(wire, "a@b.test", "x@closed.test")
        assert content(wire).startswith("250 ")


def test_message(ruled):
    """The header as it came, whatever the body is, and the size that it has."""
    daemon = ruled(
        {"name": "pills", "at": "message", "header": {"name": "Subject", "value": "*v?agra*"},
         "reply": "554 5.6.0 Not that"},
        {"name": "bulk", "at": "message", "header": {"name": "List-Id"}, "size": "> 1MiB", "reply": "552 5.3.4 Too much"})
    with inside(daemon) as wire:
        for text, reply in [
            ("Subject: cheap\r\n\tVIAGRA here\r\n\r\nx\r\n", "554 5.6.0 Not that"),
            ("Subject: x\r\n\r\nSubject: viagra\r\n", "250 2.6.0 "),
            ("List-Id: a\r\n\r\nx\r\n", "250 2.6.0 "),
            ("List-Id: a\r\n\r\n" + ("x" * 998 + "\r\n") * 1100, "552 5.3.4 Too much"),
        ]:
            mail(wire, "a@b.test", "x@one.test")
            assert content(wire, text).startswith(reply)
    assert len(stored(daemon)) == 2
    assert [event["rule"] for event in logged(daemon, 2, command="DATA")] == ["pills", "bulk"]


# Actions.


def test_added_fields(ruled):
    """Fields of every stage are above our Received, on each envelope, and only on the messages that they are of."""
    daemon = ruled(
        {"name": "c", "at": "connect", "add_field": "X-Client: {client} at {edge}"},
        {"name": "e", "at": "ehlo", "ehlo": "client.test", "add_field": "X-Ehlo: {ehlo}"},
        {"name": "m", "at": "mail", "sender": "a@b.test", "add_field": "X-Sender: {sender}"},
        {"name": "r", "at": "rcpt", "recipient": "@two.test", "add_field": "X-Two: yes"},
        queue={"policies": ["domain_split", "received"]})
    with inside(daemon) as wire:
        mail(wire, "a@b.test", "x@one.test", "x@two.test")
        assert content(wire).startswith("250 ")
        mail(wire, "other@b.test", "x@three.test")
        assert content(wire).startswith("250 ")
    queued = stored(daemon)
    assert len(queued) == 3
    for item in queued:
        fields = [line.split(":")[0] for line in shown(daemon, item["id"]).splitlines() if ":" in line[:12]]
        wanted = ["X-Client", "X-Ehlo"] + (["X-Sender", "X-Two"] if item["sender"] == "a@b.test" else [])
        assert sorted(fields[:fields.index("Received")]) == sorted(wanted), fields


def test_what_rset_forgets(ruled):
    daemon = ruled({"name": "m", "at": "mail", "sender": "a@b.test", "add_field": "X-Sender: {sender}"},
                   {"name": "r", "at": "rcpt", "recipient": "@held.test", "action": "hold"})
    with inside(daemon) as wire:
        mail(wire, "a@b.test", "x@held.test")
        assert wire.ask("RSET").startswith("250 ")
        mail(wire, "c@b.test", "x@one.test")
        assert content(wire).startswith("250 ")
    item, = stored(daemon)
    assert item["state"] != "held" and "X-Sender" not in shown(daemon, item["id"])


def test_hold(ruled, nameserver, sink):
    """Held with the rule's name, over a restart, until it is released."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    daemon = ruled({"name": "much at night", "at": "message", "header": {"name": "X-Much"}, "action": "hold"},
                   nameserver=nameserver, deliver=True)
    with submission(daemon) as wire:
        mail(wire, "a@b.test", "x@one.test", "y@one.test")
        assert content(wire, "X-Much: 1\r\n\r\nx\r\n").startswith("250 2.6.0 Message queued as ")
        mail(wire, "a@b.test", "z@one.test")
        assert content(wire).startswith("250 ")
    daemon.wait_for_attempts(1, recipient="z@one.test")
    item, = stored(daemon)
    assert (item["state"], item["reason"]) == ("held", "much at night")
    daemon.term()
    daemon.start_again()
    item, = stored(daemon)
    assert (item["state"], item["reason"]) == ("held", "much at night")
    assert "held, by the rule much at night" in run_slimtad(
        "queue", "show", "--config", daemon.configuration, item["id"]).stdout
    released = run_slimtad("queue", "release", "--config", daemon.configuration, item["id"])
    assert released.returncode == 0, released.stderr
    daemon.wait_for_attempts(1, recipient="x@one.test")


def test_delay_and_log(ruled):
    daemon = ruled({"name": "slow", "at": "rcpt", "recipient": "@slow.test", "delay": "1s"},
                   {"name": "try it", "at": "rcpt", "recipient": "@slow.test", "action": "log"},
                   {"name": "never", "at": "rcpt", "recipient": "@slow.test", "delay": "30s", "edge": "submission"})
    with inside(daemon) as wire:
        mail(wire, "a@b.test")
        began = time.monotonic()
        assert wire.ask("RCPT TO:<x@slow.test>").startswith("250 ")
        assert time.monotonic() - began >= 1
    event, = logged(daemon, rule="try it")
    assert event["action"] == "log"
    assert not daemon.events(rule="never")


def test_who_waits_can_go(ruled):
    """A client that goes while its reply is delayed leaves nothing behind, and a stop does not wait for the delay."""
    daemon = ruled({"name": "slow", "at": "mail", "delay": "30s"})
    for _ in range(5):
        wire = inside(daemon)
        wire.send(b"MAIL FROM:<a@b.test>\r\n")
        time.sleep(0.1)
        wire.socket.close()
    with inside(daemon) as wire:
        wire.send(b"MAIL FROM:<a@b.test>\r\n")
        time.sleep(0.2)
        daemon.wait_until(
            lambda: json.loads(run_slimtad("status", "--config", daemon.configuration, "--json").stdout), what="status")
        assert daemon.term() == 0


def test_rates(ruled):
    daemon = ruled({"name": "hourly", "at": "mail", "rate": "client > 2/hour", "reply": "450 4.7.1 Later"})
    for expected in ["250 ", "250 ", "250 ", "450 4.7.1 Later"]:
        with inside(daemon) as wire:
            reply = wire.ask("MAIL FROM:<a@b.test>")
            assert reply.startswith(expected), (reply, expected)
            if reply.startswith("250 "):
                assert wire.ask("RCPT TO:<x@one.test>").startswith("250 ")
                assert content(wire).startswith("250 ")


def test_rates_go_on_at_a_reload(ruled):
    """Who has used up his day gets no other one because an operator counts minutes, too."""
    daily = {"name": "daily", "at": "mail", "rate": "client > 1/day", "reply": "450 4.7.1 Tomorrow"}
    daemon = ruled(daily)
    with inside(daemon) as old:
        for _ in range(2):
            mail(old, "a@b.test", "x@one.test")
            assert content(old).startswith("250 ")
        daemon.change(rule=[daily | {"name": "often", "rate": "client > 50/minute"}, daily])
        daemon.reload()
        for wire in [old, inside(daemon)]:
            with wire:
                assert wire.ask("MAIL FROM:<a@b.test>") == "450 4.7.1 Tomorrow"


@pytest.mark.parametrize("domain", ["\uff43\uff4c\uff4f\uff53\uff45\uff44.test", "closed\u3002test", "CLOSED.test"])
def test_spellings(ruled, domain):
    """An expression closes a domain to all who can name it: mail for each of these goes to closed.test."""
    daemon = ruled({"name": "closed", "at": "rcpt", "recipient": "/@closed\\.test$/", "reply": "550 5.7.1 Closed"})
    with inside(daemon) as wire:
        assert wire.ask("MAIL FROM:<a@b.test> SMTPUTF8").startswith("250 ")
        wire.send(f"RCPT TO:<bob@{domain}>\r\n".encode())
        assert wire.reply() == ["550 5.7.1 Closed"]
        assert wire.ask("RCPT TO:<bob@open.test>").startswith("250 ")


def test_reload(ruled):
    """A session keeps the rules that it began with."""
    daemon = ruled({"name": "closed", "at": "rcpt", "recipient": "@closed.test", "reply": "554 5.7.1 Closed"})
    with inside(daemon) as old:
        mail(old, "a@b.test")
        daemon.change(rule=[{"name": "open", "at": "rcpt", "recipient": "@open.test", "reply": "554 5.7.1 Open"}])
        daemon.reload()
        assert old.ask("RCPT TO:<x@closed.test>") == "554 5.7.1 Closed"
        with inside(daemon) as new:
            mail(new, "a@b.test", "x@closed.test")
            assert new.ask("RCPT TO:<x@open.test>") == "554 5.7.1 Open"


# Facts that are looked up.


def test_ptr(ruled, nameserver):
    nameserver.add("7.2.0.192.in-addr.arpa. 60 IN PTR host.dialup.test.")
    nameserver.add("host.dialup.test. 60 IN A 192.0.2.7")
    nameserver.add("8.2.0.192.in-addr.arpa. 60 IN PTR other.dialup.test.")
    nameserver.add("other.dialup.test. 60 IN A 192.0.2.99")
    nameserver.start()
    daemon = ruled({"name": "dialup", "at": "mail", "ptr": "*.dialup.test", "reply": "550 5.7.1 {ptr} is a dialup"},
                   nameserver=nameserver)
    with behind(daemon) as wire:
        assert wire.ask("MAIL FROM:<a@b.test>") == "550 5.7.1 host.dialup.test is a dialup"
    with behind(daemon, "192.0.2.8") as wire:
        # Its name says that it is another's.
        assert wire.ask("MAIL FROM:<a@b.test>").startswith("250 ")


def test_block_list(ruled, nameserver):
    """Of clients that are nobody's yet. A list that refuses to answer lists nobody."""
    nameserver.add("2.0.0.127.bl.test. 60 IN A 127.0.0.2")
    nameserver.add("7.100.51.198.bl.test. 60 IN A 127.0.0.4")
    nameserver.add('7.100.51.198.bl.test. 60 IN TXT "see https://bl.test/198.51.100.7"')
    nameserver.add("8.100.51.198.bl.test. 60 IN A 127.255.255.254")
    nameserver.start()
    daemon = ruled({"name": "listed", "at": "ehlo", "dnsbl": "bl", "reply": "554 5.7.1 {client} is listed: {reason}"},
                   nameserver=nameserver, dnsbl=[{"name": "bl", "zone": "bl.test", "of": "client"}])
    daemon.expect_error("block list answers with an error")
    with behind(daemon, "198.51.100.7", ehlo=None) as wire:
        assert wire.ask("EHLO x.test") == "554 5.7.1 198.51.100.7 is listed: see https://bl.test/198.51.100.7"
    for client in ["198.51.100.8", "198.51.100.9", "192.0.2.7"]:
        with behind(daemon, client):
            pass
    event, = logged(daemon, rule="listed", command="EHLO")
    assert event["dnsbl"] == "bl"


def test_early_talker(make_slimtad):
    daemon = make_slimtad(rule=[{"name": "hasty", "at": "connect", "early_talker": True, "reply": "554 5.7.1 Wait for us"}])
    edge = daemon.settings["edge"][0] | {"greet_delay": "1s"}
    daemon.change(edge=[edge])
    daemon.start()
    with Wire(daemon.address, SUBMISSION) as wire:
        wire.send(b"EHLO hasty.test\r\n")
        assert wire.reply() == ["554 5.7.1 Wait for us"]
        assert wire.code() == 503
    with Wire(daemon.address, SUBMISSION) as wire:
        assert wire.code() == 220


# The three examples of the manual.


def test_example_credentials(ruled):
    """Who may log in is what `[auth] users` says; everybody else gets what the manual has."""
    with inside(ruled()) as wire:
        assert wire.ask("AUTH PLAIN " + plain(password="wrong")) == "535 5.7.8 Authentication credentials invalid"
        assert wire.ask("AUTH PLAIN " + plain()).startswith("235 2.7.0 ")


def test_example_mail_after_auth(ruled):
    daemon = ruled({"name": "only with a login", "at": "mail", "authenticated": False,
                    "reply": "550 5.7.1 Sender not allowed"})
    with inside(daemon) as wire:
        assert wire.ask("MAIL FROM:<a@b.test>") == "550 5.7.1 Sender not allowed"
        wire.login()
        assert wire.ask("MAIL FROM:<a@b.test>") == "250 2.1.0 <a@b.test> Ok"


@pytest.fixture
def spf_zone(nameserver):
    nameserver.add('pass.test. 60 IN TXT "v=spf1 ip4:192.0.2.0/25 -all"')
    nameserver.add('fail.test. 60 IN TXT "v=spf1 -all"')
    nameserver.add('why.test. 60 IN TXT "v=spf1 -all exp=exp.why.test"')
    nameserver.add('exp.why.test. 60 IN TXT "%{i} is no host of %{d}"')
    nameserver.add('soft.test. 60 IN TXT "v=spf1 ~all"')
    nameserver.add('broken.test. 60 IN TXT "v=spf1 nonsense"')
    nameserver.add('neutral.test. 60 IN TXT "v=spf1 ?all"')
    nameserver.add("7.2.0.192.in-addr.arpa. 60 IN PTR host.test.")
    nameserver.add("host.test. 60 IN A 192.0.2.7")
    return nameserver.start()


def test_example_spf(ruled, spf_zone):
    """Enforcement by result, with the reason in the reply; what is not named does nothing."""
    denied = {"code": 550, "message": "5.7.1 Access denied: {reason}"}
    daemon = ruled(
        {"name": "traced", "at": "mail", "spf": "pass", "add_field": "X-SPF: passed"}, nameserver=spf_zone,
        spf={"fail": denied, "permerror": {"code": 550, "message": "5.5.2 {reason}"},
             "neutral": {"code": 450, "message": "4.7.1 {ptr} and {client}"}, "received_spf": True})
    with behind(daemon, ehlo="fail.test") as wire:
        assert wire.ask("MAIL FROM:<a@fail.test>").startswith("550 5.7.1 Access denied: ")
        explained = wire.ask("MAIL FROM:<a@why.test>")
        assert explained.startswith("550 5.7.1 Access denied: ") and "192.0.2.7 is no host of why.test" in explained
        assert wire.ask("MAIL FROM:<a@broken.test>").startswith("550 5.5.2 ")
        # No rule asks for the name of the client, but the reply says it.
        assert wire.ask("MAIL FROM:<a@neutral.test>") == "450 4.7.1 host.test and 192.0.2.7"
        # The null sender is judged by the name of the client.
        assert wire.ask("MAIL FROM:<>").startswith("550 5.7.1 Access denied: ")
        for sender in ["a@pass.test", "a@soft.test", "a@nothing.test"]:
            mail(wire, sender, "x@one.test")
            assert content(wire).startswith("250 ")
        # Who has logged in is not checked: his laptop is wherever it is.
        assert wire.ask("STARTTLS").startswith("220 ")
        wire.tls()
        wire.ehlo("fail.test")
        wire.login()
        mail(wire, "a@fail.test", "x@one.test")
        assert content(wire).startswith("250 ")
    events = logged(daemon, 5, command="MAIL")
    assert [event.get("spf") for event in events] == ["fail", "fail", "permerror", "neutral", "fail"], events
    texts = [shown(daemon, item["id"]) for item in stored(daemon)]
    words = [text.split("Received-SPF: ")[1].split(" ")[0] if "Received-SPF: " in text else None for text in texts]
    assert sorted(word or "" for word in words) == ["", "none", "pass", "softfail"]
    assert [("X-SPF: passed" in text) for text in texts].count(True) == 1
    for text in texts:
        if "Received-SPF: " in text:
            assert text.index("Received-SPF: ") < text.index("\nReceived: from ")


# Policy services.


@pytest.fixture
def policy_server():
    """A server of Postfix's protocol: `answers` says what to, by protocol_state; `asked` has what it was told."""
    answers, asked = {}, []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            told = {}
            for line in self.rfile:
                name, _, value = line.decode().rstrip("\n").partition("=")
                if name:
                    told[name] = value
                    continue
                asked.append(told)
                self.wfile.write(f"action={answers.get(told['protocol_state'], 'DUNNO')}\n\n".encode())
                told = {}

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.answers, server.asked = answers, asked
        yield server
        server.shutdown()


def test_policy_service(ruled, policy_server, nameserver):
    """Asked behind rules; what it says of a message goes the way of what rules say."""
    nameserver.start()
    daemon = ruled(
        {"name": "friend", "at": "rcpt", "recipient": "@friend.test", "action": "accept"}, nameserver=nameserver,
        policy_service=[{"name": "delegate", "at": ["mail", "rcpt", "message"],
                         "to": f"127.0.0.1:{policy_server.server_address[1]}"}])
    answers = policy_server.answers
    with inside(daemon) as wire:
        answers["RCPT"] = "REJECT 5.7.1 not here"
        mail(wire, "a@b.test", "x@friend.test")
        assert wire.ask("RCPT TO:<x@one.test>") == "554 5.7.1 <x@one.test>: not here"
        event, = logged(daemon, policy_service="delegate", command="RCPT")
        answers.update({"RCPT": "PREPEND X-Delegate: yes", "END-OF-MESSAGE": "HOLD by word"})
        assert wire.ask("RCPT TO:<y@one.test>").startswith("250 ")
        assert content(wire).startswith("250 ")
    # One for each domain.
    for item in stored(daemon):
        assert (item["state"], item["reason"]) == ("held", "delegate")
        assert "X-Delegate: yes" in shown(daemon, item["id"]).split("Received: ")[0]
    states = [told["protocol_state"] for told in policy_server.asked]
    assert states == ["MAIL", "RCPT", "RCPT", "END-OF-MESSAGE"]
    assert policy_server.asked[1]["recipient"] == "x@one.test" and policy_server.asked[1]["protocol_name"] == "ESMTP"
