"""DANE with a signed zone, Postfix as the exchanger, and Postfix's own probe as the judge of the same hosts."""

import json

from harness.certificate import make_certificate
from harness.machine import MX_PORT
from harness.messages import message
from harness.postfix import PostfixMX
from harness.signed import SignedZones, Validator, tlsa
from harness.slimtad import run_slimtad

# Domain: whether mail goes there, what decides, and what posttls-finger says.
CASES = {
    "good.example": (True, "DANE (1 of 1 TLSA records): TLSA 3 1 1 ", "Verified TLS connection"),
    "roll.example": (True, "DANE (2 of 2 TLSA records): TLSA 3 1 1 ", "Verified TLS connection"),
    "bad.example": (False, "DANE (1 of 1 TLSA records)", "Untrusted TLS connection"),
    "pkix.example": (True, "encrypted (1 TLSA records, none of use)", "TLS connection established"),
    "none.example": (True, None, "TLS connection established"),
    "half.unsigned": (True, "DANE (1 of 1 TLSA records, MX records without DNSSEC)", "TLS connection established"),
}


def test_postfix_and_its_probe(place, make_slimtad):
    # The name is wrong on purpose: DANE-EE matches none.
    certificate = make_certificate(place.path, "nobody.invalid")
    boxes = [f"a@{domain}" for domain in CASES]
    postfix = PostfixMX(place, boxes, certificate=certificate).start()
    zones = SignedZones(place)
    good, wrong = tlsa(certificate), "3 1 1 " + "ab" * 32
    for domain, records in (
            ("good.example", [good]), ("roll.example", [wrong, good]), ("bad.example", [wrong]),
            ("pkix.example", [tlsa(certificate, usage=1)]), ("none.example", [])):
        zones.add_mx(domain, f"mx.{domain}", postfix.address, *records, port=MX_PORT)
    zones.add("half.unsigned. 60 IN MX 10 mx.good.example.")
    zones.start()
    validator = Validator(place, zones).start()
    slimtad = zones.seen_by(make_slimtad(queue={"retry": ["1h"]})).start()
    for box in boxes:
        slimtad.submit(message(), box)
    for domain, (goes, decided, judged) in CASES.items():
        attempt = slimtad.wait_for_attempts(1, recipient=f"a@{domain}")[0]
        assert attempt["status"].startswith("2." if goes else "4.7.5"), attempt
        assert attempt.get("tls_policy", "").startswith(decided or "") and ("tls_policy" in attempt) == bool(decided)
        if goes:
            postfix.wait_for(f"a@{domain}")
        finger = validator.finger(domain, MX_PORT)
        assert judged in finger, (domain, finger)
    assert not postfix.maildir("a@bad.example")

    # The same decision, for who asks; and what was seen.
    def tls(*arguments):
        return json.loads(run_slimtad("tls", *arguments, "--json", "--config", slimtad.configuration).stdout)

    explained = tls("explain", "roll.example")
    assert explained["proved"] and explained["hosts"][0]["reasons"] == ["2 of 2 TLSA records"], explained
    (known,) = tls("list", "good.example")
    assert known["dane"] == known["last"] and not known["in_force"], known
