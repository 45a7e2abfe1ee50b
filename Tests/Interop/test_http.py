"""The HTTP edge: the manual's protocol, with curl, Python's requests, the ancestor's HttpRelay, and on raw octets."""

import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import time

import pytest
import requests

from harness.haproxy import HAProxy
from harness.http import HTTP, PORT, basic, edge, encoded, envelope, request, with_edge
from harness.machine import MX_PORT, free_ports, give, new_address
from harness.messages import message, prepended, received
from harness.python_mx import PythonMX
from harness.slimtad import run_slimtad

REPLY = '250; message="2.6.0 Message accepted for delivery"'
MANUAL = (
    "From: sender@example.com\r\nTo: recipient@example.com\r\nSubject: HTTP mail delivery\r\n\r\nTest message!\r\n\r\n")


@pytest.fixture
def daemon(make_slimtad):
    """slimtad with an HTTP edge for this machine; nothing is delivered."""
    daemon = make_slimtad(queue={"deliver": False})
    return with_edge(daemon).start()


@pytest.fixture
def delivering(place, make_slimtad):
    """The same, and an MX that gets all mail: (slimtad, mx)."""
    mx = PythonMX(place, size=0).start()
    daemon = make_slimtad(relay={
        "type": "smtp", "host": f"{mx.address}:{MX_PORT}", "port": None, "allow_networks": None})
    with_edge(daemon)
    return daemon.start(), mx


def url(daemon, port=PORT):
    return f"http://{daemon.address}:{port}/"


def queued(daemon):
    listed = run_slimtad("queue", "list", "--json", "--config", daemon.configuration)
    assert listed.returncode == 0, listed.stderr
    return json.loads(listed.stdout)


def test_the_manuals_session(daemon, place):
    """Byte for byte, but for date and host; X-Queue-Id is ours."""
    file = place.folder("manual") / "test.eml"
    file.write_bytes(MANUAL.encode())
    assert len(MANUAL) == 101
    done = subprocess.run(
        ["curl", "-sv", "-X", "POST", "-A", "curl/7.29.0", "-H", "Content-Type: message/rfc822", "--data-binary", f"@{file}",
         "-H", "X-Envelope-Sender: c2VuZGVyQGV4YW1wbGUuY29t",
         "-H", "X-Envelope-Recipient: cmVjaXBpZW50QGV4YW1wbGUuY29t", url(daemon)],
        capture_output=True, text=True, timeout=30)
    lines = done.stderr.splitlines()
    asked = [line[2:] for line in lines if line.startswith("> ") and not line.startswith("> Host: ")]
    assert set(asked) >= {
        "POST / HTTP/1.1", "User-Agent: curl/7.29.0", "Accept: */*", "Content-Type: message/rfc822",
        "X-Envelope-Sender: c2VuZGVyQGV4YW1wbGUuY29t", "X-Envelope-Recipient: cmVjaXBpZW50QGV4YW1wbGUuY29t",
        "Content-Length: 101"}
    answer = "".join(line[2:] + "\n" for line in lines if line.startswith("< "))
    answer, ids = re.subn(r"X-Queue-Id: [0-9a-f]{32}\n", "", answer)
    answer = re.sub(r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "Date: DATE", answer)
    assert ids == 1
    assert answer == f"HTTP/1.1 200 OK\nX-Smtp-Reply: {REPLY}\nDate: DATE\nContent-Length: 0\n\n"
    assert done.stdout == ""
    (item,) = queued(daemon)
    assert (item["sender"], item["recipients"]) == ("sender@example.com", ["recipient@example.com"])


