"""Policy services: Debian's servers of Postfix's policy delegation behind slimtad, and one with every fault there is."""

import smtplib

import pytest

from harness.machine import SUBMISSION
from harness.messages import message, parsed
from harness.policy import Postfwd, RateLimit, SPFPolicy, ToldPolicy
from harness.sink import Sink
from harness.wire import Wire, submission


def service(server, at="rcpt", **more):
    return {"at": at, "to": server.to} | more


@pytest.fixture
def make_asking(place, nameserver, make_slimtad):
    """slimtad, started, that asks `services`; and one.test, whose MX is a sink."""

    def make(*services, **settings):
        sink = Sink(place).start()
        nameserver.add_mx("one.test", sink.address)
        nameserver.start()
        return make_slimtad(nameserver, policy_service=list(services), **settings).start(), sink

    return make


def refused(client, recipient, sender="sender@origin.test"):
    """The reply to a RCPT, behind a MAIL that is taken."""
    client.rset()
    assert client.mail(sender)[0] == 250
    code, text = client.rcpt(recipient)
    return f"{code} {text.decode()}"


# Debian's servers


def test_postfwd(place, make_asking):
    """One recipient is refused, another one is greylisted, a third one accepted and its message held: each alone."""
    postfwd = Postfwd(
        place,
        "id=NO; recipient==no@one.test; action=REJECT 5.1.1 no such luck",
        "id=LATER; recipient==later@one.test; action=DEFER_IF_PERMIT 4.2.0 greylisted",
        "id=FIELD; recipient==field@one.test; action=PREPEND X-Postfwd: $$sasl_username from $$client_address",
        "id=HOLD; sender==held@origin.test; action=HOLD for review",
        "id=ALL; action=DUNNO",
    ).start()
    slimtad, sink = make_asking(service(postfwd, name="postfwd"))
    with slimtad.connect() as client:
        assert client.mail("sender@origin.test")[0] == 250
        replies = [client.rcpt(f"{name}@one.test") for name in ("field", "no", "later", "someone")]
        assert [code for code, _ in replies] == [250, 554, 450, 250]
        assert replies[1][1] == b"5.1.1 <no@one.test>: no such luck"
        assert replies[2][1] == b"4.2.0 <later@one.test>: greylisted"
        assert client.data(message("one"))[0] == 250
        arrived, = sink.wait_for(1)
        assert arrived.recipients == ["field@one.test", "someone@one.test"]
        assert parsed(arrived.content)["X-Postfwd"] == f"tester from {client.sock.getsockname()[0]}"
        # Of the next message nothing of that is left.
        assert client.mail("held@origin.test")[0] == 250
        assert client.rcpt("someone@one.test")[0] == 250
        assert client.data(message("two"))[0] == 250
    slimtad.wait_for_log("policy_service=postfwd")
    slimtad.wait_for_log("rule=postfwd")
    assert len(sink.transactions()) == 1


def test_policyd_rate_limit(place, make_asking):
    """It counts recipients of a login; what is too much waits, on a connection that is kept."""
    limit = RateLimit(place, count=2).start()
    slimtad, sink = make_asking(service(limit))
    with slimtad.connect() as client:
        assert client.mail("sender@origin.test")[0] == 250
        codes = [client.rcpt(f"{number}@one.test") for number in range(4)]
        assert [code for code, _ in codes] == [250, 250, 450, 450]
        assert codes[2][1] == b"4.7.1 <2@one.test>: Rate limit reach, retry later"
        assert client.data(message())[0] == 250
    assert sink.wait_for(1)[0].recipients == ["0@one.test", "1@one.test"]
    assert limit.log.count("connection from") == 2  # the harness's look at the socket, and slimtad


def test_policyd_spf(place, nameserver, make_asking):
    """Its answer is refused or put on top, once for each message however many recipients it has."""
    nameserver.add('good.test. 60 IN TXT "v=spf1 ip4:127.0.0.0/8 -all"')
    nameserver.add('bad.test. 60 IN TXT "v=spf1 -all"')
    spf = SPFPolicy(place, nameserver)
    slimtad, sink = make_asking(service(spf, timeout="20s"))
    spf.start()
    with slimtad.connect() as client:
        reply = refused(client, "one@one.test", sender="a@bad.test")
        assert reply.startswith("550 5.7.23 <one@one.test>: Message rejected due to: SPF fail - not authorized.")
        client.rset()
        assert client.mail("a@good.test")[0] == 250
        assert [client.rcpt(f"{number}@one.test")[0] for number in range(3)] == [250] * 3
        assert client.data(message())[0] == 250
    arrived, = sink.wait_for(1)
    field, = parsed(arrived.content).get_all("Received-SPF")
    assert field.startswith("Pass (mailfrom)")


# What it is asked


