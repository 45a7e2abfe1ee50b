"""The daemon with milters: what libmilter, OpenDKIM, clamav-milter, spamass-milter and one without libmilter see and change is what
they see and change with Postfix, by its recordings (shared/vectors/milter); and milters that hang, die and say rubbish in each
state.
"""

import base64
import json
import os
import pathlib
import re
import smtplib
import subprocess
import time

import dkim
import pytest

from harness.clamav import NAME, WORD, Clamav
from harness.http import with_edge
from harness.json_api import API, SHORT
from harness.machine import IS_ROOT, MX_PORT, ROOT, SUBMISSION, VECTORS, free_ports, must_exist, wait_until
from harness.messages import message
from harness.milter import Pure, Tap, ToldMilter, Whim, do, is_open, packet
from harness.pickup import Pickup, mail
from harness.python_mx import PythonMX
from harness.signatures import Keys
from harness.sink import Sink
from harness.slimtad import run_slimtad, send
from harness.spamd import PORT as SPAMD_PORT
from harness.spamd import Spamd
from harness.wire import Wire, submission

# Whoever is left out: Postfix takes what slimtad refuses (a header that ends without an empty line, a header without From, which it
# makes one for), or says in another way what happens (a session whose EHLO or milter has failed; a sink without SMTPUTF8).
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
OTHERWISE = {"not-a-header", "no-header", "timeout-at-end", "reject-at-helo", "smtputf8"}
RECORDINGS = VECTORS / "milter"


@pytest.fixture
def filtered(place, make_slimtad):
    """Makes a daemon with these milters, all of whose mail goes to `daemon.sink`, one transaction for each message."""

    def make(*milters, start=True, **settings):
        sink = Sink(place).start()
        tables = [{"name": f"m{number}", **table} for number, table in enumerate(milters, 1)]
        settings = {"queue": {"policies": ["date", "message_id", "received"], "retry": ["1s"]}} | settings
        daemon = make_slimtad(
            milter=tables, relay={"type": "smtp", "host": f"{sink.address}:{MX_PORT}", "port": None, "tls": "none",
                                  "allow_networks": None}, **settings)
        daemon.sink = sink
        return daemon.start() if start else daemon

    return make


def fresh(daemon, count):
    """What the sink got since the last call, with CRLF: sender, recipients, content."""
    seen = daemon.__dict__.setdefault("seen", set())
    found = daemon.sink.wait_for(len(seen) + count)
    new = [one for one in found if one.content not in seen]
    assert len(new) == count, [one.content for one in new]
    seen.update(one.content for one in new)
    return [(one.sender, sorted(one.recipients), one.content.replace(b"\n", b"\r\n")) for one in new]


def comparable(content, given):
    """Fields and body without what an MTA adds by itself; its Received as a mark."""
    header, _, body = content.partition(b"\r\n\r\n")
    names = {field.split(b":")[0].strip().lower() for field in fields(given.partition(b"\r\n\r\n")[0])}
    kept = []
    for field in fields(header):
        name = field.split(b":")[0].strip().lower()
        if b"(slimtad)" in field or b"(Postfix)" in field:
            kept.append(b"Received: ours")
        elif name in names or name not in (b"date", b"message-id"):
            # Postfix takes out a blank before a colon.
            kept.append(field.replace(b"X-Blank :", b"X-Blank:"))
    return kept, body


def fields(header):
    """Whole fields, folded as they are."""
    return re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*", header)


def play(daemon, turns):
    """The session of a recording; what was answered to what."""
    codes = []
    with daemon.connect(helo=turns[0]["helo"]) as client:
        for turn in turns:
            said = [["MAIL", client.mail(turn["mail"], turn["options"])[0]]]
            for verb, _, _ in turn["replies"][1:]:
                if verb.startswith("RCPT "):
                    said.append([verb, client.rcpt(verb[5:])[0]])
                elif verb == "RSET":
                    said.append([verb, client.rset()[0]])
                else:
                    said.append([verb, client.data(base64.b64decode(turn["data64"]))[0]])
            codes.append(said)
    return codes