def test_what_arrives(delivering):
    """The octets as they were sent, LF or CRLF; Received tells how."""
    daemon, mx = delivering
    sent = message()
    names = ["a@one.test", "b@one.test", "c@two.test", "ü@two.test"]
    fields = [
        ("X-Envelope-Sender", encoded("sender@origin.test")), ("X-Ehlo", "client.test"),
        ("X-Envelope-Recipient", f"{encoded(names[0])}, {encoded(names[1])}"),
        ("x-envelope-recipient", f"{encoded(names[2])} ;{encoded(names[3])}"),
        ("Content-Type", "MESSAGE/RFC822; charset=\"utf-8\"")]
    with HTTP(daemon.address) as http:
        assert http.ask(request(sent, fields)).status == 200
        assert http.ask(request(sent.replace(b"\r\n", b"\n"), fields)).status == 200
    arrived = mx.wait_for(4)
    assert sorted(name for one in arrived for name in one.recipients) == sorted(names * 2)
    for one in arrived:
        ((_, value),) = prepended(one.content, sent)
        told = received(value)
        assert told["with"] == "HTTP" and told["address"] == "127.0.0.1" and "client.test" in value, value


@pytest.mark.parametrize("kind", ["chunked", "length", "expect"])
def test_large_messages(delivering, place, kind):
    """Streamed to the disk, whatever the framing; the same octets come out."""
    daemon, mx = delivering
    sent = message(body="0123456789" * 7 + "\r\n" + ("x" * 70 + "\r\n") * 40_000)
    file = place.folder("large") / "message"
    file.write_bytes(sent)
    extra = {"chunked": ["-H", "Transfer-Encoding: chunked"], "length": ["-H", "Expect:"], "expect": ["-H", "Expect: 100-continue"]}
    done = subprocess.run(
        ["curl", "-sS", "-w", "%{http_code} %{num_connects}\n", "--data-binary", f"@{file}", *extra[kind],
         *(f"-H{name}: {value}" for name, value in envelope()), "-H", "Content-Type: message/rfc822",
         url(daemon), url(daemon)],
        capture_output=True, text=True, timeout=60)
    assert done.stdout == "200 1\n200 0\n", done.stderr
    for one in mx.wait_for(2):
        prepended(one.content, sent)


def test_with_requests(daemon):
    """Keep-alive, generators as chunks, and Basic as the library has it."""
    with requests.Session() as session:
        for data in (message(), iter([message()])):
            answer = session.post(
                url(daemon), data=data, headers=dict(envelope()) | {"Content-Type": "message/rfc822"}, timeout=15)
            assert (answer.status_code, answer.headers["X-Smtp-Reply"]) == (200, REPLY)
            assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Queue-Id"])
    assert len(queued(daemon)) == 2


def test_pipelining_keeps_the_order(daemon):
    """Good and bad by turns, all sent at once; the answers come one by one, in order."""
    good, bad = request(message()), request(message(), envelope(recipients=["nobody"]))
    with HTTP(daemon.address) as http:
        http.send((good + bad) * 10)
        assert [http.answer().status for _ in range(20)] == [200, 400] * 10
        # A client that has closed its side gets its answer.
        http.send(good)
        http.socket.shutdown(socket.SHUT_WR)
        assert http.answer().status == 200
        assert http.is_closed()
    assert len(queued(daemon)) == 11


@pytest.mark.parametrize("limits, count", [({"errors": 3}, 3), ({"errors": 7, "commands": 4}, 4)])
def test_what_leads_to_nothing(make_slimtad, limits, count):
    """Who is refused again and again, or asks and has nothing taken, waits and is let go; a message that is taken begins anew."""
    daemon = with_edge(make_slimtad(queue={"deliver": False}, limits=limits)).start()
    good, bad = request(message()), request(message(), envelope(recipients=["nobody"]))
    began = time.monotonic()
    with HTTP(daemon.address) as http:
        http.send((bad * (count - 1) + good) * 2 + bad * (count + 5))
        assert [http.answer().status for _ in range(2 * count)] == ([400] * (count - 1) + [200]) * 2
        assert [http.answer().status for _ in range(count)] == [400] * count
        assert http.is_closed()
    assert time.monotonic() - began >= 0.25
    assert len(queued(daemon)) == 2


