"""International domains: accepted in either form, looked up, routed and filtered as one."""

from harness.messages import message
from harness.slimtad import run_slimtad

ASCII = "xn--mnchen-3ya.test"


def test_delivered_in_a_labels(nameserver, sink, make_slimtad):
    """The exchanger knows nothing of SMTPUTF8: it need not."""
    nameserver.add_mx(ASCII, sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    slimtad.submit(message(), "bob@münchen.test", mail_options=["SMTPUTF8"])
    (transaction,) = sink.wait_for(1)
    assert transaction.recipients == [f"bob@{ASCII}"]
    (attempt,) = slimtad.wait_for_attempts(1, recipient="bob@münchen.test")
    assert attempt["status"] == "2.0.0" and attempt["relay"].startswith(f"mx0.{ASCII}[")


def test_route(nameserver, place, make_slimtad):
    """A route in one form takes both."""
    nameserver.start()
    box = place.folder("box")
    slimtad = make_slimtad(
        nameserver, routes=[{"domains": ["münchen.test"], "type": "maildir", "path": str(box)}]).start()
    for recipient in ("a@münchen.test", "b@MÜNCHEN.test", f"c@{ASCII}"):
        slimtad.submit(message(), recipient, mail_options=["SMTPUTF8"])
    slimtad.wait_until(lambda: len(list((box / "new").glob("*"))) == 3, what="three messages")


def test_filters(nameserver, make_slimtad):
    """Queue commands find a domain by either form."""
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"deliver": False}).start()
    slimtad.submit(message(), "d@münchen.test", mail_options=["SMTPUTF8"])
    for domain in ("münchen.test", "MÜNCHEN.test", ASCII):
        found = run_slimtad("queue", "count", "--config", slimtad.configuration, "--domain", domain)
        assert (found.returncode, found.stdout) == (0, "1\n"), found


def test_what_is_no_name_is_told_at_once(nameserver, make_slimtad):
    nameserver.start()
    slimtad = make_slimtad(nameserver).start()
    id = slimtad.submit(message(), "bob@x\u200d.test", mail_options=["SMTPUTF8"])
    (attempt,) = slimtad.wait_for_attempts(1, queue_id=id)
    assert attempt["status"] == "5.1.2" and "is not a domain name" in attempt["reply"]
