"""Mail through the service: delivery to a real MX, the journal's story of it, certificates, users."""

import base64
import json
import time

from machine import CONFIGURATION, PASSWORD, submit, wait_until


def test_message_over_465_is_delivered_and_its_story_is_told(machine):
    machine.run("systemctl stop slimtad")
    # Returns when mail is accepted: no waiting here.
    machine.run("systemctl start slimtad")
    with machine.connect(465) as client:
        queue_id = submit(client, "story")
    wait_until(lambda: machine.delivered().get("story") == 1, what="the message at the MX")
    wait_until(lambda: len(machine.journal(f"SLIMTA_QUEUE_ID={queue_id}")) == 2, what="two lines of the journal")
    lines = machine.run(f"journalctl --no-pager -q -o json SLIMTA_QUEUE_ID={queue_id}").splitlines()
    accepted, delivered = map(json.loads, lines)
    assert accepted["SLIMTA_LOGIN"] == "tester" and accepted["SLIMTA_CLIENT"] == "127.0.0.1"
    assert accepted["SLIMTA_EDGE"] == "submissions" and accepted["SLIMTA_TLS"].startswith("TLSv1.3")
    assert delivered["SLIMTA_RECIPIENT"] == "b@example.test" and delivered["SLIMTA_STATUS"] == "2.0.0"
    assert delivered["SLIMTA_RELAY"].startswith("mx.example.test[127.0.0.25]:25")
    assert accepted["MESSAGE_ID"] != delivered["MESSAGE_ID"]
    assert (accepted["PRIORITY"], accepted["SYSLOG_FACILITY"]) == ("6", "2")
    explained = machine.run(f"journalctl --no-pager -x SLIMTA_QUEUE_ID={queue_id}")
    assert "has taken the message for b@example.test" in explained.replace("\n░░ ", " ")
    # No secret at any place.
    assert PASSWORD not in machine.run("journalctl --no-pager -o export")


def test_what_clients_do_wrong_is_no_warning(machine):
    with machine.connect(login=None) as client:
        client.ehlo()
        client.docmd("NONSENSE")
        client.docmd("AUTH PLAIN", "AHRlc3RlcgB3cm9uZw==")
    line = machine.wait_for_journal("authentication failed", machine.mark)
    assert "login=tester" in line
    worst = machine.run(f"journalctl --no-pager -q -u slimtad -o json --after-cursor='{machine.mark}'").splitlines()
    assert all(int(json.loads(line)["PRIORITY"]) >= 5 for line in worst)


def test_no_secret_and_no_second_line_at_any_level(machine):
    machine.configure("log", level='"trace"')
    machine.run("systemctl restart slimtad")
    with machine.connect() as client:
        submit(client, "traced\r\nX-Secret: nobody's business")
    with machine.connect(login=None) as client:
        client.ehlo()
        assert client.docmd("AUTH LOGIN", base64.b64encode(b"tester").decode())[0] == 334
        assert client.docmd(base64.b64encode(b"a wrong guess").decode())[0] == 535
    wait_until(lambda: machine.delivered().get("traced") == 1, what="the message at the MX")
    machine.wait_for_journal("authentication failed", machine.mark)
    machine.run("systemctl stop slimtad")
    entries = machine.run(f"journalctl --no-pager -q -u slimtad -o json --all --after-cursor='{machine.mark}'").splitlines()
    assert len(entries) > 20
    plain = base64.b64encode(f"\0tester\0{PASSWORD}".encode()).decode()
    for entry in entries:
        for secret in (PASSWORD, "a wrong guess", plain, base64.b64encode(b"a wrong guess").decode(), "nobody's business"):
            assert secret not in entry
        for name, value in json.loads(entry).items():
            assert not name.startswith(("MESSAGE", "SLIMTA_")) or (isinstance(value, str) and "\n" not in value), (name, value)


