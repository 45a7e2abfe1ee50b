"""What an operator has for rules: `slimtad map`, `explain-session`, what `check` and a reload say of lists."""

import fcntl
import json
import os
import shutil
import smtplib

import pytest

from harness.machine import GROUP, IS_ROOT, give
from harness.slimtad import CONFIGURATION, LOGIN, OK, PASSWORD, TEMPORARY, UNAVAILABLE, USAGE, run_slimtad

REFUSED = 1


@pytest.fixture
def slimtad(nameserver, make_slimtad):
    nameserver.start()
    return make_slimtad(nameserver).add_user()


@pytest.fixture
def lists(slimtad):
    """A folder for lists that slimtad's user can read."""
    folder = slimtad.folder / "lists"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    give(path)
    return path


def map_of(path, *options, status=OK):
    result = run_slimtad("map", path, *options)
    assert result.returncode == status, result.stderr
    return result.stdout + result.stderr


def rule(name, at, reply=None, **keys):
    return {"name": name, "at": at} | ({"reply": reply} if reply else {}) | keys


def explain(slimtad, *options, status=OK):
    result = run_slimtad("explain-session", "--config", slimtad.configuration, *options)
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    return result.stdout + result.stderr


def rcpt(client, recipient):
    client.rset()
    client.mail("a@origin.test")
    code, text = client.rcpt(recipient)
    return code, text.decode()


# slimtad map


def test_a_map_of_every_kind_of_entry(slimtad, lists):
    """And the same as text: what one has the other has."""
    entries = ["# a list", "", "closed@one.test", "  @Shut.TEST\r", "@.below.test", "192.0.2.0/24", "2001:db8::/32"]
    path = write(lists / "closed", *entries)
    assert map_of(path).startswith(f"{path}.gdbm: 5 entries;")
    for name in (path, f"{path}.gdbm"):
        slimtad.change(rule=[rule("closed", "rcpt", "550 5.1.1 closed", recipient_file=str(name))])
        for recipient, status in (
                ("closed@one.test", REFUSED), ("Closed@ONE.test", REFUSED), ("any@shut.test", REFUSED),
                ("a@x.below.test", REFUSED), ("a@below.test", OK), ("open@one.test", OK), ("a@x.shut.test", OK)):
            explain(slimtad, "--client", "192.0.2.1", "--login", LOGIN, "--mail", "a@origin.test", "--rcpt", recipient,
                    status=status)


