"""Where mail must not go: names and literals that lead to this machine, to its link, to a cloud's metadata service."""

import pytest

from harness.machine import MX_PORT
from harness.messages import message


@pytest.mark.parametrize(
    "domain", ["[127.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]", "[169.254.169.254]", "[0.0.0.0]", "localhost",
               "here.test", "meta.test"])
def test_refused_by_default(nameserver, sink, make_slimtad, domain):
    """Permanent and with words, whoever named the address; what a fixed host's name is makes no difference."""
    nameserver.add_mx("here.test", sink.address)
    nameserver.add_mx("meta.test", "169.254.169.254")
    nameserver.start()
    slimtad = make_slimtad(nameserver, relay={"allow_networks": None}).start()
    slimtad.submit(message(), f"b@{domain}")
    (attempt,) = slimtad.wait_for_attempts(1, recipient=f"b@{domain}")
    assert attempt["status"] == "5.4.6" and "where no mail is sent" in attempt["reply"], attempt
    assert sink.transactions() == []


def test_opened_by_configuration(nameserver, sink, make_slimtad):
    """allow_networks opens, for a route alone if it stands there; the host that a route names needs nothing."""
    for domain in ("open.test", "shut.test"):
        nameserver.add_mx(domain, sink.address)
    nameserver.start()
    slimtad = make_slimtad(
        nameserver, relay={"allow_networks": None, "refuse_networks": ["10.0.0.0/8"]}, routes=[
            {"domains": ["open.test"], "allow_networks": [sink.address]},
            {"domains": ["fixed.test"], "type": "smtp", "host": f"{sink.address}:{MX_PORT}"}]).start()
    for recipient in ("b@open.test", "b@fixed.test", "b@shut.test", "b@[10.1.2.3]"):
        slimtad.submit(message(), recipient)
    assert sorted(found.recipients for found in sink.wait_for(2)) == [["b@fixed.test"], ["b@open.test"]]
    for recipient in ("b@shut.test", "b@[10.1.2.3]"):
        (attempt,) = slimtad.wait_for_attempts(1, recipient=recipient)
        assert attempt["status"] == "5.4.6", attempt