def test_reload_takes_certificate_and_user_while_a_session_is_open(machine):
    before = machine.connect(465)
    serial = machine.make_certificate("new")
    machine.configure("tls", certificate='"/etc/slimta/tls/new.pem"', key='"/etc/slimta/tls/new.key"')
    machine.add_user("late", "comer")
    machine.run("systemctl reload slimtad")
    wait_until(lambda: machine.certificate() == serial, what="the new certificate")
    machine.connect(login="late", password="comer").quit()
    submit(before, "over a reload")
    before.quit()
    wait_until(lambda: machine.delivered().get("over a reload") == 1, what="the message at the MX")


def test_reload_with_a_mistake_keeps_the_old_and_says_so(machine):
    machine.append('[[edge]]\nname = "wrong"\nmessage_sizes = 1\n')
    machine.run("systemctl reload slimtad; true")
    line = machine.wait_for_journal("reload failed.*message_sizes", machine.mark)
    assert CONFIGURATION in line
    machine.connect().quit()


def test_renewed_certificate_is_found_without_a_reload(machine):
    old = machine.make_certificate("renewed")
    machine.configure(
        "tls", certificate='"/etc/slimta/tls/renewed.pem"', key='"/etc/slimta/tls/renewed.key"', check='"1s"')
    machine.run("systemctl restart slimtad")
    assert machine.certificate() == old
    session = machine.connect(465)

    mark = machine.cursor()
    machine.write("/etc/slimta/tls/renewed.pem", "no certificate\n")
    line = machine.wait_for_journal("certificate cannot be used, the old one stays", mark)
    assert "/etc/slimta/tls/renewed.pem" in line
    assert machine.certificate() == old

    new = machine.make_certificate("renewed", days=5)
    wait_until(lambda: machine.certificate() == new, what="the renewed certificate")
    assert session.noop()[0] == 250
    session.quit()
    machine.wait_for_journal("certificate expires soon .*days=4", mark)
    wait_until(
        lambda: "certificate /etc/slimta/tls/renewed.pem expires in 4d" in machine.run(
            "systemctl show -p StatusText --value slimtad"), what="the warning in the status")


def test_certificates_by_name(machine):
    main, other = machine.make_certificate("main", "mail.one.test"), machine.make_certificate("other", "*.two.test")
    machine.configure("tls", certificate='"/etc/slimta/tls/main.pem"', key='"/etc/slimta/tls/main.key"')
    machine.append(
        '[[tls.certificates]]\ncertificate = "/etc/slimta/tls/other.pem"\nkey = "/etc/slimta/tls/other.key"\n')
    machine.run("systemctl restart slimtad")
    assert machine.certificate("mail.one.test") == main
    assert machine.certificate("mail.two.test") == other
    assert machine.certificate("mail.three.test") == main
    assert machine.certificate() == main


def test_key_and_certificate_as_credentials(machine):
    serial = machine.make_certificate("secret")
    machine.run("chown root:root /etc/slimta/tls/secret.key && chmod 600 /etc/slimta/tls/secret.key")
    machine.drop_in("[Service]\nLoadCredential=tls-key:/etc/slimta/tls/secret.key\n")
    machine.configure("tls", certificate='"/etc/slimta/tls/secret.pem"', key='"credential:tls-key"')
    machine.run("systemctl restart slimtad")
    assert machine.certificate() == serial


def test_status_tells_depth_and_age(machine):
    machine.configure("queue", deliver="false")
    machine.run("systemctl restart slimtad")
    with machine.connect() as client:
        submit(client, "waits")
        submit(client, "waits too")
    time.sleep(1)

    def told():
        return "2 queued, the oldest for" in machine.run("systemctl show -p StatusText --value slimtad")

    wait_until(told, what="the status")
    machine.configure("queue", deliver="true")
    machine.run("systemctl restart slimtad")
    wait_until(lambda: {"waits", "waits too"} <= machine.delivered().keys(), what="the messages at the MX")
