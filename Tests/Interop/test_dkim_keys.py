"""Keys that mail is signed with: made, published, rotated, wrong, by the daemon and by commands, with a real name server.

Hours pass by the clock of the daemon (harness/clock.py): it asks DNS, and changes over, when it is time.
"""

import json
import re
import stat
import time

import pytest

from harness.control import command
from harness.keylife import DAY, DOMAIN, HOUR, MINUTE, Life, dkim, keys, reach, selectors, states
from harness.machine import GROUP, IS_ROOT, USER
from harness.slimtad import CONFIGURATION, OK, UNAVAILABLE, USAGE, run_slimtad
from harness.zone import SERVFAIL, TIMEOUT, Zone

TABLE = {"domains": [DOMAIN]}


@pytest.fixture
def zone(place):
    return Zone(place)


@pytest.fixture
def make_signer(place, zone, make_slimtad):
    """slimtad that signs for DOMAIN, with its first key, which DNS does not have yet; not started."""

    def make(*tables, **settings):
        return make_slimtad(dns={"servers": [zone.server]}, dkim=list(tables) or [TABLE], **settings)

    return make


@pytest.fixture
def life(place, zone, make_signer):
    daemon = make_signer()
    dkim(daemon, "generate")
    life = Life(place, daemon, zone)
    daemon.start()
    life.settle()
    return life


# Commands


def test_first_keys_without_a_daemon(make_signer):
    """78 without them; made as the service's own, printed for a zone file and as one string; never made twice."""
    daemon = make_signer(TABLE, TABLE | {"algorithm": "ed25519-sha256"})
    daemon.add_usual_user()
    for arguments in (["check"], ["run"]):
        refused = run_slimtad(*arguments, "--config", daemon.configuration)
        assert refused.returncode == CONFIGURATION
        assert "there is no key of origin.test for rsa-sha256 yet: slimtad dkim generate" in refused.stderr
    printed = dkim(daemon, "generate")
    year = time.strftime("%Y", time.gmtime())
    assert re.search(rf'^r{year}a\._domainkey\.origin\.test\. IN TXT "v=DKIM1; k=rsa; p=[^"]*" "[^"]*"$', printed, re.M)
    assert re.search(rf'^e{year}a\._domainkey\.origin\.test\. IN TXT "v=DKIM1; k=ed25519; p=[^"]{{44}}"$', printed, re.M)
    strings = re.findall(r'"([^"]*)"', printed)
    assert all(len(string) <= 255 for string in strings)
    assert f"as one string: {strings[0]}{strings[1]}" in printed
    for path in (daemon.state / "dkim/keys" / DOMAIN).iterdir():
        facts = path.stat()
        assert stat.S_IMODE(facts.st_mode) == 0o600
        assert path.owner() == USER and path.group() == GROUP or not IS_ROOT
    before = {path: path.read_bytes() for path in daemon.state.glob("dkim/keys/*/*")}
    assert dkim(daemon, "generate") == ""
    dkim(daemon, "generate", DOMAIN, status=1)
    assert {path: path.read_bytes() for path in daemon.state.glob("dkim/keys/*/*")} == before
    assert states(daemon) == {f"r{year}a": "made", f"e{year}a": "made"}
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert checked.returncode == OK and f"dkim: r{year}a._domainkey.origin.test rsa-sha256, 2048 bits" in checked.stdout
    assert "mail from every domain of [[dkim]] is signed for them" in checked.stderr


@pytest.mark.parametrize("runs", [False, True], ids=["without a daemon", "with one"])
def test_check_compares_what_dns_has(make_signer, zone, runs):
    daemon = make_signer()
    dkim(daemon, "generate")
    if runs:
        daemon.start()
    (selector, key), = keys(daemon).items()
    name = key["record_name"]
    other = "v=DKIM1; k=rsa; p=" + "A" * 100
    for texts, said, status in [
            ([], "is not there", 1), ([other], "has another key", 1), (["v=DKIM1; k=rsa; p="], "revokes the key", 1),
            ([key["record"], "v=spf1 -all"], "is one of 2 TXT records", 1), (SERVFAIL, "is unknown: SERVFAIL", UNAVAILABLE),
            ([key["record"]], "is right", 0), (SERVFAIL, "is unknown: SERVFAIL", UNAVAILABLE)]:
        zone.texts[name] = texts
        assert f"{name}: the record {said}" in dkim(daemon, "check", status=status), texts
        assert f"{name}: the record {said}" in dkim(daemon, "check", DOMAIN, status=status), texts
    assert json.loads(dkim(daemon, "check", "--json", status=UNAVAILABLE))["keys"][0]["record_name"] == name
    if runs:
        reach(daemon, {selector: "seen"})


