"""Messages as JSON through the daemon: requests makes them, a maildir gets them, Python's email reads them."""

import base64
import datetime
import email
import email.policy
import json
import select
import time

import pytest

from harness.http import HTTP, request, with_edge
from harness.json_api import API, SHORT, pointers, problem
from harness.machine import SUBMISSION
from harness.slimtad import LOGIN, PASSWORD, run_slimtad
from harness.wire import Wire


@pytest.fixture
def held(make_slimtad):
    """slimtad that delivers nothing."""
    daemon = make_slimtad(queue={"deliver": False})
    return with_edge(daemon, json=True).start()


@pytest.fixture
def delivered(place, make_slimtad):
    """slimtad whose mail goes to a maildir; and that maildir."""
    box = place.folder("box")
    daemon = make_slimtad(routes=[{"domains": ["*"], "type": "maildir", "path": str(box)}])
    with_edge(daemon, json=True)
    return daemon.start(), box / "new"


def content(slimtad, identifier):
    """The message of a queued envelope."""
    shown = run_slimtad("queue", "show", "--content", identifier, "--config", slimtad.configuration)
    assert shown.returncode == 0, shown.stderr
    return email.message_from_string(shown.stdout, policy=email.policy.default)


def test_delivered(delivered):
    slimtad, box = delivered
    answer = API(slimtad).post({**SHORT, "bcc": ["carol@two.test", "BOB@ONE.test", "bob@ONE.TEST"], "metadata": {"order": "4711"}})
    assert answer.status_code == 202 and answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said["recipients"] == [
        {"address": address, "accepted": True} for address in ("bob@one.test", "carol@two.test", "BOB@ONE.test")]
    slimtad.wait_for_attempts(3, status="2.0.0")
    message = email.message_from_bytes(next(box.iterdir()).read_bytes(), policy=email.policy.default)
    assert message["from"] == "Alice <alice@origin.test>" and message["to"] == "bob@one.test"
    assert message["subject"] == "Grüße" and message.get_content() == "Hällo\r\n"
    assert message["bcc"] is None and "carol" not in message.as_string().split("Message-ID")[1]
    assert "with HTTP" in message["received"] and said["id"] in message["message-id"]
    state = API(slimtad).state(said["id"]).json()
    assert state["id"] == said["id"] and state["metadata"] == {"order": "4711"}
    # The log has an attempt before the disk has what came of it.
    wanted = dict.fromkeys(("bob@one.test", "carol@two.test", "BOB@ONE.test"), "delivered")
    slimtad.wait_until(lambda: API(slimtad).states(said["id"]) == wanted, what="three recipients delivered")


def test_where_mail_is_forwarded_to_is_told_nobody(make_slimtad):
    """Neither while it is queued nor when it is over."""
    daemon = make_slimtad(
        queue={"deliver": False, "policies": ["forward", "date", "received"]},
        forward=[{"recipient": "team@one.test", "to": ["secret@two.test", "other@two.test"]}])
    with_edge(daemon, json=True).start()
    said = API(daemon).post({**SHORT, "to": ["team@one.test", "bob@one.test"]}).json()
    names = lambda: sorted(one["address"] for one in API(daemon).state(said["id"]).json()["recipients"])
    assert names() == ["bob@one.test", "team@one.test", "team@one.test"]
    assert run_slimtad("queue", "remove", "--yes", said["id"], "--config", daemon.configuration).returncode == 0
    assert names() == ["bob@one.test", "team@one.test", "team@one.test"]


def test_large_attachments(held):
    """What is spooled on its way is the same as what is not."""
    octets = bytes(range(256)) * 4096
    said = API(held).post({**SHORT, "attachments": [{"content": base64.b64encode(octets).decode(), "filename": "ü.bin"}]}).json()
    (part,) = content(held, said["id"]).iter_attachments()
    assert part.get_content() == octets and part.get_filename() == "ü.bin"