@pytest.mark.parametrize("change, status, reply", [
    ({"fields": envelope()[1:]}, 400, "501"), ({"fields": envelope()[:1]}, 400, "501"),
    ({"fields": envelope() + envelope()[:1]}, 400, None),
    ({"fields": [("X-Envelope-Sender", "sender@origin.test"), *envelope()[1:]]}, 400, "501"),
    ({"fields": [*envelope()[:1], ("X-Envelope-Recipient", "!")]}, 400, "501"),
    ({"fields": [*envelope()[:1], ("X-Envelope-Recipient", encoded("no-domain"))]}, 400, "501"),
    ({"fields": [*envelope()[:1], ("X-Envelope-Recipient", " , ;")]}, 400, "501"),
    ({"fields": [*envelope()[:1], ("X-Envelope-Recipient", encoded("a@b.test\r\nX"))]}, 400, "501"),
    ({"content": b""}, 400, None), ({"X_Ehlo": ""}, 400, "501"),
    ({"Content_Type": "text/plain"}, 415, None), ({"Content_Type": "application/json"}, 415, None),
    ({"Content_Encoding": "gzip"}, 415, None), ({"Expect": "more"}, 417, None),
    ({"method": "GET"}, 405, None), ({"method": "PUT"}, 405, None), ({"method": "OPTIONS"}, 405, None),
    ({"target": "/other"}, 404, None), ({"target": "/%"}, 400, None),
    ({"content": b"Subject: x\r\n\r\na\rb\r\n"}, 422, "554"), ({"content": b"Subject: x\r\n\r\na\0b\r\n"}, 422, "554"),
])
def test_what_is_no_submission(daemon, change, status, reply):
    """Each mistake has its status; nothing of it is queued, and the connection goes on behind it."""
    with HTTP(daemon.address) as http:
        answer = http.ask(request(**{"content": message()} | change))
        assert answer.status == status, answer.octets
        assert answer.fields.get("x-smtp-reply", "")[:3] == (reply or "")
        assert "command" not in answer.fields.get("x-smtp-reply", "")
        assert {405: answer.fields.get("allow") == "POST"}.get(status, True)
        # Whoever looks for a reply finds it in its field, and may leave the rest unread.
        assert bool(answer.body) == (reply is None)
        if answer.fields.get("connection") != "close":
            assert http.ask(request(message())).status == 200


def test_the_null_sender(daemon):
    with HTTP(daemon.address) as http:
        assert http.ask(request(message(), [("X-Envelope-Sender", ""), *envelope()[1:]])).status == 200
    assert queued(daemon)[0]["sender"] in ("", "<>")


