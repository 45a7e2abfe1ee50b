"""The harness itself, without slimtad: if these fail, nothing that the other tests say is worth anything."""

import os
import pathlib
import smtplib
import socket
import stat
import tomllib

import dns.resolver
import pytest

from harness import machine
from harness.certificate import make_certificate
from harness.exim import EximMX
from harness.link import Links
from harness.machine import DNS_PORT, MX_PORT, NotReady, Program, new_address
from harness.messages import fields, message, prepended, received
from harness.nameserver import NameServer
from harness.postfix import PostfixMX
from harness.python_mx import PythonMX
from harness.sink import Sink
from harness.slimtad import Slimtad, fields_of, level_of, toml
from harness.wire import matches, unescape


def test_name_server(place):
    server = NameServer(place)
    server.add_mx("one.test", "127.0.0.7", "127.0.0.8")
    server.start()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [server.address], DNS_PORT
    assert sorted(str(record) for record in resolver.resolve("one.test", "MX")) == [
        "10 mx0.one.test.", "20 mx1.one.test."]
    assert [str(record) for record in resolver.resolve("mx1.one.test", "A")] == ["127.0.0.8"]
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("missing.test", "MX")


def test_sink(place):
    sink = Sink(place).start()
    with smtplib.SMTP(sink.address, MX_PORT) as client:
        client.ehlo("client.test")
        client.sendmail("a@x.test", ["b@y.test", "c@y.test"], b"Subject: x\r\n\r\n.\r\ntext\r\n")
        (arrived,) = sink.wait_for(1)
        client.mail("a@x.test")
        client.rcpt("b@y.test")
        client.putcmd("DATA")
        client.getreply()
        client.send(b"Subject: unfinished\r\n" * 1000)
        assert len(sink.transactions()) == 1, "what is not finished must not count"
        sink.kill()
        client.close()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode), "only dumps are removed, not what else it had open"
    assert (arrived.sender, arrived.recipients) == ("a@x.test", ["b@y.test", "c@y.test"])
    assert arrived.content == b"Subject: x\n\n.\ntext\n"
    assert len(sink.transactions()) == 1


def test_sink_that_refuses(place):
    sink = Sink(place, "-r", "RCPT").start()
    with smtplib.SMTP(sink.address, MX_PORT) as client:
        client.helo()
        client.mail("a@x.test")
        assert client.rcpt("b@y.test")[0] == 450


def test_links(place):
    """Octets pass; stopped, they wait; cut, connections are reset and refused; healed, it is as before."""
    links, way, target = Links(place).start(), (new_address(), MX_PORT), (new_address(), MX_PORT)
    with socket.create_server(target) as server:
        server.settimeout(20)
        links.add("way", way, target)

        def connected():
            client = socket.create_connection(way, timeout=20)
            far, _ = server.accept()
            far.settimeout(20)
            return client, far

        client, far = connected()
        client.sendall(b"there")
        assert far.recv(9) == b"there"
        links.stop("way")
        client.sendall(b"later")
        far.settimeout(0.5)
        with pytest.raises(TimeoutError):
            far.recv(9)
        socket.create_connection(way, timeout=20).close()  # taken, as by a host that hangs
        links.heal("way")
        server.accept()[0].close()
        far.settimeout(20)
        assert far.recv(9) == b"later"
        far.sendall(b"back")
        assert client.recv(9) == b"back"
        links.cut("way")
        for end in (client, far):
            with pytest.raises(ConnectionResetError):
                end.recv(9)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(way, timeout=20)
        links.heal("way")
        client, far = connected()
        client.close()
        assert far.recv(9) == b""


def test_postfix(place):
    certificate = make_certificate(place.path, "mx.postfix.test")
    postfix = PostfixMX(place, ["known@one.test"], certificate=certificate).start()
    with smtplib.SMTP(postfix.address, MX_PORT) as client:
        client.starttls(context=certificate.trusting_context())
        refused = client.sendmail("a@x.test", ["known@one.test", "unknown@one.test"], message())
    assert refused["unknown@one.test"][0] == 550
    (arrived,) = postfix.wait_for("known@one.test")
    assert b"using TLSv1.3" in arrived


def test_exim(place):
    certificate = make_certificate(place.path, "mx.exim.test")
    exim = EximMX(place, certificate, "one.test").start()
    with smtplib.SMTP(exim.address, MX_PORT) as client:
        client.starttls(context=certificate.trusting_context())
        refused = client.sendmail("a@x.test", ["known@one.test", "refused@one.test", "later@one.test"], message())
    assert {address: code for address, (code, _) in refused.items()} == {"refused@one.test": 550, "later@one.test": 451}
    exim.wait_for(1)