def test_every_stage(place, make_asking):
    """All attributes at all stages; one connection for a session."""
    stages = ["connect", "ehlo", "mail", "rcpt", "data", "message"]
    told = ToldPolicy(place).start()
    slimtad, sink = make_asking(service(told, at=stages, context="ours"))
    told.requests.clear()
    content = message()
    with slimtad.connect(helo="client.test") as client:
        client.mail('"two words"@origin.test', ["SIZE=5000"])
        client.rcpt("One@one.test")
        client.rcpt("two@one.test")
        client.data(content)
        client.mail("")
        client.rcpt("three@one.test")
        client.data(content)
        own = client.sock.getsockname()
    sink.wait_for(2)
    asked = told.requests
    assert [request["protocol_state"] for request in asked] == (
        ["CONNECT", "EHLO", "EHLO", "MAIL", "RCPT", "RCPT", "DATA", "END-OF-MESSAGE"]
        + ["MAIL", "RCPT", "DATA", "END-OF-MESSAGE"])
    assert {tuple(request) for request in asked} == {tuple(asked[0])} and len(asked[0]) == 29
    assert [request["protocol_name"] for request in asked[:4]] == ["SMTP", "SMTP", "ESMTP", "ESMTP"]
    for request in asked:
        assert request["request"] == "smtpd_access_policy" and request["policy_context"] == "ours"
        assert (request["client_address"], request["client_port"]) == (own[0], str(own[1]))
        assert request["server_address"] == slimtad.address
    assert asked[0]["helo_name"] == "" and asked[1]["helo_name"] == "client.test"
    assert (asked[1]["encryption_protocol"], asked[1]["encryption_keysize"]) == ("", "0")
    assert (asked[2]["encryption_protocol"], asked[2]["encryption_keysize"]) == ("TLSv1.3", "256")
    assert asked[2]["sasl_username"] == "" and asked[3]["sasl_username"] == "tester"
    assert asked[3]["sasl_method"] in ("PLAIN", "LOGIN")
    assert (asked[3]["sender"], asked[3]["size"], asked[3]["instance"]) == ("two words@origin.test", "5000", "")
    assert [request["recipient"] for request in asked[4:8]] == ["One@one.test", "two@one.test", "", ""]
    assert [request["recipient_count"] for request in asked[4:8]] == ["0", "0", "2", "2"]
    assert [request["size"] for request in asked[4:8]] == ["5000", "5000", "5000", str(len(content))]
    assert asked[8]["sender"] == "" and asked[11]["recipient"] == "three@one.test"
    # One token for each message.
    assert len({request["instance"] for request in asked[4:8]}) == 1
    assert len({request["instance"] for request in asked[9:12]}) == 1
    assert asked[4]["instance"] != asked[9]["instance"] != ""