def test_mistakes_of_commands(make_signer):
    daemon = make_signer(TABLE, TABLE | {"algorithm": "ed25519-sha256"}, {
        "domains": ["files.test"], "key_file": "/nowhere", "selector": "s"})
    for words, status in [
            (["rotate"], USAGE), (["generate", "elsewhere.test"], USAGE), (["generate", "files.test"], USAGE),
            (["generate", "--algorithm", "rsa-sha1"], USAGE), (["generate", DOMAIN, "--selector", "s"], USAGE),
            (["generate", DOMAIN, "--algorithm", "rsa-sha256", "--selector", "a.b"], USAGE),
            (["rotate", DOMAIN], 1)]:
        dkim(daemon, *words, status=status)
    assert not list(daemon.state.glob("dkim/keys/*/*"))
    dkim(daemon, "generate", DOMAIN, "--algorithm", "rsa-sha256", "--selector", "mine-1")
    assert [path.name for path in daemon.state.glob("dkim/keys/*/*")] == ["mine-1.pem"]


def test_a_running_daemon_makes_keys(make_signer, zone):
    """For a domain that it does not know yet, too; a reload takes that, and keeps what is known of the others."""
    daemon = make_signer()
    dkim(daemon, "generate")
    daemon.start()
    (first, key), = keys(daemon).items()
    zone.texts[key["record_name"]] = [key["record"]]
    dkim(daemon, "check")
    daemon.change(dkim=[{"domains": [DOMAIN, "second.test"]}])
    assert "there is no key of second.test" in command(daemon, "reload", status=CONFIGURATION)
    reach(daemon, {first: "seen"})
    dkim(daemon, "generate")
    assert [key["domain"] for key in json.loads(dkim(daemon, "show", "--json"))["keys"]] == [DOMAIN]
    command(daemon, "reload")
    shown = json.loads(dkim(daemon, "show", "--json"))["keys"]
    assert [(key["domain"], key["state"]) for key in shown] == [(DOMAIN, "seen"), ("second.test", "made")]
    status = command(daemon, "status")
    assert f"{first}._domainkey.{DOMAIN} rsa-sha256: seen since " in status
    assert "mail from second.test is refused with 451" in status
    daemon.expect_error("reload failed")


# Waits: each test goes through many restarts


@pytest.mark.timeout(600)
def test_rotation_with_a_restart_in_each_state(life):
    """From the first key to the deleted old one; each change is one line of the log."""
    daemon = life.daemon
    (first,) = selectors(daemon)
    life.come({first: "made"})
    life.publish(first)
    life.live(HOUR)
    life.come({first: "seen"})
    assert not keys(daemon)[first]["signs"]
    life.live(HOUR + 10 * MINUTE)
    life.come({first: "active"})
    assert keys(daemon)[first]["signs"]
    dkim(daemon, "rotate", DOMAIN)
    dkim(daemon, "rotate", DOMAIN, status=1)
    second = selectors(daemon)[1]
    life.live(3 * HOUR, HOUR)
    life.come({first: "active", second: "made"})
    life.publish(second)
    dkim(daemon, "check")
    life.come({first: "active", second: "seen"})
    assert keys(daemon)[first]["signs"] and not keys(daemon)[second]["signs"]
    life.live(HOUR + 10 * MINUTE)
    life.come({first: "retiring", second: "active"})
    assert keys(daemon)[second]["signs"] and not keys(daemon)[first]["signs"]
    life.live(11 * DAY, DAY)
    reach(daemon, {first: "retiring", second: "active"})
    life.live(2 * DAY, DAY)
    life.come({first: "old", second: "active"})
    daemon.wait_for_log("DKIM record may be removed")
    life.withdraw(first)
    dkim(daemon, "check")
    daemon.wait_until(lambda: states(daemon) == {second: "active"}, what="the old key gone")
    assert [path.name for path in daemon.state.glob("dkim/keys/*/*")] == [f"{second}.pem"]
    daemon.wait_for_events(**{"from": "retiring", "state": "old"})
    changes = [(event["from"], event["state"]) for event in daemon.events() if {"from", "state"} <= event.keys()]
    assert changes == [
        ("made", "seen"), ("seen", "active"), ("made", "seen"), ("seen", "active"), ("active", "retiring"),
        ("retiring", "old")]