def test_python_mx(place):
    mx = PythonMX(place, make_certificate(place.path, "mx.test")).start()
    mx.answers["RCPT"] = ["450 4.2.0 later"]
    sent = b"Subject: x\r\n\r\nbare \x80\r\n.\r\n"
    with smtplib.SMTP(mx.address, MX_PORT) as client:
        assert client.sendmail("a@x.test", ["b@y.test", "c@y.test"], sent)["b@y.test"][0] == 450
    (arrived,) = mx.wait_for(1)
    assert (arrived.recipients, arrived.content, arrived.tls) == (["c@y.test"], sent, "")


def test_a_program_that_ends_is_a_failure_with_its_log(place):
    program = Program(place, "false")
    program.launch(["/bin/sh", "-c", "echo the reason; exit 3"])
    with pytest.raises(NotReady, match="(?s)ended with 3.*the reason"):
        program.wait_until(lambda: False)


def test_a_missing_program_is_a_failure(place):
    with pytest.raises(NotReady, match="is not here"):
        Program(place, "missing").launch(["/nonexistent/program"])


def test_a_crash_or_an_error_in_the_log_is_a_failure(place):
    daemon = Slimtad.__new__(Slimtad)
    Program.__init__(daemon, place, "fake")
    daemon.expected_errors = []
    for line in ("2026-01-01T00:00:00.000Z error something broke", "Fatal error: index out of range"):
        daemon.log_path.write_text(line + "\n")
        with pytest.raises(AssertionError):
            daemon.finish()
    daemon.expected_errors = ["index out", "something"]
    daemon.finish()


def test_addresses_differ():
    assert len({new_address() for _ in range(600)}) == 600


def test_log_lines():
    line = '2026-01-01T00:00:00.000Z info delivered queue_id=abc sender=<> status=2.0.0 reply="250 2.0.0 \\"Ok\\"" x=""'
    assert fields_of(line) == {
        "queue_id": "abc", "sender": "<>", "status": "2.0.0", "reply": '250 2.0.0 "Ok"', "x": ""}
    assert level_of(line) == "info"
    assert level_of("2026-01-01T00:00:00.000Z error x") == "error"


def test_toml():
    text = toml({"a": 1, "t": {"b": "x\"y", "c": True}, "e": [{"n": ["1", "2"]}, {"n": []}]})
    assert tomllib.loads(text) == {"a": 1, "t": {"b": "x\"y", "c": True}, "e": [{"n": ["1", "2"]}, {"n": []}]}


def test_patterns():
    assert matches("250 2.1.0 <a@b> Ok", "250 2.1.0 <a@b> Ok")
    assert matches("250-2.0.0 text", "250*2.0.0 *")
    assert not matches("250 2.1.0 <a@b> Ok!", "250 2.1.0 <a@b> Ok")
    assert not matches("2500", "250")
    assert unescape("a\\r\\n\\x00\\\\") == b"a\r\n\0\\"


def test_prepended_notices_every_change():
    sent = b"Subject: x\r\n\r\ntext\r\n"
    assert prepended(b"Received: y\r\n\tz\r\n" + sent, sent) == [("received", "y z")]
    for broken in (b"Received: y\r\n" + sent[:-2], b"Received: y\n" + sent, b"no field\r\n" + sent, sent + b"\r\n"):
        with pytest.raises(AssertionError):
            prepended(broken, sent)


def test_received_parser():
    hop = received(
        "from client.test ([127.0.0.1]) by mail.test (slimtad) with ESMTPSA (TLSv1.3 X) id 12ab for <a@b.test>; "
        "Sat, 21 Nov 2026 10:00:00 +0000")
    assert (hop["helo"], hop["address"], hop["by"], hop["with"], hop["id"], hop["for"]) == (
        "client.test", "127.0.0.1", "mail.test", "ESMTPSA", "12ab", "a@b.test")
    with pytest.raises(AssertionError):
        received("from client.test by mail.test; Sat, 21 Nov 2026 10:00:00 +0000")


def test_header_that_is_none_is_noticed():
    with pytest.raises(AssertionError):
        fields(b"a field: no\r\n")


def test_the_daemon_under_test_is_this_repository_s():
    assert machine.SLIMTAD.exists()
    assert pathlib.Path(__file__).resolve().is_relative_to(machine.ROOT)
