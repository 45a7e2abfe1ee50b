"""The users file: what `slimtad passwd` does to it, what `slimtad users` says of it, and how the daemon takes changes."""

import concurrent.futures
import json
import os
import pty
import smtplib
import time

import pytest

from harness.machine import IS_ROOT, SUBMISSION, SUBMISSIONS
from harness.slimtad import CONFIGURATION, LOGIN, NOT_PERMITTED, OK, PASSWORD, USAGE, run_slimtad


@pytest.fixture
def slimtad(make_slimtad):
    """Not started, and without a users file."""
    return make_slimtad()


def passwd(slimtad, *arguments, password=PASSWORD):
    return run_slimtad("passwd", "--config", slimtad.configuration, *arguments, stdin=password + "\n")


def names(slimtad):
    return [line.partition(":")[0] for line in slimtad.users.read_text().splitlines()]


def can_log_in(slimtad, login=LOGIN, password=PASSWORD):
    try:
        slimtad.connect(login=login, password=password).quit()
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535
        return False
    return True


def test_parallel_changes_lose_nobody(make_slimtad):
    """Twenty at once, from no file at all: every one of them is there in the end."""
    slimtad = make_slimtad()
    wanted = [f"user{number}" for number in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda name: passwd(slimtad, name), wanted))
    assert [result.returncode for result in results] == [OK] * 20, [result.stderr for result in results]
    assert sorted(names(slimtad)) == sorted(wanted)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda name: passwd(slimtad, name, "--delete"), wanted[1:]))
    assert [result.returncode for result in results] == [OK] * 19
    assert names(slimtad) == wanted[:1]
    assert [path.name for path in slimtad.folder.glob("users*")] == ["users"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_a_file_from_windows(make_slimtad, mark):
    """CRLF line ends, and a byte order mark: users log in, and a change of one leaves the others."""
    slimtad = make_slimtad()
    for name in (LOGIN, "bob", "carol"):
        slimtad.add_user(name)
    slimtad.users.write_bytes(mark + b"# who may send\r\n" + slimtad.users.read_bytes().replace(b"\n", b"\r\n"))
    before = slimtad.users.read_bytes().split(b"\r\n")
    assert passwd(slimtad, "bob", password="another").returncode == OK
    after = slimtad.users.read_bytes()
    assert after.startswith(mark) and after.count(b"\n") == after.count(b"\r\n") == 4
    assert set(before) - set(after.split(b"\r\n")) == {before[2]}
    slimtad.start()
    assert can_log_in(slimtad)
    assert can_log_in(slimtad, "carol")
    assert can_log_in(slimtad, "bob", "another")


@pytest.mark.parametrize("line", ["no colon", "dave:plain text", "a\u202eb:$6$x$y", "{copy}"], ids=str)
def test_a_file_that_is_not_understood_is_not_changed(slimtad, line):
    """The error names the line; the file stays as it is, to the octet."""
    slimtad.add_user()
    copy = slimtad.users.read_text().strip()
    with slimtad.users.open("a") as users:
        users.write(line.format(copy=copy) + "\n")
    before = slimtad.users.read_bytes()
    for arguments in (["alice"], ["alice", "--delete"]):
        result = passwd(slimtad, *arguments)
        assert result.returncode == CONFIGURATION
        assert "line 2" in result.stderr and "nothing was changed" in result.stderr
        assert "\u202e" not in result.stderr
        assert slimtad.users.read_bytes() == before


def test_a_line_is_mended_by_its_own_user(slimtad):
    slimtad.add_user()
    with slimtad.users.open("a") as users:
        users.write("dave:plain text\n")
    # Nothing of such a line is kept: who could send as somebody is not to send as anybody now.
    before = slimtad.users.read_bytes()
    refused = passwd(slimtad, "dave")
    assert refused.returncode == CONFIGURATION and "--senders" in refused.stderr
    assert slimtad.users.read_bytes() == before
    assert passwd(slimtad, "dave", "--senders", "dave@x.test").returncode == OK
    assert names(slimtad) == [LOGIN, "dave"]


def test_senders_that_part_a_line(slimtad):
    """What could not be read again is not written."""
    slimtad.add_user()
    before = slimtad.users.read_bytes()
    for sender in ('"a:b"@x.test', '"a,b"@x.test', "a:b@x.test", "@[::1]:x"):
        result = passwd(slimtad, "bob", "--senders", sender)
        assert result.returncode == USAGE and result.stderr.count("\n") == 1, sender
        assert slimtad.users.read_bytes() == before
    assert passwd(slimtad, "bob", "--senders", "x@[IPv6:2001:db8::1]").returncode == OK
    assert passwd(slimtad, LOGIN, "--disable").returncode == OK


def test_an_empty_list_is_not_all(slimtad):
    """As of a variable that is not set."""
    slimtad.add_user()
    before = slimtad.users.read_bytes()
    for arguments in (["--senders", ""], ["--senders", ","], ["--app", "x", "--networks", ""],
                      ["--app", "x", "--networks", ","]):
        result = passwd(slimtad, LOGIN, *arguments)
        assert result.returncode == USAGE and "* stands for all" in result.stderr
        assert slimtad.users.read_bytes() == before
    assert passwd(slimtad, LOGIN, "--app", "x", "--networks", "*").returncode == OK
    assert passwd(slimtad, LOGIN, "--senders", "*").returncode == OK


@pytest.mark.parametrize("name", [
    "evil\u202emoc.elpmaxe@", "a\u200bb", "a\u0085b", "a\u2066b", "\U000e0041a", "a\x1b[2J", "a\u00adb"], ids=ascii)
def test_passwd_refuses_names_that_deceive(slimtad, name):
    result = passwd(slimtad, name)
    assert result.returncode == USAGE
    assert all(character.isprintable() or character == "\n" for character in result.stderr)
    assert not slimtad.users.exists()


def test_passwd_says_what_it_did(slimtad):
    for arguments, word in [((LOGIN,), "added"), ((LOGIN,), "changed"), ((LOGIN, "--delete"), "deleted")]:
        result = passwd(slimtad, *arguments)
        assert result.returncode == OK
        assert f'user "{LOGIN}" was {word}' in result.stdout
        assert "no reload is needed" in result.stdout
    assert passwd(slimtad, LOGIN, "--delete").returncode == CONFIGURATION


def test_the_daemon_takes_changes_by_itself(make_slimtad):
    """A new password, a new user, a deleted one: within seconds, without a reload; also in a session that has begun."""
    slimtad = make_slimtad().start()
    with smtplib.SMTP_SSL(slimtad.address, SUBMISSIONS, context=slimtad.certificate.trusting_context(), timeout=20) as begun:
        begun.ehlo()
        assert passwd(slimtad, "late").returncode == OK
        slimtad.wait_for_log("users file was read again.*users=2")
        begun.login("late", PASSWORD)
    assert passwd(slimtad, "late", "--delete").returncode == OK
    slimtad.wait_for_log("users file was read again.*users=1")
    assert not can_log_in(slimtad, "late")
    assert passwd(slimtad, LOGIN, password="new one").returncode == OK
    slimtad.wait_until(lambda: can_log_in(slimtad, password="new one"), what="the new password")
    assert not can_log_in(slimtad)


def test_a_change_that_cannot_be_used_keeps_the_users(make_slimtad):
    slimtad = make_slimtad().start()
    slimtad.expect_error("users file cannot be used, the users in use stay")
    content = slimtad.users.read_bytes()
    slimtad.users.write_bytes(content + b"\xff\n")
    slimtad.wait_for_log("users file cannot be used, the users in use stay.*not UTF-8")
    assert can_log_in(slimtad)
    assert "not UTF-8" in run_slimtad("status", "--config", slimtad.configuration).stdout
    slimtad.users.unlink()
    slimtad.wait_until(lambda: slimtad.log.count("the users in use stay") == 2, what="the missing file in the log")
    assert can_log_in(slimtad)
    slimtad.users.write_bytes(content)
    slimtad.users.chmod(0o640)
    if IS_ROOT:
        from harness.machine import give
        give(slimtad.users)
    slimtad.wait_for_log("users file was read again")
    assert can_log_in(slimtad)


def test_users_list(slimtad):
    slimtad.add_user("bob")
    assert passwd(slimtad, "alice", "--senders", "alice@x.test,@y.test").returncode == OK
    result = run_slimtad("users", "list", "--config", slimtad.configuration)
    assert result.returncode == OK
    assert result.stdout == "alice\ty\talice@x.test,@y.test\t\t\t\nbob\ty\t\t\t\t\n"
    found = json.loads(run_slimtad("users", "--config", slimtad.configuration, "--json").stdout)
    other = {"hash": "y", "scram": [], "certificates": [], "disabled": False, "expires": None, "applications": []}
    assert found == [{"name": "alice", "senders": ["alice@x.test", "@y.test"]} | other,
                     {"name": "bob", "senders": []} | other]
    with slimtad.users.open("a") as users:
        users.write("broken\n")
    result = run_slimtad("users", "list", "--config", slimtad.configuration)
    assert result.returncode == CONFIGURATION
    assert "line 3" in result.stderr and result.stdout.startswith("alice\t")
    assert "$" not in result.stdout, "no hash is shown"


def test_users_test(slimtad):
    slimtad.add_user("Alice")
    def ask(name, password):
        return run_slimtad("users", "test", name, "--config", slimtad.configuration, stdin=password + "\n")
    assert ask("Alice", PASSWORD).returncode == OK
    assert ask("Alice", "wrong").returncode == NOT_PERMITTED
    assert ask("alice", PASSWORD).returncode == CONFIGURATION
    slimtad.change(auth={"fold_case": True})
    result = ask("aLICE", PASSWORD)
    assert result.returncode == OK and '"Alice"' in result.stdout


def test_users_test_of_applications(slimtad):
    """What logs in is right; it is told whose password it is, and from where it is good."""
    slimtad.add_user()
    phone = passwd(slimtad, LOGIN, "--app", "phone", "--networks", "192.0.2.0/24").stdout.splitlines()[0]

    def ask(password):
        return run_slimtad("users", "test", LOGIN, "--config", slimtad.configuration, stdin=password + "\n")
    result = ask(phone)
    assert result.returncode == OK and 'for "phone" is right' in result.stdout and "from 192.0.2.0/24" in result.stdout
    assert ask(PASSWORD).returncode == OK and "phone" not in ask(PASSWORD).stdout
    assert passwd(slimtad, LOGIN, "--disable").returncode == OK
    refused = ask(phone)
    assert refused.returncode == NOT_PERMITTED and "is disabled" in refused.stderr
    assert passwd(slimtad, LOGIN, "--app", "phone", "--delete").returncode == OK
    assert ask(phone).returncode == NOT_PERMITTED


def test_a_file_that_nobody_asks(slimtad):
    """A password in a file that is no back end lets nobody in, and that is said."""
    slimtad.change(auth={"backends": ["pam"]})
    result = passwd(slimtad, LOGIN)
    assert result.returncode == OK and "no reload is needed" not in result.stdout
    assert 'nobody can log in by it' in result.stdout and 'auth.backends is ["pam"]' in result.stdout
    tested = run_slimtad("users", "test", LOGIN, "--config", slimtad.configuration, stdin=PASSWORD + "\n")
    assert tested.returncode == OK and "nobody can log in by it" in tested.stderr


def test_fold_case(make_slimtad):
    """Logins by configuration only; what differs by case only is told, and each such name is its own."""
    slimtad = make_slimtad(auth={"fold_case": True})
    for name, password in [("Alice@x.test", PASSWORD), ("bob", "one"), ("Bob", "two")]:
        slimtad.add_user(name, password)
    result = run_slimtad("check", "--config", slimtad.configuration)
    assert result.returncode == OK and "differ by case only" in result.stderr
    slimtad.start()
    assert can_log_in(slimtad, "ALICE@X.TEST")
    assert slimtad.wait_for_log("users differ by case only.*Bob, bob")
    assert can_log_in(slimtad, "bob", "one") and can_log_in(slimtad, "Bob", "two")
    assert not can_log_in(slimtad, "BOB", "one") and not can_log_in(slimtad, "BOB", "two")
    slimtad.change(auth={"fold_case": False})
    slimtad.reload()
    assert not can_log_in(slimtad, "alice@x.test")
    assert can_log_in(slimtad, "Alice@x.test")


def test_no_password_stays_in_memory(make_slimtad):
    """After a login the daemon's memory has the password nowhere, as a core dump would show it, while sessions are open or
    not. What arrived is base64."""
    slimtad = make_slimtad().start()
    secret = "Vq7-nobody-else-has-this-password"
    slimtad.add_user("secret", secret)
    slimtad.wait_for_log("users file was read again")
    for _ in range(3):
        assert can_log_in(slimtad, "secret", secret)
        assert not can_log_in(slimtad, "secret", secret + "?")
    context = slimtad.certificate.trusting_context()
    open_sessions = []
    for mechanism, password in [("PLAIN", secret), ("LOGIN", secret), ("PLAIN", secret + "?"), ("LOGIN", secret + "?")]:
        client = smtplib.SMTP(slimtad.address, SUBMISSION, timeout=20)
        open_sessions.append(client)
        client.starttls(context=context)
        client.ehlo()
        client.user, client.password = "secret", password
        try:
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        except smtplib.SMTPAuthenticationError:
            assert password != secret
    pid = slimtad.process.pid
    try:
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except PermissionError:
        pytest.skip("the memory of another process may not be read here")
    needle, found, looked = secret.encode(), [], 0
    with memory, open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            places, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            first, last = (int(place, 16) for place in places.split("-"))
            for place in range(first, last, 1 << 24):
                try:
                    octets = os.pread(memory.fileno(), min(1 << 24, last - place), place)
                except OSError:
                    continue
                looked += len(octets)
                if needle in octets:
                    found.append(line.strip())
    assert looked > 1 << 20
    assert not found, found
    for client in open_sessions:
        client.quit()


def test_tables_on_a_terminal_show_what_hides(make_slimtad):
    """U+202E and its like in addresses: in `queue list` and `show` on a terminal, as text in a pipe, and as JSON."""
    slimtad = make_slimtad(queue={"deliver": False}).start()
    with slimtad.connect() as client:
        client.ehlo()
        code, _ = client.mail("gnp\u202eexe@origin.test", ["SMTPUTF8"])
        assert code == 250
        assert client.rcpt("a\u2066b@x.test")[0] == 250
        code, reply = client.data(b"Subject: x\r\n\r\nx\r\n")
        assert code == 250
    queue_id = reply.decode().split()[-1]
    for command in (["queue", "list"], ["queue", "list", "--json"], ["queue", "show", queue_id],
                    ["queue", "show", queue_id, "--json"]):
        arguments = [*command, "--config", str(slimtad.configuration)]
        for output in (run_slimtad(*arguments).stdout, on_a_terminal(arguments)):
            assert "\\u202e" in output and "\u202e" not in output, (command, output)
            assert "\u2066" not in output
    found = json.loads(run_slimtad("queue", "list", "--json", "--config", slimtad.configuration).stdout)
    assert found[0]["sender"] == "gnp\u202eexe@origin.test"


def on_a_terminal(arguments):
    """What slimtad writes on a terminal of 200 columns."""
    import fcntl
    import struct
    import subprocess
    import termios

    from harness.machine import SLIMTAD
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    process = subprocess.Popen([SLIMTAD, *arguments], stdout=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    output, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        try:
            octets = os.read(ours, 65536)
        except OSError:
            break
        if not octets:
            break
        output += octets
    os.close(ours)
    assert process.wait(10) == 0
    return output.decode()