def test_pipelined_recipients(place, make_asking):
    """Commands that come in one segment are asked about one after the other, and answered in order."""
    told = ToldPolicy(place, lambda request: "REJECT" if request["recipient"].startswith("odd") else "DUNNO").start()
    slimtad, sink = make_asking(service(told), limits={"errors": 100})
    with submission(slimtad) as wire:
        names = [f"{'odd' if number % 2 else 'even'}{number}@one.test" for number in range(20)]
        wire.send(b"MAIL FROM:<sender@origin.test>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % n.encode() for n in names))
        assert wire.code() == 250
        assert [wire.code() for _ in names] == [250, 554] * 10
        wire.send(b"DATA\r\n")
        assert wire.code() == 354
        wire.send(message() + b".\r\n")
        assert wire.code() == 250
    assert sorted(sink.wait_for(1)[0].recipients) == sorted(names[::2])
    assert [request["recipient"] for request in told.requests] == names


@pytest.mark.parametrize("code", [421, 521])
def test_a_code_that_closes(place, make_asking, code):
    told = ToldPolicy(place, f"{code} 4.7.0 go away").start()
    slimtad, _ = make_asking(service(told))
    with submission(slimtad) as wire:
        assert wire.ask("MAIL FROM:<sender@origin.test>").startswith("250 ")
        assert wire.ask("RCPT TO:<one@one.test>").startswith(f"{code} {code // 100}.7.0 <one@one.test>: go away")
        assert wire.is_closed()


def test_refused_at_each_stage(place, make_asking):
    """From the greeting to the dot: nothing that is refused is delivered."""
    state = {"at": "CONNECT"}
    told = ToldPolicy(place, lambda r: "REJECT no" if r["protocol_state"] == state["at"] else "DUNNO").start()
    state["at"] = "nowhere"
    slimtad, sink = make_asking(service(told, at=["connect", "ehlo", "mail", "data", "message"]))
    state["at"] = "CONNECT"
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.reply()[0].startswith("554 5.7.1 <127.")
    state["at"] = "EHLO"
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.reply()[0].startswith("220 ")
        assert wire.ask("EHLO client.test") == "554 5.7.1 <client.test>: no"
    state["at"] = "MAIL"
    with slimtad.connect() as client:
        assert client.mail("sender@origin.test") == (554, b"5.7.1 <sender@origin.test>: no")
    for state["at"] in ("DATA", "END-OF-MESSAGE"):
        with slimtad.connect() as client:
            client.mail("sender@origin.test")
            client.rcpt("one@one.test")
            # smtplib raises what DATA itself is told, and returns what is told behind the dot.
            try:
                told_back = client.data(message())
            except smtplib.SMTPDataError as error:
                told_back = (error.smtp_code, error.smtp_error)
            assert told_back == (554, b"5.7.1 no")
    assert not sink.transactions()


def test_what_mail_said_holds_for_its_message(place, make_asking):
    """A service that is asked about the message alone is told what MAIL said; and the id that the queue then has."""
    told = ToldPolicy(place, "PREPEND X-Word: gr\u00fcn").start()
    slimtad, sink = make_asking(service(told, at="message"))
    with slimtad.connect() as client:
        assert client.mail("sender@origin.test", ["SMTPUTF8", "AUTH=boss@origin.test"])[0] == 250
        assert client.rcpt("one@one.test")[0] == 250
        code, text = client.data(message())
        assert code == 250
        asked, = told.requests
        assert (asked["protocol_state"], asked["sasl_sender"]) == ("END-OF-MESSAGE", "boss@origin.test")
        assert asked["queue_id"] and asked["queue_id"] in text.decode()
        # The next one is told nothing of it.
        assert client.mail("sender@origin.test")[0] == 250
        assert client.rcpt("one@one.test")[0] == 250
        assert client.data(message())[0] == 250
    assert told.requests[1]["sasl_sender"] == "" and told.requests[1]["queue_id"] != asked["queue_id"]


# What goes wrong

FAULTS = {
    "hangs": ToldPolicy.HANG, "closes": ToldPolicy.CLOSE, "endless": ToldPolicy.ENDLESS, "rubbish": b"rubbish\n\n",
    "no action": b"verdict=OK\n\n", "SMTP": b"220 smtp.example.com ESMTP\r\n", "half": b"action=OK",
}


CASES = [(name, "tempfail") for name in FAULTS] + [("hangs", "accept"), ("closes", "accept")]


@pytest.mark.parametrize("name, on_failure", CASES, ids=[f"{name}-{failure}" for name, failure in CASES])
def test_faults(place, make_asking, name, on_failure):
    """Two tries, then on_failure; that in three sessions, and it is not asked for a while, without waiting."""
    told = ToldPolicy(place, FAULTS[name]).start()
    slimtad, sink = make_asking(service(told, name="odd", timeout="2s", on_failure=on_failure))
    slimtad.expect_error("policy service gives no answers")
    for number in range(6):
        with slimtad.connect() as client:
            assert client.mail("sender@origin.test")[0] == 250
            reply = client.rcpt(f"{number}@one.test")
            if on_failure == "accept":
                assert reply[0] == 250
                if number == 5:
                    assert client.data(message())[0] == 250
                    sink.wait_for(1)
            else:
                assert reply == (451, f"4.3.5 <{number}@one.test>: Policy service not available".encode())
    # The last three were not asked.
    recipients = {request["recipient"] for request in told.requests}
    assert recipients == {f"{number}@one.test" for number in range(3)}
    assert len(slimtad.wait_for_events(2, service="odd", on_failure=on_failure)) == 2


def test_nobody_listens(place, make_asking):
    """on_failure without a service, and mail again when it is there."""
    told = ToldPolicy(place)
    slimtad, _ = make_asking(service(told))
    with slimtad.connect() as client:
        assert refused(client, "one@one.test").startswith("451 4.3.5 ")
        told.start()
        assert refused(client, "one@one.test").startswith("250 ")
        # Idle connections that are gone cost nothing.
        told.kill()
        told.start()
        assert refused(client, "one@one.test").startswith("250 ")


def test_crlf(place, make_asking):
    told = ToldPolicy(place, b"action=REJECT no\r\n\r\n").start()
    slimtad, _ = make_asking(service(told))
    with slimtad.connect() as client:
        for _ in range(3):
            assert refused(client, "one@one.test") == "554 5.7.1 <one@one.test>: no"
    slimtad.wait_for_log("policy service ends its lines with CRLF")
    slimtad.term()
    assert slimtad.log.count("policy service ends its lines with CRLF") == 1


def test_several_services(place, make_asking):
    """In the file's order; the greylist behind which somebody knows that the recipient does not exist delays nobody."""
    grey = ToldPolicy(place, "DEFER_IF_PERMIT greylisted").start()
    users = ToldPolicy(
        place, lambda request: "DUNNO" if request["recipient"] == "real@one.test" else "550 5.1.1 no such user").start()
    slimtad, _ = make_asking(service(grey), service(users))
    with slimtad.connect() as client:
        assert refused(client, "no@one.test") == "550 5.1.1 <no@one.test>: no such user"
        assert refused(client, "real@one.test") == "450 4.7.1 <real@one.test>: greylisted"


def test_reload(place, make_asking):
    """The services of the new configuration are asked, and sessions that had begun go on with theirs."""
    first, second = ToldPolicy(place, "REJECT first").start(), ToldPolicy(place, "REJECT second").start()
    slimtad, _ = make_asking(service(first))
    with slimtad.connect() as old:
        assert refused(old, "one@one.test").endswith("first")
        slimtad.change(policy_service=[service(second)])
        slimtad.reload()
        with slimtad.connect() as new:
            assert refused(new, "one@one.test").endswith("second")
        assert refused(old, "one@one.test").endswith("first")
