"""The pages of etc/examples: each slimta.conf on them is started and delivers, and what they have typed is typed as it stands.

Only what belongs to another machine is replaced: addresses and ports, and the folders of certificates, users and queue.
"""

import json
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import tomllib

import pytest

from harness.certificate import make_certificate
from harness.machine import DEBIAN, GROUP, IS_ROOT, MX_PORT, ROOT, SLIMTAD, USER, give
from harness.messages import message
from harness.sink import LIBRARIES, Sink
from harness.slimtad import LOGIN, OK, PASSWORD, run_slimtad

EXAMPLES = ROOT / "etc/examples"
PAGES = sorted(path.stem for path in EXAMPLES.glob("*.md"))
# Pages about something else than a configuration.
WITHOUT_CONFIGURATION = ["backup-and-move"]


def blocks(page, language):
    """The blocks of a page that are in `language`, whole."""
    text = (EXAMPLES / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def configured(daemon, page, hosts=()):
    """`daemon` with the configuration of a page. `hosts`: where "host:port" of the page is here."""
    (text,) = blocks(page, "toml")
    wanted = tomllib.loads(text)
    settings = daemon.settings
    for table, values in wanted.items():
        if table == "hostname":
            settings[table] = values
        elif table == "tls":
            assert values.keys() == {"certificate", "key"}
        elif table == "auth":
            assert values == {"users": "/etc/slimta/users"}
        elif table in ("edge", "route", "rule"):
            settings[table] = values
        else:
            settings[table] = settings.get(table, {}) | values
    for edge in settings["edge"]:
        if edge["type"] == "sendmail":
            edge["listen"] = [f"unix:{daemon.runtime}/sendmail"]
            continue
        ports = {address.rpartition(":")[2] for address in edge["listen"]}
        edge["listen"] = [f"{daemon.address}:{2000 + int(port)}" for port in ports]
    for way in [settings["relay"], *settings.get("route", [])]:
        if "host" in way:
            way["host"] = dict(hosts)[way["host"]]
        if way["type"] != "mx":
            # Only exchangers that others name are asked about.
            way.pop("port", None)
            way.pop("allow_networks", None)
        if "password_file" in way:
            secret = daemon.folder / "relay-password"
            secret.write_text("open\n")
            secret.chmod(0o600)
            give(secret)
            way["password_file"] = str(secret)
    daemon.change()
    return daemon


@pytest.fixture
def world(nameserver, sink, make_slimtad):
    """A daemon that is not started, and one.test whose MX is the sink."""
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    return make_slimtad(nameserver)


def submit(daemon, port, recipient, login=None):
    """One message on `port`, with TLS as the port has it."""
    context = daemon.certificate.trusting_context()
    if port == 2465:
        client = smtplib.SMTP_SSL(daemon.address, port, "client.test", context=context, timeout=20)
    else:
        client = smtplib.SMTP(daemon.address, port, "client.test", timeout=20)
    with client:
        client.ehlo()
        if client.has_extn("starttls"):
            client.starttls(context=context)
        if login:
            client.login(*login)
        client.sendmail("sender@origin.test", [recipient], message("example"))


def test_each_page_is_tested():
    mine = open(__file__).read()
    assert PAGES and all(f'"{page}"' in mine for page in PAGES)
    for page in PAGES:
        assert len(blocks(page, "toml")) == (page not in WITHOUT_CONFIGURATION), page
        assert f"etc/examples/{page}.md" in (ROOT / "README.md").read_text(), page


def test_behind_postfix(world, sink, place):
    postfix = Sink(place).start()
    daemon = configured(world, "behind-postfix", [("127.0.0.1:25", f"{postfix.address}:{MX_PORT}")]).start()
    submit(daemon, 2587, "bob@one.test", (LOGIN, PASSWORD))
    submit(daemon, 2465, "carol@example.com", (LOGIN, PASSWORD))
    submit(daemon, 2465, "dave@dept.example.com", (LOGIN, PASSWORD))
    daemon.wait_for_attempts(3, status="2.0.0")
    assert [found.recipients for found in sink.transactions()] == [["bob@one.test"]]
    assert sorted(found.recipients for found in postfix.transactions()) == [
        ["carol@example.com"], ["dave@dept.example.com"]]
    with pytest.raises(smtplib.SMTPSenderRefused):
        submit(daemon, 2587, "bob@one.test")


def test_behind_postfix_takes_its_services(place):
    command = next(line for line in blocks("behind-postfix", "sh")[0].splitlines() if line.startswith("postconf "))
    services = (DEBIAN / "postfix/usr/share/postfix/master.cf.dist").read_text()
    assert "#submission inet" in services
    (place.path / "main.cf").touch()
    (place.path / "master.cf").write_text(re.sub(r"^#(submissions? +inet)", r"\1", services, flags=re.MULTILINE))
    result = subprocess.run(
        [DEBIAN / "postfix/usr/sbin/postconf", "-c", place.path, *command.split()[1:]], env=os.environ | LIBRARIES,
        capture_output=True, text=True)
    assert result.returncode == OK, result.stderr
    assert not re.search(r"^submission", (place.path / "master.cf").read_text(), re.MULTILINE)


def test_from_slimta(world, sink):
    daemon = configured(world, "from-slimta").start()
    submit(daemon, 2587, "bob@one.test", (LOGIN, PASSWORD))
    daemon.wait_for_attempts(1, status="2.0.0")
    with daemon.connect() as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "10485760"
    # What it calls a policy is one.
    (text,) = blocks("from-slimta", "toml")
    assert set(tomllib.loads(text)["queue"]["policies"]) == {"date", "message_id", "received", "domain_split"}


def test_smarthost_at_home(make_slimtad, place):
    """The provider is a slimtad too: it wants TLS and a login."""
    provider = make_slimtad(name="provider", routes=[{"domains": ["*"], "type": "blackhole"}])
    provider.add_user("me@provider.example", "open", "--senders", "*").start()
    home = configured(make_slimtad(), "smarthost-at-home", [("smtp.provider.example:587", f"{provider.address}:2587")])
    home.settings["relay"].pop("connect_timeout", None)
    home.change()
    # What a provider's certificate is signed by is among the system's; this one is not.
    home.environment = {"SSL_CERT_FILE": str(provider.certificate.chain)}
    home.start()
    submit(home, 2587, "bob@one.test")
    provider.wait_for_attempts(1, recipient="bob@one.test")
    provider.wait_for_events(login="me@provider.example")


def test_applications_on_loopback(world, sink):
    daemon = configured(world, "applications-on-loopback").start()
    submit(daemon, 2025, "bob@one.test")
    sent = run_slimtad("sendmail", "--config", daemon.configuration, "carol@one.test", stdin="Subject: x\n\nb\n")
    assert (sent.returncode, sent.stderr) == (OK, "")
    daemon.wait_for_attempts(2, status="2.0.0")
    assert len(sink.transactions()) == 2


def test_json_from_applications(world, sink):
    """The request as it stands, twice, with this test's address; one message comes of it."""
    daemon = configured(world, "json-from-applications").start(wait=False)
    daemon.wait_until(lambda: daemon.events(address=f"{daemon.address}:10025"), what="the edge")
    (command,) = [block for block in blocks("json-from-applications", "sh") if block.startswith("curl ")]
    command = command.replace("127.0.0.1:8025", f"{daemon.address}:10025").replace("example.org", "one.test")
    answers = [subprocess.run(["sh", "-eu", "-c", command], capture_output=True, text=True) for _ in range(2)]
    assert all(answer.returncode == OK for answer in answers), answers
    said = json.loads(answers[0].stdout)
    assert answers[1].stdout == answers[0].stdout and [one["accepted"] for one in said["recipients"]] == [True, True]
    daemon.wait_for_attempts(2, status="2.0.0")
    (transaction,) = sink.transactions()
    assert transaction.recipients == ["bob@one.test", "carol@one.test"]


def test_gate(world, sink):
    """The commands as they stand, with this test's folder; who is turned away, and who is not."""
    daemon = configured(world, "gate")
    closed = daemon.folder / "closed"
    closed.write_text("boss@one.test\n@quiet.test\n")
    give(closed)
    for rule in daemon.settings["rule"]:
        if "recipient_file" in rule:
            rule["recipient_file"] = f"{closed}.gdbm"
    daemon.change()

    def typed(line, *more, status=OK):
        command = line.replace("/etc/slimta/closed", str(closed)).split()[1:]
        if command[0] != "map":
            command += ["--config", daemon.configuration]
        result = run_slimtad(*command, *more)
        assert result.returncode == status, (line, result.stdout, result.stderr)
        return result.stdout

    make, explain = blocks("gate", "sh")[:2]
    for line in make.splitlines():
        typed(line)
    guest, scanner = explain.splitlines()
    assert "the client is told: 535 5.7.8 guest1 may log in from our own network only" in typed(guest, status=1)
    assert "the client is told: 530 5.7.0 Authentication required" in typed(scanner, status=1)
    assert "the client is told: 550 5.7.1 Access denied: as --spf says" in typed(
        scanner.replace("23:00", "12:00"), "--spf", "fail", status=1)
    assert "the printer: matches; accept" in typed(
        scanner.replace("192.0.2.5", "192.0.2.9").replace("scanner@", "printer@"), "--spf", "fail")

    daemon.add_user().add_user("guest1", PASSWORD).start()
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        submit(daemon, 2587, "bob@one.test", ("guest1", PASSWORD))
    assert refused.value.smtp_code == 535 and b"from our own network only" in refused.value.smtp_error
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        submit(daemon, 2587, "bob@one.test")
    assert refused.value.smtp_code == 530
    for recipient in ("boss@one.test", "anybody@quiet.test"):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            submit(daemon, 2587, recipient, (LOGIN, PASSWORD))
        assert refused.value.recipients == {recipient: (550, f"5.1.1 {recipient} is closed".encode())}
    submit(daemon, 2587, "bob@one.test", (LOGIN, PASSWORD))
    daemon.wait_for_attempts(1, status="2.0.0")
    # The rule that is tried.
    with daemon.connect() as client:
        client.mail("sender@origin.test")
        for number in range(53):
            assert client.rcpt(f"r{number}@one.test")[0] == 250
    daemon.wait_until(lambda: daemon.events(rule="many recipients"), what="the rule's line")


def test_certbot(world, sink, place):
    daemon = configured(world, "certbot").start()
    submit(daemon, 2465, "bob@one.test", (LOGIN, PASSWORD))
    # The hook, with this test's folder and group, and a systemctl that reloads this daemon.
    hook = place.path / "hook"
    tls = place.path / "tls"
    tls.mkdir()
    lineage = place.path / "live"
    lineage.mkdir()
    renewed = make_certificate(lineage, "mail.slimtad.test", daemon.address)
    shutil.copy(renewed.chain, lineage / "fullchain.pem")
    shutil.copy(renewed.key, lineage / "privkey.pem")
    text = next(block for block in blocks("certbot", "sh") if block.startswith("#!/bin/sh"))
    text = text.replace("/etc/slimta/tls", str(tls))
    if not IS_ROOT:
        text = text.replace("-o root -g slimtad ", "")
    hook.write_text(text.replace("-g slimtad", f"-g {GROUP}"))
    hook.chmod(0o755)
    bin = place.path / "bin"
    bin.mkdir()
    systemctl = bin / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$*" = "reload slimtad" ] && exec {SLIMTAD} reload --config {daemon.configuration}\n')
    systemctl.chmod(0o755)
    daemon.change(tls={"certificate": str(tls / "fullchain.pem"), "key": str(tls / "key.pem")})
    environment = os.environ | {"RENEWED_LINEAGE": str(lineage), "PATH": f"{bin}:{os.environ['PATH']}"}
    assert subprocess.run([hook], env=environment, capture_output=True, text=True).returncode == OK
    shown = ssl.get_server_certificate((daemon.address, 2465))
    assert ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(renewed.chain.read_text())
    # Nobody but root writes the key, and slimtad's group reads it.
    if IS_ROOT:
        assert (tls / "key.pem").stat().st_mode & 0o777 == 0o640 and (tls / "key.pem").group() == GROUP


def test_private_ca(world, sink, place):
    """The commands as they stand, in a folder of their own; then a client that trusts the authority and no other."""
    made = place.folder("ca")
    made.chmod(0o755)
    result = subprocess.run(["sh", "-eu", "-c", blocks("private-ca", "sh")[0]], cwd=made, capture_output=True, text=True)
    assert result.returncode == OK, result.stderr
    give(made / "key.pem")
    daemon = configured(world, "private-ca")
    daemon.change(tls={"certificate": str(made / "fullchain.pem"), "key": str(made / "key.pem")})
    daemon.start()
    client = next(block for block in blocks("private-ca", "sh") if block.startswith("curl "))
    (made / "message.eml").write_bytes(message("example"))
    client = client.replace(":465", ":2465").replace("alice ", f"'{LOGIN}:{PASSWORD}' ").replace("bob@example.org", "bob@one.test")
    client = client.replace("curl ", f"curl --connect-to mail.example.com:2465:{daemon.address}:2465 -sS ")
    result = subprocess.run(["sh", "-eu", "-c", client], cwd=made, capture_output=True, text=True)
    assert result.returncode == OK, result.stderr
    daemon.wait_for_attempts(1, status="2.0.0")


def test_backup_and_move(world, sink, make_slimtad, place):
    """The page "backup-and-move": the queue of one daemon, in another folder, is delivered once."""
    world.change(queue={"deliver": False})
    world.start()
    ids = [world.submit(message(f"number {number}"), "bob@one.test") for number in range(5)]
    world.term()
    state, elsewhere = world.state, place.path / "new/slimtad"
    elsewhere.parent.mkdir()
    pack, unpack = blocks("backup-and-move", "sh")[1:]

    def line(text, beginning):
        (found,) = [line for line in text.splitlines() if line.startswith(beginning)]
        return found

    # Here the folder is "state", and in the page "slimtad", which is below /var/lib.
    commands = [
        line(pack, "tar -C /var/lib -czf").replace("/var/lib", str(state.parent)).removesuffix("slimtad") + "state",
        f"mkdir {elsewhere}.x",
        line(unpack, "tar -C /var/lib -xzf").replace("/var/lib", f"{elsewhere}.x"),
        f"mv {elsewhere}.x/state {elsewhere}",
    ]
    if IS_ROOT:
        commands.append(
            line(unpack, "chown -R slimtad:slimtad").replace("slimtad:slimtad", f"{USER}:{GROUP}")
            .replace("/var/lib/slimtad", str(elsewhere)))
    for command in commands:
        result = subprocess.run(["sh", "-eu", "-c", command], cwd=place.path, capture_output=True, text=True)
        assert result.returncode == OK, (command, result.stderr)
    world.change(queue={"deliver": True}, daemon={"state_directory": str(elsewhere)})
    audit = run_slimtad("audit", "--config", world.configuration)
    assert audit.returncode == OK and "balanced" in audit.stdout
    world.start()
    world.wait_for_attempts(5, status="2.0.0")
    assert sorted(event["queue_id"] for event in world.attempts(status="2.0.0")) == sorted(ids)
    assert len(sink.transactions()) == 5