def written(packets):
    """What an MTA says to a milter, without what it may do in another way: the client's port, the values of macros and when `i`
    is one of them, A several times and behind the last message, fields that it adds itself."""
    kept = []
    for letter, data, length in packets:
        if letter == "A" and kept and kept[-1] == "A":
            continue
        texts = (data or b"").split(b"\0")[:-1]
        if letter == "D":
            kept.append(("D", data[:1], sorted({name for name in [texts[0][1:], *texts[2::2]] if name != b"i"}) if texts else []))
        elif letter == "L" and texts[0].lower() in (b"date", b"message-id", b"received"):
            kept.pop()
        elif letter == "C":
            kept.append(("C", texts[0], texts[0] and data[len(texts[0]) + 1:len(texts[0]) + 2], data.rsplit(b"\0", 2)[1][-9:]))
        else:
            kept.append("A" if letter == "A" else (letter, length if length > 2000 else data))
    while kept and (kept[-1] == "A" or kept[-1][0] == "Q"):
        kept.pop()
    return kept


@pytest.mark.parametrize("group, options", [
    ("whim", []), ("whim-noreply", ["noreply", "leadspc"]), ("whim-symbols", ["symbols"]), ("pure", None)])
def test_as_postfix(place, filtered, group, options):
    milter = (Pure(place) if options is None else Whim(place, *options)).start()
    tap = Tap(milter)
    daemon = filtered({"to": tap.to, "content_timeout": "8s"})
    held = 0
    for path in sorted(RECORDINGS.glob(f"{group}.*.json")):
        recording = json.loads(path.read_text())
        turns = [turn for turn in recording["smtp"] if "mail" in turn]
        if recording["case"] in OTHERWISE or recording["case"] == "dropped":
            continue
        before = len(tap.sessions)
        codes = play(daemon, turns)
        assert codes == [[[verb, code] for verb, code, _ in turn["replies"]] for turn in turns], recording["case"]
        given = base64.b64decode(turns[-1]["data64"])
        theirs = [
            # Postfix delivers twice to a recipient that is added though the client has named it.
            (re.match(r"<(.*?)>", one["mail"])[1], sorted({name.strip("<>") for name in one["rcpt"]}),
             comparable(base64.b64decode(one["data64"]), given)) for one in recording["delivered"]]
        ours = [(sender, names, comparable(content, given)) for sender, names, content in fresh(daemon, len(theirs))]
        assert sorted(ours) == sorted(theirs), recording["case"]
        (said,) = tap.sessions[before:]
        wait_until(lambda: said[-1][0] == "closed", 10, "the end of the milter's session")
        assert written([(letter, data, len(data)) for letter, data in said[:-1]]) == written([
            (one["command"], bytes.fromhex(one["data"]) if one["data"] is not None else None, one.get("length", 0))
            for one in recording["packets"] if one["from"] == "mta" and "command" in one]), recording["case"]
        held += recording["held"]
    listed = run_slimtad("queue", "list", "--config", daemon.configuration).stdout
    assert listed.count("looks odd") == held


def test_what_is_told(filtered):
    """The macros of each event, by which OpenDKIM and rspamd know who has logged in."""
    milter = ToldMilter()
    daemon = filtered({"to": milter.to})
    number = daemon.submit(do(), "bob@example.net")
    macros = {}
    for letter, found in milter.macros:
        macros.setdefault(letter, {}).update(found)
    connect, hello, sender, recipient = macros[b"C"], macros[b"H"], macros[b"M"], macros[b"R"]
    assert connect[b"j"] == b"mail.slimtad.test" and connect[b"{daemon_name}"] == b"submission"
    assert connect[b"v"].startswith(b"slimtad ") and connect[b"_"] == b"unknown [127.0.0.1]"
    assert connect[b"{daemon_addr}"] == daemon.address.encode()
    assert hello[b"{tls_version}"].startswith(b"TLSv1.") and hello[b"{cipher_bits}"] in (b"128", b"256")
    assert sender[b"{auth_authen}"] == b"tester" and sender[b"{auth_type}"] in (b"PLAIN", b"LOGIN")
    assert sender[b"i"] == number.encode() == macros[b"E"][b"i"] and sender[b"{mail_addr}"] == b"sender@origin.test"
    assert recipient[b"{rcpt_addr}"] == b"bob@example.net"
    # EHLO once more behind STARTTLS, with A before it.
    wait_until(lambda: milter.letters[-1].endswith("Q"), 10, "the end of the milter's session")
    assert re.fullmatch(r"OCHAHMRTL+NBEA?Q", milter.letters[-1]), milter.letters