def test_a_long_request_holds_nobody_up(held):
    """While megabytes are read and made a message of, sessions on all event loops go on: none waits as long as half of that request
    takes. On a busy machine it may be us who stood still: then once more."""
    with HTTP(held.address, timeout=120) as client:
        sessions = [Wire(held.address, SUBMISSION) for _ in range(6)]
        for session in sessions:
            assert session.code() == 220
        long = json.dumps({**SHORT, "text": "=" * (1 << 20)}).encode()
        shares = []
        for _ in range(5):
            client.send(request(long, [], target="/v1/messages", Content_Type="application/json"))
            begun, longest = time.monotonic(), 0
            # No more than a session may say without a message.
            for _ in range(15):
                if select.select([client.socket], [], [], 0)[0]:
                    break
                for session in sessions:
                    asked = time.monotonic()
                    assert session.ask("NOOP").startswith("250")
                    longest = max(longest, time.monotonic() - asked)
            select.select([client.socket], [], [])
            shares.append(longest / (time.monotonic() - begun))
            assert client.answer().status == 202
            if shares[-1] < 0.5:
                break
        assert min(shares) < 0.5, shares
        for session in sessions:
            session.socket.close()


def test_mistakes(held):
    api = API(held)
    assert pointers(api.post({"form": "x", "to": ["b@one.test", "nobody"], "subject": "a\nb", "text": ""})) == [
        "#/form", "#/from", "#/to/1", "#/subject"]
    assert pointers(api.post([])) == ["#"]
    raw = lambda octets, type="application/json": api.session.post(
        f"{api.base}/v1/messages", data=octets, headers={"Content-Type": type}, timeout=30)
    assert problem(raw(b'{"from":'), 400)["errors"][0]["detail"].startswith("is not JSON at octet")
    problem(raw(b"{}", "text/plain"), 415)
    problem(raw(b"From: a@b\r\n\r\n", "message/rfc822"), 415)
    assert raw(b'{"from":"a@b.c","to":"b@one.test","text":""}', "Application/JSON; charset=utf-8").status_code == 202
    assert problem(api.get("/v1/messages"), 405) and api.get("/v1/messages").headers["allow"] == "POST"
    problem(api.session.delete(f"{api.base}/v1/messages/0"), 405)
    problem(api.get("/v1/message"), 404)
    problem(api.state("0" * 32), 404)
    problem(api.state("x"), 404)
    assert run_slimtad("queue", "count", "--config", held.configuration).stdout == "1\n"


def test_only_json_edges_speak_it(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False})
    with_edge(daemon).start()
    assert API(daemon).post(SHORT).status_code == 404
    assert API(daemon).get("/openapi.json").status_code == 404


def test_sizes(make_slimtad):
    daemon = make_slimtad(queue={"deliver": False}, limits={"message_size": "64KiB", "recipients": 3})
    with_edge(daemon, json=True).start()
    api = API(daemon)
    assert api.post({**SHORT, "text": "x" * 60000}).status_code == 202
    problem(api.post({**SHORT, "text": "x" * 66000}), 413)
    # The message would be larger than the request: lines of quoted-printable, or header fields.
    problem(api.post({**SHORT, "text": "=" * 40000}), 413)
    chunks = api.session.post(
        f"{api.base}/v1/messages", data=(b"x" * 5000 for _ in range(20)), headers={"Content-Type": "application/json"}, timeout=30)
    problem(chunks, 413)
    assert pointers(api.post({**SHORT, "cc": [f"{n}@one.test" for n in range(3)]})) == ["#/to"]


def test_logins(make_slimtad):
    """Whoever sent a message can ask what became of it; its senders are those of the login."""
    daemon = make_slimtad(queue={"deliver": False})
    with_edge(daemon, auth="required", plaintext_auth=True, json=True)
    daemon.add_user().add_user("other", PASSWORD)
    daemon.users.write_text("".join(
        line + (":alice@origin.test" if line.startswith(LOGIN) else "") + "\n" for line in daemon.users.read_text().splitlines()))
    daemon.start()
    nobody, alice, other = API(daemon), API(daemon, (LOGIN, PASSWORD)), API(daemon, ("other", PASSWORD))
    refused = nobody.post(SHORT)
    assert problem(refused, 401) and refused.headers["www-authenticate"].startswith("Basic ")
    problem(API(daemon, (LOGIN, "wrong")).post(SHORT), 401)
    problem(alice.post({**SHORT, "from": "mallory@origin.test"}), 403)
    said = alice.post(SHORT).json()
    state = alice.state(said["id"])
    assert state.status_code == 200 and state.json()["recipients"][0]["state"] == "queued"
    problem(other.state(said["id"]), 404)
    problem(nobody.state(said["id"]), 401)
    assert nobody.get("/openapi.json").status_code == 200
    # It outlives the daemon.
    daemon.kill()
    daemon.start_again()
    assert alice.state(said["id"]).json() == state.json()


