"""The greeting: what it says, what a refusing one allows, and clients that have to wait for it."""

import smtplib
import threading
import time

from harness.machine import SUBMISSION, SUBMISSIONS
from harness.messages import message
from harness.slimtad import HOSTNAME, run_slimtad, send
from harness.wire import Wire


def with_edges(slimtad, **more):
    """The harness's edges with more keys, behind one that is ready at once."""
    ready = {"name": "ready", "type": "smtp", "listen": [f"{slimtad.address}:3587"], "tls": "starttls", "auth": "required"}
    slimtad.change(edge=[ready] + [edge | more for edge in slimtad.settings["edge"]])
    return slimtad.start()


def test_a_banner_that_refuses(make_slimtad):
    """RFC 5321 section 3.1: 503 to everything but QUIT; in clear and in TLS. 421 is the end."""
    slimtad = make_slimtad()
    with_edges(slimtad, banner="554 5.7.1 {hostname} takes no mail here")
    for port in (SUBMISSION, SUBMISSIONS):
        with Wire(slimtad.address, port, slimtad.certificate) as wire:
            if port == SUBMISSIONS:
                wire.tls()
            assert wire.reply() == [f"554 5.7.1 {HOSTNAME} takes no mail here"]
            for command in ("EHLO client.test", "MAIL FROM:<a@one.test>", "STARTTLS", "NOOP", "RSET"):
                assert wire.ask(command) == "503 5.5.1 Bad sequence of commands"
            assert wire.ask("QUIT").startswith("221 ")
            assert wire.is_closed()
    slimtad.wait_until(lambda: len(slimtad.events(command="CONNECT")) == 2, what="both refusals in the log")
    slimtad.change(edge=[edge | {"banner": "421 4.3.2 {hostname} is away"} if edge["name"] != "ready" else edge
                         for edge in slimtad.settings["edge"]])
    slimtad.reload()
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.reply() == [f"421 4.3.2 {HOSTNAME} is away"]
        assert wire.is_closed()


def test_a_relay_host_that_refuses(make_slimtad):
    """It is the wrong one, or does not know us: no sender can help that. Mail waits until the operator has."""
    host = make_slimtad(name="host", queue={"deliver": False})
    with_edges(host, banner="554 5.7.1 {hostname} takes no mail here", auth="none", trusted_networks=["127.0.0.0/8"])
    slimtad = make_slimtad(queue={"retry": ["1h"]}, relay={
        "type": "smtp", "host": f"{host.address}:{SUBMISSION}", "port": None, "allow_networks": None}).start()
    queue_id = slimtad.submit(message(), ["someone@one.test"])
    (attempt,) = slimtad.wait_for_attempts(1, queue_id=queue_id)
    assert attempt["reply"] == f"554 5.7.1 {HOSTNAME} takes no mail here"
    # The message, and no notice.
    assert run_slimtad("queue", "count", "--config", slimtad.configuration).stdout == "1\n"
    host.change(edge=[{name: value for name, value in edge.items() if name != "banner"} for edge in host.settings["edge"]])
    host.reload()
    run_slimtad("queue", "flush", "--all", "--config", slimtad.configuration)
    slimtad.wait_for_attempts(1, queue_id=queue_id, status="2.6.0")


def test_clients_wait(make_slimtad):
    """A program that we did not write waits for the greeting, in clear and behind TLS, and sends its mail."""
    slimtad = make_slimtad(queue={"deliver": False}, log={"level": "debug"})
    with_edges(slimtad, greet_delay="1s")
    for implicit in (False, True):
        begun = time.monotonic()
        with slimtad.connect(implicit=implicit) as client:
            assert time.monotonic() - begun >= 1
            send(client, message(), ["someone@one.test"])
    assert "talks before the greeting" not in slimtad.log


def test_who_talks_first(make_slimtad):
    """What came too early is answered behind the greeting, and not before: also what came in one flight with the
    handshake."""
    slimtad = make_slimtad(log={"level": "debug"})
    with_edges(slimtad, greet_delay="5s")
    for port in (SUBMISSION, SUBMISSIONS):
        with Wire(slimtad.address, port, slimtad.certificate) as wire:
            if port == SUBMISSIONS:
                wire.tls()
            wire.send(b"EHLO early.test\r\n")
            # Of TLS there are tickets to read.
            assert port == SUBMISSIONS or wire.is_quiet()
            assert wire.reply() == [f"220 {HOSTNAME} ESMTP Mail Gateway"]
            assert wire.reply()[0].startswith("250")
    slimtad.wait_until(lambda: slimtad.log.count("talks before the greeting") == 2, what="both in the log")


def test_a_rule_about_early_talkers(make_slimtad):
    """The rule's reply takes the place of the greeting, when the delay is over; who waits is served."""
    slimtad = make_slimtad(rule=[
        {"name": "early", "at": "connect", "early_talker": True, "reply": "554 5.7.1 {client} did not wait"}])
    with_edges(slimtad, greet_delay="3s")
    with Wire(slimtad.address, SUBMISSION) as early, Wire(slimtad.address, SUBMISSION) as polite:
        early.send(b"EHLO early.test\r\n")
        assert early.reply() == ["554 5.7.1 127.0.0.1 did not wait"]
        assert early.reply() == ["503 5.5.1 Bad sequence of commands"]
        assert early.ask("QUIT").startswith("221 ")
        assert polite.reply()[-1].startswith("220 ")
    slimtad.wait_for_log("refused.*command=CONNECT.*rule=early")


def test_many_wait_at_once(make_slimtad):
    """Those who wait keep nobody from being served, and all are greeted."""
    slimtad = make_slimtad(limits={"connections_per_address": 500})
    with_edges(slimtad, greet_delay="3s")
    waiting = [Wire(slimtad.address, SUBMISSION) for _ in range(200)]
    try:
        with Wire(slimtad.address, 3587) as wire:
            assert wire.reply()[-1].startswith("220 ")
            assert wire.ask("NOOP").startswith("250 ")
        for wire in waiting:
            assert wire.reply()[-1].startswith("220 ")
    finally:
        for wire in waiting:
            wire.socket.close()


def test_a_stop_while_they_wait(make_slimtad):
    """421 in the place of the greeting, at once: nobody is waited for."""
    slimtad = make_slimtad()
    with_edges(slimtad, greet_delay="1m")
    with Wire(slimtad.address, SUBMISSION) as wire, Wire(slimtad.address, SUBMISSION) as other:
        other.send(b"EHLO early.test\r\n")
        assert wire.is_quiet() and other.is_quiet()
        begun = time.monotonic()
        stopped = threading.Thread(target=slimtad.term)
        stopped.start()
        for waiting in (wire, other):
            assert waiting.reply()[-1].startswith("421 4.3.2 ")
            assert waiting.is_closed()
        stopped.join()
    assert time.monotonic() - begun < 30


def test_smtplib_is_turned_away(make_slimtad):
    """A client library says what the banner said."""
    slimtad = make_slimtad()
    with_edges(slimtad, banner="554 5.3.2 {hostname} takes no mail")
    try:
        smtplib.SMTP(slimtad.address, SUBMISSION, timeout=20)
    except smtplib.SMTPConnectError as error:
        assert (error.smtp_code, error.smtp_error) == (554, f"5.3.2 {HOSTNAME} takes no mail".encode())
    else:
        raise AssertionError("it was served")