def test_bodies(place, filtered):
    """Large ones go through in pieces; a large new one takes the place of a small one, and of a large one."""
    daemon = filtered({"to": Whim(place, is_local=True).start().to})
    large = b"".join(b"%07d this line fills the body of a large message, octet after octet.\r\n" % i for i in range(40_000))
    daemon.submit(do(["add", "X-New", "v"], body=large), "a@one.test")
    ((_, _, content),) = fresh(daemon, 1)
    assert b"\r\nX-New: v\r\n\r\n" in content and content.endswith(large)
    for body in (b"small\r\n", large):
        daemon.submit(do(["body", "a line of the new body\r\n", 100_000], body=body), "a@one.test")
        ((_, _, content),) = fresh(daemon, 1)
        assert content.partition(b"\r\n\r\n")[2] == b"a line of the new body\r\n" * 100_000
    daemon.submit(do(["body", "short", 1], body=large), "a@one.test")
    ((_, _, content),) = fresh(daemon, 1)
    assert content.partition(b"\r\n\r\n")[2] == b"short\r\n"
    # Nothing is left of the bodies that went.
    daemon.wait_until(lambda: not [path for path in (daemon.state / "spool").rglob("*") if path.is_file()], what="an empty spool")


def test_held_and_discarded(place, filtered):
    daemon = filtered({"to": Whim(place).start().to, "name": "whim"})
    held = daemon.submit(do(["quarantine", "looks odd"], ["add", "X-Why", "odd"]), "a@one.test")
    gone = daemon.submit(do(["verdict", "discard"]), ["a@one.test", "b@one.test"])
    daemon.wait_until(lambda: daemon.events(queue_id=gone, milter="whim"), what="that it is discarded, in the log")
    shown = run_slimtad("queue", "show", held, "--config", daemon.configuration).stdout
    assert "looks odd" in shown
    assert run_slimtad("queue", "show", gone, "--config", daemon.configuration).returncode != 0
    status = json.loads(run_slimtad("status", "--json", "--config", daemon.configuration).stdout)
    assert "milter whim" in json.dumps(status), status
    assert run_slimtad("queue", "release", held, "--config", daemon.configuration).returncode == 0
    ((_, _, content),) = fresh(daemon, 1)
    assert b"\r\nX-Why: odd\r\n" in content


def test_signed_behind(place, filtered):
    """What milters make of a message is what is signed; what waits for an operator has signatures without an end."""
    keys = Keys(place.folder("keys"), "example.com")
    daemon = filtered({"to": Whim(place).start().to}, dkim=keys.tables())
    both = [("example.com", "rsa-sha256", True), ("example.com", "ed25519-sha256", True)]
    edits = (["change", 1, "Subject", "new"], ["insert", 1, "X-Low", "v"])
    for body in (["body", "a line of the new body\r\n", 1], ["body", "a line of the new body\r\n", 40_000]):
        daemon.submit(do(*edits, body), ["a@one.test", "b@two.test"])
        ((_, _, content),) = fresh(daemon, 1)
        assert keys.verify(content) == both and b"\r\nSubject: new\r\n" in content
        assert content.partition(b"\r\n\r\n")[2] == body[1].encode() * body[2]
    assert content.count(b"; x=") == 2
    held = daemon.submit(do(*edits, ["quarantine", "looks odd"]), "a@one.test")
    assert run_slimtad("queue", "release", held, "--config", daemon.configuration).returncode == 0
    ((_, _, content),) = fresh(daemon, 1)
    assert keys.verify(content) == both and b"; x=" not in content


