"""The SMTP edge on the wire: the dialogs of dialogs/, and what a dialog cannot say."""

import pathlib
import socket
import ssl
import time

import pytest

from harness.machine import SUBMISSION, SUBMISSIONS
from harness.slimtad import HOSTNAME, PASSWORD, Slimtad, run_slimtad
from harness.wire import Wire, plain, play, submission

DIALOGS = sorted((pathlib.Path(__file__).parent / "dialogs").glob("*.txt"))


@pytest.fixture(scope="module")
def slimtad(module_place):
    """One daemon for all of this module; it keeps what it gets."""
    daemon = Slimtad(module_place, limits={"message_size": "1MB", "errors": 20}, queue={"deliver": False})
    module_place.slimtads.append(daemon)
    daemon.add_user()
    result = run_slimtad(
        "passwd", "--config", daemon.configuration, "restricted", "--senders", "allowed@origin.test",
        stdin=PASSWORD + "\n")
    assert result.returncode == 0, result.stderr
    return daemon.start()


def test_there_are_dialogs():
    assert len(DIALOGS) >= 25


@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
def test_dialog(slimtad, path):
    play(path, slimtad)


def test_size_is_offered_as_configured(slimtad):
    with submission(slimtad) as wire:
        assert wire.ehlo()["SIZE"] == ["1000000"]


def test_auth_offers_the_configured_mechanisms(slimtad):
    with submission(slimtad, login=False) as wire:
        assert sorted(wire.ehlo()["AUTH"]) == ["LOGIN", "PLAIN"]


def test_octets_in_clear_behind_starttls_in_a_later_segment(slimtad):
    """W2: what arrives in clear after the 220 is a broken handshake, never a command."""
    with Wire(slimtad.address, SUBMISSION) as wire:
        assert wire.code() == 220
        wire.ehlo()
        assert wire.ask("STARTTLS").startswith("220 ")
        wire.send(b"EHLO injected.test\r\nMAIL FROM:<a@b.test>\r\n")
        try:
            rest = wire.socket.recv(4096)
        except ConnectionResetError:
            rest = b""
        # An alert record of TLS is allowed, a reply is not.
        assert not rest.startswith((b"2", b"4", b"5")), rest


def test_tls_where_commands_are_expected_is_cut_off(slimtad):
    """A client that is configured for implicit TLS on the STARTTLS port must not hang until a timeout."""
    with socket.create_connection((slimtad.address, SUBMISSION), timeout=10) as client:
        assert client.recv(512).startswith(b"220 ")
        begun = time.monotonic()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            slimtad.certificate.trusting_context().wrap_socket(client)
        assert time.monotonic() - begun < 8


def test_commands_where_tls_is_expected_are_cut_off(slimtad):
    with socket.create_connection((slimtad.address, SUBMISSIONS), timeout=10) as client:
        client.sendall(b"EHLO client.test\r\n")
        try:
            answer = client.recv(512)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith((b"220", b"250")), answer


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_1_1_is_refused(slimtad):
    """[tls] minimum: 1.2."""
    context = slimtad.certificate.trusting_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((slimtad.address, SUBMISSIONS), timeout=10) as client:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_is_the_configured_one(slimtad, version):
    context = slimtad.certificate.trusting_context(check_hostname=True)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((slimtad.address, SUBMISSIONS), timeout=10) as client:
        with context.wrap_socket(client, server_hostname=HOSTNAME) as encrypted:
            assert encrypted.recv(512).startswith(b"220 ")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_commands_in_pieces(slimtad, step):
    """However the octets of a command are cut into segments and TLS records."""
    with submission(slimtad) as wire:
        command = b"MAIL FROM:<sender@origin.test> SIZE=10\r\n"
        for start in range(0, len(command), step):
            wire.send(command[start : start + step])
        assert wire.reply() == ["250 2.1.0 <sender@origin.test> Ok"]


def test_data_in_pieces(slimtad):
    """The end of the data and dot-stuffing, cut at every octet."""
    with submission(slimtad) as wire:
        for command in ("MAIL FROM:<sender@origin.test>", "RCPT TO:<someone@one.test>"):
            assert wire.ask(command).startswith("250 ")
        assert wire.ask("DATA").startswith("354 ")
        for octet in b"Subject: x\r\n\r\n..\r\n.. text\r\ntext.\r\n.\r\n":
            wire.send(bytes([octet]))
        assert wire.reply()[0].startswith("250 2.6.0 ")
        assert wire.ask("QUIT") == "221 2.0.0 Bye"


def test_a_command_line_of_a_megabyte(slimtad):
    """W6: refused, once, and the session goes on; the others are served meanwhile."""
    with submission(slimtad) as wire:
        wire.send(b"NOOP " + b"x" * (1 << 20) + b"\r\n")
        assert wire.reply()[0].startswith("500 5.5.")
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("length, expected", [(510, "250 "), (12286, "50"), (12288, "50"), (70000, "50")])
def test_command_line_limit(slimtad, length, expected):
    """RFC 5321 section 4.5.3.1.4: 512 octets with CRLF must do; what is far longer is refused."""
    with submission(slimtad) as wire:
        assert wire.ask("NOOP " + "x" * (length - 5)).startswith(expected)
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


def test_auth_line_limit(slimtad):
    """RFC 4954 section 4: 12288 octets; a response of that length is a wrong password and no broken line."""
    with submission(slimtad, login=False) as wire:
        response = plain("tester", "x" * 9000)
        assert 12000 < len(response) < 12288
        assert wire.ask("AUTH PLAIN " + response).startswith("535 5.7.8 ")
        assert wire.ask("AUTH PLAIN") == "334 "
        assert wire.ask("A" * 20000).startswith(("500 5.5.", "501 5.5."))
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