def test_replies_as_statuses(make_slimtad):
    """4xx is 503 with Retry-After, 552 is 413, other 5xx are 422; each with the reply."""
    daemon = make_slimtad(
        limits={"message_size": "64KiB", "recipients": 2}, queue={"deliver": False},
        rule=[
            {"name": "later", "at": "rcpt", "recipient": ["@later.test"], "reply": "450 4.7.1 Later"},
            {"name": "never", "at": "rcpt", "recipient": ["@never.test"],
             "reply": '554 5.7.1 Not "here" \\ now'},
            {"name": "late", "at": "message", "sender": ["late@origin.test"], "reply": "550 5.7.1 Late"},
        ])
    with_edge(daemon).start()

    def ask(recipients=("a@one.test",), content=None, sender="sender@origin.test"):
        with HTTP(daemon.address) as http:
            return http.ask(request(content or message(), envelope(recipients, sender)))

    later = ask(["a@one.test", "b@later.test"])
    assert (later.status, later.reply[:3]) == (503, "450")
    assert re.fullmatch("[1-9][0-9]*", later.fields["retry-after"])
    never = ask(["b@never.test"])
    assert never.status == 422 and never.reply.startswith("55"), never.octets
    assert never.reply.endswith(r'Not \"here\" \\ now"'), never.reply
    assert (ask(["a@x.test", "b@x.test", "c@x.test"]).status, ask(sender="late@origin.test").status) == (422, 422)
    large = ask(content=message(body="x" * 60 + "\r\n" + "y" * 70_000))
    assert (large.status, large.reply[:12]) == (413, '552; message')
    # In chunks nobody says beforehand how large it is.
    with HTTP(daemon.address) as http:
        chunks = [("Transfer-Encoding", "chunked"), *envelope()]
        http.send(request(b"", chunks) + b"8000\r\n" + b"x\r\n" * (0x8000 // 3) + b"xx\r\n" + b"9000\r\n" + b"y" * 0x9000 + b"\r\n")
        assert (http.answer().status, http.is_closed()) == (413, True)
    assert queued(daemon) == []


def test_who_may_send(make_slimtad, place):
    """The open relay's questions: nobody without AUTH or trust, whatever the way."""
    daemon = make_slimtad(queue={"deliver": False}).add_user()
    names = ["required", "optional", "none", "trusted", "tls"]
    ports = dict(zip(names, free_ports(len(names))))
    daemon.settings["edge"] += [
        edge(daemon, name=name, listen=[f"[::]:{port}"], tls="none" if name in ("none", "trusted") else "immediate",
             auth="none" if name in ("none", "trusted") else "required" if name == "tls" else name,
             trusted_networks=["127.0.0.0/8"] if name == "trusted" else ["10.0.0.0/8"])
        for name, port in ports.items()]
    daemon.change()
    daemon.start()
    context = daemon.certificate.trusting_context()

    def ask(name, authorization=None):
        tls = None if name in ("none", "trusted") else context
        with HTTP(daemon.address, ports[name], tls) as http:
            more = {"Authorization": authorization} if authorization else {}
            return http.ask(request(message(), **more))

    for name in ("required", "optional", "tls"):
        answer = ask(name)
        assert (answer.status, answer.reply[:3]) == (401, "530"), name
        assert answer.fields["www-authenticate"] == 'Basic realm="slimtad", charset="UTF-8"'
        wrong = ask(name, basic(password="wrong"))
        assert (wrong.status, wrong.reply[:3]) == (401, "535"), name
        assert ask(name, "Bearer abc").status == 401
        assert ask(name, "Basic !").status == 401
        assert ask(name, basic()).status == 200
    refused = ask("none", basic())
    assert (refused.status, refused.reply[:3]) == (403, "550")
    assert ask("trusted").status == 200
    # A second one could be what a proxy has checked.
    with HTTP(daemon.address, ports["tls"], context) as http:
        twice = [*envelope(), ("Authorization", basic()), ("Authorization", basic())]
        assert http.ask(request(message(), twice)).status == 401
    daemon.wait_for_events(edge="tls", login="tester", protocol="HTTPS")
    logins = {event.get("login") for event in daemon.events(edge="tls") if "queue_id" in event}
    assert logins == {"tester"}
    assert all(event["protocol"] == "HTTPS" for event in daemon.events(edge="tls") if "queue_id" in event)


def test_senders_of_a_login(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}).add_user()
    daemon.users.write_text(daemon.users.read_text().rstrip("\n") + ":@origin.test\n")
    with_edge(daemon, auth="required", plaintext_auth=True).start()
    with HTTP(daemon.address) as http:
        assert http.ask(request(message(), Authorization=basic())).status == 200
        other = http.ask(request(message(), envelope(sender="a@other.test"), Authorization=basic()))
        assert (other.status, other.reply[:3]) == (403, "553")


def test_expectations(daemon):
    """What can be refused is refused before the client sends its body; else it is told to go on."""
    with HTTP(daemon.address) as http:
        sent = message()
        asked = request(sent, Expect="100-continue")
        http.send(asked[:-len(sent)])
        assert http.answer().octets == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert http.ask(sent).status == 200
        refused = http.ask(request(sent, envelope(["no-domain"]), Expect="100-continue")[:-len(sent)])
        assert (refused.status, refused.fields["connection"]) == (400, "close")
        assert http.is_closed()


def test_an_early_refusal_is_seen(daemon):
    """Though the client goes on sending a large body that nobody wants."""
    with HTTP(daemon.address) as http:
        http.send(request(b"", [("Content-Length", str(60 << 20)), *envelope()]))
        try:
            for _ in range(10):
                http.send(b"x" * 65536)
        except OSError:
            pass
        assert http.answer().status == 413


def test_pages_of_others(make_slimtad):
    """A page has a name of its own lead here, and its visitor's browser believes that it is ours."""
    daemon = make_slimtad(queue={"deliver": False})
    with_edge(daemon, server_names=["Submit.origin.test"]).start()

    def ask(host, **more):
        with HTTP(daemon.address) as http:
            return http.ask(request(message(), host=host, **more)).status

    evil = "evil.test:8025"
    assert [ask(evil), ask(evil, Origin=f"http://{evil}"), ask(evil, Sec_Fetch_Site="same-origin")] == [403] * 3
    assert [ask("localhost", Origin="http://localhost:3000"), ask("localhost", Sec_Fetch_Site="cross-site")] == [403] * 2
    assert queued(daemon) == []
    for host in (daemon.address, "[::1]:8025", "LOCALHOST", "mail.slimtad.test:8025", "submit.origin.test"):
        assert ask(host) == 200, host
    daemon.wait_for_log("Host is neither an address nor a name of this server")


def test_a_thousand_recipients(make_slimtad):
    """As many as [limits] recipients says, with a field each or together; with one more, which never are fewer, it is
    refused for good."""
    daemon = make_slimtad(queue={"deliver": False}, limits={"recipients": 1000})
    with_edge(daemon).start()
    names = [f"{'someone' * 5}{number:04}@some.where.test" for number in range(1001)]
    with HTTP(daemon.address) as http:
        assert http.ask(request(message(), envelope(names[1:]))).status == 200
        together = [("X-Envelope-Sender", encoded("a@origin.test")),
                    *(("X-Envelope-Recipient", ",".join(map(encoded, names[n:n + 100]))) for n in range(0, 1000, 100))]
        assert http.ask(request(message(), together)).status == 200
        many = http.ask(request(message(), envelope(names)))
        assert (many.status, many.reply[:3]) == (422, "554")
    assert len(queued(daemon)) == 2


def test_a_unix_socket(daemon, place):
    folder = place.folder("sockets")
    give(folder)
    with_edge(daemon, name="local", listen=[f"unix:{folder}/http"], path="/submit/here")
    daemon.reload()
    with HTTP(folder / "http", None) as http:
        assert http.ask(request(message())).status == 404
        assert http.ask(request(message(), target="/submit/here")).status == 200
        assert http.ask(request(message(), target="/submit/%68ere?x=y")).status == 200
        absolute = request(message(), target="http://mail.slimtad.test/submit/here")
        assert http.ask(absolute).status == 200
    daemon.wait_for_events(3, edge="local", protocol="HTTP")
    assert {item["edge"] for item in daemon.events() if "queue_id" in item} == {"local"}


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy(place, make_slimtad, header):
    """Who the client is, is what the proxy says; X-Forwarded-For is anybody's word."""
    haproxy, client = HAProxy(place), new_address()
    daemon = make_slimtad(queue={"deliver": False})
    with_edge(daemon, proxy_protocol=[haproxy.address], trusted_networks=[client]).start()
    haproxy.listen("http", PORT, f"{daemon.address}:{PORT}", f"{header} check inter 100ms", ["mode http"])
    haproxy.start()
    with HTTP(haproxy.address, source=client) as http:
        assert http.ask(request(message(), X_Forwarded_For="192.0.2.1")).status == 200
    with HTTP(haproxy.address, source=new_address()) as http:
        assert http.ask(request(message(), X_Forwarded_For=client)).status == 403
    daemon.wait_for_log("accepted")
    (taken,) = [event for event in daemon.events(edge="http") if "queue_id" in event]
    assert (taken["client"], taken["protocol"]) == (client, "HTTP")
    # From elsewhere no header is read: it is no HTTP.
    with HTTP(daemon.address, source=client) as http:
        assert http.ask(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request(message())).status == 400


def test_reload_and_stop(daemon):
    """A connection stays through a reload, and what it asks is answered by what holds then; a request that has begun is
    answered before the daemon ends."""
    with HTTP(daemon.address) as http, HTTP(daemon.address) as begun, HTTP(daemon.address) as idle:
        assert http.ask(request(message())).status == 200
        daemon.change(rule=[{"name": "no", "at": "mail", "sender": ["@origin.test"], "reply": "550 5.7.1 No"}])
        daemon.reload()
        assert http.ask(request(message())).status == 422
        sent = request(message(), envelope(sender="a@other.test"))
        begun.send(sent[:-5])
        time.sleep(0.2)
        daemon.signal(15)
        assert http.is_closed() and idle.is_closed()
        answer = begun.ask(sent[-5:])
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert begun.is_closed()


def test_too_many_connections(make_slimtad):
    daemon = make_slimtad(limits={"connections_per_address": 3}, queue={"deliver": False})
    with_edge(daemon).start()
    source = new_address()
    open_ones = [HTTP(daemon.address, source=source) for _ in range(3)]
    for one in open_ones:
        assert one.ask(request(message(), [])).status in (400, 403)
    with HTTP(daemon.address, source=source) as http:
        answer = http.ask(request(message()))
        assert (answer.status, answer.reply) == (503, '421; message="4.7.0 Too many connections"')
        assert answer.fields["retry-after"]
    for one in open_ones:
        one.socket.close()


def test_slow_clients(make_slimtad):
    """Each phase has its time: the head, the body by its rate, and an answer that nobody reads."""
    daemon = make_slimtad(
        limits={"command_timeout": "1s", "stall_timeout": "1s", "least_rate": "10KiB"}, queue={"deliver": False})
    with_edge(daemon).start()
    with HTTP(daemon.address) as head, HTTP(daemon.address) as body, HTTP(daemon.address) as dribble:
        head.send(b"POST / HTTP/1.1\r\n")
        body.send(request(b"", [("Content-Length", "1000"), *envelope()]))
        dribble.send(request(b"", [("Content-Length", "100000"), *envelope()]))
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10:
                dribble.send(b"x\r\n" * 10)
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < 8
        assert head.is_closed() and body.is_closed() and dribble.is_closed()
    assert queued(daemon) == []


ANCESTOR = """
import sys
from slimta.envelope import Envelope
from slimta.relay.http import HttpRelay
from slimta.relay import RelayError
# Without idle_timeout, a connection for each message: on one that it keeps it never reads the answer to its end, and then
# http.client makes no second request, whatever the server.
relay = HttpRelay(sys.argv[1], ehlo_as="ancestor.test", timeout=10)
for recipients in (["a@one.test", "b@two.test"], ["c@never.test"], ["d@later.test"]):
    envelope = Envelope("sender@origin.test", recipients)
    envelope.parse(open(sys.argv[2], "rb").read())
    try:
        reply = relay.attempt(envelope, 0)
    except RelayError as error:
        reply = error.reply
        print(type(error).__name__, end=" ")
    print(reply.code, reply.message)
"""


@pytest.mark.timeout(60)
def test_the_ancestors_relay(make_slimtad, place):
    """python-slimta's HttpRelay delivers to us, and understands what we refuse."""
    daemon = make_slimtad(queue={"deliver": False}, rule=[
        {"name": "later", "at": "rcpt", "recipient": ["@later.test"], "reply": "450 4.7.1 Later"},
        {"name": "never", "at": "rcpt", "recipient": ["@never.test"], "reply": "554 5.7.1 Never"}])
    with_edge(daemon).start()
    file = place.folder("ancestor") / "message"
    file.write_bytes(message())
    done = subprocess.run(
        [sys.executable, "-c", ANCESTOR, url(daemon), str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, never, later = done.stdout.splitlines()
    assert first == "250 2.6.0 Message accepted for delivery", done.stderr
    assert re.match(r"SmtpPermanentRelayError 55\d 5\.\d\.\d .*Never", never), never
    assert re.match(r"SmtpTransientRelayError 45\d 4\.\d\.\d .*Later", later), later
    assert {name for item in queued(daemon) for name in item["recipients"]} == {"a@one.test", "b@two.test"}