def test_what_is_added_leaves_as_what_is_sent(place, make_slimtad):
    """Raw UTF-8 in a field goes encoded, and signed so, to a host without SMTPUTF8. The sender hears nothing of who was added with
    NOTIFY=NEVER."""
    edits = (packet(b"i", b"\0\0\0\0X-Top\0" + "\u00fcber\0".encode()) + packet(b"m", b"\0\0\0\1Subject\0" + "\u00fcbel\0".encode())
             + packet(b"2", b"<never@one.test>\0NOTIFY=NEVER\0") + packet(b"+", b"<told@one.test>\0") + packet(b"c"))
    milter = ToldMilter(lambda number, letter, data: edits if letter == b"E" else None)
    keys, mx = Keys(place.folder("keys"), "origin.test"), PythonMX(place, smtputf8=False)
    mx.answers["RCPT"] = [
        lambda server, envelope, address: "250 OK" if address == "a@one.test" else "550 5.1.1 unknown"] * 3
    mx.start()
    daemon = make_slimtad(
        milter=[{"to": milter.to}], dkim=keys.tables(),
        relay={"type": "smtp", "host": f"{mx.address}:{MX_PORT}", "port": None, "tls": "none", "allow_networks": None}).start()
    daemon.submit(message(), "a@one.test")
    sent, bounce = mx.wait_for(2)
    assert sent.recipients == ["a@one.test"] and "SMTPUTF8" not in sent.mail_options
    assert b"\r\nX-Top: =?utf-8?b?w7xiZXI=?=\r\n" in sent.content and b"\r\nSubject: =?utf-8?b?w7xiZWw=?=\r\n" in sent.content
    assert keys.verify(sent.content) == [("origin.test", "rsa-sha256", True), ("origin.test", "ed25519-sha256", True)]
    assert bounce.recipients == ["sender@origin.test"] and b"<told@one.test>" in bounce.content
    assert b"never@one.test" not in bounce.content
    assert len(daemon.wait_for_attempts(2, status="5.1.1")) == 2


def test_several_with_forward_and_bcc(place, filtered):
    """They see whom mail is forwarded to, and no Bcc; the second sees what the first has left."""
    first, second = Whim(place).start(), ToldMilter()
    daemon = filtered(
        {"to": first.to}, {"to": second.to}, queue={"policies": ["forward", "date", "message_id", "received"], "retry": ["1s"]},
        forward=[{"recipient": "team@one.test", "to": ["reject@one.test"]}, {"recipient": "all@one.test", "to": ["x@one.test", "y@one.test"]}])
    with daemon.connect() as client:
        client.mail("sender@origin.test")
        assert client.rcpt("team@one.test") == (550, b"5.7.1 Command rejected")
        client.rset()
        send(client, do(["insert", 0, "X-Top", "v"], header=b"Bcc: secret@one.test\r\n"), ["all@one.test"])
    ((_, recipients, content),) = fresh(daemon, 1)
    assert recipients == ["x@one.test", "y@one.test"] and content.startswith(b"X-Top: v\r\nReceived: from client.test")
    assert b"secret" not in content
    daemon.wait_for_log(r"refused.*milter=m1")
    assert second.letters[-1].count("L") == len(fields(do(["insert", 0, "X-Top", "v"]).partition(b"\r\n\r\n")[0])) + 1


def test_over_http(place, filtered):
    """What does not come over SMTP: the answer names the recipients that a milter refuses."""
    daemon = with_edge(filtered({"to": Whim(place).start().to}, start=False), json=True).start()
    api = API(daemon)
    said = api.post(SHORT | {"to": ["reject@one.test", "bob@one.test", "temp@one.test"]}).json()
    assert {one["address"]: one["accepted"] for one in said["recipients"]} == {
        "reject@one.test": False, "bob@one.test": True, "temp@one.test": False}, said
    ((_, recipients, content),) = fresh(daemon, 1)
    assert recipients == ["bob@one.test"]


@pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")
def test_from_a_folder(place, make_slimtad):
    milter = ToldMilter(lambda number, letter, data: packet(b"h", b"X-Seen\0yes\0") + packet(b"c") if letter == b"E" else None)
    pickup = Pickup(place, make_slimtad, {"owner_login": False}, milter=[{"to": milter.to}]).start()
    pickup.drop("one.eml", mail("one"))
    (message,) = pickup.delivered(1)
    assert message["x-seen"] == "yes"
    connect = [found for letter, found in milter.macros if letter == b"C"][-1]
    wait_until(lambda: milter.letters[-1].endswith("Q"), 10, "the end of the milter's session")
    assert re.fullmatch(r"OCHMRTL+NBEA?Q", milter.letters[-1]), milter.letters
    assert connect[b"_"] == b"localhost [127.0.0.1]" and connect[b"{daemon_name}"] == b"pickup"


def test_opendkim(place, filtered):
    program = must_exist(ROOT / ".venv/debian/opendkim/usr/sbin/opendkim")
    folder = place.folder("opendkim")
    subprocess.run(["openssl", "genrsa", "-out", folder / "key", "2048"], check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "rsa", "-in", folder / "key", "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    (port,) = free_ports(1)
    # Others may write to the folder that tests are run in.
    (folder / "conf").write_text(
        f"Socket inet:{port}@127.0.0.1\nMode s\nDomain origin.test\nSelector r1\nKeyFile {folder}/key\n"
        "RequireSafeKeys no\nCanonicalization relaxed/simple\nOversignHeaders From\nSyslog no\nInternalHosts 192.0.2.1\n"
        "Background no\n")
    process = subprocess.Popen([program, "-f", "-x", folder / "conf"])
    try:
        daemon = filtered({"to": f"127.0.0.1:{port}"}, start=False)
        daemon.wait_until(lambda: is_open(port), what="opendkim")
        daemon.start()
        record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        for body in ("hello\r\n", "x\r\n" * 100_000):
            daemon.submit(f"From: sender@origin.test\r\nSubject: t\r\n\r\n{body}".encode(), ["a@one.test", "b@one.test"])
            ((_, _, content),) = fresh(daemon, 1)
            # Signed because somebody has logged in; above our Received.
            assert content.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
            assert dkim.verify(content, dnsfunc=lambda name, timeout=5: record)
    finally:
        process.kill()
        process.wait()


def test_spamass_milter(place, filtered):
    """A milter of Debian's that looks at content: what is spam is refused, the rest gets its fields."""
    program = must_exist(ROOT / ".venv/debian/spamass-milter/usr/sbin/spamass-milter")
    must_exist("/usr/bin/spamc")
    spamd = Spamd(place).start()
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [program, "-p", f"inet:{port}@127.0.0.1", "-r", "-1", "--", "-d", spamd.address, "-p", str(SPAMD_PORT)])
    try:
        daemon = filtered({"to": f"127.0.0.1:{port}", "content_timeout": "2m"}, start=False)
        daemon.wait_until(lambda: is_open(port), what="spamass-milter")
        daemon.start()
        ham = message("lunch", "At noon?\r\n", **{"X-Spam-Status": "No, not at all"})
        daemon.submit(ham, "a@one.test")
        ((_, _, content),) = fresh(daemon, 1)
        assert b"not at all" not in content and b"\r\nX-Spam-Checker-Version: SpamAssassin" in content
        with daemon.connect() as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("sender@origin.test", ["a@one.test"], message("offer", GTUBE))
        assert refused.value.smtp_code == 550, refused.value
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("way", ["Reject", "Quarantine"])
def test_clamav_milter(place, filtered, way):
    """A milter of Debian's that wants the whole content, changes fields, and refuses or has held what it finds."""
    milter = Clamav(place, OnInfected=way, RejectMsg='"infected: %v"').start()
    daemon = filtered({"to": milter.to}, start=False)
    milter.wait_until(lambda: is_open(milter.port), what="clamav-milter")
    daemon.start()
    daemon.submit(message("clean", "x\r\n" * 100_000, **{"X-Virus-Status": "whatever"}), "a@one.test")
    ((_, _, content),) = fresh(daemon, 1)
    assert content.count(b"\r\nX-Virus-Status: ") == content.count(b"\r\nX-Virus-Status: Clean\r\n") == 1
    assert b"\r\nX-Virus-Scanned: clamav-milter " in content
    ill = message("ill", "x\r\n" * 100_000 + WORD + "\r\n")
    if way == "Reject":
        with daemon.connect() as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("sender@origin.test", ["a@one.test"], ill)
        assert refused.value.smtp_code == 550 and f"infected: {NAME}" in refused.value.smtp_error.decode(), refused.value
    else:
        number = daemon.submit(ill, "a@one.test")
        assert "quarantined by clamav-milter" in run_slimtad("queue", "show", number, "--config", daemon.configuration).stdout
        assert run_slimtad("queue", "release", number, "--config", daemon.configuration).returncode == 0
        ((_, _, content),) = fresh(daemon, 1)
        assert f"\r\nX-Virus-Status: Infected ({NAME}".encode() in content