def test_verdicts(make_slimtad):
    """Some recipients refused: the others get it. All refused: nobody does, now or for good."""
    rules = [
        {"name": "closed", "at": "rcpt", "recipient": ["@closed.test"], "reply": "550 5.7.1 Closed"},
        {"name": "later", "at": "rcpt", "recipient": ["@later.test"], "reply": "450 4.7.1 Later"}]
    daemon = make_slimtad(queue={"deliver": False}, rule=rules)
    with_edge(daemon, json=True).start()
    api = API(daemon)
    said = api.post({**SHORT, "cc": ["a@closed.test", "b@later.test"]}).json()
    assert [(one["accepted"], one.get("reply", "")[:9]) for one in said["recipients"]] == [
        (True, ""), (False, "550 5.7.1"), (False, "450 4.7.1")]
    assert [one["address"] for one in api.state(said["id"]).json()["recipients"]] == ["bob@one.test"]
    found = problem(api.post({**SHORT, "to": ["a@closed.test"]}), 422)
    assert found["recipients"][0]["reply"].startswith("550 5.7.1")
    later = api.post({**SHORT, "to": ["a@closed.test", "b@later.test"]})
    assert problem(later, 503) and int(later.headers["retry-after"]) > 0


def test_later(delivered):
    """send_at: not before, also across a restart; past is now, and there is an end to the future."""
    slimtad, box = delivered
    api = API(slimtad)
    at = lambda seconds: (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()
    when = time.time() + 4
    said = api.post({**SHORT, "send_at": at(4)}).json()
    far = api.post({**SHORT, "send_at": at(29 * 86400)}).json()
    assert api.post({**SHORT, "send_at": "2001-01-01T00:00:00Z"}).status_code == 202
    assert pointers(api.post({**SHORT, "send_at": at(31 * 86400)})) == ["#/send_at"]
    slimtad.wait_for_attempts(1, status="2.0.0")
    slimtad.kill()
    slimtad.start_again()
    assert time.time() > when or len(list(box.iterdir())) == 1
    slimtad.wait_until(lambda: len(list(box.iterdir())) == 2, timeout=20, what="the message of a moment later")
    assert time.time() > when
    state = API(slimtad).state(far["id"]).json()
    assert state["recipients"][0]["state"] == "queued" and state["recipients"][0]["next_attempt"] == state["send_at"]
    assert state["send_at"] == far["send_at"]
    slimtad.wait_until(lambda: set(API(slimtad).states(said["id"]).values()) == {"delivered"}, what="that one delivered")


def test_keys(held):
    """The same submission again is the same message."""
    api = API(held)
    first = api.post(SHORT, Idempotency_Key='"one"')
    again = api.post(SHORT, Idempotency_Key="one")
    assert first.status_code == again.status_code == 202 and first.content == again.content
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert problem(api.post({**SHORT, "text": "other"}, Idempotency_Key="one"), 422)["type"] == "/problems/key-reused"
    problem(api.post(SHORT, Idempotency_Key=""), 400)
    # What was refused is no submission.
    problem(api.post({**SHORT, "to": "nobody"}, Idempotency_Key="two"), 400)
    assert api.post(SHORT, Idempotency_Key="two").status_code == 202
    assert run_slimtad("queue", "count", "--config", held.configuration).stdout == "2\n"
    held.kill()
    held.start_again()
    assert API(held).post(SHORT, Idempotency_Key="one").content == first.content


def test_international(held):
    """Addresses in UTF-8 make a message that needs SMTPUTF8; domains alone do not."""
    for to, smtputf8 in ("jörg@one.test", True), ("joerg@münchen.test", False):
        said = API(held).post({**SHORT, "to": f"Jörg <{to}>"}).json()
        shown = run_slimtad("queue", "show", "--json", said["id"], "--config", held.configuration)
        assert json.loads(shown.stdout)["smtputf8"] is smtputf8
