"""Mail by LMTP (RFC 2033) into Dovecot: over TCP, TLS and a UNIX socket, each recipient with an answer of its own."""

import email

import pytest

from harness.certificate import make_certificate
from harness.dovecot import PORT, Dovecot
from harness.messages import lf, message, prepended

DOMAIN = "one.test"


def people(*names):
    return [f"{name}@{DOMAIN}" for name in names]


def relay_to(dovecot, over):
    """[relay] for a way to it."""
    relay = {"type": "lmtp", "port": None, "allow_networks": None}
    if over == "socket":
        return relay | {"socket": f"unix:{dovecot.socket}"}
    return relay | {"host": f"{dovecot.address}:{PORT}", "tls": "required" if over == "tls" else "opportunistic"}


@pytest.mark.parametrize("over", ["tcp", "tls", "socket"])
def test_each_recipient_for_itself(place, make_slimtad, over):
    """Two are delivered, one is not there, one has no room: one transaction, and one bounce for the two."""
    certificate = make_certificate(place.path, "dovecot.test", "127.0.0.1") if over == "tls" else None
    dovecot = Dovecot(place, people("a", "b"), people("full"), certificate=certificate).start()
    bounces = place.folder("bounces")
    slimtad = make_slimtad(
        routes=[{"domains": ["origin.test"], "type": "maildir", "path": str(bounces)}],
        relay=relay_to(dovecot, over))
    slimtad.start()
    sent = message("four mailboxes")
    queue_id = slimtad.submit(sent, people("a", "full", "nobody", "b"))

    attempts = {attempt["recipient"]: attempt for attempt in slimtad.wait_for_attempts(4, queue_id=queue_id)}
    assert {who: attempt["status"] for who, attempt in attempts.items()} == dict(
        zip(people("a", "full", "nobody", "b"), ["2.0.0", "5.2.2", "5.1.1", "2.0.0"]))
    where = f"unix:{dovecot.socket}" if over == "socket" else f"[{dovecot.address}]:{PORT}"
    assert {attempt["relay"] for attempt in attempts.values()} == {where}
    assert all((attempt["tls"] != "none") == (over == "tls") for attempt in attempts.values())
    for user in people("a", "b"):
        (delivered,) = dovecot.wait_for(user)
        assert delivered.endswith(lf(sent)), "the message is not as it was"
        assert [name for name, _ in prepended(delivered, lf(sent))] == ["return-path", "received", "received"]
    assert not dovecot.messages(people("full")[0])

    (bounce,) = slimtad.wait_until(lambda: list(bounces.glob("new/*")), what="the bounce")
    status = email.message_from_bytes(bounce.read_bytes()).get_payload()[1].as_string()
    assert all(f"Final-Recipient: rfc822; {who}" in status for who in people("full", "nobody"))
    assert not any(f"rfc822; {who}" in status for who in people("a", "b"))
    assert ("Remote-MTA" in status) == (over != "socket")


def test_a_hundred_recipients(place, make_slimtad):
    everybody = people(*(f"user{number}" for number in range(100)))
    dovecot = Dovecot(place, everybody).start()
    slimtad = make_slimtad(relay=relay_to(dovecot, "socket")).start()
    slimtad.submit(message("a hundred"), everybody)
    for user in everybody:
        assert len(dovecot.wait_for(user)) == 1
    assert len({attempt["recipient"] for attempt in slimtad.wait_for_attempts(100, status="2.0.0")}) == 100


def test_who_waits_and_who_does_not(place, make_slimtad):
    """No room for now: that one is tried again, and the others have one copy."""
    dovecot = Dovecot(place, people("a"), people("full"), tempfail=True)
    slimtad = make_slimtad(relay=relay_to(dovecot, "socket")).start()
    slimtad.submit(message("patience"), people("a", "full"))
    # Nobody listens yet: that is said of both.
    assert {attempt["status"] for attempt in slimtad.wait_for_attempts(2)} == {"4.4.1"}
    dovecot.start()
    dovecot.wait_for(people("a")[0])
    slimtad.wait_for_attempts(2, recipient=people("full")[0], status="4.2.2")
    assert len(dovecot.messages(people("a")[0])) == 1