def rubbish(letter):
    """Ways to fail at an event: what is sent in place of an answer, or None to close."""
    return {
        "closes": None, "says what is none": packet(b"Z"), "says rubbish": b"\xff" * 5000, "says it twice": packet(b"c") * 2,
        "says much": packet(b"c") + packet(b"b", b"x" * 60_000) * 50, "edits": packet(b"h", b"X\0y\0"),
        "half of it": b"\0\0", "hangs": b"",
    }


STATES = b"OCHMRTLNBE"
POLICIES = ["tempfail", "accept", "reject", "quarantine"]


def attempt(daemon, number):
    """A session that goes as far as it comes, with a message of this number: whether the message is accepted, what was said
    against it, and the connection."""
    wire = Wire(daemon.address, SUBMISSION, daemon.certificate)
    said = [wire.reply()[-1]]

    def ask(command):
        said.append(wire.ask(command))
        return said[-1].startswith(("250 ", "354 "))

    if not said[0].startswith("220 "):
        return False, said, None
    if not ask("EHLO client.test"):
        # Once more, as if it had not been.
        refused = said.pop()
        assert ask("EHLO client.test"), said
        said.append(refused)
    assert wire.ask("STARTTLS").startswith("220 ")
    wire.tls()
    assert wire.ask("EHLO client.test").startswith("250 ")
    wire.login()
    taken = ask("MAIL FROM:<a@one.test>") and ask("RCPT TO:<b@one.test>") and ask("DATA")
    if taken:
        taken = deliver(wire, number, said)
    return taken, [reply for reply in said if reply[0] in "45"], wire


def deliver(wire, number, said):
    wire.send(do(header=b"X-Number: %d\r\n" % number) + b".\r\n")
    said.append(wire.reply()[-1])
    return said[-1].startswith("250 ")