WRONG = {
    "absent": None, "another key": ["v=DKIM1; k=rsa; p=" + "A" * 100], "revoked": ["v=DKIM1; k=rsa; p="],
    "two records": ["v=spf1 -all", "v=DKIM1; k=rsa; p="]}
SILENT = {"SERVFAIL": SERVFAIL, "TIMEOUT": TIMEOUT}


def break_records(life, texts):
    life.is_silent = texts in SILENT.values()
    for key in keys(life.daemon).values():
        if texts is None:
            life.zone.texts.pop(key["record_name"], None)
        else:
            life.zone.texts[key["record_name"]] = texts


@pytest.mark.timeout(600)
@pytest.mark.parametrize("texts", WRONG.values(), ids=WRONG)
def test_dns_is_wrong_in_each_state(life, texts):
    daemon = life.daemon
    (first,) = selectors(daemon)
    daemon.expect_error("DKIM key is in another state")
    break_records(life, texts)
    life.live(2 * HOUR, HOUR)
    life.come({first: "made"})
    life.publish(first)
    life.live(HOUR + MINUTE, HOUR + MINUTE)
    reach(daemon, {first: "seen"})
    break_records(life, texts)
    life.live(HOUR)
    life.come({first: "made"})
    life.publish(first)
    life.live(3 * HOUR)
    life.come({first: "active"})
    break_records(life, texts)
    life.live(2 * HOUR)
    life.come({first: "failing"})
    assert not any(key["signs"] for key in keys(daemon).values())
    assert f"mail from {DOMAIN} is refused with 451" in command(daemon, "status")
    life.publish(first)
    dkim(daemon, "check")
    life.come({first: "active"})
    # The old key signs again while the new one cannot be verified with.
    dkim(daemon, "rotate", DOMAIN)
    second = selectors(daemon)[1]
    life.publish(second)
    life.live(3 * HOUR)
    reach(daemon, {first: "retiring", second: "active"})
    break_records(life, texts)
    life.publish(first)
    life.live(2 * HOUR)
    life.come({first: "retiring", second: "failing"})
    assert keys(daemon)[first]["signs"]
    break_records(life, texts)
    dkim(daemon, "check", status=1)
    life.come({first: "retiring", second: "failing"})
    assert not any(key["signs"] for key in keys(daemon).values())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("texts", SILENT.values(), ids=SILENT)
def test_silence_changes_nothing(life, texts):
    daemon = life.daemon
    (first,) = selectors(daemon)
    life.publish(first)
    life.live(3 * HOUR)
    reach(daemon, {first: "active"})
    break_records(life, texts)
    life.live(2 * HOUR, HOUR)
    life.come({first: "active"})
    assert keys(daemon)[first]["signs"]
    life.live(DAY, DAY)
    daemon.wait_for_log("DNS says nothing of a DKIM key")
    assert states(daemon) == {first: "active"} and keys(daemon)[first]["signs"]
    assert "DNS does not say anything of" in command(daemon, "status")


def test_the_zone_says_how_long_others_remember(place, make_signer):
    """Five hours: who asked before the record was there believes for so long that it is not."""
    zone = Zone(place, negative=5 * HOUR)
    daemon = make_signer()
    daemon.change(dns={"servers": [zone.server]})
    dkim(daemon, "generate")
    life = Life(place, daemon, zone)
    daemon.start()
    life.settle()
    (first,) = selectors(daemon)
    life.publish(first)
    dkim(daemon, "check")
    life.live(4 * HOUR, 30 * MINUTE)
    reach(daemon, {first: "seen"})
    life.live(90 * MINUTE, 30 * MINUTE)
    reach(daemon, {first: "active"})


def test_keys_and_states_that_cannot_be_used(make_signer):
    daemon = make_signer()
    dkim(daemon, "generate")
    (path,) = daemon.state.glob("dkim/keys/*/*")
    path.chmod(0o644)
    daemon.add_usual_user()
    refused = run_slimtad("run", "--config", daemon.configuration)
    assert refused.returncode == CONFIGURATION and "has mode 0644" in refused.stderr
    path.chmod(0o600)
    daemon.start()
    path.chmod(0o640)
    path.write_text("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")
    daemon.expect_error("reload failed")
    assert "no private key" in command(daemon, "reload", status=CONFIGURATION)
    assert list(states(daemon).values()) == ["made"]