def test_wrong_password_and_unknown_user_cost_the_same(slimtad):
    """Enumeration: same reply (dialogs/auth-refused.txt), and an unknown user costs a password hash as well.

    Hashes take tens of milliseconds, a lookup alone well under one: the best of four tries tells them apart.
    """

    def best(login):
        times = []
        for _ in range(4):
            with submission(slimtad, login=False) as wire:
                begun = time.perf_counter()
                assert wire.ask("AUTH PLAIN " + plain(login, "wrong")).startswith("535 5.7.8 ")
                times.append(time.perf_counter() - begun)
        return min(times)

    known, unknown = best("tester"), best("nobody-of-that-name")
    assert unknown > known / 4, f"known user {known * 1000:.1f} ms, unknown user {unknown * 1000:.1f} ms"


def test_bad_passwords_are_never_in_the_log(slimtad):
    with submission(slimtad, login=False) as wire:
        wire.ask("AUTH PLAIN " + plain("tester", "a-secret-mistake"))
    assert "a-secret-mistake" not in slimtad.log
    assert plain("tester", "a-secret-mistake") not in slimtad.log
    assert PASSWORD not in slimtad.log


def test_many_sessions_at_once(slimtad):
    """Forty sessions that take turns."""
    wires = []
    try:
        for _ in range(40):
            wire = Wire(slimtad.address, SUBMISSION, slimtad.certificate)
            wires.append(wire)
        for wire in wires:
            assert wire.code() == 220
        for turn in range(3):
            for wire in wires:
                wire.ehlo(f"client{turn}.test")
        for wire in wires:
            assert wire.ask("QUIT") == "221 2.0.0 Bye"
    finally:
        for wire in wires:
            wire.socket.close()


def test_clients_that_vanish_do_no_harm(slimtad):
    """Reset in every phase: after connect, within TLS, within AUTH, within DATA."""

    def reset(wire):
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.socket.close()

    reset(Wire(slimtad.address, SUBMISSION))
    wire = Wire(slimtad.address, SUBMISSION)
    wire.code()
    wire.ehlo()
    wire.ask("STARTTLS")
    reset(wire)
    wire = submission(slimtad, login=False)
    assert wire.ask("AUTH LOGIN").startswith("334 ")
    reset(wire)
    wire = submission(slimtad)
    wire.ask("MAIL FROM:<sender@origin.test>")
    wire.ask("RCPT TO:<someone@one.test>")
    wire.ask("DATA")
    wire.send(b"Subject: never finished\r\n" * 1000)
    reset(wire)
    with submission(slimtad) as wire:
        assert wire.ask("NOOP") == "250 2.0.0 Ok"


@pytest.fixture
def open_edge(make_slimtad):
    """slimtad with an edge in clear and without AUTH beside the usual ones, and that edge's port; keeps what it gets."""
    daemon = make_slimtad(queue={"deliver": False})
    port = SUBMISSION + 1
    daemon.settings["edge"].append(
        {"name": "plain", "type": "smtp", "listen": [f"{daemon.address}:{port}"], "tls": "none", "auth": "none"})
    daemon.change()
    return daemon.start(), port


SESSION = [
    b"EHLO client.test\r\n", b"MAIL FROM:<a@origin.test>\r\nRCPT TO:<b@one.test>\r\nDATA\r\n",
    b"Subject: x\r\n\r\ntext\r\n.\r\n",
]


@pytest.mark.parametrize("last", [b"", b"QUIT\r\n"])
def test_a_client_that_closes_its_side_gets_its_reply(open_edge, last):
    """Half close behind the final dot, and behind QUIT: scripts around netcat do that."""
    slimtad, port = open_edge
    with Wire(slimtad.address, port) as wire:
        assert wire.code() == 220
        wire.send(SESSION[0])
        assert wire.code() == 250
        wire.send(SESSION[1])
        assert [wire.code() for _ in range(3)] == [250, 250, 354]
        wire.send(SESSION[2] + last)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.reply()[0].startswith("250 2.6.0 ")
        assert not last or wire.reply() == ["221 2.0.0 Bye"]
        wire.is_closed()


def test_a_client_that_ends_tls_behind_the_final_dot_gets_its_reply(slimtad):
    """close_notify closes one direction (RFC 8446 section 6.1)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = slimtad.certificate.trusting_context()
    with socket.create_connection((slimtad.address, SUBMISSIONS), timeout=15) as raw:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOSTNAME)

        def step(action):
            while True:
                try:
                    return action()
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    octets = raw.recv(65536)
                    incoming.write(octets) if octets else incoming.write_eof()
                finally:
                    raw.sendall(outgoing.read())

        def replies(until):
            text = b""
            while until not in text:
                text += step(lambda: tls.read(65536))
            return text

        step(tls.do_handshake)
        replies(b"220 ")
        tls.write(SESSION[0])
        replies(b"250 SIZE")
        tls.write(b"AUTH PLAIN " + plain().encode() + b"\r\n")
        replies(b"235 ")
        tls.write(SESSION[1])
        replies(b"354 ")
        tls.write(SESSION[2])
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        raw.sendall(outgoing.read())
        raw.shutdown(socket.SHUT_WR)
        rest = b""
        while octets := raw.recv(65536):
            rest += octets
        # Python reads no more behind its own close_notify: what came is a record of a reply, and then close_notify.
        assert len(rest) > 60 and rest[0] == 0x17, rest