@pytest.mark.parametrize("policy, code", zip(POLICIES, (451, 250, 550, 250)))
def test_broken(filtered, policy, code):
    """In each state: what the client hears is what `on_failure` says, the session goes on, nothing is left of it, and what was
    accepted is there once. Of the ways to fail each policy has a part, which is another one in each state; all of them with all
    are in SlimtaEdgeTests."""
    at = {"letter": b"", "octets": b"", "until": 0}

    def script(number, letter, data):
        if letter != at["letter"] or number >= at["until"]:
            return None
        if at["octets"] is None:
            raise ConnectionError
        return at["octets"]

    milter = ToldMilter(script)
    daemon = filtered(
        {"to": milter.to, "on_failure": policy, "command_timeout": "1s", "content_timeout": "1s", "name": "broken"})
    daemon.submit(do(), "first@one.test")
    fresh(daemon, 1)
    fds = pathlib.Path(f"/proc/{daemon.process.pid}/fd")
    before = len(list(fds.iterdir()))
    number, accepted = 0, []
    for state, letter in enumerate(STATES):
        letter = bytes([letter])
        for way, (how, octets) in enumerate(rubbish(letter).items()):
            if (state + way) % 4 != POLICIES.index(policy) or how == "edits" and letter == b"E":
                continue
            # The connection of this session, and none that comes behind.
            at.update(letter=letter, octets=octets, until=len(milter.letters) + 2)
            place = f"{how} at {letter}"
            number += 1
            begin = time.monotonic()
            taken, refused, wire = attempt(daemon, number)
            assert time.monotonic() - begin < 8, place
            accepted += [number] * taken
            assert all(reply.startswith(f"{code} ") for reply in refused), (place, refused)
            if code == 250:
                assert taken and not refused, (place, refused)
            at["letter"] = b""
            if letter == b"O":
                # It is left alone for a second.
                time.sleep(1.1)
            # The next message, in the same session where there is one.
            with wire or submission(daemon) as wire:
                number += 1
                wire.ask("RSET")
                assert wire.ask("MAIL FROM:<a@one.test>").startswith("250"), place
                assert wire.ask("RCPT TO:<b@one.test>").startswith("250"), place
                assert wire.ask("DATA").startswith("354"), place
                assert deliver(wire, number, []), place
                accepted.append(number)
    daemon.expect_error("milter cannot be asked")
    daemon.wait_until(lambda: len(list(fds.iterdir())) <= before, what="no more files than before")
    if policy == "quarantine":
        assert "milter broken" in run_slimtad("queue", "list", "--config", daemon.configuration).stdout
        assert run_slimtad("queue", "release", "--all", "--config", daemon.configuration).returncode == 0
    found = fresh(daemon, len(accepted))
    numbers = [int(re.search(rb"^X-Number: (\d+)", content, re.M)[1]) for _, _, content in found]
    assert sorted(numbers) == accepted


def test_one_that_is_away(place, filtered):
    milter = Whim(place, is_local=True)
    daemon = filtered({"to": milter.to, "name": "away"}, start=False)
    daemon.expect_error("milter cannot be asked, it is left alone for a while")
    daemon.add_usual_user()
    checked = run_slimtad("check", "--config", daemon.configuration)
    assert f"{milter.path} is not there: until it is, mail is refused with 451" in checked.stderr + checked.stdout
    assert f"  milter away: {milter.to}, tempfail where it fails\n" in checked.stdout
    explained = run_slimtad(
        "explain-session", "--config", daemon.configuration, "--client", "192.0.2.1", "--tls", "--login", "tester",
        "--mail", "a@one.test", "--rcpt", "b@one.test")
    assert explained.stdout.count("the milter away may have a say here") >= 3, explained
    daemon.start()
    for _ in range(4):
        # EHLO, STARTTLS and AUTH go on.
        with submission(daemon) as wire:
            assert wire.ask("MAIL FROM:<a@one.test>").startswith("451 4.7.1 ")
    daemon.wait_for_log("milter cannot be asked, it is left alone for a while")
    assert daemon.log.count("milter cannot be asked, it is left alone for a while") == 1
    status = run_slimtad("status", "--config", daemon.configuration).stdout
    assert 'milter away: it cannot be reached: No such file or directory; on_failure = "tempfail" counts' in status
    milter.start()

    def passes():
        with submission(daemon) as wire:
            return wire.ask("MAIL FROM:<a@one.test>").startswith("250")

    daemon.wait_until(passes, timeout=40, what="a milter that is asked again")
    assert "milter away" not in run_slimtad("status", "--config", daemon.configuration).stdout
    daemon.wait_for_log("milter answers again")
    # Gone with a reload.
    del daemon.settings["milter"]
    daemon.change()
    daemon.reload()
    milter.kill()
    daemon.submit(do(), "a@one.test")
    fresh(daemon, 1)


def test_from_session_to_session(filtered):
    milter = ToldMilter()
    daemon = filtered({"to": milter.to, "reuse_between_sessions": True})

    def used():
        """The connections that had mail: that the daemon listens was found out by a session without."""
        return [letters for letters in milter.letters if "M" in letters]

    for _ in range(20):
        daemon.submit(do(), "a@one.test")
        # A session gives its connection back when nothing holds its message any more, which may be after the client has left.
        wait_until(lambda: all(letters.endswith("K") for letters in used()), what="the end of the session")
    # One for each event loop at most.
    assert len(used()) <= os.cpu_count(), milter.letters