def test_a_map_of_networks(slimtad, lists):
    path = write(lists / "bad", "192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "192.0.2.0/24")
    assert map_of(path, "--output", lists / "bad.map").startswith(
        f"{lists}/bad.map: 3 entries of addresses and networks, 1 twice;")
    for name in (path, lists / "bad.map"):
        slimtad.change(rule=[rule("bad", "connect", "554 5.7.1 bad", client_file=str(name))])
        for client, status in (
                ("192.0.2.200", REFUSED), ("198.51.100.7", REFUSED), ("2001:db8:1::1", REFUSED), ("192.0.3.1", OK),
                ("198.51.100.8", OK), ("2001:db9::1", OK), ("local", OK)):
            explain(slimtad, "--client", client, status=status)


def test_owner_and_mode(lists):
    """Of the old file; of the text where there is none."""
    path = write(lists / "closed", "a@one.test")
    path.chmod(0o640)
    map_of(path)
    made = lists / "closed.gdbm"
    assert made.stat().st_mode & 0o777 == 0o640
    if IS_ROOT:
        assert made.group() == path.group()
        shutil.chown(made, "root", GROUP)
    made.chmod(0o604)
    before = made.stat().st_ino
    write(path, "a@one.test", "b@one.test")
    map_of(path)
    assert made.stat().st_mode & 0o777 == 0o604 and made.stat().st_ino != before
    if IS_ROOT:
        assert (made.owner(), made.group()) == ("root", GROUP)
    assert sorted(os.listdir(lists)) == ["closed", "closed.gdbm"]
    # A link stays one.
    (lists / "link.gdbm").symlink_to(made)
    map_of(path, "--output", lists / "link.gdbm")
    assert (lists / "link.gdbm").is_symlink() and sorted(os.listdir(lists)) == ["closed", "closed.gdbm", "link.gdbm"]


def test_mistakes_of_a_list_have_lines(lists):
    path = write(lists / "closed", "a@one.test", "b*@one.test", "/expression/", "c@one.test")
    said = map_of(path, status=CONFIGURATION)
    assert f"{path}:2: found the glob" in said and f"{path}:3: found the expression" in said and "nothing was made" in said
    assert os.listdir(lists) == ["closed"]
    path.write_bytes(b"a@one.test\n\xff@one.test\n")
    assert f"{path}:2: is not UTF-8" in map_of(path, status=CONFIGURATION)
    write(path, *[f"*{number}" for number in range(100)])
    said = map_of(path, status=CONFIGURATION)
    assert said.count("found") == 10 and "90 more mistakes" in said
    assert "cannot read" in map_of(lists / "none", status=CONFIGURATION)


def test_one_at_a_time(lists):
    path = write(lists / "closed", "a@one.test")
    map_of(path)
    with open(lists / "closed.gdbm") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        assert "somebody else is making" in map_of(path, status=TEMPORARY)
    map_of(path)


# Lists at start, at reload and in check


def test_a_list_is_read_again_at_reload(slimtad, lists):
    path = write(lists / "closed", "closed@one.test")
    map_of(path)
    slimtad.change(rule=[rule("closed", "rcpt", "550 5.1.1 {recipient} is closed", recipient_file=f"{path}.gdbm")])
    slimtad.start()
    client = slimtad.connect()
    assert rcpt(client, "closed@one.test") == (550, "5.1.1 closed@one.test is closed")
    write(path, "other@one.test")
    map_of(path)
    assert rcpt(client, "closed@one.test")[0] == 550
    assert run_slimtad("reload", "--config", slimtad.configuration).returncode == OK
    with slimtad.connect() as second:
        assert rcpt(second, "closed@one.test")[0] == 250 and rcpt(second, "other@one.test")[0] == 550
    client.close()


@pytest.mark.parametrize("what", ["text", "damaged", "foreign", "missing", "networks"])
def test_a_bad_list_keeps_the_old_world(slimtad, lists, what):
    path = write(lists / "closed", "closed@one.test")
    map_of(path)
    used = lists / "used"
    shutil.copy(f"{path}.gdbm", used)
    give(used)
    key = {"client_file" if what == "networks" else "recipient_file": str(used)}
    good = [rule("first", "rcpt", "550 5.1.1 closed", recipient_file=str(used))]
    slimtad.change(rule=good)
    slimtad.start()
    slimtad.expect_error("reload failed")
    wanted = {"text": f"{used}:2: found the glob", "damaged": "is damaged: make it again, with slimtad map",
              "foreign": "was not made by slimtad map", "missing": "cannot read",
              "networks": "is no list of addresses and networks"}[what]
    new = lists / "new"
    if what == "text":
        write(new, "a@one.test", "b*@one.test")
    elif what == "damaged":
        octets = bytearray((lists / "closed.gdbm").read_bytes())
        octets[len(octets) // 2] ^= 1
        new.write_bytes(octets)
    elif what == "foreign":
        octets = (lists / "closed.gdbm").read_bytes().replace(b"slimtad map", b"another map")
        new.write_bytes(octets)
    else:
        shutil.copy(f"{path}.gdbm", new)
    give(new)
    os.rename(new, used)
    if what == "missing":
        used.unlink()
    if what == "networks":
        slimtad.change(rule=good + [rule("second", "connect", "554 5.7.1 no", **key)])
    for command in ("check", "reload"):
        result = run_slimtad(command, "--config", slimtad.configuration)
        said = result.stdout + result.stderr
        assert result.returncode == CONFIGURATION and wanted in said, said
        assert f"{next(iter(key))}: " in said and "slimta.conf:" in said, said
    with slimtad.connect() as client:
        assert rcpt(client, "closed@one.test")[0] == 550 and rcpt(client, "open@one.test")[0] == 250
    # And no start either.
    assert slimtad.term() == OK
    result = run_slimtad("run", "--config", slimtad.configuration)
    assert result.returncode == CONFIGURATION and wanted in result.stderr, result.stderr


def test_check_tells_the_lists(slimtad, lists):
    path = write(lists / "closed", "closed@one.test", "@shut.test")
    slimtad.change(rule=[rule("closed", "rcpt", "550 5.1.1 closed", recipient_file=str(path))])
    result = run_slimtad("check", "--config", slimtad.configuration)
    assert result.returncode == OK and f"list {path}: 2 entries" in result.stdout, result.stdout + result.stderr


@pytest.mark.skipif(not IS_ROOT, reason="only root can judge as another user")
def test_a_list_that_only_root_can_read(slimtad, lists):
    """A start as root could read it, a reload could not: check says so before."""
    path = write(lists / "closed", "closed@one.test")
    shutil.chown(path, "root", "root")
    path.chmod(0o600)
    slimtad.change(rule=[rule("closed", "rcpt", "550 5.1.1 closed", recipient_file=str(path))])
    result = run_slimtad("check", "--config", slimtad.configuration)
    assert result.returncode == CONFIGURATION and "must be able to" in result.stderr, result.stderr


# slimtad explain-session


def test_every_rule_with_its_verdict(slimtad):
    slimtad.change(rule=[
        rule("friends", "rcpt", action="accept", client=["198.51.100.0/24"]),
        rule("mark", "rcpt", add_field="X-Gate: {rule}"),
        rule("closed", "rcpt", "550 5.1.1 {recipient} is closed to {login}", recipient=["closed@one.test"]),
        rule("never", "rcpt", action="hold", sender=["@other.test"])])
    options = ["--login", LOGIN, "--mail", "a@origin.test", "--rcpt", "closed@one.test", "--rcpt", "b@one.test"]
    said = explain(slimtad, "--client", "192.0.2.1", *options)
    assert said.count("friends: does not match: client; accept") == 2
    assert f"closed: matches; reply 550 5.1.1 {{recipient}} is closed to {{login}}" in said
    assert f"the client is told: 550 5.1.1 closed@one.test is closed to {LOGIN}" in said
    assert "never: is not reached; hold" in said and "never: does not match: sender; hold" in said
    assert "the message gets: X-Gate: mark" in said and said.strip().endswith("the session is taken")
    said = explain(slimtad, "--client", "198.51.100.7", *options)
    assert said.count("friends: matches; accept") == 2 and "mark: is not reached" in said
    # One recipient, refused.
    said = explain(slimtad, "--client", "192.0.2.1", *options[:-2], status=REFUSED)
    assert said.strip().endswith("the session is refused")
    found = [json.loads(line) for line in explain(slimtad, "--client", "192.0.2.1", *options, "--json").splitlines()]
    assert [step.get("stage") for step in found] == [
        "connect", "ehlo", "auth", "mail", "rcpt", "rcpt", "data", None]
    assert found[4]["reply"] == f"550 5.1.1 closed@one.test is closed to {LOGIN}"
    assert found[-1] == {"accepted": True, "fields": ["X-Gate: mark\r\n"], "held_by": None}


def test_who_is_asked_about_a_login(slimtad):
    """Which back ends, in which order, and what each serves on that edge; none but the users file is asked."""
    def said(login, *options, mail="a@origin.test", status=OK):
        return explain(slimtad, "--client", "192.0.2.1", "--tls", "--login", login, "--mail", mail, *options, status=status)
    slimtad.change(auth={
        "backends": ["file", "pam", "dovecot", "oauth"], "mechanisms": ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"],
        "pam": {"service": "mail", "domain": "people.test"}, "dovecot": {"socket": "unix:/nobody/auth"},
        "oauth": {"issuer": "i", "audience": "a", "jwks_url": "http://127.0.0.1:1/keys", "claim": "upn"}})
    slimtad.add_user("alice", PASSWORD, "--senders", "alice@x.test")
    slimtad.add_user("bob")
    run_slimtad("passwd", "--config", slimtad.configuration, "bob", "--disable")
    text = said("alice", mail="alice@x.test")
    assert "asked in this order: file, pam, dovecot, oauth" in text
    assert 'has it as "alice" (SCRAM-SHA-256, PLAIN)' in text.replace("PLAIN, SCRAM-SHA-256", "SCRAM-SHA-256, PLAIN")
    assert 'pam: service "mail" is asked about "alice" (PLAIN)' in text
    assert "dovecot: the service at unix:/nobody/auth is asked" in text
    assert 'oauth: a token is shown whose claim "upn" is the login (OAUTHBEARER)' in text
    assert "alice of file may send as alice@x.test" in text
    assert "553 5.7.1" in said("alice", status=REFUSED)
    # Whom the file does not have the next one may; there it may send as itself.
    text = said("carol@people.test", mail="carol@people.test")
    assert "does not have it" in text and 'is asked about "carol"' in text
    assert "carol of pam may send as carol@people.test" in text
    assert "553 5.7.1" in said("carol@people.test", status=REFUSED)
    text = said("carol@x.test", "--mechanism", "oauthbearer", mail="carol@x.test")
    assert "with OAUTHBEARER asked in this order: dovecot, oauth" in text
    assert "carol@x.test of oauth may send as carol@x.test" in said("carol@x.test", "--backend", "oauth", mail="carol@x.test")
    assert "nobody else lets it in" in said("bob", mail="bob@x.test")
    assert "no back end serves it here" in said("alice", "--mechanism", "EXTERNAL", mail="alice@x.test")
    assert "(--tls)" in explain(slimtad, "--client", "192.0.2.1", "--login", "alice")
    assert "allowed is file, pam, dovecot, oauth" in said("alice", "--backend", "ldap", status=USAGE)
    assert "allowed is SCRAM-" in said("alice", "--mechanism", "NTLM", status=USAGE)
    # With the file alone who is not there is nobody.
    slimtad.settings["auth"] = {}
    slimtad.change()
    assert "nobody lets it in (535)" in said("carol")


def test_it_says_what_the_daemon_says(slimtad):
    slimtad.change(rule=[
        rule("names", "ehlo", "550 5.7.1 {ehlo} is none", ehlo=["bad.*"]),
        rule("early", "mail", "450 4.7.1 not at {client}", hours=["00:00-24:00"], sender=["@late.test"]),
        rule("big", "mail", "552 5.3.4 {sender} sends much", size="> 1000"),
        rule("subject", "message", "554 5.6.0 no {rule}", header={"name": "Subject", "value": "*offer*"})])
    slimtad.start()
    message = slimtad.folder / "message"
    message.write_text("From x\nSubject: an offer\nFrom: a@origin.test\n\nx\n")

    with slimtad.connect() as client:
        mine = client.sock.getsockname()[0]

        def told(*options):
            said = explain(slimtad, "--client", mine, "--tls", "--login", LOGIN, *options, status=REFUSED)
            return said.split("the client is told: ")[1].splitlines()[0]

        code, text = client.mail("a@late.test")
        assert told("--mail", "a@late.test") == f"{code} {text.decode()}" == f"450 4.7.1 not at {mine}"
        code, text = client.mail("a@origin.test", ["SIZE=2000"])
        assert told("--mail", "a@origin.test", "--size", "2000") == f"{code} {text.decode()}"
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@origin.test", ["b@one.test"], message.read_text())
        assert told("--mail", "a@origin.test", "--rcpt", "b@one.test", "--message", message) == (
            f"{refused.value.smtp_code} {refused.value.smtp_error.decode()}")
        code, text = client.ehlo("bad.test")
        assert told("--ehlo", "bad.test") == f"{code} {text.decode()}"


def test_facts_are_looked_up_or_given_or_missing(slimtad, nameserver):
    nameserver.add("2.0.0.127.bad.test. 1 IN A 127.0.0.2")
    nameserver.add("7.100.51.198.bad.test. 1 IN A 127.0.0.2")
    nameserver.restart()
    slimtad.change(
        dnsbl=[{"name": "bad", "zone": "bad.test"}],
        rule=[rule("listed", "connect", "554 5.7.1 {client} is listed", dnsbl="bad")])
    assert "554 5.7.1 198.51.100.7 is listed" in explain(slimtad, "--client", "198.51.100.7", status=REFUSED)
    assert "listed: does not match: dnsbl" in explain(slimtad, "--client", "198.51.100.8")
    for options, status in ((["--listed", "bad"], REFUSED), (["--not-listed", "bad"], OK)):
        explain(slimtad, "--client", "198.51.100.8", "--no-lookups", *options, status=status)
    said = explain(slimtad, "--client", "198.51.100.8", "--no-lookups", status=UNAVAILABLE)
    assert "missing: the list bad (--listed or --not-listed)" in said
    assert "allowed is bad" in explain(slimtad, "--client", "198.51.100.8", "--listed", "good", status=USAGE)


def test_spf(slimtad, nameserver):
    nameserver.add('strict.test. 1 IN TXT "v=spf1 ip4:192.0.2.1 -all"')
    nameserver.restart()
    edge = slimtad.settings["edge"][0] | {"trusted_networks": ["192.0.2.0/24"]}
    slimtad.change(
        edge=[edge], spf={"fail": {"code": 550, "message": "5.7.1 Access denied: {reason}"}})
    options = ["--mail", "a@strict.test"]
    assert "SPF says pass" in explain(slimtad, "--client", "192.0.2.1", *options)
    assert "the client is told: 550 5.7.1 Access denied: " in explain(
        slimtad, "--client", "192.0.2.2", *options, status=REFUSED)
    said = explain(slimtad, "--client", "192.0.2.2", *options, "--spf", "softfail")
    assert "SPF says softfail (as --spf says), for which [spf] has nothing" in said
    # Who has logged in is not asked about; who has not, and is not trusted, gets no further than that.
    assert "SPF" not in explain(slimtad, "--client", "192.0.2.2", "--login", LOGIN, *options)
    assert "530 5.7.0" in explain(slimtad, "--client", "203.0.113.1", *options, status=REFUSED)


@pytest.mark.parametrize("options, allowed", [
    (["--client", "nobody"], "an IP address"), (["--client", "::1", "--edge", "none"], '"submission", "submissions"'),
    (["--client", "::1", "--at", "noon"], "HH:MM"), (["--client", "::1", "--spf", "maybe"], "none, neutral, pass"),
    (["--client", "::1", "--rcpt", "b@one.test"], "want --mail"), (["--client", "::1", "--mail", "nobody"], "an address"),
    (["--client", "::1", "--rate", "many"], '"login 120/hour"'),
    (["--client", "::1", "--mail", "", "--message", "/none"], "--message")])
def test_wrong_options(slimtad, options, allowed):
    assert allowed in explain(slimtad, *options, status=USAGE)
