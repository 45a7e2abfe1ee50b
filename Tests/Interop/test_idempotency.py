"""Idempotency-Key over HTTP: a submission that is made again with its key makes no second message, and is told the same."""

import http.client
import socket
import threading

import pytest

from harness.http import PORT, basic, encoded, with_edge
from harness.machine import MX_PORT
from harness.slimtad import LOGIN, PASSWORD

CONTENT = b"Subject: once\r\nFrom: <s@origin.test>\r\nDate: Sat, 1 Jan 2022 00:00:00 +0000\r\n\r\nbody\r\n"


def fields(key=None, recipient="a@one.test", login=LOGIN, kind="message/rfc822"):
    """The fields of a submission; `key` is the text of the field, None: there is none."""
    found = {
        "Content-Type": kind, "X-Ehlo": "client.test", "X-Envelope-Sender": encoded("s@origin.test"),
        "X-Envelope-Recipient": encoded(recipient), "Authorization": basic(login),
    }
    return found | ({"Idempotency-Key": key} if key is not None else {})


class Client:
    def __init__(self, address):
        self.address = address

    def submit(self, key=None, content=CONTENT, path="/", **more):
        connection = http.client.HTTPConnection(self.address, PORT, timeout=20)
        connection.request("POST", path, content, fields(key, **more))
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer


@pytest.fixture
def slimtad(make_slimtad, sink):
    """A daemon with an HTTP edge that wants AUTH, and relays to the sink; `client` submits to it."""
    slimtad = make_slimtad(routes=[{"domains": ["*"], "type": "smtp", "host": f"{sink.address}:{MX_PORT}"}])
    with_edge(slimtad, auth="required", plaintext_auth=True)
    slimtad.add_user("other", PASSWORD)
    slimtad.add_user()
    slimtad.start()
    slimtad.client = Client(slimtad.address)
    return slimtad


def told(answer):
    return (answer.status, answer.getheader("X-Queue-Id"), answer.getheader("X-Smtp-Reply"), answer.body)


def test_told_again(slimtad, sink):
    """The same answer, marked, and no second message: at once, when it is delivered, after a stop and after a kill."""
    first = slimtad.client.submit("order-17")
    assert first.status == 200 and first.getheader("Idempotency-Replayed") is None
    sink.wait_for(1)
    for end in (None, slimtad.term, slimtad.kill):
        if end:
            end()
            slimtad.start()
        for key in ("order-17", '"order-17"'):
            again = slimtad.client.submit(key)
            assert told(again) == told(first) and again.getheader("Idempotency-Replayed") == "true"
    assert told(slimtad.client.submit("order-18")) != told(first)
    assert len(sink.wait_for(2)) == 2


def test_one_place(slimtad, sink):
    """However a client writes where it posts."""
    first = slimtad.client.submit("k")
    for path in ("//", "/?x=1", f"http://{slimtad.address}:{PORT}/"):
        again = slimtad.client.submit("k", path=path)
        assert told(again) == told(first) and again.getheader("Idempotency-Replayed") == "true", path
    assert len(sink.wait_for(1)) == 1


def test_whose_key(slimtad, sink):
    """A key is the login's own. Without one there are as many messages as submissions."""
    answers = [slimtad.client.submit("k"), slimtad.client.submit("k", login="other"), slimtad.client.submit(), slimtad.client.submit()]
    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.getheader("X-Queue-Id") for answer in answers}) == 4
    assert len(sink.wait_for(4)) == 4


def test_something_else_with_the_same_key(slimtad, sink):
    first = slimtad.client.submit("k")
    for change in ({"content": CONTENT + b"more\r\n"}, {"recipient": "b@one.test"},
                   {"kind": "message/rfc822; charset=utf-8"}):
        answer = slimtad.client.submit("k", **change)
        assert answer.status == 422 and answer.getheader("X-Queue-Id") is None, change
    assert told(slimtad.client.submit("k")) == told(first)
    assert len(sink.wait_for(1)) == 1


@pytest.mark.parametrize("key", ["", '""', '"open', "two words", "a" * 256])
def test_no_key(slimtad, key):
    answer = slimtad.client.submit(key)
    assert answer.status == 400 and b"Idempotency-Key" in answer.body


def test_a_refusal_frees_the_key(slimtad, sink):
    """Who is refused corrects the message, and submits it with the same key."""
    loop = b"Received: from a by b; Sat, 1 Jan 2022 00:00:00 +0000\r\n" * 101
    refused = slimtad.client.submit("k", content=loop + CONTENT)
    assert refused.status == 422 and refused.getheader("X-Smtp-Reply").startswith("554")
    taken = slimtad.client.submit("k")
    assert taken.status == 200 and taken.getheader("Idempotency-Replayed") is None
    assert len(sink.wait_for(1)) == 1


class Begun:
    """A submission whose first octets are on their way: the daemon has looked at its key, and waits for the rest."""

    def __init__(self, client, key):
        self.socket = socket.create_connection((client.address, PORT), timeout=20)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields(key).items())
        self.socket.sendall(
            f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CONTENT)}\r\nExpect: 100-continue\r\n{lines}\r\n".encode())
        self.answers = self.socket.makefile("rb")
        assert self.answers.readline() == b"HTTP/1.1 100 Continue\r\n" and self.answers.readline() == b"\r\n"
        self.socket.sendall(CONTENT[:10])

    def finish(self):
        self.socket.sendall(CONTENT[10:])
        return self.answers.readline()

    def close(self):
        self.answers.close()
        self.socket.close()


def test_in_progress(slimtad, sink):
    """While the first one is on its way the second is told to come again; then it is told what the first one was."""
    first = Begun(slimtad.client, "k")
    answer = slimtad.client.submit("k")
    assert answer.status == 409 and int(answer.getheader("Retry-After")) > 0
    assert slimtad.client.submit("other").status == 200
    assert first.finish().startswith(b"HTTP/1.1 200")
    first.close()
    assert slimtad.client.submit("k").getheader("Idempotency-Replayed") == "true"
    assert len(sink.wait_for(2)) == 2


def test_broken_off(slimtad, sink):
    """A client that goes before its message is whole has made no submission: its key is free at once."""
    first = Begun(slimtad.client, "k")
    assert slimtad.client.submit("k").status == 409
    first.close()
    slimtad.wait_until(lambda: slimtad.client.submit("k").status == 200, 10, "200")
    assert len(sink.wait_for(1)) == 1


def test_all_at_once(slimtad, sink):
    """Twenty clients with one key at the same moment: one message, and all that are told 200 are told its id."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(slimtad.client.submit("k"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {200, 409} and len(answers) == 20
    ids = {answer.getheader("X-Queue-Id") for answer in answers if answer.status == 200}
    assert len(ids) == 1
    assert slimtad.client.submit("k").getheader("X-Queue-Id") in ids
    assert len(sink.wait_for(1)) == 1
