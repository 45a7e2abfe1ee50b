"""What goes to one host by other addresses and with a field of its own; the log and the bounce say what was queued."""

import email

from harness.machine import MX_PORT
from harness.messages import message, prepended
from harness.python_mx import PythonMX

KEY = "X-Relay-Key: k1 ({login})"


def test_addresses_and_fields_of_a_route(place, make_slimtad):
    mx = PythonMX(place).start()
    bounces = place.folder("bounces")

    def answer(server, envelope, address):
        return "550 5.1.1 not here" if address.startswith("gone@") else "250 2.1.5 Ok"

    mx.answers["RCPT"] = [answer] * 2
    slimtad = make_slimtad(
        routes=[
            {"domains": ["old.test"], "type": "smtp", "host": f"{mx.address}:{MX_PORT}",
             "rewrite_sender": [{"sender": "@corp.test", "to": "@origin.test"}],
             "rewrite_recipient": [{"recipient": "b@old.test", "to": "gone@new.test"},
                                   {"recipient": "@old.test", "to": "@new.test"}],
             "add_fields": [KEY]},
            {"domains": ["corp.test"], "type": "maildir", "path": str(bounces)},
        ]).start()
    sent = message("another name")
    queue_id = slimtad.submit(sent, ["a@old.test", "b@old.test"], sender="me@corp.test")
    attempts = slimtad.wait_for_attempts(2, queue_id=queue_id)
    assert {attempt["recipient"]: attempt["status"][0] for attempt in attempts} == {"a@old.test": "2", "b@old.test": "5"}

    (taken,) = mx.wait_for(1)
    assert taken.sender == "me@origin.test" and taken.recipients == ["a@new.test"]
    above = prepended(taken.content, sent)
    assert above[0][0] == "x-relay-key" and "k1 (" in above[0][1]

    # The sender is told of whom he wrote to.
    (bounce,) = slimtad.wait_until(lambda: list(bounces.glob("new/*")), what="the bounce")
    status = email.message_from_bytes(bounce.read_bytes()).get_payload()[1].as_string()
    assert "Final-Recipient: rfc822; b@old.test" in status and "@new.test" not in status
